"""Runs programs under test as child processes: starts them, reads their logs, and ends them."""

import asyncio
import collections
import contextlib
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tidegate.verify.obstacles import CouldNotTest

READY_S: Final = 30.0
END_S: Final = 5.0
KEPT_LINES: Final = 20
LINE_BYTES: Final = 1024 * 1024


class Program:
    """A running child process. `url` is the address on which it listens; `said` are the last lines of its log."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.url = ""
        self.said: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def death(self) -> str | None:
        """How the process ended, with the last lines of its log; None while it runs."""
        code = self._process.returncode
        if code is None:
            return None
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return f"the {self.name} has ended ({how}): {' | '.join(self.said) or 'it said nothing'}"

    def resident_bytes(self) -> int:
        """Return its current resident memory. Raises `CouldNotTest`."""
        return self._memory("VmRSS")

    def peak_bytes(self) -> int:
        """Return its peak resident memory. Raises `CouldNotTest`."""
        return self._memory("VmHWM")

    async def kill(self) -> None:
        """Send SIGKILL and wait until the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL if the process has not ended after `END_S`."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(END_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def listening(self, ready: re.Pattern[str]) -> None:
        """Read the log until `ready` matches a line. Its first group becomes `url`. Raises `CouldNotTest`."""
        assert self._process.stderr is not None
        try:
            async with asyncio.timeout(READY_S):
                async for line in self._process.stderr:
                    self.said.append(line.decode(errors="replace").rstrip())
                    if match := ready.search(self.said[-1]):
                        self.url = match[1]
                        return
                await self._process.wait()
        except TimeoutError:
            raise CouldNotTest(f"the {self.name} did not start within {READY_S:g} s: {' | '.join(self.said)}") from None
        raise CouldNotTest(self.death or f"the {self.name} closed its standard error")

    async def listen_on(self) -> None:
        """Keep reading the log, so that the process never blocks on a full pipe."""
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.said.append(line.decode(errors="replace").rstrip())

    def _memory(self, field: str) -> int:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError as error:
            raise CouldNotTest(f"the memory of the {self.name} cannot be read: {error}") from error
        match = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
        if match is None:
            raise CouldNotTest(f"expected {field} in the {self.name}'s /proc status, got {status[:200]!r}")
        return int(match[1]) * 1024


@asynccontextmanager
async def running_program(
    name: str, command: Sequence[str], *, ready: re.Pattern[str], environ: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """Run `command` while the context is open. Entering waits until its log says that it listens.

    The program runs in its own session, so Ctrl-C in a terminal reaches only this process. Its standard input is a pipe
    that closes when this process ends. Its environment is ours without the variables of Tidegate, plus `environ`.
    Raises `CouldNotTest`.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,
            env={**_own_environment(), **(environ or {})},
        )
    except OSError as error:
        raise CouldNotTest(f"the {name} cannot be started: {error}") from error
    program = Program(name, process)
    reading: asyncio.Task[None] | None = None
    try:
        await program.listening(ready)
        reading = asyncio.create_task(program.listen_on(), name=f"what the {name} says")
        yield program
    finally:
        await program.stop()
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])


def _own_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
