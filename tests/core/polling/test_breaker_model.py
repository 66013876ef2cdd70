"""The breaker against a model that predicts it, under permits that land late, twice or never.

The model keeps the rules as plain data: a list of what was recorded since the last transition, from which it works out
what must happen next. After each step everything that the breaker shows must be what the model says. The numbered
invariants are those of the design's list.

Knocks, pokes, episodes of openings and repetitions that are not counted are part of it.
"""

from copy import deepcopy

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_runs import Episode
from tidegate.core.polling.breaker_values import BreakerRules, LastFailure, Reason, State, Transition
from tidegate.core.polling.carried import CarriedBreaker
from tidegate.core.polling.counting import WITNESS_AT
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.polling.permit import NoPermit, Permit
from tidegate.core.polling.poking import POKE_EVERY_S
from tidegate.errors import ErrorCode

OPEN_S = 4.0
OPEN_MAX_S = 20.0
HEAL_S = 10.0
PROBE_DEADLINE_S = 3.0
WINDOW_S = 6.0
ROUNDED_S = 1e-4

ALLOWED = {
    (State.CLOSED, State.OPEN),
    (State.OPEN, State.HALF_OPEN),
    (State.HALF_OPEN, State.OPEN),
    (State.HALF_OPEN, State.CLOSED),
}

SHARES = st.sampled_from([0.0, 0.25, 0.5, 0.75])
VERDICTS = st.sampled_from(Verdict)
FAULTS = st.none() | st.builds(
    Fault,
    st.sampled_from([ErrorCode.RPC_TIMEOUT, ErrorCode.RPC_DISCONNECT]),
    st.just("down"),
    st.just(Verdict.FAILURE),
    unreachable=st.booleans(),
)
NAMES = st.sampled_from([frozenset({"a.x"}), frozenset({"a.x"}), frozenset({"b.x"}), frozenset({"a.x", "b.x"})])
HOLDS = st.sampled_from([0.5, 7.0, 50.0])


def upper_half(n: int, first_s: float, jitter: float) -> float:
    """The n-th wait in a row: doubled each time up to the longest, in the upper half of that."""
    longest = first_s
    for _ in range(n - 1):
        longest = min(2 * longest, OPEN_MAX_S)
    return (longest + longest * jitter) / 2


def untimed(carried: CarriedBreaker) -> tuple[object, ...]:
    """What is carried, but for its times and its generation."""
    episode = carried.episode
    return (
        carried.mode,
        carried.failures,
        carried.successes,
        carried.openings,
        carried.cause,
        carried.uncounted,
        carried.run_from,
        carried.unreachable,
        None if episode is None else (episode.openings, episode.fruitless),
        len(carried.window),
        [(move.from_state, move.to, move.reason) for move in carried.history],
        None if carried.last_error is None else (carried.last_error.code, carried.last_error.came_from),
    )


class Ticket:
    """What the model remembers of a permit."""

    def __init__(self, permit: Permit, generation: int, number: int) -> None:
        self.permit = permit
        self.generation = generation
        self.number = number
        self.used = False


class BreakerMachine(RuleBasedStateMachine):
    tickets = Bundle("tickets")

    @initialize(
        threshold=st.integers(1, 4),
        successes=st.integers(1, 3),
        rate=st.none() | st.just(0.5),
    )
    def begin(self, threshold: int, successes: int, rate: float | None) -> None:
        self.mono = 0.0
        self.wall = 1_700_000_000.0
        self.config = BreakerRules(
            failure_threshold=threshold,
            half_open_successes=successes,
            open_s=OPEN_S,
            open_max_s=OPEN_MAX_S,
            heal_s=HEAL_S,
            failure_rate=rate,
            rate_window_s=WINDOW_S,
            rate_minimum_calls=3,
        )
        self.breaker = Breaker("engine", self.config, now=self.now)
        # what the model predicts
        self.state = State.CLOSED
        self.forced = False
        self.generation = 0
        self.entered = self.now
        self.run: list[Verdict] = []
        self.calls: list[tuple[float, bool]] = []
        self.openings = 0
        self.retry_at: Instant | None = None
        self.held_until: Instant | None = None
        self.cause: ErrorCode | None = None
        self.last_error: LastFailure | None = None
        self.probe: tuple[int, float] | None = None
        self.late = 0
        self.number = 0
        self.unreachable = False
        self.failing: frozenset[str] = frozenset()
        self.uncounted = 0
        self.episode: Episode | None = None
        self.before_knock: Instant | None = None
        self.poked = False
        self.poked_at = LONG_AGO
        self.predicted: list[Transition] = []
        assert self.breaker.initial().reason is Reason.START

    @property
    def now(self) -> Instant:
        return Instant(self.mono, self.wall)

    # what happens

    @rule(
        seconds=st.sampled_from([0.0, 0.1, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0]), jump=st.sampled_from([0.0, 0.0, -1e6, 1e6])
    )
    def time_passes(self, seconds: float, jump: float) -> None:
        self.mono += seconds
        self.wall += seconds + jump

    @precondition(lambda self: self.retry_at is not None)
    @rule()
    def time_passes_until_the_announced_retry(self) -> None:
        assert self.announced is not None
        self.mono = max(self.mono, self.announced.mono)

    @rule(seconds=HOLDS)
    def the_backend_asks_to_be_left_alone(self, seconds: float) -> None:
        until = Instant(self.mono + seconds, self.wall + seconds)
        if self.held_until is None or until.mono > self.held_until.mono:
            self.held_until = until
        self.poked = False
        self.breaker.hold(until)

    @rule()
    def poke(self) -> None:
        """At most once in ten seconds, and only while it is open of its own accord and not held."""
        if self.opened_itself and not self.is_held and self.mono >= self.poked_at + POKE_EVERY_S:
            self.poked, self.poked_at = True, self.mono
        assert self.breaker.poke(self.now) is self.poked

    @rule()
    def an_operator_ends_the_hold_at_another_breaker(self) -> None:
        self.held_until = None
        self.breaker.release()

    @rule(target=tickets, reached=st.booleans())
    def ask(self, reached: bool) -> Ticket | MultipleResults[Ticket]:
        """Also after a knock that found something."""
        return self.begin_call(reached) or multiple()

    @rule(ticket=tickets, verdict=VERDICTS, jitter=SHARES, fault=FAULTS, names=NAMES, repeats=st.booleans())
    def land(
        self,
        ticket: Ticket,
        verdict: Verdict,
        jitter: float,
        fault: Fault | None,
        names: frozenset[str],
        repeats: bool,
    ) -> None:
        """Also later than any transition, and more than once."""
        self.end_call(ticket, verdict, jitter, fault, names, repeats)

    @rule(
        calls=st.lists(st.tuples(VERDICTS, NAMES, st.booleans()), min_size=1, max_size=5), jitter=SHARES, fault=FAULTS
    )
    def call(self, calls: list[tuple[Verdict, frozenset[str], bool]], jitter: float, fault: Fault | None) -> None:
        for verdict, names, repeats in calls:
            ticket = self.begin_call()
            if ticket is not None:
                self.end_call(ticket, verdict, jitter, fault, names, repeats)

    @precondition(lambda self: self.opened_itself and self.unreachable)
    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 8.0]), verdict=VERDICTS, jitter=SHARES, fault=FAULTS)
    def a_knock_finds_something(self, seconds: float, verdict: Verdict, jitter: float, fault: Fault | None) -> None:
        """And its probe goes at once."""
        self.mono += seconds
        self.wall += seconds
        ticket = self.begin_call(reached=True)
        if ticket is not None:
            self.end_call(ticket, verdict, jitter, fault, frozenset({"a.x"}), False)

    def begin_call(self, reached: bool = False) -> Ticket | None:
        may, probing, reason = self.predict_admission(reached)
        assert (self.breaker.refusal(self.now, reached=reached) is None) is may
        if may:
            self.heal()
        if probing and self.state is State.OPEN:
            retry_at = self.retry_at
            self.move(State.HALF_OPEN, reason, cause=self.cause)
            self.before_knock = retry_at if reason is Reason.REACHABLE else None
        admission = self.breaker.permit(self.now, reached=reached, timeout_s=2.0)
        if not may:
            assert admission == NoPermit(self.next_try_at)
            return None
        assert isinstance(admission, Permit)
        self.check_told(admission.transition)
        self.number += 1
        if probing:
            self.probe = (self.number, self.mono + PROBE_DEADLINE_S)
        return Ticket(admission, self.generation, self.number)

    def end_call(
        self,
        ticket: Ticket,
        verdict: Verdict,
        jitter: float,
        fault: Fault | None,
        names: frozenset[str],
        repeats: bool,
    ) -> None:
        fault = fault if verdict is Verdict.FAILURE else None
        before = self.breaker.view(), self.breaker.retry_at_mono
        live = self.is_live(ticket)
        if live:
            self.predict_verdict(verdict, fault, jitter, names, repeats)
        elif not ticket.used:
            self.late += 1
        ticket.used = True
        transition = self.breaker.record(
            ticket.permit, verdict, now=self.now, jitter=jitter, fault=fault, came_from=names, repeats=repeats
        )
        if not live:
            assert transition is None
            assert (self.breaker.view(), self.breaker.retry_at_mono) == before, "5: old and used permits change nothing"
        self.check_told(transition)

    @rule()
    def force_open(self) -> None:
        if not (self.forced and self.state is State.OPEN):
            self.move(State.OPEN, Reason.FORCE_OPEN, forced=True)
        self.check_told(self.breaker.force_open(self.now))

    @rule()
    def force_closed(self) -> None:
        self.held_until = None
        if not (self.forced and self.state is State.CLOSED):
            self.move(State.CLOSED, Reason.FORCE_CLOSED, forced=True)
        self.check_told(self.breaker.force_closed(self.now))

    @rule()
    def reset(self) -> None:
        self.openings = self.uncounted = 0
        self.run = []
        self.failing = frozenset()
        self.episode, self.unreachable = None, False
        self.held_until = None
        self.move(State.CLOSED, Reason.RESET)
        self.check_told(self.breaker.reset(self.now))

    # the model

    def predict_admission(self, reached: bool) -> tuple[bool, bool, Reason]:
        """Whether a call is admitted now, whether as a probe, and why. 1: never beside another. 3: never too early."""
        if self.is_held:
            return False, False, Reason.START
        match self.state:
            case State.CLOSED:
                return True, False, Reason.START
            case State.OPEN:
                knocks_from = self.knocks_from
                for reason, admits in (
                    (Reason.RETRY_DUE, self.retry_at is not None and self.mono >= self.retry_at.mono),
                    (Reason.POKE, self.poked),
                    (Reason.REACHABLE, reached and knocks_from is not None and self.mono >= knocks_from),
                ):
                    if admits:
                        return True, True, reason
                return False, False, Reason.START
            case State.HALF_OPEN:
                free = self.probe is None or self.mono >= self.probe[1]
                return free, free, Reason.START

    @property
    def opened_itself(self) -> bool:
        return self.state is State.OPEN and not self.forced

    @property
    def knocks_from(self) -> float | None:
        if not self.opened_itself or not self.unreachable or self.is_held or self.episode is None:
            return None
        return self.episode.knock_from

    @property
    def is_held(self) -> bool:
        return self.held_until is not None and self.mono < self.held_until.mono

    @property
    def announced(self) -> Instant | None:
        """When a probe is let through: 4: not before a hold ends."""
        if self.retry_at and self.held_until and self.held_until.mono > self.retry_at.mono:
            return self.held_until
        return self.retry_at

    @property
    def next_try_at(self) -> float | None:
        if self.announced:
            return self.announced.wall
        forced_open = self.forced and self.state is State.OPEN
        return self.held_until.wall if self.held_until and self.is_held and not forced_open else None

    def is_live(self, ticket: Ticket) -> bool:
        if ticket.used or ticket.generation != self.generation:
            return False
        if self.state is not State.HALF_OPEN:
            return True
        return self.probe is not None and self.probe[0] == ticket.number and self.mono < self.probe[1]

    def predict_verdict(
        self, verdict: Verdict, fault: Fault | None, jitter: float, names: frozenset[str], repeats: bool
    ) -> None:
        self.probe = None
        if verdict is Verdict.IGNORED:
            return
        if verdict is not Verdict.FAILURE:
            self.unreachable = False
        if verdict is Verdict.ALIVE:
            if self.state is not State.HALF_OPEN:
                return
            verdict = Verdict.SUCCESS
        if verdict is Verdict.FAILURE:
            self.predict_failure(fault, jitter, names, repeats)
            return
        self.failing, self.uncounted = frozenset(), 0
        self.tally(Verdict.SUCCESS)
        if self.state is State.HALF_OPEN and self.trailing(Verdict.SUCCESS) >= self.config.half_open_successes:
            self.move(State.CLOSED, Reason.PROBE_SUCCEEDED)

    def predict_failure(self, fault: Fault | None, jitter: float, names: frozenset[str], repeats: bool) -> None:
        self.failing |= names
        if repeats and self.state is State.CLOSED and not self.forced and len(self.failing) == 1:
            self.uncounted += 1
            return
        count = 1
        if len(self.failing) > 1:
            count, self.uncounted = 1 + self.uncounted, 0
        for _ in range(count):
            self.tally(Verdict.FAILURE)
        self.unreachable = fault is not None and fault.unreachable
        if fault is not None:
            self.last_error = LastFailure(fault.code, fault.message, self.wall, names)
        reason = self.predict_trip()
        if reason is not None:
            self.open(reason, fault, jitter)

    def tally(self, verdict: Verdict) -> None:
        self.heal()
        self.run.append(verdict)
        self.calls = [call for call in self.calls if call[0] > self.mono - WINDOW_S]
        self.calls.append((self.mono, verdict is Verdict.FAILURE))

    def predict_trip(self) -> Reason | None:
        if self.forced:
            return None
        if self.state is State.HALF_OPEN:
            return Reason.PROBE_FAILED
        if self.trailing(Verdict.FAILURE) >= self.config.failure_threshold:
            return Reason.FAILURE_THRESHOLD
        failed = [failed for _, failed in self.calls]
        if self.config.failure_rate and len(failed) >= 3 and 2 * sum(failed) >= len(failed):
            return Reason.FAILURE_RATE
        return None

    def open(self, reason: Reason, fault: Fault | None, jitter: float) -> None:
        cause = fault.code if fault else None
        before = self.episode
        if self.state is State.CLOSED:
            wait_s = upper_half(before.openings, 1.0, jitter) if before else 0.0
            self.episode = Episode(
                began=before.began if before else self.mono,
                openings=before.openings + 1 if before else 1,
                knock_from=self.mono + wait_s,
            )
        elif before is not None and not self.unreachable:
            self.episode = before.with_fruitless(0)
        elif before is not None and self.before_knock is not None:
            self.episode = before.with_fruitless(before.fruitless + 1)
            self.move(State.OPEN, reason, retry_at=self.before_knock.seen_at(self.now), cause=cause)
            return
        self.openings += 1
        period = upper_half(self.openings, OPEN_S, jitter)
        assert period <= OPEN_MAX_S, "4: never past the maximum"
        retry_at = Instant(self.mono + period, self.wall + period)
        self.move(State.OPEN, reason, retry_at=retry_at, cause=cause)

    def move(
        self,
        state: State,
        reason: Reason,
        *,
        forced: bool = False,
        retry_at: Instant | None = None,
        cause: ErrorCode | None = None,
    ) -> None:
        was = self.state
        self.state, self.forced, self.retry_at, self.cause = state, forced, retry_at, cause
        self.generation += 1
        self.entered = self.now
        self.calls = []
        self.probe = self.before_knock = None
        self.poked = False
        if reason not in {Reason.FORCE_OPEN, Reason.FORCE_CLOSED, Reason.RESET}:
            assert (was, state) in ALLOWED, "2: nothing else without an operator"
        self.predicted.append(
            Transition(
                breaker="engine",
                state=state,
                from_state=was,
                reason=reason,
                forced=forced,
                failure_count=self.trailing(Verdict.FAILURE),
                open_count=self.openings,
                opened_at=self.wall if state is State.OPEN else None,
                retry_at=self.announced.wall if self.announced else None,
                cause=cause,
            )
        )

    def heal(self) -> None:
        if self.state is State.CLOSED and not self.forced and self.mono - self.entered.mono >= HEAL_S:
            self.openings = 0
            self.episode = None

    def trailing(self, verdict: Verdict) -> int:
        """How many of `verdict` the record ends with."""
        count = 0
        while count < len(self.run) and self.run[-1 - count] is verdict:
            count += 1
        return count

    def check_told(self, transition: Transition | None) -> None:
        assert ([] if transition is None else [transition]) == self.predicted, "7: exactly one event for each, in order"
        self.predicted = []

    # what must hold after each step

    @invariant()
    def everything_shown_is_as_predicted(self) -> None:
        view = self.breaker.view()
        assert (view.state, view.forced, view.since) == (self.state, self.forced, self.entered.wall)
        assert view.failure_count == self.trailing(Verdict.FAILURE)
        assert view.success_count == self.trailing(Verdict.SUCCESS)
        assert view.open_count == self.openings
        assert view.retry_at == (self.announced.wall if self.announced else None)
        assert (view.held_until, view.next_try_at(self.now)) == (self.held_until, self.next_try_at)
        assert (view.cause, view.last_error) == (self.cause, self.last_error)
        assert self.breaker.retry_at_mono == (self.announced.mono if self.announced else None)
        self.check_next_probe()
        assert self.breaker.is_closed == view.is_closed == (self.state is State.CLOSED)
        assert self.breaker.late_results == self.late
        assert self.breaker.episode == self.episode
        assert self.breaker.knocks_from_mono(self.now) == self.knocks_from
        assert (self.breaker.run.uncounted, self.breaker.run.came_from) == (self.uncounted, self.failing)
        third = self.uncounted > 0 and self.trailing(Verdict.FAILURE) + self.uncounted == WITNESS_AT
        assert self.breaker.wants_witness == (self.state is State.CLOSED and third)

    @rule()
    def it_is_carried_whole(self) -> None:
        """But for the calls under way, a poke, and times that are rounded."""
        carried = deepcopy(self.breaker).carried(self.now)
        resumed = Breaker.from_carried("engine", self.config, carried, now=self.now)
        again = deepcopy(resumed).carried(self.now)
        assert again.generation == carried.generation + 1
        assert untimed(again) == untimed(carried)
        then, now = resumed.knocks_from_mono(self.now), self.knocks_from
        assert (then is None) is (now is None)
        assert then is None or now is None or abs(then - now) < ROUNDED_S
        assert (resumed.run.uncounted, resumed.run.came_from) == (self.uncounted, self.failing)
        assert resumed.wants_witness == self.breaker.wants_witness

    def check_next_probe(self) -> None:
        """10: not closed, and not held there, the breaker says from when a probe may go, and then it may."""
        at = self.breaker.probe_at_mono
        assert (at is None) == (self.state is State.CLOSED or self.forced)
        if at is not None:
            then = max(at, self.mono)
            assert self.breaker.refusal(Instant(then, self.wall)) is None
            assert then == self.mono or self.breaker.refusal(self.now) is not None, "and not before"

    def teardown(self) -> None:
        if self.state is State.OPEN and self.forced:
            return
        self.mono += OPEN_MAX_S + PROBE_DEADLINE_S
        if self.held_until is not None:
            self.mono = max(self.mono, self.held_until.mono)
        assert isinstance(self.breaker.permit(self.now, timeout_s=2.0), Permit), "6: never wedged, whatever was leaked"


BreakerMachine.TestCase.settings = settings(
    derandomize=True, deadline=None, database=None, max_examples=150, stateful_step_count=40
)
TestBreakerModel = BreakerMachine.TestCase
