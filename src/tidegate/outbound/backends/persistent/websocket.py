"""The framing of a WebSocket client: the handshake, and one JSON text per message. `websockets` has the protocol."""

import logging
from collections.abc import Iterator, Mapping

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri
from yarl import URL

from tidegate.errors import BackendError, HttpStatus, InvalidResponse
from tidegate.outbound.backends.persistent.framing import Goodbye
from tidegate.outbound.http_client import status_error
from tidegate.printable import printable

REASON_CHARACTERS = 100
"""How much of the reason that a server gives for closing is shown."""

_SILENT = logging.Logger("tidegate.outbound.websocket", logging.CRITICAL)  # noqa: LOG001 - out of reach of every setting
"""The library logs whole messages where a program asks for all details, and a login is a message."""

_SCHEMES = {"http": "ws", "https": "wss"}
_HANDSHAKE = frozenset(
    {"host", "upgrade", "connection", "accept-encoding", "sec-websocket-key", "sec-websocket-version"}
)
"""Headers of a handshake that are not taken from the headers of requests."""


class RpcWebSocket:
    """The `RpcFraming` of one WebSocket to `url` (http or https). The handshake has `headers`.

    Messages are not compressed, so that a limit on what is received is one on memory: `limit_bytes` for a message.
    `peer` and `wall`, the current time in Unix seconds, are for the error about a handshake that is refused.
    """

    def __init__(self, url: URL, headers: Mapping[str, str], *, limit_bytes: int, peer: str, wall: float) -> None:
        self._limit_bytes = limit_bytes
        self._peer = peer
        self._wall = wall
        self._headers = headers
        address = str(url.with_scheme(_SCHEMES[url.scheme]).with_user(None).with_fragment(None))
        self._protocol = ClientProtocol(parse_uri(address), max_size=limit_bytes, logger=_SILENT)
        self._begun = bytearray()

    @property
    def is_ready(self) -> bool:
        return self._protocol.state is not State.CONNECTING

    def opening(self) -> bytes:
        request = self._protocol.connect()
        for name, value in self._headers.items():
            if name.lower() == "host":
                del request.headers["Host"]
                request.headers["Host"] = value
            elif name.lower() not in _HANDSHAKE:
                request.headers[name] = value
        self._protocol.send_request(request)
        return self.replies()

    def wrapped(self, message: bytes) -> bytes:
        self._protocol.send_text(message)
        return self.replies()

    def feed(self, data: bytes) -> Iterator[bytearray]:
        """See `RpcFraming.feed`."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                yield from self._taken(event)
        if self._protocol.handshake_exc is not None:
            raise self._refused(self._protocol.handshake_exc)
        if self._protocol.parser_exc is not None:
            raise self._broken(self._protocol.parser_exc)
        if self._protocol.close_rcvd is not None:
            close = self._protocol.close_rcvd
            reason = printable(close.reason[:REASON_CHARACTERS])
            raise Goodbye(f"{self._peer}: it closed the connection ({close.code}{' ' if reason else ''}{reason})")

    def replies(self) -> bytes:
        return b"".join(self._protocol.data_to_send())

    def ping(self) -> bytes:
        self._protocol.send_ping(b"")
        return self.replies()

    def goodbye(self) -> bytes:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
        return self.replies()

    def _taken(self, frame: Frame) -> Iterator[bytearray]:
        if frame.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            self._begun += frame.data
            if frame.fin:
                message, self._begun = self._begun, bytearray()
                yield message

    def _refused(self, exc: Exception) -> BackendError:
        if isinstance(exc, InvalidStatus):
            return self._status(exc.response)
        what = f"{exc}" if isinstance(exc, InvalidHandshake) else type(exc).__name__
        return InvalidResponse(f"expected the answer to a WebSocket handshake, got another: {printable(what[:200])}")

    def _status(self, response: Response) -> HttpStatus:
        retry_after = response.headers.get_all("Retry-After")
        return status_error(self._peer, response.status_code, retry_after[0] if retry_after else None, wall=self._wall)

    def _broken(self, exc: Exception) -> InvalidResponse:
        if isinstance(exc, PayloadTooBig):
            return InvalidResponse(f"expected an answer of at most {self._limit_bytes} bytes, got more")
        return InvalidResponse(f"expected WebSocket frames, got what breaks the protocol: {printable(str(exc)[:200])}")
