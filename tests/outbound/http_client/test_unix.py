"""Backends that listen on a Unix socket, on real sockets and both event loops."""

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from certificates import Certificates, written_to
from scripted_http import answering, hanging, http_response, scripted
from unprivileged import unprivileged

from tidegate.errors import ConfigError, Disconnected
from tidegate.outbound.http_client import Attempt, HttpClient, HttpOptions
from tidegate.outbound.http_client.options import SOCKET_BYTES

GOOD = http_response(b"{}")

NewClient = Callable[..., HttpClient]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return written_to(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, which everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
async def new_client() -> AsyncIterator[NewClient]:
    """Makes clients; at the end each is closed and must leave no task."""
    made: list[HttpClient] = []

    def new(path: Path, url: str = "http://somewhere.test/base", **options: object) -> HttpClient:
        made.append(HttpClient(HttpOptions(url=url, socket=path, **options)))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for client in made:
        await client.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def get(client: HttpClient, attempt: Attempt | None = None) -> bytes:
    return bytes(await client.fetch("GET", client.url, credentials={}, attempt=attempt))


async def failure(client: HttpClient) -> tuple[str, bool]:
    """What the failed call says, and whether its connection stood."""
    attempt = Attempt()
    with pytest.raises(Disconnected) as caught:
        await get(client, attempt)
    return str(caught.value), attempt.connected


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@contextlib.contextmanager
def full(path: Path) -> Iterator[socket.socket]:
    """A listener whose queue is full."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        yield listener


class TestARequest:
    async def test_goes_to_the_socket_and_keeps_host_and_path_of_the_url(
        self, new_client: NewClient, folder: Path
    ) -> None:
        async with scripted(answering(GOOD), path=folder / "s") as server:
            assert await get(new_client(folder / "s")) == b"{}"
        [request] = server.requests
        assert (request.line, request.headers["host"]) == ("GET /base HTTP/1.1", "somewhere.test")

    async def test_keeps_the_connection_for_the_next(self, new_client: NewClient, folder: Path) -> None:
        async with scripted(answering(GOOD), path=folder / "s") as server:
            client = new_client(folder / "s")
            await get(client)
            await get(client)
            assert len(server.peers) == 1

    async def test_speaks_tls_over_the_socket_with_https(
        self, new_client: NewClient, folder: Path, certificates: Certificates
    ) -> None:
        async with scripted(answering(GOOD), path=folder / "s", tls=certificates.server_side()):
            good = new_client(folder / "s", "https://127.0.0.1/", ca_file=certificates.ca)
            assert await get(good) == b"{}"
            other = new_client(folder / "s", "https://other.test/", ca_file=certificates.ca)
            message, connected = await failure(other)
        assert connected
        assert message.startswith(f"{folder}/s: its certificate is not trusted (Hostname mismatch")

    async def test_is_repeated_on_a_new_connection_if_the_server_was_restarted(
        self, new_client: NewClient, folder: Path
    ) -> None:
        client = new_client(folder / "s")
        async with scripted(answering(http_response(b"1")), path=folder / "s"):
            assert await get(client) == b"1"
        (folder / "s").unlink(missing_ok=True)
        async with scripted(answering(http_response(b"2")), path=folder / "s"):
            assert await get(client) == b"2"

    async def test_that_is_cancelled_leaves_nothing(self, new_client: NewClient, folder: Path) -> None:
        async with scripted(hanging, path=folder / "s") as server:
            task = asyncio.ensure_future(get(new_client(folder / "s")))
            await eventually(lambda: bool(server.requests))
            task.cancel()
            await eventually(lambda: server.open_connections == 0)


class TestNoConnection:
    async def test_without_a_file(self, new_client: NewClient, folder: Path) -> None:
        path = folder / "missing" / "s"
        assert await failure(new_client(path)) == (
            f"{path}: there is no such file (start the service that makes this socket, or correct the path)",
            False,
        )

    async def test_if_nobody_listens_any_more(self, new_client: NewClient, folder: Path) -> None:
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(folder / "s"))
        assert await failure(new_client(folder / "s")) == (
            f"{folder}/s: Connection refused (nobody listens on this socket any more: start its service)",
            False,
        )

    @pytest.mark.parametrize(("kind", "words"), [("file", "a file that is none"), ("directory", "a directory")])
    async def test_if_it_is_no_socket(self, new_client: NewClient, folder: Path, kind: str, words: str) -> None:
        path = folder / kind
        path.touch() if kind == "file" else path.mkdir()
        assert await failure(new_client(path)) == (f"{path}: expected a socket, got {words} (correct the path)", False)

    async def test_if_it_is_a_socket_for_datagrams(self, new_client: NewClient, folder: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
            bound.bind(str(folder / "s"))
            message, connected = await failure(new_client(folder / "s"))
        assert message == f"{folder}/s: it is a socket, but not for streams (correct the path)"
        assert not connected

    @pytest.mark.parametrize(("mode", "remedy"), [(0o660, "to that group"), (0o600, "write to it")])
    async def test_without_the_right_to_connect(
        self, new_client: NewClient, folder: Path, mode: int, remedy: str
    ) -> None:
        async with scripted(answering(GOOD), path=folder / "s"):
            (folder / "s").chmod(mode if os.geteuid() == 0 else mode & 0o077)
            with unprivileged():
                message, connected = await failure(new_client(folder / "s"))
        assert message.startswith(f"{folder}/s: Permission denied (it belongs to ")
        assert remedy in message or os.geteuid() != 0
        assert message.endswith("and start the gateway again)")
        assert not connected

    async def test_without_the_right_to_enter_its_directory(self, new_client: NewClient, folder: Path) -> None:
        closed = folder / "closed"
        closed.mkdir()
        async with scripted(answering(GOOD), path=closed / "s"):
            closed.chmod(0)
            with unprivileged():
                message, _ = await failure(new_client(closed / "s"))
            closed.chmod(0o700)
        assert message.startswith(f"{closed}/s: Permission denied (let the user ")
        assert message.endswith(" enter the directories above it)")

    async def test_with_a_path_that_is_too_long_for_the_kernel(self, new_client: NewClient, folder: Path) -> None:
        fits = folder / ("x" * (SOCKET_BYTES - len(f"{folder}/")))
        async with scripted(answering(GOOD), path=fits):
            assert await get(new_client(fits)) == b"{}"
        with pytest.raises(ConfigError) as caught:
            new_client(Path(f"{fits}x"))
        assert str(caught.value) == (
            "socket: expected a path of at most 107 bytes, the kernel's limit (a link to the socket may be shorter), "
            f"got 108 bytes: {fits}x"
        )

    async def test_while_the_queue_of_the_server_is_full(self, new_client: NewClient, folder: Path) -> None:
        """As over TCP: who never got a connection by the deadline did not reach the backend."""
        with full(folder / "s"):
            attempt = Attempt()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await get(new_client(folder / "s"), attempt)
            assert not attempt.connected

    async def test_ends_when_the_queue_has_room_again(self, new_client: NewClient, folder: Path) -> None:
        with full(folder / "s") as listener:
            client = new_client(folder / "s")
            knock = asyncio.ensure_future(client.knock())
            await asyncio.sleep(0.03)
            assert not knock.done()
            listener.accept()[0].close()
            await asyncio.wait_for(knock, 20)
            listener.accept()[0].close()


class TestAKnock:
    async def test_fails_until_the_service_is_back(self, new_client: NewClient, folder: Path) -> None:
        client = new_client(folder / "s")
        with pytest.raises(Disconnected, match="there is no such file"):
            await client.knock()
        async with scripted(answering(GOOD), path=folder / "s") as server:
            await client.knock()
            attempt = Attempt()
            assert await get(client, attempt) == b"{}"
            assert (len(server.peers), attempt.connected) == (1, True)
