"""Decides that a new value counts as the same as the one that is held: it differs only at places that are ignored.

Nothing here knows when a value is published.
"""

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from tidegate.core.shaping.pointer import Members, members_of, steps
from tidegate.errors import InvalidResponse

_Key = TypeVar("_Key", bound=str | None)

_Ignored = Mapping[str, "_Ignored"]
"""The ignored places below one place, by their steps. If there are none, all that is there is ignored."""

_ALL: _Ignored = {}


def settled(
    items: Mapping[_Key, msgspec.Raw], held: Mapping[_Key, msgspec.Raw], ignore: tuple[str, ...]
) -> Mapping[_Key, msgspec.Raw]:
    """Return `items`, with the item of `held` for each that differs from it only at the pointers `ignore`.

    A place that only one of the two has is a difference at that place too. The rest is compared as text: ``1.0`` is not
    ``1``, and the order of the names in an object counts.
    """
    if not ignore:
        return items
    ignored = _tree(ignore)
    return {key: _settled(item, held.get(key), ignored) for key, item in items.items()}


def _settled(item: msgspec.Raw, held: msgspec.Raw | None, ignored: _Ignored) -> msgspec.Raw:
    try:
        return held if held is not None and _is_same(item, held, ignored) else item
    except InvalidResponse:  # nested almost too deep to be read: no place can be looked at
        return item


@functools.lru_cache(maxsize=1024)
def _tree(pointers: tuple[str, ...]) -> _Ignored:
    root: dict[str, Any] = {}
    # The longest first: a place that is ignored as a whole takes the place of what is ignored below it.
    for path in sorted(map(steps, pointers), key=len, reverse=True):
        if not path:
            return _ALL
        place = root
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = {}
    return root


def _is_same(new: msgspec.Raw, held: msgspec.Raw, ignored: _Ignored) -> bool:
    if not ignored or new == held:
        return True
    ours, theirs = members_of(new), members_of(held)
    if ours is None or type(ours) is not type(theirs):
        return False
    rest, other = _rest(ours, ignored), _rest(theirs, ignored)
    return len(rest) == len(other) and all(
        step == step_there and (part == part_there or (step in ignored and _is_same(part, part_there, ignored[step])))
        for (step, part), (step_there, part_there) in zip(rest, other, strict=True)
    )


def _rest(members: Members, ignored: _Ignored) -> list[tuple[str, msgspec.Raw]]:
    """Return what is not ignored as a whole, in its order. The items of a list keep their indices."""
    named = members.items() if isinstance(members, dict) else ((str(at), part) for at, part in enumerate(members))
    return [(step, part) for step, part in named if ignored.get(step) != _ALL]
