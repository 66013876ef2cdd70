"""One answer of HTTP/1.x, read as it comes in: where it ends, and how much of it is taken.

The grammar (RFC 9112) is llhttp's, through httptools; every bound is ours, so that nothing a backend can send takes
more memory, or more time in one go, than is said here. Pure: feeds on bytes, opens and waits for nothing.
"""

from collections.abc import Iterator

import httptools

FRAME_BYTES = 65_536
"""Bytes that may come around the body: interim answers, heads, chunk sizes and extensions, trailers."""

FRAME_BYTES_PER_BYTE = 8
"""How many more each byte of the body allows, never beyond `FRAME_BYTES` in a row: a chunk of one byte takes 6."""

INTERIM_ANSWERS = 100
"""How many answers with a status below 200 may precede the one that counts (RFC 9110 section 15.2)."""

REFUSAL_BYTES = 65_536
"""How much of the body is read where the status is no success."""

PIECE_BYTES = 16_384
"""How much llhttp is given at once: so much may be held beyond a bound before it is noticed."""

_KEPT = frozenset({b"content-encoding", b"content-length", b"location", b"retry-after", b"transfer-encoding"})
_IDENTITY = frozenset({"", "identity", "none", "utf-8", "utf8"})
"""What servers write as a coding although nothing is coded. Only ``identity`` is in the RFC."""

_LOWEST_STATUS = 100
_SWITCHING_PROTOCOLS = 101
_NO_CONTENT = 204
_TIMEOUT = 408
_WITHOUT_BODY = frozenset({_SWITCHING_PROTOCOLS, _NO_CONTENT, 304})


class Unreadable(Exception):
    """An answer that breaks HTTP or one of our bounds; the message says what was expected and what came."""


class AnswerReader:
    """Reads the answer to one request. Feed it until it is `whole`, tell it of the end of the stream, then look.

    `status` is 0 until the head has come; what is below 200 is passed over, except 101. `body` has at most
    `body_bytes` bytes. Where the status is no success, `body` is what came within `REFUSAL_BYTES`, or empty.
    `reusable`: the answer has ended, nothing came behind it, and the server keeps the connection open.
    """

    def __init__(self, *, body_bytes: int) -> None:
        self.status = 0
        self.body = bytearray()
        self.begun = False
        self.whole = False
        self.reusable = False
        self._body_bytes = body_bytes
        self._fields: dict[bytes, list[bytes]] = {}
        self._interims = 0
        self._spare = FRAME_BYTES
        self._taken = 0
        self._until_end = False
        self._is_last = False
        self._fault = ""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        # What servers of devices are known to send, and what cannot be misunderstood on a connection of our own.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def codings(self) -> list[str]:
        """The codings that would have to be undone to read the body, in lower case. Chunks are undone already."""
        coded = [text for text in self._tokens(b"content-encoding") if text not in _IDENTITY]
        return coded + [text for text in self._tokens(b"transfer-encoding") if text not in _IDENTITY | {"chunked"}]

    def field(self, name: str) -> str | None:
        """The value of a ``Retry-After`` or ``Location`` field, the first of several."""
        values = self._fields.get(name.lower().encode())
        return values[0].decode(errors="replace") if values else None

    def feed(self, data: bytes | memoryview) -> None:
        """Take what came. Raises `Unreadable`, once; afterwards there is nothing to be fed."""
        rest = memoryview(data)
        self.begun |= len(rest) > 0
        while rest:
            if self.whole:
                self.reusable = False
                return
            self._take(rest[:PIECE_BYTES])
            rest = rest[PIECE_BYTES:]

    def end_of_stream(self) -> bool:
        """The connection has ended: whether that ended the answer as well, or all that is wanted of it."""
        if self.status and (self._until_end or not self.is_success):
            self.cut_short()
        return self.whole

    def cut_short(self) -> None:
        """Take what has come of the body for all of it."""
        self.whole, self.reusable = True, False
        self.close()

    def close(self) -> None:
        """Nothing more will be fed: let go of the parser, which refers to this object, and so to the body."""
        self._parser = None

    # What httptools calls. What is raised here ends `feed_data`, which raises an error of its own.

    def on_message_begin(self) -> None:
        if self.whole:
            raise _Enough

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status and (kept := name.lower()) in _KEPT:
            self._fields.setdefault(kept, []).append(value)

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < _LOWEST_STATUS:
            raise self._broken(f"expected a status from {_LOWEST_STATUS} on, got {status}")
        if status < 200 and status != _SWITCHING_PROTOCOLS:
            return
        self.status = status
        codings = self._tokens(b"transfer-encoding")
        length = int(self._fields.get(b"content-length", [b"0"])[0])
        delimited = b"content-length" in self._fields or codings[-1:] == ["chunked"]
        self._until_end = not delimited and status not in _WITHOUT_BODY
        # A 408 says goodbye (RFC 9110 section 15.5.9). A 204 may announce no body (8.6): one that does may send it too.
        self._is_last = status == _TIMEOUT or (status == _NO_CONTENT and (length > 0 or bool(codings)))
        self._allow(length, got=str(length))

    def on_body(self, data: bytes) -> None:
        self._taken += len(data)
        self._allow(self._taken, got="more")
        self.body += data

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self.status:
            self.whole, self.reusable = True, self._parser.should_keep_alive() and not self._is_last
            return
        self._fields.clear()
        self._interims += 1
        if self._interims > INTERIM_ANSWERS:
            raise self._broken(f"expected an answer after at most {INTERIM_ANSWERS} interim ones (1xx), got more")

    def _take(self, piece: memoryview) -> None:
        assert self._parser is not None
        before, error = self._taken, ""
        try:
            self._parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            error = self._fault or _words(exc)
            self.reusable = False  # if the answer is whole: what came behind it is none, or one that nobody asked for
        if error and not self.whole:
            self.close()
            raise Unreadable(error)
        gained = self._taken - before
        self._spare = min(FRAME_BYTES, self._spare - (len(piece) - gained) + FRAME_BYTES_PER_BYTE * gained)
        if self.whole:
            self.close()
        elif self._spare < 0:
            self.close()
            raise Unreadable(self._too_much())

    def _allow(self, size: int, *, got: str) -> None:
        if self.is_success and size > self._body_bytes:
            raise self._broken(f"expected an answer of at most {self._body_bytes} bytes, got {got}")
        if not self.is_success and size > min(REFUSAL_BYTES, self._body_bytes):
            self.body = bytearray()
            self.whole = True
            raise _Enough

    def _broken(self, message: str) -> "_Enough":
        # Kept as text: an error that were kept would keep its traceback, and that this object and the body.
        self._fault = message
        return _Enough()

    def _too_much(self) -> str:
        if not self.status:
            return f"expected the head of an answer within {FRAME_BYTES} bytes (interim answers included), got more"
        return (
            f"expected at most {FRAME_BYTES} bytes of chunk sizes, extensions and trailers, and"
            f" {FRAME_BYTES_PER_BYTE} for each byte of the body, got more"
        )

    def _tokens(self, name: bytes) -> list[str]:
        return list(_split(self._fields.get(name, [])))


class _Enough(Exception):
    """Nothing more of this stream is wanted."""


def _split(values: list[bytes]) -> Iterator[str]:
    for value in values:
        for text in value.decode("latin-1").split(","):
            yield text.strip(" \t").lower()


_WORDS = {
    "Invalid header token": "a header line without a colon, or with a name that is none",
    "Invalid header value char": "a header value with a control character",
    "Duplicate Content-Length": "Content-Length twice",
    "Invalid character in Content-Length": "a Content-Length that is no number",
    "Content-Length overflow": "a Content-Length beyond 2^64",
    "Transfer-Encoding can't be present with Content-Length": "Transfer-Encoding beside Content-Length",
    "Content-Length can't be present with Transfer-Encoding": "Transfer-Encoding beside Content-Length",
    "Invalid character in chunk size": "a chunk size that is no number",
    "Chunk size overflow": "a chunk size beyond 2^64",
    "Expected dot": "a version of HTTP other than 1.0 and 1.1",
    "Invalid HTTP version": "a version of HTTP other than 1.0 and 1.1",
}
"""What llhttp's reasons mean for whoever keeps the server. Others are told as they are."""


def _words(exc: Exception) -> str:
    reason = str(exc)
    if reason.startswith("Expected HTTP/") or isinstance(exc, httptools.HttpParserInvalidStatusError):
        return "expected an HTTP response, got bytes that are none"
    return f"expected an HTTP response, got one with {_WORDS.get(reason, f'an error in it ({reason})')}"
