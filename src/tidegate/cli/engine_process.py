"""Runs the reference engine as a supervised child process: starts it, relays its logs, and restarts it when it dies.

The child ends with this process, however this process ends: it stops when the pipe at its standard input closes, and
it asks the kernel to kill it when its parent dies (`--stop-with-parent`). It runs in its own session, so Ctrl-C in a
terminal reaches only this process, and the engine still answers during the drain.
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
"""The first wait is as long as the demo's poll interval, so that a poll fails and the stream shows the outage."""

READY_S = 15.0
"""How long the start of the gateway waits for an engine that neither listens nor ends. Then it starts without it."""

END_S = 5.0
"""How long the engine may take to end before it is killed."""

LAST_LINES_S = 1.0
"""How long to read the log of an engine that has ended. Its own children may keep the pipe open for longer."""

LINE_BYTES = 256 * 1024
"""Limit on one log line of the engine. A longer line is dropped."""

log = structlog.get_logger("tidegate.engine")


class HeldPort:
    """A loopback port that stays reserved until `close`, also while no engine listens on it.

    Otherwise the engine of another gateway could take the port after ours has died, and our gateway would take that
    engine's answers for ours.
    """

    def __init__(self, port: int) -> None:
        """Reserve `port`, which is not 0. Raises `OSError` if it is in use."""
        self._socket = socket.create_server((HOST, port))
        self.port = port
        self.stop_listening()

    def fileno(self) -> int:
        """The descriptor of the socket, for a child to listen on."""
        return self._socket.fileno()

    def stop_listening(self) -> None:
        """Keep the port, but refuse connections."""
        # While this option is off, no other process can bind the port. The engine turns it on again.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        with contextlib.suppress(OSError):  # the socket was not listening
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


class Child(Protocol):
    """The part of `asyncio.subprocess.Process` that is used here."""

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

    The engine keeps its jobs in `state_dir`, or in memory if None, and posts to `notify_url` when a job changes.
    Entering waits until the engine accepts connections or has ended, at most `READY_S`. Leaving ends the engine, and
    kills it after `END_S`.
    """
    has_ended = asyncio.Event()

    def ended() -> None:
        port.stop_listening()
        has_ended.set()

    async def start() -> Child:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            # -P: do not import modules from the working directory, where other users may be able to write.
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
    """Run the child that `start` starts, and restart it whenever it ends. Cancellation ends the child.

    `ended` is called at once when a child has ended by itself or could not be started. `draw` returns the jitter, in
    [0, 1).
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
    """Return the port `preferred` if it is free on the loopback, else any other free port.

    The port is not reserved. If another process takes it before the caller binds it, binding fails with an `OSError`.
    """
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on the loopback")


async def _accepting(port: int, *, unless: asyncio.Event) -> None:
    """Wait until connections to `port` are accepted, or `unless` is set."""
    while not unless.is_set():
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def _run(child: Child, ended: Callable[[], None]) -> str:
    """Relay the log of `child` until it ends. Return how it ended. Cancellation ends the child."""
    relay = asyncio.create_task(_relay(child))
    try:
        code = await child.wait()
        ended()
        # The timeout is needed: a process that the child started may keep its standard error open for ever.
        await asyncio.wait([relay], timeout=LAST_LINES_S)
        return f"exit code {code}" if code >= 0 else f"signal {-code}"
    finally:
        relay.cancel()
        await _end(child)


async def _relay(child: Child) -> None:
    """Log the child's log lines as our own, until it closes its standard error."""
    while child.stderr is not None:
        try:
            line = await child.stderr.readline()
        except ValueError:  # longer than LINE_BYTES; asyncio has dropped the line
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
