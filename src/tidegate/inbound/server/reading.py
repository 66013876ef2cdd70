"""Parses the requests in the bytes of one connection. The grammar is that of llhttp, through httptools.

Decides what the grammar leaves open: how long a head may be, which transfer codings are accepted, and which requests
are upgrades. Knows neither transports nor answers.
"""

from contextlib import suppress
from enum import Enum, auto
from typing import Protocol

import httptools
import msgspec

from tidegate.core.intake import HELD_BYTES, Intake
from tidegate.inbound.server.bad_request import BadRequest

HEAD_BYTES = 32768
"""Limit on a request head: request line and header fields. Room for large cookies and tokens.

An incomplete head may exceed it by `PIECE_BYTES` before it is refused.
"""

HEAD_FIELDS = 1000
"""Limit on the number of header fields. The shortest field is 4 bytes on the wire, but takes far more memory here."""

PIECE_BYTES = 16384
"""How many bytes are parsed at once. The limits are checked after each piece, since the parser itself has none."""

Fields = list[tuple[bytes, bytes]]


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """A request without its body.

    `target` is as the client sent it. `path` and `query` are its parts, and empty if the request is an upgrade.
    `fields` have names in lower case, and values without surrounding white space. `sent_id` is the value of
    X-Request-ID, empty if it came more than once, None if there is none.
    """

    method: str
    target: bytes
    version: str
    fields: Fields
    keep_alive: bool
    expects_continue: bool = False
    path: bytes = b""
    query: bytes = b""
    sent_id: bytes | None = None

    @property
    def is_old(self) -> bool:
        """Whether it is HTTP/1.0, which has neither chunked bodies nor interim answers."""
        return self.version == "1.0"


class RequestSink(Protocol):
    """Receives the parts of requests in the order in which they are parsed."""

    def request_begins(self) -> None:
        """The first byte of a request was read. Its head may still be incomplete."""

    def request_head(self, head: RequestHead) -> None:
        """The head is complete. May raise `BadRequest`."""

    def request_body(self, piece: bytes) -> None:
        """A piece of the body was read."""

    def request_ends(self) -> None:
        """The request is complete, with its body."""

    def upgrade(self, head: RequestHead) -> None:
        """The request asks for a WebSocket. No other method is called after this one."""


class Stage(Enum):
    """The part of a request to which the last byte belonged."""

    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()


class RequestReader:
    """Parses the requests of one connection, and counts everything that is received in `intake`.

    Call `release` at the end: this object and its parser refer to each other.
    """

    __slots__ = (
        "_codings",
        "_expects_continue",
        "_fields",
        "_head_bytes",
        "_intake",
        "_is_upgrade",
        "_new_head",
        "_parser",
        "_sent_id",
        "_sink",
        "_target",
        "_websocket",
        "stage",
    )

    def __init__(self, sink: RequestSink, intake: Intake) -> None:
        self.stage = Stage.BETWEEN
        self._sink = sink
        self._intake = intake
        self._parser = self._new_parser()
        self._target = b""
        self._fields: Fields = []
        self._codings: list[bytes] = []
        self._sent_id: bytes | None = None
        self._expects_continue = False
        self._head_bytes = 0
        self._new_head = False
        self._is_upgrade = False
        self._websocket: RequestHead | None = None

    def feed(self, data: bytes) -> bytes:
        """Parse a first piece of `data`, and return the rest.

        Call again with the rest, until it is empty. After an upgrade, the rest belongs to the WebSocket. Raises
        `BadRequest`; then nothing more can be parsed.
        """
        piece, rest = data[:PIECE_BYTES], data[PIECE_BYTES:]
        self._intake.bytes_received(len(piece))
        was_in_head, self._new_head = self.stage is Stage.HEAD, False
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            end = upgrade.args[0]
        except httptools.HttpParserError as error:
            cause = error.__context__
            raise cause if isinstance(cause, BadRequest) else BadRequest(400, "expected HTTP/1.1") from None
        else:
            self._check_size(len(piece) if was_in_head and not self._new_head else 0)
            return rest
        return self._after_upgrade(piece[end:] + rest)

    def release(self) -> None:
        """Break the reference cycle. Nothing can be parsed afterwards."""
        del self._parser, self._sink

    # called by httptools

    def on_message_begin(self) -> None:
        self.stage = Stage.HEAD
        self._new_head = True
        self._head_bytes = 0
        self._target = b""
        self._fields = []
        self._codings = []
        self._sent_id = None
        self._expects_continue = False
        self._intake.request_begun()
        self._sink.request_begins()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """White space after a value does not belong to it (RFC 9112, section 5)."""
        if self.stage is not Stage.HEAD:  # a trailer field, after a chunked body: nobody uses them
            return
        if len(self._fields) >= HEAD_FIELDS:
            raise _head_too_large()
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"transfer-encoding":
            self._codings.append(value.lower())
        elif name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        elif name == b"x-request-id":
            self._sent_id = value if self._sent_id is None else b""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser, fields = self._parser, self._fields
        method, version = parser.get_method(), parser.get_http_version()
        if method == b"CONNECT":
            # The parser treats everything after the head as the data of a tunnel, and sees no end of the request.
            raise BadRequest(400, "expected another method than CONNECT, which is for proxies")
        self._head_bytes = len(self._target) + sum([len(name) + len(value) + 4 for name, value in fields])
        if self._head_bytes > HEAD_BYTES:
            raise _head_too_large()
        if self._codings:
            _check_transfer_coding(self._codings, version)
        self._judge_upgrade(method, version)
        if not self._is_upgrade:
            path, query = _parts(self._target)
            self._sink.request_head(
                RequestHead(
                    method=method.decode(),
                    target=self._target,
                    version=version,
                    fields=fields,
                    keep_alive=version != "1.0" and parser.should_keep_alive(),
                    expects_continue=self._expects_continue and version != "1.0",
                    path=path,
                    query=query,
                    sent_id=self._sent_id,
                )
            )
            self._intake.head_received(self._head_bytes, len(fields))
        self.stage = Stage.BODY

    def on_body(self, piece: bytes) -> None:
        self._intake.body_received(len(piece))
        self._sink.request_body(piece)

    def on_message_complete(self) -> None:
        self.stage = Stage.BETWEEN
        if not self._is_upgrade:
            self._sink.request_ends()

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # By default the parser fails on data after a request with `Connection: close`. A client may send such data
        # before it has read the answer, and it must still get the answer.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _check_size(self, more_of_head: int) -> None:
        """Raise `BadRequest` if a limit is exceeded. `more_of_head` bytes continue the head of an earlier piece."""
        if self.stage is Stage.HEAD:
            self._head_bytes += more_of_head
            if self._head_bytes > HEAD_BYTES:
                raise _head_too_large()
        if self._intake.is_over:
            raise BadRequest(413, f"expected at most {HELD_BYTES} bytes besides a body that a route accepts")

    def _judge_upgrade(self, method: bytes, version: str) -> None:
        """Find out whether the head asks for an upgrade, and whether that is to a WebSocket.

        Upgrades to other protocols are ignored, as are those in HTTP/1.0 (RFC 9110, section 7.8). Java's client, for
        example, offers HTTP/2 with each first request.
        """
        self._is_upgrade, self._websocket = self._parser.should_upgrade(), None
        if self._is_upgrade:
            protocols = [value.lower() for name, value in self._fields if name == b"upgrade"]
            self._is_upgrade = bool(protocols)
            if b"websocket" in protocols and version != "1.0":
                self._websocket = RequestHead(
                    method=method.decode(),
                    target=self._target,
                    version=version,
                    fields=self._fields,
                    keep_alive=False,
                    sent_id=self._sent_id,
                )

    def _after_upgrade(self, rest: bytes) -> bytes:
        """Hand the connection over to the WebSocket server, or parse the request again as one without an upgrade."""
        if self._websocket is not None:
            self._sink.upgrade(self._websocket)
            return rest
        again = self._head_without_upgrade() + rest
        self._parser = self._new_parser()  # the old one has left HTTP, and parses nothing more
        return again

    def _head_without_upgrade(self) -> bytes:
        fields = b"".join([b"%b: %b\r\n" % field for field in self._fields if field[0] != b"upgrade"])
        version = self._parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self._parser.get_method(), self._target, version, fields)


def _parts(target: bytes) -> tuple[bytes, bytes]:
    """Split the target of a request into path and query (RFC 9112, section 3.2). Raises `BadRequest`."""
    with suppress(httptools.HttpParserInvalidURLError):
        url = httptools.parse_url(target)
        path: bytes | None = url.path  # None for `host:80` and `*`
        if path is not None and path.isascii():
            return path, url.query or b""
    raise BadRequest(400, "expected HTTP/1.1")


def _check_transfer_coding(codings: list[bytes], version: str) -> None:
    """Raise `BadRequest` for a body whose end cannot be determined (RFC 9112, section 6.1).

    A proxy in front of us could see the end elsewhere, and then take part of the body for a request (smuggling).
    """
    if codings != [b"chunked"] or version == "1.0":
        got = b", ".join(codings)[:64].decode("latin-1")
        raise BadRequest(400, f"expected the transfer coding chunked, in HTTP/1.1, or none, got {got!r}")


def _head_too_large() -> BadRequest:
    return BadRequest(431, f"expected a request head of at most {HEAD_BYTES} bytes and {HEAD_FIELDS} fields")
