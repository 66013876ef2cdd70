"""Turns the table ``[backends.NAME.options]`` into the struct of a plug-in, and back.

Besides the types that msgspec knows, an option may be a `Secret` or a `pathlib.Path`. What is wrong with a value is
msgspec's to say; `tidegate.config.plugged` turns that into messages.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from tidegate.core import templates
from tidegate.secret import Secret


class SecretOption(Secret):
    """An option with places for secrets, such as ``{password}``. `value_of` says what each of them is at the moment.

    `template` is the text with its places, which may be shown: there are no secrets in it.
    """

    __slots__ = ("template",)

    def __init__(self, template: str, value_of: Callable[[str], str | None]) -> None:
        self.template = template
        self._reveal = lambda: templates.filled(template, value_of)


class NoPlace(ValueError):
    """The text for a `Secret` names no secret that there is."""


class NotYet(RuntimeError):
    """A plug-in wants to see a secret before a call is made."""


def unread(name: str) -> NoReturn:
    """Stand for the secret `name` before it has been read."""
    raise NotYet(f"expected nobody to need the secret {name!r} before the first call; it is read for each one")


def converted(
    kind: Any,
    value: object,
    *,
    secrets: Mapping[str, object],
    value_of: Callable[[str], str | None] = unread,
    directory: Path | None = None,
) -> Any:
    """Return `value`, of a parsed TOML file, as a `kind`.

    `secrets` are those that a template may name, and `value_of` gives their texts when a `SecretOption` is revealed.
    Relative paths are relative to `directory`. Raises `msgspec.ValidationError`, caused by `NoPlace` for a
    `Secret` that names none of `secrets`. Passes on what the plug-in's own code raises.
    """

    def decode(wanted: type, given: object) -> object:
        if wanted is Secret:
            if not isinstance(given, str) or not any(name in secrets for name in templates.names(given)):
                raise NoPlace
            return SecretOption(given, lambda name: value_of(name) if name in secrets else None)
        if wanted is Path:
            if not isinstance(given, str) or not given or "\0" in given:
                raise ValueError("Expected a path")
            return Path((directory or Path()) / Path(given).expanduser()).absolute()
        raise NotImplementedError(f"options of the type {wanted.__name__} are not supported")

    return msgspec.convert(value, kind, dec_hook=decode)


def as_table(options: msgspec.Struct) -> dict[str, object]:
    """Return `options` as a table that `converted` makes the same options of: complete with defaults, without None."""

    def encode(value: object) -> object:
        match value:
            case SecretOption():
                return value.template
            case Path():
                return str(value)
        raise NotImplementedError(f"expected an option that a file can hold, got a {type(value).__name__}")

    plain = msgspec.to_builtins(options, enc_hook=encode)
    table: dict[str, object] = _without_none(plain)
    return table


def _without_none(value: Any) -> Any:
    match value:
        case Mapping():
            return {name: _without_none(item) for name, item in value.items() if item is not None}
        case list() | tuple():
            return [_without_none(item) for item in value]
        case _:
            return value
