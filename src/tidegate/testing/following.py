"""A client in a test: waits for events, but never for ever."""

import asyncio
from collections.abc import Callable

from tidegate.client import Event, Stream
from tidegate.core.topics import PatternSet

PATIENCE_S = 10.0
"""How long an event may take: a busy machine is no failure."""


class Follower:
    """Reads `stream`, an ordinary stream of `tidegate.client`."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    async def next(
        self,
        pattern: str = "*",
        *,
        where: Callable[[Event], bool] = lambda event: True,
        within_s: float = PATIENCE_S,
    ) -> Event:
        """The next event of a type that `pattern` matches for which `where` holds; others before it are passed over.

        Raises `AssertionError`, which tells what came instead, if there is none after `within_s` seconds.
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
