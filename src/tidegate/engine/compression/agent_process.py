"""The process of an agent: how it is started, and how it ends.

It ends with the engine, however that ends: its standard input closes, and Linux kills it.
"""

import asyncio
import contextlib
import sys
from typing import Protocol

END_S = 2.0
"""How long an agent may take to clean up and end with the engine before it is killed."""

CLOSED_S = 1.0
"""How long a process that has closed its standard output may take to end."""

LINE_BYTES = 1024 * 1024


class Writer(Protocol):
    """What is needed of an `asyncio.StreamWriter`."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool: ...

    def close(self) -> None: ...


class Process(Protocol):
    """What is needed of an `asyncio.subprocess.Process` with pipes."""

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
    """Start the program of an agent. A session of its own keeps a terminal's Ctrl-C from it.

    ``-P``: a ``queue.py`` in the working directory, which holds whatever is to be compressed, is no module of ours.
    """
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tidegate.engine.compression.agent"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        start_new_session=True,
    )


async def end_of(process: Process) -> str:
    """How a process ended that has closed its standard output; made to, if it has not."""
    try:
        async with asyncio.timeout(CLOSED_S):
            code = await process.wait()
    except TimeoutError:
        kill(process)
        code = await process.wait()
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


async def end(process: Process) -> None:
    """Close the standard input of a process, which tells it to end, and see that it does."""
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
