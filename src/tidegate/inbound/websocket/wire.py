"""Frames of one connection, read by `websockets`' sans-I/O protocol (RFC 6455 sections 5 to 7).

A wire costs 3 KB, and an idle connection has nothing to parse: so it is made when bytes come or a close frame goes,
and let go as soon as it holds nothing. Everything that outlives it is in the connection's protocol object.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import cast

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from tidegate.errors import CloseCode

MAX_REASON_BYTES = 123
"""What fits into a close frame beside its code (RFC 6455 section 5.5)."""

SILENT = logging.Logger("websockets", level=logging.CRITICAL)  # noqa: LOG001 - nobody else is to find it
"""At debug level the library would log what clients send, and tokens with it."""

_DATA = {Opcode.TEXT, Opcode.BINARY}
_CONTENT = {*_DATA, Opcode.CONT}


class Wire(Protocol):
    """The server's end of an open connection, between two frames.

    Bytes to send are collected by the parent: `data_to_send`.
    """

    def __init__(self, *, message_bytes: int) -> None:
        super().__init__(side=Side.SERVER, state=State.OPEN, max_size=message_bytes, logger=SILENT)
        self._held = 0
        self._opcode = Opcode.TEXT
        self._fragments: bytearray | None = None

    def frames(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Answers pings and closes, and fails on what breaks the protocol."""
        self.receive_data(data)
        frames = cast("list[Frame]", self.events_received())
        self._held += len(data) - sum(_size(frame) for frame in frames)
        return frames

    def received(self, frames: Iterable[Frame]) -> Iterator[tuple[Opcode, bytes]]:
        """What `frames` complete, in their order: TEXT or BINARY with a message, PONG with the frame to answer by.

        Fails (1007) on text that is none; what came after it is not heard.
        """
        for frame in frames:
            if frame.opcode is Opcode.PING and self.writes:
                # What waits begins with one pong for each ping among the frames, unless it was sent in the meantime.
                yield Opcode.PONG, self.writes.pop(0)
            elif frame.opcode in _DATA:
                self._opcode = frame.opcode
                self._fragments = bytearray(frame.data)
            elif frame.opcode is Opcode.CONT and self._fragments is not None:
                self._fragments += frame.data
            if frame.opcode in _CONTENT and frame.fin and self._fragments is not None:
                message, self._fragments = bytes(self._fragments), None
                if self._opcode is Opcode.TEXT and not self._check_text(message):
                    return
                yield self._opcode, message

    def recv_frame(self, frame: Frame) -> None:
        """Take one frame. A close may come between the fragments of a message (RFC 6455 section 5.4), which ends it."""
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)

    def end(self, code: int, reason: str) -> None:
        """Send a close frame, its reason cut to what fits."""
        self.send_close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))

    @property
    def is_open(self) -> bool:
        """Whether no close frame has come or gone."""
        return self.state is State.OPEN

    @property
    def failure(self) -> Exception | None:
        """What was no fault of the peer when its frames were read, so that the library closes with 1011."""
        broke = self.close_sent is not None and self.close_sent.code == CloseCode.INTERNAL_ERROR
        return self.parser_exc if broke else None

    @property
    def at_rest(self) -> bool:
        """Whether a new wire would do as well: open, between two messages, and every byte was part of a whole frame."""
        return self.is_open and self._fragments is None and self._held == 0

    def release(self) -> None:
        """Nothing is read any more. The parser refers to this object: without this, it would wait for the collector."""
        self.parser.close()

    def _check_text(self, message: bytes) -> bool:
        try:
            str(message, "utf-8")
        except UnicodeDecodeError as error:
            self.fail(1007, f"{error.reason} at position {error.start}")
            return False
        return True


def _size(frame: Frame) -> int:
    """What a client's frame takes on the wire at the least; one that took more leaves its wire not at rest for good."""
    size = len(frame.data)
    return size + (6 if size < 126 else 8 if size < 65536 else 14)
