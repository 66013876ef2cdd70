"""What publishers may have retained, all together. Values of polled and built-in types do not count."""

from collections.abc import Collection, Iterable

from tidegate.core.delivery.retained import Retained
from tidegate.core.events import Draft
from tidegate.errors import PublishError

EMPTY_TYPES = 1000
"""How many types that have lost their last value are remembered. Publishers may invent types, so it must be limited."""


class RetainedQuota:
    """The count of the values in `retained` whose types are not in `ours`, the gateway's own.

    `max_keys` limits their number, and `max_bytes` the total size of their data. Call `exclude` before a type is added
    to `ours`.
    """

    def __init__(self, retained: Retained, *, ours: Collection[str], max_keys: int, max_bytes: int) -> None:
        self._retained = retained
        self._ours = ours
        self._max_keys = max_keys
        self._max_bytes = max_bytes
        self._empty: dict[str, None] = {}
        self.keys = 0
        self.bytes = 0

    def limit(self, *, max_keys: int, max_bytes: int) -> None:
        """Set other limits. What is above them already stays."""
        self._max_keys = max_keys
        self._max_bytes = max_bytes

    def exclude(self, event_type: str) -> None:
        """Do not count the values of `event_type` any more."""
        for name in self._retained.walk([event_type]):
            self.keys -= 1
            self.bytes -= self._size(name) or 0
        self._empty.pop(event_type, None)

    def check(self, drafts: Iterable[Draft]) -> None:
        """Raise `PublishError` (507) if the limits do not allow all of `drafts` to be retained."""
        # Of several drafts with the same key, only the last one stays.
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
        # The present count may be above a limit already. A publish that does not add to it is still allowed.
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
        """Count `draft`, which retains or removes a value. Call this before updating `retained`."""
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
        """If `draft` left one type too many without a value, forget the oldest. Call this after updating `retained`."""
        if draft.gone and draft.type not in self._ours and not self._retained.has_values(draft.type):
            self._empty[draft.type] = None
            if len(self._empty) > EMPTY_TYPES:
                oldest = next(iter(self._empty))
                del self._empty[oldest]
                self._retained.forget_type(oldest)

    def clear(self) -> None:
        """Reset the counts, when `retained` has been cleared."""
        self._empty.clear()
        self.keys = self.bytes = 0

    def _size(self, name: tuple[str, str]) -> int | None:
        held = self._retained.get(*name)
        return None if held is None else len(held.draft.data)
