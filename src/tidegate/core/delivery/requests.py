"""Requests of one client that cannot be answered yet, because events are still to be sent before the answer.

Bytes are counted here; what to do about too many is the connection's business.
"""

from collections import deque

REQUEST_BYTES = 64
"""Bytes that a waiting request counts besides its text, so that many empty requests reach the limit too."""


class WaitingRequests:
    """Oldest first. A request is a text message, or None for a binary one, and the monotonic time when it came."""

    __slots__ = ("_requests", "bytes")

    def __init__(self) -> None:
        self._requests: deque[tuple[bytes | None, float]] = deque()
        self.bytes = 0

    def add(self, text: bytes | None, arrived: float) -> None:
        """Let a request wait."""
        self._requests.append((text, arrived))
        self.bytes += _size(text)

    def take(self) -> tuple[bytes | None, float]:
        """The oldest request, which waits no longer. Raises `IndexError` if there is none."""
        text, arrived = self._requests.popleft()
        self.bytes -= _size(text)
        return text, arrived

    def __len__(self) -> int:
        return len(self._requests)


def _size(text: bytes | None) -> int:
    return len(text or b"") + REQUEST_BYTES
