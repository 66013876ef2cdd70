"""Runs the gateway and its pollers, answers questions about them, and passes on the commands of operators.

At the start, saved values are published, those of sources as stale. Then the pollers ask for fresh ones. At the end,
everything that runs is cancelled. A drain comes before that, and closing the parts after it; `tidegate.app` does both.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from typing import Literal, get_args

import msgspec
import structlog

from tidegate.core.access.grant import EVERYTHING, Coverage
from tidegate.core.events import Draft
from tidegate.core.polling.breaker_values import BreakerView
from tidegate.core.polling.moves import Command
from tidegate.core.polling.source_values import SourceView
from tidegate.core.topics import PatternSet
from tidegate.errors import AccessRefused, UnknownName
from tidegate.ports import Reading, SavedValue, Store
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.keeping import KeptJob, KeptJobs, kept_running
from tidegate.runtime.loop_lag import LoopLag
from tidegate.runtime.poller import BackendPoller
from tidegate.runtime.rearranging import Rearrangement, rearrange
from tidegate.runtime.stalls import Stalls

COMMANDS: dict[str, Command] = {command: command for command in get_args(Command)}
"""The commands, by the name that an operator uses."""

log = structlog.get_logger("tidegate.supervisor")


ReadinessStatus = Literal["ready", "degraded", "starting", "stalled", "draining"]


class Readiness(msgspec.Struct, frozen=True):
    """Whether the gateway is ready. `stale` is how many sources are stale."""

    status: ReadinessStatus
    stale: int


class Supervisor:
    """The gateway and its pollers as one."""

    def __init__(self, gateway: Gateway, pollers: Sequence[BackendPoller], *, store: Store | None) -> None:
        self._gateway = gateway
        self._pollers = {poller.name: poller for poller in pollers}
        self._store = store
        self._loop_lag = LoopLag(gateway.clock)
        self._stalls: Stalls | None = None  # while running
        self._jobs: KeptJobs | None = None  # while running
        self._polling: dict[str, KeptJob] = {}
        self._has_begun = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything while the context is open. Leaving it cancels everything, and waits for the end."""
        stalls = Stalls(self._gateway.clock, self._gateway.observe)
        with closing(stalls) as self._stalls, self._loop_lag.watched(stalls.late):
            async with self._gateway.open(), self._started():
                yield

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[None]:
        saved = await self._saved()
        # Set before the first event is published: the epoch may change while saved values are on their way to the bus.
        self._gateway.on_epoch_changed = self._epoch_changed
        # All at once: if the bus is silent, the start waits for it once, and not for each backend.
        restoring = (poller.restore(saved) for poller in self._pollers.values())
        await asyncio.gather(self._gateway.published.restore(), *restoring)
        self._gateway.on_interest = self._interest_changed
        self._gateway.on_clock_set = self._clock_set
        self._gateway.retained.restated = self._corrected_for_age
        async with kept_running(
            {"gateway": self._gateway.run}, self._gateway.clock, observe=self._gateway.observe
        ) as self._jobs:
            self._start(self._pollers)
            yield
            for poller in self._pollers.values():
                poller.log_open_incidents()

    def rearrange(self, to: Rearrangement) -> dict[str, asyncio.Task[None]]:
        """Poll other backends and sources from now on, without awaiting anything; only while `running`.

        Returns the tasks of the pollers that end, by the names of their backends. Each is done when everything that its
        poller had to say was published. The caller closes the backend then.
        """
        before, self._pollers = self._pollers, rearrange(self._pollers, to)
        ending = {name: self._polling.pop(name) for name in before if name not in self._pollers}
        for job in ending.values():
            job.let_end()
        self._start(to.added)
        return {name: job.task for name, job in ending.items()}

    def _start(self, pollers: Mapping[str, BackendPoller]) -> None:
        assert self._jobs is not None, "it is running"
        for name, poller in pollers.items():
            self._polling[name] = self._jobs.start(f"poller {name}", poller.run)

    def readiness(self) -> Readiness:
        """Return whether the gateway is ready. A dead backend makes it degraded, not unready.

        Once every source was attempted, a source that is added later does not make it unready again. It is `stalled`
        after the event loop stood still, for as long as `Stalls.is_stalled`.
        """
        stale = sum(source.stale for source in self.sources())
        if self._gateway.clients.draining:
            return Readiness("draining", stale)
        if self._stalls is not None and self._stalls.is_stalled:
            return Readiness("stalled", stale)
        self._has_begun = self._has_begun or all(poller.attempted for poller in self._pollers.values())
        if not self._has_begun:
            return Readiness("starting", stale)
        return Readiness("degraded" if stale else "ready", stale)

    # `allowed` are the event types that a token covers. Its bearer sees and commands only what belongs to them.

    def coverage(self, allowed: PatternSet) -> Coverage:
        """Return what a token for `allowed` covers: breakers with a covered source, and backends with no other."""
        serves = [each for poller in self._pollers.values() for each in poller.serves.items()]
        polled = [(name, poller.event_types) for name, poller in self._pollers.items() if poller.event_types]
        return Coverage(
            types=allowed,
            breakers=frozenset(name for name, types in serves if _covers_one(allowed, types)),
            backends=frozenset(name for name, types in polled if _covers_all(allowed, types)),
        )

    def sources(self, allowed: PatternSet = EVERYTHING) -> list[SourceView]:
        """Return every source that is covered, in the order of the configuration's backends."""
        found = (source for poller in self._pollers.values() for source in poller.sources())
        return [source for source in found if allowed.matches(source.type)]

    def breakers(self, allowed: PatternSet = EVERYTHING) -> list[BreakerView]:
        """Return every breaker that serves a covered source, without an error that came from a source that is not."""
        return [
            _seen(view, allowed)
            for poller in self._pollers.values()
            for view in poller.breakers()
            if _covers_one(allowed, poller.serves[view.name])
        ]

    def breaker(self, name: str, allowed: PatternSet = EVERYTHING) -> BreakerView:
        """Return the breaker of that name, as `breakers` shows it. Raises `UnknownName` if there is none."""
        views = self.breakers(allowed)
        for view in views:
            if view.name == name:
                return view
        raise UnknownName(f"expected the name of a breaker{_listed(view.name for view in views)}, got {name[:255]!r}")

    def readings(self) -> Iterator[Reading]:
        """Yield what is read of the process and of all backends when the metrics are scraped."""
        started = self._gateway.started.seen_at(self._gateway.clock.now())
        yield Reading("tidegate_start_timestamp_seconds", started.wall)
        yield from self._loop_lag.readings()
        for poller in list(self._pollers.values()):
            yield from poller.readings()

    async def command(self, name: str, action: str, *, by: str, allowed: PatternSet = EVERYTHING) -> BreakerView:
        """Carry out an operator's command, one of `COMMANDS`, on a breaker. `by` is who asked, for the audit log.

        It takes effect even if the bus is silent. Then the answer comes after `publish_timeout_s`.

        Raises `UnknownName`, or `AccessRefused` (403) if the breaker also serves a source that is not covered.
        """
        self.breaker(name, allowed)  # raises for a name that is unknown, or that must not be seen
        poller = next(poller for poller in self._pollers.values() if name in poller.serves)
        if not _covers_all(allowed, poller.serves[name]):
            raise AccessRefused(403, f"expected a token that covers every source of the breaker {name!r}")
        if action not in COMMANDS:
            raise UnknownName(f"expected one of {', '.join(COMMANDS)}, got {action[:255]!r}")
        log.warning("operator command", breaker=name, action=action, by=by)
        try:
            view = await poller.command(name, COMMANDS[action])
        except KeyError:
            raise UnknownName(f"the breaker {name!r} was removed by a reload of the configuration") from None
        log.info("operator command done", breaker=name, action=action, by=by, state=view.state.value)
        return view

    async def poll(self, backend: str, allowed: PatternSet = EVERYTHING, *, only: Collection[str] = ()) -> None:
        """Poll the covered sources of `backend` now; of these only those of the types `only`, if it names any.

        Raises `UnknownName` if there are none, or if one of `only` is not among them. Then none is polled.
        """
        covered = {name: list(filter(allowed.matches, poller.event_types)) for name, poller in self._pollers.items()}
        if not covered.get(backend):
            known = sorted(name for name, types in covered.items() if types)
            raise UnknownName(f"expected the name of a backend{_listed(known)}, got {backend[:255]!r}")
        for event_type in only:
            if event_type not in covered[backend]:
                known = sorted(covered[backend])
                raise UnknownName(f"expected a source of {backend!r}{_listed(known)}, got {event_type[:255]!r}")
        self._pollers[backend].poll_now(only or covered[backend])

    def _interest_changed(self) -> None:
        for poller in self._pollers.values():
            poller.interest_changed()

    def _clock_set(self) -> None:
        for poller in self._pollers.values():
            poller.clock_set()

    def _epoch_changed(self) -> None:
        for poller in self._pollers.values():
            poller.epoch_changed()

    def _corrected_for_age(self, draft: Draft) -> Draft:
        corrected = (poller.corrected_for_age(draft) for poller in self._pollers.values())
        return next(filter(None, corrected), draft)

    async def _saved(self) -> dict[str, dict[str, SavedValue]]:
        saved: dict[str, dict[str, SavedValue]] = {}
        for value in await self._store.load() if self._store is not None else ():
            saved.setdefault(value.type, {})[value.key] = value
        return saved


def _covers_one(allowed: PatternSet, event_types: Iterable[str]) -> bool:
    return any(map(allowed.matches, event_types))


def _covers_all(allowed: PatternSet, event_types: Iterable[str]) -> bool:
    return all(map(allowed.matches, event_types))


def _seen(view: BreakerView, allowed: PatternSet) -> BreakerView:
    """Leave out an error that came from sources that are not covered: its text may contain their data."""
    if view.last_error is None or _covers_one(allowed, view.last_error.came_from) or allowed.is_everything:
        return view
    return msgspec.structs.replace(view, last_error=None)


def _listed(names: Iterable[str]) -> str:
    """Return `names` as an error message lists them: in parentheses, or nothing if there are none."""
    listed = ", ".join(names)
    return f" ({listed})" if listed else ""
