"""Finds the values at several JSON Pointers, reading the text once if it is as the pointers let one expect.

Otherwise the search goes on level by level.
"""

import functools

import msgspec

from tidegate.core.payload import decoding_error
from tidegate.core.shaping.forms import Form, NoForm
from tidegate.core.shaping.pointer import member_at, members_of, nothing_at, steps

Found = dict[str, msgspec.Raw]
"""The values that there are, by their pointers. They are views of the text in which they were found."""


class Lookup:
    """Finds the values at `pointers`. Raises `ValueError` if one of them is no JSON Pointer."""

    __slots__ = ("_decoder", "_form", "_pointers", "_root")

    def __init__(self, pointers: tuple[str, ...]) -> None:
        self._pointers = pointers
        self._root = _Place()
        for pointer in pointers:
            place = self._root
            for step in steps(pointer):
                place = place.below.setdefault(step, _Place())
            place.pointer = pointer
        self._form = _form(pointers)
        self._decoder = None if self._form is None else msgspec.json.Decoder(self._form.type)

    def found_in(self, raw: msgspec.Raw) -> Found:
        """Return what there is in the JSON `raw`. Raises `InvalidResponse` if it cannot be read."""
        if self._form is not None and self._decoder is not None:
            try:
                values = self._form.values(self._decoder.decode(raw))
            except msgspec.ValidationError:
                pass  # something on the way is of another kind
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
                raise decoding_error(raw, exc) from exc
            else:
                there = zip(self._pointers, values, strict=True)
                return {pointer: value for pointer, value in there if value is not None}
        found: Found = {}
        self._root.take(raw, found)
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


def _form(pointers: tuple[str, ...]) -> Form | None:
    try:
        return Form(pointers, absent=None) if any(pointers) else None
    except NoForm:
        return None


class _Place:
    """A place to which a pointer leads, or through which some lead on."""

    __slots__ = ("below", "pointer")

    def __init__(self) -> None:
        self.pointer: str | None = None
        self.below: dict[str, _Place] = {}

    def take(self, raw: msgspec.Raw, found: Found) -> None:
        """Add to `found` what there is at and below this place, where `raw` is."""
        if self.pointer is not None:
            found[self.pointer] = raw
        if not self.below:
            return
        members = members_of(raw)
        for step, place in self.below.items():
            part = member_at(members, step)
            if part is not None:
                place.take(part, found)
