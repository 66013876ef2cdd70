"""Makes types that msgspec fills in one pass with the values at several pointers.

For the names in the pointers there is a struct, with a struct in it for each object on the way. Where steps are
indices, the struct is for a list. msgspec skips everything else without making objects of it. That takes about a third
of the time of decoding the whole.
"""

import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tidegate.core.shaping.pointer import is_index, steps

_NO_FIELD = re.compile('["\\\\\x00-\x1f\ud800-\udfff]')
"""Characters that msgspec does not take in the name of a field."""
_MAX_INDEX = 999
"""A struct for a list has a field for each index up to the highest. One with a thousand takes 3 ms to make."""

_Tree = dict[str, "_Tree"]
"""The steps below a place. There is none where a pointer ends."""


class NoForm(ValueError):
    """There is no such type for these pointers."""


class Form:
    """What a text is decoded to for the values at `pointers`, each a `leaf`. `absent` stands for what is not there.

    Decoding to `type` raises `msgspec.ValidationError` where something else than an object or a list is on the way.
    Without `absent`, it does so where anything is not there. Raises `NoForm` if a pointer leads through the value of
    another one, or if a name in it cannot be a field's. Raises `ValueError` if one is no JSON Pointer.
    """

    __slots__ = ("_absent", "_get", "_paths", "type")

    def __init__(self, pointers: Sequence[str], *, leaf: Any = msgspec.Raw, absent: Any = msgspec.NODEFAULT) -> None:
        ways = [steps(pointer) for pointer in pointers]
        tree = _tree(ways)
        self.type: Any = _type(tree, leaf, absent)
        self._paths = [_attributes(tree, way) for way in ways]
        self._get = operator.attrgetter(*map(".".join, self._paths)) if ways and all(self._paths) else None
        self._absent = absent

    def values(self, filled: Any) -> Sequence[Any]:
        """Return what `filled`, of `type`, has at each of the pointers."""
        return [self._value(filled, path) for path in self._paths]

    def columns(self, filled: Sequence[Any]) -> list[Sequence[Any]]:
        """Return for each pointer what each of `filled` has there."""
        if self._get is None:
            return [filled]
        if not filled:
            return [() for _ in self._paths]
        try:
            rows = list(map(self._get, filled))
        except AttributeError:  # a null on the way
            return list(zip(*map(self.values, filled), strict=True))
        else:
            if len(self._paths) == 1:
                return [rows]
        return list(zip(*rows, strict=True))

    def _value(self, filled: Any, path: Sequence[str]) -> Any:
        for name in path:
            if filled is None:
                return self._absent
            filled = getattr(filled, name)
        return filled


def apart(pointers: Iterable[str]) -> list[list[str]]:
    """Return `pointers` in groups, so that none leads through the value of another one of its group."""
    groups: list[list[str]] = []
    for pointer in dict.fromkeys(pointers):
        for group in groups:
            if not any(_leads_through(pointer, other) or _leads_through(other, pointer) for other in group):
                group.append(pointer)
                break
        else:
            groups.append([pointer])
    return groups


def _leads_through(pointer: str, other: str) -> bool:
    return pointer.startswith(other + "/")


def _tree(ways: Sequence[Sequence[str]]) -> _Tree:
    root: _Tree = {}
    ends = []
    for way in ways:
        place = root
        for step in way:
            place = place.setdefault(step, {})
        ends.append(place)
    if any(ends) or (not root and len(ways) > 1):
        raise NoForm
    return root


def _type(tree: _Tree, leaf: Any, absent: Any) -> Any:
    if not tree:
        return leaf
    if is_list := _is_list(tree):
        last = max(map(int, tree))
        if last > _MAX_INDEX:
            raise NoForm
        names = [str(index) for index in range(last + 1)]
    else:
        names = list(tree)
    if any(map(_NO_FIELD.search, names)):
        raise NoForm
    fields = [(f"f{at}", *_field(tree.get(name), leaf, absent)) for at, name in enumerate(names)]
    rename = {f"f{at}": name for at, name in enumerate(names)}
    return msgspec.defstruct("Filled", fields, rename=rename, array_like=is_list, frozen=True, gc=False)


def _field(tree: _Tree | None, leaf: Any, absent: Any) -> tuple[Any, Any]:
    """Return the type of a field and its default: for an object on the way one in which there is nothing."""
    kind = msgspec.Raw if tree is None else _type(tree, leaf, absent)
    if not tree or absent is msgspec.NODEFAULT:
        return kind, absent
    return kind | None, kind()


def _attributes(tree: _Tree, way: Sequence[str]) -> list[str]:
    path = []
    for step in way:
        path.append(f"f{int(step) if _is_list(tree) else list(tree).index(step)}")
        tree = tree[step]
    return path


def _is_list(tree: _Tree) -> bool:
    return all(map(is_index, tree))
