"""The breaker, rule by rule."""

import math

import pytest

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_data import HISTORY
from tidegate.core.polling.breaker_runs import Run
from tidegate.core.polling.breaker_values import (
    BreakerRules,
    BreakerView,
    LastFailure,
    Move,
    Reason,
    State,
    Transition,
    open_period_s,
)
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.polling.permit import NoPermit, Permit
from tidegate.errors import ErrorCode

WALL = 1_700_000_000.0
DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)


def at(seconds: float) -> Instant:
    return Instant(seconds, WALL + seconds)


START = Move(at(0.0), None, State.CLOSED, Reason.START)


def new(**config: object) -> Breaker:
    rules = {"open_s": 5.0, "open_max_s": 300.0} | config
    return Breaker("engine", BreakerRules(**rules), now=at(0.0))  # type: ignore[arg-type]


def admitted(breaker: Breaker, seconds: float) -> Permit:
    permit = breaker.permit(at(seconds), timeout_s=2.0)
    assert isinstance(permit, Permit)
    return permit


def end(
    breaker: Breaker, verdict: Verdict, seconds: float, *, fault: Fault | None = None, jitter: float = 0.0
) -> Transition | None:
    """One call that begins and ends at `seconds`."""
    return breaker.record(admitted(breaker, seconds), verdict, now=at(seconds), jitter=jitter, fault=fault)


def fail(breaker: Breaker, seconds: float, *, fault: Fault = DOWN, jitter: float = 0.0) -> Transition | None:
    return end(breaker, Verdict.FAILURE, seconds, fault=fault, jitter=jitter)


def tripped(seconds: float = 0.0, *, jitter: float = 0.0, **config: object) -> Breaker:
    breaker = new(failure_threshold=1, **config)
    assert fail(breaker, seconds, jitter=jitter) is not None
    return breaker


class TestClosed:
    def test_every_call_is_admitted(self) -> None:
        breaker = new()
        permits = [admitted(breaker, 0.0) for _ in range(100)]
        assert len(set(map(id, permits))) == 100
        assert all(permit.transition is None for permit in permits)

    def test_it_trips_on_exactly_so_many_failures_in_a_row(self) -> None:
        breaker = new(failure_threshold=5)
        assert [fail(breaker, float(n)) for n in range(4)] == [None] * 4
        assert breaker.is_closed
        transition = fail(breaker, 4.0)
        assert transition == Transition(
            breaker="engine",
            state=State.OPEN,
            from_state=State.CLOSED,
            reason=Reason.FAILURE_THRESHOLD,
            forced=False,
            failure_count=5,
            open_count=1,
            opened_at=WALL + 4.0,
            retry_at=WALL + 4.0 + 2.5,
            cause=ErrorCode.RPC_DISCONNECT,
        )
        assert not breaker.is_closed

    def test_a_success_begins_the_run_anew(self) -> None:
        breaker = new(failure_threshold=3)
        for verdict in (Verdict.FAILURE, Verdict.FAILURE, Verdict.SUCCESS, Verdict.FAILURE, Verdict.FAILURE):
            assert end(breaker, verdict, 0.0) is None
        assert end(breaker, Verdict.FAILURE, 0.0) is not None

    @pytest.mark.parametrize("verdict", [Verdict.ALIVE, Verdict.IGNORED])
    def test_an_outcome_that_is_not_the_backends_fault_touches_nothing(self, verdict: Verdict) -> None:
        breaker = new(failure_threshold=3)
        fail(breaker, 0.0)
        before = breaker.view()
        assert end(breaker, verdict, 1.0, fault=Fault(ErrorCode.RPC_AUTH, "401", verdict)) is None
        assert breaker.view() == before

    def test_a_run_of_failures_survives_what_is_alive(self) -> None:
        breaker = new(failure_threshold=3)
        for verdict in (Verdict.FAILURE, Verdict.ALIVE, Verdict.FAILURE, Verdict.ALIVE):
            assert end(breaker, verdict, 0.0) is None
        assert end(breaker, Verdict.FAILURE, 0.0) is not None

    def test_runs_are_shown(self) -> None:
        breaker = new()
        fail(breaker, 0.0)
        fail(breaker, 0.0)
        assert (breaker.view().failure_count, breaker.view().success_count) == (2, 0)
        for _ in range(3):
            end(breaker, Verdict.SUCCESS, 0.0)
        assert (breaker.view().failure_count, breaker.view().success_count) == (0, 3)


RATE = {"failure_threshold": 1000, "failure_rate": 0.5, "rate_window_s": 10.0, "rate_minimum_calls": 4}


class TestFailureRate:
    def test_it_trips_at_the_rate_once_there_are_enough_calls(self) -> None:
        breaker = new(**RATE)
        fail(breaker, 0.0)
        end(breaker, Verdict.SUCCESS, 1.0)
        end(breaker, Verdict.SUCCESS, 2.0)
        assert breaker.is_closed
        transition = fail(breaker, 3.0)
        assert transition is not None
        assert (transition.state, transition.reason) == (State.OPEN, Reason.FAILURE_RATE)

    def test_too_few_calls_do_not_trip_it(self) -> None:
        breaker = new(**RATE)
        assert [fail(breaker, 0.0) for _ in range(3)] == [None] * 3

    def test_a_lower_rate_does_not_trip_it(self) -> None:
        breaker = new(**RATE)
        for _ in range(4):
            end(breaker, Verdict.SUCCESS, 0.0)
        assert [fail(breaker, 0.0) for _ in range(3)] == [None] * 3
        assert fail(breaker, 0.0) is not None

    def test_calls_leave_the_window(self) -> None:
        breaker = new(**RATE)
        for _ in range(3):
            fail(breaker, 0.0)
        assert fail(breaker, 10.0) is None, "the three are as old as the window"
        for _ in range(2):
            assert fail(breaker, 19.9) is None
        assert fail(breaker, 19.9) is not None

    def test_every_closing_begins_with_an_empty_window(self) -> None:
        breaker = new(**RATE)
        for _ in range(4):
            fail(breaker, 0.0)
        assert end(breaker, Verdict.SUCCESS, 3.0) is not None
        assert [fail(breaker, 3.0) for _ in range(3)] == [None] * 3
        assert fail(breaker, 3.0) is not None

    def test_failures_that_left_the_window_count_no_more(self) -> None:
        breaker = new(**RATE)
        for _ in range(3):
            fail(breaker, 0.0)
        for _ in range(3):
            end(breaker, Verdict.SUCCESS, 10.0)
        assert fail(breaker, 10.0) is None, "one of four"
        assert fail(breaker, 10.0) is None, "two of five"
        assert fail(breaker, 10.0) is not None

    def test_failures_from_before_the_closing_count_no_more(self) -> None:
        breaker = new(**RATE)
        for _ in range(4):
            fail(breaker, 0.0)
        end(breaker, Verdict.SUCCESS, 3.0)
        for _ in range(3):
            end(breaker, Verdict.SUCCESS, 3.0)
        assert fail(breaker, 3.0) is None, "one of four"

    def test_ignored_calls_are_not_in_it(self) -> None:
        breaker = new(**RATE)
        for _ in range(10):
            end(breaker, Verdict.IGNORED, 0.0)
            end(breaker, Verdict.ALIVE, 0.0)
        assert fail(breaker, 0.0) is None

    def test_it_is_off_unless_asked_for(self) -> None:
        breaker = new(failure_threshold=1000)
        assert [fail(breaker, 0.0) for _ in range(999)] == [None] * 999


class TestOpen:
    def test_nothing_is_admitted_before_the_announced_time(self) -> None:
        breaker = tripped(10.0)
        assert breaker.permit(at(10.0), timeout_s=2.0) == NoPermit(WALL + 12.5)
        assert breaker.permit(at(math.nextafter(12.5, 0)), timeout_s=2.0) == NoPermit(WALL + 12.5)
        assert breaker.retry_at_mono == 12.5

    def test_the_first_caller_then_is_the_probe(self) -> None:
        breaker = tripped(10.0)
        permit = admitted(breaker, 12.5)
        assert permit.transition == Transition(
            breaker="engine",
            state=State.HALF_OPEN,
            from_state=State.OPEN,
            reason=Reason.RETRY_DUE,
            forced=False,
            failure_count=1,
            open_count=1,
            opened_at=None,
            retry_at=None,
            cause=ErrorCode.RPC_DISCONNECT,
        )
        assert breaker.retry_at_mono is None

    def test_a_failure_without_a_fault_opens_it_without_a_cause(self) -> None:
        breaker = new(failure_threshold=1)
        transition = end(breaker, Verdict.FAILURE, 0.0)
        assert transition is not None
        assert transition.cause is None
        assert breaker.view().last_error is None


class TestHold:
    """The backend asked to be left alone: ``Retry-After`` of a 429 or 503."""

    def test_no_call_is_admitted_before_its_end_though_the_breaker_is_closed(self) -> None:
        breaker = new()
        breaker.hold(at(20.0))
        assert breaker.is_closed
        assert (
            breaker.permit(at(0.0), timeout_s=2.0) == breaker.permit(at(19.9), timeout_s=2.0) == NoPermit(WALL + 20.0)
        )
        assert isinstance(breaker.permit(at(20.0), timeout_s=2.0), Permit)

    def test_the_failure_that_brought_it_counts_as_any_other(self) -> None:
        breaker = new(failure_threshold=2)
        permit = admitted(breaker, 0.0)
        breaker.hold(at(20.0))
        assert breaker.record(permit, Verdict.FAILURE, now=at(0.0), jitter=0.0, fault=DOWN) is None
        assert breaker.view().failure_count == 1
        assert fail(breaker, 20.0) is not None

    def test_a_breaker_that_opens_announces_no_earlier_retry(self) -> None:
        breaker = new(failure_threshold=1, open_s=8.0, open_max_s=60.0)
        permit = admitted(breaker, 0.0)
        breaker.hold(at(100.0))
        transition = breaker.record(permit, Verdict.FAILURE, now=at(0.0), jitter=0.0, fault=DOWN)
        assert transition is not None
        assert transition.retry_at == breaker.view().retry_at == WALL + 100.0, "open_max_s has no say in it"
        assert breaker.retry_at_mono == breaker.probe_at_mono == 100.0
        assert isinstance(breaker.permit(at(99.9), timeout_s=2.0), NoPermit)
        assert isinstance(breaker.permit(at(100.0), timeout_s=2.0), Permit)

    def test_a_shorter_one_shortens_nothing(self) -> None:
        breaker = tripped()
        assert breaker.retry_at_mono == 2.5
        breaker.hold(at(2.0))
        assert breaker.retry_at_mono == 2.5
        breaker.hold(at(9.0))
        breaker.hold(at(7.0))
        assert breaker.retry_at_mono == breaker.probe_at_mono == 9.0
        assert breaker.permit(at(2.5), timeout_s=2.0) == NoPermit(WALL + 9.0)

    def test_it_keeps_the_next_probe_of_a_half_open_breaker_waiting(self) -> None:
        breaker = tripped(half_open_successes=2)
        assert end(breaker, Verdict.SUCCESS, 5.0) is None
        breaker.hold(at(9.0))
        assert breaker.probe_at_mono == 9.0
        assert breaker.view().next_try_at(at(5.0)) == WALL + 9.0
        assert isinstance(breaker.permit(at(8.9), timeout_s=2.0), NoPermit)
        assert end(breaker, Verdict.SUCCESS, 9.0) is not None

    def test_a_probe_that_is_out_is_judged_all_the_same(self) -> None:
        breaker = tripped()
        probe = admitted(breaker, 5.0)
        breaker.hold(at(9.0))
        assert breaker.record(probe, Verdict.SUCCESS, now=at(5.1), jitter=0.0) is not None
        assert isinstance(breaker.permit(at(8.9), timeout_s=2.0), NoPermit), "closed, and still held"

    @pytest.mark.parametrize("command", ["reset", "force_closed"])
    def test_an_operator_ends_it(self, command: str) -> None:
        breaker = new()
        breaker.hold(at(20.0))
        getattr(breaker, command)(at(1.0))
        assert isinstance(breaker.permit(at(1.0), timeout_s=2.0), Permit)
        assert breaker.view().held_until is None

    def test_force_closed_ends_one_that_came_while_it_was_forced_closed(self) -> None:
        breaker = new()
        breaker.force_closed(at(0.0))
        breaker.hold(at(20.0))
        assert isinstance(breaker.permit(at(1.0), timeout_s=2.0), NoPermit), (
            "a wish of the backend, whatever the breaker"
        )
        assert breaker.force_closed(at(1.0)) is None
        assert isinstance(breaker.permit(at(1.0), timeout_s=2.0), Permit)

    def test_a_command_to_another_breaker_of_the_backend_ends_it(self) -> None:
        breaker = tripped()
        breaker.hold(at(20.0))
        breaker.release()
        assert breaker.retry_at_mono == 2.5

    def test_force_open_does_not_end_it(self) -> None:
        breaker = new()
        breaker.hold(at(20.0))
        breaker.force_open(at(1.0))
        assert breaker.permit(at(30.0), timeout_s=2.0) == NoPermit(None)
        assert breaker.view().next_try_at(at(2.0)) is None, "held open, nothing is asked at its end either"
        assert breaker.view().held_until == at(20.0)

    def test_next_try_at_is_the_retry_or_the_end_of_the_hold(self) -> None:
        breaker = new()
        assert breaker.view().next_try_at(at(0.0)) is None
        breaker.hold(at(20.0))
        assert breaker.view().next_try_at(at(19.9)) == WALL + 20.0
        assert breaker.view().next_try_at(at(20.0)) is None
        assert breaker.view().retry_at is None, "null unless open"
        assert tripped().view().next_try_at(at(100.0)) == WALL + 2.5


class TestNextProbe:
    def test_it_is_due_at_the_announced_time(self) -> None:
        assert new().probe_at_mono is None
        assert tripped().probe_at_mono == 2.5

    def test_in_half_open_it_is_due_at_once_when_the_one_before_it_has_ended(self) -> None:
        breaker = tripped(half_open_successes=3)
        for seconds, verdict in ((5.0, Verdict.SUCCESS), (6.0, Verdict.ALIVE), (7.0, Verdict.IGNORED)):
            probe = admitted(breaker, seconds)
            assert breaker.probe_at_mono == seconds + 3.0, "when this one loses its place"
            breaker.record(probe, verdict, now=at(seconds + 0.5), jitter=0.0)
            assert breaker.probe_at_mono is not None
            assert breaker.probe_at_mono <= seconds + 0.5

    def test_held_open_or_closed_by_an_operator_there_is_none(self) -> None:
        breaker = tripped()
        breaker.force_open(at(1.0))
        assert breaker.probe_at_mono is None
        breaker.force_closed(at(1.0))
        assert breaker.probe_at_mono is None

    def test_a_refusal_is_foretold_without_a_move(self) -> None:
        breaker = tripped()
        assert breaker.refusal(at(2.4)) == NoPermit(WALL + 2.5)
        assert breaker.refusal(at(2.5)) is None
        assert breaker.view().state is State.OPEN
        admitted(breaker, 2.5)
        assert breaker.refusal(at(2.5)) == NoPermit(None)
        assert new().refusal(at(0.0)) is None


class TestHalfOpen:
    def test_one_probe_at_a_time(self) -> None:
        breaker = tripped()
        admitted(breaker, 5.0)
        assert [breaker.permit(at(5.0), timeout_s=2.0) for _ in range(3)] == [NoPermit(None)] * 3

    def test_a_success_closes_it(self) -> None:
        breaker = tripped()
        transition = end(breaker, Verdict.SUCCESS, 5.0)
        assert transition == Transition(
            breaker="engine",
            state=State.CLOSED,
            from_state=State.HALF_OPEN,
            reason=Reason.PROBE_SUCCEEDED,
            forced=False,
            failure_count=0,
            open_count=1,
            opened_at=None,
            retry_at=None,
            cause=None,
        )

    def test_so_many_successes_in_a_row_close_it(self) -> None:
        breaker = tripped(half_open_successes=3)
        assert end(breaker, Verdict.SUCCESS, 5.0) is None
        assert end(breaker, Verdict.SUCCESS, 5.1) is None
        assert not breaker.is_closed
        assert end(breaker, Verdict.SUCCESS, 5.2) is not None
        assert breaker.is_closed

    def test_a_failure_opens_it_again_for_longer(self) -> None:
        breaker = tripped()
        transition = fail(breaker, 5.0, fault=Fault(ErrorCode.RPC_TIMEOUT, "late", Verdict.FAILURE))
        assert transition is not None
        assert (transition.from_state, transition.state) == (State.HALF_OPEN, State.OPEN)
        assert transition.reason is Reason.PROBE_FAILED
        assert (transition.failure_count, transition.open_count) == (2, 2)
        assert transition.cause is ErrorCode.RPC_TIMEOUT
        assert breaker.retry_at_mono == 10.0

    def test_a_failure_forgets_the_successes_before_it(self) -> None:
        breaker = tripped(half_open_successes=2)
        assert end(breaker, Verdict.SUCCESS, 5.0) is None
        assert fail(breaker, 5.0) is not None
        assert end(breaker, Verdict.SUCCESS, 100.0) is None
        assert end(breaker, Verdict.SUCCESS, 100.0) is not None

    def test_a_probe_that_is_answered_is_a_success_whatever_is_wrong_with_that_call(self) -> None:
        breaker = tripped(half_open_successes=2)
        unknown_method = Fault(ErrorCode.RPC_APPLICATION_ERROR, "-32601", Verdict.ALIVE)
        assert end(breaker, Verdict.ALIVE, 5.0, fault=unknown_method) is None
        assert (breaker.view().failure_count, breaker.view().success_count) == (0, 1)
        transition = end(breaker, Verdict.ALIVE, 5.0, fault=unknown_method)
        assert transition is not None
        assert (transition.state, transition.reason) == (State.CLOSED, Reason.PROBE_SUCCEEDED)
        last_error = breaker.view().last_error
        assert last_error is not None
        assert last_error.code is ErrorCode.RPC_DISCONNECT, "it is no failure of the backend"

    def test_an_ignored_probe_gives_its_place_back(self) -> None:
        breaker = tripped(half_open_successes=2)
        assert end(breaker, Verdict.SUCCESS, 5.0) is None
        assert end(breaker, Verdict.IGNORED, 5.0) is None
        assert breaker.view().state is State.HALF_OPEN
        assert end(breaker, Verdict.SUCCESS, 5.0) is not None, "what went before still counts"

    def test_a_leaked_probe_loses_its_place(self) -> None:
        breaker = tripped()
        leaked = admitted(breaker, 5.0)
        assert breaker.permit(at(7.999), timeout_s=2.0) == NoPermit(None)
        second = admitted(breaker, 8.0)
        assert second.transition is None
        assert breaker.permit(at(8.0), timeout_s=2.0) == NoPermit(None)
        assert breaker.record(leaked, Verdict.SUCCESS, now=at(8.1), jitter=0.0) is None
        assert breaker.late_results == 1
        assert breaker.record(second, Verdict.SUCCESS, now=at(8.2), jitter=0.0) is not None

    @pytest.mark.parametrize("timeout_s", [0.5, 9.0])
    def test_the_place_of_a_probe_lasts_a_second_longer_than_its_own_call(self, timeout_s: float) -> None:
        breaker = tripped()
        breaker.permit(at(5.0), timeout_s=timeout_s)
        assert breaker.probe_at_mono == 6.0 + timeout_s
        assert breaker.permit(at(5.99 + timeout_s), timeout_s=2.0) == NoPermit(None)
        assert isinstance(breaker.permit(at(6.0 + timeout_s), timeout_s=2.0), Permit)

    def test_an_expired_probe_judges_nothing_even_if_nobody_took_its_place(self) -> None:
        breaker = tripped()
        hung = admitted(breaker, 5.0)
        assert breaker.record(hung, Verdict.FAILURE, now=at(8.0), jitter=0.0) is None
        assert breaker.view().state is State.HALF_OPEN
        admitted(breaker, 8.0)


class TestOpenPeriod:
    @pytest.mark.parametrize(
        ("n", "jitter", "expected"),
        [
            (1, 0.0, 2.5),
            (1, 0.5, 3.75),
            (2, 0.0, 5.0),
            (3, 0.0, 10.0),
            (7, 0.0, 150.0),
            (7, 0.5, 225.0),
            (10**9, 0.0, 150.0),
        ],
    )
    def test_it_doubles_up_to_the_maximum(self, n: int, jitter: float, expected: float) -> None:
        assert open_period_s(n, open_s=5.0, open_max_s=300.0, jitter=jitter) == expected

    def test_all_jitter_stays_in_the_upper_half(self) -> None:
        longest = open_period_s(1, open_s=5.0, open_max_s=300.0, jitter=math.nextafter(1.0, 0.0))
        assert 2.5 < longest <= 5.0

    def test_a_small_first_period_still_reaches_the_maximum(self) -> None:
        assert open_period_s(10**6, open_s=1e-6, open_max_s=300.0, jitter=0.0) == 150.0


class TestBackOff:
    def test_it_is_kept_by_a_backend_that_flaps(self) -> None:
        breaker = tripped(heal_s=30.0)
        end(breaker, Verdict.SUCCESS, 5.0)
        transition = fail(breaker, 34.9)
        assert transition is not None
        assert transition.open_count == 2

    def test_it_is_forgotten_after_long_enough_closed(self) -> None:
        breaker = tripped(heal_s=30.0)
        end(breaker, Verdict.SUCCESS, 5.0)
        transition = fail(breaker, 35.0)
        assert transition is not None
        assert transition.open_count == 1

    def test_healing_shows_at_the_next_call(self) -> None:
        breaker = tripped(heal_s=30.0)
        end(breaker, Verdict.SUCCESS, 5.0)
        admitted(breaker, 34.9)
        assert breaker.view().open_count == 1
        admitted(breaker, 35.0)
        assert breaker.view().open_count == 0

    def test_time_spent_open_heals_nothing(self) -> None:
        breaker = tripped(heal_s=30.0)
        fail(breaker, 1000.0)
        assert breaker.view().open_count == 2


class TestOperator:
    def test_forced_open_refuses_everything_until_reset(self) -> None:
        breaker = new()
        transition = breaker.force_open(at(1.0))
        assert transition == Transition(
            breaker="engine",
            state=State.OPEN,
            from_state=State.CLOSED,
            reason=Reason.FORCE_OPEN,
            forced=True,
            failure_count=0,
            open_count=0,
            opened_at=WALL + 1.0,
            retry_at=None,
            cause=None,
        )
        assert breaker.permit(at(1e9), timeout_s=2.0) == NoPermit(None)
        assert breaker.retry_at_mono is None
        assert not breaker.is_closed
        breaker.reset(at(1e9))
        admitted(breaker, 1e9)

    def test_forced_closed_admits_everything_and_never_trips(self) -> None:
        breaker = new(failure_threshold=1, failure_rate=0.1, rate_minimum_calls=1)
        transition = breaker.force_closed(at(1.0))
        assert transition is not None
        assert (transition.state, transition.forced, transition.reason) == (State.CLOSED, True, Reason.FORCE_CLOSED)
        assert [fail(breaker, 2.0) for _ in range(50)] == [None] * 50
        assert breaker.is_closed
        assert breaker.view().failure_count == 50

    @pytest.mark.parametrize("command", ["force_open", "force_closed"])
    def test_the_same_command_again_changes_nothing(self, command: str) -> None:
        breaker = new()
        assert getattr(breaker, command)(at(1.0)) is not None
        before = breaker.view()
        permit = breaker.permit(at(2.0), timeout_s=2.0)
        assert getattr(breaker, command)(at(2.0)) is None
        assert breaker.view() == before
        if isinstance(permit, Permit):
            breaker.record(permit, Verdict.FAILURE, now=at(3.0), jitter=0.0)
            assert breaker.view().failure_count == 1, "no new generation"

    def test_forcing_open_what_is_open_takes_its_retry_away(self) -> None:
        breaker = tripped()
        transition = breaker.force_open(at(1.0))
        assert transition is not None
        assert (transition.from_state, transition.forced, transition.retry_at) == (State.OPEN, True, None)
        assert breaker.view().cause is None

    def test_an_override_outlasts_calls_under_way(self) -> None:
        breaker = tripped()
        probe = admitted(breaker, 5.0)
        breaker.force_open(at(5.1))
        assert breaker.record(probe, Verdict.SUCCESS, now=at(5.2), jitter=0.0) is None
        assert breaker.permit(at(100.0), timeout_s=2.0) == NoPermit(None)

    def test_reset_closes_and_zeroes_the_counts(self) -> None:
        breaker = tripped(5.0)
        transition = breaker.reset(at(6.0))
        assert transition == Transition(
            breaker="engine",
            state=State.CLOSED,
            from_state=State.OPEN,
            reason=Reason.RESET,
            forced=False,
            failure_count=0,
            open_count=0,
            opened_at=None,
            retry_at=None,
            cause=None,
        )
        assert breaker.view() == BreakerView(
            name="engine",
            state=State.CLOSED,
            forced=False,
            since=WALL + 6.0,
            failure_count=0,
            failure_threshold=1,
            success_count=0,
            open_count=0,
            open_max_s=300.0,
            half_open_successes=1,
            retry_at=None,
            last_error=LastFailure(ErrorCode.RPC_DISCONNECT, "refused", WALL + 5.0),
            cause=None,
            history=(
                START,
                Move(at(5.0), State.CLOSED, State.OPEN, Reason.FAILURE_THRESHOLD),
                Move(at(6.0), State.OPEN, State.CLOSED, Reason.RESET),
            ),
        )

    def test_a_reset_of_a_closed_one_begins_its_run_anew(self) -> None:
        breaker = new(failure_threshold=2)
        fail(breaker, 0.0)
        under_way = admitted(breaker, 0.0)
        assert breaker.reset(at(1.0)).state is State.CLOSED
        assert breaker.record(under_way, Verdict.FAILURE, now=at(1.1), jitter=0.0) is None
        assert breaker.late_results == 1
        assert fail(breaker, 2.0) is None

    def test_forced_closed_does_not_heal(self) -> None:
        breaker = tripped()
        breaker.force_closed(at(1.0))
        end(breaker, Verdict.SUCCESS, 1000.0)
        assert breaker.view().open_count == 1


class TestView:
    def test_at_the_start(self) -> None:
        assert new().view() == BreakerView(
            name="engine",
            state=State.CLOSED,
            forced=False,
            since=WALL,
            failure_count=0,
            failure_threshold=5,
            success_count=0,
            open_count=0,
            open_max_s=300.0,
            half_open_successes=1,
            retry_at=None,
            last_error=None,
            cause=None,
            history=(START,),
        )
        assert new().view().is_closed

    def test_while_open(self) -> None:
        view = tripped(3.0).view()
        assert view == BreakerView(
            name="engine",
            state=State.OPEN,
            forced=False,
            since=WALL + 3.0,
            failure_count=1,
            failure_threshold=1,
            success_count=0,
            open_count=1,
            open_max_s=300.0,
            half_open_successes=1,
            retry_at=WALL + 5.5,
            last_error=LastFailure(ErrorCode.RPC_DISCONNECT, "refused", WALL + 3.0),
            cause=ErrorCode.RPC_DISCONNECT,
            history=(START, Move(at(3.0), State.CLOSED, State.OPEN, Reason.FAILURE_THRESHOLD)),
        )
        assert not view.is_closed

    def test_while_half_open_it_is_not_closed(self) -> None:
        breaker = tripped()
        admitted(breaker, 5.0)
        view = breaker.view()
        assert (view.state, view.is_closed, view.retry_at) == (State.HALF_OPEN, False, None)
        assert view.cause is ErrorCode.RPC_DISCONNECT

    @pytest.mark.parametrize("step_s", [-3600.0, 1.5])
    def test_its_times_follow_a_wall_clock_that_is_set(self, step_s: float) -> None:
        breaker = tripped(3.0)
        before = breaker.view()
        later = Instant(4.0, WALL + 4.0 + step_s)
        breaker.follow_clock(later)
        view = breaker.view()
        assert (view.since, view.retry_at) == pytest.approx((WALL + 3.0 + step_s, WALL + 5.5 + step_s))
        assert view.last_error is not None
        assert view.last_error.at == pytest.approx(WALL + 3.0 + step_s)
        assert [move.at.wall for move in view.history] == pytest.approx([WALL + step_s, WALL + 3.0 + step_s])
        breaker.follow_clock(Instant(5.0, WALL + 5.9 + step_s))
        assert breaker.view() == view, "moved once"
        assert isinstance(breaker.permit(at(5.4), timeout_s=2.0), NoPermit)
        breaker.follow_clock(at(5.4))
        assert breaker.view() == before, "there and back again"
        assert isinstance(breaker.permit(at(5.5), timeout_s=2.0), Permit), "what is shown decides nothing"

    def test_how_it_came_to_its_state(self) -> None:
        breaker = tripped(1.0)
        end(breaker, Verdict.SUCCESS, 9.0)
        breaker.force_open(at(10.0))
        breaker.reset(at(11.0))
        moves = [(move.at, move.from_state, move.to, move.reason.value) for move in breaker.view().history[1:]]
        assert moves == [
            (at(1.0), State.CLOSED, State.OPEN, "failure_threshold"),
            (at(9.0), State.OPEN, State.HALF_OPEN, "retry_due"),
            (at(9.0), State.HALF_OPEN, State.CLOSED, "probe_succeeded"),
            (at(10.0), State.CLOSED, State.OPEN, "force_open"),
            (at(11.0), State.OPEN, State.CLOSED, "reset"),
        ]

    def test_only_the_newest_moves_are_remembered(self) -> None:
        breaker = new()
        for second in range(1, 101):
            breaker.reset(at(second))
        history = breaker.view().history
        assert len(history) == HISTORY == 32
        assert [move.at for move in history] == [at(second) for second in range(69, 101)]

    def test_whose_call_the_last_error_ended(self) -> None:
        breaker = new()
        permit = admitted(breaker, 1.0)
        breaker.record(permit, Verdict.FAILURE, now=at(1.0), jitter=0.0, fault=DOWN, came_from=frozenset({"a.b"}))
        error = breaker.view().last_error
        assert error is not None
        assert error.came_from == {"a.b"}

    def test_the_first_transition_of_a_process(self) -> None:
        assert new().initial() == Transition(
            breaker="engine",
            state=State.CLOSED,
            from_state=None,
            reason=Reason.START,
            forced=False,
            failure_count=0,
            open_count=0,
            opened_at=None,
            retry_at=None,
            cause=None,
        )


class TestPermits:
    def test_one_permit_counts_once(self) -> None:
        breaker = new(failure_threshold=2)
        permit = admitted(breaker, 0.0)
        breaker.record(permit, Verdict.FAILURE, now=at(0.0), jitter=0.0)
        before = breaker.view()
        assert breaker.record(permit, Verdict.FAILURE, now=at(0.1), jitter=0.0) is None
        assert breaker.view() == before
        assert breaker.late_results == 0

    def test_a_late_one_is_counted_once_and_does_nothing_else(self) -> None:
        breaker = new(failure_threshold=1)
        late = admitted(breaker, 0.0)
        fail(breaker, 0.0)
        before = breaker.view()
        for _ in range(2):
            other = Fault(ErrorCode.RPC_TIMEOUT, "late", Verdict.FAILURE)
            assert breaker.record(late, Verdict.FAILURE, now=at(1.0), jitter=0.0, fault=other) is None
        assert breaker.view() == before
        assert breaker.late_results == 1

    def test_late_ones_add_up(self) -> None:
        breaker = new(failure_threshold=1)
        late = [admitted(breaker, 0.0) for _ in range(3)]
        fail(breaker, 0.0)
        for permit in late:
            breaker.record(permit, Verdict.SUCCESS, now=at(1.0), jitter=0.0)
        assert breaker.late_results == 3


UNREACHABLE = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE, unreachable=True)


class TestReached:
    """Rule 1: what a knock that found a connection changes."""

    def test_the_probe_goes_at_once_and_says_why(self) -> None:
        breaker = new(failure_threshold=1)
        fail(breaker, 0.0, fault=UNREACHABLE)
        assert breaker.refusal(at(0.1)) is not None
        assert breaker.refusal(at(0.1), reached=True) is None
        permit = breaker.permit(at(0.1), reached=True, timeout_s=2.0)
        assert isinstance(permit, Permit)
        assert permit.transition is not None
        assert (permit.transition.state, permit.transition.reason) == (State.HALF_OPEN, Reason.REACHABLE)
        assert isinstance(breaker.permit(at(0.1), reached=True, timeout_s=2.0), NoPermit), "one probe"

    def test_of_a_sick_backend_it_changes_nothing(self) -> None:
        breaker = tripped()
        assert (breaker.knocks_from_mono(at(0.1)), breaker.refusal(at(0.1), reached=True) is None) == (None, False)

    @pytest.mark.parametrize("kept_by", ["hold", "override"])
    def test_nor_of_one_that_is_held_or_kept_open(self, kept_by: str) -> None:
        breaker = new(failure_threshold=1)
        fail(breaker, 0.0, fault=UNREACHABLE)
        if kept_by == "hold":
            breaker.hold(at(60.0))
        else:
            breaker.force_open(at(0.1))
        assert (breaker.knocks_from_mono(at(9.0)), breaker.refusal(at(9.0), reached=True) is None) == (None, False)

    def test_when_its_time_has_come_the_probe_goes_because_of_that(self) -> None:
        breaker = new(failure_threshold=1)
        fail(breaker, 0.0, fault=UNREACHABLE)
        permit = breaker.permit(at(2.5), reached=True, timeout_s=2.0)
        assert isinstance(permit, Permit)
        assert permit.transition is not None
        assert permit.transition.reason is Reason.RETRY_DUE

    def test_if_the_probe_finds_no_connection_it_opens_with_the_retry_at_from_before_and_n_does_not_count_up(
        self,
    ) -> None:
        breaker = new(failure_threshold=1)
        fail(breaker, 0.0, fault=UNREACHABLE)
        permit = breaker.permit(at(1.0), reached=True, timeout_s=2.0)
        assert isinstance(permit, Permit)
        an_hour_later = Instant(1.5, WALL + 1.5 + 3600.0)  # by a clock that was set meanwhile
        move = breaker.record(permit, Verdict.FAILURE, now=an_hour_later, jitter=0.9, fault=UNREACHABLE)
        assert move is not None
        assert (move.state, move.reason, move.open_count) == (State.OPEN, Reason.PROBE_FAILED, 1)
        assert (move.retry_at, breaker.retry_at_mono) == (WALL + 2.5 + 3600.0, 2.5)

    def test_if_the_probe_finds_it_sick_it_opens_as_ever(self) -> None:
        breaker = new(failure_threshold=1)
        fail(breaker, 0.0, fault=UNREACHABLE)
        permit = breaker.permit(at(1.0), reached=True, timeout_s=2.0)
        assert isinstance(permit, Permit)
        move = breaker.record(permit, Verdict.FAILURE, now=at(1.5), jitter=0.0, fault=DOWN)
        assert move is not None
        assert (move.open_count, breaker.retry_at_mono, breaker.knocks_from_mono(at(1.5))) == (2, 6.5, None)

    def test_an_episode_ends_with_a_reset(self) -> None:
        breaker = new(failure_threshold=1)
        for seconds in (0.0, 1.0, 2.0):
            fail(breaker, seconds, fault=UNREACHABLE)
            permit = breaker.permit(at(seconds + 0.9), reached=True, timeout_s=2.0)
            if isinstance(permit, Permit):
                breaker.record(permit, Verdict.SUCCESS, now=at(seconds + 0.9), jitter=0.0)
        episode = breaker.episode
        assert episode is not None
        assert episode.openings > 1
        breaker.reset(at(4.0))
        assert (breaker.episode, breaker.run) == (None, Run())
        fail(breaker, 5.0, fault=UNREACHABLE)
        assert breaker.knocks_from_mono(at(5.0)) == 5.0


class TestPoke:
    """Rule 7: somebody says that the backend is back."""

    def test_the_probe_goes_now_and_says_why(self) -> None:
        breaker = tripped(0.0)
        assert breaker.poke(at(1.0))
        assert breaker.probe_at_mono is not None
        assert breaker.probe_at_mono <= 1.0
        permit = breaker.permit(at(1.0), timeout_s=2.0)
        assert isinstance(permit, Permit)
        assert permit.transition is not None
        assert permit.transition.reason is Reason.POKE

    def test_it_counts_like_any_other_probe(self) -> None:
        breaker = tripped(0.0)
        breaker.poke(at(1.0))
        move = fail(breaker, 1.0)
        assert move is not None
        assert (move.reason, move.open_count, breaker.retry_at_mono) == (Reason.PROBE_FAILED, 2, 6.0)

    def test_at_most_once_in_ten_seconds(self) -> None:
        breaker = tripped(0.0, open_s=64.0)
        seen = []
        for n in range(25):
            breaker.poke(at(1.0 + n))
            if breaker.refusal(at(1.0 + n)) is None:
                seen.append(1.0 + n)
                fail(breaker, 1.0 + n)
        assert seen == [1.0, 11.0, 21.0]

    def test_not_while_closed_held_or_kept_open(self) -> None:
        closed, held, kept = new(), tripped(0.0), tripped(0.0)
        held.hold(at(60.0))
        kept.force_open(at(0.5))
        assert [breaker.poke(at(1.0)) for breaker in (closed, held, kept)] == [False, False, False]
        held.release()
        assert held.poke(at(1.0)), "that one did not count"

    def test_a_hold_that_comes_after_it_ends_it(self) -> None:
        breaker = tripped(0.0, open_s=64.0)
        breaker.poke(at(1.0))
        breaker.hold(at(5.0))
        assert breaker.refusal(at(6.0)) is not None
