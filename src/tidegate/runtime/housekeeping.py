"""What a gateway checks about once a second: slow clients, expired tokens and values, and its wall clock.

There are two loops, because expiring a value means publishing, and the bus may take long. Meanwhile a stuck client must
still be closed.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal

from tidegate.core.delivery.retained import Name
from tidegate.core.events import Draft, gone_draft
from tidegate.core.instant import Instant, rfc3339
from tidegate.core.log_events import LimitedEvent
from tidegate.core.measurements import ClockStepped
from tidegate.errors import BusError
from tidegate.ports import Clock
from tidegate.runtime.clients import ClientRegistry
from tidegate.runtime.limited_log import LimitedLines, Observe
from tidegate.runtime.published_values import EXPIRED_AT_ONCE
from tidegate.runtime.publishers import Publishers

REVIEW_S = 1.0
"""Seconds between two rounds. Limits in seconds, such as `slow_grace_s`, are exact to one round."""

STEPS = 3
"""How many steps of the wall clock in a minute get a line each."""

Direction = Literal["forward", "backward"]


class Housekeeping:
    """The regular checks of one gateway.

    `expires` is the monotonic time at which each retained value with a `ttl_s` ends. `publish` publishes the events
    that remove expired values, and returns when their outcome is known. `clock_set` is called after the wall clock was
    set.
    """

    def __init__(
        self,
        *,
        clients: ClientRegistry,
        publishers: Publishers,
        expires: Mapping[Name, float],
        publish: Callable[[Sequence[Draft]], Awaitable[object]],
        clock_set: Callable[[], None],
        clock: Clock,
        observe: Observe,
    ) -> None:
        self._clients = clients
        self._publishers = publishers
        self._expires = expires
        self._publish = publish
        self._clock_set = clock_set
        self._clock = clock
        self._clock_held = clock.now()
        self._observe = observe
        self._steps = LimitedLines(
            "tidegate.gateway",
            LimitedEvent.CLOCK_STEPPED,
            clock=clock,
            observe=observe,
            whole=STEPS,
            level="warning",
            by="direction",
        )

    async def review(self) -> None:
        """Review connections, the wall clock and idle publishers once a second, until cancelled."""
        while True:
            now = await self._next_round()
            self._follow_clock(now)
            for connection in self._clients.connections:
                # There are thousands of them, and nearly all have nothing to review: skip those without a call.
                if connection.subscriber.paused or connection.grant.expires_at is not None:
                    connection.review(now)
            self._clients.review_tokens()
            self._publishers.forget_idle(now.mono)

    async def expire_values(self) -> None:
        """Once a second, remove the retained values whose `ttl_s` has passed, until cancelled."""
        while True:
            now = await self._next_round()
            with suppress(BusError):  # the next round tries again
                await self._expire(now.mono)

    async def _next_round(self) -> Instant:
        await self._clock.sleep_until(self._clock.now().mono + REVIEW_S)
        return self._clock.now()

    async def _expire(self, now: float) -> None:
        due = [name for name, at in self._expires.items() if at <= now]
        for at in range(0, len(due), EXPIRED_AT_ONCE):
            # A value that was published again, or is about to be, has a new `ttl_s`: it must not be removed now.
            renewed = self._publishers.names_under_way()
            batch = [name for name in due[at : at + EXPIRED_AT_ONCE] if self._expires.get(name, math.inf) <= now]
            over = [name for name in batch if name not in renewed]
            with self._publishers.removing(over):
                await self._publish([gone_draft(*name) for name in over])
            await asyncio.sleep(0)

    def _follow_clock(self, now: Instant) -> None:
        step_s = self._clock_held.step_to(now)
        if step_s:
            self._clock_held = now
            direction: Direction = "forward" if step_s > 0 else "backward"
            self._observe(ClockStepped(direction))
            self._steps.say(by_s=round(step_s, 3), direction=direction, now=rfc3339(now.wall))
            self._clock_set()
