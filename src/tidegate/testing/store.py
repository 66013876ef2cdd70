"""A fake store, in memory."""

from collections.abc import Iterable, Sequence

from tidegate.ports import SavedValue


class MemoryStore:
    """Implements `tidegate.ports.Store`. `values`, by type and key, are what the next gateway with it will load."""

    def __init__(self, values: Iterable[SavedValue] = ()) -> None:
        self.values = {(value.type, value.key): value for value in values}
        self.closed = False

    async def load(self) -> Sequence[SavedValue]:
        """See `tidegate.ports.Store`."""
        return list(self.values.values())

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        """See `tidegate.ports.Store`."""
        self.values |= {(value.type, value.key): value for value in values}
        for name in gone:
            self.values.pop(name, None)

    async def aclose(self) -> None:
        """See `tidegate.ports.Store`."""
        self.closed = True
