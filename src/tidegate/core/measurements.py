"""What is worth counting, as values: whoever keeps metrics takes those that it knows and ignores the rest.

So a new figure breaks no implementation of `tidegate.ports.Metrics`. Each has a tag, its name in snake case.
"""

import re

import msgspec

from tidegate.errors import ErrorCode, RefusalReason

__all__ = [
    "BreakerMoved",
    "BusConnected",
    "ClientConnected",
    "ClientLeft",
    "EventPublished",
    "EventsSkipped",
    "Measurement",
    "PollEnded",
    "RequestRefused",
    "TicksMissed",
]


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class Measurement(msgspec.Struct, frozen=True, tag_field="measured", tag=_snake_case):
    """Something that was counted or measured."""


class EventPublished(Measurement, frozen=True):
    """An event went to so many clients."""

    type: str
    deliveries: int


class EventsSkipped(Measurement, frozen=True):
    """So many events of a type were dropped for a slow client."""

    type: str
    count: int


class PollEnded(Measurement, frozen=True):
    """A poll of a source ended after so many seconds; `code` is why it failed, None if it did not."""

    source: str
    code: ErrorCode | None
    elapsed_s: float


class TicksMissed(Measurement, frozen=True):
    """So many polls of a source were not made in time."""

    source: str
    count: int


class BreakerMoved(Measurement, frozen=True):
    """A circuit breaker is in another state now, or in its first."""

    breaker: str
    state: str


class ClientConnected(Measurement, frozen=True):
    """A client was let in; `transport` is ``websocket`` or ``sse``."""

    transport: str


class ClientLeft(Measurement, frozen=True):
    """A client's stream ended; `reason` is text, which a client may have chosen."""

    transport: str
    reason: str


class RequestRefused(Measurement, frozen=True):
    """A request was not let in; `transport` is ``websocket``, ``sse`` or ``http``."""

    transport: str
    reason: RefusalReason


class BusConnected(Measurement, frozen=True):
    """The bus was connected at start, was lost, or is back."""

    connected: bool
