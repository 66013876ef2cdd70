"""What one source publishes, rule by rule."""

import json
import math
from typing import Any

import msgspec
import pytest
from polling import breaker_view, raw

from tidegate.core.events import Draft
from tidegate.core.instant import Instant
from tidegate.core.polling.breaker_values import BreakerView, State
from tidegate.core.polling.freshness import Freshness
from tidegate.core.polling.source_values import FreshnessStatus, SourceSpec, Told, Update, Value
from tidegate.errors import ErrorCode

WALL = 1_700_000_000.0
RETRY_AT = WALL + 1234.0

DISCONNECT = ErrorCode.RPC_DISCONNECT
TIMEOUT = ErrorCode.RPC_TIMEOUT
BREAKER_OPEN = ErrorCode.CIRCUIT_BREAKER_OPEN


CLOSED = breaker_view(State.CLOSED)
OPEN = breaker_view(State.OPEN, cause=DISCONNECT, retry_at=RETRY_AT)
HALF_OPEN = breaker_view(State.HALF_OPEN, cause=DISCONNECT)


def at(seconds: float, set_by: float = 0.0) -> Instant:
    """`seconds` later, on a wall clock that somebody has set by `set_by` meanwhile."""
    return Instant(seconds, WALL + seconds + set_by)


def items(**values: object) -> dict[str, msgspec.Raw]:
    return {key: raw(value) for key, value in values.items()}


def new(**settings: Any) -> Freshness:
    spec: dict[str, Any] = {"type": "system.status", "backend": "engine", "interval_s": 5.0, "timeout_s": 2.0}
    return Freshness(SourceSpec(**(spec | settings)))


def answer(source: Freshness, request: int, value: Value, seconds: float, *, breaker: BreakerView = CLOSED) -> Update:
    """A call that was sent at `seconds` and answered 0.1 s later."""
    return source.answered(request, sent=at(seconds), value=value, now=at(seconds + 0.1), breaker=breaker)


def fail(
    source: Freshness,
    request: int,
    seconds: float,
    *,
    code: ErrorCode = DISCONNECT,
    breaker: BreakerView = CLOSED,
) -> Update:
    return source.failed(request, code=code, now=at(seconds), breaker=breaker)


def answered(**settings: Any) -> Freshness:
    """A source that was answered once, at 0 s."""
    source = new(**settings)
    answer(source, 1, items(a=1, b=2) if settings.get("keyed") else raw({"n": 1}), 0.0)
    return source


def data_events(update: Update) -> list[Draft]:
    return [draft for draft in update.drafts if draft.type == "system.status"]


def announced(update: Update) -> dict[str, Any] | None:
    """The data of the one `source.freshness` event of `update`."""
    found = [draft for draft in update.drafts if draft.type == "source.freshness"]
    assert len(found) <= 1
    if not found:
        return None
    (draft,) = found
    assert (draft.key, draft.about, draft.retain) == ("system.status", frozenset({"system.status"}), True)
    assert (draft.source, draft.stale, draft.as_of) == (None, None, None)
    data: dict[str, Any] = json.loads(bytes(draft.data))
    return data


class TestFresh:
    def test_the_first_answer_is_published_with_its_freshness(self) -> None:
        update = answer(new(), 1, raw({"n": 1}), 3.0)
        assert data_events(update) == [
            Draft(
                type="system.status",
                data=raw({"n": 1}),
                retain=True,
                source="engine",
                stale=False,
                as_of=WALL + 3.0,
                fresh_s=13.0 - 3.1,
            )
        ]
        assert announced(update) == {
            "type": "system.status",
            "stale": False,
            "error_code": None,
            "as_of": "2023-11-14T22:13:23.000Z",
        }
        assert update.as_of is None

    def test_data_keeps_its_digits(self) -> None:
        digits = msgspec.Raw(b'{"a":1.10,"b":1152921504606846976}')
        (draft,) = data_events(answer(new(), 1, digits, 0.0))
        assert bytes(draft.data) == bytes(digits)

    def test_each_answer_is_published_but_its_freshness_only_when_it_changes(self) -> None:
        source = answered()
        update = answer(source, 2, raw({"n": 1}), 5.0)
        assert [draft.as_of for draft in update.drafts] == [WALL + 5.0]

    def test_an_older_answer_is_dropped(self) -> None:
        source = new()
        answer(source, 2, raw(2), 5.0)
        assert answer(source, 1, raw(1), 0.0) == Update()
        assert answer(source, 2, raw(1), 0.0) == Update(), "and so is a second one to the same request"
        assert source.items == {None: raw(2)}


class TestTheWallClockIsSet:
    """By hand, by NTP, by a battery that died: what is shown follows, what is decided does not."""

    @pytest.mark.parametrize("step_s", [-3600.0, -1.5, 1.5, 3600.0])
    def test_a_fresh_answer_is_as_of_the_clock_when_it_was_asked_for(self, step_s: float) -> None:
        source = answered()
        update = source.answered(2, sent=at(5.0, step_s), value=raw(2), now=at(5.1, step_s), breaker=CLOSED)
        assert [draft.as_of for draft in update.drafts] == [WALL + 5.0 + step_s]
        assert not source.status(at(14.0, step_s), CLOSED).stale, "wall clocks decide nothing"
        assert source.status(at(15.0, step_s), CLOSED).error_code is ErrorCode.OVERDUE

    @pytest.mark.parametrize("step_s", [-3600.0, -1.5, 1.5, 3600.0])
    def test_an_answer_that_was_under_way_is_as_old_as_its_request(self, step_s: float) -> None:
        source = new()
        update = source.answered(1, sent=at(5.0), value=raw(2), now=at(5.5, step_s), breaker=CLOSED)
        assert data_events(update)[0].as_of == pytest.approx(WALL + 5.0 + step_s)

    def test_an_older_answer_is_dropped_whatever_the_clock_says(self) -> None:
        source = new()
        source.answered(2, sent=at(5.0), value=raw(2), now=at(5.1), breaker=CLOSED)
        assert source.answered(1, sent=at(4.0, 3600.0), value=raw(1), now=at(5.2), breaker=CLOSED) == Update()
        assert source.items == {None: raw(2)}

    @pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
    def test_a_held_value_keeps_its_age(self, step_s: float) -> None:
        source = answered()
        assert source.publish_changes(at(3.0, step_s), CLOSED) == Update(), "nothing is published for that alone"
        (draft,) = data_events(source.failed(2, code=TIMEOUT, now=at(5.0, step_s), breaker=CLOSED))
        assert draft.as_of == pytest.approx(WALL + step_s)
        (again,) = data_events(source.not_asked(at(10.0, step_s + 0.4), CLOSED))
        assert again.as_of == draft.as_of, "moved once, and no more for what is no step"

    def test_small_corrections_do_not_make_it_jitter(self) -> None:
        source = answered()
        told = {source.status(at(n, drift), CLOSED).as_of for n, drift in enumerate((0.2, -0.5, 0.9, -1.0, 0.0), 2)}
        assert told == {WALL}

    def test_it_is_never_later_than_now(self) -> None:
        source = answered()
        assert source.status(at(0.2, -0.5), CLOSED).as_of == at(0.2, -0.5).wall

    def test_many_small_steps_are_one_in_the_end(self) -> None:
        source = answered()
        told = [source.status(at(10.0 * n, -0.7 * n), CLOSED).as_of for n in range(1, 4)]
        assert told == pytest.approx([WALL, WALL - 1.4, WALL - 1.4])


class TestOnChange:
    def test_an_unchanged_answer_publishes_nothing_but_is_newer(self) -> None:
        source = answered(on_change=True)
        assert answer(source, 2, raw({"n": 1}), 5.0) == Update([], as_of=WALL + 5.0)

    def test_a_changed_one_is_published(self) -> None:
        source = answered(on_change=True)
        update = answer(source, 2, raw({"n": 2}), 5.0)
        assert [bytes(draft.data) for draft in update.drafts] == [b'{"n":2}']
        assert update.as_of is None

    def test_a_change_of_freshness_is_published_though_the_data_is_the_same(self) -> None:
        source = answered(on_change=True)
        assert len(data_events(fail(source, 2, 5.0))) == 1
        update = answer(source, 3, raw({"n": 1}), 10.0)
        assert [draft.stale for draft in data_events(update)] == [False]
        assert announced(update) is not None

    @pytest.mark.parametrize("stale_repeat", [True, False])
    def test_stale_repeats_are_not_suppressed(self, stale_repeat: bool) -> None:
        source = answered(on_change=True, stale_repeat=stale_repeat)
        fail(source, 2, 5.0)
        assert len(fail(source, 3, 10.0).drafts) == stale_repeat
        source.publish_changes(at(10.0), OPEN)
        update = answer(source, 4, raw({"n": 1}), 15.0, breaker=HALF_OPEN)
        assert len(update.drafts) == stale_repeat, "good data while half-open is a stale event too"
        assert update.as_of == (None if stale_repeat else WALL + 15.0)


class TestFailing:
    def test_the_first_failure_publishes_the_last_good_data_as_stale(self) -> None:
        source = answered()
        update = fail(source, 2, 5.0, code=TIMEOUT)
        assert data_events(update) == [
            Draft(
                type="system.status",
                data=raw({"n": 1}),
                retain=True,
                source="engine",
                stale=True,
                as_of=WALL,
                error_code=TIMEOUT,
            )
        ]
        assert announced(update) == {
            "type": "system.status",
            "stale": True,
            "error_code": "RPC_TIMEOUT",
            "as_of": "2023-11-14T22:13:20.000Z",
        }

    def test_each_further_failure_says_it_again_with_its_own_code(self) -> None:
        source = answered()
        fail(source, 2, 5.0, code=TIMEOUT)
        update = fail(source, 3, 10.0, code=DISCONNECT)
        assert [draft.error_code for draft in data_events(update)] == [DISCONNECT]
        assert (announced(update) or {})["error_code"] == "RPC_DISCONNECT", "freshness says what the newest event says"
        update = fail(source, 4, 15.0, code=DISCONNECT)
        assert len(data_events(update)) == 1
        assert announced(update) is None

    def test_unless_no_repeats_are_wanted(self) -> None:
        source = answered(stale_repeat=False)
        assert len(data_events(fail(source, 2, 5.0))) == 1
        assert fail(source, 3, 10.0, code=TIMEOUT) == Update()
        update = source.not_asked(at(15.0), OPEN)
        assert [draft.error_code for draft in data_events(update)] == [BREAKER_OPEN]
        assert (announced(update) or {})["error_code"] == "CIRCUIT_BREAKER_OPEN"
        assert source.not_asked(at(20.0), OPEN) == Update()

    def test_a_failure_that_trips_the_breaker_says_so_and_names_the_cause(self) -> None:
        source = answered()
        update = fail(source, 2, 5.0, code=DISCONNECT, breaker=OPEN)
        (first,) = data_events(update)
        assert (first.error_code, first.retry_at, first.cause) == (BREAKER_OPEN, RETRY_AT, DISCONNECT)
        assert (announced(update) or {})["error_code"] == "CIRCUIT_BREAKER_OPEN"
        update = source.not_asked(at(10.0), OPEN)
        (second,) = data_events(update)
        assert (second.error_code, second.retry_at, second.cause) == (BREAKER_OPEN, RETRY_AT, DISCONNECT)
        assert announced(update) is None

    def test_later_failures_of_an_episode_say_that_the_breaker_is_open(self) -> None:
        source = answered()
        fail(source, 2, 5.0)
        (draft,) = data_events(fail(source, 3, 10.0, code=TIMEOUT, breaker=OPEN))
        assert draft.error_code is BREAKER_OPEN

    def test_an_older_failure_changes_nothing(self) -> None:
        source = new()
        answer(source, 2, raw(2), 5.0)
        assert fail(source, 1, 6.0) == Update()
        assert not source.status(at(6.0), CLOSED).stale

    def test_one_request_fails_once(self) -> None:
        source = answered()
        fail(source, 2, 5.0)
        assert fail(source, 2, 6.0, code=TIMEOUT) == Update()
        assert source.status(at(6.0), CLOSED).error_code is DISCONNECT

    def test_an_older_answer_after_a_failure_is_new_data_that_is_stale(self) -> None:
        source = answered()
        fail(source, 3, 5.0)
        update = answer(source, 2, raw({"n": 2}), 4.0)
        assert [(draft.stale, draft.error_code, draft.as_of) for draft in update.drafts] == [
            (True, DISCONNECT, WALL + 4.0)
        ]

    def test_an_answer_to_a_request_that_was_given_up_ends_nothing(self) -> None:
        source = answered()
        fail(source, 2, 7.0, code=TIMEOUT)
        (draft,) = source.answered(2, sent=at(5.0), value=raw(2), now=at(7.1), breaker=CLOSED).drafts
        assert (bytes(draft.data), draft.stale, draft.error_code) == (b"2", True, TIMEOUT)

    def test_a_success_ends_it(self) -> None:
        source = answered()
        fail(source, 2, 5.0)
        update = answer(source, 3, raw(3), 10.0)
        assert [draft.error_code for draft in data_events(update)] == [None]
        assert announced(update) is not None
        (draft,) = data_events(fail(source, 4, 15.0, code=TIMEOUT))
        assert draft.error_code is TIMEOUT, "a new episode"

    def test_ticks_of_a_source_that_backs_off_repeat_its_code(self) -> None:
        source = answered()
        fail(source, 2, 5.0, code=ErrorCode.RPC_AUTH)
        (draft,) = source.not_asked(at(10.0), CLOSED).drafts
        assert draft.error_code is ErrorCode.RPC_AUTH

    def test_a_fresh_source_has_nothing_to_repeat(self) -> None:
        assert answered().not_asked(at(1.0), CLOSED) == Update()


class TestBreaker:
    def test_another_source_trips_it(self) -> None:
        source = answered()
        update = source.publish_changes(at(3.0), OPEN)
        (draft,) = data_events(update)
        assert (draft.stale, draft.error_code, draft.retry_at) == (True, BREAKER_OPEN, RETRY_AT)
        assert (announced(update) or {})["error_code"] == "CIRCUIT_BREAKER_OPEN"

    def test_it_moves_on_without_a_change_of_staleness(self) -> None:
        source = answered()
        source.publish_changes(at(3.0), OPEN)
        assert source.publish_changes(at(5.0), HALF_OPEN) == Update()
        assert source.publish_changes(at(5.1), OPEN) == Update()

    def test_it_closes_before_the_data_is_old(self) -> None:
        source = answered()
        source.publish_changes(at(3.0), OPEN)
        update = source.publish_changes(at(6.0), CLOSED)
        (draft,) = data_events(update)
        assert (draft.stale, draft.error_code, draft.retry_at, draft.cause) == (False, None, None, None)
        assert announced(update) is not None

    def test_it_closes_when_the_data_is_old(self) -> None:
        source = answered()
        source.publish_changes(at(3.0), OPEN)
        assert source.publish_changes(at(60.0), CLOSED) == Update()
        assert source.status(at(60.0), CLOSED).error_code is ErrorCode.OVERDUE

    def test_a_source_whose_own_call_failed_stays_stale_when_it_closes(self) -> None:
        source = answered()
        fail(source, 2, 3.0, breaker=OPEN)
        assert source.publish_changes(at(4.0), CLOSED) == Update()
        assert source.status(at(4.0), CLOSED).error_code is DISCONNECT

    def test_good_data_while_half_open_is_new_and_stale(self) -> None:
        source = answered()
        fail(source, 2, 5.0, breaker=OPEN)
        update = answer(source, 3, raw(3), 10.0, breaker=HALF_OPEN)
        (draft,) = update.drafts
        assert (bytes(draft.data), draft.stale, draft.error_code) == (b"3", True, BREAKER_OPEN)
        assert (draft.as_of, draft.retry_at, draft.cause) == (WALL + 10.0, None, DISCONNECT)

    def test_the_first_answer_ever_while_half_open_makes_it_known(self) -> None:
        source = new()
        fail(source, 1, 0.0, breaker=OPEN)
        update = answer(source, 2, raw(2), 5.0, breaker=HALF_OPEN)
        assert len(data_events(update)) == 1
        assert (announced(update) or {})["as_of"] == "2023-11-14T22:13:25.000Z"


class TestNeverAnswered:
    def test_its_first_outcome_makes_its_freshness_known(self) -> None:
        update = fail(new(), 1, 0.0, code=TIMEOUT, breaker=OPEN)
        assert data_events(update) == []
        assert announced(update) == {
            "type": "system.status",
            "stale": True,
            "error_code": "CIRCUIT_BREAKER_OPEN",
            "as_of": None,
        }

    def test_a_refused_first_tick_does_so_too(self) -> None:
        update = new().not_asked(at(0.0), OPEN)
        assert data_events(update) == []
        assert (announced(update) or {})["error_code"] == "CIRCUIT_BREAKER_OPEN"

    def test_its_first_reason_is_told_though_a_tick_came_before(self) -> None:
        source = new()
        assert (announced(source.not_asked(at(0.0), CLOSED)) or {})["error_code"] is None
        assert (announced(fail(source, 1, 0.0, code=TIMEOUT)) or {})["error_code"] == "RPC_TIMEOUT"

    def test_it_is_said_once(self) -> None:
        source = new()
        fail(source, 1, 0.0)
        assert fail(source, 2, 5.0, code=TIMEOUT) == Update()
        assert (announced(source.not_asked(at(10.0), OPEN)) or {})["error_code"] == "CIRCUIT_BREAKER_OPEN"
        assert source.not_asked(at(10.5), OPEN) == Update()
        assert source.publish_changes(at(11.0), CLOSED) == Update()
        assert source.untrue_at is None

    def test_before_it_nothing_is_said(self) -> None:
        source = new()
        assert source.publish_changes(at(0.0), OPEN) == Update()
        assert source.untrue_at is None
        assert source.status(at(0.0), CLOSED) == FreshnessStatus(
            stale=True, error_code=None, as_of=None, retry_at=None, cause=None, expired=False
        )
        assert source.status(at(0.0), OPEN).error_code is BREAKER_OPEN

    def test_it_never_expires(self) -> None:
        source = new(max_stale_s=1.0)
        fail(source, 1, 0.0)
        assert not source.status(at(100.0), CLOSED).expired
        assert source.untrue_at is None


class TestAge:
    @pytest.mark.parametrize(("interval_s", "timeout_s", "limit_s"), [(5.0, 2.0, 10.0), (1.0, 2.0, 3.0)])
    def test_a_value_is_overdue_from_its_age_limit_on(
        self, interval_s: float, timeout_s: float, limit_s: float
    ) -> None:
        source = answered(interval_s=interval_s, timeout_s=timeout_s)
        assert source.untrue_at == limit_s
        assert source.publish_changes(at(math.nextafter(limit_s, 0)), CLOSED) == Update()
        update = source.publish_changes(at(limit_s), CLOSED)
        (draft,) = data_events(update)
        assert (draft.stale, draft.error_code) == (True, ErrorCode.OVERDUE)
        assert (announced(update) or {})["error_code"] == "OVERDUE"
        assert source.untrue_at is None

    def test_the_age_counts_from_the_sending(self) -> None:
        source = new()
        source.answered(1, sent=at(0.0), value=raw(1), now=at(4.0), breaker=CLOSED)
        assert source.untrue_at == 10.0

    def test_a_failure_is_to_blame_before_age_is(self) -> None:
        source = answered()
        fail(source, 2, 5.0)
        assert source.status(at(100.0), CLOSED).error_code is DISCONNECT

    def test_a_slower_pace_holds_for_the_value_at_hand(self) -> None:
        source = answered()
        source.set_interval(60.0)
        assert source.untrue_at == 120.0

    def test_the_pace_may_change_before_the_first_answer(self) -> None:
        source = new()
        source.set_interval(60.0)
        answer(source, 1, raw(1), 0.0)
        assert source.untrue_at == 120.0

    def test_a_faster_pace_holds_from_the_next_answer_on(self) -> None:
        source = answered()
        source.set_interval(60.0)
        source.set_interval(5.0)
        assert source.untrue_at == 120.0
        answer(source, 2, raw(2), 50.0)
        assert source.untrue_at == 60.0

    def test_the_limit_that_is_told_is_that_of_the_pace_now(self) -> None:
        source = answered()
        assert source.max_age_s == 10.0
        source.set_interval(60.0)
        assert source.max_age_s == 120.0
        source.set_interval(1.0)
        assert source.max_age_s == 3.0, "a call may take its whole timeout"


class TestExpiry:
    def test_a_stale_value_past_its_limit_is_withheld(self) -> None:
        source = answered(max_stale_s=60.0)
        assert source.untrue_at == 10.0
        fail(source, 2, 5.0)
        assert source.untrue_at == 60.0
        assert source.publish_changes(at(math.nextafter(60.0, 0)), CLOSED) == Update()
        update = source.publish_changes(at(60.0), CLOSED)
        assert update.drafts == [
            Draft(
                type="system.status",
                data=msgspec.Raw(b"null"),
                retain=True,
                source="engine",
                stale=True,
                as_of=WALL,
                error_code=DISCONNECT,
                expired=True,
            )
        ]
        assert source.untrue_at is None

    def test_it_is_repeated_too(self) -> None:
        source = answered(max_stale_s=60.0)
        fail(source, 2, 5.0)
        (draft,) = fail(source, 3, 65.0).drafts
        assert draft.expired
        (draft,) = fail(source, 4, 70.0).drafts
        assert draft.expired

    def test_a_fresh_value_does_not_expire(self) -> None:
        source = answered(max_stale_s=1.0)
        assert not source.status(at(9.0), CLOSED).expired
        (draft,) = data_events(source.publish_changes(at(10.0), CLOSED))
        assert (draft.error_code, draft.expired) == (ErrorCode.OVERDUE, True)

    def test_it_is_held_all_the_same(self) -> None:
        source = answered(max_stale_s=60.0)
        fail(source, 2, 65.0)
        assert source.items == {None: raw({"n": 1})}

    def test_the_same_data_comes_back(self) -> None:
        source = answered(max_stale_s=60.0, on_change=True)
        fail(source, 2, 65.0)
        (draft,) = data_events(answer(source, 3, raw({"n": 1}), 70.0, breaker=HALF_OPEN))
        assert (bytes(draft.data), draft.expired, draft.stale) == (b'{"n":1}', False, True)


def test_a_hold_that_ends_in_the_moment_in_which_data_is_too_old_is_not_the_reason() -> None:
    for held_until, reason in (10.0, ErrorCode.OVERDUE), (10.5, ErrorCode.RPC_HTTP_STATUS):
        update = answered().publish_changes(at(10.0), breaker_view(State.CLOSED, held_until=at(held_until)))
        assert [draft.error_code for draft in data_events(update)] == [reason]


class TestRestated:
    """What is handed over between the moment in which age makes it untrue and the review that publishes that."""

    @staticmethod
    def told(**settings: Any) -> tuple[Freshness, list[Draft]]:
        source = new(**settings)
        value = items(a=1, b=2) if settings.get("keyed") else raw({"n": 1})
        return source, answer(source, 1, value, 0.0).drafts

    def test_before_its_time_it_is_what_was_published(self) -> None:
        source, drafts = self.told()
        assert all(source.corrected_for_age(draft, at(math.nextafter(10.0, 0)), CLOSED) is draft for draft in drafts)

    @pytest.mark.parametrize("keyed", [False, True])
    def test_from_then_on_it_is_what_the_review_will_publish(self, keyed: bool) -> None:
        source, drafts = self.told(keyed=keyed)
        corrected = [source.corrected_for_age(draft, at(10.0), CLOSED) for draft in drafts]
        assert [draft.fresh_s for draft in drafts] == [9.9] * len(drafts)
        assert all(draft.stale and draft.error_code is ErrorCode.OVERDUE for draft in corrected[:-1])
        assert corrected == source.publish_changes(at(10.0), CLOSED).drafts

    def test_it_says_for_how_long_that_is_true_and_an_item_that_went_keeps_its_data(self) -> None:
        source, (first, *_) = self.told(keyed=True, max_stale_s=60.0)
        old = msgspec.structs.replace(first, key="old", data=raw("old"))
        corrected = [source.corrected_for_age(draft, at(10.0), CLOSED) for draft in (first, old)]
        assert [(draft.key, draft.data, draft.fresh_s) for draft in corrected] == [
            (first.key, first.data, 50.0),
            ("old", raw("old"), 50.0),
        ]
        outdated = msgspec.structs.replace(first, data=raw("outdated"), as_of=0.0)
        shown = source.corrected_for_age(outdated, at(10.0), CLOSED)
        assert (shown.data, shown.as_of) == (raw("outdated"), 0.0), "newer data has a newer time, once it is published"
        freshness = self.told(max_stale_s=60.0)[1][-1]
        assert source.corrected_for_age(freshness, at(10.0), CLOSED).fresh_s == 50.0

    def test_a_stale_value_expires(self) -> None:
        source, _ = self.told(max_stale_s=60.0)
        (stale, freshness) = fail(source, 2, 5.0).drafts
        assert (stale.fresh_s, freshness.fresh_s) == (55.0, 55.0)
        (expired,) = source.publish_changes(at(60.0), CLOSED).drafts
        assert source.corrected_for_age(stale, at(60.0), CLOSED) == expired, "the bus may be slow to publish it"
        assert source.corrected_for_age(freshness, at(60.0), CLOSED) is freshness, "it says the same"
        assert source.corrected_for_age(expired, at(60.0), CLOSED) is expired
        assert expired.fresh_s is None

    def test_a_stale_value_that_never_expires_stays_true(self) -> None:
        source, _ = self.told()
        assert [draft.fresh_s for draft in fail(source, 2, 5.0).drafts] == [None, None]

    def test_a_newer_answer_or_a_slower_pace_keeps_it_true(self) -> None:
        source, (draft, _) = self.told(on_change=True)
        assert not answer(source, 2, raw({"n": 1}), 5.0).drafts
        assert source.corrected_for_age(draft, at(11.0), CLOSED) is draft
        source.set_interval(60.0)
        assert source.corrected_for_age(draft, at(100.0), CLOSED) is draft

    def test_what_is_gone_has_no_age(self) -> None:
        source, _ = self.told(keyed=True)
        gone = [draft for draft in answer(source, 2, items(a=1), 5.0).drafts if draft.gone]
        assert [draft.fresh_s for draft in gone] == [None]


class TestRestored:
    def restore(self, source: Freshness, *, as_of: float, value: Value | None = None) -> Update:
        return source.load_saved(value or raw("old"), as_of=as_of, now=at(0.0), breaker=CLOSED)

    def test_it_is_published_as_stale_with_its_own_as_of(self) -> None:
        source = new()
        update = self.restore(source, as_of=WALL - 500.0)
        (draft,) = data_events(update)
        assert (bytes(draft.data), draft.stale, draft.error_code) == (b'"old"', True, ErrorCode.RESTORED)
        assert draft.as_of == WALL - 500.0
        assert (announced(update) or {})["error_code"] == "RESTORED"

    def test_it_does_not_become_overdue(self) -> None:
        source = new()
        self.restore(source, as_of=WALL - 500.0)
        assert source.untrue_at is None
        assert source.status(at(100.0), CLOSED).error_code is ErrorCode.RESTORED

    def test_a_failure_takes_over(self) -> None:
        source = new()
        self.restore(source, as_of=WALL - 500.0)
        update = fail(source, 1, 1.0, code=TIMEOUT)
        assert [draft.error_code for draft in data_events(update)] == [TIMEOUT]
        assert (announced(update) or {})["error_code"] == "RPC_TIMEOUT"

    def test_a_failure_takes_over_for_every_item(self) -> None:
        source = new(keyed=True, stale_repeat=False)
        self.restore(source, as_of=WALL - 500.0, value=items(a=1, b=2))
        update = fail(source, 1, 1.0, code=TIMEOUT)
        assert [(draft.key, draft.error_code) for draft in data_events(update)] == [("a", TIMEOUT), ("b", TIMEOUT)]
        assert fail(source, 2, 6.0, code=DISCONNECT) == Update()

    def test_an_answer_ends_it(self) -> None:
        source = new()
        self.restore(source, as_of=WALL - 500.0)
        assert [draft.stale for draft in data_events(answer(source, 1, raw("old"), 1.0))] == [False]

    def test_it_expires_by_its_age_on_disk(self) -> None:
        source = new(max_stale_s=600.0)
        self.restore(source, as_of=WALL - 500.0)
        assert source.untrue_at == 100.0
        (draft,) = source.publish_changes(at(100.0), CLOSED).drafts
        assert draft.expired
        assert data_events(self.restore(new(max_stale_s=400.0), as_of=WALL - 500.0))[0].expired

    def test_from_the_future_it_is_as_of_the_restart(self) -> None:
        source = new(max_stale_s=600.0)
        (draft,) = data_events(self.restore(source, as_of=WALL + 500.0))
        assert draft.as_of == WALL
        assert source.untrue_at == 600.0
        (draft,) = data_events(answer(source, 1, raw(1), 1.0))
        assert draft.as_of == WALL + 1.0

    def test_it_never_replaces_an_answer(self) -> None:
        source = answered()
        assert self.restore(source, as_of=WALL + 500.0) == Update()
        assert source.items == {None: raw({"n": 1})}

    def test_after_a_first_tick_it_is_published_all_the_same(self) -> None:
        source = new()
        source.not_asked(at(0.0), OPEN)
        assert len(data_events(self.restore(source, as_of=WALL))) == 1

    def test_keyed_values_come_back_as_such(self) -> None:
        source = new(keyed=True)
        update = self.restore(source, as_of=WALL - 5.0, value=items(a=1, b=2))
        assert [(draft.key, draft.error_code) for draft in data_events(update)] == [
            ("a", ErrorCode.RESTORED),
            ("b", ErrorCode.RESTORED),
        ]
        update = answer(source, 1, items(b=2), 0.0)
        assert [(draft.key, draft.gone) for draft in data_events(update)] == [("b", False), ("a", True)]


class TestKeyed:
    def test_a_late_answer_that_changes_nothing_leaves_the_reason_as_it_was_said(self) -> None:
        source = answered(keyed=True)
        source.publish_changes(at(1.0), OPEN)
        late = source.answered(2, sent=at(1.5), value=items(a=1, b=2), now=at(20.0), breaker=CLOSED)
        assert (late.drafts, late.as_of) == ([], WALL + 1.5)
        assert source.publish_changes(at(21.0), OPEN).drafts == [], "the events say that, and why, already"

    def test_each_item_is_an_event(self) -> None:
        update = answer(new(keyed=True), 1, items(a=1, b=2), 0.0)
        assert [(draft.key, bytes(draft.data)) for draft in data_events(update)] == [("a", b"1"), ("b", b"2")]
        assert update.as_of is None

    def test_only_what_changed_is_published(self) -> None:
        source = answered(keyed=True)
        update = answer(source, 2, items(a=1, b=3, c=4), 5.0)
        assert [(draft.key, bytes(draft.data), draft.as_of) for draft in update.drafts] == [
            ("b", b"3", WALL + 5.0),
            ("c", b"4", WALL + 5.0),
        ]
        assert update.as_of == WALL + 5.0, "of the item that was left out"

    def test_an_unchanged_answer_publishes_nothing(self) -> None:
        source = answered(keyed=True)
        assert answer(source, 2, items(b=2, a=1), 5.0) == Update([], as_of=WALL + 5.0)

    def test_an_item_that_disappears_is_gone_once(self) -> None:
        source = answered(keyed=True)
        update = answer(source, 2, items(a=1), 5.0)
        assert update.drafts == [
            Draft(
                type="system.status",
                key="b",
                data=msgspec.Raw(b"null"),
                retain=True,
                gone=True,
                source="engine",
                stale=False,
                as_of=WALL + 5.0,
            )
        ]
        assert answer(source, 3, items(a=1), 10.0).drafts == []

    def test_going_stale_is_one_event_per_item_not_repeated(self) -> None:
        source = answered(keyed=True)
        update = fail(source, 2, 5.0)
        assert [(draft.key, draft.stale, draft.error_code) for draft in data_events(update)] == [
            ("a", True, DISCONNECT),
            ("b", True, DISCONNECT),
        ]
        assert announced(update) is not None
        assert fail(source, 3, 10.0, code=TIMEOUT) == Update()

    def test_the_outage_behind_which_they_are_stale_is_told_of_each_item_once(self) -> None:
        source = answered(keyed=True)
        fail(source, 2, 5.0, code=TIMEOUT)
        update = source.publish_changes(at(6.0), OPEN)
        assert [(draft.key, draft.error_code, draft.cause) for draft in data_events(update)] == [
            ("a", BREAKER_OPEN, DISCONNECT),
            ("b", BREAKER_OPEN, DISCONNECT),
        ]
        assert (announced(update) or {})["error_code"] == "CIRCUIT_BREAKER_OPEN"
        assert source.not_asked(at(15.0), OPEN) == Update()
        assert source.publish_changes(at(16.0), HALF_OPEN) == Update()
        update = source.publish_changes(at(17.0), breaker_view(State.OPEN, cause=TIMEOUT, retry_at=RETRY_AT))
        assert [(draft.key, draft.cause) for draft in update.drafts] == [("a", TIMEOUT), ("b", TIMEOUT)]

    def test_no_two_items_are_stale_for_different_reasons(self) -> None:
        source = answered(keyed=True)
        fail(source, 3, 5.0, code=TIMEOUT)
        fail(source, 4, 10.0, code=DISCONNECT)
        update = source.answered(2, sent=at(4.0), value=items(a=9, b=2), now=at(11.0), breaker=CLOSED)
        assert [(draft.key, draft.error_code) for draft in data_events(update)] == [
            ("a", DISCONNECT),
            ("b", DISCONNECT),
        ]
        assert (announced(update) or {})["error_code"] == "RPC_DISCONNECT"

    def test_becoming_fresh_is_one_event_per_item(self) -> None:
        source = answered(keyed=True)
        fail(source, 2, 5.0)
        update = answer(source, 3, items(a=1, b=2), 10.0)
        assert [(draft.key, draft.stale) for draft in data_events(update)] == [("a", False), ("b", False)]

    def test_while_half_open_what_changed_is_stale(self) -> None:
        source = answered(keyed=True)
        source.publish_changes(at(1.0), OPEN)
        update = answer(source, 2, items(a=9, b=2), 5.0, breaker=HALF_OPEN)
        assert [(draft.key, draft.stale, draft.error_code) for draft in update.drafts] == [("a", True, BREAKER_OPEN)]
        assert update.as_of == WALL + 5.0

    def test_an_empty_list_is_an_answer(self) -> None:
        source = new(keyed=True)
        update = answer(source, 1, {}, 0.0)
        assert data_events(update) == []
        assert (announced(update) or {})["stale"] is False
        assert (announced(fail(source, 2, 5.0)) or {})["stale"] is True

    def test_an_expired_item_that_goes_is_only_gone(self) -> None:
        source = new(keyed=True, max_stale_s=1.0, interval_s=0.5, timeout_s=0.5)
        answer(source, 1, items(a=1), 0.0)
        fail(source, 3, 2.0)
        update = source.answered(2, sent=at(0.2), value={}, now=at(2.1), breaker=CLOSED)
        assert [(draft.gone, draft.expired, draft.error_code) for draft in update.drafts] == [(True, False, DISCONNECT)]

    def test_ten_thousand_items_of_which_one_changes(self) -> None:
        source = new(keyed=True)
        many = {f"k{n}": raw(n) for n in range(10_000)}
        answer(source, 1, many, 0.0)
        assert [draft.key for draft in answer(source, 2, many | {"k7": raw("new")}, 5.0).drafts] == ["k7"]

    def test_what_is_held_is_its_own(self) -> None:
        source = new(keyed=True)
        mine = items(a=1)
        answer(source, 1, mine, 0.0)
        mine["b"] = raw(2)
        assert source.items == items(a=1)


class TestStatus:
    def test_while_the_breaker_is_open(self) -> None:
        source = answered()
        assert source.status(at(3.0), OPEN) == FreshnessStatus(
            stale=True,
            error_code=BREAKER_OPEN,
            as_of=WALL,
            retry_at=RETRY_AT,
            cause=DISCONNECT,
            expired=False,
        )

    def test_while_fresh(self) -> None:
        assert answered().status(at(3.0), CLOSED) == FreshnessStatus(
            stale=False, error_code=None, as_of=WALL, retry_at=None, cause=None, expired=False
        )


class TestHold:
    """The backend asked to be left alone until 100 s; the value was asked for at 0 s, its age limit is 10 s."""

    HELD = breaker_view(State.CLOSED, held_until=at(100.0))

    def answered(self) -> Freshness:
        freshness = new()
        freshness.answered(1, sent=at(0.0), value=raw(1), now=at(0.1), breaker=CLOSED)
        return freshness

    def test_a_fresh_value_stays_fresh_and_says_no_time(self) -> None:
        freshness = self.answered()
        assert freshness.not_asked(at(9.9), self.HELD).drafts == []
        status = freshness.status(at(9.9), self.HELD)
        assert (status.stale, status.error_code, status.retry_at) == (False, None, None)

    def test_what_grows_too_old_says_why_and_until_when(self) -> None:
        data, known = self.answered().publish_changes(at(10.0), self.HELD).drafts
        assert (data.stale, data.error_code, data.retry_at, data.cause) == (
            True,
            ErrorCode.RPC_HTTP_STATUS,
            WALL + 100.0,
            None,
        )
        assert json.loads(bytes(known.data))["error_code"] == "RPC_HTTP_STATUS"

    def test_the_source_that_got_it_says_until_when(self) -> None:
        freshness = self.answered()
        data, _ = freshness.failed(2, code=ErrorCode.RPC_HTTP_STATUS, now=at(5.0), breaker=self.HELD).drafts
        assert (data.error_code, data.retry_at) == (ErrorCode.RPC_HTTP_STATUS, WALL + 100.0)
        (again,) = freshness.not_asked(at(9.0), self.HELD).drafts
        assert (again.error_code, again.retry_at) == (ErrorCode.RPC_HTTP_STATUS, WALL + 100.0)

    def test_one_outage_keeps_its_reason_when_the_hold_is_over(self) -> None:
        freshness = self.answered()
        freshness.publish_changes(at(10.0), self.HELD)
        (again,) = freshness.not_asked(at(100.1), self.HELD).drafts
        assert (again.error_code, again.retry_at) == (ErrorCode.RPC_HTTP_STATUS, None)

    def test_a_value_that_was_asked_for_after_the_hold_is_overdue_as_any_other(self) -> None:
        freshness = self.answered()
        freshness.answered(2, sent=at(101.0), value=raw(1), now=at(101.1), breaker=self.HELD)
        assert freshness.status(at(111.0), self.HELD).error_code is ErrorCode.OVERDUE

    def test_what_was_never_answered_says_why_it_is_not_asked(self) -> None:
        (known,) = new().not_asked(at(5.0), self.HELD).drafts
        assert json.loads(bytes(known.data)) == {
            "type": "system.status",
            "stale": True,
            "error_code": "RPC_HTTP_STATUS",
            "as_of": None,
        }
        assert new().status(at(100.0), self.HELD).error_code is None

    def test_an_open_breaker_is_the_reason_where_there_is_one(self) -> None:
        freshness = self.answered()
        held_open = breaker_view(State.HALF_OPEN, cause=DISCONNECT, held_until=at(100.0))
        (data, _) = freshness.publish_changes(at(5.0), held_open).drafts
        assert (data.error_code, data.retry_at, data.cause) == (BREAKER_OPEN, WALL + 100.0, DISCONNECT)


def taken(source: Freshness, update: Update) -> None:
    assert update.told is not None
    source.taken(update.told)


def told_once(**settings: Any) -> Freshness:
    """A source that was answered once, at 0 s, of which subscribers have heard."""
    source = new(**settings)
    taken(source, answer(source, 1, items(a=1, b=2) if settings.get("keyed") else raw({"n": 1}), 0.0))
    return source


class TestRefused:
    """What the bus has refused is owed, whatever is asked of the source before it is said again."""

    @pytest.mark.parametrize("between", ["publish_changes", "not_asked"])
    def test_a_value_is_owed_after_a_look_that_changes_nothing(self, between: str) -> None:
        source = told_once(on_change=True)
        answer(source, 2, raw({"n": 2}), 5.0)
        source.refused()
        assert getattr(source, between)(at(5.2), CLOSED) == Update()
        update = source.publish_owed(at(5.6), CLOSED)
        assert [(bytes(draft.data), draft.as_of) for draft in update.drafts] == [(b'{"n":2}', WALL + 5.0)]
        taken(source, update)
        assert answer(source, 3, raw({"n": 2}), 10.0) == Update([], as_of=WALL + 10.0)

    def test_an_unchanged_answer_does_not_date_a_value_that_nobody_holds(self) -> None:
        source = told_once(on_change=True)
        answer(source, 2, raw({"n": 2}), 5.0)
        source.refused()
        source.publish_changes(at(5.2), CLOSED)
        update = answer(source, 3, raw({"n": 2}), 10.0)
        assert [(bytes(draft.data), draft.as_of) for draft in update.drafts] == [(b'{"n":2}', WALL + 10.0)]
        assert update.as_of is None

    @pytest.mark.parametrize("between", ["publish_changes", "not_asked"])
    def test_a_removal_is_owed_after_a_look_that_changes_nothing(self, between: str) -> None:
        source = told_once(keyed=True)
        answer(source, 2, items(a=1), 5.0)
        source.refused()
        assert getattr(source, between)(at(5.2), CLOSED) == Update()
        update = source.publish_owed(at(5.6), CLOSED)
        assert [(draft.key, draft.gone) for draft in update.drafts] == [("b", True)]
        assert update.as_of == WALL + 5.0

    @pytest.mark.parametrize("says", ["publish_changes", "not_asked", "publish_owed"])
    def test_whoever_tells_all_items_tells_the_removal_too(self, says: str) -> None:
        source = told_once(keyed=True)
        answer(source, 2, items(a=1), 5.0)
        source.refused()
        update = getattr(source, says)(at(5.2), OPEN)
        assert [(draft.key, draft.stale, draft.gone) for draft in data_events(update)] == [
            ("a", True, False),
            ("b", True, True),
        ]
        taken(source, update)
        assert source.publish_owed(at(5.3), OPEN) == Update()

    def test_an_answer_between_two_equal_failures_is_owed(self) -> None:
        source = told_once(stale_repeat=False)
        taken(source, fail(source, 2, 5.0))
        answer(source, 3, raw({"n": 2}), 10.0)
        source.refused()
        assert fail(source, 4, 15.0) == Update()
        (draft,) = source.publish_owed(at(15.1), CLOSED).drafts
        assert (bytes(draft.data), draft.stale, draft.as_of) == (b'{"n":2}', True, WALL + 10.0)

    def test_that_anything_is_known_is_not_told_before_the_data_is(self) -> None:
        source = new(stale_repeat=False)
        taken(source, fail(source, 1, 0.0, breaker=OPEN))
        answer(source, 2, raw(2), 5.0, breaker=HALF_OPEN)
        source.refused()
        assert source.publish_changes(at(5.2), OPEN) == Update()
        update = source.publish_owed(at(5.6), OPEN)
        assert [bytes(draft.data) for draft in data_events(update)] == [b"2"]
        assert announced(update) is not None

    def test_a_restored_value_is_owed(self) -> None:
        source = new()
        taken(source, source.not_asked(at(0.0), OPEN))
        source.load_saved(raw("old"), as_of=WALL - 5.0, now=at(0.1), breaker=OPEN)
        source.refused()
        assert len(data_events(source.publish_owed(at(0.6), OPEN))) == 1

    @pytest.mark.parametrize("keyed", [False, True])
    def test_while_a_change_of_age_is_on_its_way_snapshots_say_it(self, keyed: bool) -> None:
        source = new(keyed=keyed)
        update = answer(source, 1, items(a=1, b=2) if keyed else raw(1), 0.0)
        taken(source, update)
        overdue = source.publish_changes(at(10.0), CLOSED).drafts
        assert [source.corrected_for_age(draft, at(12.0), CLOSED) for draft in update.drafts] == overdue
        assert [source.corrected_for_age(draft, at(12.0), CLOSED) for draft in overdue] == overdue

    def test_what_is_stale_by_age_is_as_old_as_its_own_data(self) -> None:
        source = new()
        (draft, freshness) = answer(source, 1, raw({"n": 1}), 0.0).drafts
        source.answered(2, sent=at(5.0), value=raw({"n": 2}), now=at(5.1), breaker=CLOSED)
        corrected = source.corrected_for_age(draft, at(16.0), CLOSED)
        assert (bytes(corrected.data), corrected.stale, corrected.as_of) == (b'{"n":1}', True, WALL)
        assert source.corrected_for_age(freshness, at(12.0), CLOSED) is freshness, "newer data is on its way"


class TestAnotherEpoch:
    def test_an_item_that_was_on_its_way_is_removed_if_it_is_gone_since(self) -> None:
        source = told_once(keyed=True)
        answer(source, 2, items(a=1, b=2, c=3), 5.0)
        source.forget_told()
        update = answer(source, 3, items(a=1, b=2), 10.0)
        assert [(draft.key, draft.gone) for draft in data_events(update)] == [("a", False), ("b", False), ("c", True)]

    def test_an_item_that_was_published_late_is_removed_though_its_removal_is_refused(self) -> None:
        source = told_once(keyed=True)
        late = answer(source, 2, items(a=1, b=2, c=3), 5.0)
        answer(source, 3, items(a=1, b=2), 10.0)
        source.forget_told()
        source.publish_owed(at(10.2), CLOSED)
        assert late.told is not None
        source.taken(Told(None, late.told.items))
        source.refused()
        update = source.publish_owed(at(10.7), CLOSED)
        assert [(draft.key, draft.gone) for draft in data_events(update)] == [("a", False), ("b", False), ("c", True)]
        assert announced(update) is not None
        taken(source, update)
        assert source.publish_owed(at(11.0), CLOSED) == Update()

    def test_of_what_was_told_before_nothing_has_to_be_removed(self) -> None:
        source = told_once(keyed=True)
        source.forget_told()
        source.refused()
        update = answer(source, 2, items(a=1), 5.0)
        assert [(draft.key, draft.gone) for draft in data_events(update)] == [("a", False)]
