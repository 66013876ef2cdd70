"""The methods for compression jobs and agents. Connects the queue, the store and the agents.

Each change of a job is on disk before anything depends on it: before the caller gets its answer, an agent starts, or a
file gets its final name. The end of a job is shown only when it is on disk, so that a restart cannot undo it.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated

import msgspec
import structlog

from tidegate.engine.compression import task
from tidegate.engine.compression.agents import Agent, AgentState
from tidegate.engine.compression.jobs import Failure, Job, Record
from tidegate.engine.compression.messages import Beat, Failed, Run, Verified
from tidegate.engine.compression.paths import located
from tidegate.engine.compression.queue import JobQueue
from tidegate.engine.compression.refusals import Code, Refused, shown
from tidegate.engine.compression.roots import Roots
from tidegate.engine.compression.store import JobStore
from tidegate.engine.processes import ProcessMeter
from tidegate.engine.threads import in_thread
from tidegate.errors import StoreError

HOUSEKEEPING_S = 60.0

PathText = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=16384,
        description="Absolute path, or a file: URI, which can also name paths that are not UTF-8.",
    ),
]
Level = Annotated[
    int,
    msgspec.Meta(ge=task.MIN_LEVEL, le=task.MAX_LEVEL, description="Level of the zstd program, from fast to small."),
]
JobId = Annotated[str, msgspec.Meta(max_length=64, description="The id that compression.submit returned.")]

log = structlog.get_logger("tidegate.engine")


class JobList(msgspec.Struct, frozen=True):
    """All known jobs, in the order in which they were submitted."""

    jobs: list[Job]


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One agent, which keeps a worker process running. Its id stays the same when the process is replaced.

    Memory is rounded to MiB. CPU is in whole percent of one processor since the last call. `heartbeat_age_s` is 0 while
    beats come in time. So an idle agent's status does not change. `error` says why the last process was lost.
    """

    id: str
    state: AgentState
    error: str | None
    job: str | None
    cpu_percent: int | None
    memory_bytes: int | None
    jobs_done: int
    jobs_failed: int
    restarts: int
    pid: int | None
    heartbeat_age_s: int | None


class AgentList(msgspec.Struct, frozen=True):
    """All agents, ordered by their ids."""

    agents: list[AgentStatus]


class Compression:
    """The jobs of one engine, and the agents that execute them while `running` is open."""

    def __init__(
        self,
        *,
        store: JobStore,
        queue: JobQueue,
        roots: Roots,
        agents: int,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._roots = roots
        self._changed = changed
        self._wake = asyncio.Event()
        self._agents = [Agent(f"agent-{number}", self) for number in range(1, agents + 1)]
        self._meter = ProcessMeter()
        self._ending: dict[str, Job] = {}
        """The previous state of jobs whose end is not on disk yet."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Recover the jobs of an earlier engine, and run the agents while the context is open."""
        recovered = self._queue.recover(time.time())
        await self._keep(*recovered)
        for record in recovered:
            await self._discard(record)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(agent.run(), name=agent.name) for agent in self._agents]
            tasks.append(group.create_task(self._keep_house(), name="housekeeping"))
            try:
                yield
            finally:
                for running in tasks:
                    running.cancel()

    # methods

    def methods(self) -> Mapping[str, Callable[..., Awaitable[object]]]:
        return {
            "compression.submit": self.submit,
            "compression.list": self.list,
            "compression.get": self.get,
            "compression.cancel": self.cancel,
            "agents.list": self.list_agents,
        }

    async def submit(
        self, path: PathText, level: Level = task.DEFAULT_LEVEL, destination: PathText | None = None
    ) -> Job:
        """Compress a file, or a folder as .tar.zst. The destination is a new name or a folder; default: beside it."""
        source, target = await in_thread(partial(located, self._roots, path, destination))
        job = secrets.token_hex(4)
        record = self._queue.submit(job, source=source, destination=target, level=level, now=time.time())
        try:
            await self._store.save(record)
        except StoreError as error:
            self._queue.forget(job)
            raise Refused(Code.IO_ERROR, str(error)) from error
        log.info(f"job {job} submitted: {shown(source)} to {shown(target)}")
        self._notify()
        return self._queue.job(job)

    async def list(self) -> JobList:
        """List all jobs: queued, running, and recently ended."""
        return JobList([self._shown(job) for job in self._queue.jobs()])

    async def get(self, id: JobId) -> Job:  # noqa: A002 - the name of the parameter in JSON-RPC
        """Return one job."""
        return self._shown(self._queue.job(id))

    async def cancel(self, id: JobId) -> Job:  # noqa: A002 - the name of the parameter in JSON-RPC
        """Cancel a job and remove its unfinished file. A job that has ended or is just finishing is not affected."""
        before, shown_before = self._queue.record(id), self._queue.job(id)
        record = self._queue.cancel(id, now=time.time())
        if record is not before:
            await self._keep_end(shown_before, record)
            await self._discard(record)
            for agent in self._agents:
                agent.cancel(id)
            await self._forget_old()
            self._notify()
        return self._shown(self._queue.job(id))

    async def list_agents(self) -> AgentList:
        """List the agents and what each is doing."""
        usage = await self._meter.measure([agent.pid for agent in self._agents if agent.pid is not None])
        statuses = []
        for agent in self._agents:
            used = usage.get(agent.pid) if agent.pid is not None else None
            statuses.append(
                AgentStatus(
                    id=agent.name,
                    state=agent.state,
                    error=agent.error,
                    job=agent.job,
                    cpu_percent=None if used is None else used.cpu_percent,
                    memory_bytes=None if used is None else used.memory_bytes,
                    jobs_done=agent.jobs_done,
                    jobs_failed=agent.jobs_failed,
                    restarts=agent.restarts,
                    pid=agent.pid,
                    heartbeat_age_s=agent.heartbeat_age_s,
                )
            )
        return AgentList(statuses)

    # called by agents (`Work`)

    async def take(self, agent: str) -> str:
        while (record := self._queue.take(agent, now=time.time())) is None:
            await self._wake.wait()
        self._notify()
        return record.id

    async def order(self, job: str) -> Run | None:
        record = self._queue.record(job)
        await self._keep(record)
        if self._queue.record(job) is not record:  # cancelled meanwhile
            before = self._queue.job(job)
            await self._left(before, self._queue.failed(job, None, record.counts, now=time.time()))
            return None
        return Run(
            job=job,
            attempt=record.attempts,
            source=record.source,
            destination=record.destination,
            level=record.level,
            roots=[*self._roots.folders],
            published=None if record.verified is None else record.verified.identity,
        )

    def progressed(self, beat: Beat) -> None:
        assert beat.job is not None
        if self._queue.progressed(beat.job, beat.counts, mono=time.monotonic()):
            self._notify()

    async def verified(self, message: Verified) -> bool:
        record = self._queue.verified(message)
        await self._keep(record)
        self._notify()
        return record.verified is not None

    async def done(self, job: str) -> None:
        before = self._queue.job(job)
        await self._left(before, self._queue.done(job, now=time.time()))

    async def failed(self, message: Failed) -> None:
        error = None if message.code is None else Failure(message.code, message.message)
        before = self._queue.job(message.job)
        await self._left(before, self._queue.failed(message.job, error, message.counts, now=time.time()))

    async def lost(self, job: str, reason: str) -> None:
        before = self._queue.job(job)
        record = self._queue.lost(job, reason, now=time.time())
        if not record.has_ended:
            log.warning(f"job {job} waits again: {reason}")
        await self._left(before, record)

    def agent_changed(self) -> None:
        self._changed()

    async def _left(self, before: Job, record: Record) -> None:
        """Store a job that its agent no longer has. Until that is on disk, it is shown as `before`."""
        await self._keep_end(before, record)
        await self._discard(record)
        why = "" if record.error is None else f": {record.error.code}: {record.error.message}"
        log.info(f"job {record.id} {record.state}{why}")
        await self._forget_old()
        self._notify()

    async def _keep_end(self, before: Job, record: Record) -> None:
        """Store a job. If it has ended, it is shown as `before` until that is on disk."""
        if record.has_ended:
            self._ending[record.id] = before
        try:
            await self._keep(record)
        finally:
            if record.has_ended:
                del self._ending[record.id]

    def _shown(self, job: Job) -> Job:
        return self._ending.get(job.id, job)

    async def _keep(self, *records: Record) -> None:
        """Store jobs. A job that cannot be stored continues; only a restarted engine would not know of the change."""
        try:
            await self._store.save(*records)
        except StoreError as error:
            log.warning(f"{', '.join(record.id for record in records)}: {error}")

    async def _discard(self, record: Record) -> None:
        """Remove temporary files that killed attempts of an ended job may have left."""
        if record.has_ended and record.attempts:
            await in_thread(partial(task.discard, self._roots, record.destination, record.id, record.attempts))

    async def _keep_house(self) -> None:
        while True:
            await self._forget_old()
            await asyncio.sleep(HOUSEKEEPING_S)

    async def _forget_old(self) -> None:
        old = self._queue.pruned(time.time())
        if old:
            try:
                await self._store.forget(old)
            except StoreError as error:
                log.warning(f"old jobs not forgotten: {error}")
            self._changed()

    def _notify(self) -> None:
        """Wake the agents that wait for a job, and send a hint to the gateway."""
        self._wake.set()
        self._wake = asyncio.Event()
        self._changed()
