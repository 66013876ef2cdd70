import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import InvalidResponse
from tidegate.outbound.backends.persistent.framing import JsonStream

MESSAGES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet=st.sampled_from('"\\{}[]ab\u00e4\u2028')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='"\\{}[]a'), inner),
).filter(lambda value: isinstance(value, list | dict))


@given(
    st.lists(MESSAGES, max_size=5),
    st.sampled_from(["", " ", "\n", "\r\n\t "]),
    st.lists(st.integers(1, 30), min_size=1),
    st.booleans(),
)
def test_values_are_found_wherever_the_pieces_are_cut(
    values: list[object], gap: str, sizes: list[int], ascii_only: bool
) -> None:
    sent = gap.join(json.dumps(value, ensure_ascii=ascii_only) for value in values).encode()
    stream, found = JsonStream(limit_bytes=1_000_000), []
    at, turn = 0, 0
    while at < len(sent):
        size = sizes[turn % len(sizes)]
        found += [json.loads(message) for message in stream.feed(sent[at : at + size])]
        at, turn = at + size, turn + 1
    assert found == values


@pytest.mark.parametrize(
    "sent", [b"HTTP/1.1 400 Bad Request", b"1", b'"text"', b"null", b"]", b"Content-Length: 3\r\n\r\n{}", b"{},{}"]
)
def test_anything_but_objects_and_lists_is_refused(sent: bytes) -> None:
    with pytest.raises(InvalidResponse, match="expected a JSON object or list, got"):
        list(JsonStream(limit_bytes=100).feed(sent))


def test_a_byte_order_mark_before_the_first_value_is_passed_over() -> None:
    assert list(JsonStream(limit_bytes=100).feed(b"\xef\xbb\xbf{}[]")) == [b"{}", b"[]"]


def test_a_value_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert list(JsonStream(limit_bytes=10).feed(b'["345678"]["345678"]')) == [b'["345678"]'] * 2
    with pytest.raises(InvalidResponse, match="expected an answer of at most 10 bytes, got more"):
        list(JsonStream(limit_bytes=10).feed(b'["3456789"]'))


def test_a_value_that_never_ends_is_not_kept_beyond_the_limit() -> None:
    stream = JsonStream(limit_bytes=1000)
    for _ in range(500):
        assert list(stream.feed(b"[ ")) == []
    with pytest.raises(InvalidResponse):
        list(stream.feed(b"["))


@pytest.mark.parametrize(
    "unit", [b'"', b'\\"', b"\\\\", b"[", b"{}", b'"a",', b"x", b'"\\', b'"\\\\"', b"[]"], ids=repr
)
def test_what_is_fed_takes_linear_time(unit: bytes) -> None:
    def taken_s(size: int) -> float:
        piece = unit * (size // len(unit))
        best = float("inf")
        for opening in (b"[", b'["'):
            stream = JsonStream(limit_bytes=10_000_000)
            list(stream.feed(opening))
            began = time.process_time()
            with contextlib.suppress(InvalidResponse):
                list(stream.feed(piece))
            best = min(best, time.process_time() - began)
        return best

    # Quadratic work would take a thousand times as long for 32 times as much; a busy machine does not.
    assert taken_s(2_000_000) < 300 * max(taken_s(62_500), 0.0005)
