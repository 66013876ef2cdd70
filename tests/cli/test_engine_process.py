import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import async_solipsism  # type: ignore[import-untyped]
import msgspec
import pytest
from structlog.testing import capture_logs

from tidegate.cli import engine_process
from tidegate.cli.engine_process import RESTARTS, HeldPort, free_port, supervise


class FakeChild:
    """A process that ends when it is told to, or, if it is `deaf`, only when it is killed."""

    def __init__(self, pid: int = 1, *, deaf: bool = False) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stderr: asyncio.StreamReader | None = asyncio.StreamReader(limit=1000)
        self.signals: list[str] = []
        self._deaf = deaf
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def end(self, code: int) -> None:
        assert self.stderr is not None
        self.returncode = code
        self.stderr.feed_eof()
        self._ended.set()

    def terminate(self) -> None:
        self.signals.append("terminate")
        if not self._deaf:
            self.end(0)

    def kill(self) -> None:
        self.signals.append("kill")
        self.end(-9)


def virtually(test: Callable[[], Awaitable[None]]) -> None:
    """Run `test` in virtual time, so that its waits take none."""
    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        runner.run(test())  # type: ignore[arg-type]


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("deaths", "shortest_s"), [(1, 2.0), (2, 4.0), (4, 16.0), (5, 30.0), (10_000, 30.0)])
def test_the_waits_double_up_to_their_maximum(deaths: int, shortest_s: float) -> None:
    assert RESTARTS.delay_s(deaths, jitter=0.0) == shortest_s
    assert RESTARTS.delay_s(deaths, jitter=1.0) == 1.5 * shortest_s


def test_a_dead_engine_is_started_again_after_ever_longer_waits() -> None:
    starts: list[float] = []

    async def start() -> FakeChild:
        starts.append(asyncio.get_running_loop().time())
        child = FakeChild()
        child.end(-9)
        return child

    async def test() -> None:
        task = asyncio.create_task(supervise(start, draw=lambda: 0.0))
        await asyncio.sleep(20)
        await ended(task)

    with capture_logs() as lines:
        virtually(test)
    assert [later - earlier for earlier, later in itertools.pairwise(starts)] == [2.0, 4.0, 8.0]
    assert lines[0] == {
        "event": "engine ended and is started again",
        "reason": "signal 9",
        "after_s": 2.0,
        "log_level": "warning",
    }


def test_an_engine_that_was_well_is_started_again_after_the_first_wait() -> None:
    starts: list[float] = []

    async def start() -> FakeChild:
        loop = asyncio.get_running_loop()
        starts.append(loop.time())
        child = FakeChild()
        loop.call_later(40.0, child.end, 1)
        return child

    async def test() -> None:
        task = asyncio.create_task(supervise(start, draw=lambda: 0.0))
        await asyncio.sleep(100)
        await ended(task)

    virtually(test)
    assert starts[1:] == [starts[0] + 42.0, starts[0] + 84.0]


def test_what_cannot_be_started_is_tried_again() -> None:
    attempts = 0

    async def start() -> FakeChild:
        nonlocal attempts
        attempts += 1
        raise OSError("too many processes")

    async def test() -> None:
        task = asyncio.create_task(supervise(start, draw=lambda: 0.0))
        await asyncio.sleep(3)
        await ended(task)

    with capture_logs() as lines:
        virtually(test)
    assert attempts == 2
    assert lines[0]["reason"] == "could not be started: too many processes"


@pytest.mark.parametrize(("deaf", "signals"), [(False, ["terminate"]), (True, ["terminate", "kill"])])
def test_leaving_ends_the_engine_by_force_if_need_be(deaf: bool, signals: list[str]) -> None:
    async def test() -> None:
        child = FakeChild(deaf=deaf)

        async def start() -> FakeChild:
            return child

        task = asyncio.create_task(supervise(start))
        await asyncio.sleep(1)
        await ended(task)
        assert child.signals == signals

    virtually(test)


def test_its_lines_become_ours_at_their_level() -> None:
    async def test() -> None:
        child = FakeChild(pid=7)
        assert child.stderr is not None
        child.stderr.feed_data(b'{"event":"engine listening","level":"info"}\n')
        child.stderr.feed_data(b'{"event":"engine cannot listen","level":"error"}\n')
        child.stderr.feed_data(b"x" * 3000 + b"\n")
        child.stderr.feed_data(b"Traceback \xff\n")

        async def start() -> FakeChild:
            return child

        task = asyncio.create_task(supervise(start))
        await asyncio.sleep(1)
        await ended(task)

    with capture_logs() as lines:
        virtually(test)
    assert [(line["log_level"], line["event"], line["engine_pid"]) for line in lines] == [
        ("info", "engine listening", 7),
        ("error", "engine cannot listen", 7),
        ("warning", "Traceback \ufffd", 7),
    ]


def test_somebody_who_holds_its_standard_error_does_not_delay_the_new_start() -> None:
    children: list[FakeChild] = []

    async def start() -> FakeChild:
        child = FakeChild()
        children.append(child)
        child.returncode = 0
        child._ended.set()
        return child

    async def test() -> None:
        task = asyncio.create_task(supervise(start, draw=lambda: 0.0))
        await asyncio.sleep(4)
        await ended(task)

    virtually(test)
    assert len(children) == 2


def test_the_preferred_port_is_taken_if_it_is_free() -> None:
    with socket.socket() as taken:
        taken.bind((engine_process.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(preferred=port) not in {0, port}
    assert free_port(preferred=port) == port


PARENT = """
import asyncio, sys
from tidegate.cli.engine_process import HeldPort, supervised_engine
async def main():
    async with supervised_engine(HeldPort(int(sys.argv[1]))):
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@pytest.fixture
def port() -> int:
    return free_port(preferred=0)


@pytest.fixture
def held(port: int) -> Iterator[HeldPort]:
    with contextlib.closing(HeldPort(port)) as held:
        yield held


def assert_nobody_gets(port: int) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        socket.create_server((engine_process.HOST, port))


def test_a_held_port_is_ours_whether_anybody_listens_or_not(held: HeldPort) -> None:
    address = (engine_process.HOST, held.port)
    with socket.socket(fileno=os.dup(held.fileno())) as listener:
        for _ in range(2):
            assert_nobody_gets(held.port)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.listen()
            # The server ends this connection first, so that the port is remembered for it.
            with socket.create_connection(address), listener.accept()[0]:
                assert_nobody_gets(held.port)
                held.stop_listening()
                assert_nobody_gets(held.port)


@pytest.fixture
def parent(port: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


async def answers(port: int) -> bool:
    """Whether an engine answers there."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return await asyncio.to_thread(ask)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.02)


def engine_of(parent: int) -> int | None:
    """The process id of the engine that `parent` has started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(children[0]) if children else None


@pytest.mark.real
@pytest.mark.parametrize("killed", [False, True])
async def test_no_engine_outlives_its_supervisor(parent: "subprocess.Popen[str]", port: int, killed: bool) -> None:
    await until(lambda: answers(port))
    engine = engine_of(parent.pid)
    assert engine is not None
    if killed:
        parent.kill()
        parent.communicate(timeout=30)
    else:
        parent.communicate(timeout=30)
        assert parent.returncode == 0

    async def gone() -> bool:
        return not Path(f"/proc/{engine}").exists()

    await until(gone)


@pytest.mark.real
async def test_a_killed_engine_answers_again(monkeypatch: pytest.MonkeyPatch, held: HeldPort) -> None:
    monkeypatch.setattr(engine_process, "RESTARTS", msgspec.structs.replace(RESTARTS, first_s=0.05))
    async with engine_process.supervised_engine(held):
        await until(lambda: answers(held.port))
        first = engine_of(os.getpid())
        assert first is not None
        os.kill(first, signal.SIGKILL)

        async def another() -> bool:
            return engine_of(os.getpid()) not in {first, None}

        await until(another)
        await until(lambda: answers(held.port))


@pytest.mark.real
async def test_the_working_directory_holds_no_modules_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: HeldPort
) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    async with engine_process.supervised_engine(held):
        assert await answers(held.port)


@pytest.mark.real
@pytest.mark.parametrize("program", ["/bin/false", "/none"])
async def test_nobody_waits_for_an_engine_that_does_not_start(
    program: str, held: HeldPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_process, "READY_S", 1e9)
    monkeypatch.setattr("sys.executable", program)
    with capture_logs():
        async with asyncio.timeout(30), engine_process.supervised_engine(held):
            assert not await answers(held.port)


@pytest.mark.real
async def test_nobody_gets_the_port_of_a_dead_engine(held: HeldPort) -> None:
    async with engine_process.supervised_engine(held):
        await until(lambda: answers(held.port))
        engine = engine_of(os.getpid())
        assert engine is not None
        os.kill(engine, signal.SIGKILL)

        async def refused() -> bool:
            try:
                _, writer = await asyncio.open_connection(engine_process.HOST, held.port)
            except ConnectionRefusedError:
                return True
            writer.close()
            return False

        await until(refused)
        assert_nobody_gets(held.port)
