"""Which of the values on disk are restored at a start, and what becomes of the others."""

from typing import Any

import pytest
from fanout import NOW, WALL
from msgspec import Raw

from tidegate.core.delivery.published_value import (
    PIECE_BYTES,
    PIECE_EVENTS,
    PublishedValue,
    Restoration,
    RestoreLimits,
    judged,
    restored_draft,
)
from tidegate.core.instant import Instant


def limits(**changes: Any) -> RestoreLimits:
    given: dict[str, Any] = {
        "source_types": {"a.status"},
        "retained_keys": 1000,
        "retained_bytes": 1 << 30,
        "event_bytes": 1 << 20,
    }
    return RestoreLimits(**given | changes)


def restoration(saved: list[PublishedValue], limits: RestoreLimits, now: Instant) -> Restoration:
    """What is decided, with the oldest value first."""
    steps = judged(list(saved), limits, now)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Restoration = end.value
            found.values.reverse()
            return found


def value(
    key: str, age_s: float = 1.0, *, data: bytes = b"1", event_type: str = "lab.job", **ends: Any
) -> PublishedValue:
    return PublishedValue(event_type, key, Raw(data), WALL - age_s, **ends)


def ending(key: str, in_s: float, ttl_s: float = 60.0) -> PublishedValue:
    return value(key, ttl_s=ttl_s, ends_at=WALL + in_s)


def keys(values: list[PublishedValue]) -> list[str]:
    return [each.key for each in values]


def test_values_are_restored_from_the_oldest_to_the_newest() -> None:
    found = restoration([value("new", 1.0), value("old", 3.0), value("mid", 2.0)], limits(), NOW)
    assert keys(found.values) == ["old", "mid", "new"]


def test_what_ended_meanwhile_is_not_restored_and_is_deleted() -> None:
    found = restoration([ending("over", -0.1), ending("now", 0.0), ending("soon", 0.1), value("never")], limits(), NOW)
    assert sorted(keys(found.values)) == ["never", "soon"]
    assert sorted(found.ended) == [("lab.job", "now"), ("lab.job", "over")]


@pytest.mark.parametrize(("in_s", "left_s"), [(12.5, 12.5), (60.0, 60.0), (3e8, 60.0)])
def test_a_restored_value_lives_for_what_is_left_of_its_ttl_and_never_longer_than_the_whole(
    in_s: float, left_s: float
) -> None:
    """The clock of a machine without a battery begins years ago."""
    assert restored_draft(ending("k", in_s), NOW).ttl_s == left_s


def test_a_restored_draft_says_what_was_published() -> None:
    drafts = [restored_draft(each, NOW) for each in (value("", data=b'{"a":1.10}'), value("k"))]
    assert [(d.type, d.key, bytes(d.data), d.retain, d.gone, d.stale, d.ttl_s) for d in drafts] == [
        ("lab.job", None, b'{"a":1.10}', True, False, None, None),
        ("lab.job", "k", b"1", True, False, None, None),
    ]


def test_of_too_many_the_oldest_are_left_out() -> None:
    saved = [value(str(age), float(age)) for age in range(1, 8)]
    found = restoration(saved, limits(retained_keys=3), NOW)
    assert keys(found.values) == ["3", "2", "1"]
    assert sorted(found.left_out) == [("lab.job", str(age)) for age in range(4, 8)]


def test_of_too_much_data_the_oldest_is_left_out_and_nothing_older_than_that_is_restored() -> None:
    saved = [value("new", 1.0, data=b"12345"), value("big", 2.0, data=b"1234567890"), value("old", 3.0)]
    assert keys(restoration(saved, limits(retained_bytes=16), NOW).values) == ["old", "big", "new"]
    found = restoration(saved, limits(retained_bytes=14), NOW)
    assert keys(found.values) == ["new"]
    assert found.left_out == [("lab.job", "big"), ("lab.job", "old")]


def test_one_value_over_the_limit_of_an_event_leaves_out_itself_alone() -> None:
    saved = [value("new"), value("big", 2.0, data=b"1234567890"), value("old", 3.0)]
    found = restoration(saved, limits(event_bytes=9), NOW)
    assert (keys(found.values), found.left_out) == (["old", "new"], [("lab.job", "big")])


@pytest.mark.parametrize("event_type", ["a.status", "circuit_breaker.state", "welcome"])
def test_a_type_that_is_polled_or_built_in_now_is_deleted(event_type: str) -> None:
    found = restoration([value("k", event_type=event_type), value("j")], limits(), NOW)
    assert (keys(found.values), found.taken) == (["j"], [(event_type, "k")])


@pytest.mark.parametrize(("event_type", "key"), [("No Type", "k"), ("", "k"), ("lab.job", "a\u202eb")])
def test_a_name_that_no_event_may_have_is_left_out(event_type: str, key: str) -> None:
    found = restoration([value(key, event_type=event_type), value("j")], limits(), NOW)
    assert (keys(found.values), found.malformed, found.left_out) == (["j"], [(event_type, key)], [])


def test_pieces_are_small_and_in_order_and_let_go_what_was_yielded() -> None:
    saved = [value(f"{age}", float(age)) for age in range(PIECE_EVENTS + 10)]
    saved += [value("big", 0.5, data=b"1" * PIECE_BYTES), value("huge", 0.1, data=b"1" * (PIECE_BYTES + 1))]
    found = restoration(saved, limits(event_bytes=1 << 30), NOW)
    order = keys(found.values)
    found.values.reverse()
    sizes, seen = [], []
    for piece in found.pieces():
        sizes.append(len(piece))
        seen += keys(list(piece))
        assert len(found.values) == len(saved) - len(seen)
    assert seen == order
    assert sizes == [PIECE_EVENTS, 9, 1, 1, 1]


def test_the_end_is_by_the_wall_clock() -> None:
    later = Instant(NOW.mono, WALL + 3600.0)
    assert restoration([ending("k", 60.0)], limits(), later).ended == [("lab.job", "k")]
