"""One WebSocket connection on its transport, after the upgrade request.

Outgoing messages are complete frames, which the hub joins and sends through the transport, or directly to the socket.
They bypass the protocol state (`Wire`), so it cannot prevent that a message follows a close frame. The phase of the
subscriber does (`tidegate.core.delivery.cohort`).
"""

import asyncio
from collections.abc import Callable

import msgspec

from tidegate.core.rate import NOTHING_OWED, Rate
from tidegate.errors import CloseCode, LeaveReason
from tidegate.inbound.websocket.departure import departure
from tidegate.inbound.websocket.frames import Opcode
from tidegate.inbound.websocket.wire import Wire
from tidegate.runtime.connection import Connection

LINGER_S = 2.0
"""Seconds to read on after a close frame or a refusal has been sent.

Closing a socket with unread bytes sends a reset, which may destroy what was sent.
"""

PIECE_BYTES = 2048
"""How many bytes are handled at once; then other connections have their turn.

Small, because every frame takes the same time, and a client's smallest frame has 6 bytes.
"""

PING_FRAME = b"\x89\x00"

PONG_BYTES = 6
PONG_HEAD = b"\x8a\x80"
"""How a client's answer to `PING_FRAME` begins: an empty masked pong. The four bytes of the mask follow."""


class ProtocolOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one connection, in bytes.

    `message_bytes` is for a received message. A client that sends more frames, of any type, than the rate `frames` is
    read more slowly. If more than `send_buffer_soft_bytes` are unsent, the client gets no events until the transport
    has drained. If it is more than `send_buffer_hard_bytes` after control frames were answered, the connection is
    aborted.
    """

    message_bytes: int
    frames: Rate = Rate(per_s=1000.0, burst=2000)
    send_buffer_soft_bytes: int
    send_buffer_hard_bytes: int


class WebSocketProtocol(asyncio.Protocol):
    """A connection that asked for an upgrade. Call `open` or `refuse` next.

    It is the channel of its `Connection`. `ended` is called when the transport is lost, with this object, the reason,
    and details for the log. `slot` is for `WebSocketServer`.
    """

    __slots__ = (
        "_alive",
        "_ended",
        "_frames_owed_until",
        "_given_up",
        "_lingering",
        "_options",
        "_transport",
        "_wire",
        "connection",
        "slot",
        "socket",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        options: ProtocolOptions,
        *,
        slot: int,
        ended: Callable[["WebSocketProtocol", LeaveReason, str], None],
    ) -> None:
        self.connection: Connection | None = None
        self.slot = slot
        self._transport = transport
        self._options = options
        self._ended = ended
        self._wire: Wire | None = None
        self._frames_owed_until = NOTHING_OWED
        self._alive = True
        self._given_up: LeaveReason | None = None  # set before we abort the transport without a close frame
        self._lingering = False
        self.socket = _socket_under(transport)
        transport.set_protocol(self)
        # If the hub may write directly to the socket, the transport must report its first unsent byte at once: a direct
        # write would overtake it.
        transport.set_write_buffer_limits(high=options.send_buffer_soft_bytes if self.socket is None else 0)

    def open(self, connection: Connection) -> None:
        """Become the channel of `connection`, whose first write must be the answer to the upgrade request."""
        self.connection = connection

    def refuse(self, answer: bytes) -> None:
        """Send `answer` and close. What the client still sends is discarded."""
        self._transport.write(answer)
        self._linger(half_close=True)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self.connection is None:
            return
        try:
            self._take_in(data, self.connection)
        except Exception as error:  # noqa: BLE001 - the connection logs it
            self.connection.fail(error)

    def _take_in(self, data: bytes, connection: Connection) -> None:
        self._alive = True
        # The most frequent input is the answer to our ping. It needs no `Wire`, unless it is inside a message.
        if self._wire is None and len(data) == PONG_BYTES and data.startswith(PONG_HEAD):
            self._charge(1)
        else:
            self._read(data[:PIECE_BYTES], connection)
        rest, wait_s = data[PIECE_BYTES:], self._owed_s()
        if (rest or wait_s > 0) and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(wait_s, self._read_on, rest)

    def eof_received(self) -> None:
        if self.connection is not None:
            self.connection.detach()
            if self._wire is not None:
                self._wire.receive_eof()
                self._after_reading(self._wire, self.connection)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(self, *departure(self._wire, exc, given_up=self._given_up))

    def pause_writing(self) -> None:
        """The transport holds unsent bytes, which must be sent first. `write` checks whether they are too many."""
        if self.connection is not None:
            self.connection.set_holding(True)

    def resume_writing(self) -> None:
        """The transport has drained: completely if the hub knows the socket, else to a quarter of the soft limit."""
        if self.connection is not None:
            self.connection.set_holding(False)
            self.connection.resume()

    # ClosableChannel

    def write(self, data: bytes) -> None:
        self._transport.write(data)
        # Not in `pause_writing`: with a socket, that is called for the first unsent byte.
        if self.unsent() > self._options.send_buffer_soft_bytes and self.connection is not None:
            self.connection.pause()

    def unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def close(self, code: CloseCode, reason: str) -> None:
        if self.connection is not None and (wire := self._the_wire()).is_open:
            wire.end(code, reason)
            self._send_waiting(wire)
            self._linger(half_close=False)

    def abort(self, code: CloseCode, reason: str) -> None:
        self.close(code, reason)
        self._transport.abort()

    def check_alive(self) -> None:
        """Send a ping, or abort if nothing has been received since the last one. Called every `PING_S` seconds."""
        if not self._alive:
            self._give_up(LeaveReason.NO_PONG)
        elif self.connection is not None and (self._wire is None or self._wire.is_open):
            self._alive = False
            self._transport.write(PING_FRAME)

    # inbound

    def _the_wire(self) -> Wire:
        if self._wire is None:
            self._wire = Wire(message_bytes=self._options.message_bytes)
        return self._wire

    def _read(self, piece: bytes, connection: Connection) -> None:
        wire = self._the_wire()
        frames = wire.frames(piece)
        self._charge(len(frames))
        for opcode, data in wire.received(frames):
            if opcode is Opcode.TEXT:
                connection.receive(data)
            elif opcode is Opcode.BINARY:
                connection.receive_binary(data)
            else:
                self._transport.write(data)
        self._after_reading(wire, connection)

    def _after_reading(self, wire: Wire, connection: Connection) -> None:
        """Send what the wire has queued, stop streaming if it closes, and drop the wire if it holds no state."""
        if not wire.is_open:
            connection.detach()
        self._send_waiting(wire)
        if wire.at_rest:
            self._wire = None

    def _charge(self, frames: int) -> None:
        now = asyncio.get_running_loop().time()
        self._frames_owed_until = self._options.frames.charged(self._frames_owed_until, now, count=frames)

    def _owed_s(self) -> float:
        """Return for how long to pause reading, so that the client keeps to the rate of frames.

        0 for a closing connection: what it sends is discarded, which costs nothing.
        """
        if self._wire is not None and not self._wire.is_open:
            return 0.0
        return max(0.0, self._frames_owed_until - asyncio.get_running_loop().time())

    def _read_on(self, rest: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()
            if rest:
                self.data_received(rest)

    # outbound

    def _send_waiting(self, wire: Wire) -> None:
        for data in wire.data_to_send():
            if data:
                self._transport.write(data)
            else:
                # TLS cannot half-close. After the client's close frame nothing more is read, so it can close fully.
                self._linger(half_close=True, all_is_read=wire.close_rcvd is not None)
        if self._transport.get_write_buffer_size() > self._options.send_buffer_hard_bytes:
            self._give_up(LeaveReason.TOO_SLOW)

    def _give_up(self, reason: LeaveReason) -> None:
        self._given_up = reason
        self._transport.abort()

    def _linger(self, *, half_close: bool, all_is_read: bool = False) -> None:
        """Read until the client has closed the connection, and abort after `LINGER_S`."""
        if half_close and self._transport.can_write_eof():
            self._transport.write_eof()
        elif half_close and all_is_read:
            self._transport.close()
        if not self._lingering:
            self._lingering = True
            asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)


def _socket_under(transport: asyncio.Transport) -> int | None:
    """Return the descriptor to which the hub may write directly. None under TLS, or without a real socket."""
    if transport.get_extra_info("sslcontext") is not None:
        return None
    sock = transport.get_extra_info("socket")
    descriptor = None if sock is None else sock.fileno()
    return descriptor if isinstance(descriptor, int) else None
