"""The reference engine as a child process: started, heard, started again when it dies, ended with us.

However this process ends, the child ends too: it holds the read end of a pipe of ours and asks the kernel to be killed
when we are (`--stop-with-parent`). It has a session of its own, so a terminal's Ctrl-C reaches only us and the engine
still answers while clients are let go.
"""

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from tidegate.backoff import Backoff

HOST = "127.0.0.1"
DEFAULT_PORT = 12081

RESTARTS = Backoff(first_s=2.0, max_s=30.0, heal_s=30.0, least=1.0, most=1.5)
"""The first wait is no shorter than the demo's poll interval, so that the stream tells the outage."""

READY_S = 15.0
"""How long a gateway's start may wait for an engine that neither listens nor ends; then it starts without it."""

END_S = 5.0
"""How long the engine may take to end before it is killed."""

LAST_WORDS_S = 1.0
"""How long after its end the engine's last lines are waited for."""

LINE_BYTES = 256 * 1024

log = structlog.get_logger("tidegate.engine")


class HeldPort:
    """A port of the loopback that nobody else can have until `close`, also while no engine of ours listens on it.

    Else another gateway's engine could have it when ours has died, and what that says would be taken for ours.
    """

    def __init__(self, port: int) -> None:
        """`port` is not 0. Raises `OSError` if somebody has it."""
        self._socket = socket.create_server((HOST, port))
        self.port = port
        self.rest()

    def fileno(self) -> int:
        """The socket, for a child to listen on."""
        return self._socket.fileno()

    def rest(self) -> None:
        """Nobody listens any more: those who connect are refused."""
        # Without this option, which the engine sets again, nobody may bind the port beside us.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        with contextlib.suppress(OSError):  # nobody did
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


class Child(Protocol):
    """What is needed of an `asyncio.subprocess.Process`."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    @property
    def stderr(self) -> asyncio.StreamReader | None: ...

    async def wait(self) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


Start = Callable[[], Awaitable[Child]]


@asynccontextmanager
async def supervised_engine(
    port: HeldPort, *, state_dir: Path | None = None, notify_url: str | None = None
) -> AsyncIterator[None]:
    """Keep the reference engine running on `port` while the context is open.

    It keeps its jobs in `state_dir`, or only in memory, and posts to `notify_url` when one changes. Entering waits
    until it accepts connections or has ended, `READY_S` at the longest. Leaving ends it, by force after `END_S`.
    """
    has_ended = asyncio.Event()

    def ended() -> None:
        port.rest()
        has_ended.set()

    async def start() -> Child:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            # -P: modules of these names in the working directory, which may be anybody's, are not ours.
            *("-P", "-m", "tidegate.engine", "--listen-fd", str(port.fileno()), "--stop-with-parent"),
            *("--state-dir", "" if state_dir is None else str(state_dir)),
            *(() if notify_url is None else ("--notify-url", notify_url)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,
            pass_fds=[port.fileno()],
        )

    task = asyncio.create_task(supervise(start, ended=ended), name="engine supervision")
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                await _accepting(port.port, unless=has_ended)
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def supervise(
    start: Start, *, ended: Callable[[], None] = lambda: None, draw: Callable[[], float] = random.random
) -> None:
    """Run what `start` starts, again and again, until cancelled; then end it.

    `ended` is called as soon as one has ended by itself, or could not be started. `draw` gives jitter in [0, 1).
    """
    clock = asyncio.get_running_loop().time
    deaths = 0
    while True:
        began = clock()
        try:
            reason = await _run(await start(), ended)
        except OSError as error:
            reason = f"could not be started: {error}"
            ended()
        deaths = RESTARTS.failures(deaths, lived_s=clock() - began)
        wait_s = RESTARTS.delay_s(deaths, jitter=draw())
        log.warning("engine ended and is started again", reason=reason, after_s=round(wait_s, 1))
        await asyncio.sleep(wait_s)


def free_port(*, preferred: int) -> int:
    """`preferred` if the loopback has it free, else any other free port."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on the loopback")


async def _accepting(port: int, *, unless: asyncio.Event) -> None:
    """Return once somebody accepts connections on `port`, or `unless` is set."""
    while not unless.is_set():
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def _run(child: Child, ended: Callable[[], None]) -> str:
    """Relay what `child` says until it ends; how it ended. Cancelled, it ends the child."""
    relay = asyncio.create_task(_relay(child))
    try:
        code = await child.wait()
        ended()
        # A process that the child started may hold its standard error open for ever.
        await asyncio.wait([relay], timeout=LAST_WORDS_S)
        return f"exit code {code}" if code >= 0 else f"signal {-code}"
    finally:
        relay.cancel()
        await _end(child)


async def _relay(child: Child) -> None:
    """Log the child's lines as ours, until it closes its standard error."""
    while child.stderr is not None:
        try:
            line = await child.stderr.readline()
        except ValueError:  # longer than LINE_BYTES; asyncio has thrown it away
            continue
        if not line:
            return
        _log_line(line, child.pid)


def _log_line(line: bytes, pid: int) -> None:
    try:
        said = msgspec.json.decode(line, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError):
        log.warning(line.decode(errors="replace").rstrip(), engine_pid=pid)
        return
    {"debug": log.debug, "info": log.info, "error": log.error}.get(said.level, log.warning)(said.event, engine_pid=pid)


class _Said(msgspec.Struct):
    event: str
    level: str = "warning"


async def _end(child: Child) -> None:
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(END_S):
            await child.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
