"""CSV as programs write it, as it should not be, and as anything at all."""

import csv
import io
import json
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import InvalidResponse
from tidegate.outbound.backends.formats import Written, read, table
from tidegate.ports import AsCsv


async def read_rows(
    body: bytes, *, delimiter: str = ",", content_type: str | None = None, limit_bytes: int = 1_000_000
) -> bytes:
    return bytes(await read(Written(body, content_type, limit_bytes), AsCsv(delimiter)))


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"a,b\n1,x\n007,\n", b'[{"a":"1","b":"x"},{"a":"007","b":""}]'),
        (b"a,b\r\n1,x\r\n", b'[{"a":"1","b":"x"}]'),
        (b"a\r1\r2", b'[{"a":"1"},{"a":"2"}]'),
        (b"\n\na\n\n1\n\n", b'[{"a":"1"}]'),
        (b"a,b\n", b"[]"),
        (b'a,b\n"1,""2""\n3",4', b'[{"a":"1,\\"2\\"\\n3","b":"4"}]'),
        (b"\xef\xbb\xbfa\n1", b'[{"a":"1"}]'),
        (b"a,b\n1,2,,\n", b'[{"a":"1","b":"2"}]'),
        (b"a,,b\n1,2,3", b'[{"a":"1","b":"3"}]'),
        (b"a\n\x00", b'[{"a":"\\u0000"}]'),
        (b"<DATE>,[a]\n{1},[]", b'[{"<DATE>":"{1}","[a]":"[]"}]'),
        ("ä\nö".encode(), '[{"ä":"ö"}]'.encode()),
        # HAProxy's, which begins and ends in a way of its own
        (
            b"# pxname,svname,scur,\nweb,FRONTEND,1,\nweb,s1,0,\n",
            b'[{"# pxname":"web","svname":"FRONTEND","scur":"1"},{"# pxname":"web","svname":"s1","scur":"0"}]',
        ),
    ],
)
async def test_each_line_is_an_object_with_the_names_of_the_first(body: bytes, rows: bytes) -> None:
    assert (await read_rows(body)) == rows


async def test_the_delimiter_is_the_sources() -> None:
    assert (await read_rows(b"a;b\n1,5;2", delimiter=";")) == b'[{"a":"1,5","b":"2"}]'
    assert (await read_rows(b"a\tb\n1 5\t2", delimiter="\t")) == b'[{"a":"1 5","b":"2"}]'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv; charset=ISO-8859-1", b"a\n\xe4"),
        ('text/csv;charset="windows-1252"', b"a\n\xe4"),
        ("text/csv; header=present; CHARSET=utf-8", b"a\n\xc3\xa4"),
        ("text/csv; charset=utf-16", "a\nä".encode("utf-16")),
        ("text/csv; charset=utf-8-sig", b"\xef\xbb\xbfa\n\xc3\xa4"),
        ("text/csv", b"a\n\xc3\xa4"),
        (None, b"a\n\xc3\xa4"),
    ],
)
async def test_the_charset_is_that_of_the_content_type(content_type: str | None, body: bytes) -> None:
    assert (await read_rows(body, content_type=content_type)) == '[{"a":"ä"}]'.encode()


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"", None, "expected CSV with a line of names, got nothing at all"),
        (b"\n\n", None, "expected CSV with a line of names, got nothing at all"),
        (b",,\n1,2,3", None, "expected CSV with names in the first line, got empty ones"),
        (b"a,b,a\n1,2,3", None, "expected CSV with a different name for each column, got 'a' twice"),
        (b"a,b\n1,2\n3\n", None, "expected CSV with 2 values in each line, got 1 in line 3"),
        (b"a,b\n1,2,3\n", None, "expected CSV with 2 values in each line, got 3 in line 2"),
        (b"a\n\xff", None, "expected text in utf-8, got b'\\xff' (invalid start byte)"),
        (b"a\n\xe4", "text/csv; charset=ascii", "expected text in ascii, got b'\\xe4'"),
        (b"a\n1", "text/csv; charset=klingon", "expected a charset that is known, such as utf-8, got 'klingon'"),
        (b"a\n1", "text/csv; charset=punycode", "expected a charset that is known"),
        (b"a\n1", "text/csv; charset=zip", "expected a charset that is known"),
        (b"a\n1", "Text/HTML; charset=utf-8", "expected CSV, got something else (Content-Type: text/html)"),
        (b"a\n1", "application/xhtml+xml", "expected CSV, got something else (Content-Type: application/xhtml+xml)"),
        (b"a\n1", "application/json", "expected CSV, got something else (Content-Type: application/json)"),
        (b"a\n1", "application/problem+JSON;x=y", "got something else (Content-Type: application/problem+json)"),
        (b"<html><p>log in, please</html>", None, "expected CSV, got a page or JSON: b'<html><p>log in"),
        (b" \n<!DOCTYPE html>", "text/plain", "expected CSV, got a page or JSON: b' \\n<!DOCTYPE html>'"),
        (b'{"error":"not ready","code":1}', None, "expected CSV, got a page or JSON: b'{"),
        (b'\xef\xbb\xbf{\n  "a":1}', None, "expected CSV, got a page or JSON"),
        (b"[]", "text/csv", "expected CSV, got a page or JSON: b'[]'"),
        (b'[ {"a":1}]', "text/csv", "expected CSV, got a page or JSON"),
        (b"a\n" + b"1" * 65_537, None, "expected CSV with rows of at most 65536 characters, got more"),
        (b'a\n"' + b"1\n" * 40_000, None, "expected CSV with rows of at most 65536 characters, got more"),
    ],
)
async def test_what_is_none_is_refused(body: bytes, content_type: str | None, message: str) -> None:
    with pytest.raises(InvalidResponse) as caught:
        await read_rows(body, content_type=content_type)
    assert message in str(caught.value)


async def test_many_names_are_compared_in_no_time() -> None:
    names = [f"{number:x}" for number in range(13_000)]
    began = time.process_time()
    with pytest.raises(InvalidResponse, match="got '0' twice"):
        await read_rows(",".join([*names, "0"]).encode())
    with pytest.raises(InvalidResponse, match=f"got '{names[-1]}' twice"):
        await read_rows(",".join([*names, names[-1]]).encode())
    assert time.process_time() - began < 1.0  # 5 s, if each is looked for among all


async def test_a_row_may_be_as_long_as_that_in_one_line_or_in_many() -> None:
    assert len(await read_rows(b"a\n" + b"1" * 65_535 + b"\n")) == 65_535 + len('[{"a":""}]')
    assert json.loads(await read_rows(b'a\n"' + b"1\n" * 32_000 + b'"\n' * 2))[0]["a"].startswith("1\n1\n")


async def test_what_a_few_bytes_become_is_bounded() -> None:
    name = b"x" * 60_000
    with pytest.raises(InvalidResponse, match=r"at most 1000000 bytes as JSON \(response_bytes\), got more"):
        await read_rows(name + b"\n" + b"1\n" * 20)
    assert len(await read_rows(name + b"\n" + b"1\n" * 16)) < 1_000_000


def test_others_have_their_turn() -> None:
    def yields(body: bytes) -> int:
        return sum(1 for _ in table.rows(Written(body, None, 10_000_000), ","))

    assert yields(b"a,b\n" + b"1,2\n" * 10_000) >= 3
    assert yields(b"a\n" + b"\n" * 50_000) >= 3
    assert yields(b"a\n" + (b"1" * 60_000 + b"\n") * 10) >= 10


VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)


@given(st.sampled_from(",;\t|"), st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=6))
async def test_what_pythons_csv_writes_is_read(delimiter: str, rows: Sequence[tuple[str, str, str]]) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([("a", "b", "c"), *rows])
    found = json.loads(await read_rows(text.getvalue().encode(), delimiter=delimiter))
    assert found == [dict(zip("abc", row, strict=True)) for row in rows]


@given(st.binary(max_size=40) | st.text('ab",\r\n\0é', max_size=40).map(str.encode))
async def test_whatever_comes_is_json_or_refused(body: bytes) -> None:
    try:
        found = json.loads(await read_rows(body))
    except InvalidResponse:
        return
    assert all(isinstance(each, dict) for each in found)
