"""What `show` prints loads again; what `schema` says agrees with what is loaded."""

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.config import EXAMPLE, BackendConfig, Config, SourceConfig, TokenConfig, from_document, schema, show
from tidegate.config.model import AuthConfig, ServerConfig
from tidegate.config.section import Section
from tidegate.errors import ConfigError

ENVIRON = {"HOME": "/h"}


def again(config: Config) -> Config:
    return from_document(tomllib.loads(show(config)), environ={})


FULL = Config(
    server=ServerConfig(host="0.0.0.0", state_dir="", allowed_hosts=("a", "b")),
    backends={"b-1": BackendConfig(url="http://h/", headers={"Accept": 'a "b" \\ é'})},
    sources={
        "system.status": SourceConfig(
            backend="b-1", method="m", params={"a b": [1, 2.5, True, {"c\t\x7f\u2028": 1}], "": {}}, interval_s=1e-7
        ),
        "plain": SourceConfig(backend="b-1", method="m", items="", key="id", max_stale_s=1e7),
    },
    auth=AuthConfig(mode="token", tokens=(TokenConfig(token="***", types=()), TokenConfig(token="***"))),
)


@pytest.mark.parametrize("config", [Config(server=ServerConfig(state_dir="")), FULL], ids=["defaults", "full"])
def test_shown_and_loaded_again_it_is_the_same(config: Config) -> None:
    assert again(config) == config


def test_secrets_are_masked() -> None:
    backend = BackendConfig(
        url="https://u:HIDDEN@h/rpc?key=HIDDEN&api-key=HIDDEN", headers={"X-Auth": "HIDDEN", "Accept": "seen"}
    )
    source = SourceConfig(
        backend="b",
        method="query?q=HIDDEN",
        params={"user": "HIDDEN", "list": ["HIDDEN", {"of": "HIDDEN"}], "pin": 1, "password": 2},
    )
    auth = AuthConfig(mode="token", tokens=(TokenConfig(token="HIDDEN"),))
    config = Config(server=ServerConfig(state_dir=""), backends={"b": backend}, sources={"s": source}, auth=auth)
    text = show(config)
    assert "HIDDEN" not in text
    masked = again(config)
    assert masked.backends["b"].url == "https://***@h/rpc?key=***&api-key=***"
    assert masked.backends["b"].headers == {"X-Auth": "***", "Accept": "seen"}
    assert masked.sources["s"].method == "query?q=***"
    assert masked.sources["s"].params == {"user": "***", "list": ["***", {"of": "***"}], "pin": 1, "password": "***"}
    assert masked.auth.tokens[0].token == "***"


JSON = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(params=st.dictionaries(st.sampled_from(["a", "b c", "é", "", '"', "a.b"]), JSON))
def test_any_params_survive(params: dict[str, Any]) -> None:
    config = Config(
        server=ServerConfig(state_dir=""),
        backends={"b": BackendConfig(url="http://h")},
        sources={"s": SourceConfig(backend="b", method="m", params=params)},
    )
    hidden = config.sources["s"].public()["params"] != params
    assert hidden or again(config) == config


def test_what_toml_cannot_say_is_a_type_error() -> None:
    config = Config(sources={"s": SourceConfig(backend="b", method="m", params={"a": None})})
    with pytest.raises(TypeError, match="no value for None"):
        show(config)


class TestSchema:
    validator = jsonschema.Draft202012Validator(schema())

    def test_is_a_schema(self) -> None:
        jsonschema.Draft202012Validator.check_schema(schema())

    def test_accepts_what_loads(self) -> None:
        assert list(self.validator.iter_errors(tomllib.loads(EXAMPLE))) == []
        assert list(self.validator.iter_errors(tomllib.loads(show(FULL)))) == []

    @pytest.mark.parametrize(
        "text", ["nope = 1", "server.port = 65536", "backends.b.url = 1", 'auth.mode = "x"', "server.drain_s = -1"]
    )
    def test_refuses_what_does_not_load(self, text: str) -> None:
        assert not self.validator.is_valid(tomllib.loads(text))
        with pytest.raises(ConfigError):
            from_document(tomllib.loads(text), environ={})

    def test_every_key_is_described(self) -> None:
        document = schema()
        tables = {"Config": document, **document["$defs"]}
        described = {
            (name, key): value.get("description", "")
            for name, table in tables.items()
            for key, value in table["properties"].items()
        }
        fields = {(s.__name__, field.name) for s in Section.__subclasses__() for field in msgspec.structs.fields(s)}
        assert set(described) == fields
        assert not [path for path, text in described.items() if not text or text.startswith("Expected")]
        assert document["description"] == "A whole configuration."
        state_dir = tables["ServerConfig"]["properties"]["state_dir"]["description"]
        assert state_dir.startswith("Directory for the last good values.")
        assert state_dir.endswith("off.")


def test_paths_are_shown_as_they_were_resolved(tmp_path: Path) -> None:
    (tmp_path / "ca").touch()
    document = {"server": {"state_dir": ""}, "backends": {"b": {"url": "http://h", "ca_file": "ca"}}}
    config = from_document(document, environ=ENVIRON, directory=tmp_path)
    assert f'ca_file = "{tmp_path / "ca"}"' in show(config)
    assert again(config) == config
