"""Parses a client's frames (RFC 6455 section 5.2) from bytes in pieces of any size. Knows nothing of messages."""

from enum import IntEnum

import msgspec


class Opcode(IntEnum):
    """The type of a frame."""

    CONT = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


CONTROL = frozenset({Opcode.CLOSE, Opcode.PING, Opcode.PONG})
CONTROL_BYTES = 125
"""Limit on the payload of a control frame (RFC 6455 section 5.5)."""

PROTOCOL_ERROR = 1002
INVALID_DATA = 1007
TOO_BIG = 1009

_OPCODES = {opcode.value: opcode for opcode in Opcode}


class ClientFrame(msgspec.Struct, frozen=True):
    """A complete frame. `data` is unmasked; `fin` says whether it is the last frame of its message."""

    opcode: Opcode
    data: bytes
    fin: bool

    @property
    def least_bytes(self) -> int:
        """Its size on the wire, if its length was written in the shortest form (RFC 6455 section 5.2).

        That is not checked. A client that uses a longer form only keeps its `Wire` in memory.
        """
        size = len(self.data)
        return size + (6 if size < 126 else 8 if size < 65536 else 14)


class FrameError(Exception):
    """The client broke the protocol. `code` and `reason` are for the close frame."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


class FrameReader:
    """Takes bytes with `feed`, and returns complete frames from `next`. `limit` is for the payload of a data frame."""

    __slots__ = ("_buffer", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data

    def next(self) -> ClientFrame | None:
        """Return the next frame, or None if it is incomplete. Raises `FrameError` as soon as it cannot be valid."""
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
        # The length in the head is checked, so that a frame that is too big is refused before its payload takes memory.
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
    """Make a server's control frame. `data` must be at most `CONTROL_BYTES` long."""
    return bytes((0x80 | opcode, len(data))) + data


def _checked_opcode(first: int, second: int) -> Opcode:
    """Return the opcode of a frame that begins with these two bytes. Raises `FrameError`."""
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
