"""The whole engine as a process, killed at the worst of times."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import zstandard

pytestmark = pytest.mark.real

PATIENCE_S = 60.0
T = TypeVar("T")


class Engine:
    """A running engine."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.agents = psutil.Process(process.pid).children()

    def call(self, method: str, **params: object) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return json.load(response)["result"]

    def job(self) -> dict[str, Any]:
        [job] = self.call("compression.list")["jobs"]
        assert isinstance(job, dict)
        return job

    def busy(self) -> int | None:
        """The process id of the agent that has a job, which is under way."""
        pids = [agent["pid"] for agent in self.call("agents.list")["agents"] if agent["state"] == "busy"]
        return pids[0] if pids and self.job()["bytes_read"] else None


def command(root: Path) -> list[str]:
    return [sys.executable, "-m", "tidegate.engine", "--port", "0", "--state-dir", str(root / "state")]


@contextmanager
def engine(root: Path) -> Iterator[Engine]:
    with subprocess.Popen([*command(root), "--allow-root", str(root)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = json.loads(process.stderr.readline())["event"]
            yield Engine(process, said.removeprefix("engine listening on "))
        finally:
            process.kill()
            process.stderr.close()


def until(condition: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_text(os.urandom(6_000_000).hex())
    return file


def test_a_job_survives_its_agent_and_its_engine(source: Path) -> None:
    with engine(source.parent) as first:
        job = first.call("compression.submit", path=str(source), level=13)["id"]
        os.kill(until(first.busy), signal.SIGKILL)
        until(lambda: first.job()["attempts"] == 2)
        until(first.busy)
        agents = psutil.Process(first.process.pid).children()
        first.process.kill()
        first.process.wait()
        until(lambda: gone(agents))
    assert [path.name for path in source.parent.glob("*.zst")] == []
    with engine(source.parent) as second:
        again = until(lambda: (found := second.job())["state"] == "done" and found)
        assert (again["id"], again["attempts"], again["percent"]) == (job, 3, 100.0)
    assert zstandard.ZstdDecompressor().decompress((source.parent / "file.zst").read_bytes()) == source.read_bytes()
    assert {path.name for path in source.parent.iterdir()} == {"file", "file.zst", "state"}
    with engine(source.parent) as third:
        assert third.job() == again


def test_agents_that_are_stopped_end_with_their_engine(tmp_path: Path) -> None:
    with engine(tmp_path) as running:
        until(lambda: {agent["state"] for agent in running.call("agents.list")["agents"]} == {"idle"})
        agents = psutil.Process(running.process.pid).children()
        for agent in agents:
            agent.suspend()
        running.process.kill()
        running.process.wait()
        until(lambda: gone(agents))


def test_an_engine_that_is_told_to_end_cleans_up_and_its_job_goes_on_later(source: Path) -> None:
    with engine(source.parent) as first:
        first.call("compression.submit", path=str(source), level=19)
        until(first.busy)
        agents = psutil.Process(first.process.pid).children()
        first.process.terminate()
        assert first.process.wait(PATIENCE_S) == 0
        assert gone(agents)
    assert {path.name for path in source.parent.iterdir()} == {"file", "state"}
    with engine(source.parent) as second:
        assert second.job()["state"] in {"queued", "running"}


def test_two_engines_do_not_share_a_state_directory(tmp_path: Path) -> None:
    with engine(tmp_path):
        second = subprocess.run(command(tmp_path), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert second.returncode == 1
    assert "another engine uses" in json.loads(second.stderr)["event"]
