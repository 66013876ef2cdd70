import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tidegate.core.payload import (
    HalfSurrogatePair,
    check_size,
    compact,
    decode,
    mend_surrogates,
    without_bom,
)
from tidegate.core.shaping import Shape, select, shaped
from tidegate.errors import InvalidResponse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
JSON_CHARACTERS = '{}[]:,"\\ \n0123456789.eE+-truefalsnid~/u'
NEARLY_JSON = st.binary(max_size=40) | st.text(alphabet=JSON_CHARACTERS, max_size=40).map(str.encode)


def value(raw: bytes) -> Any:
    return json.loads(bytes(raw), parse_float=Decimal)


class TestCompact:
    @given(VALUES, st.sampled_from([None, 0, 1, "\t", "\r\n "]), st.booleans())
    def test_keeps_the_value_and_takes_the_white_space(self, data: Any, indent: int | str | None, ascii_: bool) -> None:
        text = json.dumps(data, indent=indent, ensure_ascii=ascii_)
        expected = json.dumps(data, separators=(",", ":"), ensure_ascii=ascii_)
        assert bytes(compact(text.encode())) == expected.encode()

    @given(st.lists(NUMBERS))
    def test_keeps_every_digit(self, numbers: list[str]) -> None:
        assert bytes(compact(f"[ {' , '.join(numbers)} ]".encode())) == f"[{','.join(numbers)}]".encode()

    def test_takes_what_the_network_gives(self) -> None:
        assert bytes(compact(bytearray(b' {"a" : 1.10}\r\n'))) == b'{"a":1.10}'

    def test_does_not_hold_on_to_the_response(self) -> None:
        response = bytearray(b'{"result":[1]}')
        whole = compact(decode(response, msgspec.json.Decoder(dict[str, Raw]))["result"])
        response.append(0)  # BufferError while a view of it is alive
        assert bytes(whole) == b"[1]"

    @given(NEARLY_JSON)
    def test_agrees_with_the_standard_library_on_what_is_json(self, raw: bytes) -> None:
        try:
            json.loads(raw.decode(), parse_constant=_no_json)
        except ValueError:
            with pytest.raises(InvalidResponse):
                compact(raw)
        else:
            assert json.loads(bytes(compact(raw))) == json.loads(raw)

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (b"", r"expected JSON, got nothing at all"),
            (b"[1", r"expected JSON, got b'\[1', which ends at byte 2 inside a value"),
            (b"<html>", r"expected JSON, got b'<html>' \(.*byte 0\)"),
            (b"[NaN]", r"got b'\[NaN\]' \(.*byte 1\)"),
            (b"[Infinity]", r"byte 1"),
            (b"[1] 2", r"trailing characters \(byte 5\)"),
            (b" " * 100 + b"x" + b" " * 100, r"got b' {16}x {15}' \(.*byte 100\)"),
            (b'["a\xff"]', r"expected JSON in UTF-8, got b'\\xff' at byte 3"),
            (b'"\xed\xa0\x80"', r"UTF-8, got b'\\xed' at byte 1"),
            (b'"' + b"x" * 65_532 + b"\xf0\x9f\x92\x00" + b'"', r"UTF-8, got b'\\xf0\\x9f\\x92' at byte 65533"),
            (b'"' + b"x" * 65_533 + b"\xf0\x9f\x92\x00" + b'"', r"UTF-8, got b'\\xf0\\x9f\\x92' at byte 65534"),
            (b'"' + b"x" * 65_534 + b"\xf0", r"UTF-8, got b'\\xf0' at byte 65535"),
            (b'"' + b"x" * 200_000 + b"\xff", r"UTF-8, got b'\\xff' at byte 200001"),
            (b'["\\udc80", "a long text behind it"]', r"got half a surrogate pair, \\udc80, at byte 2"),
            (b'{"v":"\\ud83d"}', r"got half a surrogate pair, \\ud83d, at byte 6"),
            (b'["\\ud83d\\ude00\\\\\\ud83d\\ud83d\\ude00"]', r"got half a surrogate pair, \\ud83d, at byte 16"),
            (b'["\\ud83d\\ude00\\ude00"]', r"got half a surrogate pair, \\ude00, at byte 14"),
            (b'["\\\\ud83d\\ude00"]', r"got half a surrogate pair, \\ude00, at byte 9"),
            (b'[nothing, "\\ud83d"]', r"invalid character \(byte 2\)"),
            (b'["\\ud83d\\ude00', r"which ends at byte 14 inside a value"),
            (b"[" * 100_000, r"nested too deep"),
            (b'{"a":' * 100_000, r"nested too deep"),
        ],
    )
    def test_says_what_came_and_where(self, raw: bytes, message: str) -> None:
        with pytest.raises(InvalidResponse, match=message):
            compact(raw)


def _mended(raw: bytes) -> bytes:
    text = bytearray(raw)
    for _ in mend_surrogates(text):
        pass
    return bytes(text)


class TestMended:
    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            (rb'{"v":"\ud83d"}', rb'{"v":"\ufffd"}'),
            (rb'{"\uD83D":"a\uDE00b"}', rb'{"\ufffd":"a\ufffdb"}'),
            (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
            (rb'"\ud83d\ud83d\ude00\ude00"', rb'"\ufffd\ud83d\ude00\ufffd"'),
            (rb'"\ude00\ud83d"', rb'"\ufffd\ufffd"'),
            (rb'"\ud83dx\ude00"', rb'"\ufffdx\ufffd"'),
            (rb'"\\ud83d"', rb'"\\ud83d"'),
            (rb'"\\\ud83d"', rb'"\\\ufffd"'),
            (rb'"\\ud83d\ude00"', rb'"\\ud83d\ufffd"'),
            (rb'"\ud83d\\ude00"', rb'"\ufffd\\ude00"'),
            (rb'"\u00e9\ufffd\n"', rb'"\u00e9\ufffd\n"'),
            (b'"' + b"\\" * 1000 + rb'\ud83d"', b'"' + b"\\" * 1000 + rb'\ufffd"'),
            (b'"' + b"\\" * 1001 + rb'\ud83d"', b'"' + b"\\" * 1001 + rb'\ud83d"'),
        ],
    )
    def test_has_the_replacement_character_for_each_half_pair_and_changes_nothing_else(
        self, raw: bytes, expected: bytes
    ) -> None:
        assert _mended(raw) == expected

    @given(st.lists(st.sampled_from([r"\ud83d", r"\ude00", r"\uDBFF", r"\\", r"\n", "u", "d83d", "x", r"\u0041"])))
    def test_agrees_with_the_standard_library_on_what_is_half_a_pair(self, parts: list[str]) -> None:
        raw = f'"{"".join(parts)}"'.encode()
        expected = "".join("\ufffd" if "\ud800" <= sign <= "\udfff" else sign for sign in json.loads(raw))
        is_whole = expected == json.loads(raw)
        assert json.loads(_mended(raw)) == expected
        if is_whole:
            assert bytes(compact(raw)) == raw
        else:
            with pytest.raises(HalfSurrogatePair):
                compact(raw)

    def test_takes_a_long_text_in_steps(self) -> None:
        assert sum(1 for _ in mend_surrogates(bytearray(rb'"\ud83d"' * 100_000))) > 20

    def test_makes_two_names_one_of_which_the_last_counts(self) -> None:
        assert bytes(select(Raw(_mended(rb'{"\ud83d":1,"\ud83e":2}')), "/\ufffd")) == b"2"

    def test_makes_two_keys_of_items_a_repeated_one(self) -> None:
        raw = Raw(_mended(rb'[{"id":"\ud83d"},{"id":"\ud83e"}]'))
        with pytest.raises(InvalidResponse, match="again in item 1"):
            shaped(raw, Shape(items=("",), key=(("id",),)), event_bytes=1000)


def test_a_byte_order_mark_is_skipped_once_and_only_in_front() -> None:
    mark = b"\xef\xbb\xbf"
    assert without_bom(mark + b"{}") == b"{}"
    assert without_bom(mark + mark) == mark
    assert without_bom(b"{}" + mark) == b"{}" + mark


class TestDecode:
    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (b"[]", r"Expected `object`, got `array`"),
            (b"{", r"ends at byte 1 inside a value"),
            (b'{"\xff":1}', r"expected JSON in UTF-8"),
            (b'{"a":' + b"[" * 100_000, r"nested too deep"),
        ],
    )
    def test_refuses_what_the_decoder_does_not_expect(self, raw: bytes, message: str) -> None:
        with pytest.raises(InvalidResponse, match=message):
            decode(raw, msgspec.json.Decoder(dict[str, Raw]))

    def test_gives_what_the_decoder_gives(self) -> None:
        assert decode(b"[1]", msgspec.json.Decoder(list[int])) == [1]


class TestWithin:
    def test_lets_the_limit_itself_pass(self) -> None:
        raw = Raw(b"12345")
        assert check_size(raw, 5) is raw

    def test_refuses_one_byte_more(self) -> None:
        with pytest.raises(InvalidResponse, match="expected at most 4 bytes of data, got 5"):
            check_size(Raw(b"12345"), 4)


def _no_json(name: str) -> None:
    raise ValueError(name)
