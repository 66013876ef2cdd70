"""Defaults as documented, every key documented, and no secret in a `repr`."""

from pathlib import Path

import msgspec
import pytest
from rich.pretty import pretty_repr

from tidegate.config import (
    AuthConfig,
    BackendConfig,
    BreakerConfig,
    CallConfig,
    Config,
    HistoryConfig,
    JwtConfig,
    LimitsConfig,
    ServerConfig,
    SessionConfig,
    SourceConfig,
    TokenConfig,
    from_document,
)
from tidegate.config.section import Section

SECTIONS: list[type[Section]] = Section.__subclasses__()

DEFAULTS: dict[type[Section], dict[str, object]] = {
    ServerConfig: {
        "host": "127.0.0.1",
        "port": 12080,
        "state_dir": None,
        "allowed_hosts": (),
        "allowed_origins": (),
        "frame_ancestors": (),
        "trusted_proxies": (),
        "root_path": "",
        "tls_cert_file": None,
        "tls_key_file": None,
        "default_types": (),
        "heartbeat_interval_s": 10.0,
        "drain_s": 5.0,
        "drain_min_s": 0.0,
        "max_clients": 10000,
        "allow_no_sources": False,
    },
    LimitsConfig: {
        "message_bytes": 65536,
        "publish_bytes": 1048576,
        "retained_keys": 100000,
        "retained_bytes": 268435456,
        "publishes_per_s": 2000.0,
        "publishes_burst": 5000,
        "event_bytes": 1048576,
        "messages_per_s": 50.0,
        "messages_burst": 100,
        "patterns": 128,
        "connects_per_s": 1000.0,
        "connects_burst": 5000,
        "send_buffer_soft_bytes": 262144,
        "send_buffer_hard_bytes": 4194304,
        "slow_grace_s": 10.0,
        "handshake_s": 10.0,
        "rpc_error_interval_s": 30.0,
    },
    HistoryConfig: {"events": 10000, "bytes": 67108864},
    BreakerConfig: {
        "failure_threshold": 5,
        "open_s": 2.0,
        "open_max_s": None,
        "half_open_successes": 1,
        "heal_s": 30.0,
        "slow_s": None,
        "ignored_codes": (),
        "failure_rate": None,
        "rate_window_s": 60.0,
        "rate_minimum_calls": 10,
    },
    BackendConfig: {
        "socket": None,
        "tls_name": None,
        "proxy": None,
        "protocol": "jsonrpc",
        "jsonrpc": "2.0",
        "timeout_s": 2.0,
        "response_bytes": 8388608,
        "batch": False,
        "connections": 16,
        "connection_max_s": 300.0,
        "retry_s": 1.0,
        "retry_after_max_s": 300.0,
        "headers": {},
        "secrets": {},
        "options": {},
        "bearer_token_file": None,
        "ca_file": None,
        "client_cert_file": None,
        "client_key_file": None,
        "session": SessionConfig(),
        "breaker": BreakerConfig(),
    },
    SourceConfig: {
        "method": None,
        "path": None,
        "params": {},
        "body": None,
        "verb": None,
        "headers": {},
        "success_statuses": (),
        "format": "json",
        "match": (),
        "delimiter": ",",
        "pattern": None,
        "interval_s": 5.0,
        "timeout_s": None,
        "idle_interval_s": None,
        "on_change": False,
        "select": "",
        "items": None,
        "key": None,
        "fields": None,
        "ignore": (),
        "missing": "error",
        "refresh_on": (),
        "stale_repeat": True,
        "max_stale_s": None,
        "breaker": "backend",
    },
    SessionConfig: {
        "url": None,
        "method": None,
        "path": None,
        "params": [],
        "form": None,
        "body": None,
        "verb": None,
        "headers": {},
        "keep": None,
        "token": None,
        "header": None,
        "on_status": (401,),
        "on_code": (),
        "on_connect": (),
    },
    CallConfig: {"params": []},
    TokenConfig: {"token": None, "token_file": None, "roles": ("subscriber",), "types": None},
    JwtConfig: {
        "algorithms": ("RS256",),
        "key_file": None,
        "jwks_url": None,
        "secret_file": None,
        "audience": None,
        "issuer": None,
    },
    AuthConfig: {"mode": "none", "tokens": (), "jwt": None},
    Config: {
        "server": ServerConfig(),
        "limits": LimitsConfig(),
        "history": HistoryConfig(),
        "backends": {},
        "sources": {},
        "auth": AuthConfig(),
    },
}
REQUIRED: dict[type[Section], dict[str, object]] = {
    BackendConfig: {"url": "http://h"},
    SourceConfig: {"backend": "b"},
    CallConfig: {"method": "m"},
}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_defaults(section: type[Section]) -> None:
    required = REQUIRED.get(section, {})
    assert msgspec.structs.asdict(section(**required)) == required | DEFAULTS[section]


def test_nothing_given_is_the_defaults() -> None:
    assert from_document({}, environ={"STATE_DIRECTORY": "/s"}) == Config(server=ServerConfig(state_dir="/s"))


def test_secrets_are_in_no_repr() -> None:
    config = Config(
        backends={
            "b": BackendConfig(
                url="https://user:HIDDEN@h/rpc?api_key=HIDDEN",
                headers={"Authorization": "HIDDEN", "X-Kind": "HIDDEN", "Accept": "plain"},
                session=SessionConfig(
                    url="https://u:HIDDEN@h/?key=HIDDEN",
                    form={"user": "HIDDEN"},
                    body="HIDDEN",
                    headers={"Authorization": "HIDDEN"},
                    params=["HIDDEN"],
                    on_connect=(CallConfig(method="m", params=["HIDDEN"]),),
                ),
            )
        },
        sources={
            "s": SourceConfig(
                backend="b", method="get?token=HIDDEN", params={"login": [{"password": "HIDDEN", "pin": "HIDDEN"}]}
            ),
        },
        auth=AuthConfig(
            tokens=(TokenConfig(token="HIDDEN"),),
            jwt=JwtConfig(jwks_url="https://u:HIDDEN@h/keys"),
        ),
    )
    for text in (repr(config), str(config), pretty_repr(config)):
        assert "HIDDEN" not in text
        assert "plain" in text
        assert "https://***@h/rpc?api_key=***" in text


def test_sections_are_values() -> None:
    assert hash(TokenConfig(token="a", types=("x",))) == hash(TokenConfig(token="a", types=("x",)))
    with pytest.raises(AttributeError):
        ServerConfig().port = 1  # type: ignore[misc]


def test_absolute_paths_stay(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    document = {"backends": {"b": {"url": "http://h", "ca_file": str(tmp_path / "ca.pem")}}}
    config = from_document(document, environ={}, directory=Path("/elsewhere"))
    assert config.backends["b"].ca_file == str(tmp_path / "ca.pem")
