"""Turns plain tables into structs, value by value, and collects all problems on the way.

It walks over the types of the model. What a value must be, and the words for it in messages, come from the type's
annotation. This module must not know any particular key.
"""

import difflib
import json
import os
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from tidegate.config.by_ending import hint_for
from tidegate.config.formats import DIRECTORY, FILE, SECRET_FILE, SOCKET, Format, resolved
from tidegate.config.section import Section
from tidegate.core.masking import is_harmless_header, is_secret_name, mask_refused
from tidegate.errors import Problem
from tidegate.printable import steers

KeyPath = tuple[str | int, ...]
"""The path to a value: keys of tables and indices of lists."""


class Mistake(NamedTuple):
    """A problem inside a table. `path` is relative to the table."""

    path: KeyPath
    expected: str
    got: str


class Outside(msgspec.Struct, frozen=True):
    """A value from the environment or the command line. Text may stand for a number or a boolean."""

    value: object
    origin: str


UNUSABLE: Final = object()
"""Stands for a value that was refused."""


class Reader:
    """Reads the tables of one document. `problems` collects what is wrong.

    `rules` checks the rules between the keys of one table. It is called only if all values of the table are valid.
    Relative paths in the document are relative to `directory`, those in an `Outside` to the working directory.
    """

    def __init__(self, *, directory: Path, rules: Callable[[Section], Iterable[Mistake]]) -> None:
        self.problems: list[Problem] = []
        self._refused: list[KeyPath] = []
        self._directory = directory
        self._rules = rules

    def read(self, hint: Any, value: object, path: KeyPath = ()) -> Any:
        """Return `value` as an object of type `hint`, or `UNUSABLE`. In a table, refused values get their defaults."""
        hint = _without_none(hint)
        if isinstance(hint, type) and issubclass(hint, Section):
            return self._table(hint, value, path)
        plain, _ = _split(hint)
        match get_origin(plain):
            case origin if origin is dict:
                return self._named(plain, value, path)
            case origin if origin is tuple:
                return self._list(hint, value, path)
            case _:
                return self._leaf(hint, value, path)

    def refuse(self, mistake: Mistake) -> None:
        """Record a problem."""
        self._refused.append(mistake.path)
        self.problems.append(Problem(dotted(mistake.path), mistake.expected, mistake.got))

    def is_clean(self, *path: str | int) -> bool:
        """Return whether nothing was refused at `path`, above it or below it."""
        return not any(refused[: len(path)] == path[: len(refused)] for refused in self._refused)

    def _table(self, struct: type[Section], value: object, path: KeyPath) -> Any:
        if not isinstance(value, Mapping):
            return self._unexpected("a table", value, path)
        fields = {field.name: field for field in msgspec.structs.fields(struct)}
        for key in value:
            if key not in fields:
                self.refuse(unknown_key((*path, key), value[key], fields))
        kept = {}
        for key, field in fields.items():
            if key in value:
                kept[key] = self.read(field.type, value[key], (*path, key))
            elif field.required:
                self.refuse(Mistake((*path, key), expectation(field.type, key), "nothing"))
                kept[key] = UNUSABLE
        usable = {key: item for key, item in kept.items() if item is not UNUSABLE}
        if any(field.required and key not in usable for key, field in fields.items()):
            return UNUSABLE
        section = struct(**usable)
        if self.is_clean(*path):
            self._check(section, path)
        return section

    def _check(self, section: Section, path: KeyPath) -> None:
        for mistake in list(self._rules(section)):
            self.refuse(mistake._replace(path=path + mistake.path))

    def _named(self, hint: Any, value: object, path: KeyPath) -> Any:
        if not isinstance(value, Mapping):
            return self._unexpected("a table", value, path)
        key_hint, value_hint = get_args(hint)
        kept = {}
        for key, inner in value.items():
            self._leaf(key_hint, key, (*path, key))
            item = self.read(hint_for(key, value_hint), inner, (*path, key))
            if item is not UNUSABLE:
                kept[key] = item
        return kept

    def _list(self, hint: Any, value: object, path: KeyPath) -> Any:
        items = _plain(value)
        plain, metas = _split(hint)
        too_short = any(isinstance(items, list) and len(items) < (meta.min_length or 0) for meta in metas)
        if not isinstance(items, list) or too_short:
            return self._unexpected(expectation(hint), value, path)
        item_hint = get_args(plain)[0]
        kept = [self.read(item_hint, item, (*path, index)) for index, item in enumerate(items)]
        return tuple(item for item in kept if item is not UNUSABLE)

    def _leaf(self, hint: Any, value: object, path: KeyPath) -> Any:
        outside = isinstance(value, Outside)
        plain = _plain(value)
        key = path[-1] if isinstance(path[-1], str) else ""
        try:
            result = msgspec.convert(plain, hint, strict=not outside)
        except msgspec.ValidationError:
            return self._unexpected(expectation(hint, key), value, path)
        format_ = _format_of(hint)
        if format_ is None:
            return result
        if not format_.accepts(result):
            return self._unexpected(format_.expected, value, path)
        if format_ in {FILE, SECRET_FILE, SOCKET, DIRECTORY} and result:
            result = resolved(result, Path() if outside else self._directory)
        if format_ in {FILE, SECRET_FILE} and not _is_readable_file(result):
            self.refuse(Mistake(path, format_.expected, f"{shown(value, path)} (looked at {result})"))
            return UNUSABLE
        return result

    def _unexpected(self, expected: str, value: object, path: KeyPath) -> Any:
        self.refuse(Mistake(path, expected, shown(value, path)))
        return UNUSABLE


def unknown_key(path: KeyPath, value: object, known: Iterable[str]) -> Mistake:
    """Return the mistake of a table that has `value` at `path`, whose last key is none of `known`."""
    similar = difflib.get_close_matches(str(path[-1]), known, n=1)
    hint = f"did you mean {similar[0]!r}?" if similar else ", ".join(known) or "there is none"
    origin = f" from {value.origin}" if isinstance(value, Outside) else ""
    return Mistake(path, f"a known key ({hint})", f"an unknown one{origin}")


def _plain(value: object) -> object:
    return value.value if isinstance(value, Outside) else value


def dotted(path: KeyPath) -> str:
    """Return `path` in TOML syntax, such as ``sources."system.status".interval_s`` or ``auth.tokens[0].roles``."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += "." * bool(text) + bare_or_quoted(key)
    return text or "the configuration"


def bare_or_quoted(key: str) -> str:
    """Return `key` in TOML syntax: a bare key if possible, otherwise a basic string."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quoted(key)


def quoted(text: str) -> str:
    """Return `text` as a TOML basic string in which control and format characters are escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted if quoted.isprintable() else "".join(map(_toml_char, quoted))


def _toml_char(char: str) -> str:
    if not steers(char):
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"


def expectation(hint: Any, key: str = "") -> str:
    """Describe what a value of type `hint` under `key` must be, with its unit and range."""
    plain, metas = _split(_without_none(hint))
    if isinstance(plain, type) and issubclass(plain, Section):
        return "a table"
    if format_ := _format_of(hint):
        return format_.expected
    if get_origin(plain) is Literal:
        return "one of " + ", ".join(map(quoted, get_args(plain)))
    if get_origin(plain) is tuple:
        least = " with at least one item" * any(meta.min_length for meta in metas)
        return f"a list of {_plural(get_args(plain)[0])}{least}"
    noun = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}.get(plain, "a table")
    return noun + _unit(key) * (plain in {int, float}) + "".join(_bounds(metas))


def shown(value: object, path: KeyPath = ()) -> str:
    """Return `value` for a message: shortened, without secrets, and with its origin unless that is the file."""
    if isinstance(value, Outside):
        return f"{shown(value.value, path)} from {value.origin}"
    match value:
        case Mapping():
            return "a table"
        case list() | tuple():
            return "an empty list" if not value else "a list"
        case _ if _is_secret(path):
            return "something else (not shown)"
        case bool():
            return str(value).lower()
        case str():
            return quoted(_shortened(mask_refused(value)))
        case _:
            return _shortened(str(value))


def _is_secret(path: KeyPath) -> bool:
    """Return whether the value at `path` may be a credential: by its key, or as a header not known to be harmless."""
    names = [key for key in path if isinstance(key, str)]
    if len(names) > 1 and names[-2] == "headers":
        return not is_harmless_header(names[-1])
    return bool(names) and is_secret_name(names[-1])


def _shortened(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


def _plural(hint: Any) -> str:
    plain, _ = _split(hint)
    if isinstance(plain, type) and issubclass(plain, Section):
        return "tables"
    if plain is int:
        return "whole numbers"
    return f"text, each {expectation(hint)}"


def _unit(key: str) -> str:
    if key.endswith("_per_s"):
        return " per second"
    if key.endswith("_s"):
        return " of seconds"
    if key.endswith("bytes"):
        return " of bytes"
    return ""


def _bounds(metas: Iterable[msgspec.Meta]) -> Iterator[str]:
    for meta in metas:
        if meta.ge is not None:
            yield f" from {meta.ge} to {meta.le:.0f}"
        elif meta.gt is not None:
            yield f" above {meta.gt} and up to {meta.le:.0f}"
        if meta.min_length:
            yield " that is not empty"


def table_of(hint: Any) -> type[Section] | None:
    """Return the struct if a key of type `hint` holds a table, else None."""
    plain = _without_none(hint)
    return plain if isinstance(plain, type) and issubclass(plain, Section) else None


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in {Union, types.UnionType}:
        kinds = [kind for kind in get_args(hint) if kind is not types.NoneType]
        return kinds[0] if len(kinds) == 1 else hint
    return hint


def _split(hint: Any) -> tuple[Any, list[msgspec.Meta]]:
    if get_origin(hint) is Annotated:
        plain, *metas = get_args(hint)
        return plain, [meta for meta in metas if isinstance(meta, msgspec.Meta)]
    return hint, []


def _format_of(hint: Any) -> Format | None:
    _, metas = _split(_without_none(hint))
    return next((meta.extra["format"] for meta in metas if meta.extra and "format" in meta.extra), None)


def _is_readable_file(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.R_OK)
