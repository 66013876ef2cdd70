"""What a breaker counts (rule 4): one broken source is no broken backend, and which run is which."""

import pytest

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import BreakerRules, State
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.polling.permit import Permit
from tidegate.errors import ErrorCode

DOWN = Fault(ErrorCode.RPC_HTTP_STATUS, "500", Verdict.FAILURE)
UNREACHABLE = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE, unreachable=True)


def at(seconds: float) -> Instant:
    return Instant(seconds, 1_795_000_000.0 + seconds)


def new(threshold: int = 5, **more: object) -> Breaker:
    return Breaker("engine", BreakerRules(failure_threshold=threshold, **more), now=at(0.0))  # type: ignore[arg-type]


def call(
    breaker: Breaker,
    seconds: float,
    *names: str,
    verdict: Verdict = Verdict.FAILURE,
    fault: Fault | None = DOWN,
    repeats: bool = False,
) -> None:
    """A call for the sources `names` ends; `repeats`: it was the repetition of one that failed."""
    permit = breaker.permit(at(seconds), timeout_s=2.0)
    assert isinstance(permit, Permit)
    failed = verdict is Verdict.FAILURE
    breaker.record(
        permit,
        verdict,
        now=at(seconds),
        jitter=0.0,
        fault=fault if failed else None,
        came_from=frozenset(names),
        repeats=repeats,
    )


def test_repetitions_of_the_one_source_that_fails_are_not_counted() -> None:
    breaker = new()
    call(breaker, 1.0, "a.x")
    for n in range(50):
        call(breaker, 2.0 + n, "a.x", repeats=True)
    assert (breaker.is_closed, breaker.view().failure_count, breaker.run.uncounted) == (True, 1, 50)


def test_its_ticks_are_counted_as_ever() -> None:
    breaker = new(threshold=3)
    for n in range(3):
        assert breaker.is_closed
        call(breaker, 10.0 * n, "a.x")
        if breaker.is_closed:
            call(breaker, 10.0 * n + 1, "a.x", repeats=True)
    assert breaker.view().failure_count == 3
    assert not breaker.is_closed


@pytest.mark.parametrize("repeats", [False, True])
def test_as_soon_as_another_source_fails_everything_counts(repeats: bool) -> None:
    breaker = new()
    call(breaker, 1.0, "a.x")
    for n in range(3):
        call(breaker, 2.0 + n, "a.x", repeats=True)
    assert breaker.is_closed
    call(breaker, 6.0, "b.x", repeats=repeats)
    assert (breaker.view().state, breaker.view().failure_count) == (State.OPEN, 5)


def test_what_was_not_counted_is_not_forgotten_by_a_failure_of_the_same_source_that_is_counted() -> None:
    breaker = new()
    for seconds, repeats in ((1.0, False), (2.0, True), (3.0, False), (4.0, True)):
        call(breaker, seconds, "a.x", repeats=repeats)
    assert (breaker.view().failure_count, breaker.run.uncounted) == (2, 2)
    call(breaker, 5.0, "b.x")
    assert (breaker.view().state, breaker.view().failure_count) == (State.OPEN, 5)


def test_it_opens_though_one_failure_brings_it_over_the_threshold_by_more_than_one() -> None:
    breaker = new(threshold=2)
    call(breaker, 1.0, "a.x")
    for n in range(4):
        call(breaker, 2.0 + n, "a.x", repeats=True)
    call(breaker, 9.0, "b.x")
    assert (breaker.view().state, breaker.view().failure_count) == (State.OPEN, 6)


def test_an_answer_begins_the_run_anew() -> None:
    breaker = new()
    call(breaker, 1.0, "a.x")
    call(breaker, 2.0, "a.x", repeats=True)
    call(breaker, 3.0, "b.x", verdict=Verdict.SUCCESS)
    call(breaker, 4.0, "b.x")
    assert (breaker.view().failure_count, breaker.run.uncounted, breaker.run.came_from) == (1, 0, frozenset({"b.x"}))
    assert breaker.run.began == 4.0


def test_what_is_alive_ends_no_run() -> None:
    breaker = new()
    call(breaker, 1.0, "a.x")
    call(breaker, 2.0, "a.x", repeats=True)
    call(breaker, 3.0, "b.x", verdict=Verdict.ALIVE)
    assert (breaker.view().failure_count, breaker.run.uncounted, breaker.run.began) == (1, 1, 1.0)


def test_the_repetition_of_a_whole_batch_counts() -> None:
    breaker = new(threshold=2)
    call(breaker, 1.0, "a.x", "b.x")
    call(breaker, 2.0, "a.x", "b.x", repeats=True)
    assert not breaker.is_closed


@pytest.mark.parametrize(
    ("calls", "wants"),
    [
        ([False, True, True, True], [False, False, True, False]),
        ([False, True, False, True], [False, False, True, False]),
        ([False, False, False, False], [False, False, False, False]),
    ],
)
def test_at_the_third_failure_another_source_is_wanted_if_one_was_a_repetition(
    calls: list[bool], wants: list[bool]
) -> None:
    breaker = new()
    seen = []
    for n, repeats in enumerate(calls):
        call(breaker, 1.0 + n, "a.x", repeats=repeats)
        seen.append(breaker.wants_witness)
    assert seen == wants


def test_a_repetition_says_whether_the_backend_can_be_reached_only_if_it_counts() -> None:
    breaker = new(threshold=3)
    call(breaker, 1.0, "a.x")
    call(breaker, 2.0, "a.x", fault=UNREACHABLE, repeats=True)
    call(breaker, 3.0, "b.x", fault=UNREACHABLE)
    assert breaker.knocks_from_mono(at(3.0)) == 3.0


def test_the_window_counts_what_is_made_up_for() -> None:
    breaker = new(threshold=99, failure_rate=0.5, rate_minimum_calls=4, rate_window_s=60.0)
    call(breaker, 1.0, "a.x")
    call(breaker, 2.0, "a.x", repeats=True)
    call(breaker, 3.0, "a.x", repeats=True)
    assert breaker.is_closed
    call(breaker, 4.0, "b.x")
    assert not breaker.is_closed


def test_the_run_goes_on_in_another_process() -> None:
    """Rule 10."""
    breaker = new()
    call(breaker, 100.0, "a.x")
    call(breaker, 102.0, "a.x", repeats=True)
    call(breaker, 103.0, "a.x", repeats=True)
    carried, there = breaker.carried(at(104.0)), Instant(8.0, at(104.0).wall)
    resumed = Breaker.from_carried("engine", BreakerRules(failure_threshold=5), carried, now=there)
    assert (resumed.run.began, resumed.run.uncounted, resumed.run.came_from) == (4.0, 2, frozenset({"a.x"}))
    assert resumed.wants_witness
    permit = resumed.permit(there, timeout_s=2.0)
    assert isinstance(permit, Permit)
    resumed.record(permit, Verdict.FAILURE, now=there, jitter=0.0, fault=DOWN, came_from=frozenset({"b.x"}))
    assert resumed.view().failure_count == 4
