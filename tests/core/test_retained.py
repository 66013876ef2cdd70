import json
from typing import Any

import msgspec
from fanout import NOW, WALL, event

from tidegate.core.events import Draft
from tidegate.core.retained import Name, Retained
from tidegate.errors import ErrorCode


def snapshot(retained: Retained, name: Name, now: float = NOW.mono) -> dict[str, Any]:
    found = retained.snapshot(name, now)
    assert found is not None
    shown: dict[str, Any] = json.loads(found[1])
    return shown


def test_keeps_the_newest_event_of_each_type_and_key() -> None:
    retained = Retained()
    for seq, (event_type, key) in enumerate([("a", None), ("b", "x"), ("b", "y"), ("b", "x")], 1):
        retained.apply(event(event_type, seq, key=key, retain=True))
    assert [(e.type, e.key, e.seq) for e in retained.events()] == [("a", None, 1), ("b", "x", 4), ("b", "y", 3)]
    assert len(retained) == 3
    held = retained.get("b", "y")
    assert held is not None
    assert held.seq == 3
    assert retained.get("b") is None
    assert retained.get("c", "x") is None
    assert retained.snapshot(("b", "z"), NOW.mono) is None


def test_names_those_that_are_wanted_by_their_type_and_what_they_speak_of() -> None:
    retained = Retained(["empty"])
    retained.apply(event("a", 1, retain=True))
    retained.apply(event("b", 2, key="x", retain=True, about=frozenset({"c"})))
    assert retained.names(lambda event_type, about: (event_type, about) == ("a", None)) == [("a", "")]
    assert retained.names(lambda event_type, about: (event_type, about) == ("b", frozenset({"c"}))) == [("b", "x")]
    assert retained.names(lambda *_: True) == [("a", ""), ("b", "x")]


def test_what_is_gone_is_forgotten_but_its_type_stays_known() -> None:
    retained = Retained(["known"])
    retained.apply(event("b", 1, key="x", retain=True))
    retained.apply(event("b", 2, key="x", retain=True, gone=True))
    retained.apply(event("b", 3, key="never", retain=True, gone=True))
    assert list(retained.events()) == []
    assert "b" in retained
    assert "known" in retained
    assert "other" not in retained


def test_a_snapshot_is_the_event_marked_and_encoded_once() -> None:
    retained = Retained()
    kept = event("a", 1, {"n": 1}, retain=True)
    retained.apply(kept)
    assert snapshot(retained, ("a", "")) == {**json.loads(kept.json), "snapshot": True}
    first, second = retained.snapshot(("a", ""), NOW.mono), retained.snapshot(("a", ""), NOW.mono)
    assert first is not None
    assert second is not None
    assert first[0] is kept
    assert first[1] is second[1]


def test_a_snapshot_of_unchanged_data_carries_the_newer_as_of() -> None:
    retained = Retained()
    retained.apply(event("a", 1, as_of=WALL, source="s", stale=False, retain=True))
    assert snapshot(retained, ("a", ""))["as_of"] == "2026-11-22T21:40:03.123Z"
    retained.refresh("a", WALL + 2)
    assert snapshot(retained, ("a", ""))["as_of"] == "2026-11-22T21:40:05.123Z"
    assert snapshot(retained, ("a", ""))["timestamp"] == "2026-11-22T21:40:03.123Z"
    retained.apply(event("a", 2, as_of=WALL + 3, source="s", stale=False, retain=True))
    assert snapshot(retained, ("a", ""))["as_of"] == "2026-11-22T21:40:06.123Z"


def test_refreshing_a_type_that_was_never_retained_changes_nothing() -> None:
    retained = Retained()
    retained.refresh("a", WALL)
    assert "a" not in retained


def test_what_age_has_made_untrue_is_told_as_it_is_now() -> None:
    def restated(draft: Draft) -> Draft:
        return msgspec.structs.replace(draft, stale=True, error_code=ErrorCode.OVERDUE)

    retained = Retained()
    retained.restated = restated
    retained.apply(event("a", 1, {"n": 1}, source="s", stale=False, as_of=WALL, until=NOW.mono + 10, retain=True))
    fresh = snapshot(retained, ("a", ""), NOW.mono + 9.9)
    stale = snapshot(retained, ("a", ""), NOW.mono + 10)
    assert stale == {**fresh, "stale": True, "error_code": "OVERDUE"}
    assert snapshot(retained, ("a", ""), NOW.mono) == fresh
