"""What of a backend's endpoint asks for another session, and what for another service."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidegate.config import from_document
from tidegate.outbound.backends import opening
from tidegate.outbound.backends.http_backend import HttpBackend
from tidegate.outbound.backends.opening import BackendEndpoint
from tidegate.outbound.clock import SystemClock
from tidegate.plan import plan


def endpoint(source: dict[str, Any] | None = None, **keys: Any) -> BackendEndpoint:
    tables = {"backends": {"b": {"url": "http://b", **keys}}, "sources": {"s": {"backend": "b", "method": "m"}}}
    tables["sources"]["s"] |= source or {}
    return plan(from_document(tables, environ={})).backends[0].endpoint


PERSISTENT = {"url": "ws://b"}


@pytest.mark.parametrize(
    ("changes", "same_session", "same_service"),
    [
        ({}, True, True),
        ({"source": {"interval_s": 30.0}}, True, True),
        ({"response_bytes": 777}, False, True),
        ({"connection_max_s": 7.5}, False, True),
        ({"url": "http://c"}, False, False),
        ({"headers": {"X-A": "k"}}, False, False),
        ({"protocol": "http"}, False, False),
        ({"jsonrpc": "1.0"}, False, False),
        ({"proxy": "http://p:1"}, False, False),
    ],
)
@pytest.mark.parametrize("given", [{}, PERSISTENT], ids=["http", "websocket"])
def test_what_of_an_endpoint_asks_for_what(
    given: dict[str, Any], changes: dict[str, Any], same_session: bool, same_service: bool
) -> None:
    if given and changes.keys() & {"protocol", "jsonrpc", "proxy", "connection_max_s"}:
        pytest.skip("not over a WebSocket")
    old, new = endpoint(**given), endpoint(**{**given, **changes})
    assert new.is_served_by_session_of(old) == same_session
    assert (new.service == old.service) == same_service


def test_a_token_that_texts_have_a_place_for_is_another_session_of_the_same_service() -> None:
    login = {"path": "login", "token": "/t"}
    old, new = endpoint(session=login), endpoint(source={"params": {"token": "{token}"}}, session=login)
    assert old.session is not None
    assert old.session.sends_bearer
    assert not new.is_served_by_session_of(old)
    assert new.service == old.service


async def test_how_long_connections_are_idle_is_changed_in_a_running_session() -> None:
    long, short = endpoint(source={"interval_s": 60.0}), endpoint()
    async with opening.opened(short, SystemClock()) as backend:
        assert isinstance(backend, HttpBackend)
        assert backend._client._pool._idle_s == 10.0
        opening.keep_idle(backend, long)
        assert backend._client._pool._idle_s == 65.0


def test_the_certificates_of_an_endpoint_are_named_by_their_settings() -> None:
    found = msgspec.structs.replace(
        endpoint(), options=msgspec.structs.replace(endpoint().options, ca_file=Path("/ca"), client_key_file=Path("/k"))
    )
    assert found.certificates == {"backends.b.ca_file": Path("/ca"), "backends.b.client_key_file": Path("/k")}
