"""Whether the connection of a call stood, and knocking, on real sockets and both event loops."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from aiohappyeyeballs import start_connection
from certificates import Certificates, written_to
from scripted_http import Peer, answering, hanging, http_response, scripted, stopping_over_tls

from tidegate.errors import BackendError, Disconnected
from tidegate.outbound.http_client import Attempt, Destination, HttpAnswer, HttpClient, HttpOptions, connecting, pool

GOOD = http_response(b"{}")

NewClient = Callable[..., HttpClient]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return written_to(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def new_client() -> AsyncIterator[NewClient]:
    """Makes clients; at the end each is closed and must leave no task and no descriptor."""
    made: list[HttpClient] = []
    before = open_sockets()

    def new(url: str, **options: object) -> HttpClient:
        made.append(HttpClient(HttpOptions(url=url, **options)))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for client in made:
        await client.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await eventually(lambda: open_sockets() <= before)


def open_sockets() -> int:
    """How many sockets are open. The event loops keep other descriptors of their own."""
    return sum(link.startswith("socket:") for link in map(target, Path("/proc/self/fd").iterdir()))


def target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # closed meanwhile
        return ""


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def call(client: HttpClient, attempt: Attempt | None = None) -> Awaitable[HttpAnswer]:
    return client.ask("POST", client.url, b"{}", credentials={}, attempt=attempt)


async def failure(client: HttpClient) -> tuple[BackendError, bool]:
    """The error of a call, and whether its connection stood."""
    attempt = Attempt()
    with pytest.raises(BackendError) as caught:
        await call(client, attempt)
    return caught.value, attempt.connected


async def cut_off(client: HttpClient, when: Callable[[Attempt], bool]) -> bool:
    """Cancel a call `when` that holds, as its deadline does. Return whether its connection stood."""
    attempt = Attempt()
    task = asyncio.ensure_future(call(client, attempt))
    await eventually(lambda: when(attempt))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return attempt.connected


def is_connecting(attempt: Attempt) -> bool:
    return not attempt.connected


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections: it is bound, but nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def unanswering(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port whose listener is full, so that the kernel drops every SYN."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind((host, port))
        listener.listen(0)
        first.connect(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Leave this process no descriptor to open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(filling := [os.dup(0)]) + 50, hard))
        with contextlib.suppress(OSError):
            while True:
                filling.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in filling:
            os.close(descriptor)


def named(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Let every name have the addresses `hosts`."""

    def found(_: str, port: int, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    monkeypatch.setattr(socket, "getaddrinfo", found)


class TestAConnectionDidNotStand:
    async def test_when_it_was_refused(self, new_client: NewClient) -> None:
        with refusing() as port:
            error, connected = await failure(new_client(f"http://127.0.0.1:{port}/"))
        assert (type(error), connected) == (Disconnected, False)

    async def test_when_each_address_of_the_name_refused(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        named(monkeypatch, "127.0.0.1", "127.0.0.2")
        with refusing() as port:
            error, connected = await failure(new_client(f"http://name.invalid:{port}/"))
        assert (type(error), connected) == (Disconnected, False)

    async def test_when_it_was_never_answered_until_the_deadline(self, new_client: NewClient) -> None:
        with unanswering() as port:
            assert not await cut_off(new_client(f"http://127.0.0.1:{port}/"), is_connecting)

    async def test_when_the_name_cannot_be_resolved(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        error, connected = await failure(new_client("http://name.invalid/"))
        assert (type(error), connected) == (Disconnected, False)

    async def test_when_the_name_is_still_looked_up_at_the_deadline(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(20))
        assert not await cut_off(new_client("http://hanging.invalid/"), is_connecting)
        answer.set()

    @pytest.mark.parametrize("over_tls", [False, True])
    async def test_when_a_pooled_one_had_ended_and_the_new_one_was_refused(
        self, new_client: NewClient, certificates: Certificates, over_tls: bool
    ) -> None:
        tls = certificates.server_side() if over_tls else None
        async with scripted(answering(GOOD), tls=tls) as server:
            client = new_client(server.url, ca_file=certificates.ca)
            attempt = Attempt()
            await call(client, attempt)
            assert attempt.connected
        error, connected = await failure(client)
        assert (type(error), connected) == (Disconnected, False)


class TestAConnectionStood:
    async def test_when_the_answer_did_not_come_until_the_deadline(self, new_client: NewClient) -> None:
        async with scripted(hanging) as server:
            client = new_client(server.url)
            assert await cut_off(client, lambda _: bool(server.requests))

    async def test_when_it_was_a_pooled_one(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(GOOD)
            await hanging(peer)

        async with scripted(script) as server:
            client = new_client(server.url)
            await call(client)
            assert await cut_off(client, lambda _: len(server.requests) == 2)
            assert len(server.peers) == 1

    async def test_when_the_peer_accepts_and_resets(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            peer.reset()

        async with scripted(script) as server:
            client = new_client(server.url)
            for _ in range(20):
                error, connected = await failure(client)
                assert (type(error), connected) == (Disconnected, True)

    async def test_when_the_reset_is_there_before_our_look_at_the_socket(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Unlucky(socket.socket):
            def connect(self, address: object) -> None:
                try:
                    super().connect(address)  # type: ignore[arg-type]
                finally:
                    accept_and_reset(listener)

        unlucky = partial(start_connection, socket_factory=lambda info: Unlucky(*info[:3]))
        monkeypatch.setattr(connecting, "start_connection", unlucky)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = new_client(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            error, connected = await failure(client)
            assert (type(error), connected) == (Disconnected, True)
            assert str(error).endswith(": Connection reset by peer")
            await client.knock()

    async def test_when_the_tls_handshake_is_reset(self, new_client: NewClient, certificates: Certificates) -> None:
        async def script(peer: Peer) -> None:
            await peer.read()
            peer.reset()

        async with scripted(script) as server:
            client = new_client(server.url.replace("http", "https"), ca_file=certificates.ca)
            error, connected = await failure(client)
        assert (type(error), connected) == (Disconnected, True)

    async def test_when_the_tls_handshake_hangs_until_the_deadline(
        self, new_client: NewClient, certificates: Certificates
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.until_closed()

        async with scripted(script) as server:
            client = new_client(server.url.replace("http", "https"), ca_file=certificates.ca)
            assert await cut_off(client, lambda attempt: bool(server.peers) and attempt.connected)

    async def test_when_the_certificate_is_not_trusted(self, new_client: NewClient, certificates: Certificates) -> None:
        async with scripted(answering(GOOD), tls=certificates.server_side()) as server:
            error, connected = await failure(new_client(server.url))
        assert (type(error), connected) == (Disconnected, True)

    @pytest.mark.parametrize("status", ["500 E", "429 E", "401 E"])
    async def test_when_there_is_an_answer(self, new_client: NewClient, status: str) -> None:
        async with scripted(answering(http_response(b"", status=status))) as server:
            attempt = Attempt()
            await call(new_client(server.url), attempt)
        assert attempt.connected


class TestALackOfOurOwn:
    """It says nothing of the backend, so it does not count as unreachable."""

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "name.invalid"])
    async def test_of_descriptors(self, new_client: NewClient, host: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = new_client(f"http://{host}:{listener.getsockname()[1]}/")
            with no_descriptors():
                error, connected = await failure(client)
        assert (type(error), connected) == (Disconnected, True)
        assert "Too many open files" in str(error)

    async def test_of_ports_on_every_address_is_one_but_on_some_is_not(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where IPv6 is switched off, ::1 fails in the same way as a lack of ports."""

        numbers: list[int] = []

        def failing(_: object) -> socket.socket:
            number = numbers.pop()
            raise OSError(number, f"{os.strerror(number)} ({len(numbers)})")

        monkeypatch.setattr(connecting, "start_connection", partial(start_connection, socket_factory=failing))
        lacking = errno.EADDRNOTAVAIL
        for given, stood in [
            ([lacking], True),
            ([lacking, lacking], True),
            ([lacking, errno.ECONNREFUSED], False),
            ([errno.ENOBUFS, errno.ECONNREFUSED], True),
            ([errno.ECONNREFUSED, errno.EHOSTUNREACH], False),
        ]:
            named(monkeypatch, *["127.0.0.1"] * len(given))
            numbers[:] = given
            _, connected = await failure(new_client("http://name.invalid/"))
            assert connected is stood, given

    async def test_of_threads_to_look_a_name_up(self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch) -> None:
        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        client = new_client("http://name.invalid/")
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            error, connected = await failure(client)
        assert (type(error), connected) == (Disconnected, True)


class TestAllAddressesOfAName:
    @pytest.mark.parametrize("knocks", [False, True])
    async def test_the_second_is_taken_if_the_first_refuses(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch, knocks: bool
    ) -> None:
        named(monkeypatch, "127.0.0.2", "127.0.0.1")
        async with scripted(answering(GOOD)) as server:
            client = new_client(f"http://name.invalid:{server.port}/")
            attempt = Attempt()
            if knocks:
                await client.knock()
            await call(client, attempt)
            assert attempt.connected
            assert len(server.peers) == 1

    @pytest.mark.parametrize("knocks", [False, True])
    async def test_the_second_is_taken_if_the_first_does_not_answer(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch, knocks: bool
    ) -> None:
        named(monkeypatch, "127.0.0.2", "127.0.0.1")
        async with scripted(answering(GOOD)) as server:
            with unanswering("127.0.0.2", server.port):
                client = new_client(f"http://name.invalid:{server.port}/")
                attempt = Attempt()
                if knocks:
                    await client.knock()
                await call(client, attempt)
                assert attempt.connected
                assert len(server.peers) == 1

    async def test_a_cancellation_that_the_library_swallows_counts(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:

        async def swallowing(*given: object, **named: object) -> socket.socket:
            sock = await start_connection(*given, **named)  # type: ignore[arg-type]
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
            return sock

        monkeypatch.setattr(connecting, "start_connection", swallowing)
        async with scripted(answering(GOOD)) as server:
            await cut_off(new_client(server.url), lambda _: bool(server.peers))
            assert not server.requests


class TestAKnock:
    async def test_sends_nothing_and_the_next_call_uses_its_connection(self, new_client: NewClient) -> None:
        received: list[bytes] = []

        async def script(peer: Peer) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    received.append(await peer.read())
            await answering(GOOD)(peer)

        async with scripted(script) as server:
            client = new_client(server.url)
            await client.knock()
            await asyncio.sleep(0.2)
            assert not received
            attempt = Attempt()
            await call(client, attempt)
            await call(client)
            assert attempt.connected
            assert [len(peer.requests) for peer in server.peers] == [2]

    async def test_leaves_tls_to_the_call(self, new_client: NewClient, certificates: Certificates) -> None:
        async with scripted(stopping_over_tls(certificates.server_side())) as server:
            client = new_client(server.url.replace("http", "https"), ca_file=certificates.ca)
            await client.knock()
            assert await cut_off(client, lambda _: bool(server.requests))
            assert len(server.peers) == 1

    async def test_fails_plainly(self, new_client: NewClient) -> None:
        with refusing() as port, pytest.raises(Disconnected, match="Connection refused"):
            await new_client(f"http://127.0.0.1:{port}/").knock()

    async def test_leaves_nothing_when_cancelled(self, new_client: NewClient) -> None:
        with unanswering() as port:
            client = new_client(f"http://127.0.0.1:{port}/")
            before, tasks = open_sockets(), asyncio.all_tasks()
            for _ in range(3):
                knock = asyncio.ensure_future(client.knock())
                await eventually(lambda: open_sockets() > before)
                knock.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await knock
                await eventually(lambda: open_sockets() == before)
                assert asyncio.all_tasks() == tasks

    async def test_leaves_nothing_when_cancelled_at_any_turn(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as server:
            client = new_client(server.url)
            for turns in range(6):
                knock = asyncio.ensure_future(client.knock())
                for _ in range(turns):
                    await asyncio.sleep(0)
                knock.cancel()
                await asyncio.wait([knock])
            await client.aclose()
            await eventually(lambda: server.open_connections == 0)

    async def test_is_closed_after_some_seconds_without_a_call(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "KNOCKED_S", 0.05)
        async with scripted(answering(GOOD)) as server:
            client = new_client(server.url)
            await client.knock()
            await eventually(lambda: bool(server.peers) and server.open_connections == 0)
            for _ in range(5):  # the server has closed it; the client's loop has to look once to hear of that
                await asyncio.sleep(0)
            await call(client)
            assert len(server.peers) == 2

    async def test_is_closed_by_the_next_knock(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as server:
            client = new_client(server.url)
            for _ in range(3):
                await client.knock()
            await asyncio.gather(*(client.knock() for _ in range(3)))
            await eventually(lambda: len(server.peers) == 6 and server.open_connections == 1)

    async def test_gives_way_to_no_idle_connection(self, new_client: NewClient) -> None:
        go_on = asyncio.Event()

        async def script(peer: Peer) -> None:
            if peer.number == 0:
                await peer.request()
                await go_on.wait()
                await peer.send(GOOD)
            await answering(GOOD)(peer)

        async with scripted(script) as server:
            client = new_client(server.url)
            earlier = asyncio.ensure_future(call(client))
            await eventually(lambda: bool(server.requests))
            await client.knock()
            go_on.set()
            await earlier  # its connection is idle now
            await call(client)
            assert [len(peer.requests) for peer in server.peers] == [1, 1]

    async def test_closes_idle_connections_first(self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool, "KNOCKED_S", 3600.0)
        async with scripted(answering(GOOD)) as server:
            client = new_client(server.url, idle_s=3600.0)
            await call(client)
            await client.knock()
            await eventually(lambda: len(server.peers) == 2 and server.open_connections == 1)

    async def test_takes_the_one_place_that_a_device_has_and_leaves_it_to_the_call(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            if server.open_connections > 1:
                peer.reset()
                return
            await answering(GOOD)(peer)

        async with scripted(script) as server:
            client = new_client(server.url)
            await client.knock()
            for _ in range(3):
                await call(client)
            assert len(server.peers) == 1

    @pytest.mark.parametrize("resets", [False, True])
    async def test_that_the_peer_has_ended_meanwhile_is_followed_by_a_new_connection(
        self, new_client: NewClient, resets: bool
    ) -> None:
        async def script(peer: Peer) -> None:
            if peer.number > 0:
                await answering(GOOD)(peer)
            if resets:
                peer.reset()

        async with scripted(script) as server:
            client = new_client(server.url)
            await client.knock()
            await eventually(lambda: bool(server.peers) and server.open_connections == 0)
            await call(client)
            assert len(server.peers) == 2

    async def test_that_the_peer_ends_during_the_call_fails_the_call(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()

        async with scripted(script) as server:
            client = new_client(server.url)
            await client.knock()
            error, connected = await failure(client)
            assert (type(error), connected) == (Disconnected, True)
            assert len(server.peers) == 1, "the connection was new, so the request is not repeated"

    async def test_that_the_peer_has_ended_before_it_refuses_is_unreachable(self, new_client: NewClient) -> None:
        async with scripted(answering(GOOD)) as server:
            client = new_client(server.url)
            await client.knock()
            await eventually(lambda: server.open_connections == 1)
        error, connected = await failure(client)
        assert (type(error), connected) == (Disconnected, False)

    async def test_where_the_server_greets_first_is_kept(self, new_client: NewClient) -> None:
        async def script(peer: Peer) -> None:
            await peer.send(b"220 mail ready\r\n")
            await peer.until_closed()

        async with scripted(script) as server:
            client = new_client(server.url)
            await client.knock()
            await eventually(lambda: bool(server.peers))
            await asyncio.sleep(0.05)
            error, _ = await failure(client)
            assert "expected an HTTP response" in str(error)
            assert len(server.peers) == 1

    async def test_ends_with_the_client(self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool, "KNOCKED_S", 3600.0)
        async with scripted(answering(GOOD)) as server:
            client = new_client(server.url)
            await client.knock()
            await client.aclose()
            await eventually(lambda: bool(server.peers) and server.open_connections == 0)
            with pytest.raises(Disconnected, match="the gateway closed"):
                await client.knock()
            await asyncio.sleep(0.01)
            assert len(server.peers) == 1

    async def test_under_way_ends_with_the_client(self, new_client: NewClient) -> None:
        with unanswering() as port:
            client = new_client(f"http://127.0.0.1:{port}/")
            before = open_sockets()
            knock = asyncio.ensure_future(client.knock())
            await eventually(lambda: open_sockets() > before)
            await client.aclose()
            with pytest.raises(Disconnected, match="the gateway closed"):
                await knock

    async def test_that_stands_while_the_client_closes_leaves_nothing(
        self, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def connect(to: Destination) -> connecting.NewConnection:
            made = await connecting.connected(to)
            await client.aclose()
            return made

        async with scripted(answering(GOOD)) as server:
            client = HttpClient(HttpOptions(url=server.url), connect=connect)
            with pytest.raises(Disconnected, match="the gateway closed"):
                await client.knock()
            await eventually(lambda: bool(server.peers) and server.open_connections == 0)


def accept_and_reset(listener: socket.socket) -> None:
    accepted, _ = listener.accept()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    accepted.close()
