"""Splits an answer into items with keys: the members of a list or an object, or of such at several levels.

A key is made of texts and integers in the item and in those around it, or of the names under which these stand. Two
items with the same key are refused, and so is an item without a key.
"""

import json
from collections.abc import Iterator, Sequence

import msgspec

from tidegate.core.payload import decoding_error
from tidegate.core.shaping.fields import NULL, Missing
from tidegate.core.shaping.lookup import Found, Lookup, lookup
from tidegate.core.shaping.pointer import kind_of, members_of, nothing_at, pointer_to, shown
from tidegate.core.topics import check_key
from tidegate.errors import InvalidResponse, TopicError

_TEXT: msgspec.json.Decoder[str | int] = msgspec.json.Decoder(str | int)


class Item(msgspec.Struct, frozen=True, gc=False):
    """An item, which stands under `name` in an object or at that index in a list, `within` another one, if any.

    `found` is what there is in it at the wanted pointers. It is a view of the answer, as `raw` is.
    """

    raw: msgspec.Raw
    found: Found
    name: str | int
    within: str = ""

    @property
    def place(self) -> str:
        """Which item it is, in a message."""
        return f"item {shown(self.name) if isinstance(self.name, str) else self.name}{self.within}"


class Nesting(msgspec.Struct, frozen=True):
    """One level of nesting: `items` is the pointer to a list or an object, `key` the parts that it adds to a key.

    A part is the name of a member, or a pointer if it begins with a slash. Without parts, the name under which the item
    stands in its object is the part.
    """

    items: str
    key: tuple[str, ...]

    @property
    def key_pointers(self) -> list[str]:
        """The pointers to the parts of a key in an item."""
        return [part if part.startswith("/") else pointer_to(part) for part in self.key]


class Splitting:
    """How an answer is split into the items of the last of `levels`. `wanted` are pointers into these."""

    __slots__ = ("_levels", "_missing")

    def __init__(self, levels: Sequence[Nesting], missing: Missing, wanted: tuple[str, ...] = ()) -> None:
        self._missing = missing
        inner = len(levels) - 1
        self._levels = [_Level(level, wanted if at == inner else ()) for at, level in enumerate(levels)]

    def items_of(self, raw: msgspec.Raw) -> dict[str, Item]:
        """Return the items in `raw` by their keys, in their order. Raises `InvalidResponse` as the module says."""
        found: dict[str, Item] = {}
        for parts, item in self._below(raw, 0, (), ""):
            key = _key_of(parts, item)
            if key in found:
                names = ", ".join(repr(name) for level in self._levels for name in level.key)
                own = f"its own {names}" if names else "a name of its own"
                raise InvalidResponse(f"expected each item to have {own}, got {shown(key)} again in {item.place}")
            found[key] = item
        return found

    def _below(
        self, raw: msgspec.Raw, depth: int, parts: tuple[str, ...], within: str
    ) -> Iterator[tuple[tuple[str, ...], Item]]:
        """Yield the parts of its key with each item of the last level; `parts` are those of the levels above."""
        level = self._levels[depth]
        is_last = depth + 1 == len(self._levels)
        for name, member in self._members(raw, level, within):
            item = Item(member, level.lookup.found_in(member), name, within)
            own = (*parts, *self._parts(level, item))
            if is_last:
                yield own, item
            else:
                yield from self._below(member, depth + 1, own, f" in {item.place}")

    def _members(self, raw: msgspec.Raw, level: "_Level", within: str) -> Iterator[tuple[str | int, msgspec.Raw]]:
        """Yield what the list or object of `level` in `raw` consists of, with its names or indices."""
        part = lookup((level.items,)).found_in(raw).get(level.items)
        if self._missing != "error" and (part is None or part == NULL):
            return
        expected = f"expected {level.expected} at {level.items!r}{within}"
        if part is None:
            raise InvalidResponse(f"{expected}: {nothing_at(raw, level.items)}")
        match members_of(part):
            case dict() as members:
                _check_names(part, members, f"the object at {level.items!r}{within}")
                yield from members.items()
            case list() as members if level.key or not members:
                yield from enumerate(members)
            case _:
                raise InvalidResponse(f"{expected}, got {kind_of(part)}")

    def _parts(self, level: "_Level", item: Item) -> list[str]:
        """Return the parts that `level` adds to the key of `item`, without those that are missing."""
        if not level.key:
            texts = [str(item.name)]
        else:
            texts = [self._text_at(pointer, part, item) for part, pointer in level.key_pointers]
        if all(texts):
            return texts
        if self._missing == "error":
            part = repr(level.key[texts.index("")]) if level.key else "its name"
            raise InvalidResponse(f"expected {item.place} to have a key in {part}, got none")
        return [text for text in texts if text]

    def _text_at(self, pointer: str, part: str, item: Item) -> str:
        value = item.found.get(pointer)
        if self._missing != "error" and (value is None or value == NULL):
            return ""
        if value is None:
            nothing = nothing_at(item.raw, pointer)
            raise InvalidResponse(f"expected {item.place} to have a key in {part!r}: {nothing}")
        try:
            return str(_TEXT.decode(value))
        except msgspec.DecodeError as exc:
            expected = f"expected {item.place} to have a string or an integer as {part!r}"
            raise InvalidResponse(f"{expected}: {decoding_error(value, exc)}") from exc


class _Level:
    """A `Nesting` with what is made of it once. `wanted` are further pointers into its items."""

    __slots__ = ("expected", "items", "key", "key_pointers", "lookup")

    def __init__(self, level: Nesting, wanted: tuple[str, ...]) -> None:
        self.items = level.items
        self.key = level.key
        self.key_pointers = list(zip(level.key, level.key_pointers, strict=True))
        self.lookup = Lookup((*(pointer for _, pointer in self.key_pointers), *wanted))
        self.expected = "a list or an object" if level.key else "an object whose names are the keys"


def _key_of(parts: tuple[str, ...], item: Item) -> str:
    key = "/".join(parts)
    if not key:
        raise InvalidResponse(f"expected {item.place} to have a key, got none of its parts")
    try:
        return check_key(key)
    except TopicError as exc:
        raise InvalidResponse(f"{item.place}: {exc}") from exc


def have_own_names(raw: msgspec.Raw, members: dict[str, msgspec.Raw]) -> bool:
    """Whether the object `raw` has each name once, so that `members` are all there is. No also for escapes in one."""
    # Of compact JSON the size tells: quotes, a colon and a comma for each, braces for all.
    texts = len("".join(members).encode()) + sum(map(len, members.values()))
    return len(raw) == texts + 4 * len(members) + 1


def _check_names(raw: msgspec.Raw, members: dict[str, msgspec.Raw], place: str) -> None:
    """Refuse the object `raw` with these `members` if it has a name twice: only one of the two is among them."""
    if have_own_names(raw, members):
        return
    seen: set[str] = set()
    for name in _names(raw):
        if name in seen:
            raise InvalidResponse(f"expected each name in {place} to be there once, got {shown(name)} again")
        seen.add(name)


def _names(raw: msgspec.Raw) -> list[str]:
    """Return the names in the object `raw`, each as often as it is there."""
    names: list[str] = []

    def note(pairs: list[tuple[str, object]]) -> None:
        names[:] = [name for name, _ in pairs]  # the outermost object comes last

    try:
        # Numbers stay text: Python refuses to read very long ones.
        json.loads(bytes(raw), object_pairs_hook=note, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as exc:
        raise decoding_error(raw, exc) from exc
    return names
