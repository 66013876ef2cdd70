"""The example of a configuration has a backend of each plug-in that is installed."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins import EchoPlugin, install

from tidegate.backends import Secret
from tidegate.config import from_document
from tidegate.config.plugin_examples import plugin_examples


class Options(msgspec.Struct, kw_only=True):
    host: str
    port: int = 3493
    password: Secret | None = None
    state: Path = Path("/state")
    servers: list[dict[str, Any]] = []


class Plugin(EchoPlugin):
    Options = Options


def test_it_has_the_options_of_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> object:
        raise ImportError("no such library")

    install(monkeypatch, {"echo": Plugin, "broken": broken})
    lines = [line.partition(" # ")[0].rstrip() for line in plugin_examples().splitlines()]
    assert lines == [
        "",
        '# A backend of the plug-in "echo" of tidegate-test 1.2, which is installed.',
        "#[backends.NAME]",
        '#protocol = "echo"',
        "#[backends.NAME.options]",
        "#host = …",
        "#port = 3493",
        "#password = …",
        '#state = "/state"',
        "#servers = []",
    ]


def test_it_can_be_used_once_the_rest_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"echo": Plugin})
    text = "".join(f"{line[1:]}\n" for line in plugin_examples().splitlines()[2:] if "password" not in line)
    document = tomllib.loads(text.replace("NAME", "b").replace("…", '"h"'))
    assert from_document(document, environ={}).backends["b"].options["host"] == "h"


def test_nothing_is_added_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {})
    assert plugin_examples() == ""
