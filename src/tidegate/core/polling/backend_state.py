"""Everything that is known of one backend, and what follows from each thing that happens to it.

`tick` lines up who is due, `next_turn` says who is asked next, `admit` asks the breaker, and `ended` takes in what came
of the call. The parts are `lineup` (who is asked when), `breaker` (whether the backend may be asked), `source` with
`freshness` (what is known of the data), `results` (what the end of a call means) and `telling` (what subscribers have
been told).

The poller tells it what happens, and carries out each `Decision` that comes back, in that order: see
`tidegate.runtime.poller`. It is one object because a breaker's move concerns all sources behind that breaker, and a
hold all breakers of the backend. Time and chance are arguments. Nothing in here waits, calls out or raises.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from tidegate.core.events import Draft
from tidegate.core.instant import Instant
from tidegate.core.polling.accounts import Accounts
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.breaker_values import BreakerView, Reason
from tidegate.core.polling.carried import CarriedBackend
from tidegate.core.polling.decision import Decision, SavedValue
from tidegate.core.polling.figures import backend_readings
from tidegate.core.polling.hinted import Hinted
from tidegate.core.polling.lineup import Lineup
from tidegate.core.polling.moves import Command, Moves
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.polling.permit import Permit
from tidegate.core.polling.replanning import Replanning
from tidegate.core.polling.results import Ends, Results
from tidegate.core.polling.showing import source_view
from tidegate.core.polling.source import Source
from tidegate.core.polling.source_values import SourceView
from tidegate.core.polling.telling import Telling
from tidegate.core.polling.turn import Knock, Turn


class BackendState:
    """One backend, while it is polled. Call `begin` first, unless it was `carried` from another process.

    With `carried`, of the same `plan`, it goes on where that left off; what was not told then is told soon. Give each
    `Decision` that has drafts back to `taken` or `refused`, in order. `draw` returns a random number in [0, 1). With
    `keeps`, decisions say what to save. `can_knock` is whether there is a way to knock at the backend.
    """

    def __init__(
        self,
        plan: BackendPlan,
        *,
        now: Instant,
        draw: Callable[[], float],
        keeps: bool,
        can_knock: bool = False,
        carried: CarriedBackend | None = None,
    ) -> None:
        self._draw = draw
        self._parts = parts = BackendParts(plan, keeps=keeps, carried=carried, now=now)
        self._sources, self._breakers = parts.sources, parts.breakers
        self.serves: Mapping[str, frozenset[str]] = parts.serves
        """The sources that stand behind each breaker, by its name."""
        self.readings = partial(backend_readings, plan.name, parts)
        self._lineup = lineup = Lineup(plan, parts, draw=draw, can_knock=can_knock)
        self._accounts = accounts = Accounts(parts.sources.values(), is_barred=parts.is_barred)
        self._hinted = Hinted(parts, lineup, accounts)
        self._moves = moves = Moves(plan, parts, lineup)
        self._results = Results(plan, parts=parts, lineup=lineup, moves=moves, accounts=accounts, draw=draw)
        self._begun: Knock | None = None  # a knock that `next_knock` has yet to return
        self._telling = telling = Telling(parts)
        self.replanning = Replanning(parts, lineup, moves, self._results, accounts, telling, draw)
        """Have the backend follow another plan with this."""
        if carried is None:
            lineup.begin(now)
        else:
            lineup.resume(carried.ticks, held_back=carried.held_back, due=carried.due, now=now)
            telling.resume(carried.untold, now)
            self._results.busy = carried.busy

    def carried(self, now: Instant) -> CarriedBackend:
        """The whole state at `now`. A call under way, or an event on its way to the bus, counts as if it never was."""
        return CarriedBackend(
            breakers={name: breaker.carried(now) for name, breaker in self._breakers.items()},
            sources={name: source.carried(now) for name, source in self._sources.items()},
            ticks={name: self._lineup.schedule.carried(name, now) for name in self._sources},
            held_back=self._lineup.held_back,
            due=self._lineup.due,
            busy=self._results.busy,
            untold=self._telling.untold,
        )

    # what is asked of it

    @property
    def event_types(self) -> Collection[str]:
        """The backend's sources."""
        return self._sources.keys()

    @property
    def attempted(self) -> bool:
        """Whether every source was `attempted`."""
        return all(source.attempted for source in self._sources.values())

    def breakers(self, now: Instant) -> list[BreakerView]:
        return self._parts.views(now)

    def breaker(self, name: str, now: Instant) -> BreakerView:
        """One of them. Raises `KeyError` for any other name."""
        return self._parts.view(name, now)

    def sources(self, now: Instant) -> list[SourceView]:
        return [self._source_view(source, now) for source in self._sources.values()]

    def corrected_for_age(self, draft: Draft, now: Instant) -> Draft | None:
        """Return what a retained draft of one of this backend's sources has to say now; None for any other draft."""
        return self._parts.corrected_for_age(draft, now)

    def wake_at(self) -> float | None:
        """Monotonic time of the next `tick` that changes something; None if time alone changes nothing."""
        times = [self._lineup.wake_at(), self._accounts.read_at, self._telling.owed_due_at, self._moves.wake_at]
        if self._telling.owed_due_at is None:  # else age is checked then: earlier, the bus would be tried in a loop
            times.append(self._parts.ages.next_at)
        return min((at for at in times if at is not None), default=None)

    # what happens to it, from outside

    def begin(
        self, saved: Mapping[str, Mapping[str, SavedValue]], now: Instant, *, reason: Reason = Reason.START
    ) -> Decision:
        """Polling starts, for that `reason`: breakers are closed. `saved` was read back from disk, by type and key."""
        out = Decision()
        self._telling.begin(self._parts.first_moves(reason), now)
        for source in self._sources.values():
            source.load_saved(saved.get(source.type, {}), now=now, breaker=self._parts.seen_by(source, now), into=out)
        return self._telling.completed(out, now)

    def epoch_changed(self, now: Instant) -> None:
        """Another sequence of events begins, in which nothing was told: the next `tick` tells everything."""
        self._telling.epoch_changed(self._parts.first_moves(), now)

    def command(self, breaker_name: str, action: Command, now: Instant) -> Decision:
        """Carry out an operator's command on a breaker. Raises `KeyError` for a name that no breaker has."""
        out = Decision()
        self._moves.command(breaker_name, action, now, out)
        return self._telling.completed(out, now)

    def hint(self, event_types: Iterable[str], now: Instant) -> None:
        """Something changed at the backend: ask these sources now, and let the probe of an open breaker go."""
        self._hinted.from_outside(event_types, now)

    def changed(self, event_types: Iterable[str], now: Instant) -> None:
        """The backend says that these sources changed: ask them soon, unless their breaker is open."""
        self._hinted.from_backend(event_types, now)

    def interest_changed(self, is_wanted: Callable[[str], bool], now: Instant) -> bool:
        """A client came or left: idle sources that are wanted again are due now. Return whether there are any."""
        wanted = [source for source in self._sources.values() if source.idle and is_wanted(source.type)]
        for source in wanted:
            self._follow_interest(source, is_wanted, now)
        self._lineup.ask(wanted)
        return bool(wanted)

    def begin_reading(self, now: Instant) -> bool:
        """Return whether the secret for the backend has to be read now: give it to `secret_read`."""
        read_at = self._accounts.read_at
        if read_at is None or now.mono < read_at:
            return False
        self._accounts.reading(now)
        return True

    def secret_read(self, secret: bytes, now: Instant) -> None:
        """The secret was read, for sources that wait since another may have been refused. It is empty without one."""
        trial = self._accounts.read(secret, now)
        self._lineup.ask([] if trial is None else [trial])

    def open_incidents(self, now: Instant) -> Decision:
        """Return the lines for the log about what fails at the moment."""
        out = Decision()
        self._moves.incidents.say_open(now, out)
        return out

    def clock_set(self, now: Instant) -> Decision:
        """The wall clock was set: save all values again, with their `as_of` by the new time."""
        out = Decision()
        for source in self._sources.values():
            source.save(now, self._parts.seen_by(source, now), out)
        return self._telling.completed(out, now)

    # what happens to it, by time and calls

    def tick(self, now: Instant, *, is_wanted: Callable[[str], bool], only_news: bool = False) -> Decision:
        """Time has passed: line up the sources that are due, and say what follows for those that are not asked.

        `is_wanted` tells whether any client is subscribed to a type. With `only_news`, while the bus is stuck, stale
        events are not repeated.
        """
        out = Decision()
        for name, ticked in self._lineup.take_due(now).items():
            for source in ticked:
                self._follow_interest(source, is_wanted, now)
                self._lineup.punctuality.count_missed(source, self._lineup.schedule.missed(source.type), out)
            asked = set(self._lineup.line_up(name, ticked, now, out))
            self._parts.not_asked((source for source in ticked if source not in asked), now, out, only_news=only_news)
        self._lineup.line_up_others(now, out)
        self._begun = self._lineup.probing.knock(now, out, may_begin=not only_news)
        if self._telling.owed_due_at is None:
            self._parts.check_ages(now, out)
        self._moves.incidents.tick(now, out)
        return self._telling.completed(out, now)

    def next_turn(self, now: Instant) -> Turn | None:
        """Return who is asked next, and occupies one of the backend's connections from now on; None if nobody.

        Every turn ends with one call of `ended`, `unprepared` or `abandoned`, or with an `admit` that gives no permit.
        """
        return self._lineup.line.next(now)

    def next_knock(self) -> Knock | None:
        """Return the knock that begins now; None if there is none. It ends with `knocked`, or is over before that."""
        begun, self._begun = self._begun, None
        return begun

    def knocked(self, knock: Knock, now: Instant, *, reached: bool) -> tuple[Turn | None, Decision]:
        """`knock` has ended, and the backend was `reached` or not. Return the turn that goes on with its connection."""
        out = Decision()
        turn = self._lineup.probing.knocked(knock, reached=reached, now=now, into=out)
        return turn, self._telling.completed(out, now)

    def knock_abandoned(self, knock: Knock, now: Instant) -> None:
        """The knock was cancelled. Counts once."""
        self._lineup.probing.abandoned(knock, now)

    def admit(self, turn: Turn, now: Instant, *, secret: bytes = b"") -> Decision:
        """The call is ready, and authenticates with `secret`. Send it at once if there is a `Turn.permit` after this.

        Otherwise the turn is over.
        """
        out = Decision()
        if turn.is_outdated:
            self._lineup.line.end(turn)
            self._lineup.ask(filter(self._parts.has, turn.group))
            return self._telling.completed(out, now)
        permit = turn.breaker.permit(now, timeout_s=turn.timeout_s, reached=turn.reached)
        self._lineup.line.forget_probe(turn)
        if isinstance(permit, Permit):
            turn.permit, turn.sent, turn.secret = permit, now, secret
            if permit.transition is not None:
                self._moves.take_in(permit.transition, now, out)
            self._lineup.sent(turn, now, out)
        else:
            self._lineup.line.end(turn)
            self._lineup.refused(turn.group, turn.breaker, now)
            self._moves.not_asked(turn, now, out)
        return self._telling.completed(out, now)

    def unprepared(self, turn: Turn, fault: Fault, now: Instant) -> Decision:
        """Nothing could be sent, since credentials are missing, say. No breaker counts that: it is our own fault."""
        out = Decision()
        self._lineup.line.end(turn)
        self._results.tell_sources(turn, [(fault, None)] * len(turn.group), turn.began, now, out)
        return self._telling.completed(out, now)

    def ended(self, turn: Turn, ends: Ends, now: Instant) -> Decision:
        """The call has ended, with an outcome for each source of the turn, and a value for each answer."""
        out = Decision()
        self._results.take_in(turn, ends, now, out)
        return self._telling.completed(out, now)

    def abandoned(self, turn: Turn, now: Instant) -> None:
        """The turn was cancelled, at whatever stage: that says nothing about the backend. Counts once."""
        if turn.is_over:
            return
        if turn.permit is not None:
            turn.breaker.record(turn.permit, Verdict.IGNORED, now=now, jitter=self._draw())
        self._lineup.line.end(turn)
        self._telling.owe(now)  # sources may have waited for the end of this call to speak

    # what became of what it said

    def taken(self, decision: Decision) -> None:
        """The bus has published the drafts of `decision`."""
        self._telling.taken(decision)

    def refused(self, decision: Decision, now: Instant) -> None:
        """The bus has not published the drafts of `decision`, and will not. See `Telling.refused`."""
        self._telling.refused(decision, now)

    def _follow_interest(self, source: Source, is_wanted: Callable[[str], bool], now: Instant) -> None:
        if source.set_idle(source.plan.idle_interval_s is not None and not is_wanted(source.type)):
            self._lineup.schedule.set_interval(source.type, source.interval_s, now.mono)
            source.note_verdict(now, self._parts.seen_by(source, now))

    def _source_view(self, source: Source, now: Instant) -> SourceView:
        breaker, missed = self._parts.seen_by(source, now), self._lineup.schedule.missed(source.type)
        next_poll_at = now.wall_at(self._lineup.next_poll_at(source, breaker, now))
        return source_view(source, now, breaker, next_poll_at=next_poll_at, missed_ticks=missed)
