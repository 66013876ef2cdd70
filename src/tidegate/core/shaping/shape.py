"""What a source makes of an answer: the part that is wanted, the items in it, their keys, and the fields of each.

No expression language: everything is said with JSON Pointers. What cannot be said with these belongs into a backend.
"""

import functools
from collections.abc import Mapping

import msgspec

from tidegate.core.payload import check_size
from tidegate.core.shaping.at_once import ItemsAtOnce
from tidegate.core.shaping.fields import NULL, Fields, Missing
from tidegate.core.shaping.items import Item, Nesting, Splitting
from tidegate.core.shaping.lookup import lookup
from tidegate.core.shaping.pointer import nothing_at
from tidegate.errors import InvalidResponse


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How the data of a source is made of an answer. Each text but the parts of `key` and the names is a JSON Pointer.

    `select` is the wanted part of the answer. With `items`, that holds items: `items` has a pointer to a list or an
    object for each level of nesting, from the outermost. `key` then has the parts of an item's key for each level: each
    is the name of a member, or a pointer if it begins with a slash; no part at all means the name under which the item
    stands in its object. The data, or each item, is made into an object of `fields`, if there are any. `missing` says
    what becomes of a value that is not there.

    `ignore` are places in the data, as it is after `fields`, whose changes do not count. See `settled`.
    """

    select: str = ""
    items: tuple[str, ...] | None = None
    key: tuple[tuple[str, ...], ...] = ()
    fields: Mapping[str, str] | None = None
    missing: Missing = "error"
    ignore: tuple[str, ...] = ()


def shaped(raw: msgspec.Raw, shape: Shape, *, event_bytes: int) -> msgspec.Raw | Mapping[str, msgspec.Raw]:
    """Return what `shape` makes of the answer `raw`, which is compact JSON: its data, or its items by their keys.

    Numbers keep their digits, and texts their spelling. Nothing that is returned is a view of `raw`. Raises
    `InvalidResponse` if a value is missing, a key is missing, repeated or no key, or if data is longer than
    `event_bytes`.
    """
    named = None if shape.fields is None else tuple(shape.fields.items())
    if shape.items is None:
        return check_size(_data(_selected(raw, shape.select, shape.missing), named, shape.missing), event_bytes)
    return _keyed(shape.select, shape.items, shape.key, shape.missing, named).items_of(raw, event_bytes=event_bytes)


class Keyed:
    """How items are made of an answer, at once if it is as one expects, one by one if not: then it may well be wrong.

    The arguments are the parts of a `Shape`; `fields` are pairs.
    """

    __slots__ = ("_at_once", "_fields", "_missing", "_select", "_splitting")

    def __init__(
        self,
        select: str,
        items: tuple[str, ...],
        key: tuple[tuple[str, ...], ...],
        missing: Missing,
        fields: tuple[tuple[str, str], ...] | None,
    ) -> None:
        keys = key or ((),) * len(items)
        levels = [Nesting(*each) for each in zip(items, keys, strict=True)]
        self._select = select
        self._missing: Missing = missing
        self._fields = None if fields is None else _fields(fields, missing)
        self._splitting = Splitting(levels, missing, () if self._fields is None else self._fields.pointers)
        try:
            self._at_once: ItemsAtOnce | None = ItemsAtOnce(
                [Nesting(select + items[0], keys[0]), *levels[1:]], missing, fields
            )
        except ValueError:  # there is no such way, if only because two pointers together are too long for one
            self._at_once = None

    def items_of(self, raw: msgspec.Raw, *, event_bytes: int) -> dict[str, msgspec.Raw]:
        """See `shaped`."""
        made = self.at_once(raw, event_bytes=event_bytes)
        return self.one_by_one(raw, event_bytes=event_bytes) if made is None else made

    def at_once(self, raw: msgspec.Raw, *, event_bytes: int) -> dict[str, msgspec.Raw] | None:
        """Return what `one_by_one` returns, or None."""
        return None if self._at_once is None else self._at_once.items_of(raw, event_bytes=event_bytes)

    def one_by_one(self, raw: msgspec.Raw, *, event_bytes: int) -> dict[str, msgspec.Raw]:
        """See `shaped`."""
        items = self._splitting.items_of(_selected(raw, self._select, self._missing))
        return {key: check_size(self._data_of(item), event_bytes) for key, item in items.items()}

    def _data_of(self, item: Item) -> msgspec.Raw:
        if self._fields is None:
            return item.raw.copy()
        return self._fields.filled(
            item.found, lambda pointer: InvalidResponse(f"{item.place}: {nothing_at(item.raw, pointer)}")
        )


_keyed = functools.lru_cache(maxsize=1024)(Keyed)


def _selected(raw: msgspec.Raw, select: str, missing: Missing) -> msgspec.Raw:
    part = lookup((select,)).found_in(raw).get(select)
    if part is not None:
        return part
    if missing == "error":
        raise nothing_at(raw, select)
    return NULL


def _data(part: msgspec.Raw, fields: tuple[tuple[str, str], ...] | None, missing: Missing) -> msgspec.Raw:
    # What was found is a view of the whole answer, which it would keep alive.
    if fields is None:
        return part.copy()
    made = _fields(fields, missing)
    return made.filled(lookup(made.pointers).found_in(part), lambda pointer: nothing_at(part, pointer))


@functools.lru_cache(maxsize=1024)
def _fields(fields: tuple[tuple[str, str], ...], missing: Missing) -> Fields:
    return Fields(dict(fields), missing)
