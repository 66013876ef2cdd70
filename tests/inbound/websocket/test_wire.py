import gc
import weakref

import pytest
from websockets.frames import Frame
from websockets.frames import Opcode as TheirOpcode

from tidegate.inbound.websocket.frames import Opcode
from tidegate.inbound.websocket.wire import Wire


def wire() -> Wire:
    return Wire(message_bytes=1000)


def masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(TheirOpcode(opcode), data, fin).serialize(mask=True)


def read(reader: Wire, data: bytes) -> list[tuple[Opcode, bytes]]:
    return list(reader.received(reader.frames(data)))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 900])
def test_a_whole_message_leaves_nothing_to_hold(size: int) -> None:
    reader = wire()
    assert read(reader, masked(Opcode.TEXT, b"x" * size)) == [(Opcode.TEXT, b"x" * size)]
    assert reader.at_rest


def test_the_largest_messages_leave_nothing_to_hold_either() -> None:
    reader = Wire(message_bytes=1 << 20)
    assert [len(data) for _, data in read(reader, masked(Opcode.BINARY, b"x" * 70_000))] == [70_000]
    assert reader.at_rest


@pytest.mark.parametrize("cut", range(1, 11))
def test_a_frame_that_comes_in_two_is_held_in_between(cut: int) -> None:
    reader, frame = wire(), masked(Opcode.TEXT, b"hello")
    assert read(reader, frame[:cut]) == []
    assert not reader.at_rest
    assert read(reader, frame[cut:]) == [(Opcode.TEXT, b"hello")]
    assert reader.at_rest


def test_a_message_in_fragments_is_held_until_it_is_whole() -> None:
    reader = wire()
    assert read(reader, masked(Opcode.TEXT, b"a", fin=False)) == []
    assert read(reader, masked(Opcode.PING, b"?")) == [(Opcode.PONG, b"\x8a\x01?")]
    assert not reader.at_rest
    assert read(reader, masked(Opcode.CONT, b"b")) == [(Opcode.TEXT, b"ab")]
    assert reader.at_rest


def test_a_close_between_fragments_is_answered_in_kind() -> None:
    reader = wire()
    close = Frame(TheirOpcode.CLOSE, b"\x03\xe8bye")
    assert read(reader, masked(Opcode.TEXT, b"a", fin=False) + masked(Opcode.CLOSE, bytes(close.data))) == []
    assert not reader.is_open
    assert reader.data_to_send() == [close.serialize(mask=False), b""]
    assert read(reader, masked(Opcode.CONT, b"b")) == []


def test_a_ping_that_was_answered_already_is_not_answered_again() -> None:
    reader = wire()
    received = reader.received(reader.frames(masked(Opcode.TEXT, b"x") + masked(Opcode.PING, b"?")))
    assert next(received) == (Opcode.TEXT, b"x")
    reader.end(1012, "bye")
    assert reader.data_to_send()[0] == b"\x8a\x01?"
    assert list(received) == []


def test_an_empty_fragment_begins_a_message() -> None:
    reader = wire()
    assert read(reader, masked(Opcode.BINARY, b"", fin=False)) == []
    assert not reader.at_rest
    assert read(reader, masked(Opcode.CONT, b"b")) == [(Opcode.BINARY, b"b")]


def test_what_came_in_more_bytes_than_it_needed_is_never_taken_for_the_end() -> None:
    reader = wire()
    # RFC 6455 section 5.2 asks for the shortest length; a library may be lenient about it.
    read(reader, b"\x81\xfe\x00\x01\x00\x00\x00\x00x")
    assert not reader.at_rest


@pytest.mark.parametrize("length", [b"\xfe\x00\x01", b"\xff\x00\x00\x00\x00\x00\x00\x00\x01"])
def test_a_ping_with_its_length_in_more_bytes_than_it_needs_is_answered(length: bytes) -> None:
    assert read(wire(), b"\x89" + length + bytes(4) + b"?") == [(Opcode.PONG, b"\x8a\x01?")]


@pytest.mark.parametrize("length", [b"\xfe\x00\x7e", b"\xff\x00\x00\x00\x00\x00\x01\x00\x00"])
def test_a_ping_that_is_too_long_fails_with_1002(length: bytes) -> None:
    reader = wire()
    assert read(reader, b"\x89" + length) == []
    assert reader.close_sent is not None
    assert reader.close_sent.code == 1002


def test_text_that_is_none_fails_with_1007_and_the_rest_is_not_heard() -> None:
    reader = wire()
    assert read(reader, masked(Opcode.TEXT, b"\xff") + masked(Opcode.TEXT, b"later")) == []
    assert reader.close_sent is not None
    assert reader.close_sent.code == 1007
    assert not reader.is_open
    assert not reader.at_rest


def test_a_message_over_the_limit_fails_with_1009() -> None:
    reader = wire()
    assert read(reader, masked(Opcode.TEXT, b"x" * 1001)) == []
    assert reader.close_sent is not None
    assert reader.close_sent.code == 1009


def test_a_long_reason_is_cut_between_characters() -> None:
    reader = wire()
    reader.end(1012, "ä" * 100)
    assert reader.close_sent is not None
    assert reader.close_sent.reason == "ä" * 61


def test_a_wire_that_is_let_go_needs_no_collector() -> None:
    gc.disable()
    try:
        reader = wire()
        read(reader, masked(Opcode.TEXT, b"x", fin=False) + masked(Opcode.TEXT, b"x")[:3])
        gone = weakref.ref(reader)
        del reader
        assert gone() is None
    finally:
        gc.enable()
