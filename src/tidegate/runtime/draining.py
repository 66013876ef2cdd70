"""Closing all clients: in a drain, and after the epoch changed.

They are closed one by one, so that they do not all reconnect at the same moment.
"""

import asyncio
from collections.abc import Sequence

import structlog

from tidegate.core.envelope import Notification, NotificationData
from tidegate.core.instant import Instant, rfc3339
from tidegate.errors import CloseCode
from tidegate.ports import Clock
from tidegate.runtime.clients import ClientRegistry
from tidegate.runtime.connection import Connection

RETURN_MS = 500
RETURN_SPREAD_MS = 5000
"""Milliseconds after the drain at which the first client is told to reconnect; the others follow over the spread."""

CLOSED_WITHIN = 0.8
"""The last client is closed after this share of the drain, so that it has time to finish its close handshake."""

log = structlog.get_logger("tidegate.gateway")


async def drain(clients: ClientRegistry, clock: Clock, drain_s: float, *, at_least_s: float = 0.0) -> None:
    """Refuse new clients, tell the others when to reconnect, and close them one by one within `drain_s` seconds.

    Returns as soon as nobody is connected, but not before `at_least_s`. Clients are told to reconnect after `drain_s`,
    each at a different moment.
    """
    now = clock.now()
    clients.drain_ends = now.mono + drain_s
    clients.draining = True
    leaving = clients.connections
    log.info("draining", clients=len(leaving), drain_s=drain_s)
    for n, connection in enumerate(leaving):
        retry_after_ms = int(1000 * drain_s) + RETURN_MS + n * max(1, RETURN_SPREAD_MS // len(leaving))
        connection.send("notification", _notice(retry_after_ms, now), retry_ms=retry_after_ms)
    for n, connection in enumerate(leaving):
        if n > 0:  # close the first at once, so that no event comes between its notification and its close
            await _until_empty(clients, clock, now.mono + CLOSED_WITHIN * drain_s * n / len(leaving))
        connection.close(CloseCode.DRAINING, "the gateway is draining")
    await _until_empty(clients, clock, clients.drain_ends)
    if clock.now().mono < now.mono + at_least_s:
        await clock.sleep_until(now.mono + at_least_s)


async def send_away(leaving: Sequence[Connection], clients: ClientRegistry, clock: Clock, within_s: float) -> None:
    """Close those of `leaving` that have not left by themselves, spread over `within_s` seconds.

    Call `Connection.detach` of each first: none of them may be sent events of the new epoch.
    """
    began = clock.now().mono
    for n, connection in enumerate(leaving):
        await clock.sleep_until(began + within_s * n / len(leaving))
        if connection in clients:
            connection.hang_up(CloseCode.DRAINING, "another sequence of events has begun: connect again")


async def _until_empty(clients: ClientRegistry, clock: Clock, at: float) -> None:
    """Wait until nobody is connected, or the monotonic time is `at`."""
    if clients.empty.is_set():
        return
    either = [asyncio.create_task(clients.empty.wait()), asyncio.create_task(_slept(clock, at))]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in either:
            task.cancel()


async def _slept(clock: Clock, at: float) -> bool:
    await clock.sleep_until(at)
    return True


def _notice(retry_after_ms: int, now: Instant) -> Notification:
    data = NotificationData(
        level="warning",
        message="the gateway is draining: reconnect after retry_after_ms",
        code="DRAINING",
        retry_after_ms=retry_after_ms,
    )
    return Notification(timestamp=rfc3339(now.wall), data=data)
