"""A proxy that asks who we are gets the secret of the configuration, and the backend never does."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import Raw
from scripted_http import Peer, http_response, scripted

from tidegate.errors import ConfigError, Disconnected, ErrorCode, HttpStatus, NoCredentials
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions
from tidegate.ports import Call
from tidegate.secret_place import SecretPlace

PASSWORD = "p4ssw0rd"
GOOD = "Basic " + base64.b64encode(f"u:{PASSWORD}".encode()).decode()


async def guarded(peer: Peer) -> None:
    """A proxy that lets nobody in without the password, and connects to nothing."""
    while True:
        request = await peer.request()
        if request.headers.get("proxy-authorization") != GOOD:
            await peer.send(http_response(b"who?", status="407 Proxy Authentication Required"))
        elif request.line.startswith("CONNECT"):
            await peer.send(http_response(b"", status="504 Gateway Timeout"))
        else:
            await peer.send(http_response(b"1"))


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with scripted(guarded) as proxy:
        yield proxy.port


def behind(port: int, secret: Path, *, scheme: str) -> HttpJsonBackend:
    places = {"password": SecretPlace(setting="secrets.password_file", file=secret)}
    proxy = f"http://u:{{password}}@127.0.0.1:{port}"
    return HttpJsonBackend(HttpOptions(f"{scheme}://name.invalid/", proxy=proxy, secrets=places))


async def test_the_secret_is_read_anew_for_each_request(port: int, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("wrong")
    backend = behind(port, tmp_path / "s", scheme="http")
    with pytest.raises(HttpStatus) as caught:
        await backend.call([Call("x")])
    assert caught.value.code is ErrorCode.RPC_AUTH
    before = (await backend.prepare()).secret  # type: ignore[attr-defined]
    (tmp_path / "s").write_text(PASSWORD)
    assert await backend.call([Call("x")]) == [Raw(b"1")]
    assert before != (await backend.prepare()).secret  # type: ignore[attr-defined]
    await backend.aclose()


async def test_a_tunnel_is_asked_for_with_the_secret_by_calls_and_by_knocks(port: int, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("wrong")
    backend = behind(port, tmp_path / "s", scheme="https")
    for ask in (lambda: backend.call([Call("x")]), backend.knock):
        with pytest.raises(HttpStatus) as refused:
            await ask()
        assert refused.value.status == 407
    (tmp_path / "s").write_text(PASSWORD)
    for ask in (lambda: backend.call([Call("x")]), backend.knock):
        with pytest.raises(Disconnected, match="does not connect to it, it answered 504") as caught:
            await ask()
        assert PASSWORD not in str(caught.value)
    (tmp_path / "s").unlink()
    with pytest.raises(NoCredentials):
        await backend.knock()
    await backend.aclose()


async def test_nothing_is_read_to_knock_without_a_proxy(tmp_path: Path) -> None:
    """A secret that is missing must not keep the gateway from noticing that the backend is back."""
    async with scripted(guarded) as server:
        backend = HttpJsonBackend(HttpOptions(server.url, bearer_token_file=tmp_path / "none"))
        await backend.knock()
        await backend.aclose()
        async with asyncio.timeout(20):
            while not server.peers:
                await asyncio.sleep(0.001)


def test_a_user_name_has_no_colon() -> None:
    with pytest.raises(ConfigError, match="proxy: expected http://HOST:PORT"):
        HttpJsonBackend(HttpOptions("http://h", proxy="http://a%3Ab:c@p:1"))
