import asyncio
import contextlib
import gc
import gzip
import re
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec
import pytest
import uvloop
from certificates import Certificates, written_to
from scripted_http import Peer, ScriptedServer, answering, hanging, http_response, scripted, stopping_over_tls

from tidegate.errors import BackendError, Disconnected, HttpStatus, InvalidResponse
from tidegate.outbound.http_client.answer import PIECE_BYTES, AnswerReader
from tidegate.outbound.http_client.client import HttpClient
from tidegate.outbound.http_client.connecting import NewConnection, connected
from tidegate.outbound.http_client.destinations import Destination
from tidegate.outbound.http_client.options import HttpOptions

GOOD = http_response(b"{}")

NewClient = Callable[..., HttpClient]
Fetch = Callable[[HttpClient], Coroutine[Any, Any, bytes]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return written_to(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def new_client() -> AsyncIterator[NewClient]:
    """Makes clients; at the end each is closed and must leave no task."""
    made: list[HttpClient] = []

    def new(url: str, **options: object) -> HttpClient:
        wall_clock = options.pop("wall_clock", lambda: 0.0)
        connect = options.pop("connect", connected)
        made.append(
            HttpClient(HttpOptions(url=url, **options), wall_clock=wall_clock, connect=connect)  # type: ignore[arg-type]
        )
        return made[-1]

    yield new
    for client in made:
        await client.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def get(client: HttpClient) -> bytes:
    return bytes(await client.fetch("GET", client.url, credentials={}))


async def post(client: HttpClient) -> bytes:
    return bytes(await client.fetch("POST", client.url, b"{}", credentials={}))


async def eventually(condition: Callable[[], bool]) -> None:
    """Let the event loop run until `condition` holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def failure(client: HttpClient) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await post(client)
    return caught.value


class TestAnAnswer:
    async def test_is_the_body(self, new_client: NewClient) -> None:
        async with scripted(answering(http_response(b' {"a" : 1} '))) as server:
            assert await get(new_client(server.url)) == b' {"a" : 1} '

    async def test_may_come_in_chunks_or_end_with_the_connection(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            if peer.number:
                await peer.send(b"HTTP/1.0 200 OK\r\n\r\n[1]")
            else:
                await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n2\r\n1]\r\n0\r\n\r\n")

        async with scripted(script) as server:
            client = new_client(server.url)
            assert [await get(client), await get(client)] == [b"[1]", b"[1]"]

    async def test_keeps_the_connection_alive(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as server:
            client = new_client(server.url)
            for _ in range(3):
                await post(client)
            assert (len(server.peers), len(server.requests)) == (1, 3)

    async def test_sets_no_cookies(self, new_client: NewClient) -> None:
        async with scripted(answering(http_response(b"{}", headers="Set-Cookie: a=b\r\n"))) as server:
            client = new_client(server.url.replace("127.0.0.1", "localhost"))
            await get(client)
            await get(client)
            assert "cookie" not in server.requests[1].headers


class TestARequest:
    async def test_carries_body_and_headers(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as server:
            url = server.url.replace("://", "://user:secret@")
            await post(new_client(url, headers={"X-Key": "k"}))
        (request,) = server.requests
        assert request.line == "POST /rpc HTTP/1.1"
        assert request.body == b"{}"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["x-key"] == "k"
        assert request.headers["authorization"].startswith("Basic ")
        assert request.headers["host"] == f"127.0.0.1:{server.port}"

    async def test_has_the_configured_content_type(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as server:
            await post(new_client(server.url, headers={"content-type": "application/json-rpc"}))
        assert server.requests[0].headers["content-type"] == "application/json-rpc"

    async def test_uses_no_proxy_of_the_environment(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        async with scripted(answering(GOOD)) as server:
            assert await get(new_client(server.url)) == b"{}"

    async def test_has_a_length_of_its_own_whatever_is_configured(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as server:
            await post(new_client(server.url, headers={"content-length": "9", "transfer-encoding": "chunked"}))
        assert server.requests[0].headers["content-length"] == "2"
        assert "transfer-encoding" not in server.requests[0].headers

    async def test_has_no_second_line_in_a_header(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as server:
            with pytest.raises(ValueError, match="line break"):
                await get(new_client(server.url, headers={"X-A": "b\r\nX-C: d"}))
        assert not server.requests

    async def test_waits_for_no_other(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            await (answering(GOOD) if peer.number else hanging)(peer)

        async with scripted(script) as server:
            client = new_client(server.url)
            stuck = asyncio.ensure_future(get(client))
            await eventually(lambda: bool(server.requests))
            assert await get(client) == b"{}"
            stuck.cancel()

    @pytest.mark.parametrize("zone", ["%eth9", "%25eth9"])
    async def test_to_an_address_with_a_zone_keeps_the_zone_to_itself(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch, zone: str
    ) -> None:
        """It is the name of an interface of this machine, and servers answer 400 to it (RFC 6874 section 1)."""
        async with scripted(answering(GOOD)) as server:
            here = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", server.port))
            asked: list[str] = []

            def resolved(host: str, *_args: object, **_named: object) -> list[object]:
                asked.append(host)
                return [here]

            monkeypatch.setattr(socket, "getaddrinfo", resolved)
            await get(new_client(f"http://[fe80::1{zone}]:{server.port}/"))
            assert asked == ["fe80::1%eth9"]
            assert server.requests[0].headers["host"] == f"[fe80::1]:{server.port}"

    async def test_goes_through_the_connections_it_is_given(self, new_client: NewClient) -> None:
        made: list[NewConnection] = []

        async def connect(to: Destination) -> NewConnection:
            made.append(await connected(to))
            return made[-1]

        async with scripted(answering(GOOD)) as server:
            client = new_client(server.url, connect=connect)
            await get(client)
            await get(client)
            assert (len(made), len(server.peers)) == (1, 1)
            await client.aclose()
            assert not made[0].is_open


class TestAStatus:
    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "308 Moved", "400 Bad", "401 Who", "403 No"])
    @pytest.mark.parametrize("body", [b"", b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}'])
    async def test_that_is_no_success_decides(self, new_client: NewClient, status: str, body: bytes) -> None:
        async with scripted(answering(http_response(body, status=status, headers="Location: /other\r\n"))) as server:
            error = await failure(new_client(server.url))
        assert isinstance(error, HttpStatus)
        assert error.status == int(status[:3])
        assert str(error).startswith(f"127.0.0.1:{server.port}: expected an HTTP success, got {status[:3]}")
        assert len(server.requests) == 1

    @pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error", "503 Service Unavailable"])
    async def test_keeps_the_pool_usable(self, new_client: NewClient, status: str) -> None:
        unread = http_response(b"x" * 1_000_000, status=status)

        async def script(peer: Peer) -> None:
            await answering(GOOD if peer.number else unread)(peer)

        async with scripted(script) as server:
            client = new_client(server.url)
            assert isinstance(await failure(client), HttpStatus)
            assert await post(client) == b"{}"

    @pytest.mark.parametrize(
        ("location", "words"),
        [
            ("/other", "to http://127.0.0.1:{port}/other (redirects are not followed)"),
            ("https://b.example/x/../y", "to https://b.example/y (redirects are not followed)"),
            ("//b.example", "to http://b.example (redirects are not followed)"),
            (
                "https://user:secret@b.example/login?next=%2Fsecret&secret#secret",
                "to https://b.example/login?next=***&*** (redirects are not followed)",
            ),
            ("http://[", ""),
            ("mailto:secret@b.example", ""),
            ("http://a\x07b/", ""),
            ("http://a b/", ""),
            ("", ""),
            ("/a\x1b[31m", "to http://127.0.0.1:{port}/a%1B%5B31m (redirects are not followed)"),
        ],
    )
    async def test_that_redirects_says_where_to_and_that_it_is_not_followed(
        self, new_client: NewClient, location: str, words: str
    ) -> None:
        elsewhere = http_response(b"", status="307 Temporary Redirect", headers=f"Location: {location}\r\n")
        async with scripted(answering(elsewhere)) as server:
            error = await failure(new_client(server.url))
        told = f"expected an HTTP success, got 307 Temporary Redirect {words.format(port=server.port)}".rstrip()
        assert str(error) == f"127.0.0.1:{server.port}: {told}"
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("header", "seconds"), [("17", 17.0), ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0), ("soon", None)]
    )
    async def test_brings_the_wish_to_be_asked_later(
        self, new_client: NewClient, header: str, seconds: float | None
    ) -> None:
        busy = http_response(b"", status="429 Too Many Requests", headers=f"Retry-After: {header}\r\n")
        async with scripted(answering(busy)) as server:
            error = await failure(new_client(server.url, wall_clock=lambda: 100.0))
        assert isinstance(error, HttpStatus)
        assert error.retry_after_s == seconds


class TestALimit:
    LIMIT = 1000

    async def refused(self, new_client: NewClient, server: ScriptedServer) -> None:
        error = await failure(new_client(server.url, response_bytes=self.LIMIT))
        assert isinstance(error, InvalidResponse)
        assert re.search("expected an answer of at most 1000 bytes, got (1001|more)", str(error))
        await eventually(lambda: server.open_connections == 0)

    async def test_itself_passes(self, new_client: NewClient) -> None:
        async with scripted(answering(http_response(b"x" * self.LIMIT))) as server:
            assert len(await get(new_client(server.url, response_bytes=self.LIMIT))) == self.LIMIT

    async def test_refuses_a_length_without_waiting_for_the_body(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
            await peer.until_closed()

        async with scripted(script) as server:
            await self.refused(new_client, server)

    @pytest.mark.parametrize(
        ("head", "piece"),
        [
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n"),
            (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x" * 1024),
        ],
    )
    async def test_ends_a_body_without_end(self, new_client: NewClient, head: bytes, piece: bytes) -> None:
        sent = 0

        async def script(peer: Peer) -> None:
            nonlocal sent
            await peer.request()
            await peer.send(head)
            while True:
                await peer.send(piece)
                sent += len(piece)

        async with scripted(script) as server:
            await self.refused(new_client, server)
        assert sent < 30_000_000  # what the buffers of both kernels hold at most, generously

    @pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
    async def test_cannot_be_passed_by_compression(self, new_client: NewClient, coding: str) -> None:
        bomb = http_response(gzip.compress(bytes(100_000))[: self.LIMIT], headers=f"Content-Encoding: {coding}\r\n")
        async with scripted(answering(bomb)) as server:
            error = await failure(new_client(server.url, response_bytes=self.LIMIT))
        assert isinstance(error, InvalidResponse)
        assert f"expected an uncompressed body, got coding '{coding}'" in str(error)

    async def test_lets_identity_be_named(self, new_client: NewClient) -> None:
        async with scripted(answering(http_response(b"{}", headers="Content-Encoding: Identity\r\n"))) as server:
            assert await get(new_client(server.url)) == b"{}"


class TestAFault:
    async def test_refused(self, new_client: NewClient) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            error = await failure(new_client(f"http://user:secret@127.0.0.1:{port}/?token=secret"))
        assert isinstance(error, Disconnected)
        assert str(error) == f"127.0.0.1:{port}: Connection refused"
        assert error.__cause__ is not None

    async def test_no_such_name(self, new_client: NewClient) -> None:
        error = await failure(new_client("http://name.invalid/"))
        assert isinstance(error, Disconnected)
        assert str(error).startswith("name.invalid:80: its name cannot be resolved (")

    @pytest.mark.parametrize(
        ("said", "reset", "words"),
        [
            (b"", False, "it closed the connection before it answered"),
            (b"HTTP/1.1 200 OK\r\nContent-", False, "it closed the connection before it answered"),
            (b"", True, "Connection reset by peer"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
                False,
                "the connection ended in the middle of the answer",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1",
                False,
                "the connection ended in the middle of the answer",
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", True, "(the connection ended in|Connection reset)"),
        ],
    )
    @pytest.mark.parametrize("call", [get, post])
    async def test_end_of_stream(
        self,
        new_client: NewClient,
        said: bytes,
        reset: bool,
        words: str,
        call: Fetch,
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(said)
            if reset:
                peer.reset()

        async with scripted(script) as server:
            with pytest.raises(Disconnected, match=f"^127.0.0.1:{server.port}: {words}") as caught:
                await call(new_client(server.url))
            assert caught.value.__cause__ is not None
            assert len(server.peers) == 1  # a new connection's end is never covered up by another attempt

    @pytest.mark.parametrize(
        "said", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x16" * 9]
    )
    async def test_no_http(self, new_client: NewClient, said: bytes) -> None:
        async with scripted(answering(said)) as server:
            error = await failure(new_client(server.url))
        assert isinstance(error, InvalidResponse)
        assert str(error) == f"127.0.0.1:{server.port}: expected an HTTP response, got bytes that are none"

    async def test_no_http_before_anything_is_asked(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            await peer.send(b"SSH-2.0-OpenSSH_9.2p1\r\n")
            await peer.until_closed()

        async with scripted(script) as server:
            error = await failure(new_client(server.url))
        assert isinstance(error, InvalidResponse)
        assert str(error).endswith("expected an HTTP response, got bytes that are none")

    async def test_a_name_none_of_whose_addresses_can_be_reached_says_what_became_of_each(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        here = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))
        nowhere = (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("fe80::1", port, 0, 0))  # lacks a zone
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: [nowhere, here])
        error = await failure(new_client(f"http://name.invalid:{port}/"))
        assert isinstance(error, Disconnected)
        assert re.fullmatch(rf"name\.invalid:{port}: [A-Z][a-z ]+ and Connection refused", str(error))

    async def test_a_name_that_is_none(self, new_client: NewClient) -> None:
        error = await failure(new_client(f"http://{'a' * 64}.example/"))
        assert isinstance(error, Disconnected)
        assert "its name cannot be resolved" in str(error)

    async def test_a_head_without_end(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                await peer.send(b"x" * 1024)

        async with scripted(script) as server:
            assert isinstance(await failure(new_client(server.url)), InvalidResponse)


class TestAReusedConnection:
    """The server closes a connection in the moment in which it is used again."""

    @pytest.mark.parametrize("call", [get, post])
    @pytest.mark.parametrize("reset", [False, True])
    async def test_that_was_closed_is_replaced_once(self, new_client: NewClient, call: Fetch, reset: bool) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(GOOD)
            await peer.request()
            if peer.number:
                await peer.send(GOOD)
            elif reset:
                peer.reset()

        async with scripted(script) as server:
            client = new_client(server.url)
            assert [await call(client), await call(client)] == [b"{}", b"{}"]
            assert [len(peer.requests) for peer in server.peers] == [2, 1]

    @pytest.mark.parametrize("call", [get, post])
    async def test_that_was_closed_with_all_others_is_replaced_by_a_new_one(
        self, new_client: NewClient, call: Fetch
    ) -> None:
        both_asked = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            if peer.number == 1:
                both_asked.set()
            await both_asked.wait()
            await peer.send(GOOD)
            await peer.request()

        async with scripted(script) as server:
            client = new_client(server.url)
            await asyncio.gather(call(client), call(client))
            assert await call(client) == b"{}"
            assert [len(peer.requests) for peer in server.peers] == [2, 2, 1]

    @pytest.mark.parametrize("call", [get, post])
    async def test_whose_new_one_is_closed_too_is_a_failure(self, new_client: NewClient, call: Fetch) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            if not peer.number:
                await peer.send(GOOD)
                await peer.request()

        async with scripted(script) as server:
            client = new_client(server.url)
            await call(client)
            with pytest.raises(Disconnected, match="closed the connection before it answered"):
                await call(client)
            assert [len(peer.requests) for peer in server.peers] == [2, 1]

    @pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
    @pytest.mark.parametrize("call", [get, post])
    async def test_on_which_an_answer_had_begun_is_a_failure(
        self, new_client: NewClient, said: bytes, call: Fetch
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(GOOD)
            await peer.request()
            await peer.send(said)

        async with scripted(script) as server:
            client = new_client(server.url)
            await call(client)
            with pytest.raises(Disconnected):
                await call(client)
            assert len(server.requests) == 2

    @pytest.mark.parametrize("call", [get, post])
    async def test_that_is_answered_408_is_replaced_once(self, new_client: NewClient, call: Fetch) -> None:
        timed_out = http_response(b"", status="408 Request Timeout", headers="Connection: close\r\n")

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(GOOD)
            await peer.request()
            await peer.send(timed_out)

        async with scripted(script) as server:
            client = new_client(server.url)
            assert [await call(client), await call(client)] == [b"{}", b"{}"]
            assert [len(peer.requests) for peer in server.peers] == [2, 1]

    async def test_that_leads_to_nobody_any_more_costs_one_call_not_one_for_each_that_was_kept(
        self, new_client: NewClient
    ) -> None:
        all_asked = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            if peer.number == 2:
                all_asked.set()
            await all_asked.wait()
            await peer.send(GOOD)
            await peer.until_closed()

        async with scripted(script) as server:
            client = new_client(server.url)
            await asyncio.gather(get(client), get(client), get(client))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await get(client)
            async with asyncio.timeout(10):
                assert await get(client) == b"{}"
            assert len(server.peers) == 4

    async def test_that_is_answered_408_is_replaced_by_a_new_one_though_others_wait(
        self, new_client: NewClient
    ) -> None:
        both_asked = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            if peer.number == 1:
                both_asked.set()
            await both_asked.wait()
            await peer.send(GOOD)
            await peer.request()
            await peer.send(http_response(b"", status="408 Request Timeout"))

        async with scripted(script) as server:
            client = new_client(server.url)
            await asyncio.gather(get(client), get(client))
            assert await get(client) == b"{}"
            assert sorted(len(peer.requests) for peer in server.peers) == [1, 1, 2]

    async def test_whose_new_one_is_answered_408_too_is_a_failure(self, new_client: NewClient) -> None:
        timed_out = http_response(b"", status="408 Request Timeout")

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(timed_out if peer.number else GOOD)
            await peer.request()
            await peer.send(timed_out)

        async with scripted(script) as server:
            client = new_client(server.url)
            await get(client)
            error = await failure(client)
            assert isinstance(error, HttpStatus)
            assert error.status == 408
            assert [len(peer.requests) for peer in server.peers] == [2, 1]

    @pytest.mark.parametrize("more", [b"x", http_response(b"[]")])
    @pytest.mark.parametrize("at_once", [True, False])
    async def test_on_which_something_came_that_nobody_asked_for_is_closed(
        self, new_client: NewClient, more: bytes, at_once: bool
    ) -> None:
        answered = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(GOOD + (more if at_once else b""))
            await answered.wait()
            if not peer.number and not at_once:
                await peer.send(more)
            await peer.until_closed()

        async with scripted(script) as server:
            client = new_client(server.url)
            assert await get(client) == b"{}"
            answered.set()
            await eventually(lambda: server.open_connections == 0)
            assert await get(client) == b"{}"


class TestAConnection:
    async def test_is_not_kept_where_the_configuration_says_so(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as server:
            client = new_client(server.url, headers={"connection": "Close"})
            await get(client)
            await get(client)
            assert [len(peer.requests) for peer in server.peers] == [1, 1]
            assert server.requests[0].headers["connection"] == "Close"

    async def test_is_kept_for_so_long_without_a_call(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as server:
            client = new_client(server.url, idle_s=0.05)
            await get(client)
            assert server.open_connections == 1
            await eventually(lambda: server.open_connections == 0)

    async def test_that_has_become_too_old_is_replaced_when_its_call_is_over_never_under_one(
        self, new_client: NewClient
    ) -> None:
        finish = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await finish.wait()
            await answering_again(peer)

        async def answering_again(peer: Peer) -> None:
            await peer.send(GOOD)
            await answering(GOOD)(peer)

        async with scripted(script) as server:
            client = new_client(server.url, connection_max_s=0.05)
            slow = asyncio.ensure_future(get(client))
            await asyncio.sleep(0.1)
            finish.set()
            assert await slow == b"{}"
            await eventually(lambda: server.open_connections == 0)
            assert await get(client) == b"{}"
            assert len(server.peers) == 2

    async def test_follows_a_name_that_moves_while_the_old_address_still_answers(self, new_client: NewClient) -> None:
        async with scripted(answering(http_response(b"1"))) as old, scripted(answering(http_response(b"2"))) as new:
            now = old

            async def looked_up(to: Destination) -> NewConnection:
                return await connected(msgspec.structs.replace(to, url=to.url.with_port(now.port)))

            client = new_client("http://127.0.0.1:1/", connection_max_s=0.05, connect=looked_up)
            assert await get(client) == b"1"
            now = new
            async with asyncio.timeout(10):
                while await get(client) != b"2":
                    await asyncio.sleep(0.01)
            assert len(old.peers) == 1
            assert old.open_connections == 0


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"HTTP/1.1 103 E\r\n\r\n" * 3000),
        (b"HTTP/1.1 200 OK\r\n", b"a:\r\n" * 16384),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n", b"a:\r\n" * 16384),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 10000),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (GOOD, GOOD * 1000),
    ],
)
def test_nothing_that_a_backend_sends_without_end_keeps_the_loop_busy(
    run: Callable[[Coroutine[Any, Any, int]], int], head: bytes, piece: bytes
) -> None:
    """On both event loops: asyncio reads once in a turn, uvloop as often as there is something."""
    sent = 0
    noted: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(head)
        while True:
            await peer.send(piece)
            sent += len(piece)

    async def main() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: noted.append(context))
        async with asyncio.timeout(30), scripted(script) as server:
            client = HttpClient(HttpOptions(url=server.url, response_bytes=200_000))
            with contextlib.suppress(InvalidResponse):
                assert await get(client) == b"{}"
            await eventually(lambda: server.open_connections == 0)
            await client.aclose()
        return sent

    assert run(main()) < 30_000_000  # what the buffers of both kernels hold at most, generously
    assert not noted


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_long_answer_leaves_turns_to_others_and_the_connection_usable(
    run: Callable[[Coroutine[Any, Any, int]], int],
) -> None:
    long = http_response(b"x" * 2_000_000)

    async def main() -> int:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with scripted(answering(GOOD, long, GOOD)) as server:
            client = HttpClient(HttpOptions(url=server.url))
            await get(client)
            other = asyncio.ensure_future(others())
            assert len(await get(client)) == 2_000_000
            other.cancel()
            assert await get(client) == b"{}"
            assert len(server.peers) == 1
            await client.aclose()
        return turns

    assert run(main()) > 2_000_000 / PIECE_BYTES


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nnocolon\r\n",
        http_response(b"x" * 900, status="500 No"),
        http_response(b"{}", headers="Content-Encoding: gzip\r\n"),
        http_response(b"{}"),
        b"HTTP/1.1 200 OK\r\n",
    ],
)
async def test_what_was_read_is_given_back_when_the_call_has_ended(
    new_client: NewClient, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for the garbage collector, which a gateway runs seldom."""
    readers: list[weakref.ref[AnswerReader]] = []

    def noted(**bounds: Any) -> AnswerReader:
        reader = AnswerReader(**bounds)
        readers.append(weakref.ref(reader))
        return reader

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(said)
        if said == b"HTTP/1.1 200 OK\r\n":
            await peer.until_closed()

    monkeypatch.setattr("tidegate.outbound.http_client.client.AnswerReader", noted)
    gc.disable()
    try:
        async with scripted(script) as server:
            client = new_client(server.url, response_bytes=1000)
            with contextlib.suppress(BackendError, TimeoutError):
                async with asyncio.timeout(0.2):
                    await get(client)
            await eventually(lambda: server.open_connections == 0)
            await asyncio.sleep(0)
        assert [reader() for reader in readers] == [None]
    finally:
        gc.enable()


class TestTls:
    async def test_trusts_the_configured_authority(self, new_client: NewClient, certificates: Certificates) -> None:
        async with scripted(answering(GOOD), tls=certificates.server_side()) as server:
            client = new_client(server.url, ca_file=certificates.ca)
            assert [await post(client), await post(client)] == [b"{}", b"{}"]
            assert len(server.peers) == 1

    @pytest.mark.parametrize("authority", [None, "other_ca"])
    async def test_trusts_no_other(
        self, new_client: NewClient, certificates: Certificates, authority: str | None
    ) -> None:
        ca_file = getattr(certificates, authority) if authority else None
        async with scripted(answering(GOOD), tls=certificates.server_side()) as server:
            error = await failure(new_client(server.url, ca_file=ca_file))
        assert isinstance(error, Disconnected)
        assert str(error).startswith(f"127.0.0.1:{server.port}: its certificate is not trusted (")

    async def test_trusts_no_other_name(self, new_client: NewClient, certificates: Certificates) -> None:
        async with scripted(answering(GOOD), tls=certificates.server_side()) as server:
            url = server.url.replace("127.0.0.1", "localhost")
            error = await failure(new_client(url, ca_file=certificates.ca))
        assert isinstance(error, Disconnected)
        assert "not valid for 'localhost'" in str(error)

    @pytest.mark.parametrize("name", ["nas.test", "nas.test."])
    async def test_trusts_the_configured_name_and_tells_it_to_the_server(
        self, new_client: NewClient, certificates: Certificates, name: str
    ) -> None:
        told: list[str | None] = []
        context = certificates.server_side(named=True)
        context.sni_callback = lambda _, server_name, __: told.append(server_name)
        async with scripted(answering(GOOD), tls=context) as server:
            error = await failure(new_client(server.url, ca_file=certificates.ca))
            assert "not valid for '127.0.0.1'" in str(error)
            assert await get(new_client(server.url, ca_file=certificates.ca, tls_name=name)) == b"{}"
            assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"
        assert told == [None, "nas.test"]

    @pytest.mark.parametrize("name", ["127.0.0.1", "[::1]"])
    async def test_the_configured_name_may_be_an_address(
        self, new_client: NewClient, certificates: Certificates, name: str
    ) -> None:
        async with scripted(answering(GOOD), tls=certificates.server_side()) as server:
            url = server.url.replace("127.0.0.1", "localhost")
            client = new_client(url, ca_file=certificates.ca, tls_name=name)
            if name == "127.0.0.1":
                assert await get(client) == b"{}"
            else:
                assert "not valid for '::1'" in str(await failure(client))

    async def test_shows_its_own_certificate(self, new_client: NewClient, certificates: Certificates) -> None:
        async with scripted(answering(GOOD), tls=certificates.server_side(ask_client=True)) as server:
            client = new_client(server.url, ca_file=certificates.ca, client_cert_file=certificates.client)
            assert await post(client) == b"{}"

    async def test_says_that_a_certificate_was_asked_for(
        self, new_client: NewClient, certificates: Certificates
    ) -> None:
        async with scripted(answering(GOOD), tls=certificates.server_side(ask_client=True)) as server:
            error = await failure(new_client(server.url, ca_file=certificates.ca))
        assert isinstance(error, Disconnected)
        assert re.search("TLS failed .*CERTIFICATE_REQUIRED|Connection reset|closed the connection", str(error))

    async def test_to_a_server_that_speaks_none(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await peer.until_closed()

        async with scripted(script) as server:
            error = await failure(new_client(server.url.replace("http", "https")))
        assert isinstance(error, Disconnected)
        assert "TLS failed (WRONG_VERSION_NUMBER)" in str(error)


class TestCancelling:
    @pytest.mark.parametrize("call", [get, post])
    async def test_closes_the_connection_and_leaves_nothing(self, new_client: NewClient, call: Fetch) -> None:
        async with scripted(hanging) as server:
            client = new_client(server.url)
            before = asyncio.all_tasks()
            for _ in range(3):
                task = asyncio.ensure_future(call(client))
                await eventually(lambda: server.open_connections == 1 and bool(server.peers[-1].requests))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await eventually(lambda: asyncio.all_tasks() == before)
                assert server.open_connections == 0
            assert len(server.requests) == 3

    async def test_in_the_middle_of_a_body(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
            await peer.until_closed()

        async with scripted(script) as server:
            task = asyncio.ensure_future(get(new_client(server.url)))
            await eventually(lambda: bool(server.requests))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: server.open_connections == 0)

    async def test_while_the_handshake_hangs(self, new_client: NewClient, certificates: Certificates) -> None:
        async def script(peer: Peer) -> None:
            await peer.until_closed()

        async with scripted(script) as server:
            client = new_client(server.url.replace("http", "https"), ca_file=certificates.ca)
            task = asyncio.ensure_future(get(client))
            await eventually(lambda: server.open_connections == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: server.open_connections == 0)

    async def test_while_the_name_is_looked_up(self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch) -> None:
        asked, is_over = threading.Event(), threading.Event()

        def late(*_args: object, **_named: object) -> None:
            asked.set()
            is_over.wait(10)

        monkeypatch.setattr(socket, "getaddrinfo", late)
        before = asyncio.all_tasks()
        task = asyncio.ensure_future(get(new_client("http://name.invalid/")))
        await eventually(asked.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == before
        is_over.set()

    async def test_over_tls(self, new_client: NewClient, certificates: Certificates) -> None:
        async with scripted(hanging, tls=certificates.server_side()) as server:
            task = asyncio.ensure_future(get(new_client(server.url, ca_file=certificates.ca)))
            await eventually(lambda: bool(server.requests))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: server.open_connections == 0)

    async def test_over_tls_with_a_server_that_has_stopped(
        self, new_client: NewClient, certificates: Certificates
    ) -> None:
        async with scripted(stopping_over_tls(certificates.server_side())) as server:
            client = new_client(server.url.replace("http", "https"), ca_file=certificates.ca)
            task = asyncio.ensure_future(get(client))
            await eventually(lambda: bool(server.requests))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: server.open_connections == 0)


class TestClosing:
    async def test_ends_calls_in_flight(self, new_client: NewClient) -> None:
        async with scripted(hanging) as server:
            client = new_client(server.url)
            calls = [asyncio.ensure_future(get(client)) for _ in range(3)]
            await eventually(lambda: bool(server.requests))
            closings = []
            for _ in range(5):
                closings.append(asyncio.ensure_future(client.aclose()))
                await asyncio.sleep(0)
            await asyncio.gather(*closings)
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, Disconnected)
                assert "the gateway closed the connection" in str(outcome)
            await eventually(lambda: server.open_connections == 0)

    async def test_while_connecting(self, new_client: NewClient, certificates: Certificates) -> None:
        async def script(peer: Peer) -> None:
            await peer.until_closed()

        async with scripted(script) as server:
            client = new_client(server.url.replace("http", "https"), ca_file=certificates.ca)
            call = asyncio.ensure_future(get(client))
            await eventually(lambda: server.open_connections == 1)
            await client.aclose()
            with pytest.raises(Disconnected, match="the gateway closed"):
                await call

    async def test_ends_later_calls_and_may_be_repeated(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as server:
            client = new_client(server.url)
            await get(client)
            await client.aclose()
            await client.aclose()
            with pytest.raises(Disconnected, match="the gateway closed"):
                await get(client)
            assert len(server.requests) == 1

    async def test_does_not_hide_a_cancellation(self, new_client: NewClient) -> None:
        async with scripted(hanging) as server:
            client = new_client(server.url)
            call = asyncio.ensure_future(get(client))
            await eventually(lambda: bool(server.requests))
            call.cancel()
            await client.aclose()
            with pytest.raises(asyncio.CancelledError):
                await call

    async def test_without_any_call(self, new_client: NewClient) -> None:
        await new_client("http://127.0.0.1:1/").aclose()
