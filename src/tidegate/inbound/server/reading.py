"""The requests in the bytes of one connection: heads, bodies in pieces, ends. The grammar is llhttp's, by httptools.

What the grammar leaves open is decided here: how much a head may hold, which bodies have an end that can be known, and
what asks for an upgrade. Knows neither transports nor answers.
"""

from contextlib import suppress
from enum import Enum, auto
from typing import Protocol

import httptools
import msgspec

from tidegate.core.intake import HELD_BYTES, Intake

HEAD_BYTES = 32768
"""Longest request head: request line and header fields. One piece of `PIECE_BYTES` may go beyond it."""

HEAD_FIELDS = 1000
"""Most fields of a request head: a field takes more memory than its few bytes on the wire."""

PIECE_BYTES = 16384
"""What is parsed before it is asked again whether that was too much."""

Fields = list[tuple[bytes, bytes]]


class BadRequest(Exception):
    """What was sent cannot be read as a request: the answer's status, and what was expected."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(detail)


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """A request without its body. `target` is as it came; `fields` have names in lower case, and no white space around.

    `path` and `query` are the parts of `target`, empty where the request is an upgrade.
    """

    method: str
    target: bytes
    version: str
    fields: Fields
    keep_alive: bool
    expects_continue: bool = False
    path: bytes = b""
    query: bytes = b""

    @property
    def is_old(self) -> bool:
        """Whether it is in HTTP/1.0, which knows neither chunks nor interim answers."""
        return self.version == "1.0"


class RequestSink(Protocol):
    """Who is told what was read, in its order. May raise `BadRequest` from `request_head`."""

    def request_begins(self) -> None: ...

    def request_head(self, head: RequestHead) -> None: ...

    def request_body(self, piece: bytes) -> None: ...

    def request_ends(self) -> None: ...

    def upgrade(self, head: RequestHead) -> None:
        """`head` asks for a WebSocket. Nothing else is told after it."""


class Stage(Enum):
    """Where in a request the last byte was."""

    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()


class RequestReader:
    """Reads one connection. Everything that comes is counted against `intake`.

    `release` it in the end: it and its parser refer to each other.
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
        self._expects_continue = False
        self._head_bytes = 0
        self._new_head = False
        self._is_upgrade = False
        self._websocket: RequestHead | None = None

    def feed(self, data: bytes) -> bytes:
        """Read some of `data`, and return what is left: to be fed again, or behind an upgrade for whoever reads on.

        Raises `BadRequest`, after which nothing can be read any more.
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
        return self._behind_upgrade(piece[end:] + rest)

    def release(self) -> None:
        """Nothing is read any more."""
        del self._parser, self._sink

    # what httptools calls

    def on_message_begin(self) -> None:
        self.stage = Stage.HEAD
        self._new_head = True
        self._head_bytes = 0
        self._target = b""
        self._fields = []
        self._codings = []
        self._expects_continue = False
        self._intake.request_begun()
        self._sink.request_begins()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """White space behind the value is no part of it (RFC 9112, section 5).

        A trailer is no field of the head, and nobody here wants one.
        """
        if self.stage is not Stage.HEAD:
            return
        if len(self._fields) >= HEAD_FIELDS:
            raise _head_too_large()
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"transfer-encoding":
            self._codings.append(value.lower())
        elif name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser, fields = self._parser, self._fields
        method, version = parser.get_method(), parser.get_http_version()
        if method == b"CONNECT":
            # The parser takes all that follows for a tunnel's: read again as a plain request it would never end.
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
        # Requests behind one that asks for the end are read: it may be answered while they come.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _check_size(self, more_of_head: int) -> None:
        """Raise `BadRequest` for too much: `more_of_head` bytes belong to a head that had begun before."""
        if self.stage is Stage.HEAD:
            self._head_bytes += more_of_head
            if self._head_bytes > HEAD_BYTES:
                raise _head_too_large()
        if self._intake.is_over:
            raise BadRequest(413, f"expected at most {HELD_BYTES} bytes beside a body that is wanted")

    def _judge_upgrade(self, method: bytes, version: str) -> None:
        """Whether the head asks for another protocol, and whether for our WebSocket: Java's client asks for HTTP/2.

        HTTP/1.0 knows no upgrades (RFC 9110, section 7.8).
        """
        self._is_upgrade, self._websocket = self._parser.should_upgrade(), None
        if self._is_upgrade:
            asked = [value.lower() for name, value in self._fields if name == b"upgrade"]
            self._is_upgrade = bool(asked)
            if b"websocket" in asked and version != "1.0":
                self._websocket = RequestHead(
                    method=method.decode(), target=self._target, version=version, fields=self._fields, keep_alive=False
                )

    def _behind_upgrade(self, rest: bytes) -> bytes:
        """Hand the connection on to our WebSocket, or read the request once more as one without an upgrade."""
        if self._websocket is not None:
            self._sink.upgrade(self._websocket)
            return rest
        again = self._head_without_upgrade() + rest
        self._parser = self._new_parser()  # the old one reads nothing behind a `Connection: close`
        return again

    def _head_without_upgrade(self) -> bytes:
        fields = b"".join([b"%b: %b\r\n" % field for field in self._fields if field[0] != b"upgrade"])
        version = self._parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self._parser.get_method(), self._target, version, fields)


def _parts(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request's target (RFC 9112, section 3.2). Raises `BadRequest`."""
    with suppress(httptools.HttpParserInvalidURLError):
        url = httptools.parse_url(target)
        path: bytes | None = url.path  # none in `host:80` and `*`
        if path is not None and path.isascii():
            return path, url.query or b""
    raise BadRequest(400, "expected HTTP/1.1")


def _check_transfer_coding(codings: list[bytes], version: str) -> None:
    """Raise `BadRequest` for a body whose end cannot be known (RFC 9112, section 6.1)."""
    if codings != [b"chunked"] or version == "1.0":
        got = b", ".join(codings)[:64].decode("latin-1")
        raise BadRequest(400, f"expected the transfer coding chunked, in HTTP/1.1, or none, got {got!r}")


def _head_too_large() -> BadRequest:
    return BadRequest(431, f"expected a request head of at most {HEAD_BYTES} bytes and {HEAD_FIELDS} fields")
