import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from tests.core.test_payload import NEARLY_JSON, VALUES, value

from tidegate.core.shaping import Shape, check_pointer, select, shaped
from tidegate.errors import InvalidResponse

# RFC 6901 section 5.
RFC_DOCUMENT = rb"""{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"""
RFC_POINTERS = {
    "": RFC_DOCUMENT,
    "/foo": b'["bar","baz"]',
    "/foo/0": b'"bar"',
    "/": b"0",
    "/a~1b": b"1",
    "/c%d": b"2",
    "/e^f": b"3",
    "/g|h": b"4",
    "/i\\j": b"5",
    '/k"l': b"6",
    "/ ": b"7",
    "/m~0n": b"8",
}


class TestSelect:
    @pytest.mark.parametrize(("pointer", "expected"), RFC_POINTERS.items())
    def test_follows_the_examples_of_the_rfc(self, pointer: str, expected: bytes) -> None:
        assert bytes(select(Raw(RFC_DOCUMENT), pointer)) == expected

    def test_unescapes_in_the_order_of_the_rfc(self) -> None:
        assert bytes(select(Raw(b'{"~1":1,"/":2}'), "/~01")) == b"1"

    def test_keeps_digits_and_spelling(self) -> None:
        assert bytes(select(Raw(b'{"a":{"b":[1.10,"\\u00e9"]}}'), "/a/b")) == b'[1.10,"\\u00e9"]'

    @given(VALUES, st.data())
    def test_finds_every_part_of_a_value(self, document: Any, data: st.DataObject) -> None:
        steps, part = [], document
        while isinstance(part, dict | list) and part and data.draw(st.booleans()):
            step = data.draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
            steps.append(str(step).replace("~", "~0").replace("/", "~1"))
            part = part[step]
        raw = json.dumps(document, separators=(",", ":")).encode()
        pointer = "".join(f"/{step}" for step in steps)
        assert value(select(Raw(raw), pointer)) == value(json.dumps(part).encode())

    @pytest.mark.parametrize(
        ("pointer", "message"),
        [
            ("/x", r"value at '/x', got nothing at step 1 \('x'\): the object there has 'a', 'l'$"),
            ("/a/b/c", r"at step 3 \('c'\): the value there is a number$"),
            ("/l/2", r"at step 2 \('2'\): the list there has 2 items"),
            ("/l/-", r"at step 2 \('-'\)"),
            ("/l/00", r"at step 2 \('00'\)"),
            ("/l/01", r"at step 2 \('01'\)"),
            ("/l/+1", r"at step 2"),
            ("/l/-1", r"at step 2"),
            ("/l/\u0661", r"at step 2"),
            ("/l/" + "9" * 5000, r"at step 2"),
        ],
    )
    def test_says_at_which_step_there_is_nothing(self, pointer: str, message: str) -> None:
        with pytest.raises(InvalidResponse, match=message):
            select(Raw(b'{"a":{"b":1},"l":[1,2]}'), pointer)

    def test_does_not_hold_on_to_the_response(self) -> None:
        response = bytearray(b'{"a":[1]}')
        part = select(Raw(response), "/a")
        response.append(0)  # BufferError while a view of it is alive
        assert bytes(part) == b"[1]"

    @given(NEARLY_JSON, st.sampled_from(["/a", "/0", "/0/1", "/"]))
    def test_raises_nothing_but_invalid_response(self, raw: bytes, pointer: str) -> None:
        with contextlib.suppress(InvalidResponse):
            select(Raw(raw), pointer)


class TestCheckPointer:
    @pytest.mark.parametrize("pointer", [*RFC_POINTERS, "/a\nb", "//"])
    def test_lets_pointers_pass(self, pointer: str) -> None:
        assert check_pointer(pointer) == pointer

    @pytest.mark.parametrize("text", ["a", "a/b", "#/a", "/~", "/~2", "/a~", "$.a", " "])
    def test_refuses_everything_else(self, text: str) -> None:
        with pytest.raises(ValueError, match="expected a JSON Pointer"):
            check_pointer(text)
        with pytest.raises(ValueError, match="expected a JSON Pointer"):
            select(Raw(b"{}"), text)


def keyed_items(raw: Raw, *, items: str, key: str) -> Any:
    return shaped(raw, Shape(items=(items,), key=((key,),)), event_bytes=100_000)


class TestKeyedItems:
    def test_names_each_item_by_its_key(self) -> None:
        raw = Raw(b'{"agents":[{"id":"b","v":1.10},{"v":[ ],"id":7},{"id":-3}]}')
        found = keyed_items(raw, items="/agents", key="id")
        assert [(name, bytes(item)) for name, item in found.items()] == [
            ("b", b'{"id":"b","v":1.10}'),
            ("7", b'{"v":[ ],"id":7}'),
            ("-3", b'{"id":-3}'),
        ]

    def test_takes_the_result_itself_as_the_list(self) -> None:
        assert list(keyed_items(Raw(b'[{"id":"a"}]'), items="", key="id")) == ["a"]
        assert keyed_items(Raw(b"[]"), items="", key="id") == {}

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (b'{"l":5}', r"expected a list or an object at '/l', got a number"),
            (b"{}", r"expected a list or an object at '/l': .*: the object there is empty"),
            (b'{"l":[1]}', r"item 0 to have a key in 'id': .*: the value there is a number"),
            (b'{"l":[{"id":1},{"x":1}]}', r"item 1 to have a key in 'id': .*: the object there has 'x'"),
            (b'{"l":[{"id":""}]}', r"item 0 to have a key in 'id', got none"),
            (b'{"l":[{"id":null}]}', r"got `null`"),
            (b'{"l":[{"id":true}]}', r"got `bool`"),
            (b'{"l":[{"id":1.0}]}', r"got `float`"),
            (b'{"l":[{"id":{}}]}', r"got `object`"),
            (b'{"l":[{"id":"\\ud800"}]}', r"half a surrogate pair"),
            (
                b'{"l":[{"id":"a\\u0000"}]}',
                r"item 0: expected a key without control or format .*got 'a\\x00' \(U\+0000\)",
            ),
            (
                '{"l":[{"id":"a"},{"id":"b\u202e"}]}'.encode(),
                r"item 1: expected a key without control or .* \(U\+202E\)",
            ),
            (b'{"l":[{"id":1},{"id":2},{"id":1}]}', r"its own 'id', got '1' again in item 2"),
            (b'{"l":[{"id":1},{"id":"1"}]}', r"its own 'id', got '1' again in item 1"),
            (b'{"l":[{"id":' + b"9" * 5000 + b"}]}", r"item 0"),
        ],
    )
    def test_refuses_lists_that_cannot_be_told_apart(self, raw: bytes, message: str) -> None:
        with pytest.raises(InvalidResponse, match=message):
            keyed_items(Raw(raw), items="/l", key="id")

    def test_does_not_hold_on_to_the_response(self) -> None:
        response = bytearray(b'[{"id":1}]')
        found = keyed_items(Raw(response), items="", key="id")
        response.append(0)  # BufferError while a view of it is alive
        assert bytes(found["1"]) == b'{"id":1}'

    @given(NEARLY_JSON | st.lists(VALUES).map(lambda items: json.dumps(items).encode()))
    def test_raises_nothing_but_invalid_response(self, raw: bytes) -> None:
        with contextlib.suppress(InvalidResponse):
            keyed_items(Raw(raw), items="", key="id")
