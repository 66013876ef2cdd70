"""The configurations to start from load, and the example leaves no key out."""

import re
import tomllib
from pathlib import Path

import pytest

from tidegate.config import EXAMPLE, Config, demo_config, load
from tidegate.config.section import Section
from tidegate.errors import ConfigError


def uncommented() -> str:
    return re.sub(r"^#(?=[a-z\[])", "", EXAMPLE, flags=re.MULTILINE)


def test_the_example_loads(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    path.write_text(EXAMPLE)
    config = load(path, environ={})
    assert list(config.backends) == ["engine"]
    assert list(config.sources) == ["system.status"]


def test_the_settings_in_its_comments_load_too(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    path.write_text(uncommented())
    for name in ("bearer", "ca.pem", "client.pem", "client.key", "server.pem", "server.key", "token", "jwt.pub"):
        (tmp_path / name).touch()
    assert load(path, environ={}).auth.jwt is not None


def test_the_example_names_every_key() -> None:
    named = set(re.findall(r"^#?([a-z_]+) = ", EXAMPLE, flags=re.MULTILINE))
    named |= set(re.findall(r"\w+", " ".join(re.findall(r"^#?\[.*?\]", EXAMPLE, flags=re.MULTILINE))))
    keys = {key for section in Section.__subclasses__() for key in section.__struct_fields__}
    assert keys - named == {"jwks_url", "secret_file", "token"} - named
    assert all(word in EXAMPLE for word in ("jwks_url", "secret_file", 'token = "…"'))


DEFAULTED = ("server", "limits", "history")


@pytest.mark.parametrize("section", DEFAULTED)
def test_commented_values_are_the_defaults(section: str) -> None:
    defaults = getattr(Config(), section)
    for key, value in tomllib.loads(uncommented())[section].items():
        default = getattr(defaults, key)
        expected = list(default) if isinstance(default, tuple) else default
        assert default is None or value == expected


def test_demo() -> None:
    config = demo_config("http://127.0.0.1:9/rpc", environ={"HOME": "/h"}, overrides={"server.port": 1})
    assert config.server.port == 1
    assert config.backends["engine"].url == "http://127.0.0.1:9/rpc"
    assert config.backends["engine"].batch
    assert {name: (source.method, source.items, source.interval_s) for name, source in config.sources.items()} == {
        "system.status": ("system.status", None, 2.0),
        "storage.update": ("storage.status", "/volumes", 2.0),
        "compression.update": ("compression.list", "/jobs", 1.0),
        "agent.status": ("agents.list", "/agents", 1.0),
    }
    lists = [source for source in config.sources.values() if source.items]
    assert {(source.key, source.on_change) for source in lists} == {("id", True)}


def test_demo_stays_on_loopback() -> None:
    with pytest.raises(ConfigError, match=r"server\.host"):
        demo_config("http://127.0.0.1:9/rpc", environ={}, overrides={"server.host": "0.0.0.0"})
