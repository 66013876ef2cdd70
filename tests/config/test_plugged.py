"""What a configuration says of a plug-in is checked, completed, shown and described, its mistakes told in our form."""

import sys
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest
from plugins import EchoPlugin, install

from tidegate.backends import Secret
from tidegate.config import Config, from_document, schema, show
from tidegate.errors import ConfigError


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str
    ports: list[int] = []


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 3493
    mode: Literal["a", "b"] = "a"
    password: Secret | None = None
    state: Path | None = None
    servers: list[Server] = []
    since: date | None = None
    word: Annotated[str, msgspec.Meta(pattern="^[a-z]+$")] = "x"

    def __post_init__(self) -> None:
        if self.host == "nowhere":
            raise ValueError("expected host to be somewhere")
        if self.host == "reveal" and self.password:
            self.password.reveal()
        if self.host == "exit":
            sys.exit(3)


class Plugin(EchoPlugin):
    Options = Options


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"echo": Plugin})


def read(options: Mapping[str, Any], directory: Path | None = None, /, **keys: Any) -> Config:
    backend = {"protocol": "echo", "options": options, **keys}
    return from_document(
        {"server": {"state_dir": ""}, "backends": {"b": backend}}, environ={}, directory=directory or Path()
    )


def problems(options: Mapping[str, Any], /, **keys: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(options, **keys)
    return [str(each).removeprefix("backends.b.") for each in refused.value.problems]


NO = 'expected no such key, because protocol is "echo", a plug-in: it has [options], got one'
TAKES = 'what "echo" of tidegate-test 1.2 takes'


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, ["options.host: expected text, got nothing"]),
        (
            {"host": 1, "port": "x"},
            [
                "options.host: expected text, got 1",
                'options.port: expected a whole number from 1 to 65535, got "x"',
            ],
        ),
        ({"host": "h", "hist": "x"}, ["options.hist: expected a known key (did you mean 'host'?), got an unknown one"]),
        ({"host": "h", "port": 0}, ["options.port: expected a whole number >= 1, got 0"]),
        ({"host": "h", "mode": "c"}, ['options.mode: expected one of "a", "b", got "c"']),
        ({"host": "h", "word": "A"}, ["options.word: expected text matching regex '^[a-z]+$', got \"A\""]),
        ({"host": "h", "servers": [{"host": 1}]}, ["options.servers[0].host: expected text, got 1"]),
        (
            {"host": "h", "servers": [{"host": "a", "ports": [1, "x"]}]},
            ['options.servers[0].ports[1]: expected a whole number, got "x"'],
        ),
        ({"host": "h", "state": 1}, ["options.state: expected a path, got 1"]),
        ({"host": "nowhere"}, [f"options: expected {TAKES}, got expected host to be somewhere"]),
        (
            {"host": "h", "password": "S3CRET"},
            [
                (
                    "options.password: expected text with a secret of [backends.NAME.secrets] in braces "
                    "(there is none), got text without one (not shown)"
                )
            ],
        ),
    ],
    ids=str,
)
def test_a_mistake_in_the_options_is_told_with_its_path_what_was_expected_and_what_came(
    options: Mapping[str, Any], found: list[str]
) -> None:
    assert problems(options) == found


def test_whatever_a_check_of_the_plug_in_raises_is_a_problem_with_its_place() -> None:
    (found,) = problems({"host": "exit"})
    assert found.startswith('options: expected options that "echo" of tidegate-test 1.2 can check, got SystemExit: 3 (')
    assert f"{Path(__file__).name}, line " in found


def test_options_are_completed_and_survive_being_shown(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("S3CRET")
    config = read(
        {"host": "h", "password": "{pw}", "state": "data", "since": date(2026, 1, 2)},
        tmp_path,
        secrets={"pw_file": "pw"},
    )
    assert config.backends["b"].options == {
        "host": "h",
        "port": 3493,
        "mode": "a",
        "password": "{pw}",
        "state": str(tmp_path / "data"),
        "servers": [],
        "since": "2026-01-02",
        "word": "x",
    }
    text = show(config)
    assert "S3CRET" not in text
    assert '"{pw}"' in text
    assert from_document(tomllib.loads(text), environ={}) == config


def test_a_secret_that_is_needed_too_early_is_a_problem(tmp_path: Path) -> None:
    (found,) = problems({"host": "reveal", "password": "{pw}"}, secrets={"pw_env": "PW"})
    assert "expected nobody to need the secret 'pw' before the first call" in found


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"url": "http://h"}, f"url: {NO}"),
        ({"headers": {"A": "b"}}, f"headers: {NO}"),
        (
            {"batch": True},
            'batch: expected false, because "echo" of tidegate-test 1.2 takes one call at a time, got true',
        ),
        ({"connection_max_s": 5.0}, f"connection_max_s: {NO}"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_keys_that_do_nothing_for_a_plug_in_are_refused(keys: Mapping[str, Any], found: str) -> None:
    assert problems({"host": "h"}, **keys) == [found]


def test_a_plug_in_with_the_name_of_a_built_in_is_a_problem_where_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"http": Plugin})
    (found,) = problems({}, protocol="http", url="http://h")
    assert found.startswith('protocol: expected no plug-in of the name "http", which is built in, got one of tidegate-')


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ({"path": "x"}, "path: expected no such key, because backend"),
        ({"method": "x", "body": {}}, "body: expected no such key, because backend"),
        ({"method": "x", "format": "csv"}, "format: expected no such key, because backend"),
        ({"method": "x", "refresh_on": ["x"], "params": {"a": 1}}, None),
    ],
)
def test_sources_of_plug_ins_have_method_params_and_hints(source: Mapping[str, Any], found: str | None) -> None:
    tables = {
        "backends": {"b": {"protocol": "echo", "options": {"host": "h"}}},
        "sources": {"a.x": {"backend": "b", **source}},
    }
    if found is None:
        assert from_document(tables, environ={}).sources["a.x"].params == {"a": 1}
        return
    with pytest.raises(ConfigError) as refused:
        from_document(tables, environ={})
    assert str(refused.value.problems[0]).startswith(f'sources."a.x".{found}')


def test_a_secret_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (found,) = problems({"host": "h"}, secrets={"pw_file": "/nowhere/pw"})
    assert found.startswith("secrets.pw_file: expected a file that exists")
    assert found.endswith('got "/nowhere/pw" (looked at /nowhere/pw)')


def test_a_protocol_that_nobody_has_lists_what_is_installed() -> None:
    (found,) = problems({}, protocol="ecko")
    assert found == (
        'protocol: expected one of "jsonrpc", "http", "echo", or the name of a plug-in that is installed, got "ecko"'
    )


def test_options_are_refused_elsewhere() -> None:
    (found,) = problems({"a": 1}, protocol="http", url="http://h")
    assert found == 'options: expected no such table, because protocol is "http": it is for plug-ins, got one'


def test_a_built_in_protocol_needs_a_url() -> None:
    (found,) = problems({}, protocol="http")
    assert found.startswith("url: expected a URL: ")
    assert found.endswith(', because protocol is "http", got nothing')


def test_only_the_plug_ins_that_are_named_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> object:
        raise AssertionError("expected nobody to import it")

    install(monkeypatch, {"echo": Plugin, "other": never})
    read({"host": "h"})


def test_the_schema_has_the_options_of_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> object:
        raise ImportError("no such library")

    install(monkeypatch, {"echo": Plugin, "broken": broken})
    described = schema()
    jsonschema.Draft202012Validator.check_schema(described)

    def is_valid(options: Mapping[str, Any], protocol: str = "echo") -> bool:
        document = {"backends": {"b": {"protocol": protocol, "options": options}}}
        return jsonschema.Draft202012Validator(described).is_valid(document)

    assert is_valid({"host": "h", "password": "{pw}", "servers": [{"host": "a"}]})
    assert not is_valid({"host": 1})
    assert not is_valid({"host": "h", "servers": [{}]})
    assert is_valid({"host": 1}, protocol="broken"), "nothing is known of it"
