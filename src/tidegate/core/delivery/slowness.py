"""When a client is too slow: the limits, and how long the kernel has taken nothing for it."""

import msgspec


class SendLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes may wait for one connection, and for how many seconds the kernel may take none of them."""

    hard_bytes: int
    grace_s: float

    def at_once(self, most: int) -> int:
        """Return how many bytes to write at once: `most`, or less where that much could pass the hard limit alone."""
        return min(most, self.hard_bytes // 4)


class Stall:
    """What one channel holds unsent, looked at about once a second while it is over its soft limit."""

    __slots__ = ("_fewest", "_since")

    def __init__(self, unsent: int, now: float) -> None:
        self._fewest = unsent
        self._since = now

    def lasts_s(self, unsent: int, now: float) -> float:
        """Return for how many seconds the kernel has taken nothing. `unsent` are the bytes that are held `now`."""
        if unsent < self._fewest:
            # The kernel took some bytes since the last look, so the client reads, if slowly. The period starts again.
            self._fewest, self._since = unsent, now
        return now - self._since
