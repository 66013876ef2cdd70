"""The sources and breakers of one backend, and which source stands behind which breaker.

It only passes to each source what concerns it, with the view of its breaker. The rules are elsewhere.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from tidegate.core.events import Draft
from tidegate.core.instant import Instant
from tidegate.core.polling.ages import Ages
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import BreakerGone, BreakerView, Reason, State, Transition
from tidegate.core.polling.carried import CarriedBackend
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.drafts import FRESHNESS_TYPE
from tidegate.core.polling.open_time import OpenTime
from tidegate.core.polling.origins import resumed
from tidegate.core.polling.source import Source

K = TypeVar("K")
V = TypeVar("V")


class BackendParts:
    """The parts of one backend, new or as they were `carried` from another process.

    `sources` and `breakers` are by name. `behind` are the sources that stand behind each breaker, and `serves` their
    event types.
    """

    def __init__(self, plan: BackendPlan, *, keeps: bool, carried: CarriedBackend | None, now: Instant) -> None:
        self.keeps = keeps
        self.sources = _sources(plan, keeps, carried, now)
        self.breakers = _breakers(plan, carried, now)
        self.behind: dict[str, Sequence[Source]] = {}
        self.serves: dict[str, frozenset[str]] = {}
        self._open_times: defaultdict[str, OpenTime] = defaultdict(OpenTime)
        self._arrange(now)
        self._served = dict(self.serves)  # `remove` does not change it, as nobody is told

    def follow(
        self, plan: BackendPlan, sources: Mapping[str, Source], now: Instant
    ) -> tuple[list[Breaker], list[BreakerGone]]:
        """Have these `sources` from now on, behind breakers by another `plan`. Return which breakers began and ended.

        Everybody who has the mappings of this sees the change.
        """
        names = dict.fromkeys(each.breaker for each in plan.sources)
        gone = [BreakerGone(name, self._served[name]) for name in self.breakers if name not in names]
        held_until = next((breaker.view().held_until for breaker in self.breakers.values()), None)
        for breaker in self.breakers.values():
            breaker.follow(plan.breaker)
        started = [Breaker(name, plan.breaker, now=now) for name in names if name not in self.breakers]
        for breaker in started:
            if held_until is not None:
                breaker.hold(held_until)
        breakers = {**self.breakers, **{breaker.name: breaker for breaker in started}}
        _replace(self.breakers, {name: breakers[name] for name in names})
        _replace(self.sources, sources)
        self._arrange(now)
        self._served = dict(self.serves)
        return started, gone

    def remove(self, event_types: Iterable[str], now: Instant) -> None:
        """Have these sources no longer. Their breakers stay, until `follow`."""
        for event_type in event_types:
            del self.sources[event_type]
        self._arrange(now)

    def _arrange(self, now: Instant) -> None:
        behind: dict[str, list[Source]] = {name: [] for name in self.breakers}
        for source in self.sources.values():
            behind[source.plan.breaker].append(source)
        serves = {name: frozenset(source.type for source in sources) for name, sources in behind.items()}
        _replace(self.behind, behind)
        same = {name: before for name, before in self.serves.items() if serves.get(name) == before}
        _replace(self.serves, serves | same)  # equal sets stay the same object: the hub routes events by them
        self.ages = Ages(self.sources.values())
        self.ages.all_changed()
        for name in [name for name in self._open_times if name not in self.breakers]:
            del self._open_times[name]
        for name in self.breakers:
            self.note_move(name, now)

    def has(self, source: Source) -> bool:
        """Whether `source` is one of them. Another one of its type may have taken its place."""
        return self.sources.get(source.type) is source

    def note_move(self, breaker_name: str, now: Instant) -> None:
        """A breaker has moved, or is new: from now on, times are counted by its state of now."""
        self.open_s(breaker_name, now)
        view = self.view(breaker_name, now)
        for source in self.behind[breaker_name]:
            source.note_verdict(now, view)

    def open_s(self, breaker_name: str, now: Instant) -> float:
        """Return for how many seconds a breaker was open, half-open not counted."""
        is_open = self.breakers[breaker_name].view().state is State.OPEN
        return self._open_times[breaker_name].noted(now, is_open=is_open)

    def views(self, now: Instant) -> list[BreakerView]:
        """Every breaker as it is shown at `now`."""
        return [_shown(breaker, now) for breaker in self.breakers.values()]

    def view(self, name: str, now: Instant) -> BreakerView:
        """One breaker as it is shown at `now`. Raises `KeyError` for a name that no breaker has."""
        return _shown(self.breakers[name], now)

    def seen_by(self, source: Source, now: Instant) -> BreakerView:
        """The breaker that `source` stands behind, as it is shown at `now`."""
        return _shown(self.breakers[source.plan.breaker], now)

    def is_barred(self, source: Source) -> bool:
        """Whether an operator has forced its breaker open, so that nobody can ask `source`."""
        breaker = self.breakers[source.plan.breaker].view()
        return breaker.forced and not breaker.is_closed

    def hold(self, until: Instant) -> None:
        """The backend asks for no call before `until`."""
        for breaker in self.breakers.values():
            breaker.hold(until)

    def is_held(self, now: Instant) -> bool:
        """Whether the backend has asked for no call at `now`."""
        return any(breaker.is_held(now) for breaker in self.breakers.values())

    def release(self) -> None:
        """End the hold."""
        for breaker in self.breakers.values():
            breaker.release()

    def first_moves(self, reason: Reason = Reason.START) -> list[Transition]:
        """The moves that tell of each breaker to those who have heard nothing."""
        return [breaker.initial(reason) for breaker in self.breakers.values()]

    def not_asked(self, sources: Iterable[Source], now: Instant, into: Decision, *, only_news: bool = False) -> None:
        """These `sources` were due, but are not asked. See `Source.not_asked`."""
        for source in sources:
            source.not_asked(now, self.seen_by(source, now), into, only_news=only_news)

    def check_ages(self, now: Instant, into: Decision) -> None:
        """Publish what time alone has changed."""
        due = self.ages.take_due(now)
        for source in due:
            source.check_age(now, self.seen_by(source, now), into)
        self.ages.changed(source.type for source in due)

    def corrected_for_age(self, draft: Draft, now: Instant) -> Draft | None:
        """Return what a retained draft of one of the sources has to say at `now`; None for any other draft."""
        source = self.sources.get((draft.key or "") if draft.type == FRESHNESS_TYPE else draft.type)
        return None if source is None else source.corrected_for_age(draft, now, self.seen_by(source, now))


def _replace(mapping: dict[K, V], by: Mapping[K, V]) -> None:
    """Give `mapping` the contents of `by`."""
    mapping.clear()
    mapping |= by


def _shown(breaker: Breaker, now: Instant) -> BreakerView:
    breaker.follow_clock(now)
    return breaker.view()


def _sources(plan: BackendPlan, keeps: bool, carried: CarriedBackend | None, now: Instant) -> dict[str, Source]:
    if carried is None:
        return {each.spec.type: Source(each, plan, keeps=keeps, now=now) for each in plan.sources}
    parts = carried.sources
    return {each.spec.type: resumed(each, plan, parts[each.spec.type], keeps=keeps, now=now) for each in plan.sources}


def _breakers(plan: BackendPlan, carried: CarriedBackend | None, now: Instant) -> dict[str, Breaker]:
    names = dict.fromkeys(each.breaker for each in plan.sources)
    if carried is None:
        return {name: Breaker(name, plan.breaker, now=now) for name in names}
    return {name: Breaker.from_carried(name, plan.breaker, carried.breakers[name], now=now) for name in names}
