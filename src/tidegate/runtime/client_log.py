"""Logs the clients that come and go: the first of a minute whole, the others in a summary."""

from functools import partial

from tidegate.core.instant import Instant
from tidegate.core.log_events import LimitedEvent
from tidegate.errors import LeaveReason
from tidegate.ports import Clock, Metrics
from tidegate.runtime.client_identity import identity
from tidegate.runtime.connection import Connection
from tidegate.runtime.limited_log import LimitedLines

WHOLE = 20
"""How many clients that come, and how many that go, get a line of their own in a minute."""


class ClientLog:
    """The lines about the clients of one gateway. Call `close` at the end."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        lines = partial(
            LimitedLines, "tidegate.gateway", clock=clock, observe=metrics.observe, whole=WHOLE, loudest="address"
        )
        self._came = lines(LimitedEvent.CLIENT_CONNECTED, by="transport")
        self._left = lines(LimitedEvent.CLIENT_LEFT, by="reason")

    def came(self, connection: Connection) -> None:
        """A client has connected."""
        self._came.say(**identity(connection), patterns=len(connection.patterns))

    def left(self, connection: Connection, reason: LeaveReason, detail: str, now: Instant) -> None:
        """A client has left, for `reason`. `detail` may be a text that it has chosen."""
        self._left.say(
            **identity(connection),
            reason=reason.value,
            detail=detail,
            duration_s=round(now.mono - connection.connected.mono, 3),
            delivered=connection.subscriber.delivered,
            skipped=sum(connection.subscriber.skipped.values()),
        )

    def close(self) -> None:
        """Log what has not been logged yet."""
        self._came.close()
        self._left.close()
