"""Keeps background tasks running: a task that fails is restarted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import structlog

from tidegate.ports import Clock

RESTART_S = 1.0
"""Seconds before a failed task is restarted: a task that always fails at once must not use up the processor."""

log = structlog.get_logger("tidegate.supervisor")

Work = Callable[[], Awaitable[None]]


class KeptJob:
    """A job that is kept running, until it may end."""

    def __init__(self, name: str, run: Work, clock: Clock) -> None:
        self.name = name
        self._run = run
        self._clock = clock
        self._may_end = False
        self.task = asyncio.create_task(self._keep_running(), name=name)
        """Done when the job has ended for good."""

    def let_end(self) -> None:
        """Do not start the job again once it has returned."""
        self._may_end = True

    async def _keep_running(self) -> None:
        while True:
            try:
                await self._run()
            except Exception:
                log.exception("a part failed and is started again", part=self.name, after_s=RESTART_S)
            else:
                if self._may_end:
                    return
            await self._clock.sleep_until(self._clock.now().mono + RESTART_S)


class KeptJobs:
    """Jobs that are kept running: one that raises or returns is started again after `RESTART_S`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: set[KeptJob] = set()

    def start(self, name: str, run: Work) -> KeptJob:
        """Run another job from now on."""
        job = KeptJob(name, run, self._clock)
        self._jobs.add(job)
        job.task.add_done_callback(lambda _: self._jobs.discard(job))
        return job

    async def aclose(self) -> None:
        """Cancel all jobs, and wait until they have ended."""
        tasks = [job.task for job in self._jobs]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def kept_running(works: Mapping[str, Work], clock: Clock) -> AsyncIterator[KeptJobs]:
    """Run each of `works`, by name, as a task while the context is open. Leaving it cancels and awaits all of them.

    One that raises or returns is started again after `RESTART_S`. An exception is logged.
    """
    jobs = KeptJobs(clock)
    for name, run in works.items():
        jobs.start(name, run)
    try:
        yield jobs
    finally:
        await jobs.aclose()
