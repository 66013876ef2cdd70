"""What publishers have retained, held against its limits. What is polled or built in does not count."""

from collections.abc import Collection, Iterable

from tidegate.core.events import Draft
from tidegate.core.retained import Retained
from tidegate.errors import PublishError

EMPTY_TYPES = 1000
"""So many types stay known whose last published value is gone; publishers may invent types, so there is a bound."""


class PublishedValues:
    """Counts the published values in `retained`: every type but `ours`.

    `max_keys` and `max_bytes` (of their data together) bound them.
    """

    def __init__(self, retained: Retained, *, ours: Collection[str], max_keys: int, max_bytes: int) -> None:
        self._retained = retained
        self._ours = frozenset(ours)
        self._max_keys = max_keys
        self._max_bytes = max_bytes
        self._empty: dict[str, None] = {}
        self.keys = 0
        self.bytes = 0

    def check(self, drafts: Iterable[Draft]) -> None:
        """Raise `PublishError` (507) if after all of `drafts` more would be kept than the limits allow."""
        kept: dict[tuple[str, str], int] = {}
        for draft in drafts:
            if draft.retain:
                kept[draft.type, draft.key or ""] = len(draft.data)
        if not kept:
            return
        keys, size = self.keys, self.bytes
        for name, added in kept.items():
            replaced = self._size(name)
            keys += replaced is None
            size += added - (replaced or 0)
        if keys > max(self._max_keys, self.keys):
            raise PublishError(
                f"expected at most {self._max_keys} retained values (limits.retained_keys), got {keys}", status=507
            )
        if size > max(self._max_bytes, self.bytes):
            raise PublishError(
                f"expected at most {self._max_bytes} bytes of retained data (limits.retained_bytes), got {size}",
                status=507,
            )

    def note(self, draft: Draft) -> None:
        """Count `draft`, which is retained or says that a value is gone. Call it before `retained` hears of it."""
        if draft.type in self._ours:
            return
        replaced = self._size((draft.type, draft.key or ""))
        if replaced is not None:
            self.keys -= 1
            self.bytes -= replaced
        if not draft.gone:
            self.keys += 1
            self.bytes += len(draft.data)
            self._empty.pop(draft.type, None)

    def forget_empty_types(self, draft: Draft) -> None:
        """After `retained` has heard of `draft`: if that took a type's last value, only the newest such stay known."""
        if draft.gone and draft.type not in self._ours and not self._retained.has_values(draft.type):
            self._empty[draft.type] = None
            if len(self._empty) > EMPTY_TYPES:
                oldest = next(iter(self._empty))
                del self._empty[oldest]
                self._retained.forget_type(oldest)

    def clear(self) -> None:
        """Count nothing: no value is retained any more."""
        self._empty.clear()
        self.keys = self.bytes = 0

    def _size(self, name: tuple[str, str]) -> int | None:
        held = self._retained.get(*name)
        return None if held is None else len(held.draft.data)
