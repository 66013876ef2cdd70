"""Takes the hints of one backend on asyncio, and says which of its sources are to be polled because of them.

A `Backend` may be other people's code: whatever its iterator does wrong is contained here, named in the log and in the
metrics, and it is started again. Knows nothing of calls or breakers.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Iterable

import structlog

from tidegate.backoff import Backoff
from tidegate.core.measurements import HintTaken
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.errors import InvalidResponse, TidegateError
from tidegate.ports import Backend, Clock, Metrics, Timer
from tidegate.printable import printable
from tidegate.runtime.exchange import CLOSE_S, go_on_with_cancellation

GAP_S = 1.0
"""How often a source is polled because of hints, in seconds. Any number of hints in between count as one."""

HINTS_PER_S = 1000
"""How many hints of one backend are read within a second. Then the second is waited for: nothing else would run."""

RESTART = Backoff(first_s=1.0, max_s=60.0, heal_s=60.0)

NAME_CHARACTERS = 100
"""How much of a name is shown in the log. Servers make them up."""

REASON_CHARACTERS = 500

log = structlog.get_logger("tidegate.hints")


def can_hint(backend: Backend) -> bool:
    """Return whether `backend` may have hints."""
    return callable(getattr(backend, "hints", None))


class Hinting:
    """The hints of one `backend`, which may have none.

    `changed` is called with the event types of sources that are to be polled now.
    """

    def __init__(
        self,
        plan: BackendPlan,
        *,
        backend: Backend,
        clock: Clock,
        metrics: Metrics,
        rng: random.Random,
        changed: Callable[[Collection[str]], None],
    ) -> None:
        self._name = plan.name
        self._backend = backend
        self._is_another = asyncio.Event()
        self._clock = clock
        self._metrics = metrics
        self._rng = rng
        self._changed = changed
        self.follow(plan)
        self._told: dict[str, float] = {}  # when `changed` last had a source, in monotonic seconds
        self._due: dict[str, float] = {}  # sources that changed too soon after that, and when they are told
        self._timer: Timer | None = None

    def follow_backend(self, backend: Backend) -> None:
        """Take the hints of another `backend` from now on."""
        self._backend = backend
        self._is_another.set()

    def follow(self, plan: BackendPlan) -> None:
        """Tell of the sources of `plan` from now on, each because of the hints that it names there."""
        self._all = {source.spec.type: None for source in plan.sources}
        self._by_name: dict[str, list[str]] = {}
        for source in plan.sources:
            for name in source.refresh_on:
                self._by_name.setdefault(name, []).append(source.spec.type)
        self._listening = [source.spec.type for source in plan.sources if source.refresh_on]

    async def run(self) -> None:
        """Take hints until cancelled. Raises nothing else."""
        try:
            while True:
                self._is_another.clear()
                taking = asyncio.create_task(self._take_on()) if can_hint(self._backend) else None
                try:
                    await self._is_another.wait()
                finally:
                    if taking is not None:
                        taking.cancel()
                        await asyncio.wait([taking])
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _take_on(self) -> None:
        """Take the hints of one backend until cancelled, and ask for them again when they end."""
        failures = 0
        while True:
            began = self._clock.now().mono
            reason = await self._taken()
            failures = RESTART.failures(failures, lived_s=self._clock.now().mono - began)
            after_s = RESTART.delay_s(failures, jitter=self._rng.random())
            log.warning(
                "the hints of a backend ended, and are asked for again",
                backend=self._name,
                reason=reason,
                after_s=round(after_s, 1),
            )
            self._metrics.observe(HintTaken(self._name, "failed"))
            await self._clock.sleep_until(self._clock.now().mono + after_s)
            self._note(self._listening)  # nobody knows what it would have told meanwhile

    async def _taken(self) -> str:
        """Take hints until there are no more. Return why that is so."""
        hints: object = None
        try:
            hints = self._backend.hints()  # type: ignore[attr-defined] # `can_hint` has seen it
            await self._take_all(hints)
        except BaseException as error:  # noqa: BLE001 - whatever a backend raises
            go_on_with_cancellation(error)
            return printable((str(error) if isinstance(error, TidegateError) else repr(error))[:REASON_CHARACTERS])
        else:
            return "expected hints without an end, got one"
        finally:
            await _close(hints)

    async def _take_all(self, hints: object) -> None:
        if not hasattr(hints, "__aiter__"):
            raise InvalidResponse(f"expected an asynchronous iterator from hints(), got {type(hints).__name__}")
        second, count, is_flood = self._clock.now().mono, 0, False
        async for hint in hints:
            go_on_with_cancellation(None)  # the backend may have swallowed it
            self._take(hint)
            count += 1
            if count == HINTS_PER_S:
                was_flood, is_flood = is_flood, self._clock.now().mono < second + 1.0
                if is_flood:
                    self._flooded(is_news=not was_flood)
                    await self._clock.sleep_until(second + 1.0)
                second, count = self._clock.now().mono, 0

    def _flooded(self, *, is_news: bool) -> None:
        if is_news:
            log.warning("more hints than are read", backend=self._name, read_per_s=HINTS_PER_S)
        self._metrics.observe(HintTaken(self._name, "too_many"))

    def _take(self, hint: object) -> None:
        if hint is None:
            self._metrics.observe(HintTaken(self._name, "for_all"))
            self._note(self._all)
        elif isinstance(hint, str):
            concerned = self._by_name.get(hint, ())
            self._metrics.observe(HintTaken(self._name, "for_some" if concerned else "for_none"))
            self._note(concerned)
        else:
            raise InvalidResponse(f"expected a name or None as a hint, got {type(hint).__name__}")
        log.debug("hint", backend=self._name, name=None if hint is None else printable(hint[:NAME_CHARACTERS]))

    def _note(self, event_types: Iterable[str]) -> None:
        """These changed: tell of each now, or `GAP_S` after the last time."""
        now = self._clock.now().mono
        for event_type in event_types:
            self._due.setdefault(event_type, max(now, self._told.get(event_type, now - GAP_S) + GAP_S))
        self._tell()

    def _tell(self) -> None:
        now = self._clock.now().mono
        due = [event_type for event_type, due_at in self._due.items() if due_at <= now]
        for event_type in due:
            del self._due[event_type]
            self._told[event_type] = now
        ready = [event_type for event_type in due if event_type in self._all]  # others are polled no longer
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            self._timer = self._clock.call_at(min(self._due.values()), self._tell)
        if ready:
            self._changed(ready)


async def _close(hints: object) -> None:
    """Let an iterator end what it has begun, within `CLOSE_S`. One that failed or was cancelled has ended already."""
    close = getattr(hints, "aclose", None) or getattr(hints, "close", None)
    if close is None:
        return
    try:
        async with asyncio.timeout(CLOSE_S):
            if (closing := close()) is not None:
                await closing
    except BaseException as error:  # noqa: BLE001 - whatever a backend raises
        go_on_with_cancellation(error)
