import json
from typing import Any

import msgspec
import pytest
from fanout import NOW, WALL, event

from tidegate.core.built_in import BreakerState, SourceFreshness
from tidegate.core.delivery.retained import Name, Retained
from tidegate.core.events import About, Draft
from tidegate.core.instant import Instant
from tidegate.core.polling.breaker_values import Reason, State
from tidegate.errors import ErrorCode


def at(seconds: float, *, set_by: float = 0.0) -> Instant:
    """`seconds` later, on a wall clock that somebody has set by `set_by` meanwhile."""
    return Instant(NOW.mono + seconds, WALL + seconds + set_by)


def snapshot(retained: Retained, name: Name, now: Instant = NOW) -> dict[str, Any]:
    found = retained.snapshot(name, now)
    assert found is not None
    shown: dict[str, Any] = json.loads(found[1])
    return shown


def test_keeps_the_newest_event_of_each_type_and_key() -> None:
    retained = Retained()
    for seq, (event_type, key) in enumerate([("a", None), ("b", "x"), ("b", "y"), ("b", "x")], 1):
        retained.apply(event(event_type, seq, key=key, retain=True), NOW)
    assert [(e.type, e.key, e.seq) for e in retained.events()] == [("a", None, 1), ("b", "x", 4), ("b", "y", 3)]
    assert len(retained) == 3
    held = retained.get("b", "y")
    assert held is not None
    assert held.seq == 3
    assert retained.get("b") is None
    assert retained.get("c", "x") is None
    assert retained.snapshot(("b", "z"), NOW) is None


def test_names_those_that_are_wanted_by_their_type_and_what_they_speak_of() -> None:
    retained = Retained(["empty"])
    retained.apply(event("a", 1, retain=True), NOW)
    retained.apply(event("b", 2, key="x", retain=True, about=frozenset({"c"})), NOW)
    assert retained.names(lambda event_type, about: (event_type, about) == ("a", None)) == [("a", "")]
    assert retained.names(lambda event_type, about: (event_type, about) == ("b", frozenset({"c"}))) == [("b", "x")]
    assert retained.names(lambda *_: True) == [("a", ""), ("b", "x")]


def test_who_connects_has_each_type_judged_once_however_many_keys_speak_of_the_same() -> None:
    retained, about, other = Retained(), frozenset({"c"}), frozenset({"d"})
    for seq, key in enumerate("xyz", 1):
        retained.apply(event("a", seq, key=key, retain=True), NOW)
    for seq, (key, of) in enumerate([("x", about), ("y", about), ("z", other), ("w", None)], 4):
        retained.apply(event("b", seq, key=key, retain=True, about=of), NOW)
    asked: list[object] = []

    def wanted(event_type: str, of: About) -> bool:
        asked.append((event_type, of))
        return of != about

    assert retained.names(wanted) == [("a", "x"), ("a", "y"), ("a", "z"), ("b", "z"), ("b", "w")]
    assert asked == [("a", None), ("b", about), ("b", other), ("b", None)]


def test_what_is_gone_is_forgotten_but_its_type_stays_known() -> None:
    retained = Retained(["known"])
    retained.apply(event("b", 1, key="x", retain=True), NOW)
    retained.apply(event("b", 2, key="x", retain=True, gone=True), NOW)
    retained.apply(event("b", 3, key="never", retain=True, gone=True), NOW)
    assert list(retained.events()) == []
    assert "b" in retained
    assert "known" in retained
    assert "other" not in retained


def test_a_snapshot_is_the_event_marked_and_encoded_once() -> None:
    retained = Retained()
    kept = event("a", 1, {"n": 1}, retain=True)
    retained.apply(kept, NOW)
    assert snapshot(retained, ("a", "")) == {**json.loads(kept.json), "snapshot": True}
    first, second = retained.snapshot(("a", ""), NOW), retained.snapshot(("a", ""), NOW)
    assert first is not None
    assert second is not None
    assert first[0] is kept
    assert first[1] is second[1]


def test_a_snapshot_of_unchanged_data_carries_the_newer_as_of() -> None:
    retained = Retained()
    retained.apply(event("a", 1, as_of=WALL, source="s", stale=False, retain=True), NOW)
    assert snapshot(retained, ("a", ""))["as_of"] == "2026-11-22T21:40:03.123Z"
    retained.refresh("a", WALL + 2, at(2))
    assert snapshot(retained, ("a", ""))["as_of"] == "2026-11-22T21:40:05.123Z"
    assert snapshot(retained, ("a", ""))["timestamp"] == "2026-11-22T21:40:03.123Z"
    retained.apply(event("a", 2, as_of=WALL - 1, source="s", stale=False, retain=True), NOW)
    assert snapshot(retained, ("a", ""))["as_of"] == "2026-11-22T21:40:02.123Z"


def test_refreshing_a_type_that_was_never_retained_changes_nothing() -> None:
    retained = Retained()
    retained.refresh("a", WALL, NOW)
    assert "a" not in retained


def test_what_age_has_made_untrue_is_told_as_it_is_now() -> None:
    def restated(draft: Draft) -> Draft:
        return msgspec.structs.replace(draft, stale=True, error_code=ErrorCode.OVERDUE)

    retained = Retained()
    retained.restated = restated
    retained.apply(event("a", 1, {"n": 1}, source="s", stale=False, as_of=WALL, fresh_s=10.0, retain=True), NOW)
    fresh = snapshot(retained, ("a", ""), at(9.9))
    stale = snapshot(retained, ("a", ""), at(10))
    assert stale == {**fresh, "stale": True, "error_code": "OVERDUE"}
    assert snapshot(retained, ("a", ""), NOW) == fresh


class TestTheWallClockIsSet:
    """What is held tells times as the clock does now, so that whoever subscribes reads true ages."""

    def held(self, **fields: Any) -> Retained:
        retained = Retained()
        retained.apply(event("a", 1, {"n": 1}, source="s", retain=True, **fields), NOW)
        return retained

    def test_back_a_value_keeps_its_age(self) -> None:
        retained = self.held(stale=True, as_of=WALL - 5, retry_at=WALL + 7)
        before = snapshot(retained, ("a", ""))
        after = snapshot(retained, ("a", ""), at(3, set_by=-3600))
        assert after == {**before, "as_of": "2026-11-22T20:39:58.123Z", "retry_at": "2026-11-22T20:40:10.123Z"}
        assert snapshot(retained, ("a", ""), at(4, set_by=-3600.5)) == after, "moved once"

    def test_forward_it_stays_as_of_before_its_event(self) -> None:
        retained = self.held(stale=False, as_of=WALL - 5)
        assert snapshot(retained, ("a", ""), at(3, set_by=3600))["as_of"] == "2026-11-22T21:40:03.123Z"

    def test_forward_what_was_seen_again_keeps_its_age(self) -> None:
        retained = self.held(stale=False, as_of=WALL - 5)
        retained.refresh("a", WALL + 2, at(2.5))
        assert snapshot(retained, ("a", ""), at(3, set_by=3600))["as_of"] == "2026-11-22T22:40:05.123Z"

    def test_what_is_seen_again_afterwards_is_as_of_the_new_clock(self) -> None:
        retained = self.held(stale=True, as_of=WALL - 5, retry_at=WALL + 7)
        retained.refresh("a", WALL - 3598, at(2, set_by=-3600))
        shown = snapshot(retained, ("a", ""), at(3, set_by=-3600))
        assert (shown["as_of"], shown["retry_at"]) == ("2026-11-22T20:40:05.123Z", "2026-11-22T20:40:10.123Z")

    def test_small_corrections_change_nothing(self) -> None:
        retained = self.held(stale=True, as_of=WALL - 5)
        before = retained.snapshot(("a", ""), NOW)
        assert before is not None
        assert retained.snapshot(("a", ""), at(3, set_by=-0.9)) == before

    def test_a_breaker_tells_when_it_opened_and_is_asked_again(self) -> None:
        data = BreakerState(
            breaker="engine",
            state=State.OPEN,
            from_state=State.CLOSED,
            reason=Reason.FAILURE_THRESHOLD,
            forced=False,
            failure_count=5,
            open_count=1,
            opened_at="2026-11-22T21:40:03.123Z",
            retry_at="2026-11-22T21:40:08.123Z",
        )
        retained = Retained()
        retained.apply(event("circuit_breaker.state", 1, msgspec.to_builtins(data), key="engine", retain=True), NOW)
        shown = snapshot(retained, ("circuit_breaker.state", "engine"), at(3, set_by=3600))
        assert shown["timestamp"] == "2026-11-22T21:40:03.123Z"
        assert shown["data"] == msgspec.to_builtins(data) | {
            "opened_at": "2026-11-22T22:40:03.123Z",
            "retry_at": "2026-11-22T22:40:08.123Z",
        }

    @pytest.mark.parametrize(
        ("as_of", "shown"), [(None, None), ("2026-11-22T21:40:03.123Z", "2026-11-22T20:40:03.123Z")]
    )
    def test_freshness_tells_how_old_the_data_is(self, as_of: str | None, shown: str | None) -> None:
        data = SourceFreshness(type="a", stale=True, error_code=ErrorCode.RPC_TIMEOUT, as_of=as_of)
        retained = Retained()
        retained.apply(event("source.freshness", 1, msgspec.to_builtins(data), key="a", retain=True), NOW)
        told = snapshot(retained, ("source.freshness", "a"), at(3, set_by=-3600))["data"]
        assert told == msgspec.to_builtins(data) | {"as_of": shown}

    def test_what_was_published_by_others_is_left_alone(self) -> None:
        retained = Retained()
        kept = event("b", 1, {"as_of": "yesterday", "retry_at": 5}, retain=True)
        retained.apply(kept, NOW)
        assert snapshot(retained, ("b", ""), at(3, set_by=-3600)) == {**json.loads(kept.json), "snapshot": True}
