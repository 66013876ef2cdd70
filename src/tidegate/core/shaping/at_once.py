"""Makes the items of an answer all at once, column by column, if the answer is as one expects.

What items are is said in `items`, and what their data is in `fields`. This gives the same or nothing: an answer that is
odd or wrong is left to them. It is several times as fast, because msgspec does nearly all of it.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from tidegate.core.shaping.fields import Missing
from tidegate.core.shaping.forms import Form, apart
from tidegate.core.shaping.items import Nesting, have_own_names
from tidegate.core.shaping.lookup import lookup
from tidegate.core.shaping.pointer import members_of
from tidegate.errors import InvalidResponse

_KEY: msgspec.json.Decoder[str | int] = msgspec.json.Decoder(str | int)

_ABSENT = {"error": msgspec.NODEFAULT, "null": None, "leave_out": msgspec.UNSET}
"""What stands for a value that is not there: nothing can, or what is encoded as null, or what is left out."""

_Column = Sequence[Any]
"""What each item has at one pointer: its text as a `msgspec.Raw`, a view of the answer, or what stands for nothing."""


class ItemsAtOnce:
    """How items are made of an answer. `levels` are as for `items.Splitting`, `fields` those of each item, if any.

    Raises `ValueError` if there is no such way for these.
    """

    __slots__ = ("_levels", "_record")

    def __init__(
        self, levels: Sequence[Nesting], missing: Missing, fields: Sequence[tuple[str, str]] | None = None
    ) -> None:
        absent = _ABSENT[missing]
        self._record = None if fields is None else _record([name for name, _ in fields])
        data = ("",) if fields is None else tuple(pointer for _, pointer in fields)
        # At each level but the last one, the items of the next one are wanted.
        places = (levels[0].items, *("" for _ in levels[1:]))
        wanted = (*((level.items,) for level in levels[1:]), data)
        self._levels = [
            _Level(place, level.key_pointers, each, absent)
            for place, level, each in zip(places, levels, wanted, strict=True)
        ]

    def items_of(self, raw: msgspec.Raw, *, event_bytes: int) -> dict[str, msgspec.Raw] | None:
        """Return the data of each item by its key, none of it a view of `raw`.

        Return None for each answer for which `items` or `fields` raise an error, and for some others.
        """
        try:
            keys, columns = self._below(raw, 0)
        except (_Odd, msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidResponse):
            return None
        if not keys:
            return {}
        made = dict(zip(keys, self._data(columns), strict=True))
        are_right = len(made) == len(keys) and "".join(made).isprintable()
        return made if are_right and max(map(len, made.values())) <= event_bytes else None

    def _below(self, raw: Any, depth: int) -> tuple[Sequence[str], Sequence[_Column]]:
        """Return the keys of the items below so many levels, and what is wanted of them."""
        if not isinstance(raw, msgspec.Raw):  # what stands for nothing
            raise _Odd
        keys, columns = self._levels[depth].read(raw)
        if depth + 1 == len(self._levels):
            return keys, columns
        parts = [self._below(text, depth + 1) for text in columns[0]]
        joined = [f"{key}/{own}" for key, (below, _) in zip(keys, parts, strict=True) for own in below]
        return joined, [list(chain(*each)) for each in zip(*(columns for _, columns in parts), strict=True)]

    def _data(self, columns: Sequence[_Column]) -> Iterator[msgspec.Raw]:
        if self._record is None:
            return map(msgspec.Raw.copy, columns[0])
        return map(msgspec.Raw, map(msgspec.json.encode, map(self._record, *columns)))


class _Odd(Exception):
    """The answer is not as one expects."""


class _Level:
    """Reads what items there are in the list or the object at `place`, and what each has at the pointers `wanted`.

    `key` are the pointers to the parts of its key. Without any, this is the name under which it stands.
    """

    __slots__ = ("_key", "_place", "_readers", "_wanted")

    def __init__(self, place: str, key: Sequence[str], wanted: Sequence[str], absent: Any) -> None:
        self._place = place
        self._key = key
        self._wanted = wanted
        self._readers = [_Reader(place, group, absent) for group in apart([*key, *wanted])]

    def read(self, raw: msgspec.Raw) -> tuple[Sequence[str], Sequence[_Column]]:
        """Return the keys, and a column for each of the wanted pointers. Raises `_Odd`, and what decoding raises."""
        found: dict[str, _Column] = {}
        for reader in self._readers:
            items = reader.items_in(raw)
            found.update(reader.columns(items))
        names = self._names(raw, items)
        return self._keys(names, found), [found[pointer] for pointer in self._wanted]

    def _names(self, raw: msgspec.Raw, items: Any) -> Sequence[str]:
        """Return under which names the `items` are. In a list there are none; an empty one stands for any object."""
        if isinstance(items, list):
            if items and not self._key:
                raise _Odd
            return ()
        within = lookup((self._place,)).found_in(raw)[self._place]
        members = members_of(within)
        if not isinstance(members, dict) or not have_own_names(within, members):
            raise _Odd
        return list(members)

    def _keys(self, names: Sequence[str], found: dict[str, _Column]) -> Sequence[str]:
        parts = [_texts(found[pointer]) for pointer in self._key] or [names]
        if not all(map(all, parts)):
            raise _Odd
        return parts[0] if len(parts) == 1 else list(map("/".join, zip(*parts, strict=True)))


class _Reader:
    """Decodes the list or the object at `place` for the values at `pointers` in each of its items."""

    __slots__ = ("_decoder", "_form", "_place", "_pointers")

    def __init__(self, place: str, pointers: Sequence[str], absent: Any) -> None:
        self._pointers = pointers
        self._form = Form(pointers, absent=absent)
        self._place = Form([place], leaf=list[self._form.type] | dict[str, self._form.type])  # type: ignore[name-defined]
        self._decoder = msgspec.json.Decoder(self._place.type)

    def items_in(self, raw: msgspec.Raw) -> Any:
        """Return the items in `raw` as they are decoded, in a list or by their names."""
        (items,) = self._place.values(self._decoder.decode(raw))
        return items

    def columns(self, items: Any) -> Iterator[tuple[str, _Column]]:
        columns = self._form.columns(items if isinstance(items, list) else list(items.values()))
        return zip(self._pointers, columns, strict=True)


def _texts(column: _Column) -> Sequence[str]:
    try:
        return [f"{key}" for key in map(_KEY.decode, column)]
    except TypeError:  # nothing is there
        raise _Odd from None


def _record(names: Sequence[str]) -> type[msgspec.Struct]:
    """Return a struct that is encoded as an object with these names. Raises `ValueError` if one cannot be a field's."""
    fields = [(f"f{at}", msgspec.Raw) for at in range(len(names))]
    return msgspec.defstruct("Record", fields, rename={f"f{at}": name for at, name in enumerate(names)}, gc=False)
