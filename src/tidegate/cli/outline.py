"""Describes JSON to people, in a few words: how large it is, what is in it, and where something is that was missed.

`preview` shows values, with secrets masked by their names: use it for what is published anyway. Everything else shows
names and kinds only, because what a source leaves out may be secret.
"""

import difflib
from collections import deque
from collections.abc import Iterator

import msgspec

from tidegate.core.masking import is_secret_name, mask_text
from tidegate.core.shaping.pointer import Members, kind_of, member_at, members_of, pointer_to, shown, steps
from tidegate.errors import InvalidResponse
from tidegate.secret import MASK

PREVIEW_CHARACTERS = 160
NAMES = 12
"""How many names of an object are shown."""

_TEXT_CHARACTERS = 40
_MEMBERS = 6
_DEPTH = 3
_PLACES = 2000
"""In how many places of an answer something is looked for."""

_SUGGESTIONS = 3


def size(raw: bytes | memoryview | msgspec.Raw) -> str:
    """Return the size of `raw` in words, such as "1.2 kB"."""
    count = len(raw)
    if count < 1000:
        return f"{count} byte{'s' * (count != 1)}"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def preview(raw: msgspec.Raw) -> str:
    """Return the beginning of the JSON `raw`, with digits as they are and what looks like a secret masked."""
    text = _shortened(raw, depth=0, is_secret=False)
    return text if len(text) <= PREVIEW_CHARACTERS else text[:PREVIEW_CHARACTERS] + "…"


def outline(raw: msgspec.Raw) -> str:
    """Return what kind of value `raw` is; of an object also the names and kinds of its members, of a list the first."""
    members = _members(raw)
    match members:
        case dict() if members:
            names = [f"{shown(name)} ({_kind(part)})" for name, part in list(members.items())[:NAMES]]
            more = len(members) - NAMES
            return f"an object with {', '.join(names)}" + (f" and {more} more" if more > 0 else "")
        case list() if members:
            return f"{_kind(raw)}, the first of them {outline(members[0])}"
    return _kind(raw)


def step_by_step(raw: msgspec.Raw, pointer: str) -> tuple[str, msgspec.Raw, str | None]:
    """Follow `pointer` as far as it leads. Return the pointer to that place, what is there, and the step that failed.

    That is None if the pointer leads to its end.
    """
    so_far = ""
    for step in steps(pointer):
        part = member_at(_members(raw), step)
        if part is None:
            return so_far, raw, step
        so_far, raw = so_far + pointer_to(step), part
    return so_far, raw, None


def similar_pointers(raw: msgspec.Raw, pointer: str) -> list[str]:
    """Return pointers that lead somewhere in `raw`, and that somebody could mean who wrote `pointer`, likeliest first.

    A misspelt step is replaced, or the last step was found in another place.
    """
    so_far, within, step = step_by_step(raw, pointer)
    if step is None:
        return []
    rest = steps(pointer)[len(steps(so_far)) + 1 :]
    found: dict[str, None] = {}
    members = _members(within)
    if isinstance(members, dict):
        for name in difflib.get_close_matches(step, list(members)[:256], n=_SUGGESTIONS, cutoff=0.7):
            candidate = so_far + "".join(map(pointer_to, (name, *rest)))
            if step_by_step(raw, candidate)[2] is None:
                found[candidate] = None
    last = steps(pointer)[-1].lower()
    found |= {place: None for place, _ in _places(raw) if place and steps(place)[-1].lower() == last}
    return list(found)[:_SUGGESTIONS]


def collections(raw: msgspec.Raw) -> list[str]:
    """Return pointers to the lists in `raw`, or to its objects of objects, with how many items each has."""
    lists, objects = [], []
    for place, members in _places(raw):
        match members:
            case list() if members:
                lists.append(f'"{place}" ({len(members)} items)')
            case dict() if members and all(isinstance(_members(part), dict) for part in list(members.values())[:4]):
                objects.append(f'"{place}" (an object of {len(members)} objects)')
    return (lists or objects)[:_SUGGESTIONS]


def _places(raw: msgspec.Raw) -> Iterator[tuple[str, Members | None]]:
    """Yield the places in `raw` with what they consist of, the outermost first. Of a list, only the first item."""
    waiting = deque([("", raw)])
    for _ in range(_PLACES):
        if not waiting:
            return
        place, part = waiting.popleft()
        members = _members(part)
        yield place, members
        match members:
            case dict():
                waiting.extend((place + pointer_to(name), inner) for name, inner in members.items())
            case list():
                waiting.extend((f"{place}/0", inner) for inner in members[:1])


def _members(raw: msgspec.Raw) -> Members | None:
    try:
        return members_of(raw)
    except InvalidResponse:  # nested too deep
        return None


def _kind(raw: msgspec.Raw) -> str:
    members = _members(raw)
    match members:
        case list():
            return f"a list of {len(members)}"
        case {} if not members:
            return "an empty object"
    return kind_of(raw)


def _shortened(raw: msgspec.Raw, *, depth: int, is_secret: bool) -> str:
    members = _members(raw)
    if members is None:
        return _scalar(raw, is_secret=is_secret)
    opening, closing = "{}" if isinstance(members, dict) else "[]"
    if members and depth >= _DEPTH:
        return f"{opening}…{closing}"
    if isinstance(members, dict):
        shown_parts = [
            f"{msgspec.json.encode(name).decode()}:"
            f"{_shortened(part, depth=depth + 1, is_secret=is_secret or is_secret_name(name))}"
            for name, part in list(members.items())[:_MEMBERS]
        ]
    else:
        shown_parts = [_shortened(part, depth=depth + 1, is_secret=is_secret) for part in members[:_MEMBERS]]
    shown_parts += ["…"] * (len(members) > _MEMBERS)
    return f"{opening}{','.join(shown_parts)}{closing}"


def _scalar(raw: msgspec.Raw, *, is_secret: bool) -> str:
    text = bytes(raw)
    if text[:1] in b"tfn":
        return text.decode()
    if is_secret:
        return f'"{MASK}"'
    if text[:1] != b'"':
        return text[:_TEXT_CHARACTERS].decode()
    words = mask_text(msgspec.json.decode(text, type=str))
    return msgspec.json.encode(words if len(words) <= _TEXT_CHARACTERS else words[:_TEXT_CHARACTERS] + "…").decode()
