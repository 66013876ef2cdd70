"""The disk under a real gateway is full for a while: it says so, loses nothing, and writes it once there is room."""

import json
import os
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from programs import tidegate, until
from small_disk import small_disk

pytestmark = pytest.mark.real

SAVED_S = 1.0
BIG = "x" * 50_000


def ask(url: str, *, data: object = None, method: str = "GET") -> bytes:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        text: bytes = response.read()
        return text


def publish(url: str, key: str, value: str) -> None:
    event = {"type": "lab.item", "key": key, "data": value, "retain": True}
    ask(f"{url}/api/v1/events", data=event, method="POST")


def values(url: str) -> dict[str, Any]:
    events = json.loads(ask(f"{url}/api/v1/snapshot"))["events"]
    return {event["key"]: event["data"] for event in events if event["type"] == "lab.item"}


def unwritten(url: str) -> float:
    found = re.search(r"^tidegate_store_waiting_values (.*)$", ask(f"{url}/metrics").decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    disk, config = tmp_path / "disk", tmp_path / "tidegate.toml"
    config.write_text('[server]\nport = 0\nstate_dir = "disk/state"\nallow_no_sources = true\n')
    with small_disk(disk, size="1m"):
        with tidegate("serve", "--config", str(config)) as gateway:
            url = gateway.url
            publish(url, "deleted", "1")
            publish(url, "replaced", "1")
            time.sleep(SAVED_S)
            ballast = disk / "ballast"
            ballast.write_bytes(b"x" * (os.statvfs(disk).f_bavail * 4096))
            publish(url, "new", BIG)
            publish(url, "replaced", BIG)
            ask(f"{url}/api/v1/snapshot/lab.item?key=deleted", method="DELETE")
            until(lambda: unwritten(url) == 3)
            publish(url, "replaced", "2")
            assert values(url) == {"new": BIG, "replaced": "2"}
            ballast.unlink()
            until(lambda: unwritten(url) == 0)
            told = [(line["level"], line["event"]) for line in gateway.log if line["event"].startswith("values ")]
            assert told == [("warning", "values could not be written"), ("info", "values are written again")]
            gateway.signal(signal.SIGKILL)
            gateway.wait()
        with tidegate("serve", "--config", str(config)) as gateway:
            assert values(gateway.url) == {"new": BIG, "replaced": "2"}
