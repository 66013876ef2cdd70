import pytest

from tidegate.core.events import Position
from tidegate.core.query import MAX_PARAMETERS, REMEMBERED_CHARACTERS, StreamQuery, parse_since, parse_stream_query
from tidegate.core.topics import PatternSet
from tidegate.errors import AccessRefused


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
        ("other=" + "x" * REMEMBERED_CHARACTERS, False),
    ],
)
def test_a_short_query_without_a_token_is_read_once(query: str, kept: bool) -> None:
    assert (parse_stream_query(query) is parse_stream_query(query)) == kept


def test_since_alone() -> None:
    assert parse_since("e1:7") == Position("e1", 7)
    with pytest.raises(AccessRefused):
        parse_since("")
