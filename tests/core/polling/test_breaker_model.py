"""The breaker against a model that predicts it, under permits that land late, twice or never.

The model keeps the rules as plain data: a list of what was recorded since the last transition, from which it works out
what must happen next. After each step everything that the breaker shows must be what the model says. The numbered
invariants are those of the design's list.
"""

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

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import BreakerRules, LastFailure, Reason, State, Transition
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.polling.permit import NoPermit, Permit
from tidegate.errors import ErrorCode

OPEN_S = 4.0
OPEN_MAX_S = 20.0
HEAL_S = 10.0
PROBE_DEADLINE_S = 3.0
WINDOW_S = 6.0

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
)
HOLDS = st.sampled_from([0.5, 7.0, 50.0])


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
            probe_deadline_s=PROBE_DEADLINE_S,
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
        self.breaker.hold(until)

    @rule()
    def an_operator_ends_the_hold_at_another_breaker(self) -> None:
        self.held_until = None
        self.breaker.release()

    @rule(target=tickets)
    def ask(self) -> Ticket | MultipleResults[Ticket]:
        return self.begin_call() or multiple()

    @rule(ticket=tickets, verdict=VERDICTS, jitter=SHARES, fault=FAULTS)
    def land(self, ticket: Ticket, verdict: Verdict, jitter: float, fault: Fault | None) -> None:
        """Also later than any transition, and more than once."""
        self.end_call(ticket, verdict, jitter, fault)

    @rule(verdicts=st.lists(VERDICTS, min_size=1, max_size=5), jitter=SHARES, fault=FAULTS)
    def call(self, verdicts: list[Verdict], jitter: float, fault: Fault | None) -> None:
        for verdict in verdicts:
            ticket = self.begin_call()
            if ticket is not None:
                self.end_call(ticket, verdict, jitter, fault)

    def begin_call(self) -> Ticket | None:
        may, probing = self.predict_admission()
        assert (self.breaker.refusal(self.now) is None) is may
        if may:
            self.heal()
        if probing and self.state is State.OPEN:
            self.move(State.HALF_OPEN, Reason.RETRY_DUE, cause=self.cause)
        admission = self.breaker.permit(self.now)
        if not may:
            assert admission == NoPermit(self.next_try_at)
            return None
        assert isinstance(admission, Permit)
        self.check_told(admission.transition)
        self.number += 1
        if probing:
            self.probe = (self.number, self.mono + PROBE_DEADLINE_S)
        return Ticket(admission, self.generation, self.number)

    def end_call(self, ticket: Ticket, verdict: Verdict, jitter: float, fault: Fault | None) -> None:
        fault = fault if verdict is Verdict.FAILURE else None
        before = self.breaker.view(), self.breaker.retry_at_mono
        live = self.is_live(ticket)
        if live:
            self.predict_verdict(verdict, fault, jitter)
        elif not ticket.used:
            self.late += 1
        ticket.used = True
        transition = self.breaker.record(ticket.permit, verdict, now=self.now, jitter=jitter, fault=fault)
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
        self.openings = 0
        self.run = []
        self.held_until = None
        self.move(State.CLOSED, Reason.RESET)
        self.check_told(self.breaker.reset(self.now))

    # the model

    def predict_admission(self) -> tuple[bool, bool]:
        """Whether a call is admitted now, and whether as a probe. 1: never beside another. 3: never too early."""
        if self.is_held:
            return False, False
        match self.state:
            case State.CLOSED:
                return True, False
            case State.OPEN:
                due = self.retry_at is not None and self.mono >= self.retry_at.mono
                return due, due
            case State.HALF_OPEN:
                free = self.probe is None or self.mono >= self.probe[1]
                return free, free

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

    def predict_verdict(self, verdict: Verdict, fault: Fault | None, jitter: float) -> None:
        self.probe = None
        if verdict is Verdict.IGNORED or (verdict is Verdict.ALIVE and self.state is not State.HALF_OPEN):
            return
        if verdict is Verdict.ALIVE:
            verdict = Verdict.SUCCESS
        self.heal()
        self.run.append(verdict)
        self.calls = [call for call in self.calls if call[0] > self.mono - WINDOW_S]
        self.calls.append((self.mono, verdict is Verdict.FAILURE))
        if verdict is Verdict.FAILURE:
            if fault is not None:
                self.last_error = LastFailure(fault.code, fault.message, self.wall)
            reason = self.predict_trip()
            if reason is not None:
                self.open(reason, fault, jitter)
        elif self.state is State.HALF_OPEN and self.trailing(Verdict.SUCCESS) >= self.config.half_open_successes:
            self.move(State.CLOSED, Reason.PROBE_SUCCEEDED)

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
        self.openings += 1
        longest = OPEN_S
        for _ in range(self.openings - 1):
            longest = min(2 * longest, OPEN_MAX_S)
        period = (longest + longest * jitter) / 2
        assert longest / 2 <= period <= longest <= OPEN_MAX_S, "4: in the upper half, never past the maximum"
        retry_at = Instant(self.mono + period, self.wall + period)
        self.move(State.OPEN, reason, retry_at=retry_at, cause=fault.code if fault else None)

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
        self.probe = None
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
        assert isinstance(self.breaker.permit(self.now), Permit), "6: never wedged, whatever was leaked"


BreakerMachine.TestCase.settings = settings(
    derandomize=True, deadline=None, database=None, max_examples=150, stateful_step_count=40
)
TestBreakerModel = BreakerMachine.TestCase
