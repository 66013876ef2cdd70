"""The hints of one backend that nobody has taken yet: a bounded set of names. Knows no connection."""

import asyncio
from collections.abc import AsyncIterator

HINTS = 1000
"""So many different names are kept. After that, the hint is that everything may have changed."""


class KeptHints:
    """Names of what has changed, each once, in the order of their first mention; None stands for everything."""

    def __init__(self) -> None:
        self._names: dict[str | None, None] = {}
        self._any = asyncio.Event()
        self._ended = False
        self.were_named = False  # whether the server has told of anything

    def add(self, name: str | None) -> None:
        """Note that what `name` stands for has changed. Whoever is told of everything need not hear of each."""
        self.were_named = self.were_named or name is not None
        if None in self._names:
            return
        if name is None or (len(self._names) >= HINTS and name not in self._names):
            self._names.clear()
            name = None
        self._names[name] = None
        self._any.set()

    def end(self) -> None:
        """Let `taken` end: there will be no more."""
        self._ended = True
        self._any.set()

    async def taken(self) -> AsyncIterator[str | None]:
        """Yield the names as they come, until `end`. For one reader. Cancelling loses nothing that was not yielded."""
        while not self._ended:
            await self._any.wait()
            self._any.clear()
            while self._names and not self._ended:
                name = next(iter(self._names))
                del self._names[name]
                yield name
