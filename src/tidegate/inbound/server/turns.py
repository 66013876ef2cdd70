"""Whose turn it is on one connection: answers go out in the order in which their requests came (RFC 9112, 9.3.2)."""

from collections import deque

from tidegate.inbound.server.cycle import RequestCycle

PIPELINED = 100
"""Requests that may wait on one connection for those before them."""


class Turns:
    """The requests of one connection that have no whole answer yet.

    `last` is the one that was read last, also after its answer; `running` is the one whose answer is being written.
    """

    __slots__ = ("_waiting", "last", "running")

    def __init__(self) -> None:
        self.last: RequestCycle | None = None
        self.running: RequestCycle | None = None
        self._waiting: deque[RequestCycle] | None = None  # few clients send a request before they have an answer

    @property
    def is_answering(self) -> bool:
        """Whether some request has no whole answer yet."""
        return self.last is not None and not self.last.complete

    @property
    def are_full(self) -> bool:
        """Whether no further request may wait."""
        return self._waiting is not None and len(self._waiting) >= PIPELINED

    def add(self, cycle: RequestCycle) -> bool:
        """A request came. Whether it is its turn already."""
        is_free = not self.is_answering
        self.last = cycle
        if is_free:
            self.running = cycle
        elif self._waiting is None:
            self._waiting = deque([cycle])
        else:
            self._waiting.append(cycle)
        return is_free

    def advance(self) -> RequestCycle | None:
        """The running one has its answer. Whose turn it is now."""
        self.running = self._waiting.popleft() if self._waiting else None
        return self.running

    def disconnect(self) -> None:
        """The connection ends: whoever answers, or waits for its turn, writes nothing any more."""
        for cycle in [self.running, *(self._waiting or ())]:
            if cycle is not None:
                cycle.disconnect()

    def clear(self) -> None:
        """Let go of them all."""
        self.last = self.running = self._waiting = None
