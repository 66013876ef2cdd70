"""Which keys go with which address."""

from pathlib import Path

import pytest

from tidegate.config import Config, from_document
from tidegate.errors import ConfigError


def loaded(backend: dict[str, object], source: dict[str, object] | None = None) -> Config:
    sources = {} if source is None else {"s": {"backend": "b", "method": "m"} | source}
    return from_document({"backends": {"b": backend}, "sources": sources}, environ={})


def refused(backend: dict[str, object], source: dict[str, object] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(backend, source)
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ws://h",
        "wss://user:pw@h:8443/api/current?x=1",
        "tcp://127.0.0.1:6640",
        "tcp://[::1]:6640",
        "tcp://switch.lan:6640",
        "unix:///run/openvswitch/db.sock",
        "unix:///" + "x" * 106,
    ],
)
def test_addresses_of_connections_that_last_are_taken(url: str) -> None:
    assert loaded({"url": url}, {"refresh_on": ["update"]}).backends["b"].url == url


@pytest.mark.parametrize(
    "url",
    [
        "ws://",
        "ws://h/#x",
        "tcp://h",
        "tcp://h:0",
        "tcp://h:99999",
        "tcp://h:1/path",
        "tcp://u@h:1",
        "tcp://h:1?x",
        "unix://run/x",
        "unix:/run/x",
        "unix:///" + "x" * 107,
        "unix:///a\nb",
        "udp://h:1",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    assert refused({"url": url}).startswith("backends.b.url: expected a URL: http://")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"protocol": "http"}, 'b.protocol: expected "jsonrpc", because url begins with SCHEME://, got "http"'),
        (
            {"proxy": "http://p:1"},
            "b.proxy: expected no such key, because a connection to SCHEME:// leads through none",
        ),
        ({"connection_max_s": 60.0}, "b.connection_max_s: expected no such key, because a connection to SCHEME://"),
    ],
)
@pytest.mark.parametrize("url", ["ws://h", "wss://h", "tcp://h:1", "unix:///s"])
def test_what_no_connection_that_lasts_has_is_refused(keys: dict[str, object], expected: str, url: str) -> None:
    assert expected.replace("SCHEME", url.partition(":")[0]) in refused({"url": url} | keys)


@pytest.mark.parametrize("url", ["tcp://h:1", "unix:///s"])
def test_a_byte_stream_has_neither_headers_nor_tls(tmp_path: Path, url: str) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    path = str(file)
    keys: dict[str, object] = {
        "bearer_token_file": path,
        "ca_file": path,
        "client_cert_file": path,
        "client_key_file": path,
    }
    lines = refused({"url": url, "headers": {"X-A": "b"}} | keys).splitlines()
    scheme = url.partition(":")[0]
    because = f"expected no such key, because a connection to {scheme}:// has neither headers nor TLS, got one"
    assert lines == [f"backends.b.{key}: {because}" for key in ("headers", *keys)]
    loaded({"url": "wss://h", "headers": {"X-A": "b"}} | keys)


@pytest.mark.parametrize("url", ["tcp://h:1", "unix:///s"])
def test_a_byte_stream_leads_where_its_url_says(url: str) -> None:
    scheme = url.partition(":")[0]
    because = f"expected no such key, because a connection to {scheme}:// leads where url says, got one"
    assert refused({"url": url, "socket": "s"}) == f"backends.b.socket: {because}"
    loaded({"url": "ws://h", "socket": "s"})


def test_http_has_no_connection_to_subscribe_on_and_no_notifications() -> None:
    session = {"on_connect": [{"method": "subscribe"}]}
    assert "b.session.on_connect: expected none, because HTTP has no connection that lasts" in refused(
        {"url": "http://h", "session": session}
    )
    assert 'sources.s.refresh_on: expected none, because backend "b" sends no notifications over HTTP' in refused(
        {"url": "http://h"}, {"refresh_on": ["x"]}
    )


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ({"on_code": [1.5]}, "session.on_code[0]: expected an error code (a whole number), or a text"),
        ({"on_code": [""]}, "session.on_code[0]: expected an error code (a whole number), or a text"),
        ({"method": ""}, "session.method: expected text that is not empty"),
        (
            {"on_connect": [{"params": []}]},
            "session.on_connect[0].method: expected text that is not empty",
        ),
        ({"on_connect": ["x"]}, "session.on_connect[0]: expected a table"),
        ({"params": [float("nan")]}, "session.params: expected a table or list of JSON values"),
    ],
)
def test_what_is_wrong_in_a_session_is_named(session: dict[str, object], expected: str) -> None:
    assert f"backends.b.{expected}" in refused({"url": "ws://h", "session": session})
