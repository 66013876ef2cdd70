"""Puts the environment and the command line over what the file says.

Still plain tables: whether a key exists and a value fits is for the reader to say.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping

import msgspec

from tidegate.config.model import (
    AuthConfig,
    BackendConfig,
    HistoryConfig,
    LimitsConfig,
    Section,
    ServerConfig,
)
from tidegate.config.reader import KeyPath, Mistake, Outside, dotted, table_of
from tidegate.core.grant import Role

PREFIX = "TIDEGATE_"
_TABLES: dict[str, type[Section]] = {
    "server": ServerConfig,
    "limits": LimitsConfig,
    "history": HistoryConfig,
    "auth": AuthConfig,
    "backends": BackendConfig,
}
"""Tables whose single values can be set by environment; that of a backend under its name."""

TOKEN_FILE = f"{PREFIX}AUTH__TOKEN_FILE"
"""Names a file with one token that has every role; implies `[auth] mode = "token"`."""

# Kubernetes gives every container these names for a service that is called tidegate.
_SERVICE_LINK = re.compile(rf"{PREFIX}(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_[0-9]+_[A-Z]+(_\w+)?)?)")

Table = Mapping[str, object]


def with_environment(document: Table, environ: Mapping[str, str]) -> tuple[Table, list[Mistake]]:
    """`document` with the variables ``TIDEGATE_SECTION__KEY`` put in, and the names that are no such variable.

    Only keys that hold one value can be set, in tables of the model: what is nested in a value, such as a header, has a
    spelling that names of variables lack.
    """
    mistakes = []
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or _SERVICE_LINK.fullmatch(name):
            continue
        value = Outside(text, name)
        section, *keys = name.removeprefix(PREFIX).lower().split("__")
        if name == TOKEN_FILE:
            document = _with_token(document, value)
        elif section in _TABLES:
            path = _path(document, section, keys)
            if expected := _instead_of(path, document):
                mistakes.append(Mistake((name,), expected, dotted(path)))
            else:
                document = _put(document, path, value)
        else:
            expected = f"a name such as {PREFIX}SERVER__PORT, with one of the sections {', '.join(_TABLES)}"
            mistakes.append(Mistake((name,), expected, "an unknown name in the environment"))
    return document, mistakes


def with_overrides(document: Table, overrides: Table) -> Table:
    """`document` with the values of `overrides` put in; its keys are dotted paths as in TOML. None is no value.

    Raises `tomllib.TOMLDecodeError` for a key that is no dotted path.
    """
    for path, value in overrides.items():
        if value is not None:
            document = _put(document, tuple(_keys(path)), Outside(value, "the command line"))
    return document


def _keys(path: str) -> Iterator[str]:
    table: object = tomllib.loads(f"{path} = 0")
    while isinstance(table, dict):
        key, table = next(iter(table.items()))
        yield key


def _path(document: Table, section: str, keys: list[str]) -> KeyPath:
    """Backend names may hold ``-``, which names of variables can't: ``_`` stands for either."""
    backends = document.get("backends")
    if section == "backends" and keys and isinstance(backends, Mapping):
        keys[0] = next((name for name in backends if name.replace("-", "_") == keys[0]), keys[0])
    return (section, *keys)


def _instead_of(path: KeyPath, document: Table) -> str | None:
    """What is expected instead of `path` where no variable can set that; None where one can.

    Keys that the model lacks, and ends in a table or a list, pass: the reader has the words for them.
    """
    section, *keys = map(str, path)
    table: type[Section] | None = _TABLES[section]
    if section == "backends" and len(keys) > 1:
        name, *keys = keys
        backends = document.get("backends", {})
        if isinstance(backends, Mapping) and name not in backends:
            return f"the name of a configured backend ({', '.join(backends) or 'there is none'})"
    for number, key in enumerate(keys, start=1):
        if table is None:
            return (
                f"a key with one value: {dotted(path[: len(path) - len(keys) + number - 1])} can only be set as a whole"
            )
        hint = {field.name: field.type for field in msgspec.structs.fields(table)}.get(key)
        if hint is None:
            return None
        table = table_of(hint)
    return None


def _with_token(document: Table, file: Outside) -> Table:
    auth = document.get("auth", {})
    tokens = auth.get("tokens", []) if isinstance(auth, Mapping) else None
    if not isinstance(auth, Mapping) or not isinstance(tokens, list):
        return document
    token = {"token_file": file, "roles": [role.value for role in Role]}
    return {**document, "auth": {"mode": "token", **auth, "tokens": [*tokens, token]}}


def _put(table: Table, path: KeyPath, value: Outside) -> Table:
    """A copy of `table` with `value` at `path`. What stands in the way stays, for the reader to refuse."""
    key, rest = str(path[0]), path[1:]
    if not rest:
        return {**table, key: value}
    inner = table.get(key, {})
    return {**table, key: _put(inner, rest, value)} if isinstance(inner, Mapping) else table
