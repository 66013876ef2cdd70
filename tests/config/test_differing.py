"""What differs between two configurations, and what of it a running gateway cannot take on."""

from typing import Any

import msgspec
import pytest

from tidegate.config import Config, from_document
from tidegate.config.differing import differences, unchanged, without_restart
from tidegate.config.fingerprint import config_hash
from tidegate.core.reloads import ChangedNames
from tidegate.errors import ConfigError

TOKEN = "a-token-of-some-length"
OTHER = "another-token-of-some-length"


def config(**tables: Any) -> Config:
    tables["server"] = {"state_dir": "", **tables.get("server", {})}
    return from_document(tables, environ={})


def tokens(*tables: dict[str, Any]) -> dict[str, Any]:
    return {"mode": "token", "tokens": list(tables)}


BASE: dict[str, Any] = {
    "backends": {"b": {"url": "http://b"}, "c": {"url": "http://c"}},
    "sources": {"s": {"backend": "b", "method": "m"}, "disk.usage": {"backend": "c", "method": "n"}},
    "auth": tokens({"token": TOKEN}),
}


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({}, ChangedNames()),
        ({"limits": {"patterns": 7}}, ChangedNames(changed=("limits.patterns",))),
        ({"server": {"port": 7}, "history": {"events": 1}}, ChangedNames(changed=("history.events", "server.port"))),
        (
            {"backends": {"b": {"url": "http://x", "breaker": {"open_s": 1.5}}, "c": {"url": "http://c"}}},
            ChangedNames(changed=("backends.b.breaker.open_s", "backends.b.url")),
        ),
        (
            {"sources": {"s": {"backend": "b", "method": "m"}, "t": {"backend": "b", "method": "m"}}},
            ChangedNames(added=("sources.t",), removed=('sources."disk.usage"',)),
        ),
        (
            {"auth": tokens({"token": OTHER}, {"token": TOKEN, "roles": ["admin"]})},
            ChangedNames(added=("auth.tokens[0]",), changed=("auth.tokens[1].roles",)),
        ),
        ({"auth": tokens({"token": OTHER})}, ChangedNames(added=("auth.tokens[0]",), removed=("auth.tokens[0]",))),
        ({"auth": {}}, ChangedNames(removed=("auth.tokens[0]",), changed=("auth.mode",))),
        (
            {"auth": {"mode": "jwt", "jwt": {"jwks_url": "https://i/keys"}}},
            ChangedNames(removed=("auth.tokens[0]",), changed=("auth.jwt", "auth.mode")),
        ),
    ],
)
def test_what_differs_is_named(tables: dict[str, Any], expected: ChangedNames) -> None:
    old, new = config(**BASE), config(**{**BASE, **tables})
    assert differences(old, new) == expected
    back = differences(new, old)
    assert (len(back.added), len(back.removed)) == (len(expected.removed), len(expected.added))
    assert bool(expected) == (old != new)


def test_what_a_table_may_have_is_found_once_for_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand sources were looked at for almost a second otherwise, in which no event was delivered."""
    found, fields = list[object](), msgspec.structs.fields

    def noted(section: Any) -> Any:
        found.append(section)
        return fields(section)

    backends = {"b": {"url": "http://b"}}
    names = [f"s{number}" for number in range(50)]
    old, new = (
        config(backends=backends, sources={name: {"backend": "b", "method": method} for name in names})
        for method in ("m", "n")
    )
    monkeypatch.setattr("msgspec.structs.fields", noted)
    assert len(differences(old, new).changed) == len(names)
    assert len(found) < len(names)


def test_no_secret_is_in_the_names() -> None:
    assert TOKEN not in repr(differences(config(), config(**BASE)))


def test_how_many_backends_and_sources_are_unchanged() -> None:
    sources = {"s": {"backend": "b", "method": "m"}, "disk.usage": {"backend": "b", "method": "n"}}
    assert unchanged(config(**BASE), config(**BASE)) == 4
    assert unchanged(config(**BASE), config(**{**BASE, "sources": sources})) == 3
    assert unchanged(config(**BASE), config()) == 0


def test_what_needs_a_restart_stays_as_it_was_started() -> None:
    started = config(server={"port": 1, "root_path": "/a"})
    wanted = config(server={"port": 2, "root_path": "/a", "host": "::1", "max_clients": 7})
    found, keys = without_restart(wanted, started)
    assert keys == ("server.host", "server.port")
    assert found == config(server={"port": 1, "root_path": "/a", "max_clients": 7})


def test_tls_can_neither_begin_nor_end(tmp_path: Any) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()

    def with_tls(name: str, **limits: object) -> Config:
        files = {"tls_cert_file": str(tmp_path / name), "tls_key_file": str(tmp_path / name)}
        return config(server=files, limits=limits)

    keys = ("server.tls_cert_file", "server.tls_key_file")
    assert without_restart(with_tls("a"), config()) == (config(), keys)
    assert without_restart(config(), with_tls("a")) == (with_tls("a"), keys)
    assert without_restart(with_tls("b"), with_tls("a")) == (with_tls("b"), ())
    slower = with_tls("a", handshake_s=7.5)
    assert without_restart(slower, with_tls("a")) == (slower, ("limits.handshake_s",))


def test_an_address_for_all_does_not_go_on_without_tokens() -> None:
    started = config(server={"host": "0.0.0.0"}, auth=tokens({"token": TOKEN}))
    with pytest.raises(ConfigError, match=r'server\.host: .* got "0\.0\.0\.0" .* in force until the restart'):
        without_restart(config(), started)


def test_equal_configurations_have_the_same_hash_whatever_their_order() -> None:
    turned = {**BASE, "sources": dict(reversed(BASE["sources"].items())), "limits": {"patterns": 128}}
    assert config_hash(config(**BASE)) == config_hash(config(**turned))
    assert len(config_hash(config())) == 16


@pytest.mark.parametrize("tables", [{"limits": {"patterns": 7}}, {"auth": tokens({"token": OTHER})}])
def test_other_values_and_other_secrets_have_another_hash(tables: dict[str, Any]) -> None:
    assert config_hash(config(**BASE)) != config_hash(config(**{**BASE, **tables}))
