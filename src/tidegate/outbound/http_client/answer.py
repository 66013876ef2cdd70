"""Parses one HTTP/1.x answer incrementally, and limits its size.

llhttp, through httptools, parses the grammar (RFC 9112). All limits are enforced here: whatever a backend sends, it
cannot take more memory, or more time in one step, than the constants below allow. Pure: takes bytes, and does no I/O.
"""

from collections.abc import Iterator

import httptools

FRAME_BYTES = 65_536
"""How many bytes an answer may have besides its body: interim answers, heads, chunk sizes and extensions, trailers."""

FRAME_BYTES_PER_BYTE = 8
"""How many more of these bytes each byte of the body allows, with at most `FRAME_BYTES` unused.

A chunk of a single byte needs 6, so even the least efficient chunking is accepted.
"""

INTERIM_ANSWERS = 100
"""How many interim answers (status below 200) may come before the final one (RFC 9110 section 15.2)."""

REFUSAL_BYTES = 65_536
"""How much of the body is read if the status is not a success. It can only hold an error message."""

PIECE_BYTES = 16_384
"""How many bytes llhttp gets at once. A limit may be exceeded by this much before that is noticed."""

_KEPT = frozenset(
    {b"content-encoding", b"content-length", b"content-type", b"location", b"retry-after", b"transfer-encoding"}
)
_IDENTITY = frozenset({"", "identity", "none", "utf-8", "utf8"})
"""Codings that mean "not encoded". The RFC only has ``identity``; servers send the others too."""

_LOWEST_STATUS = 100
_SWITCHING_PROTOCOLS = 101
_NO_CONTENT = 204
_TIMEOUT = 408
_WITHOUT_BODY = frozenset({_SWITCHING_PROTOCOLS, _NO_CONTENT, 304})


class Unreadable(Exception):
    """The answer is not valid HTTP or exceeds a limit. The message says what was expected and what came."""


class AnswerReader:
    """Parses the answer to one request. Call `feed` until it is `whole`; call `end_of_stream` if the stream ends.

    `status` is 0 until the head is complete; interim answers (below 200, except 101) are skipped. `body` has at most
    `body_bytes` bytes. If the status is not a success, `body` is what came within `REFUSAL_BYTES`, or empty. A status
    is a success if it is one of `successes`, or, if these are empty, 2xx.
    `fields` are those of the last head, by their names in lower case. `reusable` means that the answer is complete, no
    bytes follow it, and the server keeps the connection open.
    """

    def __init__(self, *, body_bytes: int, successes: frozenset[int] = frozenset()) -> None:
        self.status = 0
        self.body = bytearray()
        self.begun = False
        self.whole = False
        self.reusable = False
        self._body_bytes = body_bytes
        self._successes = successes
        self.fields: dict[bytes, list[bytes]] = {}
        self._interims = 0
        self._spare = FRAME_BYTES
        self._taken = 0
        self._until_end = False
        self._is_last = False
        self._fault = ""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        # Some embedded servers send these deviations. They are dangerous for a proxy, which might disagree with a
        # server about where a message ends; here there is only this client.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    @property
    def is_success(self) -> bool:
        return self.status in self._successes if self._successes else 200 <= self.status < 300

    @property
    def codings(self) -> list[str]:
        """The encodings of `body`, in lower case, without "chunked", which has been decoded already."""
        coded = [text for text in self._tokens(b"content-encoding") if text not in _IDENTITY]
        return coded + [text for text in self._tokens(b"transfer-encoding") if text not in _IDENTITY | {"chunked"}]

    def field(self, name: str) -> str | None:
        """Return the value of a field, the first if there are several."""
        values = self.fields.get(name.lower().encode())
        return values[0].decode(errors="replace") if values else None

    def feed(self, data: bytes | memoryview) -> None:
        """Parse received bytes. If this raises `Unreadable`, do not feed any more."""
        rest = memoryview(data)
        self.begun |= len(rest) > 0
        while rest:
            if self.whole:
                self.reusable = False
                return
            self._take(rest[:PIECE_BYTES])
            rest = rest[PIECE_BYTES:]

    def end_of_stream(self) -> bool:
        """The connection has ended. Returns whether the answer is complete, or complete enough if it is a refusal."""
        if self.status and (self._until_end or not self.is_success):
            self.cut_short()
        return self.whole

    def cut_short(self) -> None:
        """Treat the body received so far as the whole body."""
        self.whole, self.reusable = True, False
        self.close()

    def close(self) -> None:
        """End parsing. Drops the parser, because it refers to this object and so keeps the body in memory."""
        self._parser = None

    # Callbacks of httptools. An exception in one ends `feed_data`, which then raises an error of its own.

    def on_message_begin(self) -> None:
        if self.whole:
            raise _Enough

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            self.fields.setdefault(name.lower(), []).append(value)

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < _LOWEST_STATUS:
            raise self._broken(f"expected a status from {_LOWEST_STATUS} on, got {status}")
        if status < 200 and status != _SWITCHING_PROTOCOLS:
            return
        self.status = status
        codings = self._tokens(b"transfer-encoding")
        length = int(self.fields.get(b"content-length", [b"0"])[0])
        delimited = b"content-length" in self.fields or codings[-1:] == ["chunked"]
        self._until_end = not delimited and status not in _WITHOUT_BODY
        # The server closes the connection after a 408 (RFC 9110 section 15.5.9). A 204 must not announce a body (8.6);
        # if it does, it may also send one, which must not be taken for the next answer.
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
        self.fields.clear()
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
            self.reusable = False  # if the answer is whole, the bytes after it are not an answer to any request
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
        # Keep the text, not the exception: its traceback would keep this object and the body in memory.
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
        return list(_split(self.fields.get(name, [])))


class _Enough(Exception):
    """Ends `feed_data`: the rest of the stream is not needed."""


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
"""llhttp's reasons in words for the operator of the server. Other reasons are shown unchanged."""


def _words(exc: Exception) -> str:
    reason = str(exc)
    if reason.startswith("Expected HTTP/") or isinstance(exc, httptools.HttpParserInvalidStatusError):
        return "expected an HTTP response, got bytes that are none"
    return f"expected an HTTP response, got one with {_WORDS.get(reason, f'an error in it ({reason})')}"
