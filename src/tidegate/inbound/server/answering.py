"""Makes the bytes of an answer (RFC 9112): its head, and its body with the framing that marks its end.

Without I/O: returns bytes, and knows neither transports nor ASGI.
"""

import functools
import http
import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from enum import Enum, auto

from tidegate.inbound.server.reading import RequestHead

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

BODILESS = frozenset({204, 304})
"""Statuses whose answers have no body (RFC 9110, section 6.4.1)."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_STATUS_LINES = {
    int(status): b"HTTP/1.1 %d %b\r\n" % (status, http.HTTPStatus(status).phrase.encode()) for status in http.HTTPStatus
}


class BodyEnd(Enum):
    """How the client recognizes the end of a body."""

    LENGTH = auto()
    CHUNKS = auto()
    CLOSE = auto()
    """The end of the connection. HTTP/1.0 has no chunks."""
    HEAD = auto()
    """There is no body: the answer is to a HEAD request. Its fields still describe the body that GET would get."""


class CommonFields:
    """The header fields that every answer begins with. They are formatted once a second, when the date changes."""

    __slots__ = ("_block", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._block = b""

    def block(self) -> bytes:
        """Return the fields as they are sent, with the current date."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._block = b"date: %b\r\nserver: tidegate\r\n" % formatdate(usegmt=True).encode()
        return self._block


class AnswerWriter:
    """Formats the answer to one request, which has the id `request_id`.

    `keep_alive` says whether the connection stays open after it.
    """

    __slots__ = ("_end", "_id", "_is_head", "_is_old", "_left", "keep_alive")

    def __init__(self, request: RequestHead, request_id: str) -> None:
        self._id = request_id
        self.keep_alive = request.keep_alive
        self._is_head = request.method == "HEAD"
        self._is_old = request.is_old
        self._end = BodyEnd.LENGTH
        self._left = 0

    def head(self, status: int, fields: Iterable[tuple[bytes, bytes]], *, common: CommonFields) -> bytes:
        """Return the head. Chooses the framing of the body if `fields` do not.

        Raises `ValueError` for a field name or value that could be read as another field, or as the end of the head.
        """
        end, says_close = None, False
        lines = [_status_line(status), common.block(), b"x-request-id: %b\r\n" % self._id.encode()]
        for given, value in fields:
            name = _name(given)
            if name == b"content-length" and end is None:
                end, self._left = BodyEnd.LENGTH, int(value)
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                end = BodyEnd.CHUNKS
            elif name == b"connection" and b"close" in [token.strip().lower() for token in value.split(b",")]:
                self.keep_alive, says_close = False, True
            if _NO_VALUE.search(value):
                raise ValueError(f"expected the value of a header field (RFC 9110, section 5.5), got {value!r}")
            lines.append(b"%b: %b\r\n" % (name, value))
        if not self.keep_alive and not says_close:
            lines.append(b"connection: close\r\n")
        if end is None and not self._is_head and status not in BODILESS:
            end = BodyEnd.CLOSE if self._is_old else BodyEnd.CHUNKS
            if end is BodyEnd.CHUNKS:
                lines.append(b"transfer-encoding: chunked\r\n")
        self._end = BodyEnd.HEAD if self._is_head else end or BodyEnd.LENGTH
        lines.append(b"\r\n")
        return b"".join(lines)

    def body(self, piece: bytes, *, more: bool) -> bytes:
        """Return a piece of the body in its framing. It is the last piece unless `more`.

        Raises `ValueError` if the body is longer or shorter than the head said.
        """
        match self._end:
            case BodyEnd.LENGTH:
                if len(piece) > self._left or (len(piece) < self._left and not more):
                    raise ValueError(f"expected {self._left} bytes more of the body, got {len(piece)}")
                self._left -= len(piece)
                return piece
            case BodyEnd.CHUNKS:
                chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
                return chunk if more else chunk + b"0\r\n\r\n"
            case BodyEnd.CLOSE:
                return piece
            case BodyEnd.HEAD:
                return b""


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


@functools.lru_cache(maxsize=256)  # the application uses few names, and each answer has several
def _name(given: bytes) -> bytes:
    if not _NAME.fullmatch(given):
        raise ValueError(f"expected the name of a header field (RFC 9110, section 5.1), got {given!r}")
    return given.lower()
