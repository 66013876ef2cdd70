"""Programs whose parent has closed some of their standard streams, as cron jobs and careless scripts do."""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, combinations
from pathlib import Path

import pytest
from programs import until

pytestmark = pytest.mark.real

STREAMS = {0: "<&-", 1: ">&-", 2: "2>&-"}
SETS = [*chain.from_iterable(combinations(STREAMS, count) for count in (1, 2, 3))]


@contextmanager
def running(command: str, closed: tuple[int, ...], *, folder: Path) -> Iterator[subprocess.Popen[str]]:
    redirections = " ".join(STREAMS[number] for number in closed)
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$0" -P -m {command} {redirections}', sys.executable],
        cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("closed", SETS, ids=lambda closed: " ".join(STREAMS[number] for number in closed))
def test_a_gateway_serves_with_its_engine_and_nothing_takes_the_numbers_of_the_streams(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    port = free_port()
    with running(f"tidegate serve --port {port}", closed, folder=tmp_path) as process:
        until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/readyz"))
        assert process.poll() is None
        held = [str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in closed]
        assert held == [os.devnull] * len(closed)
        process.terminate()
        assert process.wait(60) == 0


def test_an_engine_serves_without_a_standard_error(tmp_path: Path) -> None:
    port = free_port()
    with running(f"tidegate.engine --port {port} --state-dir ''", (2,), folder=tmp_path) as process:
        until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/healthz"))
        assert process.poll() is None


@pytest.mark.parametrize("arguments", ["serve --port none", "config check"])
def test_a_failure_that_nobody_is_told_of_keeps_its_exit_code(tmp_path: Path, arguments: str) -> None:
    with running(f"tidegate {arguments} --config nowhere.toml", (2,), folder=tmp_path) as process:
        assert process.wait(60) == 2
