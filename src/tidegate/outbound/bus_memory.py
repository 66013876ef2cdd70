"""The bus of a single gateway: it assigns positions in this process and delivers events immediately."""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from tidegate.core.envelope import event_at
from tidegate.core.events import EncodedDraft, Position
from tidegate.ports import Receiver

REMEMBERED = 1000
"""At least this many of the latest ids are remembered, and at most twice as many, to detect a repeated publish."""


class MemoryBus:
    """Implements `tidegate.ports.Bus` in memory. Each instance is a new epoch.

    `publish` delivers the events before it returns, and the connection is never lost. `fence` is ignored: no other
    gateway can publish here.
    """

    def __init__(self, epoch: str | None = None) -> None:
        self._epoch = epoch or secrets.token_hex(6)
        self._seq = 0
        self.receivers: list[Receiver] = []
        self._taken: dict[str, int] = {}
        self._taken_before: dict[str, int] = {}

    def open(self, receiver: Receiver) -> "_Opened":
        """See `tidegate.ports.Bus`. The receiver gets only events that are published after it was connected."""
        return _Opened(self, receiver)

    @property
    def position(self) -> Position:
        """See `tidegate.ports.BusSession`."""
        return Position(self._epoch, self._seq)

    def publish(self, drafts: Sequence[EncodedDraft], *, id: str, fence: int | None = None) -> asyncio.Future[Position]:  # noqa: A002
        """See `tidegate.ports.BusSession`."""
        del fence
        outcome: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        seq = self._taken.get(id) or self._taken_before.get(id)
        if seq is None:
            # Here an event gets its position.
            first = self._seq + 1
            seq = self._seq = self._seq + len(drafts)
            # Two generations instead of one ordered dict: forgetting the old ids then costs nothing per publish.
            if len(self._taken) == REMEMBERED:
                self._taken_before, self._taken = self._taken, {}
            self._taken[id] = seq
            events = [event_at(each, draft) for each, draft in enumerate(drafts, first)]
            for receiver in self.receivers:
                receiver.deliver(events)
        outcome.set_result(Position(self._epoch, seq))
        return outcome


class _Opened(AbstractAsyncContextManager[MemoryBus]):
    """Connects a receiver while the context is open."""

    def __init__(self, bus: MemoryBus, receiver: Receiver) -> None:
        self._bus = bus
        self._receiver = receiver

    async def __aenter__(self) -> MemoryBus:
        self._bus.receivers.append(self._receiver)
        return self._bus

    async def __aexit__(self, *_: object) -> None:
        self._bus.receivers.remove(self._receiver)
