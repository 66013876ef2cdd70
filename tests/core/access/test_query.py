import pytest

from tidegate.core.access.query import (
    CACHED_CHARACTERS,
    MAX_PARAMETERS,
    StreamQuery,
    parse_event_stream_query,
    parse_query_token,
    parse_stream_query,
)
from tidegate.core.events import NOT_OURS, Position
from tidegate.core.topics import PatternSet
from tidegate.errors import AccessRefused, RefusalReason


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", StreamQuery()),
        ("types=", StreamQuery(types=PatternSet())),
        ("types", StreamQuery(types=PatternSet())),
        ("types=a,b.*", StreamQuery(types=PatternSet(["a", "b.*"]))),
        ("types=a&types=%2A", StreamQuery(types=PatternSet(["a", "*"]))),
        ("types=a,,b,", StreamQuery(types=PatternSet(["a", "b"]))),
        ("since=e1:7", StreamQuery(since=Position("e1", 7))),
        ("since=e1%3A7", StreamQuery(since=Position("e1", 7))),
        ("since=e1:7&since=", StreamQuery()),
        ("since=", StreamQuery()),
        ("token=a%20b", StreamQuery(token="a b")),
        ("token=", StreamQuery(token="")),
        ("other=1&types=a&x", StreamQuery(types=PatternSet(["a"]))),
        ("since=e1:" + "9" * 19, StreamQuery(since=Position("e1", 10**19 - 1))),
        ("lastEventId=e1:7", StreamQuery()),
        ("lastEventId=x&since=e1:7", StreamQuery(since=Position("e1", 7))),
        ("protocol=1", StreamQuery()),
        ("protocol=", StreamQuery()),
        ("protocol=2&protocol=1", StreamQuery()),
    ],
)
def test_what_a_query_asks_for(query: str, expected: StreamQuery) -> None:
    assert parse_stream_query(query) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("types=A", r"^types: expected a pattern.* got 'A'"),
        ("types=a,b..c", r"^types: .*'b\.\.c'"),
        ("since=x", r"^since: expected a position of the form EPOCH:SEQ, got 'x'"),
        ("since=42&lastEventId=e1:7", r"^since: expected a position"),
        ("protocol=2", r"^protocol: expected 1, .* got '2'"),
        ("protocol=01", r"^protocol: expected 1"),
        ("types=%ff", r"in UTF-8"),
        ("types=%ED%A0%80", r"in UTF-8"),
        ("types=\udcff", r"expected a query in ASCII"),
        ("token=ä", r"expected a query in ASCII"),
        ("&".join(["a=1"] * (MAX_PARAMETERS + 1)), r"at most 64 parameters"),
    ],
)
def test_a_malformed_query_is_refused_with_the_part_that_is_wrong(query: str, message: str) -> None:
    with pytest.raises(AccessRefused, match=message) as caught:
        parse_stream_query(query)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("types=a,b&since=e1:7", True),
        ("types=a&token=secret", False),
        ("types=a&%74oken=secret", False),
        ("other=" + "x" * CACHED_CHARACTERS, False),
    ],
)
def test_a_short_query_without_a_token_is_read_once(query: str, kept: bool) -> None:
    assert (parse_stream_query(query) is parse_stream_query(query)) == kept


@pytest.mark.parametrize(
    ("header", "query", "since"),
    [
        ("", "", None),
        ("", "since=e1:7", Position("e1", 7)),
        ("e1:9", "since=e1:7&lastEventId=e1:8", Position("e1", 9)),
        ("", "since=e1:7&lastEventId=e1:8", Position("e1", 8)),
        ("", "since=e1:7&lastEventId=", Position("e1", 7)),
        ("e1:9", "since=42", Position("e1", 9)),
        ("", "since=42&lastEventId=e1:8", Position("e1", 8)),
        ("42", "since=e1:7", NOT_OURS),
        ("null", "", NOT_OURS),
        ("undefined", "", NOT_OURS),
        ("", "lastEventId=null", NOT_OURS),
        ("e1:" + "9" * 30, "", Position("e1", 10**30 - 1)),
    ],
)
def test_where_an_event_stream_resumes(header: str, query: str, since: Position | None) -> None:
    found = parse_event_stream_query(f"types=a&token=t&{query}", header)
    assert found == StreamQuery(PatternSet(["a"]), since, "t")


def test_a_since_that_is_no_position_is_refused_on_event_streams_too() -> None:
    with pytest.raises(AccessRefused, match=r"^since: ") as caught:
        parse_event_stream_query("since=42", "")
    assert (caught.value.status, caught.value.reason) == (400, RefusalReason.MALFORMED)


def test_the_token_alone() -> None:
    assert parse_query_token("since=42&token=t") == "t"
    assert parse_query_token("") is None
