"""A real gateway is stopped for a while: it says so afterwards, and is not ready for a moment."""

import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from programs import tidegate, until

pytestmark = pytest.mark.real

STOPPED_S = 7.0


def answered(url: str) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_gateway_that_was_stopped_says_for_how_long_and_is_stalled_for_a_moment(tmp_path: Path) -> None:
    config = tmp_path / "tidegate.toml"
    config.write_text('[server]\nport = 0\nstate_dir = ""\nallow_no_sources = true\n')
    with tidegate("serve", "--config", str(config)) as gateway:
        url = gateway.url
        until(lambda: answered(f"{url}/readyz") == (200, {"status": "ready"}))
        gateway.signal(signal.SIGSTOP)
        time.sleep(STOPPED_S)
        gateway.signal(signal.SIGCONT)
        until(lambda: answered(f"{url}/readyz") == (503, {"status": "stalled"}))
        assert answered(f"{url}/healthz")[0] == 200
        until(lambda: answered(f"{url}/readyz")[0] == 200)
        said = [line for line in gateway.log if line["event"] == "the event loop stood still"]
        assert any(line["for_s"] > STOPPED_S - 1.0 and line["busy_s"] < line["for_s"] for line in said)
