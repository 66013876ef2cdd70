"""Merges the environment and the command line into the tables of the file; both take precedence over it.

The result is still plain tables. The reader checks later whether keys exist and values are valid.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping

import msgspec

from tidegate.config.backends import BackendConfig
from tidegate.config.model import AuthConfig, HistoryConfig, LimitsConfig, ServerConfig
from tidegate.config.reader import KeyPath, Mistake, Outside, dotted, table_of
from tidegate.config.section import Section
from tidegate.core.access.grant import Role

PREFIX = "TIDEGATE_"
_TABLES: dict[str, type[Section]] = {
    "server": ServerConfig,
    "limits": LimitsConfig,
    "history": HistoryConfig,
    "auth": AuthConfig,
    "backends": BackendConfig,
}
"""The tables whose values can be set in the environment. For a backend, its name comes between table and key."""

TOKEN_FILE = f"{PREFIX}AUTH__TOKEN_FILE"
"""The variable that names a file with one token that has all roles. It implies `[auth] mode = "token"`."""

# Kubernetes sets these variables in every container if a service is called tidegate. They are not configuration.
_SERVICE_LINK = re.compile(rf"{PREFIX}(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_[0-9]+_[A-Z]+(_\w+)?)?)")

Table = Mapping[str, object]


def with_environment(document: Table, environ: Mapping[str, str]) -> tuple[Table, list[Mistake]]:
    """Return `document` with the variables ``TIDEGATE_SECTION__KEY`` merged in, and the mistakes in their names.

    Only keys of the model's tables can be set. Keys inside a value, such as the name of a header, cannot, because they
    may contain characters that names of variables cannot.
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
    """Return `document` with `overrides` merged in. Their keys are dotted paths as in TOML; None means not given.

    Raises `tomllib.TOMLDecodeError` for a key that is not a dotted path.
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
    """Return the path that a variable names. In a backend's name, ``_`` also stands for ``-``, which variables lack."""
    backends = document.get("backends")
    if section == "backends" and keys and isinstance(backends, Mapping):
        keys[0] = next((name for name in backends if name.replace("-", "_") == keys[0]), keys[0])
    return (section, *keys)


def _instead_of(path: KeyPath, document: Table) -> str | None:
    """Return what is expected instead of `path` if a variable cannot set it, else None.

    Unknown keys, and keys that hold a table or a list, are accepted here. The reader reports them.
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
    """Return a copy of `table` with `value` at `path`.

    If a value on the way is not a table, it is left in place, and the reader reports it.
    """
    key, rest = str(path[0]), path[1:]
    if not rest:
        return {**table, key: value}
    inner = table.get(key, {})
    return {**table, key: _put(inner, rest, value)} if isinstance(inner, Mapping) else table
