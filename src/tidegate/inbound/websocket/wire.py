"""The protocol state of a connection: fragmented messages, pings, and the closing handshake (RFC 6455 sections 5 to 7).

No I/O: it takes received bytes, and collects the bytes to send. To save memory, an idle connection has no `Wire`. One
is made when bytes are received or a close frame is sent, and dropped as soon as it holds no state (`at_rest`). What
must last longer is in `WebSocketProtocol`.
"""

from collections.abc import Iterable, Iterator

import msgspec

from tidegate.inbound.websocket.frames import (
    INVALID_DATA,
    PROTOCOL_ERROR,
    ClientFrame,
    FrameError,
    FrameReader,
    Opcode,
    control_frame,
)

MAX_REASON_BYTES = 123
"""Limit on the reason in a close frame: a control frame's 125 bytes, less two for the code (RFC 6455 section 5.5)."""

NO_STATUS = 1005
"""Stands for the code of a close frame that has none. It is never sent."""

END = b""
"""An item of `data_to_send` that means: half-close the connection here."""

_DATA = {Opcode.TEXT, Opcode.BINARY}
_CONTENT = {*_DATA, Opcode.CONT}
_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
"""The registered close codes that may be sent. 3000 to 4999 are for applications (RFC 6455 section 7.4)."""


class CloseFrame(msgspec.Struct, frozen=True):
    """The content of a close frame."""

    code: int
    reason: str


class Wire:
    """The server's side of an open connection.

    For each read, call `frames`, then iterate over `received`, then send `data_to_send`. `close_rcvd` and `close_sent`
    are the close frames; `close_rcvd_then_sent` says whether the client's came first.
    """

    __slots__ = (
        "__weakref__",
        "_ends",
        "_fragments",
        "_held",
        "_is_in_message",
        "_limit",
        "_opcode",
        "_reader",
        "_writes",
        "close_rcvd",
        "close_rcvd_then_sent",
        "close_sent",
    )

    def __init__(self, *, message_bytes: int) -> None:
        self.close_rcvd: CloseFrame | None = None
        self.close_sent: CloseFrame | None = None
        self.close_rcvd_then_sent = False
        self._limit = message_bytes
        self._reader = FrameReader(message_bytes)
        self._writes: list[bytes] = []
        self._ends = False  # whatever is received now is ignored
        self._is_in_message = False
        self._held = 0
        self._opcode = Opcode.TEXT
        self._fragments: bytearray | None = None

    def frames(self, data: bytes) -> list[ClientFrame]:
        """Return the frames that `data` completes. Queues the answers to pings and to a close frame.

        If the client breaks the protocol, a close frame is queued, and only the frames before the mistake are returned.
        """
        frames: list[ClientFrame] = []
        if self._ends:
            return frames
        self._reader.feed(data)
        self._held += len(data)
        try:
            while (frame := self._reader.next()) is not None:
                self._take(frame)
                self._held -= frame.least_bytes
                frames.append(frame)
                if frame.opcode is Opcode.CLOSE:
                    break  # nothing after a close frame is read (RFC 6455 section 5.5.1)
        except FrameError as error:
            self._fail(error.code, error.reason)
        return frames

    def received(self, frames: Iterable[ClientFrame]) -> Iterator[tuple[Opcode, bytes]]:
        """Yield what `frames` complete, in order: TEXT or BINARY with a message, or PONG with a frame to send.

        If a text is not UTF-8, a close frame (1007) is queued, and the remaining frames are ignored.
        """
        for frame in frames:
            if frame.opcode is Opcode.PING and self._writes:
                # The queue begins with one pong for each ping in `frames`. Each is sent between the messages around it,
                # so that it does not overtake answers. If a message closed the connection, all were sent then.
                yield Opcode.PONG, self._writes.pop(0)
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

    def receive_eof(self) -> None:
        """The client has ended its direction of the connection."""
        self._end()

    def end(self, code: int, reason: str) -> None:
        """Queue a close frame. The reason is cut to `MAX_REASON_BYTES`."""
        text = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        self._close(CloseFrame(code, text), code.to_bytes(2, "big") + text.encode())

    def data_to_send(self) -> list[bytes]:
        """Return the queued bytes, in the order in which they must be sent, and empty the queue. See `END`."""
        writes, self._writes = self._writes, []
        return writes

    @property
    def is_open(self) -> bool:
        """Whether no close frame has been sent or received, and the client has not ended the connection."""
        return self.close_sent is None and not self._ends

    @property
    def at_rest(self) -> bool:
        """Whether a new `Wire` would behave the same: it is open, and no message or frame is incomplete."""
        return self.is_open and self._fragments is None and self._held == 0

    def _take(self, frame: ClientFrame) -> None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY if self._is_in_message:
                raise FrameError(PROTOCOL_ERROR, "expected a continuation frame")
            case Opcode.CONT if not self._is_in_message:
                raise FrameError(PROTOCOL_ERROR, "unexpected continuation frame")
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                self._is_in_message = not frame.fin
                # Lower the limit for the next fragment, so that a message is refused as soon as it is too long.
                self._reader.limit = self._limit if frame.fin else self._reader.limit - len(frame.data)
            case Opcode.PING:
                self._writes.append(control_frame(Opcode.PONG, frame.data))
            case Opcode.CLOSE:
                self._take_close(frame.data)

    def _take_close(self, data: bytes) -> None:
        """A close frame may come between the fragments of a message (RFC 6455 section 5.4). The message is dropped."""
        self.close_rcvd = _read_close(data)
        if self.close_sent is None:
            self.close_rcvd_then_sent = True
            self._close(self.close_rcvd, data)  # the answer repeats the code (RFC 6455 section 5.5.1)
        self._end()

    def _close(self, close: CloseFrame, data: bytes) -> None:
        self.close_sent = close
        self._writes.append(control_frame(Opcode.CLOSE, data))

    def _fail(self, code: int, reason: str) -> None:
        """Queue a close frame with the error, and end without waiting for the client's (RFC 6455 section 7.1.7)."""
        if self.close_sent is None:
            self.end(code, reason)
        self._end()

    def _end(self) -> None:
        if not self._ends:
            self._ends = True
            self._writes.append(END)

    def _check_text(self, message: bytes) -> bool:
        try:
            str(message, "utf-8")
        except UnicodeDecodeError as error:
            self._fail(INVALID_DATA, f"{error.reason} at position {error.start}")
            return False
        return True


def _read_close(data: bytes) -> CloseFrame:
    """Parse the payload of a client's close frame. Raises `FrameError`."""
    if not data:
        return CloseFrame(NO_STATUS, "")
    code = int.from_bytes(data[:2], "big")
    if len(data) < 2:
        raise FrameError(PROTOCOL_ERROR, "close frame too short")
    if code not in _CODES and not 3000 <= code < 5000:
        raise FrameError(PROTOCOL_ERROR, "invalid status code")
    try:
        return CloseFrame(code, str(data[2:], "utf-8"))
    except UnicodeDecodeError as error:
        raise FrameError(INVALID_DATA, f"{error.reason} at position {error.start}") from error
