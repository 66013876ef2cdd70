"""Says what is at the place where the `select`, `items`, `key` or `fields` of a source found nothing, and what is near.

It follows a `Shape` through an answer, as `tidegate.core.shaping` does, but to explain and not to publish: it shows
names and kinds, never values.
"""

from collections.abc import Iterable, Iterator

import msgspec

from tidegate.cli.outline import collections, outline, similar_pointers, step_by_step
from tidegate.core.shaping import Shape
from tidegate.core.shaping.pointer import members_of, pointer_to, steps
from tidegate.errors import InvalidResponse

ITEMS = 1000
"""How many items of a level are looked at: the one that lacks something is usually among the first."""


def whereabouts(answer: msgspec.Raw, shape: Shape) -> list[str]:
    """Return sentences about what is in `answer` where `shape` finds nothing. None if it finds everything."""
    try:
        return next(_lacking(answer, shape), [])
    except InvalidResponse:  # nested too deep, as the error says that is explained here
        return []


def _lacking(answer: msgspec.Raw, shape: Shape) -> Iterator[list[str]]:
    """Yield what is to be said of each place where something is missing."""
    part = _at(answer, shape.select)
    if part is None:
        yield from _missed(answer, shape.select, "select", "the answer", shape)
        return
    nodes = [("the selected part" if shape.select else "the answer", part)]
    for depth, pointer in enumerate(shape.items or ()):
        key = shape.key[depth] if shape.key else ()
        inner: list[tuple[str, msgspec.Raw]] = []
        for where, node in nodes:
            found = _at(node, pointer)
            if found is None:
                yield from _missed(node, pointer, "items", where, shape)
                continue
            items = _items(found, needs_names=not key)
            if items is None:
                yield _not_items(node, pointer, found, where, needs_names=not key)
                continue
            inner += items[: ITEMS - len(inner)]
        for where, item in inner:
            yield from _all_missed(item, (name if name[:1] == "/" else pointer_to(name) for name in key), "key", where)
        nodes = inner
    for where, node in nodes:
        if shape.missing == "error":
            yield from _all_missed(node, (shape.fields or {}).values(), "fields", where)


def _at(raw: msgspec.Raw, pointer: str) -> msgspec.Raw | None:
    _, part, failed = step_by_step(raw, pointer)
    return part if failed is None else None


def _items(raw: msgspec.Raw, *, needs_names: bool) -> list[tuple[str, msgspec.Raw]] | None:
    members = members_of(raw)
    match members:
        case dict():
            return [(f"item {name!r}", part) for name, part in members.items()]
        case list() if not needs_names or not members:
            return [(f"item {number}", part) for number, part in enumerate(members)]
    return None


def _all_missed(raw: msgspec.Raw, pointers: Iterable[str], setting: str, where: str) -> Iterator[list[str]]:
    for pointer in pointers:
        if _at(raw, pointer) is None:
            yield _explained(raw, pointer, setting, where)


def _missed(raw: msgspec.Raw, pointer: str, setting: str, where: str, shape: Shape) -> Iterator[list[str]]:
    if shape.missing == "error":
        yield _explained(raw, pointer, setting, where)


def _explained(raw: msgspec.Raw, pointer: str, setting: str, where: str) -> list[str]:
    so_far, within, _ = step_by_step(raw, pointer)
    place = f'at "{so_far}" in {where}' if so_far else f"in {where}"
    lines = [f"{place} there is {outline(within)}"]
    if similar := [] if isinstance(members_of(within), list) else similar_pointers(raw, pointer):
        lines.append(_did_you_mean(setting, [f'"{_as_written(each, setting)}"' for each in similar]))
    return lines


def _as_written(pointer: str, setting: str) -> str:
    """Return `pointer` as people write it: a key is usually the name of a member."""
    names = steps(pointer)
    return names[0] if setting == "key" and len(names) == 1 and not names[0].startswith("/") else pointer


def _not_items(node: msgspec.Raw, pointer: str, found: msgspec.Raw, where: str, *, needs_names: bool) -> list[str]:
    lines = [f'at "{pointer}" in {where} there is {outline(found)}']
    if needs_names and isinstance(members_of(found), list):
        return [*lines, "items of a list need a `key`: the name of what tells them apart"]
    return lines + ([_did_you_mean("items", places)] if (places := collections(node)) else [])


def _did_you_mean(setting: str, places: list[str]) -> str:
    return f"did you mean {setting} {' or '.join(places)}?"
