"""Keeps background tasks running: a task that fails is restarted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from tidegate.core.log_events import LimitedEvent
from tidegate.core.measurements import PartRestarted
from tidegate.ports import Clock
from tidegate.runtime.limited_log import LoggedFault, Observe

RESTART_S = 1.0
"""Seconds before a failed task is restarted: a task that always fails at once must not use up the processor."""

RUNS_S = 10.0
"""A part that was started again is said to run once it has not failed for so long."""

PARTS = ("access", "certificate", "gateway", "poller", "websocket")
"""What is kept running. A job's name begins with one of these, and may go on with a name of its own."""

Work = Callable[[], Awaitable[None]]


class KeptJob:
    """A job that is kept running, until it may end."""

    def __init__(self, name: str, run: Work, clock: Clock, observe: Observe) -> None:
        self.name = name
        self._run = run
        self._clock = clock
        self._observe = observe
        self._failing = LoggedFault.by(
            clock,
            "tidegate.supervisor",
            LimitedEvent.PART_FAILED,
            over="the part runs again",
            observe=observe,
            level="error",
        )
        self._may_end = False
        self.task = asyncio.create_task(self._keep_running(), name=name)
        """Done when the job has ended for good."""

    def let_end(self) -> None:
        """Do not start the job again once it has returned."""
        self._may_end = True

    async def _keep_running(self) -> None:
        while True:
            try:
                await self._run_once()
            except Exception as error:  # noqa: BLE001 - whatever a part raises, the others go on
                self._observe(PartRestarted(self.name.partition(" ")[0]))
                self._failing.occurred(part=self.name, error=repr(error), after_s=RESTART_S, exc_info=error)
            else:
                if self._may_end:
                    return
            await self._clock.sleep_until(self._clock.now().mono + RESTART_S)

    async def _run_once(self) -> None:
        if not self._failing.is_there:
            await self._run()
            return
        timer = self._clock.call_at(self._clock.now().mono + RUNS_S, lambda: self._failing.fine(part=self.name))
        try:
            await self._run()
        finally:
            timer.cancel()


class KeptJobs:
    """Jobs that are kept running: one that raises or returns is started again after `RESTART_S`."""

    def __init__(self, clock: Clock, observe: Observe) -> None:
        self._clock = clock
        self._observe = observe
        self._jobs: dict[KeptJob, None] = {}  # in the order in which they were started

    def start(self, name: str, run: Work) -> KeptJob:
        """Run another job from now on."""
        job = KeptJob(name, run, self._clock, self._observe)
        self._jobs[job] = None
        job.task.add_done_callback(lambda _: self._jobs.pop(job, None))
        return job

    async def aclose(self) -> None:
        """Cancel all jobs, and wait until they have ended."""
        tasks = [job.task for job in self._jobs]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def kept_running(
    works: Mapping[str, Work], clock: Clock, *, observe: Observe = lambda _: None
) -> AsyncIterator[KeptJobs]:
    """Run each of `works`, by name, as a task while the context is open. Leaving it cancels and awaits all of them.

    One that raises or returns is started again after `RESTART_S`. An exception is logged, at a limited rate, and
    counted.
    """
    jobs = KeptJobs(clock, observe)
    for name, run in works.items():
        jobs.start(name, run)
    try:
        yield jobs
    finally:
        await jobs.aclose()
