"""WebSocket at ``/ws``: RFC 6455 through `websockets`' sans-I/O protocol, on uvicorn's sockets.

`ServerProtocol` does the handshake and reads frames; outgoing messages are ready frames that the hub joins and this
transport writes as they are. They bypass the sans-I/O state, so nothing is written once a close frame is out.
"""

import asyncio
import http
import logging
from collections.abc import Iterable
from typing import cast

import msgspec
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from tidegate.core.framing import WEBSOCKET
from tidegate.core.grant import Role
from tidegate.core.problem import MEDIA_TYPE, problem
from tidegate.core.query import StreamQuery, parse_stream_query
from tidegate.core.rate import NOTHING_OWED, Rate
from tidegate.errors import AccessRefused, CloseCode
from tidegate.runtime import access
from tidegate.runtime.connection import Connection
from tidegate.runtime.gateway import Gateway

PING_S = 20.0
"""A connection is pinged this often, and closed if nothing came from it between two pings."""

LINGER_S = 2.0
"""How long the server reads on after its close frame, so that the code arrives before a reset could."""

PATH = "/ws"

VERSION = "13"

MAX_REASON_BYTES = 123
"""What fits into a close frame beside its code (RFC 6455 section 5.5)."""

PIECE_BYTES = 2048
"""How much is taken in before others have their turn: a frame costs the same time however small it is."""

PING_FRAME = b"\x89\x00"


SILENT = logging.Logger("websockets", level=logging.CRITICAL)  # noqa: LOG001 - nobody else is to find it
"""At debug level the library would log request lines, and tokens with them."""


class WebSocketOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the adapter itself needs to know. A client whose frames, of any kind, pass `frames` is read more slowly."""

    message_bytes: int
    frames: Rate = Rate(per_s=1000.0, burst=2000)
    send_buffer_soft_bytes: int
    send_buffer_hard_bytes: int
    root_path: str = ""


class WebSocketServer:
    """Makes a protocol for each upgrade, and pings them all from one timer.

    `run` must be running while connections are open.
    """

    def __init__(self, gateway: Gateway, gate: access.Gate, options: WebSocketOptions) -> None:
        self.gateway = gateway
        self.gate = gate
        self.options = options
        self._slots: list[dict[WebSocketProtocol, None]] = [{} for _ in range(int(PING_S))]
        self._slot = 0

    def __call__(self, config: object, server_state: object, app_state: object) -> "WebSocketProtocol":
        """What uvicorn calls with its own state, of which nothing is needed, for each upgrade."""
        return WebSocketProtocol(self)

    async def run(self) -> None:
        """Ping connections, each once in `PING_S`, a slot of them each second, until cancelled; then end them all."""
        try:
            while True:
                await asyncio.sleep(PING_S / len(self._slots))
                self._slot = (self._slot + 1) % len(self._slots)
                for protocol in list(self._slots[self._slot]):
                    protocol.check_alive()
        finally:
            for protocol in [protocol for slot in self._slots for protocol in slot]:
                protocol.abort(CloseCode.GOING_AWAY, "the gateway ends")

    def enrol(self, protocol: "WebSocketProtocol") -> dict["WebSocketProtocol", None]:
        """Put an open connection under the timer: the slot that it must take itself out of."""
        slot = self._slots[self._slot]
        slot[protocol] = None
        return slot


class WebSocketProtocol(asyncio.Protocol):
    """One WebSocket connection, from its upgrade request on. It is its connection's channel."""

    __slots__ = (
        "_alive",
        "_connection",
        "_failed",
        "_fragments",
        "_frames_owed_until",
        "_is_text",
        "_lingering",
        "_server",
        "_slot",
        "_transport",
        "_wire",
        "unsent",
        "write",
    )

    def __init__(self, server: WebSocketServer) -> None:
        self._server = server
        self._wire = ServerProtocol(max_size=server.options.message_bytes, logger=SILENT)
        self._connection: Connection | None = None
        self._fragments: bytearray | None = None
        self._frames_owed_until = NOTHING_OWED
        self._is_text = False
        self._alive = True
        self._failed = False
        self._lingering = False
        self._slot: dict[WebSocketProtocol, None] = {}

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # uvicorn hands the transport over only after the upgrade request, whose answer may fill it: be told of that.
        self._transport.set_protocol(self)
        self._slot = self._server.enrol(self)
        self._transport.set_write_buffer_limits(high=self._server.options.send_buffer_soft_bytes)
        self.write = self._transport.write
        self.unsent = self._transport.get_write_buffer_size

    def data_received(self, data: bytes) -> None:
        self._alive = True
        self._wire.receive_data(data[:PIECE_BYTES])
        self._handle_events()
        rest, wait_s = data[PIECE_BYTES:], self._owed_s()
        if (rest or wait_s > 0) and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(wait_s, self._read_on, rest)

    def eof_received(self) -> None:
        self._wire.receive_eof()
        self._handle_events()

    def connection_lost(self, exc: Exception | None) -> None:
        self._slot.pop(self, None)
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._server.gateway.disconnect(connection, _reason(self._wire, exc))

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    # ClosableChannel

    def close(self, code: CloseCode, reason: str) -> None:
        if self._wire.state is State.OPEN:
            self._wire.send_close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
            self._send_waiting()
            self._linger(half_close=False)

    def abort(self, code: CloseCode, reason: str) -> None:
        self.close(code, reason)
        self._transport.abort()

    def check_alive(self) -> None:
        """Once in `PING_S`: ping, or close a connection that gave no sign of life since the last ping."""
        if not self._alive:
            self._transport.abort()
        elif self._wire.state is State.OPEN:
            self._alive = False
            self._transport.write(PING_FRAME)

    # inbound

    def _read_on(self, rest: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()
            if rest:
                self.data_received(rest)

    def _owed_s(self) -> float:
        """How long to read nothing, so that frames are within their rate; a closing connection is only thrown away."""
        if self._wire.state is not State.OPEN:
            return 0.0
        return max(0.0, self._frames_owed_until - asyncio.get_running_loop().time())

    def _handle_events(self) -> None:
        events = self._wire.events_received()
        if events:
            now = asyncio.get_running_loop().time()
            self._frames_owed_until = self._server.options.frames.charged(
                self._frames_owed_until, now, count=len(events)
            )
        # What waits begins with one pong for each ping among the events: each goes out in its ping's turn.
        waiting = iter(self._wire.data_to_send())
        for event in events:
            if isinstance(event, Request):
                self._upgrade(event)
            elif cast("Frame", event).opcode is Opcode.PING:
                self._transport.write(next(waiting))
            elif not self._failed:
                self._handle_frame(cast("Frame", event))
        if self._wire.state is not State.OPEN and self._connection is not None:
            self._connection.detach()
        self._send(waiting)
        self._send_waiting()

    def _handle_frame(self, frame: Frame) -> None:
        if frame.opcode in {Opcode.TEXT, Opcode.BINARY}:
            self._is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                self._receive(bytes(frame.data))
            else:
                self._fragments = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._fragments is not None:
            self._fragments += frame.data
            if frame.fin:
                message, self._fragments = bytes(self._fragments), None
                self._receive(message)

    def _receive(self, message: bytes) -> None:
        if self._connection is None:
            return
        if not self._is_text:
            self._connection.receive_binary(message)
            return
        try:
            str(message, "utf-8")
        except UnicodeDecodeError as error:
            self._failed = True
            self._wire.fail(1007, f"{error.reason} at position {error.start}")
        else:
            self._connection.receive(message)

    def _send_waiting(self) -> None:
        self._send(self._wire.data_to_send())

    def _send(self, waiting: Iterable[bytes]) -> None:
        for data in waiting:
            if data:
                self._transport.write(data)
            else:
                self._linger(half_close=True)
        if self._transport.get_write_buffer_size() > self._server.options.send_buffer_hard_bytes:
            self._transport.abort()

    def _linger(self, *, half_close: bool) -> None:
        """Read on until the peer has ended the stream, for `LINGER_S` at the longest."""
        if half_close and self._transport.can_write_eof():
            self._transport.write_eof()
        elif half_close and self._wire.close_rcvd is not None:
            # TLS cannot end one direction alone; after the peer's close frame there is nothing more to read.
            self._transport.close()
        if not self._lingering:
            self._lingering = True
            asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)

    # handshake

    def _upgrade(self, request: Request) -> None:
        try:
            admission, query = self._admit(request)
            patterns = self._server.gateway.patterns_for(query.types, admission.grant)
            response = self._wire.accept(request)
            if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
                raise AccessRefused(response.status_code, (response.body or b"").decode().strip())
        except AccessRefused as refused:
            self._wire.send_response(_refusal(refused))
            return
        self._wire.send_response(response)
        self._send_waiting()
        self._connection = self._server.gateway.connect(
            self,
            transport="websocket",
            address=admission.address,
            framing=WEBSOCKET,
            grant=admission.grant,
            patterns=patterns,
        )
        self._connection.start(query.since)

    def _admit(self, request: Request) -> tuple[access.Admission, StreamQuery]:
        path, _, query_string = request.path.partition("?")
        asked = access.Request(
            peer=str((self._transport.get_extra_info("peername") or ("",))[0]),
            scheme="https" if self._transport.get_extra_info("sslcontext") else "http",
            headers={name.lower(): ", ".join(request.headers.get_all(name)) for name in request.headers},
        )
        gate = self._server.gate
        gate.check_host(asked)
        gate.check_origin(asked)
        if path.removeprefix(self._server.options.root_path) != PATH:
            raise AccessRefused(404, f"expected the path {PATH}, got {path[:200]!r}")
        if (version := asked.headers.get("sec-websocket-version")) != VERSION:
            raise AccessRefused(426, f"expected Sec-WebSocket-Version {VERSION} (RFC 6455), got {version!r}")
        self._server.gateway.check_room()
        query = parse_stream_query(query_string)
        return gate.authenticate(asked, query.token, Role.SUBSCRIBER), query


def _refusal(refused: AccessRefused) -> Response:
    body = problem(refused.status, str(refused))
    headers = Headers({"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close"})
    headers["Cache-Control"] = "no-store"
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(refused.retry_after_s)
    if refused.status == http.HTTPStatus.UPGRADE_REQUIRED:
        headers["Upgrade"] = "websocket"
        headers["Sec-WebSocket-Version"] = VERSION
    if refused.status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(refused.status, http.HTTPStatus(refused.status).phrase, headers, body)


def _reason(wire: ServerProtocol, error: Exception | None) -> str:
    """How the connection ended, for logs and metrics: the first close frame, or what broke."""
    if wire.close_rcvd is not None and not (wire.close_sent and wire.close_rcvd_then_sent is False):
        return f"closed by the client with {wire.close_rcvd.code}"
    if wire.close_sent is not None:
        return f"closed by the server with {wire.close_sent.code}: {wire.close_sent.reason}"
    return f"connection lost: {error}" if error else "connection lost"
