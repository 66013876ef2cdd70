"""`docs/configuration.md` says of every key what the configuration's model says."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_origin

import msgspec
import pytest

from tidegate.cli import environment
from tidegate.config import load
from tidegate.config.backends import BackendConfig, BreakerConfig, CallConfig, SessionConfig, SourceConfig
from tidegate.config.layers import with_environment
from tidegate.config.model import AuthConfig, HistoryConfig, JwtConfig, LimitsConfig, ServerConfig, TokenConfig
from tidegate.config.reader import Outside
from tidegate.config.section import Section

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")

TABLES: Mapping[str, type[Section]] = {
    "[server]": ServerConfig,
    "[limits]": LimitsConfig,
    "[history]": HistoryConfig,
    "[backends.NAME]": BackendConfig,
    "[backends.NAME.session]": SessionConfig,
    "[[backends.NAME.session.on_connect]]": CallConfig,
    "[backends.NAME.breaker]": BreakerConfig,
    '[sources."TYPE"]': SourceConfig,
    "[auth]": AuthConfig,
    "[[auth.tokens]]": TokenConfig,
    "[auth.jwt]": JwtConfig,
}
HAVE_HEADINGS = {
    (BackendConfig, "session"),
    (SessionConfig, "on_connect"),
    (BackendConfig, "breaker"),
    (AuthConfig, "tokens"),
    (AuthConfig, "jwt"),
}
"""Keys that are tables, under headings of their own."""

SET_BY_ENVIRONMENT = {
    ServerConfig: "SERVER",
    LimitsConfig: "LIMITS",
    HistoryConfig: "HISTORY",
    BackendConfig: "BACKENDS__NAME",
    SessionConfig: "BACKENDS__NAME__SESSION",
    BreakerConfig: "BACKENDS__NAME__BREAKER",
    AuthConfig: "AUTH",
    JwtConfig: "AUTH__JWT",
}
UNITS = {"_per_s": "per second", "_s": "s", "bytes": "bytes", "failure_rate": "share"}


class Row(NamedTuple):
    section: type[Section]
    key: str
    default: str
    unit: str
    meaning: str
    variable: str

    @property
    def field(self) -> msgspec.structs.FieldInfo:
        return next(field for field in msgspec.structs.fields(self.section) if field.name == self.key)


def rows() -> list[Row]:
    found = []
    for title, text in re.findall(r"^## `([^\n]*)`$(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL):
        for line in re.findall(r"^\| `.*\|$", text, flags=re.MULTILINE):
            key, default, unit, meaning, variable = (cell.strip() for cell in line.strip("|").split(" | "))
            found.append(Row(TABLES[title], key.strip("`"), default, unit, meaning, variable.strip("`")))
    return found


ROWS = rows()
PER_ROW = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section.__name__}.{row.key}")


def test_every_key_has_a_row_and_every_row_a_key_in_the_models_order() -> None:
    keys = [
        (section, field.name)
        for section in TABLES.values()
        for field in msgspec.structs.fields(section)
        if (section, field.name) not in HAVE_HEADINGS
    ]
    assert [(row.section, row.key) for row in ROWS] == keys


@PER_ROW
def test_its_default_is_the_models(row: Row) -> None:
    if row.field.required:
        assert row.default == "required"
        return
    factory = row.field.default_factory
    default: Any = row.field.default if factory is msgspec.NODEFAULT else factory()
    if default is None:
        assert row.default == "absent"
    else:
        shown = tomllib.loads(f"it = {row.default.strip('`')}")["it"]
        assert shown == (list(default) if isinstance(default, tuple) else default)
        assert type(shown) is type(list(default) if isinstance(default, tuple) else default)


@PER_ROW
def test_it_has_its_unit_and_a_meaning(row: Row) -> None:
    assert row.unit == next((unit for ending, unit in UNITS.items() if row.key.endswith(ending)), "–")
    assert row.meaning.endswith(".")


def is_scalar(hint: object) -> bool:
    """Whether a key of type `hint` holds one value, and so can be set by environment."""
    if getattr(hint, "__metadata__", None):
        return is_scalar(hint.__origin__)  # type: ignore[attr-defined]
    if get_origin(hint) is Literal:
        return True
    kinds = [kind for kind in getattr(hint, "__args__", ()) if kind is not type(None)]
    if get_origin(hint) in {dict, list, tuple}:
        return False
    return all(map(is_scalar, kinds)) if kinds else hint in {str, int, float, bool}


@PER_ROW
def test_its_variable_sets_it(row: Row) -> None:
    prefix = SET_BY_ENVIRONMENT.get(row.section)
    if prefix is None or not is_scalar(row.field.type):
        assert row.variable == "–"
        return
    assert row.variable == f"TIDEGATE_{prefix}__{row.key.upper()}"
    document, findings = with_environment({"backends": {"name": {}}}, {row.variable: "text"})
    assert findings == []
    value: Any = document
    for name in [*prefix.lower().split("__"), row.key]:
        value = value[name]
    assert value == Outside("text", row.variable)


def test_the_variables_of_the_command_line_are_named() -> None:
    for name in (environment.URL, environment.TOKEN, environment.ENGINE_URL, environment.LOG_LEVEL):
        assert f"`{name}`" in PAGE


def test_its_examples_load(tmp_path: Path) -> None:
    example, *others = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    for name in ("token", "syncthing.key", "truenas.key", "qbittorrent.password"):
        (tmp_path / name).write_text("t")
    (tmp_path / "tidegate.toml").write_text(example)
    config = load(tmp_path / "tidegate.toml", environ={})
    assert list(config.sources) == ["nas.status", "nas.disk"]
    assert config.auth.tokens[0].token_file == str(tmp_path / "token")
    for other in others:
        (tmp_path / "tidegate.toml").write_text(other)
        assert load(tmp_path / "tidegate.toml", environ={}).backends
