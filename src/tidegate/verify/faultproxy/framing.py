"""Reads and writes HTTP/1.1 messages: two sans-I/O readers on top of httptools, and encoding to bytes.

Feed bytes, get messages. Requests are returned whole, responses in parts. Bodies are decoded (not chunked).
"""

import enum
from typing import Final

import httptools
import msgspec

MAX_HEAD_BYTES: Final = 65536
MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024

Headers = tuple[tuple[bytes, bytes], ...]


class BadHttp(Exception):
    """Bytes that are not an HTTP/1.1 message, or a message over the limits. `status` is the status to answer with."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        self.status = status
        super().__init__(message)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One whole request."""

    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""
    keep_alive: bool = True
    upgrade: bool = False

    def encode(self, *, without: frozenset[bytes] = frozenset()) -> bytes:
        """Encode the request for upstream, with the body in one piece, less the headers in `without` (lower case)."""
        dropped = without | {b"content-length", b"transfer-encoding", b"expect"}
        headers = tuple(h for h in self.headers if h[0].lower() not in dropped)
        if self.body or self.method in {"POST", "PUT", "PATCH"}:
            headers += ((b"Content-Length", b"%d" % len(self.body)),)
        return _head(f"{self.method} {self.target} HTTP/1.1".encode("latin-1"), headers) + self.body


class ResponseHead(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a response. `keep_alive` is whether the connection stays open after the response."""

    status: int
    reason: bytes = b""
    headers: Headers = ()
    keep_alive: bool = True

    @property
    def is_stream(self) -> bool:
        """Whether a stream follows (after an upgrade, or server-sent events) rather than one answer."""
        return self.status == 101 or self.header(b"content-type").lower().startswith(b"text/event-stream")

    @property
    def chunked(self) -> bool:
        return b"chunked" in self.header(b"transfer-encoding").lower()

    def header(self, name: bytes) -> bytes:
        """Return the value of the header called `name` (lower case), empty if there is none."""
        return next((value for key, value in self.headers if key.lower() == name), b"")

    def replacing(self, *headers: tuple[bytes, bytes], dropping: frozenset[bytes] = frozenset()) -> "ResponseHead":
        """Return a copy in which `headers` replace those of the same names, and those in `dropping` are removed."""
        gone = dropping | {name.lower() for name, _ in headers}
        kept = tuple(h for h in self.headers if h[0].lower() not in gone)
        return msgspec.structs.replace(self, headers=kept + headers)

    def encode(self) -> bytes:
        return _head(b"HTTP/1.1 %d %b" % (self.status, self.reason), self.headers)


class End(enum.Enum):
    """The response is complete."""

    END = enum.auto()


Part = ResponseHead | bytes | End


class RequestReader:
    """Reads requests of a client until an upgrade: `feed` bytes, get whole requests."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._complete: list[Request] = []
        self._head_bytes = 0
        self._begin()

    def feed(self, data: bytes) -> tuple[list[Request], bytes]:
        """Return the requests that `data` completes, and the bytes after a request for an upgrade. Raises `BadHttp`."""
        self._head_bytes += len(data) if self._in_head else 0
        if self._head_bytes > MAX_HEAD_BYTES and self._in_head:
            raise BadHttp(f"expected a head of at most {MAX_HEAD_BYTES} bytes, got more", status=431)
        rest = _feed(self._parser, data)
        complete, self._complete = self._complete, []
        return complete, rest

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0

    def on_body(self, piece: bytes) -> None:
        self._body += piece
        if len(self._body) > MAX_REQUEST_BYTES:
            raise BadHttp(f"expected a body of at most {MAX_REQUEST_BYTES} bytes, got more", status=413)

    def on_message_complete(self) -> None:
        self._complete.append(
            Request(
                method=self._parser.get_method().decode(),
                target=self._target.decode("latin-1"),
                headers=tuple(self._headers),
                body=bytes(self._body),
                keep_alive=self._parser.should_keep_alive(),
                upgrade=self._parser.should_upgrade(),
            )
        )
        self._begin()

    def _begin(self) -> None:
        self._in_head = True
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()


class ResponseReader:
    """Reads the response to one request: `feed` bytes, get its head, pieces of its body, and its end.

    Informational responses are left out. After a 101 all bytes are body. `bodiless` is for responses to HEAD.
    """

    def __init__(self, *, bodiless: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._bodiless = bodiless
        self._parts: list[Part] = []
        self._head: ResponseHead | None = None
        self._head_bytes = 0
        self._ended = False
        self._begin()

    def feed(self, data: bytes) -> list[Part]:
        """Return the parts that `data` adds. Raises `BadHttp`."""
        if self._head is None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES + len(data):
                raise BadHttp(f"expected a head of at most {MAX_HEAD_BYTES} bytes, got more")
        if self._upgraded:
            return [data]
        rest = _feed(self._parser, data)
        parts, self._parts = self._parts, []
        return [*parts, rest] if rest else parts

    def eof(self) -> list[Part]:
        """Return the parts that the end of the stream adds. Raises `BadHttp` in the middle of a response."""
        if self._ended:
            return []
        if self._head is None or not (self._upgraded or self._until_eof):
            raise BadHttp("expected a whole response, got the end of the stream")
        self._ended = True
        return [End.END]

    def on_message_begin(self) -> None:
        self._begin()

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self._head = ResponseHead(
            status=status,
            reason=self._reason,
            headers=tuple(self._headers),
            keep_alive=self._parser.should_keep_alive(),
        )
        self._parts.append(self._head)
        if self._bodiless:
            self._end()

    def on_body(self, piece: bytes) -> None:
        if not self._ended:
            self._parts.append(piece)

    def on_message_complete(self) -> None:
        if self._head is not None and not self._upgraded and not self._ended:
            self._end()

    def _begin(self) -> None:
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []

    def _end(self) -> None:
        self._ended = True
        self._parts.append(End.END)

    @property
    def _upgraded(self) -> bool:
        return self._head is not None and self._head.status == 101

    @property
    def _until_eof(self) -> bool:
        return self._head is not None and not self._head.chunked and not self._head.header(b"content-length")


def _feed(parser: httptools.HttpRequestParser | httptools.HttpResponseParser, data: bytes) -> bytes:
    """Parse `data`. Return the bytes after an upgrade. Raises `BadHttp`, also that of a callback."""
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade as upgrade:
        return data[upgrade.args[0] :]
    except httptools.HttpParserError as error:
        if isinstance(error.__context__, BadHttp):
            raise error.__context__ from None
        raise BadHttp(f"expected HTTP/1.1, got bytes that are not: {error}") from error
    return b""


def _head(start_line: bytes, headers: Headers) -> bytes:
    return b"\r\n".join((start_line, *(b"%b: %b" % header for header in headers), b"", b""))
