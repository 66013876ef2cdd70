"""`docs/reloading.md` says of every key what a reload does with it, and says it of no key twice."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
import pytest
from plugins import EchoPlugin, install
from tests.test_configuration_keys import KEYS as WIRED
from tests.test_configuration_keys import document, in_the_first

from tidegate.config import from_document
from tidegate.config.backends import BackendConfig, BreakerConfig, SessionConfig, SourceConfig
from tidegate.config.differing import RESTART, without_restart
from tidegate.config.model import AuthConfig, HistoryConfig, JwtConfig, LimitsConfig, ServerConfig, TokenConfig
from tidegate.config.section import Section
from tidegate.plan import plan

PAGE = (Path(__file__).parents[2] / "docs/reloading.md").read_text(encoding="utf-8")

TABLES: dict[str, type[Section]] = {
    "server": ServerConfig,
    "limits": LimitsConfig,
    "history": HistoryConfig,
    "backends.NAME": BackendConfig,
    "backends.NAME.session": SessionConfig,
    "backends.NAME.breaker": BreakerConfig,
    "sources.TYPE": SourceConfig,
    "auth": AuthConfig,
    "auth.tokens": TokenConfig,
    "auth.jwt": JwtConfig,
}
KEYS = [
    f"{table}.{field.name}"
    for table, section in TABLES.items()
    for field in msgspec.structs.fields(section)
    if f"{table}.{field.name}" not in TABLES
]

RESTARTED = [f"server.{key}" for key in RESTART]


def rows() -> dict[str, str]:
    """What happens, by the name of a key, or of all keys of a table, as the page has it."""
    found: dict[str, str] = {}
    _, _, tables = PAGE.partition("## What happens to each key")
    for line in re.findall(r"^\| .* \|$", tables, flags=re.MULTILINE):
        names, happens, _ = (cell.strip() for cell in line.strip("|").split(" | "))
        for name in re.findall(r"`([a-z]+\.[\w.*]+)`", names):
            assert name not in found, f"{name} has two rows"
            found[name] = happens
    return found


ROWS = rows()


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_one_row(key: str) -> None:
    assert len([name for name in ROWS if fnmatchcase(key, name)]) == 1


def test_every_row_has_a_key() -> None:
    assert [name for name in ROWS if not any(fnmatchcase(key, name) for key in KEYS)] == []


def test_what_needs_a_restart_is_said_of_no_other_key() -> None:
    always = {key for key, happens in ROWS.items() if happens.startswith("**restart**")}
    assert always == {f"server.{key}" for key in RESTART}
    sometimes = {key for key, happens in ROWS.items() if "restart" in happens} - always
    assert sometimes == {"server.tls_cert_file", "server.tls_key_file", "limits.handshake_s"}


def kind(key: str, directory: Path) -> str:
    """What a reload does with `key`, as the page begins to say it."""
    value, _, given = WIRED[key]
    old, new = (
        from_document(document(changes), environ={}, directory=directory)
        for changes in (given, {**given, in_the_first(key): value})
    )
    if without_restart(new, old)[1]:
        return "**restart**"
    if key == "sources.*.backend":
        return "another value"
    before, after = plan(old).backends[0], plan(new).backends[0]
    if after.endpoint.service != before.endpoint.service:
        return "another service"
    if not after.endpoint.is_served_by_session_of(before.endpoint):
        return "new connections to the same service"
    if after.polling.sources[0].is_other_value_than(before.polling.sources[0]):
        return "another value"
    return "other rules"


@pytest.mark.parametrize("key", [key for key in WIRED if key.startswith(("backends.", "sources.")) or key in RESTARTED])
def test_what_happens_is_what_the_parts_are_told(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"echo": EchoPlugin})
    for name in ("old-1", "old-2", "new"):
        (tmp_path / name).touch()
    shown = key.replace("backends.*", "backends.NAME").replace("sources.*", "sources.TYPE")
    [happens] = [happens for name, happens in ROWS.items() if fnmatchcase(shown, name)]
    assert happens.startswith(kind(key, tmp_path))
