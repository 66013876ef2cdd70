"""Text that a pattern takes apart: what is found, what is not, and patterns that would never end."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import InvalidResponse, MappingFailed
from tidegate.outbound.backends.formats import Written, read, text
from tidegate.ports import AsText

STUB_STATUS = b"""Active connections: 291
server accepts handled requests
 16630948 16630948 31070465
Reading: 6 Writing: 179 Waiting: 106
"""


async def read_text(body: bytes, pattern: str, content_type: str | None = None) -> bytes:
    return bytes(await read(Written(body, content_type, 1_000_000), AsText(pattern)))


async def test_a_page_of_several_lines() -> None:
    pattern = r"connections: (?P<active>\d+)[^R]*Reading: (?P<reading>\d+)(?s:.*)Waiting: (?P<waiting>\d+)"
    assert (await read_text(STUB_STATUS, pattern)) == b'{"active":291,"reading":6,"waiting":106}'


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("0", b"0"),
        ("-1.50", b"-1.50"),
        ("1e5", b"1e5"),
        ("12345678901234567890123", b"12345678901234567890123"),
        ("007", b'"007"'),
        ("+1", b'"+1"'),
        ("1.", b'"1."'),
        (".5", b'".5"'),
        ("1 ", b'"1 "'),
        ("NaN", b'"NaN"'),
        ("٣", '"٣"'.encode()),
        ("true", b'"true"'),
        ("", b'""'),
        ('a"b\\', b'"a\\"b\\\\"'),
    ],
)
async def test_a_group_is_a_number_if_json_writes_it_so(written: str, value: bytes) -> None:
    assert (await read_text(f"v=<{written}>".encode(), r"v=<(?P<v>.*)>")) == b'{"v":' + value + b"}"


@pytest.mark.parametrize(
    ("body", "pattern", "value"),
    [
        (b"a1", r"(?P<z>a)|(?P<b>b)", {"z": "a", "b": None}),
        (b"one\ntwo 2\nthree", r"^two (?P<n>\d+)$", {"n": 2}),
        (b"a=1 a=2", r"a=(?P<n>\d)", {"n": 1}),
        (b"k: v", r"(k): (?P<v>v)", {"v": "v"}),
        ("ä".encode(), r"(?P<v>\w)", {"v": "ä"}),
        (b"\xef\xbb\xbfa", r"\A(?P<v>a)", {"v": "a"}),
        (b"", r"(?P<v>x?)", {"v": ""}),
    ],
)
async def test_what_is_matched(body: bytes, pattern: str, value: object) -> None:
    assert json.loads(await read_text(body, pattern)) == value


async def test_the_names_stand_in_the_order_of_the_pattern() -> None:
    pattern = "".join(f"(?P<{name}>.)" for name in "zyxabc")
    assert [*json.loads(await read_text(b"123456", pattern))] == [*"zyxabc"]


async def test_the_charset_is_that_of_the_content_type() -> None:
    assert json.loads(await read_text(b"\xe4", "(?P<v>.)", "text/plain; charset=latin-1")) == {"v": "ä"}


async def test_a_page_in_which_nothing_is_found_is_no_failure_of_the_backend() -> None:
    with pytest.raises(MappingFailed) as caught:
        await read_text(b"<html>Not here", r"connections: (?P<n>\d+)")
    assert str(caught.value) == "expected text that the pattern matches, got '<html>Not here'"
    with pytest.raises(MappingFailed, match="got nothing at all"):
        await read_text(b"", "(?P<v>a)")


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"\xff", None, "expected text in utf-8, got b'\\xff'"),
        (b"a", "text/plain; charset=none", "expected a charset that is known"),
        (b"a" * 65_537, None, "expected text of at most 65536 bytes, got 65537"),
    ],
)
async def test_what_is_no_such_text_is_refused(body: bytes, content_type: str | None, message: str) -> None:
    with pytest.raises(InvalidResponse) as caught:
        await read_text(body, "(?P<v>a)", content_type)
    assert message in str(caught.value)


@pytest.mark.parametrize("pattern", [r"(?P<x>a+)+$", r"(?P<x>(a|aa)+)$", r"(?P<x>a*)*$"])
async def test_a_pattern_that_goes_back_and_forth_is_given_up(pattern: str) -> None:
    """Without a limit, each of these takes longer than anybody waits."""
    began = time.process_time()
    with pytest.raises(MappingFailed, match="expected a pattern that is found or not found within 25 ms"):
        await read_text(b"a" * 65_000 + b"!", pattern)
    assert time.process_time() - began < 40 * text.SEARCH_S  # it would be hours


@given(st.binary(max_size=40))
async def test_whatever_comes_is_json_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidResponse):
        assert json.loads(await read_text(body, "(?P<all>(?s:.*))")).keys() == {"all"}
