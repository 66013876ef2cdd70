"""What is handed on of a source whose polling moves to another backend."""

import msgspec

from tidegate.core.instant import Instant
from tidegate.core.polling.source_values import Items, Told


class HeldSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source that was taken out of one backend, to be polled by another. Nobody is told anything until then.

    `items` is its last good value, and `sent` when that was asked for; None if it was never answered. `told` is what
    subscribers may hold. `is_known` is whether `source.freshness` was told of it, or was about to be.
    """

    items: Items
    sent: Instant | None
    told: Told
    is_known: bool
