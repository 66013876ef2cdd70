"""A fake store, in memory."""

from collections.abc import Iterable, Sequence

from tidegate.ports import PublishedValue, SavedValue


class MemoryStore:
    """Implements `tidegate.ports.Store` and `KeepsPublished`.

    `values`, by type and key, and `published`, too, are what the next gateway with it will load.
    """

    def __init__(self, values: Iterable[SavedValue] = (), published: Iterable[PublishedValue] = ()) -> None:
        self.values = {(value.type, value.key): value for value in values}
        self.published = {(value.type, value.key): value for value in published}
        self.closed = False

    async def load(self) -> Sequence[SavedValue]:
        """See `tidegate.ports.Store`."""
        return list(self.values.values())

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        """See `tidegate.ports.Store`."""
        self.values |= {(value.type, value.key): value for value in values}
        for name in gone:
            self.values.pop(name, None)

    async def load_published(self) -> Sequence[PublishedValue]:
        """See `tidegate.ports.KeepsPublished`."""
        return list(self.published.values())

    def save_published(self, values: Iterable[PublishedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        """See `tidegate.ports.KeepsPublished`."""
        self.published |= {(value.type, value.key): value for value in values}
        for name in gone:
            self.published.pop(name, None)

    async def aclose(self) -> None:
        """See `tidegate.ports.Store`."""
        self.closed = True
