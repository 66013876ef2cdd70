"""What changes for one backend when it is polled by another plan: in place, within one step, and never more than that.

What the plan leaves as it is goes on: its value, schedule, breaker, and calls under way. A source that is asked, or
whose answers are read, in another way is another value: what was held is handed on as stale until the first answer. A
source that is gone is told gone. All of it is said in one decision, so that subscribers never hear half of it.
"""

from collections.abc import Callable, Iterable, Mapping

from tidegate.core.instant import Instant
from tidegate.core.polling.accounts import Accounts
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.breaker_values import Reason
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.held_source import HeldSource
from tidegate.core.polling.lineup import Lineup
from tidegate.core.polling.moves import Moves
from tidegate.core.polling.origins import adopted, returned
from tidegate.core.polling.outcome import Verdict
from tidegate.core.polling.results import Results
from tidegate.core.polling.source import Source
from tidegate.core.polling.telling import Telling


class Replanning:
    """Has the parts of one backend follow another plan."""

    def __init__(
        self,
        parts: BackendParts,
        *,
        lineup: Lineup,
        moves: Moves,
        results: Results,
        accounts: Accounts,
        telling: Telling,
        draw: Callable[[], float],
    ) -> None:
        self._parts = parts
        self._lineup = lineup
        self._moves = moves
        self._results = results
        self._accounts = accounts
        self._telling = telling
        self._draw = draw

    def follow(
        self,
        plan: BackendPlan,
        now: Instant,
        into: Decision,
        *,
        held: Mapping[str, HeldSource],
        is_other_service: bool,
    ) -> None:
        """Follow `plan` from now on. `held` are sources from other backends, by event type.

        `is_other_service`: no value that is held was asked for as it will be. Call `begin_session` next, if there is
        another session.
        """
        parts, before = self._parts, dict(self._parts.sources)
        breakers = {source: source.plan.breaker for source in before.values()}
        sources = {
            each.spec.type: self._source(each, plan, now, into, held=held, is_other_service=is_other_service)
            for each in plan.sources
        }
        gone = [source for name, source in before.items() if name not in sources]
        leaving = [source.leaving(now, parts.seen_by(source, now), into) for source in gone]
        started, ended = parts.follow(plan, sources, now)
        changed = {source for source, breaker in breakers.items() if source.plan.breaker != breaker}
        replaced = {source: sources.get(name) for name, source in before.items() if sources.get(name) is not source}
        incidents = self._moves.incidents
        incidents.removed([source.type for source in gone], now, into)
        incidents.removed([source.type for source in replaced], now, into, reason="changed by reload")
        passed_over = self._lineup.line.outdate({*replaced, *changed})
        self._lineup.follow_plan(plan, replaced.keys())
        self._results.follow(plan)
        into.moves += [breaker.initial(Reason.RELOAD) for breaker in started]
        for each in ended:
            self._telling.end_breaker(each, into)
        self._say(sources.values(), held, now, into)
        self._telling.leaves(leaving, into)
        trial = self._accounts.follow(replaced, now)
        late = self._placed(sources.values(), now)
        others = filter(None, replaced.values())
        asked = dict.fromkeys([*others, *late, *changed.intersection(sources.values()), *passed_over])
        self._lineup.ask([*asked, *([] if trial is None else [trial])])

    def begin_session(self, now: Instant, into: Decision, *, can_knock: bool) -> None:
        """The backend is called in another session from now on: give up what was under way, and begin anew."""
        for turn in self._lineup.follow_session(can_knock=can_knock, into=into):
            if turn.permit is not None:
                turn.breaker.record(turn.permit, Verdict.IGNORED, now=now, jitter=self._draw())
        self._results.busy = 0
        self._accounts.clear()
        for breaker in self._parts.breakers.values():
            self._moves.take_in(breaker.restart(now), now, into)
        self._lineup.follow(self._parts.sources.values(), now)

    def release(self, event_types: Iterable[str], now: Instant) -> dict[str, HeldSource]:
        """Take sources out without a word."""
        released = {name: self._parts.sources[name] for name in event_types}
        gone = dict.fromkeys(released.values())
        self._moves.incidents.released(released, now)
        self._parts.remove(released, now)
        self._lineup.ask(self._lineup.line.outdate(gone))
        self._lineup.forget(gone)
        self._accounts.follow(gone, now)
        return {name: source.released() for name, source in released.items()}

    def _source(
        self,
        each: SourcePlan,
        plan: BackendPlan,
        now: Instant,
        into: Decision,
        *,
        held: Mapping[str, HeldSource],
        is_other_service: bool,
    ) -> Source:
        """The source that is polled as `each` says: the one that was, or another."""
        name, keeps = each.spec.type, self._parts.keeps
        if name in held:
            return adopted(each, plan, held[name], keeps=keeps, now=now)
        before = self._parts.sources.get(name)
        if before is not None:
            if is_other_service or each.is_other_value_than(before.plan):
                return before.followed_by(each, plan, now, into)
            before.follow(each, plan)
            return before
        leaving = self._telling.returns(name)
        if leaving is None:
            return Source(each, plan, keeps=keeps, now=now)
        return returned(each, plan, leaving, keeps=keeps, now=now)

    def _say(self, sources: Iterable[Source], held: Mapping[str, HeldSource], now: Instant, into: Decision) -> None:
        """Publish what has changed for the data of `sources`."""
        for source in sources:
            breaker = self._parts.seen_by(source, now)
            if source.type in held:
                source.publish_owed(now, breaker, into)
            else:
                source.publish_changes(now, breaker, into)

    def _placed(self, sources: Iterable[Source], now: Instant) -> list[Source]:
        """Give all `sources` ticks at their intervals. Return those that are to be asked before them."""
        phases: dict[float, float] = {}
        return [source for source in sources if self._lineup.place(source, phases, now)]
