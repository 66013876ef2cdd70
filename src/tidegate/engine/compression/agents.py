"""The agents, seen from the engine. Each supervises one worker process, and replaces it when it dies or hangs.

The processes end with the engine, however it ends: their standard input is closed, and Linux kills them.
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
"""The back-off before a lost process is replaced."""

CHECK_S = 1.0
MAX_MISSED = 10
"""Consecutive checks without a beat after which the process is killed. An idle agent sends a beat every second."""

CANCEL_S = 5.0
"""How long an agent may take to cancel a job before its process is killed."""

log = structlog.get_logger("tidegate.engine")

_DECODER: msgspec.json.Decoder[FromAgent] = msgspec.json.Decoder(FromAgent)


class AgentState(enum.StrEnum):
    """What an agent is doing. ``error``: its process was lost, and another one starts after the back-off."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    ERROR = "error"
    STOPPED = "stopped"


class Work(Protocol):
    """The source of jobs for agents, to which they report results."""

    async def take(self, agent: str) -> str:
        """Wait for a job, assign it to the agent and return its id."""
        ...

    async def order(self, job: str) -> Run | None:
        """Return the order for a job that was taken; None if the job has been cancelled since."""
        ...

    def progressed(self, beat: Beat) -> None: ...

    async def verified(self, message: Verified) -> bool:
        """Record the verified file. Return whether it may be published."""
        ...

    async def done(self, job: str) -> None: ...

    async def failed(self, message: Failed) -> None: ...

    async def lost(self, job: str, reason: str) -> None: ...

    def agent_changed(self) -> None: ...


class Agent:
    """A supervisor of one worker process. `run` keeps a process running; the attributes show its state."""

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
        """Whole seconds without a beat, 0 while beats come in time; None without a process."""
        if self._process is None:
            return None
        return round(max(0, self._missed - 1) * CHECK_S)

    def cancel(self, job: str) -> None:
        """Cancel `job`. If that takes longer than `CANCEL_S`, the process is killed."""
        if self.job == job and self._process is not None:
            self._send(Cancel(job))
            asyncio.get_running_loop().call_later(CANCEL_S, self._kill_if_at, job, self._process)

    async def run(self) -> None:
        """Keep a process running until cancelled. On cancellation, the process has `END_S` to clean up and end."""
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
        """Give jobs to `process` until it ends. Return how it ended. Its job, if it had one, is reported as lost."""
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
        """Give the process one job after the other."""
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
        """Process the messages of the process until it closes its standard output or sends an invalid message."""
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
        """Kill the process if no beats come."""
        while True:
            # Counts checks rather than time: if the engine itself was suspended, that is only one missed check.
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
        """Send a message if the process is still there. `_listen` notices when it is gone."""
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(encoded(message))

    def _kill_if_at(self, job: str, process: Process) -> None:
        if self.job == job and self._process is process:
            log.warning(f"{self.name} does not let go of cancelled job {job} and is killed")
            kill(process)

    def _set(self, state: AgentState) -> None:
        self.state = state
        self._work.agent_changed()
