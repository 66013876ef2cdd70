"""What the gateway counts and measures, as values for `tidegate.ports.Metrics`.

An implementation handles the measurements that it knows and ignores the others, so a new one breaks none. The tag of a
measurement is its class name in snake case.
"""

import re
from typing import Literal

import msgspec

from tidegate.core.log_events import LimitedEvent
from tidegate.errors import ErrorCode, LeaveReason, RefusalReason

__all__ = [
    "BreakerMoved",
    "BusConnected",
    "ClientConnected",
    "ClientLeft",
    "ClockStepped",
    "ConfigReloaded",
    "HintTaken",
    "KnockEnded",
    "LogLineSuppressed",
    "Measurement",
    "OutageEnded",
    "PartRestarted",
    "PollEnded",
    "PollStarted",
    "RepetitionEnded",
    "RequestRefused",
    "StoreWritten",
    "TicksMissed",
]


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class Measurement(msgspec.Struct, frozen=True, tag_field="measured", tag=_snake_case):
    """Something that was counted or measured: one of the classes below."""


class PollStarted(Measurement, frozen=True):
    """A poll was sent, `late_s` seconds after the tick that it was made for."""

    late_s: float


class PartRestarted(Measurement, frozen=True):
    """A part of the gateway failed and is started again. `part` is one of `tidegate.runtime.keeping.PARTS`."""

    part: str


class PollEnded(Measurement, frozen=True):
    """A poll of the source `type` ended after `elapsed_s` seconds. `code` says why it failed; None if it did not."""

    type: str
    backend: str
    code: ErrorCode | None
    elapsed_s: float


class TicksMissed(Measurement, frozen=True):
    """`count` polls of the source `type` were not made in time."""

    type: str
    count: int


class KnockEnded(Measurement, frozen=True):
    """The gateway tried to connect to a backend behind an open breaker, without making a call.

    `result` is ``reachable``, ``unreachable``, or ``dropped`` if the attempt was given up before it had a result.
    """

    backend: str
    result: Literal["reachable", "unreachable", "dropped"]


class LogLineSuppressed(Measurement, frozen=True):
    """A line was not written to the log, since there were many of its `event`. They are summed up later."""

    event: LimitedEvent


class RepetitionEnded(Measurement, frozen=True):
    """A failed poll was due to be repeated before its next tick.

    `result` is ``answered`` or ``failed``, or ``no_room`` if the repetition was not made, since its budget was used up
    or all places of the backend were taken.
    """

    backend: str
    result: Literal["answered", "failed", "no_room"]


class HintTaken(Measurement, frozen=True):
    """A backend hinted that something changed.

    `result` is ``for_all`` or ``for_some`` of its sources, or ``for_none`` if no source has the name in `refresh_on`.
    It is ``too_many`` if hints come faster than they are read, and ``failed`` if they ended or could not be read.
    """

    backend: str
    result: Literal["for_all", "for_some", "for_none", "too_many", "failed"]


class OutageEnded(Measurement, frozen=True):
    """All sources of a backend are fresh again, `elapsed_s` seconds after the first failure."""

    backend: str
    elapsed_s: float


class BreakerMoved(Measurement, frozen=True):
    """A circuit breaker changed its state to `state`."""

    breaker: str
    state: str


class ClientConnected(Measurement, frozen=True):
    """A client connected. `transport` is ``websocket`` or ``sse``."""

    transport: str


class ClientLeft(Measurement, frozen=True):
    """A client's stream ended."""

    transport: str
    reason: LeaveReason


class ConfigReloaded(Measurement, frozen=True):
    """A reload of the configuration ended. `tidegate.core.reloads` says what the outcomes mean."""

    outcome: Literal["changed", "unchanged", "refused", "error"]


class ClockStepped(Measurement, frozen=True):
    """The wall clock was set by more than a second."""

    direction: Literal["forward", "backward"]


class RequestRefused(Measurement, frozen=True):
    """A request was refused. `transport` is ``websocket``, ``sse`` or ``http``."""

    transport: str
    reason: RefusalReason


class BusConnected(Measurement, frozen=True):
    """The bus was connected, at the start or again, or the connection to it was lost."""

    connected: bool


class StoreWritten(Measurement, frozen=True):
    """Values were written to the state directory, or could not be.

    `unwritten` is how many could not be and wait for the next try; 0 if all were written.
    """

    unwritten: int
