"""Starts and ends the process of an agent.

The process ends with the engine, however that ends: its standard input is closed, and Linux kills it.
"""

import asyncio
import contextlib
import sys
from typing import Protocol

END_S = 2.0
"""How long an agent may take to clean up and end when the engine stops. Then it is killed."""

CLOSED_S = 1.0
"""How long a process may take to end after it has closed its standard output. Then it is killed."""

LINE_BYTES = 1024 * 1024
"""Limit on one message of an agent. Error messages are cut to 2,000 characters, so real messages are far shorter."""


class Writer(Protocol):
    """The part of `asyncio.StreamWriter` that is used here."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool: ...

    def close(self) -> None: ...


class Process(Protocol):
    """The part of `asyncio.subprocess.Process`, with pipes, that is used here."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    @property
    def stdin(self) -> Writer | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    async def wait(self) -> int: ...

    def kill(self) -> None: ...


async def start_process() -> Process:
    """Start the process of an agent, in its own session, so that Ctrl-C in a terminal does not reach it."""
    return await asyncio.create_subprocess_exec(
        # -P: do not import modules from the working directory; it may contain any file, such as a ``queue.py``.
        *(sys.executable, "-P", "-m", "tidegate.engine.compression.agent"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        start_new_session=True,
    )


async def end_of(process: Process) -> str:
    """Return how a process ended. It has closed its standard output; it is killed after `CLOSED_S`."""
    try:
        async with asyncio.timeout(CLOSED_S):
            code = await process.wait()
    except TimeoutError:
        kill(process)
        code = await process.wait()
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


async def end(process: Process) -> None:
    """Close the standard input of a process, which tells it to end. Kill it after `END_S`."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        kill(process)
        await process.wait()


def kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
