"""The heartbeats of a gateway, and when the next one is due, also if the interval is changed meanwhile."""

import asyncio
from collections.abc import Callable

from tidegate.core.built_in import Heartbeat
from tidegate.core.delivery.history import History
from tidegate.core.envelope import event_without_position, raw
from tidegate.core.events import Draft, Event
from tidegate.core.instant import Instant
from tidegate.ports import Clock
from tidegate.runtime.clients import ClientRegistry


class Beats:
    """Sends a heartbeat with the newest position of `history` every `ClientRegistry.heartbeat_interval_s` seconds."""

    def __init__(
        self, send: Callable[[Event], None], *, clients: ClientRegistry, history: History, clock: Clock
    ) -> None:
        self._send = send
        self._clients = clients
        self._history = history
        self._clock = clock
        self._started = clock.now()
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Send heartbeats until cancelled, the first one after one interval."""
        last = self._clock.now()
        while True:
            at = last.mono + self._clients.heartbeat_interval_s
            self._woken.clear()
            timer = self._clock.call_at(at, self._woken.set)
            try:
                await self._woken.wait()
            finally:
                timer.cancel()
            now = self._clock.now()
            if now.mono >= at:
                last = now
                self._beat(now)

    def interval_changed(self) -> None:
        """Go by the new interval, counted from the last heartbeat: if that is over, send one at once."""
        self._woken.set()

    def _beat(self, now: Instant) -> None:
        position = self._history.position
        data = Heartbeat(
            epoch=position.epoch,
            seq=position.seq,
            uptime_s=round(now.mono - self._started.mono, 3),
            clients=len(self._clients),
        )
        self._send(event_without_position(Draft(type="heartbeat", data=raw(data)), timestamp=now.wall))
