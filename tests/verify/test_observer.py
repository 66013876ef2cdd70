"""The client that judges raw messages, against a server of which the test decides every message."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from tidegate.verify.observer import NotSeen, StreamEnded, observing
from tidegate.verify.obstacles import CouldNotTest

WELCOME = (
    '{"type":"welcome","timestamp":"2026-11-22T21:40:03.123Z",'
    '"data":{"epoch":"e","seq":3,"resumed":false,"heartbeat_interval_s":1}}'
)
EVENT = '{"type":"a.b","timestamp":"2026-11-22T21:40:03.123Z","seq":4,"data":1.10}'

Script = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[str]:
    async with serve(script, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def saying(*messages: str) -> Script:
    async def script(connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message)
        await connection.wait_closed()

    return script


async def test_every_message_is_kept_in_order_and_as_it_came() -> None:
    async with scripted(saying(WELCOME, EVENT)) as url, observing(url, label="c", types=("*",)) as observer:
        await observer.when(lambda: len(observer.frames) == 2, within_s=5)
        assert (observer.welcome.epoch, observer.welcome.seq) == ("e", 3)
        assert observer.frames[1].value == b"1.10"
        assert observer.everything
        assert observer.came == sorted(observer.came)
        assert [observer.came_at(frame) for frame in observer.frames] == observer.came


async def test_it_asks_for_what_it_is_told_to() -> None:
    asked: list[tuple[str, str | None]] = []

    async def script(connection: ServerConnection) -> None:
        assert connection.request is not None
        asked.append((connection.request.path, connection.request.headers.get("Authorization")))
        await connection.send(WELCOME)
        await connection.wait_closed()

    async with scripted(script) as url:
        async with observing(url, label="c", types=("a.*", "b"), since="e:1", token="secret"):
            pass
        async with observing(url, label="c"):
            pass
    assert asked == [("/ws?types=a.%2A%2Cb&since=e%3A1", "Bearer secret"), ("/ws", None)]


@pytest.mark.parametrize(
    "message",
    [
        "nonsense",
        '{"type":"a.b","data":1}',
        '{"type":"a.b","timestamp":"yesterday","data":1}',
        '{"type":"a.b","timestamp":"2026-11-22T21:40:03.123Z","data":1,"stale":"yes"}',
        '{"type":"rpc_error","timestamp":"2026-11-22T21:40:03.123Z","data":{}}',
        '{"type":"circuit_breaker.state","timestamp":"2026-11-22T21:40:03.123Z","data":{}}',
    ],
)
async def test_what_is_no_message_of_the_contract_is_kept_apart(message: str) -> None:
    async with scripted(saying(WELCOME, message, EVENT)) as url, observing(url, label="c") as observer:
        await observer.when(lambda: len(observer.frames) == 2, within_s=5)
        assert len(observer.malformed) == 1


async def test_what_never_comes_is_not_seen() -> None:
    async with scripted(saying(WELCOME)) as url, observing(url, label="c") as observer:
        with pytest.raises(NotSeen, match=r"not seen within 0\.01 s"):
            await observer.when(lambda: None, within_s=0.01)


async def test_a_connection_that_the_gateway_ends_is_told_so() -> None:
    async def script(connection: ServerConnection) -> None:
        await connection.send(WELCOME)
        await connection.close(4408, "too slow")

    async with scripted(script) as url, observing(url, label="c") as observer:
        with pytest.raises(StreamEnded, match="4408"):
            await observer.when(lambda: None, within_s=5)
        with pytest.raises(StreamEnded, match="4408"):
            await observer.ping(within_s=5)


async def test_a_client_that_dies_could_not_test() -> None:
    async with scripted(saying(WELCOME)) as url, observing(url, label="the client") as observer:
        waiting = asyncio.create_task(observer.when(lambda: False, within_s=5))
        await asyncio.sleep(0)
        observer._reading.cancel()
        with pytest.raises(CouldNotTest, match="the client 'the client' has died: cancelled"):
            await waiting


async def test_a_gateway_that_is_not_there_cannot_be_tested() -> None:
    with pytest.raises(CouldNotTest, match="lets no client in"):
        async with observing("http://127.0.0.1:9", label="c"):
            pass


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            '{"status":403,"detail":"types: the token does not cover *"}',
            "HTTP 403: types: the token does not cover \\*$",
        ),
        ("<html>", "HTTP 403$"),
    ],
)
async def test_a_refusal_is_told_in_the_gateways_words(body: str, told: str) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(403, body)

    async with serve(saying(), "127.0.0.1", 0, process_request=refuse) as server:
        with pytest.raises(CouldNotTest, match=told):
            async with observing(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", label="c", types=("*",)):
                pass


@pytest.mark.parametrize("first", [EVENT, "nonsense"])
async def test_a_gateway_that_does_not_welcome_cannot_be_tested(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.verify.observer.OPEN_S", 0.5)
    async with scripted(saying(first)) as url:
        with pytest.raises(CouldNotTest, match=r"expected welcome|says nothing"):
            async with observing(url, label="c"):
                pass
