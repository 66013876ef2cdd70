"""A client's requests that cannot be answered yet, because events must be sent before the answer.

Only counts their bytes. The connection decides what to do if there are too many.
"""

from collections import deque

REQUEST_BYTES = 64
"""What a waiting request counts in addition to its text, so that many empty requests reach the limit too."""


class WaitingRequests:
    """The waiting requests, oldest first.

    A request is its text, or None for a binary message, and the monotonic time when it arrived.
    """

    __slots__ = ("_requests", "bytes")

    def __init__(self) -> None:
        self._requests: deque[tuple[bytes | None, float]] = deque()
        self.bytes = 0
        """What the waiting requests count."""

    def add(self, text: bytes | None, arrived: float) -> None:
        """Add a request that has to wait."""
        self._requests.append((text, arrived))
        self.bytes += _size(text)

    def take(self) -> tuple[bytes | None, float]:
        """Remove and return the oldest request. Raises `IndexError` if there is none."""
        text, arrived = self._requests.popleft()
        self.bytes -= _size(text)
        return text, arrived

    def __len__(self) -> int:
        return len(self._requests)


def _size(text: bytes | None) -> int:
    return len(text or b"") + REQUEST_BYTES
