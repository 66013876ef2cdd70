"""How much one HTTP connection takes in: everything that its peer sends is counted here, against one bound.

Only three things are let through uncounted: a body up to the length that some route may want, whether this one does or
not (who was refused may go on), an eighth of its length for the framing of chunks, and a request that was answered.
Knows neither sockets nor HTTP's syntax.
"""

HELD_BYTES = 131072
"""What the requests of one connection may take until they are answered, beside the bodies that are still wanted."""

FIELD_BYTES = 64
"""What a header field takes in memory beside its text: one of a few letters takes more for that than for itself."""

READ_BYTES = 262144
"""One read of a socket: a body may be longer by this much before whoever reads it can say that it is too long."""

SPARE = 8
"""A body allows one byte of chunk framing for so many of its own, beyond `HELD_BYTES`."""


class Intake:
    """The count of one connection. `body_bytes` is the longest body that any route wants."""

    __slots__ = ("_body", "_body_bytes", "_loose", "_waiting", "_waiting_bytes")

    def __init__(self, body_bytes: int) -> None:
        self._body_bytes = body_bytes
        self._loose = 0
        self._body = 0
        self._waiting: list[int] = []
        self._waiting_bytes = 0

    def came(self, count: int) -> None:
        """So many bytes came. Until one of the next calls tells what they are, they are nothing that is wanted."""
        self._loose += count

    def begin(self) -> None:
        """A request begins."""
        self._loose = self._body = 0

    def head(self, text_bytes: int, fields: int) -> None:
        """Its head is complete and waits for its answer."""
        cost = text_bytes + FIELD_BYTES * fields
        self._waiting.append(cost)
        self._waiting_bytes += cost
        self._loose = 0

    def body(self, count: int) -> None:
        """So many of the bytes are a body that may still be wanted. What no route wants stays counted."""
        self._body += count
        if self._body <= self._body_bytes + READ_BYTES:
            spared = self._loose - count - count // SPARE
            self._loose = max(0, spared)

    def answered(self) -> None:
        """The oldest request has its answer."""
        self._waiting_bytes -= self._waiting.pop(0)

    @property
    def held(self) -> int:
        """Bytes that count now."""
        return self._loose + self._waiting_bytes

    @property
    def is_over(self) -> bool:
        """Whether the peer sent more than anybody needs."""
        return self._loose + self._waiting_bytes > HELD_BYTES
