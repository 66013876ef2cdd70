"""Another plan for a backend that is polled: what goes on, what begins anew, and what subscribers are told."""

from typing import Any

import msgspec
from polling import Driven, backend_plan, moves_of, raw, source_plan

from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.breaker_values import BreakerRules, State
from tidegate.core.polling.call import Call
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.outcome import Answer, Fault, Verdict
from tidegate.errors import ErrorCode

RULES = BreakerRules(failure_threshold=2, open_s=8.0, open_max_s=8.0)
DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)
BUSY = Fault(ErrorCode.RPC_HTTP_STATUS, "429", Verdict.FAILURE, retry_after_s=30.0)
BAD = Fault(ErrorCode.RPC_HTTP_STATUS, "404", Verdict.ALIVE)


def planned(*sources: SourcePlan, rules: BreakerRules = RULES, **fields: Any) -> BackendPlan:
    return backend_plan(*sources, rules=rules, **fields)


def asked_otherwise(source: SourcePlan) -> SourcePlan:
    return msgspec.structs.replace(source, call=Call("other"))


A, B = source_plan("a.x", 10.0), source_plan("b.x", 10.0)


def told(decision: Decision) -> list[tuple[str, str | None, bool | None, str | None]]:
    """What the drafts say: type, key, whether stale, or None if gone; and the code."""
    return [
        (each.type, each.key, None if each.gone else each.stale, None if each.gone else each.error_code)
        for each in decision.drafts
    ]


def test_an_equal_plan_changes_nothing() -> None:
    driven, twin = Driven(planned(A, B)), Driven(planned(A, B))
    for each in (driven, twin):
        each.passes(12.0)
    decision = driven.replan(planned(A, B))
    assert (decision.drafts, decision.moves, decision.saves, decision.measurements) == ([], [], [], [])
    for each in (driven, twin):
        each.passes(40.0)
    assert driven.asked == twin.asked


def test_a_source_that_is_added_is_asked_within_a_second_and_then_with_the_others() -> None:
    driven = Driven(planned(A))
    driven.passes(12.0)
    assert driven.replan(planned(A, B)).drafts == []
    driven.passes(20.0)
    asked = [at for at, name in driven.asked if name == "b.x"]
    assert 12.0 <= asked[0] <= 13.0
    assert set(asked[1:]) <= {at for at, name in driven.asked if name == "a.x"}, "they share their ticks"
    assert len(asked) == 3


def test_a_source_with_an_interval_of_its_own_has_its_first_tick_within_a_second() -> None:
    driven = Driven(planned(A))
    driven.passes(12.0)
    driven.replan(planned(A, source_plan("c.x", 7.0)))
    driven.passes(10.0)
    assert [at for at, name in driven.asked if name == "c.x"] == [12.5, 19.5]


def test_a_removed_source_is_told_gone_once_and_is_asked_no_more() -> None:
    driven = Driven(planned(A, B))
    driven.passes(12.0)
    decision = driven.replan(planned(A))
    assert told(decision) == [("b.x", None, None, None), ("source.freshness", "b.x", None, None)]
    assert driven.state.replanning.is_told
    before, said = len(driven.asked), len(driven.decisions)
    driven.passes(40.0)
    assert {name for _, name in driven.asked[before:]} == {"a.x"}
    assert {draft.type for each in driven.decisions[said:] for draft in each.drafts} == {"a.x"}


def test_a_removed_source_that_nothing_was_told_of_leaves_without_a_word() -> None:
    driven = Driven(planned(A, B))
    assert driven.replan(planned(A)).drafts == []
    assert driven.state.replanning.is_told


def test_what_the_bus_refuses_of_a_removal_is_said_again() -> None:
    driven = Driven(planned(A, B))
    driven.passes(12.0)
    decision = driven.state.replanning.replan(planned(A), driven.now)
    driven.state.refused(decision, driven.now)
    assert not driven.state.replanning.is_told
    assert driven.state.tick(driven.now, is_wanted=lambda _: True).drafts == [], "a bus in trouble is not flooded"
    driven.sleeps(0.5)
    again = driven.state.tick(driven.now, is_wanted=lambda _: True)
    assert told(again) == told(decision)
    driven.state.taken(again)
    assert driven.state.replanning.is_told


def test_what_the_bus_has_refused_of_a_source_needs_no_end_when_it_is_removed() -> None:
    driven = Driven(planned(A, B), latency_s=100.0)
    driven.passes(0.6)
    turn = driven.under_way[0]
    answered = driven.state.ended(turn, [(Answer(raw(0)), raw(0)) for _ in turn.group], driven.now)
    removed = driven.state.replanning.replan(planned(B), driven.now)
    assert told(removed) == [("a.x", None, None, None), ("source.freshness", "a.x", None, None)]
    for each in (answered, removed):
        driven.state.refused(each, driven.now)
    assert driven.state.replanning.is_told, "nothing was ever told of it"
    driven.sleeps(0.5)
    assert driven.state.tick(driven.now, is_wanted=lambda _: True).drafts == []


def test_a_source_that_comes_back_and_leaves_again_is_told_gone_although_the_bus_has_refused_it() -> None:
    driven = Driven(planned(A, B))
    driven.passes(12.0)
    replan = driven.state.replanning.replan
    removed, back, again = (replan(plan, driven.now) for plan in (planned(B), planned(A, B), planned(B)))
    assert (back.drafts, again.drafts) == ([], []), "that it is gone is on its way"
    driven.state.refused(removed, driven.now)
    assert not driven.state.replanning.is_told
    driven.sleeps(0.5)
    owed = driven.state.tick(driven.now, is_wanted=lambda _: True)
    assert told(owed) == told(removed)
    driven.state.taken(owed)
    assert driven.state.replanning.is_told


def test_a_source_that_was_told_of_in_another_epoch_only_is_told_gone_if_that_may_be_published_in_this_one() -> None:
    driven = Driven(planned(A, B), latency_s=100.0)
    driven.answers = {"a.x": DOWN}
    driven.passes(0.6)
    turn = driven.under_way[0]
    failed = driven.state.ended(turn, [(DOWN, None) for _ in turn.group], driven.now)
    assert "source.freshness" in {each.type for each in failed.drafts}
    driven.state.epoch_changed(driven.now)
    driven.state.taken(failed)
    removed = driven.state.replanning.replan(planned(B), driven.now)
    assert ("source.freshness", "a.x", None, None) in told(removed)


def test_in_another_epoch_a_source_is_told_although_its_call_does_not_end_at_its_deadline() -> None:
    slow = source_plan("a.x", 64.0, stale_repeat=False)
    driven = Driven(planned(slow))
    driven.passes(12.0)
    driven.latency_s = 100.0
    driven.replan(planned(asked_otherwise(slow)), can_knock=False, is_other_service=True)
    driven.passes(1.99)
    said = len(driven.decisions)
    driven.state.epoch_changed(driven.now)
    driven.passes(0.5)
    drafts = [each for decision in driven.decisions[said:] for each in decision.drafts]
    assert [(each.type, each.error_code) for each in drafts if each.type == "a.x"] == [("a.x", ErrorCode.RELOADED)]


def test_a_source_that_is_asked_otherwise_hands_on_its_value_as_stale_until_the_first_answer() -> None:
    driven = Driven(planned(A, B))
    driven.passes(12.0)
    decision = driven.replan(planned(asked_otherwise(A), B))
    assert told(decision) == [
        ("a.x", None, True, ErrorCode.RELOADED),
        ("source.freshness", "a.x", None, None),
    ]
    assert b'"RELOADED"' in bytes(decision.drafts[1].data)
    assert decision.drafts[0].as_of is not None
    driven.passes(1.0)
    assert [(at, name) for at, name in driven.asked if at > 11.0] == [(12.0, "a.x")]
    after = driven.decisions[driven.decisions.index(decision) + 1 :]
    assert [each for one in after for each in told(one)] == [
        ("a.x", None, False, None),
        ("source.freshness", "a.x", None, None),
    ]


def test_a_call_under_way_of_the_old_question_says_nothing_of_the_data_but_judges_the_breaker() -> None:
    driven = Driven(planned(A, B), latency_s=2.0)
    driven.answers = {"a.x": DOWN}
    driven.passes(0.6)
    driven.replan(planned(asked_otherwise(A), B))
    driven.passes(1.95)
    assert driven.breaker.last_error is not None
    assert {draft.type for each in driven.decisions for draft in each.drafts} == {
        "circuit_breaker.state",
        "b.x",
        "source.freshness",
    }


def test_a_breaker_of_its_own_begins_closed_and_ends_with_gone() -> None:
    own = msgspec.structs.replace(A, breaker="engine/a.x")
    driven = Driven(planned(A, B))
    driven.all_fail(DOWN)
    driven.passes(2.0)
    decision = driven.replan(planned(own, B))
    assert [(move.breaker, move.from_state, move.state, move.reason) for move in moves_of(decision)] == [
        ("engine/a.x", None, "closed", "reload")
    ]
    begun = driven.state.breaker("engine/a.x", driven.now)
    assert [(move.from_state, move.reason) for move in begun.history] == [(None, "reload")]
    back = driven.replan(planned(A, B))
    first = back.drafts[0]
    assert (first.type, first.key, first.gone) == ("circuit_breaker.state", "engine/a.x", True)
    assert driven.breaker.state is State.OPEN


def test_another_session_closes_the_breakers_and_asks_everybody_soon() -> None:
    driven = Driven(planned(A, B))
    driven.all_fail(DOWN)
    driven.passes(2.0)
    assert driven.breaker.state is State.OPEN
    decision = driven.replan(planned(A, B), can_knock=False)
    assert [(move.from_state, move.state, move.reason) for move in moves_of(decision)] == [("open", "closed", "reload")]
    driven.answers = {}
    driven.passes(1.0)
    assert {name for at, name in driven.asked if at >= 2.0} == {"a.x", "b.x"}


def test_another_session_leaves_the_same_service_alone_for_as_long_as_it_has_asked() -> None:
    driven = Driven(planned(A, B))
    driven.all_fail(BUSY)
    driven.passes(2.0)
    held_until = driven.breaker.held_until
    assert held_until is not None
    driven.answers = {}
    driven.replan(planned(A, B), can_knock=False)
    assert (driven.breaker.state, driven.breaker.held_until) == (State.CLOSED, held_until)
    driven.passes(38.0)
    asked = [(at, name) for at, name in driven.asked if at > 1.0]
    assert {name for _, name in asked} == {"a.x", "b.x"}
    assert held_until.mono <= asked[0][0] <= held_until.mono + 0.1, "not earlier, and then at once"


def test_another_service_has_asked_for_nothing() -> None:
    driven = Driven(planned(A, B))
    driven.all_fail(BUSY)
    driven.passes(2.0)
    driven.answers = {}
    driven.replan(planned(A, B), can_knock=False, is_other_service=True)
    assert driven.breaker.held_until is None
    driven.passes(1.0)
    assert {name for at, name in driven.asked if at >= 2.0} == {"a.x", "b.x"}


def test_new_rules_of_a_breaker_leave_its_state_and_its_times() -> None:
    driven = Driven(planned(A, B))
    driven.all_fail(DOWN)
    driven.passes(2.0)
    before = driven.breaker
    decision = driven.replan(planned(A, B, rules=BreakerRules(failure_threshold=9, open_s=1.0, open_max_s=2.0)))
    assert decision.drafts == []
    after = driven.breaker
    assert (after.state, after.retry_at, after.failure_count, after.open_count) == (
        before.state,
        before.retry_at,
        before.failure_count,
        before.open_count,
    )
    assert (after.failure_threshold, after.open_max_s) == (9, 2.0)


def test_a_shorter_interval_counts_at_once() -> None:
    driven = Driven(planned(A, B))
    driven.passes(8.0)
    decision = driven.replan(planned(source_plan("a.x", 2.0), B))
    assert told(decision)[0] == ("a.x", None, True, ErrorCode.OVERDUE), "the age limit is the new one"
    driven.passes(6.0)
    asked = [at for at, name in driven.asked if name == "a.x" and at >= 8.0]
    assert asked[0] <= 9.0
    assert len(asked) >= 3


def test_a_source_moves_to_another_backend_with_its_value() -> None:
    driven, other = Driven(planned(A, B)), Driven(planned())
    driven.passes(12.0)
    other.passes(12.0)
    held = driven.state.replanning.release(["a.x"], driven.now)
    assert driven.replan(planned(B)).drafts == []
    decision = other.replan(planned(A), held=held)
    assert [(each.type, each.error_code) for each in decision.drafts if each.type == "a.x"] == [
        ("a.x", ErrorCode.RELOADED)
    ]
    other.passes(1.0)
    assert other.asked == [(12.5, "a.x")]


def test_everything_is_gone_without_sources() -> None:
    driven = Driven(planned(A, B))
    driven.passes(12.0)
    decision = driven.replan(planned())
    assert {(each.type, each.key, each.gone) for each in decision.drafts} == {
        ("circuit_breaker.state", "engine", True),
        ("a.x", None, True),
        ("b.x", None, True),
        ("source.freshness", "a.x", True),
        ("source.freshness", "b.x", True),
    }
    assert driven.state.replanning.is_told
    driven.passes(100.0)
    assert driven.state.wake_at() is None
