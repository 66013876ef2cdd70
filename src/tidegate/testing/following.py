"""A client for tests, which waits for events with a timeout."""

import asyncio
from collections.abc import Callable

from tidegate.client import Event, Stream
from tidegate.core.topics import PatternSet

PATIENCE_S = 10.0
"""How long to wait for an event: generous, so that a test does not fail because the machine is busy."""


class Follower:
    """Reads events from `stream`, a stream of `tidegate.client`."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    async def next(
        self,
        pattern: str = "*",
        *,
        where: Callable[[Event], bool] = lambda event: True,
        within_s: float = PATIENCE_S,
    ) -> Event:
        """Return the next event whose type matches `pattern` and for which `where` is true. Skip all others.

        Raises `AssertionError`, which lists what came instead, if no such event comes within `within_s` seconds.
        """
        wanted = PatternSet.parse([pattern])
        passed_over = []
        try:
            async with asyncio.timeout(within_s):
                async for item in self.stream:
                    if isinstance(item, Event) and wanted.matches(item.type) and where(item):
                        return item
                    passed_over.append(item)
        except TimeoutError:
            pass
        came = "".join(f"\n  {item}" for item in passed_over) or " nothing"
        raise AssertionError(f"expected an event of {pattern} within {within_s:g} s; what came:{came}")
