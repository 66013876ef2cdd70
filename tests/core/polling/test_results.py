"""What the end of a call leads to (rules 3 and 4): a hold, a repetition, another source that is asked."""

import pytest
from polling import Driven, backend_plan, raw, source_plan

from tidegate.core.measurements import OutageEnded, RepetitionEnded
from tidegate.core.polling.breaker_values import BreakerRules, State
from tidegate.core.polling.outcome import Answer, Fault, Verdict
from tidegate.core.polling.turn import Why
from tidegate.errors import ErrorCode

DOWN = Fault(ErrorCode.RPC_HTTP_STATUS, "500", Verdict.FAILURE)
UNREACHABLE = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE, unreachable=True)
NOT_FOUND = Fault(ErrorCode.RPC_HTTP_STATUS, "404", Verdict.ALIVE)
REFUSED = Fault(ErrorCode.RPC_AUTH, "401", Verdict.ALIVE)
TOO_MANY = Fault(ErrorCode.RPC_HTTP_STATUS, "429", Verdict.FAILURE, too_many=True)
SLOW = Answer(raw(0), slow=True)
RULES = BreakerRules(failure_threshold=5, open_s=2.0, open_max_s=15.0)
FIRST_S = 0.5
"""When everybody is asked first: all draws are 0.5."""


def house(*names: str, interval_s: float = 60.0, rules: BreakerRules = RULES, batch: bool = False) -> Driven:
    sources = [source_plan(name, interval_s) for name in names]
    driven = Driven(backend_plan(*sources, rules=rules, batch=batch, retry_s=1.0))
    driven.passes(FIRST_S + 5.0)
    return driven


def repetitions(driven: Driven, since: float) -> list[tuple[float, str]]:
    return [(at, name) for at, name, why in driven.since(since) if why is Why.REPETITION]


# repetitions


@pytest.mark.parametrize("fault", [DOWN, NOT_FOUND])
def test_a_poll_that_failed_or_was_answered_by_an_error_of_its_own_is_repeated_soon(fault: Fault) -> None:
    driven = house("a.x", "b.x")
    driven.answers["a.x"] = fault
    driven.passes(60.0)
    assert repetitions(driven, 60.0) == [(61.51, "a.x"), (63.52, "a.x")], "1 s and 2 s after the end of a call"
    del driven.answers["a.x"]
    driven.passes(10.0)
    assert repetitions(driven, 64.0) == [(67.53, "a.x")], "and never again once it is answered"
    answered = "answered" if fault is NOT_FOUND else "failed"  # the backend answered, though not with a result
    assert [each.result for each in driven.measured(RepetitionEnded)] == [answered, answered, "answered"]


@pytest.mark.parametrize("outcome", [REFUSED, SLOW])
def test_a_refused_account_and_a_slow_answer_are_not_repeated(outcome: Answer | Fault) -> None:
    driven = house("a.x")
    driven.answers["a.x"] = outcome
    driven.passes(110.0)
    assert repetitions(driven, 0.0) == []


def test_ticks_go_on_and_one_that_comes_first_takes_the_place_of_a_repetition() -> None:
    driven = house("a.x", "b.x", interval_s=7.0)
    driven.answers["a.x"] = NOT_FOUND
    driven.passes(20.0)
    assert [(at, why) for at, name, why in driven.since(5.0) if name == "a.x"] == [
        (7.5, Why.TICK),
        (8.51, Why.REPETITION),
        (10.52, Why.REPETITION),
        (14.5, Why.TICK),  # the next repetition was due at 14.53
        (21.5, Why.TICK),  # eight seconds are more than the interval
    ]


def test_a_tick_soon_after_a_repetition_makes_no_call() -> None:
    """Rule 6: less than half an interval later."""
    driven = house("a.x", "b.x", interval_s=5.0)
    driven.answers["a.x"] = NOT_FOUND
    driven.passes(11.0)
    assert [(at, why) for at, name, why in driven.since(5.0) if name == "a.x"] == [
        (5.5, Why.TICK),
        (6.51, Why.REPETITION),
        (8.52, Why.REPETITION),
        (12.53, Why.REPETITION),
        (15.5, Why.TICK),
    ]
    missed = {view.type: view.missed_ticks for view in driven.state.sources(driven.now)}
    assert missed == {"a.x": 0, "b.x": 0}, "the tick at 10.5 s is none"


@pytest.mark.parametrize(("retry_s", "asked_at"), [(1.0, [60.5, 80.51]), (0.0, [60.5, 120.5])])
def test_nothing_is_repeated_while_the_backend_is_held_but_when_that_is_over(
    retry_s: float, asked_at: list[float]
) -> None:
    """The hold is 20 s long, from the end of the call. Without repetitions the source waits for its tick."""
    sources = [source_plan("a.x", 60.0), source_plan("b.x", 60.0)]
    driven = Driven(backend_plan(*sources, rules=RULES, retry_s=retry_s))
    driven.passes(5.0)
    driven.answers["a.x"] = Fault(ErrorCode.RPC_HTTP_STATUS, "503", Verdict.FAILURE, retry_after_s=20.0)
    driven.passes(70.0)
    del driven.answers["a.x"]
    driven.passes(46.0)
    assert [at for at, name, _ in driven.since(60.0) if name == "a.x"][:2] == asked_at


def test_nothing_is_repeated_while_the_breaker_is_open() -> None:
    driven = house("a.x", "b.x", rules=BreakerRules(failure_threshold=2, open_s=30.0, open_max_s=30.0))
    driven.all_fail(DOWN)
    driven.passes(70.0)
    assert driven.breaker.state is State.OPEN
    assert driven.since(61.0) == []


def test_failed_elements_of_a_batch_are_repeated_as_one_batch() -> None:
    driven = house("a.x", "b.x", "c.x", batch=True)
    driven.answers = {"a.x": DOWN, "b.x": NOT_FOUND}
    driven.passes(56.5)
    assert repetitions(driven, 60.0) == [(61.51, "a.x"), (61.51, "b.x")]


def test_one_repetition_a_second_and_whoever_finds_no_room_waits_for_its_tick() -> None:
    driven = house("a.x", "b.x", "c.x", rules=BreakerRules(failure_threshold=99))
    driven.all_fail(NOT_FOUND)
    driven.passes(56.4)
    assert len(repetitions(driven, 60.0)) == 1
    assert [each.result for each in driven.measured(RepetitionEnded)] == ["no_room", "no_room", "answered"]


# one broken source


def witnesses(driven: Driven, since: float) -> list[tuple[float, str]]:
    return [(at, name) for at, name, why in driven.since(since) if why is Why.ASKED_FOR]


def test_at_the_third_failure_the_other_source_that_was_asked_longest_ago_is_asked_at_once() -> None:
    sources = [source_plan("a.x", 60.0), source_plan("b.x", 60.0), source_plan("c.x", 45.0)]
    driven = Driven(backend_plan(*sources, rules=RULES, retry_s=1.0))
    driven.passes(50.0)
    driven.answers["a.x"] = DOWN
    driven.passes(20.0)
    assert repetitions(driven, 60.0) == [(61.51, "a.x"), (63.52, "a.x"), (67.53, "a.x")], "since the answer to b.x"
    assert witnesses(driven, 60.0) == [(67.54, "c.x")], "at the end of that"
    assert (driven.breaker.state, driven.breaker.failure_count) == (State.CLOSED, 0)


def test_if_that_one_fails_too_everything_counts_and_the_breaker_opens_within_seconds() -> None:
    driven = house("a.x", "b.x", rules=BreakerRules(failure_threshold=4, open_s=30.0, open_max_s=30.0))
    driven.answers["a.x"] = DOWN
    driven.passes(56.0)
    driven.answers["b.x"] = DOWN
    driven.passes(7.0)
    assert (driven.breaker.state, driven.breaker.failure_count) == (State.OPEN, 4)


def test_one_broken_source_never_opens_the_breaker_while_the_others_are_answered() -> None:
    driven = house("a.x", "b.x", interval_s=20.0)
    driven.answers["a.x"] = DOWN
    driven.passes(600.0)
    assert driven.breaker.state is State.CLOSED
    assert driven.breaker.history[-1].from_state is None
    assert len(witnesses(driven, 0.0)) <= 2 * 600 / 20, "it costs the others little"


def test_a_witness_is_asked_once_though_its_answer_decides_nothing() -> None:
    """Each of the others is answered with a 404: they must not be asked in a loop."""
    driven = house("a.x", "b.x", "c.x", interval_s=300.0)
    driven.all_fail(NOT_FOUND)
    driven.answers["a.x"] = DOWN
    driven.passes(310.0)
    assert len(witnesses(driven, 0.0)) <= 2


# holds


def test_a_429_without_a_time_holds_longer_each_time_up_to_five_minutes_until_an_answer() -> None:
    """Rule 3: as if it had asked for 5, 10, 20 ... 300 s."""
    driven = house("a.x", interval_s=1.0)
    driven.answers["a.x"] = TOO_MANY
    holds: list[float] = []
    for _ in range(9):
        before = driven.breaker.held_until
        while driven.breaker.held_until == before:
            driven.passes(0.5)
        held_until = driven.breaker.held_until
        assert held_until is not None
        holds.append(round(held_until.mono - driven.asked[-1][0] - driven.latency_s, 3))
    assert holds == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    assert driven.state.carried(driven.now).busy == 9
    del driven.answers["a.x"]
    driven.passes(320.0)
    assert driven.state.carried(driven.now).busy == 0


def test_a_good_answer_to_one_source_of_a_batch_ends_the_run_of_429s_though_another_always_fails() -> None:
    driven = house("a.x", "b.x", batch=True)
    driven.all_fail(TOO_MANY)
    driven.passes(57.0)
    assert driven.state.carried(driven.now).busy == 1
    driven.answers = {"b.x": NOT_FOUND}
    driven.passes(10.0)
    assert driven.state.carried(driven.now).busy == 0


def test_calls_under_way_together_that_are_refused_together_are_one_refusal() -> None:
    driven = house("a.x", "b.x", "c.x")
    driven.all_fail(TOO_MANY)
    driven.passes(56.0)
    assert driven.state.carried(driven.now).busy == 1
    assert driven.breaker.held_until is not None
    assert driven.breaker.held_until.mono == pytest.approx(60.51 + 5.0)


def test_a_hold_of_an_answer_that_says_how_long_does_not_shorten_the_first_one_that_does_not() -> None:
    driven = house("a.x", "b.x", batch=True)
    driven.answers["a.x"] = Fault(ErrorCode.RPC_HTTP_STATUS, "429", Verdict.FAILURE, retry_after_s=1.0)
    driven.answers["b.x"] = TOO_MANY
    driven.passes(56.0)
    assert driven.breaker.held_until is not None
    assert driven.breaker.held_until.mono == pytest.approx(60.51 + 5.0)


# an outage


def test_an_outage_is_measured_from_the_first_failure_to_the_last_source_that_is_fresh_again() -> None:
    driven = house("a.x", "b.x", "c.x", interval_s=10.0, rules=BreakerRules(failure_threshold=3, open_s=4.0))
    driven.all_fail(UNREACHABLE)
    driven.passes(40.0)
    assert driven.measured(OutageEnded) == []
    driven.answers.clear()
    driven.passes(40.0)
    (outage,) = driven.measured(OutageEnded)
    stale = [view.type for view in driven.state.sources(driven.now) if view.stale]
    failed_at = min(at for at, _, _ in driven.since(9.0)) + driven.latency_s
    caught_up = [at for at, _, why in driven.since(40.0) if why is Why.CATCHING_UP]
    assert (stale, len(caught_up)) == ([], 2)
    assert outage.elapsed_s == pytest.approx(max(caught_up) + driven.latency_s - failed_at)


def test_who_is_caught_up_is_not_repeated_too() -> None:
    driven = house("a.x", "b.x", rules=BreakerRules(failure_threshold=2, open_s=2.0, open_max_s=2.0))
    driven.all_fail(DOWN)
    driven.passes(55.2)
    assert driven.breaker.state is State.OPEN
    driven.answers = dict.fromkeys(driven.answers, NOT_FOUND)  # the probe is one, and closes the breaker
    driven.passes(1.325)
    assert driven.breaker.is_closed
    driven.answers.clear()
    driven.passes(20.0)
    calls = [name for _, name, _ in driven.since(61.0)]
    assert calls.count("a.x") + calls.count("b.x") == 3, "a probe, and each of them once"
