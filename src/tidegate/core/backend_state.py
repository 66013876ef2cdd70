"""All that is known of one polled backend: its sources, its breakers, who is asked next, and what was told of that.

Whoever polls tells it what happens, and carries out each `Decision` that comes back, in that order: see
`tidegate.runtime.poller`. It is one object, since a breaker's move speaks for all the sources behind that breaker, and
a hold for all breakers of the backend. Time and chance are arguments. Nothing in here waits, calls out or raises.

What is published is decided against what was said before, published or under way. What the bus refuses was never said,
and what was decided after it is refused with it: then everything that differs from what was told is said anew, the
moves of breakers first and without a hole.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, Self

import msgspec

from tidegate.core.backend_plan import BackendPlan
from tidegate.core.breaker import Breaker, BreakerView, CarriedBreaker, Permit, State, Transition
from tidegate.core.built_in import BreakerState
from tidegate.core.decision import Decision, Note, SavedValue
from tidegate.core.envelope import raw
from tidegate.core.events import Draft
from tidegate.core.freshness import Value
from tidegate.core.instant import Instant, rfc3339
from tidegate.core.lineup import Lineup, Turn
from tidegate.core.measurements import BreakerMoved, TicksMissed
from tidegate.core.outcome import Fault, Outcome, Verdict, batch_verdict, hold_s
from tidegate.core.schedule import CarriedTicks
from tidegate.core.source import CarriedSource, Source, SourceView

RESTATE_S = 0.5
"""What the bus refused is decided anew after so many seconds, or with whatever is published before that."""

Command = Literal["force-open", "force-closed", "reset"]
"""What an operator may do to a breaker."""


class CarriedBackend(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state of a `BackendState` but for the calls under way, as JSON can carry it, in Unix seconds.

    `untold` are the moves of breakers that the bus has not taken over yet, oldest first.
    """

    breakers: dict[str, CarriedBreaker]
    sources: dict[str, CarriedSource]
    ticks: dict[str, CarriedTicks]
    held_back: list[str]
    untold: list[Transition]


class BackendState:
    """One backend, while it is polled. Give each `Decision` that has drafts back to `taken` or `refused`, in order.

    `draw` gives a number in [0, 1) wherever chance is needed. With `keeps`, decisions say what to save. Call `begin`
    first, or make it with `resumed`.
    """

    def __init__(
        self,
        plan: BackendPlan,
        *,
        now: Instant,
        draw: Callable[[], float],
        keeps: bool,
        carried: CarriedBackend | None = None,
    ) -> None:
        self._plan = plan
        self._draw = draw
        self._sources = _sources(plan, keeps, carried, now)
        self._breakers = _breakers(plan, carried, now)
        self._behind: dict[str, list[Source]] = {
            name: [source for source in self._sources.values() if source.plan.breaker == name]
            for name in self._breakers
        }
        self.serves: Mapping[str, frozenset[str]] = {
            name: frozenset(source.type for source in behind) for name, behind in self._behind.items()
        }
        """The sources that stand behind each breaker, by its name."""
        self._lineup = Lineup(plan, sources=self._sources, breakers=self._breakers, behind=self._behind)
        self._moves_under_way: list[Transition] = []
        self._refused_moves: list[Transition] = []
        self._restate_at: float | None = None  # set while something that the bus refused is to be said anew
        if carried is None:
            self._lineup.begin(now, draw)
        else:
            self._lineup.resume(carried.ticks, carried.held_back, now)
            self._refused_moves += carried.untold
            self._restate_at = now.mono

    @classmethod
    def resumed(
        cls, plan: BackendPlan, carried: CarriedBackend, *, now: Instant, draw: Callable[[], float], keeps: bool
    ) -> Self:
        """Go on where `carried` left off, which is of the same `plan`; what was not told then is told soon."""
        return cls(plan, now=now, draw=draw, keeps=keeps, carried=carried)

    def carried(self, now: Instant) -> CarriedBackend:
        """The whole state at `now`. What is under way, at the backend or on the bus, counts as not done."""
        return CarriedBackend(
            breakers={name: breaker.carried(now) for name, breaker in self._breakers.items()},
            sources={name: source.carried(now) for name, source in self._sources.items()},
            ticks=self._lineup.carried(now),
            held_back=list(self._lineup.held_back),
            untold=[*self._refused_moves, *self._moves_under_way],
        )

    # what is asked of it

    @property
    def event_types(self) -> Collection[str]:
        """The backend's sources."""
        return self._sources.keys()

    @property
    def attempted(self) -> bool:
        """Whether every source's first attempt has ended, well or not."""
        return all(source.attempted for source in self._sources.values())

    def breakers(self, now: Instant) -> list[BreakerView]:
        return [self._shown(breaker, now) for breaker in self._breakers.values()]

    def breaker(self, name: str, now: Instant) -> BreakerView:
        """One of them; `KeyError` for any other name."""
        return self._shown(self._breakers[name], now)

    def sources(self, now: Instant) -> list[SourceView]:
        return [self._source_view(source, now) for source in self._sources.values()]

    def restated(self, draft: Draft, now: Instant) -> Draft | None:
        """What a retained draft of one of this backend's sources has to say now; None for any other draft."""
        source = self._sources.get((draft.key or "") if draft.type == "source.freshness" else draft.type)
        return None if source is None else source.restated(draft, now, self._seen_by(source, now))

    def wake_at(self) -> float | None:
        """Monotonic time of the next `tick` that changes something; None if time alone changes nothing."""
        times = [self._lineup.wake_at(), self._restate_at]
        if self._restate_at is None:  # else age is looked at then, and not before: the bus would be asked in a loop
            times += [source.review_at for source in self._sources.values()]
        return min((at for at in times if at is not None), default=None)

    # what happens to it, from outside

    def begin(self, saved: Mapping[str, Mapping[str, SavedValue]], now: Instant) -> Decision:
        """The process has started: values were read back from disk, by type and key, and breakers are closed."""
        out = Decision()
        for breaker in self._breakers.values():
            first = breaker.initial()
            out.measurements.append(BreakerMoved(first.breaker, first.state.value))
            out.moves.append(first)
        for source in self._sources.values():
            source.restore(saved.get(source.type, {}), now=now, breaker=self._seen_by(source, now), into=out)
        return self._finished(out, now)

    def command(self, breaker_name: str, action: Command, now: Instant) -> Decision:
        """An operator wants this of a breaker; `KeyError` for a name that no breaker has."""
        out = Decision()
        breaker = self._breakers[breaker_name]
        match action:
            case "force-open":
                transition = breaker.force_open(now)
            case "force-closed":
                transition = breaker.force_closed(now)
            case "reset":
                transition = breaker.reset(now)
        if action != "force-open":
            for other in self._breakers.values():
                other.release()
        if transition is not None:
            self._moved(transition, now, out)
        return self._finished(out, now)

    def hint(self, event_types: Iterable[str], now: Instant) -> None:
        """Something changed at the backend: these sources of it are due now."""
        self._lineup.hint(event_types, now)

    def interest_changed(self, is_wanted: Callable[[str], bool], now: Instant) -> bool:
        """Somebody came or went: sources with an idle interval that are wanted again are due now. Whether any are."""
        wanted = [source.type for source in self._sources.values() if source.idle and is_wanted(source.type)]
        self._lineup.hint(wanted, now)
        return bool(wanted)

    def clock_set(self, now: Instant) -> Decision:
        """The wall clock was set: what is on disk gets its `as_of` as that tells it now."""
        out = Decision()
        for source in self._sources.values():
            source.save(now, self._seen_by(source, now), out)
        return self._finished(out, now)

    # what happens to it, by time and calls

    def tick(self, now: Instant, *, is_wanted: Callable[[str], bool], only_news: bool = False) -> Decision:
        """Time has passed: line up who is due, and say what that means for those who are not asked.

        `is_wanted` tells whether anybody is subscribed to a type. With `only_news`, while the bus is stuck, nothing is
        said again that was said.
        """
        out = Decision()
        self._lineup.make_up_for_hold(now)
        for name, ticking in self._lineup.ticking(now).items():
            for source in ticking:
                self._follow_interest(source, is_wanted, now)
                self._count_missed(source, out)
            asked = set(self._lineup.line_up(name, ticking, now))
            self._repeat((source for source in ticking if source not in asked), now, out, only_news=only_news)
        if self._restate_at is None:
            for source in self._sources.values():
                at = source.review_at
                if at is not None and at <= now.mono:
                    source.review_age(now, self._seen_by(source, now), out)
        return self._finished(out, now)

    def next_turn(self, now: Instant) -> Turn | None:
        """Who is asked next, and has one of the backend's connections from now on; None while nobody can be.

        Every turn ends with one call of `ended`, `unprepared` or `abandoned`, or with an `admit` that gave no permit.
        """
        return self._lineup.next(now)

    def admit(self, turn: Turn, now: Instant) -> Decision:
        """The call can be sent. It is, right now, if there is a `Turn.permit` after this; else the turn is over."""
        out = Decision()
        permit = turn.breaker.permit(now)
        self._lineup.no_longer_waits(turn)
        if isinstance(permit, Permit):
            turn.permit, turn.sent = permit, now
            if permit.transition is not None:
                self._moved(permit.transition, now, out)
            for source in turn.group:
                source.sent(now)
        else:
            self._lineup.is_over(turn)
            self._lineup.note_held_back(turn.group, turn.breaker, now)
            self._repeat(turn.group, now, out)
        return self._finished(out, now)

    def unprepared(self, turn: Turn, fault: Fault, now: Instant) -> Decision:
        """Nothing could be sent, since something of our own is missing. The breaker hears nothing of that."""
        out = Decision()
        self._lineup.is_over(turn)
        self._record_outcomes(turn, [(fault, None)] * len(turn.group), turn.began, now, out)
        return self._finished(out, now)

    def ended(self, turn: Turn, outcomes: Sequence[tuple[Outcome, Value | None]], now: Instant) -> Decision:
        """The call has ended: what it came to for each source of the turn, with the value of an answer."""
        assert turn.permit is not None, "no call without a permit"
        out = Decision()
        verdict, fault = batch_verdict(outcome for outcome, _ in outcomes)
        came_from = frozenset(
            source.type for source, (outcome, _) in zip(turn.group, outcomes, strict=True) if outcome == fault
        )
        if wish_s := hold_s(outcome for outcome, _ in outcomes):
            self._hold(Instant(now.mono + wish_s, now.wall + wish_s), out)
        transition = turn.breaker.record(
            turn.permit, verdict, now=now, jitter=self._draw(), fault=fault, came_from=came_from
        )
        self._lineup.is_over(turn)
        self._record_outcomes(turn, outcomes, turn.sent, now, out)
        if transition is not None:
            self._moved(transition, now, out, told=turn.group)
        return self._finished(out, now)

    def abandoned(self, turn: Turn, now: Instant) -> None:
        """The turn was cancelled, wherever it was: that says nothing about the backend. Counts once."""
        if turn.is_over:
            return
        if turn.permit is not None:
            turn.breaker.record(turn.permit, Verdict.IGNORED, now=now, jitter=self._draw())
        self._lineup.is_over(turn)
        if self._restate_at is None:  # what was left for the end of the call to say has to be said without it
            self._restate_at = now.mono

    # what became of what it said

    def taken(self, decision: Decision) -> None:
        """The bus has published the drafts of `decision`: only now is it told what they say."""
        del self._moves_under_way[: len(decision.moves)]
        for name, told in decision.told.items():
            self._sources[name].taken(told)

    def refused(self, decision: Decision, now: Instant) -> None:
        """The bus has not published the drafts of `decision` and will not, nor any that were decided after it.

        All those decisions are given to this one after the other, with no other event between them.
        """
        refused = len(decision.moves)
        self._refused_moves += self._moves_under_way[:refused]
        del self._moves_under_way[:refused]
        for name in decision.told:
            self._sources[name].refused()
        for name, report in decision.reports:
            self._sources[name].report_refused(report)
        self._restate_at = now.mono + RESTATE_S

    def _finished(self, out: Decision, now: Instant) -> Decision:
        """Every decision ends here: with what is owed, and the moves of breakers before what they mean."""
        if self._restate_at is not None and (out.drafts or out.moves or now.mono >= self._restate_at):
            self._restate_at = None
            out.moves[:0] = self._refused_moves
            self._refused_moves.clear()
            for source in self._sources.values():
                source.restate(now, self._seen_by(source, now), out)
        if out.moves:
            self._moves_under_way += out.moves
            out.drafts[:0] = [self._move_draft(move) for move in out.moves]
        return out

    def _record_outcomes(
        self,
        turn: Turn,
        outcomes: Sequence[tuple[Outcome, Value | None]],
        sent: Instant,
        now: Instant,
        out: Decision,
    ) -> None:
        for source, (outcome, value) in zip(turn.group, outcomes, strict=True):
            seen = self._seen_by(source, now)
            source.ended(outcome, value, sent=sent, now=now, breaker=seen, draw=self._draw, into=out)

    def _hold(self, until: Instant, out: Decision) -> None:
        """The backend asks to be left alone, by all: each of its breakers is told.

        Who waits for a place is refused in its turn, which comes at once: the call that brought this leaves its own.
        """
        for breaker in self._breakers.values():
            breaker.hold(until)
        fields = {"backend": self._plan.name, "until": rfc3339(until.wall)}
        out.notes.append(Note("info", "backend asks to be left alone", fields))

    def _moved(self, transition: Transition, now: Instant, out: Decision, told: Sequence[Source] = ()) -> None:
        """A breaker moved: say so, and what it means for the sources behind it.

        `told` are those that the exchange which moved it speaks of already.
        """
        out.moves.append(transition)
        out.notes.append(_note_of(transition))
        out.measurements.append(BreakerMoved(transition.breaker, transition.state.value))
        others = [source for source in self._behind[transition.breaker] if source not in told]
        if transition.state is State.CLOSED:
            self._lineup.spread(others, now, self._draw)
        withdrawn = self._lineup.withdraw(now)
        self._repeat(withdrawn, now, out)
        for source in others:
            # The end of a call at its deadline tells what the move means for that source.
            if source not in withdrawn and not source.is_at_deadline(now):
                source.review(now, self._seen_by(source, now), out)

    def _repeat(self, sources: Iterable[Source], now: Instant, out: Decision, *, only_news: bool = False) -> None:
        for source in sources:
            source.repeat(now, self._seen_by(source, now), out, only_news=only_news)

    def _follow_interest(self, source: Source, is_wanted: Callable[[str], bool], now: Instant) -> None:
        if source.set_idle(source.plan.idle_interval_s is not None and not is_wanted(source.type)):
            self._lineup.follow_interval(source, now)

    def _count_missed(self, source: Source, out: Decision) -> None:
        """Count for the metrics what the schedule has counted since: ticks under a call, or under our own lateness."""
        missed = self._lineup.missed(source)
        if missed > source.missed_told:
            out.measurements.append(TicksMissed(source.type, missed - source.missed_told))
            source.missed_told = missed

    def _move_draft(self, move: Transition) -> Draft:
        data = BreakerState(
            breaker=move.breaker,
            state=move.state,
            from_state=move.from_state,
            reason=move.reason,
            forced=move.forced,
            failure_count=move.failure_count,
            open_count=move.open_count,
            opened_at=None if move.opened_at is None else rfc3339(move.opened_at),
            retry_at=None if move.retry_at is None else rfc3339(move.retry_at),
        )
        about = self.serves[move.breaker]
        return Draft(type="circuit_breaker.state", data=raw(data), key=move.breaker, retain=True, about=about)

    def _source_view(self, source: Source, now: Instant) -> SourceView:
        breaker = self._seen_by(source, now)
        next_poll_at = now.wall_at(self._lineup.next_poll_at(source, breaker, now))
        return source.view(now, breaker, next_poll_at=next_poll_at, missed_ticks=self._lineup.missed(source))

    def _seen_by(self, source: Source, now: Instant) -> BreakerView:
        """The breaker that `source` stands behind."""
        return self._shown(self._breakers[source.plan.breaker], now)

    def _shown(self, breaker: Breaker, now: Instant) -> BreakerView:
        breaker.follow_clock(now)
        return breaker.view()


def _sources(plan: BackendPlan, keeps: bool, carried: CarriedBackend | None, now: Instant) -> dict[str, Source]:
    if carried is None:
        return {each.spec.type: Source(each, plan, keeps=keeps) for each in plan.sources}
    parts = carried.sources
    return {
        each.spec.type: Source.resumed(each, plan, parts[each.spec.type], keeps=keeps, now=now) for each in plan.sources
    }


def _breakers(plan: BackendPlan, carried: CarriedBackend | None, now: Instant) -> dict[str, Breaker]:
    names = dict.fromkeys(each.breaker for each in plan.sources)
    if carried is None:
        return {name: Breaker(name, plan.breaker, now=now) for name in names}
    return {name: Breaker.resumed(name, plan.breaker, carried.breakers[name], now=now) for name in names}


def _note_of(move: Transition) -> Note:
    fields = {
        "breaker": move.breaker,
        "state": move.state.value,
        "reason": move.reason.value,
        "failures": move.failure_count,
        "retry_at": None if move.retry_at is None else rfc3339(move.retry_at),
    }
    return Note("info", "breaker moved", fields)
