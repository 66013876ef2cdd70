"""The sources and breakers of one backend, and which source stands behind which breaker.

It only passes to each source what concerns it, with the view of its breaker. The rules are elsewhere.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tidegate.core.events import Draft
from tidegate.core.instant import Instant
from tidegate.core.polling.ages import Ages
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import BreakerView, State, Transition
from tidegate.core.polling.carried import CarriedBackend
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.drafts import FRESHNESS_TYPE
from tidegate.core.polling.open_time import OpenTime
from tidegate.core.polling.source import Source


class BackendParts:
    """The parts of one backend, new or as they were `carried` from another process.

    `sources` and `breakers` are by name. `behind` are the sources that stand behind each breaker, and `serves` their
    event types.
    """

    def __init__(self, plan: BackendPlan, *, keeps: bool, carried: CarriedBackend | None, now: Instant) -> None:
        self.sources: Mapping[str, Source] = _sources(plan, keeps, carried, now)
        self.breakers = _breakers(plan, carried, now)
        self.behind: Mapping[str, Sequence[Source]] = {
            name: [source for source in self.sources.values() if source.plan.breaker == name] for name in self.breakers
        }
        self.serves: Mapping[str, frozenset[str]] = {
            name: frozenset(source.type for source in behind) for name, behind in self.behind.items()
        }
        self.ages = Ages(self.sources.values())
        self._open_times: defaultdict[str, OpenTime] = defaultdict(OpenTime)
        for name in self.breakers:
            self.note_move(name, now)

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

    def first_moves(self) -> list[Transition]:
        """The moves that tell of each breaker to those who have heard nothing."""
        return [breaker.initial() for breaker in self.breakers.values()]

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


def _shown(breaker: Breaker, now: Instant) -> BreakerView:
    breaker.follow_clock(now)
    return breaker.view()


def _sources(plan: BackendPlan, keeps: bool, carried: CarriedBackend | None, now: Instant) -> dict[str, Source]:
    if carried is None:
        return {each.spec.type: Source(each, plan, keeps=keeps, now=now) for each in plan.sources}
    parts = carried.sources
    return {
        each.spec.type: Source.from_carried(each, plan, parts[each.spec.type], keeps=keeps, now=now)
        for each in plan.sources
    }


def _breakers(plan: BackendPlan, carried: CarriedBackend | None, now: Instant) -> dict[str, Breaker]:
    names = dict.fromkeys(each.breaker for each in plan.sources)
    if carried is None:
        return {name: Breaker(name, plan.breaker, now=now) for name in names}
    return {name: Breaker.from_carried(name, plan.breaker, carried.breakers[name], now=now) for name in names}
