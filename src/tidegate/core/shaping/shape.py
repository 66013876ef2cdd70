"""What a source makes of an answer: the part that is wanted, the items in it, their keys, and the fields of each.

No expression language: everything is said with JSON Pointers. What cannot be said with these belongs into a backend.
"""

import functools
from collections.abc import Mapping

import msgspec

from tidegate.core.payload import check_size
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
    part = lookup((shape.select,)).found_in(raw).get(shape.select)
    if part is None:
        if shape.missing == "error":
            raise nothing_at(raw, shape.select)
        part = NULL
    fields = None if shape.fields is None else _fields(tuple(shape.fields.items()), shape.missing)
    if shape.items is None:
        return check_size(_data(part, fields), event_bytes)
    splitting = _splitting(shape.items, shape.key, shape.missing, () if fields is None else fields.pointers)
    items = splitting.items_of(part)
    return {key: check_size(_item_data(item, fields), event_bytes) for key, item in items.items()}


def _data(part: msgspec.Raw, fields: Fields | None) -> msgspec.Raw:
    # What was found is a view of the whole answer, which it would keep alive.
    if fields is None:
        return part.copy()
    return fields.filled(lookup(fields.pointers).found_in(part), lambda pointer: nothing_at(part, pointer))


def _item_data(item: Item, fields: Fields | None) -> msgspec.Raw:
    if fields is None:
        return item.raw.copy()
    return fields.filled(item.found, lambda pointer: InvalidResponse(f"{item.place}: {nothing_at(item.raw, pointer)}"))


@functools.lru_cache(maxsize=1024)
def _fields(fields: tuple[tuple[str, str], ...], missing: Missing) -> Fields:
    return Fields(dict(fields), missing)


@functools.lru_cache(maxsize=1024)
def _splitting(
    items: tuple[str, ...], key: tuple[tuple[str, ...], ...], missing: Missing, wanted: tuple[str, ...]
) -> Splitting:
    keys = key or ((),) * len(items)
    return Splitting(tuple(Nesting(*each) for each in zip(items, keys, strict=True)), missing, wanted)
