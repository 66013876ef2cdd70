import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tidegate.engine import parent as engine_parent

PARENT = """
import subprocess, sys, time
engine = subprocess.Popen(
    [sys.executable, "-m", "tidegate.engine", "--port", "0", "--state-dir", "", "--stop-with-parent"],
    stdin=getattr(subprocess, sys.argv[1]),
)
print(engine.pid, flush=True)
engine.wait()
"""


@pytest.fixture(params=["PIPE", "DEVNULL"])
def parent(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that has started an engine, with this standard input, and waits for it."""
    command = [sys.executable, "-c", PARENT, request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def started(parent: subprocess.Popen[str]) -> int:
    """The engine's process id, once it is ready."""
    assert parent.stdout is not None
    assert parent.stderr is not None
    pid = int(parent.stdout.readline())
    assert "engine listening" in json.loads(parent.stderr.readline())["event"]
    return pid


async def test_only_the_end_of_standard_input_is_the_end_of_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(engine_parent, "STDIN", reader)
    stopped = asyncio.Event()
    os.write(writer, b"not the end")
    engine_parent._read(stopped.set)
    assert not stopped.is_set()
    os.close(writer)
    engine_parent._read(stopped.set)
    assert stopped.is_set()
    os.close(reader)


@pytest.mark.real
@pytest.mark.parametrize("stopped", [False, True])
def test_the_engine_ends_when_its_parent_is_killed(parent: subprocess.Popen[str], stopped: bool) -> None:
    """The engine's end is seen as the end of the pipe that is its standard error."""
    engine = started(parent)
    if stopped:
        os.kill(engine, signal.SIGSTOP)
    parent.kill()
    try:
        _, rest = parent.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.kill(engine, signal.SIGKILL)
        raise
    assert rest == ""


@pytest.mark.real
def test_the_engine_ends_cleanly_when_its_standard_input_closes() -> None:
    command = [sys.executable, "-m", "tidegate.engine", "--port", "0", "--state-dir", "", "--stop-with-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as engine:
        assert engine.stdin is not None
        assert engine.stderr is not None
        assert "engine listening" in engine.stderr.readline()
        _, rest = engine.communicate(timeout=30)
        assert rest == ""
        assert engine.returncode == 0
