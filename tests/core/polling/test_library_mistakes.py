"""Mistakes found in well-known circuit breakers, each of which this one must not make."""

import asyncio

import pytest

from tidegate.core.instant import Instant
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import BreakerRules, Reason, State
from tidegate.core.polling.outcome import ClassifyPolicy, Fault, Verdict, classify
from tidegate.core.polling.permit import NoPermit, Permit
from tidegate.errors import ApplicationError, ErrorCode

WALL = 1_700_000_000.0


def at(seconds: float, *, wall: float | None = None) -> Instant:
    return Instant(seconds, WALL + seconds if wall is None else wall)


def admitted(breaker: Breaker, seconds: float) -> Permit:
    permit = breaker.permit(at(seconds), timeout_s=2.0)
    assert isinstance(permit, Permit)
    return permit


def tripped() -> Breaker:
    """Open since 0 s, to be probed from 2.5 s on."""
    breaker = Breaker("engine", BreakerRules(failure_threshold=1, open_s=5.0), now=at(0.0))
    breaker.record(admitted(breaker, 0.0), Verdict.FAILURE, now=at(0.0), jitter=0.0)
    assert breaker.retry_at_mono == 2.5
    return breaker


def test_fifty_callers_at_once_are_not_fifty_probes() -> None:
    """purgatory, aiobreaker, circuitbreaker, hyx: half-open admits every concurrent caller."""
    breaker = tripped()
    admissions = [breaker.permit(at(2.5), timeout_s=2.0) for _ in range(50)]
    assert [type(admission) for admission in admissions] == [Permit] + [NoPermit] * 49


def test_a_late_success_from_before_the_trip_does_not_close_it() -> None:
    """purgatory, hyx: a slow call that was admitted while closed ends well and closes the half-open breaker."""
    breaker = Breaker("engine", BreakerRules(failure_threshold=1, open_s=5.0), now=at(0.0))
    slow = admitted(breaker, 0.0)
    breaker.record(admitted(breaker, 0.0), Verdict.FAILURE, now=at(0.0), jitter=0.0)
    probe = admitted(breaker, 2.5)
    assert breaker.record(slow, Verdict.SUCCESS, now=at(2.6), jitter=0.0) is None
    assert breaker.view().state is State.HALF_OPEN
    assert isinstance(breaker.permit(at(2.6), timeout_s=2.0), NoPermit), "the probe keeps its place"
    assert breaker.record(probe, Verdict.FAILURE, now=at(2.7), jitter=0.0) is not None


def test_a_late_failure_from_before_the_trip_does_not_open_it_again() -> None:
    """The same defect the other way round: the backend is back, and an old timeout condemns it."""
    breaker = Breaker("engine", BreakerRules(failure_threshold=1, open_s=5.0), now=at(0.0))
    slow = admitted(breaker, 0.0)
    breaker.record(admitted(breaker, 0.0), Verdict.FAILURE, now=at(0.0), jitter=0.0)
    breaker.record(admitted(breaker, 2.5), Verdict.SUCCESS, now=at(2.6), jitter=0.0)
    assert breaker.record(slow, Verdict.FAILURE, now=at(2.7), jitter=0.0) is None
    assert breaker.is_closed


def test_a_cancelled_call_does_not_close_it() -> None:
    """circuitbreaker: an exception that is not among the expected ones counts as a success."""
    breaker = tripped()
    probe = admitted(breaker, 2.5)
    outcome = classify(asyncio.CancelledError(), elapsed_s=0.1, policy=ClassifyPolicy())
    assert outcome.verdict is Verdict.IGNORED
    assert breaker.record(probe, outcome.verdict, now=at(2.6), jitter=0.0) is None
    assert breaker.view().state is State.HALF_OPEN


def test_a_cancelled_probe_that_says_so_leaves_its_place_at_once() -> None:
    """resilience4j #544, Polly #1979: a cancelled probe is never accounted for, and half-open lasts for ever."""
    breaker = tripped()
    breaker.record(admitted(breaker, 2.5), Verdict.IGNORED, now=at(2.6), jitter=0.0)
    assert isinstance(breaker.permit(at(2.6), timeout_s=2.0), Permit)


def test_a_probe_that_asked_for_something_unknown_does_not_keep_it_half_open() -> None:
    """Ours, version 1: such a probe gave its place back without a verdict, and the breaker never closed."""
    breaker = tripped()
    outcome = classify(ApplicationError(-32601, "no such method"), elapsed_s=0.1, policy=ClassifyPolicy())
    transition = breaker.record(admitted(breaker, 2.5), outcome.verdict, now=at(2.6), jitter=0.0)
    assert transition is not None
    assert transition.state is State.CLOSED


def test_a_probe_that_is_never_heard_of_again_leaves_its_place_in_the_end() -> None:
    """The same, where not even the cancellation is reported."""
    breaker = tripped()
    admitted(breaker, 2.5)
    assert isinstance(breaker.permit(at(2.5 + 3.0), timeout_s=2.0), Permit)


def test_a_classifier_that_raises_does_not_wedge_it() -> None:
    """A raise between admission and verdict leaves the probe's place taken."""

    class Hostile(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    breaker = tripped()
    probe = admitted(breaker, 2.5)
    outcome = classify(Hostile(), elapsed_s=0.1, policy=ClassifyPolicy())
    assert isinstance(outcome, Fault)
    assert outcome.code is ErrorCode.RPC_INVALID_RESPONSE
    transition = breaker.record(probe, outcome.verdict, now=at(2.6), jitter=0.0, fault=outcome)
    assert transition is not None
    assert transition.reason is Reason.PROBE_FAILED


def test_jitter_is_drawn_once_when_it_opens() -> None:
    """fluxgate: drawn again at each check, so that many checks find the shortest period soon."""
    breaker = Breaker("engine", BreakerRules(failure_threshold=1, open_s=5.0), now=at(0.0))
    breaker.record(admitted(breaker, 0.0), Verdict.FAILURE, now=at(0.0), jitter=0.9)
    announced = breaker.retry_at_mono
    refusals = {breaker.permit(at(second / 1000), timeout_s=2.0) for second in range(4750)}
    assert refusals == {NoPermit(WALL + 4.75)}
    assert breaker.retry_at_mono == announced == 4.75


@pytest.mark.parametrize("jump", [-1e9, -3600.0, 3600.0, 1e9])
def test_the_wall_clock_decides_nothing(jump: float) -> None:
    """purgatory: a clock that is set back keeps the breaker open for as long, one that is set forward closes it."""
    breaker = tripped()
    assert isinstance(breaker.permit(at(2.4, wall=WALL + jump), timeout_s=2.0), NoPermit)
    assert isinstance(breaker.permit(at(2.5, wall=WALL + jump), timeout_s=2.0), Permit)


def test_a_refusal_is_a_value_of_constant_size() -> None:
    """purgatory: one exception object is raised for every refusal, and its traceback grows with each."""
    breaker = tripped()
    first, *_, last = [breaker.permit(at(1.0), timeout_s=2.0) for _ in range(1000)]
    assert first == last == NoPermit(WALL + 2.5)
    assert not isinstance(last, BaseException)


def test_the_caller_publishes_and_may_come_back_from_there() -> None:
    """gobreaker #37: listeners are called inside the transition, under its lock, and deadlock if they ask again."""
    breaker = Breaker("engine", BreakerRules(failure_threshold=1, open_s=5.0), now=at(0.0))
    transition = breaker.record(admitted(breaker, 0.0), Verdict.FAILURE, now=at(0.0), jitter=0.0)
    assert transition is not None
    assert transition.state is breaker.view().state, "it is over before anyone hears of it"
    assert breaker.permit(at(0.0), timeout_s=2.0) == NoPermit(transition.retry_at)
    assert breaker.force_closed(at(0.0)) is not None


def test_a_timeout_around_the_call_is_counted() -> None:
    """interlock-cb: a timeout outside of the breaker ends as a cancellation inside, and is never counted."""

    async def hangs() -> Verdict:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError as error:
            return classify(error, elapsed_s=0.0, policy=ClassifyPolicy()).verdict
        raise AssertionError("expected a timeout")

    breaker = Breaker("engine", BreakerRules(failure_threshold=1, open_s=5.0), now=at(0.0))
    permit = admitted(breaker, 0.0)
    verdict = asyncio.run(hangs())
    transition = breaker.record(permit, verdict, now=at(1.0), jitter=0.0)
    assert transition is not None
    assert transition.state is State.OPEN
