"""Parse a client's frames (RFC 6455 section 5.2) from bytes in any pieces. Knows nothing of messages."""

from enum import IntEnum

import msgspec


class Opcode(IntEnum):
    """What a frame is."""

    CONT = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


CONTROL = frozenset({Opcode.CLOSE, Opcode.PING, Opcode.PONG})
CONTROL_BYTES = 125
"""Longest payload of a control frame."""

PROTOCOL_ERROR = 1002
INVALID_DATA = 1007
TOO_BIG = 1009

_OPCODES = {opcode.value: opcode for opcode in Opcode}


class ClientFrame(msgspec.Struct, frozen=True):
    """A whole frame, unmasked."""

    opcode: Opcode
    data: bytes
    fin: bool

    @property
    def least_bytes(self) -> int:
        """What it takes on the wire, if its length is written in the shortest form."""
        size = len(self.data)
        return size + (6 if size < 126 else 8 if size < 65536 else 14)


class FrameError(Exception):
    """What came breaks the protocol: the close code that says so, and why."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


class FrameReader:
    """Takes bytes with `feed`; `next` gives the next whole frame. `limit` is the longest payload of a data frame."""

    __slots__ = ("_buffer", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """More bytes came."""
        self._buffer += data

    def next(self) -> ClientFrame | None:
        """The next frame, None until the whole of it has come. Raises `FrameError` as soon as it cannot be one."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        opcode = _checked_opcode(buffer[0], buffer[1])
        size, at = buffer[1] & 0x7F, 2
        if size > CONTROL_BYTES:
            at = 4 if size == 126 else 10
            if len(buffer) < at:
                return None
            size = int.from_bytes(buffer[2:at], "big")
        # Judged by the length in the head: a frame that is too big is refused before its payload is collected.
        if opcode in CONTROL:
            if size > CONTROL_BYTES:
                raise FrameError(PROTOCOL_ERROR, "control frame too long")
        elif size > self.limit:
            raise FrameError(TOO_BIG, f"frame of {size} bytes where at most {self.limit} may follow")
        end = at + 4 + size
        if len(buffer) < end:
            return None
        data = _unmasked(bytes(buffer[at + 4 : end]), bytes(buffer[at : at + 4]))
        fin = buffer[0] >= 0x80
        del buffer[:end]
        return ClientFrame(opcode, data, fin)


def control_frame(opcode: Opcode, data: bytes) -> bytes:
    """A server's control frame with at most `CONTROL_BYTES` of `data`."""
    return bytes((0x80 | opcode, len(data))) + data


def _checked_opcode(first: int, second: int) -> Opcode:
    """The opcode of a frame that begins with two such bytes."""
    opcode = _OPCODES.get(first & 0x0F)
    if opcode is None:
        raise FrameError(PROTOCOL_ERROR, "invalid opcode")
    if second < 0x80:
        raise FrameError(PROTOCOL_ERROR, "incorrect masking")
    if first & 0x70:
        raise FrameError(PROTOCOL_ERROR, "reserved bits must be 0")
    if opcode in CONTROL and first < 0x80:
        raise FrameError(PROTOCOL_ERROR, "fragmented control frame")
    return opcode


def _unmasked(data: bytes, mask: bytes) -> bytes:
    """XOR `data` with the repeated `mask`, as one operation on two long integers: a loop over bytes is far slower."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
