"""The agents as the engine sees them: each is a place for one process, which is watched, and replaced when it is lost.

Processes end with the engine, however it ends: their standard input closes, and Linux kills them.
"""

import asyncio
import enum
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import structlog

from tidegate.backoff import Backoff
from tidegate.engine.compression.agent_process import Process, end, end_of, kill, start_process
from tidegate.engine.compression.messages import (
    Beat,
    Cancel,
    Done,
    Failed,
    FromAgent,
    Publish,
    Ready,
    Run,
    ToAgent,
    Verified,
    encoded,
)

REPLACEMENTS = Backoff(first_s=0.5, max_s=30.0, heal_s=30.0, least=1.0, most=1.5)
"""The waits before a lost process is replaced."""

CHECK_S = 1.0
MAX_MISSED = 10
"""So many checks in a row without a beat, and the process is killed."""

CANCEL_S = 5.0
"""How long an agent may take to let go of a job before it is killed."""

log = structlog.get_logger("tidegate.engine")

_DECODER: msgspec.json.Decoder[FromAgent] = msgspec.json.Decoder(FromAgent)


class AgentState(enum.StrEnum):
    """What an agent is doing. ``error``: its process was lost and another one is about to be started."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    ERROR = "error"
    STOPPED = "stopped"


class Work(Protocol):
    """Where agents get their jobs from, and who hears how those go."""

    async def take(self, agent: str) -> str:
        """The next job's id, once there is one. It is the agent's when this returns."""
        ...

    async def order(self, job: str) -> Run | None:
        """What to do for a job that was taken; None if it is not wanted any more."""
        ...

    def progressed(self, beat: Beat) -> None: ...

    async def verified(self, message: Verified) -> bool:
        """Whether the file may be published."""
        ...

    async def done(self, job: str) -> None: ...

    async def failed(self, message: Failed) -> None: ...

    async def lost(self, job: str, reason: str) -> None: ...

    def agent_changed(self) -> None: ...


class Agent:
    """One place for a worker process. `run` keeps it filled; the rest tells how it is."""

    def __init__(
        self,
        name: str,
        work: Work,
        *,
        start: Callable[[], Awaitable[Process]] = start_process,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.state = AgentState.STOPPED
        self.error: str | None = None
        self.job: str | None = None
        self.jobs_done = 0
        self.jobs_failed = 0
        self.restarts = 0
        self._work = work
        self._start = start
        self._draw = draw
        self._process: Process | None = None
        self._ready = asyncio.Event()
        self._free = asyncio.Event()
        self._hearing = False
        self._missed = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def heartbeat_age_s(self) -> int | None:
        """Whole seconds without a beat, 0 while they come as they should; None without a process."""
        if self._process is None:
            return None
        return round(max(0, self._missed - 1) * CHECK_S)

    def cancel(self, job: str) -> None:
        """Let go of `job`, by force if it takes longer than `CANCEL_S`."""
        if self.job == job and self._process is not None:
            self._send(Cancel(job))
            asyncio.get_running_loop().call_later(CANCEL_S, self._kill_if_at, job, self._process)

    async def run(self) -> None:
        """Keep a process in this place until cancelled; then it has `END_S` to clean up and end."""
        clock = asyncio.get_running_loop().time
        losses = 0
        try:
            while True:
                began = clock()
                self._set(AgentState.STARTING)
                try:
                    reason = await self._live(await self._start())
                except OSError as error:
                    reason = f"could not be started: {error.strerror or error}"
                losses = REPLACEMENTS.failures(losses, lived_s=clock() - began)
                wait_s = REPLACEMENTS.delay_s(losses, jitter=self._draw())
                self.error = reason
                self.restarts += 1
                self._set(AgentState.ERROR)
                log.warning(f"{self.name} {reason}; replaced in {wait_s:.1f} s")
                await asyncio.sleep(wait_s)
        finally:
            self._set(AgentState.STOPPED)

    async def _live(self, process: Process) -> str:
        """Use `process` until it ends; how it did. The job that it had is lost with it."""
        self._process = process
        self._missed = 0
        self._ready.clear()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._employ()), group.create_task(self._watch(process))]
                await self._listen(process)
                for task in tasks:
                    task.cancel()
            reason = await end_of(process)
        except BaseException:
            await asyncio.shield(end(process))
            raise
        finally:
            self._process = None
        if self.job is not None:
            job, self.job = self.job, None
            self.jobs_failed += 1
            await self._work.lost(job, f"{self.name} (process {process.pid}) {reason}")
        return reason

    async def _employ(self) -> None:
        """Give the process one job after another."""
        await self._ready.wait()
        while True:
            self._set(AgentState.IDLE)
            self.job = job = await self._work.take(self.name)
            self._free.clear()
            self._set(AgentState.BUSY)
            order = await self._work.order(job)
            if order is None:
                self._release()
            else:
                self._send(order)
            await self._free.wait()

    async def _listen(self, process: Process) -> None:
        """Hear the process until it closes its standard output, or says what nobody understands."""
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
                message = _DECODER.decode(line) if line else None
            except (msgspec.DecodeError, ValueError) as error:  # ValueError: no line ends within LINE_BYTES
                log.error(f"{self.name} is not understood: {error}")
                return
            if message is None:
                return
            self._hearing = True
            try:
                await self._heard(message)
            finally:
                self._hearing = False
                self._missed = 0

    async def _heard(self, message: FromAgent) -> None:
        match message:
            case Ready():
                self.error = None
                self._ready.set()
            case Beat(job) if job is not None and job == self.job:
                self._work.progressed(message)
            case Verified(job=job) if job == self.job:
                self._send(Publish(job) if await self._work.verified(message) else Cancel(job))
            case Done(job) if job == self.job:
                await self._work.done(job)
                self.jobs_done += 1
                self._release()
            case Failed(job=job) if job == self.job:
                await self._work.failed(message)
                self.jobs_failed += message.code is not None
                self._release()

    async def _watch(self, process: Process) -> None:
        """Kill the process if it falls silent. An engine that was itself held up counts that as one check."""
        while True:
            await asyncio.sleep(CHECK_S)
            self._missed += not self._hearing
            if self._missed >= MAX_MISSED:
                log.error(f"{self.name} was silent for {MAX_MISSED * CHECK_S:.0f} s and is killed")
                kill(process)
                return

    def _release(self) -> None:
        self.job = None
        self._free.set()

    def _send(self, message: ToAgent) -> None:
        """A process that is gone hears nothing; that is noticed where it is listened to."""
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(encoded(message))

    def _kill_if_at(self, job: str, process: Process) -> None:
        if self.job == job and self._process is process:
            log.warning(f"{self.name} does not let go of cancelled job {job} and is killed")
            kill(process)

    def _set(self, state: AgentState) -> None:
        self.state = state
        self._work.agent_changed()
