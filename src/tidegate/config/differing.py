"""The differences between two configurations, by the keys that a user knows, and what of them needs a restart."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final, NamedTuple

import msgspec

from tidegate.config import rules
from tidegate.config.model import Config
from tidegate.config.reader import KeyPath, dotted
from tidegate.config.section import Section
from tidegate.core.reloads import ChangedNames
from tidegate.errors import ConfigError, Problem

RESTART = ("host", "port", "state_dir", "root_path")
"""The keys of ``[server]`` that a running gateway cannot change."""

TLS = ("tls_cert_file", "tls_key_file")
"""A running gateway can show another certificate, but not begin or end to use TLS."""


def without_restart(wanted: Config, started: Config) -> tuple[Config, tuple[str, ...]]:
    """Return what a gateway can take on of `wanted` that was started with `started`, and the keys that need a restart.

    Raises `ConfigError` if what is kept of `started` contradicts the rest of `wanted`.
    """
    keys = list(RESTART)
    if (wanted.server.tls_cert_file is None) != (started.server.tls_cert_file is None):
        keys += TLS
    kept = {key: getattr(started.server, key) for key in keys}
    needs = [f"server.{key}" for key, value in kept.items() if getattr(wanted.server, key) != value]
    if started.server.tls_cert_file is not None and wanted.limits.handshake_s != started.limits.handshake_s:
        needs.append("limits.handshake_s")  # the listener has it for the handshake of TLS
    found = msgspec.structs.replace(wanted, server=msgspec.structs.replace(wanted.server, **kept))
    for mistake in rules.across(found, backends=found.backends, is_clean=lambda _: True):
        got = f"{mistake.got}, and the former is in force until the restart"
        raise ConfigError([Problem(dotted(mistake.path), mistake.expected, got)])
    return found, tuple(needs)


def differences(old: Config, new: Config, *, renewed: Iterable[str] = ()) -> ChangedNames:
    """Return what differs between `old` and `new`. Tokens have no names: they are the same if their text or file is.

    `renewed` are keys with the names of files that have another content.
    """
    before, after = _named(old), _named(new)
    changed = set(_differing((), old, new))
    for name in before.keys() & after.keys():
        changed |= set(_differing(after[name].path, before[name].table, after[name].table))
    return ChangedNames(
        added=_shown(after[name].path for name in after.keys() - before.keys()),
        removed=_shown(before[name].path for name in before.keys() - after.keys()),
        changed=tuple(sorted({*_shown(changed), *renewed})),
    )


def unchanged(old: Config, new: Config) -> int:
    """Return how many backends and sources are in both and equal."""
    tables = ((old.backends, new.backends), (old.sources, new.sources))
    return sum(after.get(name) == table for before, after in tables for name, table in before.items())


class _Named(NamedTuple):
    """A table of which there may be several, and where it stands."""

    path: KeyPath
    table: Section


def _named(config: Config) -> dict[object, _Named]:
    """Return the tables of which there may be several, by what identifies each."""
    found: dict[object, _Named] = {}
    for kind, tables in (("backends", config.backends), ("sources", config.sources)):
        found |= {(kind, name): _Named((kind, name), table) for name, table in tables.items()}
    for number, token in enumerate(config.auth.tokens):
        found[token.token, token.token_file] = _Named(("auth", "tokens", number), token)
    return found


def _differing(path: KeyPath, old: Section, new: Section) -> Iterator[KeyPath]:
    """Yield the keys of a table at `path` whose values differ, without the tables of `_named`."""
    if old == new:
        return
    for name, encoded_name in _fields(type(old)):
        before, after = getattr(old, name), getattr(new, name)
        key = (*path, encoded_name)
        if isinstance(before, Section) and isinstance(after, Section):
            yield from _differing(key, before, after)
        elif before != after and key not in _OF_NAMED:
            yield key


@cache
def _fields(section: type[Section]) -> tuple[tuple[str, str], ...]:
    """The attribute and the key of each field. To find them takes longer than to compare two tables."""
    return tuple((field.name, field.encode_name) for field in msgspec.structs.fields(section))


_OF_NAMED: Final = {("backends",), ("sources",), ("auth", "tokens")}


def _shown(paths: Iterable[KeyPath]) -> tuple[str, ...]:
    return tuple(sorted(map(dotted, paths)))
