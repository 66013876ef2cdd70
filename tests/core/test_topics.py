import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.topics import (
    BUILT_IN_TYPES,
    MAX_CHARACTERS,
    RESERVED_TYPES,
    PatternSet,
    check_event_type,
    check_key,
    check_pattern,
    covers,
)
from tidegate.errors import TopicError

SEGMENTS = st.sampled_from(["a", "b", "ab"])
TYPES = st.lists(SEGMENTS, min_size=1, max_size=4).map(".".join)
PATTERNS = TYPES | TYPES.map("{}.*".format) | st.just("*")

GOOD_TYPES = ["a", "system.status", "a-b_c.0", "1.2.3.4.5.6.7.8", "x" * MAX_CHARACTERS]
BAD_TYPES = [
    "",
    ".",
    "a.",
    ".a",
    "a..b",
    "A",
    "a b",
    "a\n",
    "ä",
    "a/b",
    "1.2.3.4.5.6.7.8.9",
    "x" * (MAX_CHARACTERS + 1),
]


@pytest.mark.parametrize("text", GOOD_TYPES)
def test_event_types(text: str) -> None:
    assert check_event_type(text) == text
    assert check_pattern(text) == text


@pytest.mark.parametrize("text", [*BAD_TYPES, "*", "a.*"])
def test_what_is_no_event_type(text: str) -> None:
    with pytest.raises(TopicError, match=r"expected an event type .*, got '"):
        check_event_type(text)


@pytest.mark.parametrize("text", ["*", "a.*", "system.status.*", "x" * (MAX_CHARACTERS - 2) + ".*"])
def test_patterns(text: str) -> None:
    assert check_pattern(text) == text


@pytest.mark.parametrize(
    "text", [*BAD_TYPES, "**", "*.a", "a*", "a.*.b", "a.*.*", ".*", "a.**", "x" * (MAX_CHARACTERS - 1) + ".*"]
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(TopicError, match=r"expected a pattern: .* got '"):
        check_pattern(text)


def test_a_refusal_shows_no_more_than_a_little_of_the_text() -> None:
    with pytest.raises(TopicError) as caught:
        check_pattern("!" * 100_000)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("pattern", "event_type", "expected"),
    [
        ("*", "a", True),
        ("*", "a.b.c", True),
        ("a", "a", True),
        ("a", "a.b", False),
        ("a", "ab", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", True),
        ("a.*", "a", False),
        ("a.*", "ab.c", False),
        ("a.b.*", "a.c", False),
    ],
)
def test_what_a_pattern_matches(pattern: str, event_type: str, expected: bool) -> None:
    assert PatternSet([pattern]).matches(event_type) is expected
    assert covers(pattern, event_type) is expected


def test_the_empty_set_matches_nothing() -> None:
    assert not PatternSet().matches("a")
    assert not PatternSet().covers("a")


@given(PATTERNS, PATTERNS, TYPES)
def test_a_pattern_that_covers_another_matches_all_that_it_matches(wide: str, narrow: str, event_type: str) -> None:
    if covers(wide, narrow) and PatternSet([narrow]).matches(event_type):
        assert PatternSet([wide]).matches(event_type)


@given(PATTERNS, PATTERNS)
def test_a_pattern_that_does_not_cover_another_misses_something_that_it_matches(wide: str, narrow: str) -> None:
    if not covers(wide, narrow):
        witness = narrow.replace("*", "zz")
        assert PatternSet([narrow]).matches(witness)
        assert not PatternSet([wide]).matches(witness)


@given(st.lists(PATTERNS), TYPES)
def test_a_set_matches_what_any_of_its_patterns_matches(patterns: list[str], event_type: str) -> None:
    assert PatternSet(patterns).matches(event_type) == any(covers(p, event_type) for p in patterns)


@given(st.lists(PATTERNS), st.lists(PATTERNS))
def test_sets_are_values(first: list[str], second: list[str]) -> None:
    a, b = PatternSet(first), PatternSet(second)
    assert (a == b) == (set(first) == set(second))
    assert PatternSet(reversed(first)) == a
    assert hash(PatternSet(reversed(first))) == hash(a)
    assert (a | b).patterns == set(first) | set(second)
    assert (a - b).patterns == set(first) - set(second)
    assert len(a) == len(set(first))
    assert a.sorted() == sorted(set(first))


def test_parsing_checks_every_text() -> None:
    assert PatternSet.parse(["a", "b.*"]) == PatternSet(["b.*", "a"])
    with pytest.raises(TopicError, match="'B'"):
        PatternSet.parse(["a", "B"])


def test_built_in_types_are_reserved() -> None:
    assert BUILT_IN_TYPES < RESERVED_TYPES
    assert {"welcome", "gap", "pong", "error", "subscribed", "synced"} < RESERVED_TYPES
    for event_type in RESERVED_TYPES:
        check_event_type(event_type)


@given(st.text())
def test_a_key_holds_anything_but_control_and_format_characters(text: str) -> None:
    if any(unicodedata.category(sign) in {"Cc", "Cf"} for sign in text):
        with pytest.raises(TopicError, match="without control or format characters"):
            check_key(text)
    else:
        assert check_key(text) == text


@pytest.mark.parametrize("text", ["Straße 7", "日本", "a\u00a0b", "\ufffd", "\U0001f600", "\u2028"])
def test_a_key_may_be_any_text_that_can_be_shown(text: str) -> None:
    assert check_key(text) == text
