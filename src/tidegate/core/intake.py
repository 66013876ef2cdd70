"""Limits how much memory one HTTP connection may use for what its peer sends.

All received bytes count against one limit, with three exceptions:

- a body that is no longer than the longest that any route accepts, even if its own route accepts less. So a refused
  client may finish sending, and the connection can be used again;
- as many bytes of chunked framing as an eighth of the body;
- requests that have been answered.

Knows neither sockets nor the syntax of HTTP.
"""

HELD_BYTES = 131072
"""The limit for unanswered requests of one connection, not counting bodies that a route may accept.

Room for several pipelined requests with long headers, but small, because every connection may use as much.
"""

FIELD_BYTES = 64
"""How many bytes of memory a header field takes in addition to its text. For short fields, that is most of it."""

READ_BYTES = 262144
"""The largest single read of a socket. A body may exceed its limit by this much before its reader can refuse it."""

BODY_PER_FRAMING = 8
"""One byte of chunked framing is not counted for this many bytes of the body."""


class Intake:
    """The received bytes that count on one connection. `body_bytes` is the longest body that any route accepts."""

    __slots__ = ("_body", "_body_bytes", "_loose", "_waiting", "_waiting_bytes")

    def __init__(self, body_bytes: int) -> None:
        self._body_bytes = body_bytes
        self._loose = 0
        """Bytes that no head or body has claimed yet: part of a head, or chunked framing."""
        self._body = 0
        self._waiting: list[int] = []
        """The cost of each unanswered request, oldest first."""
        self._waiting_bytes = 0

    def bytes_received(self, count: int) -> None:
        """Count `count` bytes. They count in full until `head_received` or `body_received` says what they are."""
        self._loose += count

    def request_begun(self) -> None:
        """A request begins. The bytes before it no longer count."""
        self._loose = self._body = 0

    def head_received(self, text_bytes: int, fields: int) -> None:
        """The head of the request is complete, with `text_bytes` of text and `fields` header fields."""
        cost = text_bytes + FIELD_BYTES * fields
        self._waiting.append(cost)
        self._waiting_bytes += cost
        self._loose = 0

    def body_received(self, count: int) -> None:
        """`count` of the received bytes belong to the body. They stop counting, unless the body is too long already."""
        self._body += count
        if self._body <= self._body_bytes + READ_BYTES:
            spared = self._loose - count - count // BODY_PER_FRAMING
            self._loose = max(0, spared)

    def request_answered(self) -> None:
        """The oldest unanswered request has been answered."""
        self._waiting_bytes -= self._waiting.pop(0)

    @property
    def held(self) -> int:
        """How many bytes count at present."""
        return self._loose + self._waiting_bytes

    @property
    def is_over(self) -> bool:
        """Whether the peer has exceeded the limit."""
        return self._loose + self._waiting_bytes > HELD_BYTES
