"""Backends behind an HTTP proxy, on real sockets and both event loops."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from certificates import Certificates, written_to
from scripted_http import Peer, Script, answering, hanging, http_response, scripted

from tidegate.core.polling.outcome import ClassifyPolicy, Fault, classify
from tidegate.errors import BackendError, ConfigError, Disconnected, ErrorCode, InvalidResponse
from tidegate.outbound.http_client import Attempt, HttpClient, HttpOptions

GOOD = http_response(b"{}")
REFUSED = http_response(b"no", status="407 Proxy Authentication Required")
USER = "Basic dTpwQHNz"  # u:p@ss

NewClient = Callable[..., HttpClient]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return written_to(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def new_client() -> AsyncIterator[NewClient]:
    """Makes clients; at the end each is closed and must leave no task."""
    made: list[HttpClient] = []

    def new(url: str, proxy: str | None, **options: object) -> HttpClient:
        made.append(HttpClient(HttpOptions(url=url, proxy=proxy, **options)))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for client in made:
        await client.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def tunnelling(peer: Peer) -> None:
    """A proxy that connects to where it is told to."""
    request = await peer.request()
    host, _, port = request.line.split(" ")[1].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def back() -> None:
        while data := await reader.read(65_536):
            await peer.send(data)

    backwards = asyncio.ensure_future(back())
    try:
        while True:
            writer.write(await peer.read())
    finally:
        writer.close()
        backwards.cancel()


def answering_then_open(answer: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.until_closed()

    return script


async def get(client: HttpClient, attempt: Attempt | None = None) -> bytes:
    return bytes(await client.fetch("GET", client.url, credentials={}, attempt=attempt))


async def failure(client: HttpClient) -> tuple[BackendError, Fault]:
    """The error of a call, and what the core makes of it."""
    attempt = Attempt()
    with pytest.raises(BackendError) as caught:
        await get(client, attempt)
    fault = classify(caught.value, elapsed_s=0.1, policy=ClassifyPolicy(), unreachable=not attempt.connected)
    assert isinstance(fault, Fault)
    return caught.value, fault


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections: it is bound, but nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


class TestOverHttp:
    async def test_the_proxy_gets_the_whole_address(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as proxy:
            client = new_client("http://name.invalid/rpc?a=b", f"http://u:p%40ss@127.0.0.1:{proxy.port}")
            assert await get(client) == b"{}"
            assert await get(client) == b"{}"
            assert len(proxy.peers) == 1
        request = proxy.requests[0]
        assert request.line == "GET http://name.invalid/rpc?a=b HTTP/1.1"
        assert (request.headers["host"], request.headers["proxy-authorization"]) == ("name.invalid", USER)

    async def test_an_unusual_port_belongs_to_the_address(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as proxy:
            await get(new_client("http://[::1]:81/", f"http://127.0.0.1:{proxy.port}"))
        assert proxy.requests[0].line == "GET http://[::1]:81/ HTTP/1.1"
        assert "proxy-authorization" not in proxy.requests[0].headers

    async def test_credentials_that_the_proxy_refuses_are_an_error_of_authentication(
        self, new_client: NewClient
    ) -> None:
        async with scripted(answering(REFUSED)) as proxy:
            error, fault = await failure(new_client("http://name.invalid/", f"http://127.0.0.1:{proxy.port}"))
        assert fault.code is ErrorCode.RPC_AUTH
        assert str(error) == (
            f"name.invalid:80 through proxy 127.0.0.1:{proxy.port}: expected an HTTP success, "
            "got 407 Proxy Authentication Required"
        )


class TestOverTls:
    async def test_the_proxy_makes_a_tunnel_and_sees_nothing_of_what_is_in_it(
        self, new_client: NewClient, certificates: Certificates
    ) -> None:
        async with (
            scripted(answering(GOOD), tls=certificates.server_side()) as server,
            scripted(tunnelling) as proxy,
        ):
            client = new_client(server.url, f"http://u:p%40ss@127.0.0.1:{proxy.port}", ca_file=certificates.ca)
            assert [await get(client), await get(client)] == [b"{}", b"{}"]
        [request] = proxy.requests
        assert request.line == f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"
        assert request.headers == {"host": f"127.0.0.1:{server.port}", "proxy-authorization": USER}
        assert [each.line for each in server.requests] == ["GET /rpc HTTP/1.1"] * 2
        assert all("proxy-authorization" not in each.headers for each in server.requests)

    async def test_the_certificate_must_be_the_backends(
        self, new_client: NewClient, certificates: Certificates
    ) -> None:
        async with scripted(answering(GOOD), tls=certificates.server_side()) as server, scripted(tunnelling) as proxy:
            url = server.url.replace("127.0.0.1", "localhost")
            client = new_client(url, f"http://127.0.0.1:{proxy.port}", ca_file=certificates.ca)
            error, fault = await failure(client)
        assert "not valid for 'localhost'" in str(error)
        assert not fault.unreachable

    @pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "401 Unauthorized"])
    async def test_credentials_that_the_proxy_refuses_are_an_error_of_authentication(
        self, new_client: NewClient, status: str
    ) -> None:
        async with scripted(answering_then_open(http_response(b"no", status=status))) as proxy:
            error, fault = await failure(new_client("https://name.invalid/", f"http://127.0.0.1:{proxy.port}"))
        assert (fault.code, fault.unreachable) == (ErrorCode.RPC_AUTH, False)
        assert str(error) == (
            f"name.invalid:443 through proxy 127.0.0.1:{proxy.port}: the proxy refuses our credentials, "
            f"it answered {status}"
        )

    @pytest.mark.parametrize(
        ("status", "words"),
        [("502 Bad Gateway", "502 Bad Gateway"), ("403 No", "403 Forbidden"), ("799 What", "799")],
    )
    async def test_a_proxy_that_does_not_connect_means_that_the_backend_cannot_be_reached(
        self, new_client: NewClient, status: str, words: str
    ) -> None:
        async with scripted(answering_then_open(http_response(b"no", status=status))) as proxy:
            error, fault = await failure(new_client("https://name.invalid/", f"http://127.0.0.1:{proxy.port}"))
        assert str(error) == (
            f"name.invalid:443 through proxy 127.0.0.1:{proxy.port}: the proxy does not connect to it, "
            f"it answered {words}"
        )
        assert (fault.code, fault.unreachable) == (ErrorCode.RPC_DISCONNECT, True)

    @pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200"])
    async def test_a_proxy_that_ends_the_connection_instead_means_the_same(
        self, new_client: NewClient, begun: bytes
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(begun)

        async with scripted(script) as proxy:
            error, fault = await failure(new_client("https://name.invalid/", f"http://127.0.0.1:{proxy.port}"))
        assert "the proxy ended the connection (" in str(error)
        assert (fault.code, fault.unreachable) == (ErrorCode.RPC_DISCONNECT, True)

    @pytest.mark.parametrize(
        "answer",
        [b"SSH-2.0-x\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 200, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000],
        ids=["no HTTP", "interim answers without end", "a head without end"],
    )
    async def test_a_proxy_that_breaks_http_is_an_invalid_response(self, new_client: NewClient, answer: bytes) -> None:
        async with scripted(answering_then_open(answer)) as proxy:
            error, _ = await failure(new_client("https://name.invalid/", f"http://127.0.0.1:{proxy.port}"))
        assert isinstance(error, InvalidResponse)

    async def test_a_call_that_is_cancelled_before_the_tunnel_stands_leaves_nothing(
        self, new_client: NewClient
    ) -> None:
        async with scripted(hanging) as proxy:
            attempt = Attempt()
            client = new_client("https://name.invalid/", f"http://127.0.0.1:{proxy.port}")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await get(client, attempt)
            assert not attempt.connected
            async with asyncio.timeout(20):
                while proxy.open_connections:
                    await asyncio.sleep(0.001)

    async def test_a_knock_makes_a_tunnel_which_the_next_call_uses(
        self, new_client: NewClient, certificates: Certificates
    ) -> None:
        async with scripted(answering(GOOD), tls=certificates.server_side()) as server, scripted(tunnelling) as proxy:
            url, address = server.url, f"http://127.0.0.1:{proxy.port}"
            client = new_client(url, address, ca_file=certificates.ca)
            await client.knock({"Proxy-Authorization": "Basic x"})
            assert await get(client) == b"{}"
        assert [each.headers.get("proxy-authorization") for each in proxy.requests] == ["Basic x"]

    async def test_a_knock_fails_while_the_proxy_does_not_connect(self, new_client: NewClient) -> None:
        async with scripted(answering_then_open(http_response(b"", status="503 E"))) as proxy:
            client = new_client("https://name.invalid/", f"http://127.0.0.1:{proxy.port}")
            with pytest.raises(Disconnected, match="does not connect to it"):
                await client.knock()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_down_means_that_the_backend_cannot_be_reached(
    new_client: NewClient, scheme: str
) -> None:
    with refusing() as port:
        error, fault = await failure(new_client(f"{scheme}://name.invalid:81/", f"http://127.0.0.1:{port}"))
    assert str(error) == (
        f"name.invalid:81 through proxy 127.0.0.1:{port}: the proxy cannot be reached: Connection refused"
    )
    assert (fault.code, fault.unreachable) == (ErrorCode.RPC_DISCONNECT, True)


@pytest.mark.parametrize("over_tls", [False, True])
async def test_the_environment_names_no_proxy(
    new_client: NewClient, certificates: Certificates, over_tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing() as port:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{port}")
        async with scripted(answering(GOOD), tls=certificates.server_side() if over_tls else None) as server:
            assert await get(new_client(server.url, None, ca_file=certificates.ca)) == b"{}"


@pytest.mark.parametrize(
    ("proxy", "got"),
    [
        ("https://p:1", "https://p:1"),
        ("http://u:secret@p", "http://p"),
        ("http://p:1/path", "http://p:1/path"),
        ("http://", "no host"),
        ("http://a%3Ab:secret@p:1", "text that is no URL"),
    ],
)
def test_another_address_is_refused(proxy: str, got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HttpClient(HttpOptions(url="http://h", proxy=proxy))
    assert str(caught.value).startswith("proxy: expected http://HOST:PORT, with USER:PASSWORD@ before the host if")
    assert str(caught.value).endswith(f", got {got}")


def test_a_socket_has_no_proxy() -> None:
    with pytest.raises(ConfigError, match="proxy: expected no such key beside socket"):
        HttpClient(HttpOptions(url="http://h", proxy="http://p:1", socket="/s"))  # type: ignore[arg-type]


def test_the_password_is_not_shown() -> None:
    assert "p4ss" not in repr(HttpOptions(url="http://h", proxy="http://u:p4ss@p:1"))
