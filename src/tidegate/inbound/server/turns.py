"""The order of answers on one connection: that of the requests, also if the client pipelines (RFC 9112, 9.3.2)."""

from collections import deque

from tidegate.errors import LeaveReason
from tidegate.inbound.server.cycle import RequestCycle

PIPELINED = 100
"""How many requests of one connection may wait for the answers to earlier ones.

Clients that pipeline send a few. Each waiting request keeps its head and body in memory.
"""


class Turns:
    """The requests of one connection that are not answered yet.

    `running` is the request that is being answered. `last` is the newest one, even if it has been answered.
    """

    __slots__ = ("_waiting", "last", "running")

    def __init__(self) -> None:
        self.last: RequestCycle | None = None
        self.running: RequestCycle | None = None
        self._waiting: deque[RequestCycle] | None = None  # few clients send a request before they have an answer

    @property
    def is_answering(self) -> bool:
        """Whether any request has not been answered completely."""
        return self.last is not None and not self.last.complete

    @property
    def are_full(self) -> bool:
        """Whether no further request may wait."""
        return self._waiting is not None and len(self._waiting) >= PIPELINED

    def answers_in_pieces(self) -> bool:
        """Whether a part of an answer was sent, and more is to come: it may be an endless stream."""
        return self.running is not None and self.running.started and not self.running.complete

    def add(self, cycle: RequestCycle) -> bool:
        """Add a request that was received. Return whether it can be answered now."""
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
        """The running request has been answered. Return the next one, which is running now, or None."""
        self.running = self._waiting.popleft() if self._waiting else None
        return self.running

    def disconnect(self, reason: LeaveReason) -> None:
        """The connection ends for `reason`: tell the handlers of all requests, so that they write nothing more."""
        for cycle in [self.running, *(self._waiting or ())]:
            if cycle is not None:
                cycle.disconnect(reason)

    def clear(self) -> None:
        """Forget all requests."""
        self.last = self.running = self._waiting = None
