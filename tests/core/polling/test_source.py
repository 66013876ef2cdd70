"""One source, told of its calls one by one: what it saves, what it carries, what it shows, when it speaks."""

from typing import Any

import msgspec
import pytest
from polling import backend_plan, breaker_view, raw, source_plan

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.measurements import PollEnded
from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.breaker_values import BreakerRules, BreakerView, State
from tidegate.core.polling.call_end import AT_DEADLINE_S, END_S
from tidegate.core.polling.decision import Decision, Save, SavedValue
from tidegate.core.polling.origins import REQUESTS_SKIPPED, resumed
from tidegate.core.polling.outcome import Answer, Fault, Outcome, Verdict
from tidegate.core.polling.showing import source_view
from tidegate.core.polling.source import Source
from tidegate.core.polling.source_values import SourceView, Value
from tidegate.errors import ErrorCode

WALL = 1_795_000_000.0
MINUTE_S = 60.0
HOUR_S = 3600.0

DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)
REFUSED_ACCOUNT = Fault(ErrorCode.RPC_AUTH, "who are you", Verdict.ALIVE)


CLOSED = breaker_view(State.CLOSED)
OPEN = breaker_view(State.OPEN, cause=ErrorCode.RPC_DISCONNECT)


def at(seconds: float, set_by: float = 0.0) -> Instant:
    """`seconds` later, on a wall clock that somebody has set by `set_by` meanwhile."""
    return Instant(seconds, WALL + seconds + set_by)


def plans(**fields: Any) -> tuple[SourcePlan, BackendPlan]:
    source = source_plan("a.x", 5.0, **fields)
    rules = BreakerRules(open_s=4.0, open_max_s=64.0)
    return source, backend_plan(source, rules=rules, connections=1, rpc_error_interval_s=30.0)


def new(*, keeps: bool = True, **fields: Any) -> Source:
    return Source(*plans(**fields), keeps=keeps, now=at(0.0))


def moved(source: Source, now: Instant, seconds: float = 0.0, **fields: Any) -> tuple[Source, Instant]:
    """The source as another process resumes it, whose monotonic clock shows `seconds`."""
    there = Instant(seconds, now.wall)
    return resumed(*plans(**fields), source.carried(now), keeps=True, now=there), there


def ends(
    source: Source,
    outcome: Outcome,
    value: Value | None = None,
    *,
    sent: Instant,
    now: Instant,
    breaker: BreakerView = CLOSED,
    jitter: float = 0.0,
    **more: Any,
) -> Decision:
    out = Decision()
    source.ended(outcome, value, sent=sent, now=now, breaker=breaker, draw=lambda: jitter, into=out, **more)
    return out


def answers(source: Source, value: Value, seconds: float, **fields: Any) -> Decision:
    """A call that is sent at `seconds` and answered 0.5 s later."""
    return ends(source, Answer(raw(0)), value, sent=at(seconds), now=at(seconds + 0.5), **fields)


def fails(source: Source, seconds: float, outcome: Outcome = DOWN, **fields: Any) -> Decision:
    return ends(source, outcome, sent=at(seconds), now=at(seconds + 0.5), **fields)


def saved(key: str, data: object, seconds: float, set_by: float = 0.0) -> SavedValue:
    return SavedValue("a.x", key, msgspec.json.encode(data), WALL + seconds + set_by)


def said(out: Decision) -> list[tuple[str, str | None, bool | None]]:
    return [(draft.type, draft.key, draft.stale) for draft in out.drafts]


# what is saved


def test_each_good_answer_is_saved_as_of_when_it_was_asked_for() -> None:
    assert answers(new(), raw(1), 10.0).saves == [Save([saved("", 1, 10.0)], [])]


def test_an_answer_that_changes_nothing_is_not_said_but_its_time_is_saved() -> None:
    source = new(on_change=True)
    answers(source, raw(1), 10.0)
    again = answers(source, raw(1), 20.0)
    assert (again.drafts, again.saves) == ([], [Save([saved("", 1, 20.0)], [])])


def test_of_a_keyed_source_what_changed_and_what_went_is_saved_and_when_all_of_it_was_last_seen() -> None:
    source = new(key="id")
    (first,) = answers(source, {"x": raw(1), "y": raw(2)}, 10.0).saves
    assert in_order(first) == Save([saved("", None, 10.0), saved("x", 1, 10.0), saved("y", 2, 10.0)], [])
    (second,) = answers(source, {"y": raw(2), "z": raw(3)}, 20.0).saves
    assert in_order(second) == Save([saved("", None, 20.0), saved("z", 3, 20.0)], [("a.x", "x")])
    everything = Decision()
    source.save(at(30.0, set_by=HOUR_S), CLOSED, everything)
    assert [in_order(save) for save in everything.saves] == [
        Save([saved("", None, 20.0, HOUR_S), saved("y", 2, 20.0, HOUR_S), saved("z", 3, 20.0, HOUR_S)], [])
    ], "by the clock as it is now"


def in_order(save: Save) -> Save:
    return Save(sorted(save.values, key=lambda value: value.key), save.gone)


def test_nothing_is_saved_before_the_first_answer_nor_where_nothing_is_kept() -> None:
    unknown, forgetful = new(), new(keeps=False)
    answered = answers(forgetful, raw(1), 10.0)
    for source in (unknown, forgetful):
        source.save(at(20.0), CLOSED, answered)
    assert answered.saves == []


def test_what_was_saved_is_said_and_saved_anew_only_if_it_claims_to_come_from_the_future() -> None:
    out, too_new, nothing = Decision(), Decision(), Decision()
    new().load_saved({"": saved("", 1, 0.0)}, now=at(60.0), breaker=CLOSED, into=out)
    restored = out.drafts[0]
    assert (restored.type, restored.stale, restored.as_of) == ("a.x", True, WALL)
    assert (restored.error_code, out.saves) == (ErrorCode.RESTORED, [])
    new().load_saved({"": saved("", 1, HOUR_S)}, now=at(60.0), breaker=CLOSED, into=too_new)
    assert (too_new.drafts[0].as_of, too_new.saves) == (WALL + 60.0, [Save([saved("", 1, 60.0)], [])])
    new().load_saved({"": saved("", 1, 60.0)}, now=at(60.0), breaker=CLOSED, into=out)
    assert out.saves == [], "it is as of now: that is no mistake"
    new().load_saved({}, now=at(60.0), breaker=CLOSED, into=nothing)
    new(key="id").load_saved({"": saved("", 1, 0.0)}, now=at(60.0), breaker=CLOSED, into=nothing)
    assert nothing == Decision()


def test_saved_items_are_as_old_as_the_row_that_says_when_all_were_seen_or_else_as_the_newest() -> None:
    rows = {"x": saved("x", 1, 5.0), "y": saved("y", 2, 8.0)}
    for more, as_of in ({}, 8.0), ({"": saved("", None, 6.0)}, 6.0):
        source, out = new(key="id"), Decision()
        source.load_saved(rows | more, now=at(60.0), breaker=CLOSED, into=out)
        assert {draft.key: (draft.data, draft.as_of) for draft in out.drafts if draft.type == "a.x"} == {
            "x": (raw(1), WALL + as_of),
            "y": (raw(2), WALL + as_of),
        }


# what its calls bring about


def test_a_failed_call_is_measured_and_reported() -> None:
    source = new()
    first, second, good = fails(source, 10.0), fails(source, 15.0), answers(source, raw(1), 20.0)
    assert first.measurements == [PollEnded("a.x", "engine", ErrorCode.RPC_DISCONNECT, 0.5)]
    assert good.measurements == [PollEnded("a.x", "engine", None, 0.5)]
    (error,) = (draft for draft in first.drafts if draft.type == "rpc_error")
    assert (error.about, msgspec.json.decode(error.data)) == (
        frozenset({"a.x"}),
        {
            "backend": "engine",
            "source": "a.x",
            "error_code": "RPC_DISCONNECT",
            "message": "refused",
            "consecutive_failures": 1,
            "retry_at": None,
            "suppressed": 0,
        },
    )
    assert [(name, report.consecutive_failures) for name, report in first.reports] == [("a.x", 1)]
    assert (second.reports, [kind for kind, _, _ in said(second) if kind == "rpc_error"]) == ([], []), "one in 30 s"


def test_a_refused_account_makes_it_wait_until_an_answer_whatever_else_fails() -> None:
    source = new()
    fails(source, 9.5, REFUSED_ACCOUNT, jitter=0.5, secret=b"old")
    assert (source.calls.refusals, source.calls.waits_until, source.calls.refused_secret) == (1, 13.75, b"old")
    fails(source, 14.0)
    assert (source.calls.refusals, source.calls.waits_until) == (1, 13.75), "no other fault counts"
    answers(source, raw(1), 30.0)
    fails(source, 39.5, REFUSED_ACCOUNT)
    assert (source.calls.refusals, source.calls.waits_until) == (1, 42.5)


def test_it_knows_whether_its_newest_call_failed_while_its_breaker_was_closed() -> None:
    """Rule 5: such a source is caught up last."""
    source = new()
    seen = []
    fails(source, 10.0)
    seen.append(source.calls.failed_alone)
    fails(source, 15.0, breaker=OPEN)
    seen.append(source.calls.failed_alone)
    fails(source, 20.0)
    answers(source, raw(1), 25.0)
    seen.append(source.calls.failed_alone)
    assert seen == [True, False, False]


def test_each_answer_is_newer_than_the_one_before() -> None:
    source = new(key="id")
    answers(source, {"x": raw(1)}, 10.0)
    assert [answers(source, {"x": raw(n)}, 10.0 * n).drafts[0].data for n in (2, 3)] == [raw(2), raw(3)]
    same = answers(source, {"x": raw(3)}, 40.0)
    assert (same.drafts, same.refreshed, same.told) == ([], {"a.x": WALL + 40.0}, {})


def test_before_its_first_attempt_has_ended_it_says_nothing_while_it_is_asked() -> None:
    source, asked, refused = new(), Decision(), Decision()
    source.calls.in_flight = True
    source.not_asked(at(5.0), CLOSED, asked)
    assert (asked, source.attempted) == (Decision(), False)
    source.calls.end_turn()
    source.not_asked(at(10.0), OPEN, refused)
    assert (source.attempted, said(refused)) == (True, [("source.freshness", "a.x", None)])
    source.calls.in_flight = True
    source.not_asked(at(15.0), OPEN, asked)
    assert source.attempted, "once and for all"


# what a call between two ticks says


OTHER = Fault(ErrorCode.RPC_TIMEOUT, "no answer", Verdict.FAILURE)


def stale_with(out: Decision) -> list[tuple[str, str | None, ErrorCode | None]]:
    return [(draft.type, draft.key, draft.error_code) for draft in out.drafts if draft.type != "rpc_error"]


def test_a_repetition_that_fails_as_before_says_nothing_and_a_tick_says_it_again() -> None:
    """Rule 4: `stale_repeat` belongs to ticks."""
    source = new()
    answers(source, raw(1), 5.0)
    assert said(fails(source, 10.0, at_tick=False))[:1] == [("a.x", None, True)], "that is news"
    assert said(fails(source, 11.0, at_tick=False)) == []
    assert said(fails(source, 15.0, at_tick=True)) == [("a.x", None, True)]


def test_another_error_of_a_repetition_is_said_at_once_where_there_is_one_item() -> None:
    """Rule 4: with its `source.freshness`."""
    source = new()
    answers(source, raw(1), 5.0)
    fails(source, 10.0)
    news = fails(source, 11.0, OTHER, at_tick=False)
    assert stale_with(news) == [("a.x", None, ErrorCode.RPC_TIMEOUT), ("source.freshness", "a.x", None)]
    assert stale_with(fails(source, 12.0, OTHER, at_tick=False)) == []


def test_another_error_of_a_repetition_is_not_said_of_a_list_of_items() -> None:
    """Rule 4: all items would have to be said again."""
    source = new(key="id")
    answers(source, {"x": raw(1), "y": raw(2)}, 5.0)
    fails(source, 10.0)
    assert stale_with(fails(source, 11.0, OTHER, at_tick=False)) == []


# the end of a call


DEADLINE_S = 20.0


@pytest.fixture
def at_deadline() -> Source:
    """A source whose data is too old at the very time at which its call ends."""
    source = new()
    answers(source, raw(1), DEADLINE_S - 10.0)
    source.calls.sent(at(DEADLINE_S - 2.0), at_tick=True, timeout_s=2.0)
    source.calls.in_flight = True
    return source


def test_age_speaks_only_if_a_call_at_its_deadline_does_not_end(at_deadline: Source) -> None:
    source, out = at_deadline, Decision()
    assert source.check_age_at == DEADLINE_S
    assert [source.calls.end.is_past_deadline(at(DEADLINE_S + late_s)) for late_s in (-0.01, 0.0)] == [False, True]
    source.check_age(at(DEADLINE_S), CLOSED, out)
    source.not_asked(at(DEADLINE_S + 0.1), CLOSED, out)
    source.publish_owed(at(DEADLINE_S + 0.1), CLOSED, out)
    assert (out.drafts, source.check_age_at) == ([], DEADLINE_S + END_S)
    source.check_age(at(DEADLINE_S + END_S), CLOSED, out)
    assert said(out) == [("a.x", None, True), ("source.freshness", "a.x", None)]
    assert out.drafts[0].error_code == ErrorCode.OVERDUE


def test_the_end_of_a_turn_ends_the_wait(at_deadline: Source) -> None:
    source, out = at_deadline, Decision()
    source.check_age(at(DEADLINE_S), CLOSED, out)
    source.calls.end_turn()
    assert (source.check_age_at, source.calls.in_flight) == (DEADLINE_S, False)
    assert not source.calls.end.is_past_deadline(at(HOUR_S))
    source.check_age(at(DEADLINE_S), CLOSED, out)
    assert said(out) == [("a.x", None, True), ("source.freshness", "a.x", None)]
    source.calls.sent(at(HOUR_S), at_tick=True, timeout_s=2.0)
    late = [
        source.calls.end.wait_at_deadline(at(HOUR_S + 2.0 - AT_DEADLINE_S + step_s)) for step_s in (-0.01, 0.0, 0.01)
    ]
    assert late == [False, True, True], "the next call has a wait of its own"


# what is shown and carried


def test_what_is_shown_is_what_was_planned_and_what_is_true() -> None:
    source = new(on_change=True, idle_interval_s=MINUTE_S)
    fails(source, 10.0)
    shown = SourceView(
        type="a.x",
        backend="engine",
        interval_s=5.0,
        timeout_s=2.0,
        max_age_s=10.0,
        on_change=True,
        stale=True,
        error_code=ErrorCode.RPC_DISCONNECT,
        missed_ticks=3,
        as_of=None,
        next_poll_at=WALL + 15.0,
    )
    assert source_view(source, at(11.0), CLOSED, next_poll_at=WALL + 15.0, missed_ticks=3) == shown
    answers(source, raw(1), 15.0)
    assert [source.set_idle(idle) for idle in (False, True, True)] == [False, True, False]
    seen = source_view(source, at(16.0), OPEN, next_poll_at=WALL + 20.0, missed_ticks=0)
    assert (seen.interval_s, seen.max_age_s, seen.as_of) == (MINUTE_S, 2 * MINUTE_S, WALL + 15.0)
    assert (seen.stale, seen.error_code) == (True, ErrorCode.CIRCUIT_BREAKER_OPEN)


def test_a_source_goes_on_in_another_process_where_it_was() -> None:
    source = new(idle_interval_s=MINUTE_S)
    answers(source, raw(1), 512.0)
    fails(source, 520.0, REFUSED_ACCOUNT)
    fails(source, 530.0)
    source.set_idle(True)
    source.missed_counted = 3
    source.calls.sent(at(544.0), at_tick=True, timeout_s=2.0)
    source.calls.in_flight = True
    other, there = moved(source, at(545.0), idle_interval_s=MINUTE_S)
    carried = source.carried(at(545.0))
    assert other.carried(there) == msgspec.structs.replace(carried, requests=3 + REQUESTS_SKIPPED)
    assert (other.calls.last_sent, other.calls.waits_until) == (-1.0, -22.0)
    assert (other.calls.refusals, other.missed_counted, other.idle, other.attempted) == (1, 3, True, True)
    assert (other.calls.in_flight, other.interval_s) == (False, MINUTE_S), "the call belongs to the other process"
    ask_again = [ends(other, DOWN, sent=there, now=Instant(seconds, there.wall)) for seconds in (5.4, 5.5)]
    assert [len(out.reports) for out in ask_again] == [0, 1], "the next report is due 30 s after the last"


def test_a_source_that_was_never_asked_is_carried_as_such() -> None:
    other, there = moved(new(), at(512.0))
    assert (other.calls.last_sent, other.calls.waits_until, other.attempted) == (LONG_AGO, LONG_AGO, False)
    assert other.carried(there) == msgspec.structs.replace(new().carried(there), requests=REQUESTS_SKIPPED)


def test_a_repetition_that_ends_at_a_tick_says_what_the_tick_had_to_say() -> None:
    source = new()
    answers(source, raw(1), 0.0)
    fails(source, 5.0)
    for has_tick in (False, True):
        source.calls.in_flight = True
        source.calls.sent(at(8.0), at_tick=False, timeout_s=2.0)
        if has_tick:
            source.not_asked(at(10.0), CLOSED, out := Decision())
            assert out.drafts == [], "the call is about to end, and speaks then"
        out = ends(source, DOWN, sent=at(8.0), now=at(10.0), at_tick=False)
        assert [name for name, *_ in said(out)] == (["a.x"] if has_tick else [])
        source.calls.end_turn()


def told_by(decision: Decision) -> list[bytes]:
    return [bytes(draft.data) for draft in decision.drafts if draft.type == "a.x"]


@pytest.mark.parametrize("keyed", [False, True])
def test_what_changes_only_where_it_is_ignored_is_no_event_until_all_is_told_anyway(keyed: bool) -> None:
    source = new(key="id" if keyed else None, on_change=True, ignore=("/t",))

    def value(a: int, t: int) -> Value:
        data = msgspec.Raw(b'{"a":%d,"t":%d}' % (a, t))
        return {"x": data} if keyed else data

    first = answers(source, value(1, 1), 10.0)
    source.taken(first.told["a.x"])
    assert told_by(first) == [b'{"a":1,"t":1}']
    quiet = answers(source, value(1, 2), 20.0)
    assert (told_by(quiet), quiet.refreshed) == ([], {"a.x": WALL + 20.0})
    other, now = moved(source, at(25.0), key="id" if keyed else None, on_change=True, ignore=("/t",))
    again = ends(other, Answer(raw(0)), value(1, 3), sent=now, now=now)
    assert told_by(again) == [], "what was told is carried, so it is still what counts"
    assert told_by(answers(source, value(2, 4), 30.0)) == [b'{"a":2,"t":4}']
    assert told_by(fails(source, 40.0)) == [b'{"a":2,"t":4}']
    assert told_by(answers(source, value(2, 5), 50.0)) == [b'{"a":2,"t":5}'], "it is fresh again: there is an event"


def test_the_first_answer_after_a_restart_is_told_with_what_is_ignored() -> None:
    source, out = new(on_change=True, ignore=("/t",)), Decision()
    row = SavedValue("a.x", "", b'{"a":1,"t":1}', WALL)
    source.load_saved({"": row}, now=at(60.0), breaker=CLOSED, into=out)
    assert told_by(out) == [b'{"a":1,"t":1}']
    assert told_by(answers(source, msgspec.Raw(b'{"a":1,"t":2}'), 61.0)) == [b'{"a":1,"t":2}']
