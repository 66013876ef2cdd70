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
from tidegate.core.polling.origins import adopted, followed, returned
from tidegate.core.polling.outcome import Verdict
from tidegate.core.polling.results import Results
from tidegate.core.polling.source import Source
from tidegate.core.polling.telling import Telling


class Replanning:
    """Has the parts of one backend follow another plan."""

    def __init__(
        self,
        parts: BackendParts,
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

    def replan(
        self,
        plan: BackendPlan,
        now: Instant,
        *,
        can_knock: bool | None = None,
        is_other_service: bool = False,
        held: Mapping[str, HeldSource] = {},
    ) -> Decision:
        """Follow another `plan` of the same backend from now on. The decision is as those of `BackendState`.

        `can_knock` is given if the backend is called in another session from now on. Then all turns end with this:
        give what becomes of their calls to nobody. `is_other_service`: no value that is held is what will be asked for.
        `held` are sources from another backend, by event type.
        """
        out = Decision()
        before = dict(self._parts.sources)
        breakers = {source: source.plan.breaker for source in before.values()}
        sources = {
            each.spec.type: self._source(each, plan, now, out, held=held, is_other_service=is_other_service)
            for each in plan.sources
        }
        self._leave([source for name, source in before.items() if name not in sources], now, out)
        self._follow(plan, sources, now, out)
        moved = [source for source, name in breakers.items() if source.plan.breaker != name]
        replaced = {source: sources.get(name) for name, source in before.items() if sources.get(name) is not source}
        incidents = self._moves.incidents
        incidents.removed([source.type for source, successor in replaced.items() if successor is None], now, out)
        incidents.removed([source.type for source in replaced], now, out, reason="changed by reload")
        self._ask_anew(moved, replaced, plan, now)
        for source in sources.values():
            breaker = self._parts.seen_by(source, now)
            (source.publish_owed if source.type in held else source.publish_changes)(now, breaker, out)
        if can_knock is not None:
            self._begin_session(now, out, can_knock=can_knock, is_other_service=is_other_service)
        return self._telling.completed(out, now)

    def release(self, event_types: Iterable[str], now: Instant) -> dict[str, HeldSource]:
        """Take sources out, for another backend to adopt. Nobody is told. Call `replan` next."""
        released = {name: self._parts.sources[name] for name in event_types}
        gone = dict.fromkeys(released.values())
        self._moves.incidents.released(released, now)
        self._parts.remove(released, now)
        self._lineup.ask(self._lineup.line.outdate(gone))
        self._lineup.forget(gone)
        self._accounts.follow(gone, now)
        return {name: source.freshness.released() for name, source in released.items()}

    @property
    def is_told(self) -> bool:
        """Whether subscribers have been told of everything that is gone."""
        return self._telling.is_over

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
                return followed(before, each, plan, now=now, into=into)
            before.follow(each, plan)
            return before
        leaving = self._telling.returns(name)
        if leaving is None:
            return Source(each, plan, keeps=keeps, now=now)
        return returned(each, plan, leaving, keeps=keeps, now=now)

    def _leave(self, gone: Iterable[Source], now: Instant, into: Decision) -> None:
        """Sources are polled no longer. Call it while their breakers are known."""
        leaving = [source.freshness.leaving(now, self._parts.seen_by(source, now)) for source in gone]
        for source in gone:
            source.forget_saved(into)
        self._telling.leaves(leaving, into)

    def _follow(self, plan: BackendPlan, sources: Mapping[str, Source], now: Instant, into: Decision) -> None:
        """Have `sources` from now on, and the breakers and numbers of `plan`."""
        started, ended = self._parts.follow(plan, sources, now)
        into.moves += [breaker.initial(Reason.RELOAD) for breaker in started]
        for each in ended:
            self._telling.end_breaker(each, into)
        self._results.follow(plan)

    def _ask_anew(
        self, moved: Iterable[Source], replaced: Mapping[Source, Source | None], plan: BackendPlan, now: Instant
    ) -> None:
        """Ask by `plan` from now on: soon those that `moved` to another breaker, that follow others, or are new."""
        passed_over = self._lineup.line.outdate({*replaced, *moved})
        self._lineup.follow_plan(plan, replaced.keys())
        trial = self._accounts.follow(replaced, now)
        others = [source for source in (*replaced.values(), trial) if source is not None]
        kept = [source for source in (*moved, *passed_over) if self._parts.has(source)]
        self._lineup.ask([*others, *kept, *self._placed(now)])

    def _placed(self, now: Instant) -> list[Source]:
        """Give all sources ticks at their intervals. Return those whose ticks begin too late for a first poll."""
        schedule, late = self._lineup.schedule, []
        phases: dict[float, float] = {}  # of those that share an interval, and have nobody to join
        for source in self._parts.sources.values():
            interval_s = source.interval_s
            if schedule.interval_s(source.type) != interval_s:
                phase = phases.setdefault(interval_s, self._draw())
                if schedule.join(source.type, interval_s=interval_s, phase=phase, now=now.mono):
                    late.append(source)
        return late

    def _begin_session(self, now: Instant, into: Decision, *, can_knock: bool, is_other_service: bool) -> None:
        """Give up what was under way, and begin anew. The same service is left alone for as long as it has asked."""
        for turn in self._lineup.follow_session(can_knock=can_knock, into=into):
            if turn.permit is not None:
                turn.breaker.record(turn.permit, Verdict.IGNORED, now=now, jitter=self._draw())
        self._telling.owe(now)  # sources may have waited for the end of their call to speak
        if is_other_service:
            self._results.busy = 0
        self._accounts.clear()
        for breaker in self._parts.breakers.values():
            self._moves.take_in(breaker.restart(now, is_other_service=is_other_service), now, into)
        self._lineup.follow(self._parts.sources.values(), now)
        if self._parts.is_held(now):
            self._lineup.hold()
