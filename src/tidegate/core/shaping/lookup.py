"""Finds the values at several JSON Pointers, reading the text once as far as possible.

For the names in the pointers a struct is made, with a struct in it for each object on the way. msgspec fills it in one
pass, and skips everything else without making objects of it. That takes about a third of the time of decoding the
whole. Where a step may be the index of a list, or where a value is not the object that was expected, the search goes on
level by level.
"""

import functools
import re
from typing import Any

import msgspec

from tidegate.core.payload import decoding_error
from tidegate.core.shaping.pointer import is_index, member_at, members_of, nothing_at, steps

Found = dict[str, msgspec.Raw]
"""The values that there are, by their pointers. They are views of the text in which they were found."""

_NO_FIELD = re.compile('["\\\\\x00-\x1f\ud800-\udfff]')
"""Characters that msgspec does not take in the name of a field."""


class Lookup:
    """Finds the values at `pointers`. Raises `ValueError` if one of them is no JSON Pointer."""

    __slots__ = ("_root",)

    def __init__(self, pointers: tuple[str, ...]) -> None:
        self._root = _Place()
        for pointer in pointers:
            place = self._root
            for step in steps(pointer):
                place = place.below.setdefault(step, _Place())
            place.pointer = pointer
        self._root.prepare()

    def found_in(self, raw: msgspec.Raw) -> Found:
        """Return what there is in the JSON `raw`. Raises `InvalidResponse` if it cannot be read."""
        found: Found = {}
        try:
            self._root.take(raw, found)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise decoding_error(raw, exc) from exc
        return found


lookup = functools.lru_cache(maxsize=1024)(Lookup)
"""A `Lookup` that is made once for the same pointers: making one takes about as long as using it a hundred times."""


def select(raw: msgspec.Raw, pointer: str) -> msgspec.Raw:
    """Return the part of `raw` at the JSON Pointer `pointer`, byte for byte. The pointer "" names the whole.

    Raises `InvalidResponse` if there is nothing at the pointer; the message names the step, and what is there. Raises
    `ValueError` if `pointer` is no JSON Pointer. If an object has a name twice, the last one is used.
    """
    if not pointer:
        return raw
    part = lookup((pointer,)).found_in(raw).get(pointer)
    if part is None:
        raise nothing_at(raw, pointer)
    # A `Raw` that msgspec decodes is a view of the whole response, which it would keep alive.
    return part.copy()


class _Place:
    """A place to which pointers lead, or through which they lead on."""

    __slots__ = ("_decoder", "_form", "_order", "below", "pointer")

    def __init__(self) -> None:
        self.pointer: str | None = None
        self.below: dict[str, _Place] = {}
        self._form: type[msgspec.Struct] | None = None
        """What an object here is decoded to; None if there is no such struct."""
        self._decoder: msgspec.json.Decoder[msgspec.Struct] | None = None
        self._order: list[tuple[str | None, _Place]] = []
        """The places below, as in the struct; first its pointer, if nothing is below that place."""

    def prepare(self) -> None:
        """Make the structs. Call this once all pointers are in place."""
        for place in self.below.values():
            place.prepare()
            self._order.append((None if place.below else place.pointer, place))
        if self.below and not any(is_index(step) or _NO_FIELD.search(step) for step in self.below):
            fields = [(f"f{number}", place.type, None) for number, place in enumerate(self.below.values())]
            names = {f"f{number}": step for number, step in enumerate(self.below)}
            self._form = msgspec.defstruct("Form", fields, rename=names, gc=False)
            self._decoder = msgspec.json.Decoder(self._form)

    def take(self, raw: msgspec.Raw, found: Found) -> None:
        """Add to `found` what there is at and below this place, where `raw` is."""
        if self.pointer is not None:
            found[self.pointer] = raw
        if not self.below:
            return
        if self._decoder is not None:
            try:
                form = self._decoder.decode(raw)
            except msgspec.ValidationError:
                pass  # this is no object, or something below is none: look at each level by itself
            else:
                self.take_fields(form, found)
                return
        members = members_of(raw)
        for step, place in self.below.items():
            part = member_at(members, step)
            if part is not None:
                place.take(part, found)

    def take_fields(self, form: msgspec.Struct, found: Found) -> None:
        """Add to `found` what there is below this place, where the object `form` is."""
        for (leaf, place), part in zip(self._order, msgspec.structs.astuple(form), strict=True):
            if part is None:
                continue
            if leaf is not None:
                found[leaf] = part
            elif place.is_raw:
                place.take(part, found)
            else:
                place.take_fields(part, found)

    @property
    def type(self) -> Any:
        """What it is decoded to in the struct of the place above."""
        return msgspec.Raw if self.is_raw else self._form | None  # type: ignore[operator]

    @property
    def is_raw(self) -> bool:
        """Whether the struct of the place above has the text of what is here."""
        return self._form is None or self.pointer is not None
