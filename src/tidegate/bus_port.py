"""The port of the bus, which gives events one order. `tidegate.ports` has all ports, this one too."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from tidegate.core.events import EncodedDraft, Event, Position


class Bus(Protocol):
    """Gives published events one order, which is the same for every receiver."""

    def open(self, receiver: "Receiver") -> "AbstractAsyncContextManager[BusSession]":
        """Connect `receiver`. While the context is open, it receives every event that anyone publishes.

        Entering the context raises `BusError` if the bus cannot be used. Leaving it stops delivery, and cancels the
        futures of publishes that have not finished.
        """
        ...


class BusSession(Protocol):
    """One receiver's connection to the bus."""

    @property
    def position(self) -> Position:
        """The position of the newest event delivered to the receiver, or the position at which the session started."""
        ...

    def publish(self, drafts: Sequence[EncodedDraft], *, id: str, fence: int | None = None) -> asyncio.Future[Position]:  # noqa: A002 - what every bus calls it
        """Publish `drafts`, at least one: all or none, with ascending positions and no other event between them.

        Publishes that are in flight at the same time may get their positions in any order. To keep an order, wait for
        an outcome before the next publish, as `tidegate.runtime.lanes.Lane` does.

        A plain call that never raises; the future tells the outcome. Its result is the position of the last draft,
        once all are stored and were delivered to this session's receiver. It fails with `BusRefused` (certainly not
        published) or `BusUnknown` (perhaps published, now or later). After `BusUnknown` the same drafts may be given
        again with the same `id`: they are published once. That holds for any `id` that was taken before.

        With a `fence`, a bus that several gateways share refuses drafts whose publisher's term is over. Cancelling the
        future does not stop the publish.

        The gateway does not trust a bus: if this raises or returns no future, or if the future is cancelled or fails
        with any other error, the outcome counts as unknown. It is logged, and the publish is repeated. See
        `runtime/pending_publish.py`.
        """
        ...


class Receiver(Protocol):
    """The gateway's end of a bus. The bus calls it from the event loop. No method blocks or raises."""

    def deliver(self, events: Sequence[Event]) -> None:
        """Take the next events, in the order of their positions.

        Positions ascend. They need not be consecutive: a skipped number means that nothing was published there. After
        a reconnect the bus may deliver events again; the receiver ignores those that it has.
        """
        ...

    def epoch_changed(self, position: Position) -> None:
        """A new sequence of events has begun at `position`. Discard everything that was delivered before."""
        ...

    def lost(self, why: str) -> None:
        """The bus cannot be reached. Until `regained`, nothing is delivered and every publish fails."""
        ...

    def regained(self) -> None:
        """The bus is reachable again, and has delivered every event that was missed."""
        ...
