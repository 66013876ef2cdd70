import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from fanout import EPOCH, KIB, House, draft, knowing, types
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from tidegate.core.access.grant import Grant, Role
from tidegate.core.delivery.session import SessionLimits, StreamSession
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.envelope import Pong
from tidegate.core.rate import Rate
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode, LeaveReason
from tidegate.inbound.server import serve
from tidegate.inbound.websocket import WebSocketOptions, WebSocketProtocol, WebSocketServer
from tidegate.inbound.websocket import protocol as protocol_module
from tidegate.inbound.websocket.frames import FrameReader
from tidegate.inbound.websocket.server import PING_S
from tidegate.inbound.websocket.wire import Wire
from tidegate.ports import Authenticator
from tidegate.runtime.access import Gate, Request
from tidegate.runtime.admission import Admissions

PATIENCE_S = 20.0
UNLIMITED = Rate(per_s=1e6, burst=1_000_000)


class RememberingServer(WebSocketServer):
    """Keeps the protocols that it made."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.made: list[WebSocketProtocol] = []

    def __call__(self, transport: asyncio.Transport, method: str, target: str, asked: Request) -> WebSocketProtocol:
        self.made.append(super().__call__(transport, method, target, asked))
        return self.made[-1]


@dataclass
class Serving:
    port: int
    house: House
    server: RememberingServer

    def connect(self, query: str = "", **how: Any) -> connect:
        url = f"ws://127.0.0.1:{self.port}{how.pop('path', '/ws')}{query}"
        return connect(url, proxy=None, ping_interval=None, compression=how.pop("compression", None), **how)

    async def refused(self, query: str = "", **how: Any) -> InvalidStatus:
        with pytest.raises(InvalidStatus) as caught:
            async with self.connect(query, **how):
                pass
        return caught.value

    async def until_left(self, count: int = 1) -> list[LeaveReason]:
        """Why clients left, once `count` of them have."""
        async with asyncio.timeout(PATIENCE_S):
            while len(left := self.house.metrics.named("client_left")) < count:
                await asyncio.sleep(0.005)
        return [reason for _, reason in left]


@asynccontextmanager
async def serving(
    *,
    authenticator: Authenticator | None = None,
    message_bytes: int = 65536,
    soft_bytes: int = 1 << 18,
    hard_bytes: int = 1 << 22,
    root_path: str = "",
    frames: Rate = UNLIMITED,
    **options: Any,
) -> AsyncIterator[Serving]:
    house = House(authenticator=authenticator, send_limits=SendLimits(hard_bytes=hard_bytes, grace_s=10.0), **options)
    gate = Gate(authenticator=authenticator or AnyToken(), bound_host="127.0.0.1", origins=["https://app.example"])
    server = RememberingServer(
        house.gateway,
        Admissions(house.gateway, gate),
        WebSocketOptions(
            message_bytes=message_bytes,
            frames=frames,
            send_buffer_soft_bytes=soft_bytes,
            send_buffer_hard_bytes=hard_bytes,
            root_path=root_path,
        ),
    )
    listener = socket.create_server(("127.0.0.1", 0))
    async with serve(no_application, server, sock=listener, keep_alive_s=5, handshake_s=20):
        served = Serving(listener.getsockname()[1], house, server)
        try:
            yield served
        finally:
            for connection in house.gateway.clients.connections:
                connection.abort(CloseCode.GOING_AWAY, "the test is over")
            await served.until_left(len(house.metrics.named("client_connected")))


class AnyToken:
    def verify(self, token: str) -> Grant:
        del token
        return Grant()


async def no_application(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no plain HTTP request was expected")


async def received(client: ClientConnection, count: int = 1) -> list[dict[str, Any]]:
    async with asyncio.timeout(PATIENCE_S):
        return [json.loads(await client.recv()) for _ in range(count)]


async def opened(client: ClientConnection) -> None:
    """Read what every connection begins with, up to `synced`."""
    while types(await received(client)) != ["synced"]:
        pass


async def say(client: ClientConnection, message: Any) -> dict[str, Any]:
    """Send `message` and read one message."""
    await client.send(message if isinstance(message, str | bytes) else json.dumps(message))
    return (await received(client))[0]


async def ended(client: ClientConnection) -> tuple[int | None, str]:
    """The close code and reason that arrive, after whatever else does."""
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionClosed):
            while True:
                await client.recv()
    return client.close_code, client.close_reason or ""


@dataclass
class RawClient:
    """A WebSocket client byte by byte: it answers nothing on its own, and may break every rule."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: ClientProtocol
    frames: list[Frame] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, port: int, query: str = "?types=", *, receive_buffer: int | None = None
    ) -> "AsyncIterator[RawClient]":
        raw = socket.socket()
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
        protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/ws{query}"))
        protocol.send_request(protocol.connect())
        writer.write(b"".join(protocol.data_to_send()))
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        protocol.events_received()
        assert protocol.state is State.OPEN
        client = cls(reader, writer, protocol)
        try:
            yield client
        finally:
            await client.end()

    async def end(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def send(self, *frames: Frame | bytes) -> None:
        self.writer.write(b"".join(it if isinstance(it, bytes) else it.serialize(mask=True) for it in frames))

    async def next(self) -> Frame | None:
        """The next frame; None at the end of the stream."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.frames:
                data = await self.reader.read(65536)
                if not data:
                    return None
                self.protocol.receive_data(data)
                self.frames += [frame for frame in self.protocol.events_received() if isinstance(frame, Frame)]
        return self.frames.pop(0)

    async def message(self) -> dict[str, Any]:
        frame = await self.next()
        assert frame is not None
        assert frame.opcode is Opcode.TEXT
        decoded: dict[str, Any] = json.loads(bytes(frame.data))
        return decoded

    async def opened(self) -> None:
        """Read what every connection begins with, up to `synced`."""
        while (await self.message())["type"] != "synced":
            pass


class TestWelcome:
    async def test_a_client_that_asks_for_nothing_gets_the_defaults(self) -> None:
        async with serving() as served:
            await served.house.gateway.publish([draft("system.status", {"n": 1}, retain=True), draft("a")])
            async with served.connect() as client:
                welcome, snapshot, synced = await received(client, 3)
                await served.house.gateway.publish([draft("system.status", {"n": 2}), draft("a")])
                [live] = await received(client)
            assert welcome["type"] == "welcome"
            assert welcome["data"]["subscriptions"] == sorted(served.house.gateway.options.default_types)
            assert (welcome["data"]["epoch"], welcome["data"]["seq"]) == (EPOCH, 2)
            assert (snapshot["type"], snapshot["seq"], snapshot["snapshot"]) == ("system.status", 1, True)
            assert (synced["type"], synced["data"]) == ("synced", {"epoch": EPOCH, "seq": 2})
            assert (live["type"], live["seq"]) == ("system.status", 3)

    @pytest.mark.parametrize(
        ("query", "patterns"), [("?types=", []), ("?types=a,b.*&more=1", ["a", "b.*"]), ("?types=%2A", ["*"])]
    )
    async def test_types_sets_the_first_subscriptions(self, query: str, patterns: list[str]) -> None:
        async with serving() as served, served.connect(query) as client:
            assert (await received(client))[0]["data"]["subscriptions"] == patterns

    async def test_since_resumes(self) -> None:
        async with serving() as served:
            for n in range(3):
                await served.house.gateway.publish([draft("a", n)])
            async with served.connect(f"?types=a&since={EPOCH}:1") as client:
                messages = await received(client, 4)
            async with served.connect("?types=a&since=other:1") as client:
                gap = await received(client, 3)
        assert messages[0]["data"]["resumed"] is True
        assert [m["seq"] for m in messages[1:3]] == [2, 3]
        assert (messages[3]["type"], messages[3]["data"]) == ("synced", {"epoch": EPOCH, "seq": 3})
        assert types(gap) == ["welcome", "gap", "synced"]

    async def test_compression_is_not_agreed_to(self) -> None:
        async with serving() as served, served.connect("?types=", compression="deflate") as client:
            assert client.protocol.extensions == []
            assert types(await received(client)) == ["welcome"]


class TestMessages:
    async def test_both_shapes_of_subscribe_then_unsubscribe(self) -> None:
        async with serving() as served, served.connect("?types=") as client:
            await opened(client)
            first = await say(client, {"type": "subscribe", "id": 1, "data": {"types": ["a"]}})
            await opened(client)
            second = await say(client, {"type": "subscribe", "id": "x", "types": ["b"]})
            await opened(client)
            third = await say(client, {"type": "unsubscribe", "types": ["a"]})
            await served.house.gateway.publish([draft("a"), draft("b")])
            [live] = await received(client)
        assert (first["type"], first["id"], first["data"]["types"]) == ("subscribed", 1, ["a"])
        assert (second["type"], second["id"], second["data"]["added"]) == ("subscribed", "x", ["b"])
        assert (third["type"], third["data"]) == ("unsubscribed", {"types": ["b"], "removed": ["a"]})
        assert live["type"] == "b"

    async def test_ping_and_every_error_leave_the_connection_open(self) -> None:
        asked: list[tuple[Any, str]] = [
            ("no json", "INVALID_JSON"),
            ('{"a":' + "[" * 10_000 + "]" * 10_000 + "}", "INVALID_JSON"),
            ([], "INVALID_MESSAGE"),
            (b"\x00\x01", "INVALID_MESSAGE"),
            ({"type": "nope"}, "UNKNOWN_MESSAGE_TYPE"),
            ({"type": "subscribe", "types": ["A"]}, "INVALID_PATTERN"),
            ({"type": "subscribe", "types": [f"t{n}" for n in range(9)]}, "TOO_MANY_SUBSCRIPTIONS"),
            ({"type": "subscribe", "types": ["secret"]}, "FORBIDDEN"),
            ({"type": "auth", "data": {"token": "wrong"}}, "UNAUTHENTICATED"),
        ]
        grants = {"t": Grant(allowed=PatternSet([f"t{n}" for n in range(9)]))}
        authenticator = knowing(grants)
        async with serving(authenticator=authenticator) as served, served.connect("?types=&token=t") as client:
            await opened(client)
            for message, code in asked:
                answer = await say(client, message)
                assert (answer["type"], answer["data"]["code"]) == ("error", code)
            pong = await say(client, {"type": "ping", "id": 3})
            assert (pong["type"], pong["id"], pong["data"]) == ("pong", 3, {})

    async def test_too_many_messages_are_limited(self) -> None:
        limits = SessionLimits(patterns=8, messages_per_s=1.0, messages_burst=2)
        async with serving(session_limits=limits) as served, served.connect("?types=") as client:
            await opened(client)
            answers = [await say(client, {"type": "ping", "id": n}) for n in range(3)]
            served.house.clock.advance(4.9)
            await say(client, {"type": "ping"})
            await say(client, {"type": "ping"})
            await say(client, {"type": "ping"})
            served.house.clock.advance(0.2)
            await client.send('{"type":"ping"}')
            assert (await ended(client))[0] == 4429
        assert types(answers) == ["pong", "pong", "error"]
        assert (answers[2]["id"], answers[2]["data"]["code"]) == (2, "RATE_LIMITED")

    async def test_a_text_in_fragments_with_control_frames_between(self) -> None:
        text = '{"type":"ping","id":"ä"}'.encode()
        async with serving() as served, RawClient.open(served.port) as client:
            await client.opened()
            client.send(
                Frame(Opcode.TEXT, text[:22], fin=False),
                Frame(Opcode.PING, b"here"),
                Frame(Opcode.CONT, text[22:23], fin=False),
                Frame(Opcode.CONT, text[23:]),
            )
            frames = [await client.next(), await client.next()]
            assert {frame.opcode for frame in frames if frame} == {Opcode.PONG, Opcode.TEXT}
            assert [json.loads(bytes(f.data))["id"] for f in frames if f and f.opcode is Opcode.TEXT] == ["ä"]
            client.send(Frame(Opcode.BINARY, b"\xff", fin=False), Frame(Opcode.CONT, b"\xff"))
            assert (await client.message())["data"]["code"] == "INVALID_MESSAGE"

    async def test_pings_and_messages_in_one_segment_are_answered_in_their_order(self) -> None:
        async with serving() as served, RawClient.open(served.port) as client:
            await client.opened()
            text = Frame(Opcode.TEXT, b'{"type":"ping"}')
            parts = Frame(Opcode.TEXT, text.data[:5], fin=False), Frame(Opcode.CONT, text.data[5:])
            client.send(parts[0], Frame(Opcode.PING, b"1"), parts[1], Frame(Opcode.PING, b"2"), text)
            client.send(Frame(Opcode.PING, b"3"), Frame(Opcode.CLOSE, b"\x03\xe8"))
            frames = [await client.next() for _ in range(6)]
        assert [frame.opcode for frame in frames if frame] == [
            Opcode.PONG,
            Opcode.TEXT,
            Opcode.PONG,
            Opcode.TEXT,
            Opcode.PONG,
            Opcode.CLOSE,
        ]

    async def test_many_messages_in_one_segment_are_answered_in_order(self) -> None:
        async with serving() as served, RawClient.open(served.port) as client:
            await client.opened()
            client.send(*[Frame(Opcode.TEXT, b'{"type":"ping","id":%d}' % n) for n in range(20)])
            assert [(await client.message())["id"] for _ in range(20)] == list(range(20))


class TestProtocolErrors:
    @pytest.mark.parametrize(
        ("frames", "code"),
        [
            ([Frame(Opcode.TEXT, b'{"type":"ping","id":"\xff"}')], 1007),
            ([Frame(Opcode.TEXT, b"\xc3", fin=False), Frame(Opcode.CONT, b"\x28")], 1007),
            ([Frame(Opcode.CONT, b"x")], 1002),
            ([b"\xc1\x81\0\0\0\0x"], 1002),
            ([Frame(Opcode.TEXT, b"x" * 1001)], 1009),
            ([Frame(Opcode.TEXT, b"x" * 600, fin=False), Frame(Opcode.CONT, b"x" * 600)], 1009),
        ],
    )
    async def test_each_has_its_code_and_what_came_before_is_answered(
        self, frames: list[Frame | bytes], code: int
    ) -> None:
        async with serving(message_bytes=1000) as served, RawClient.open(served.port) as client:
            await client.opened()
            ping = Frame(Opcode.TEXT, b'{"type":"ping","id":1}')
            client.send(ping, *frames, ping)
            assert (await client.message())["type"] == "pong"
            close = await client.next()
            assert close is not None
            assert (close.opcode, int.from_bytes(close.data[:2])) == (Opcode.CLOSE, code)
            assert await client.next() is None
            await client.end()
            expected = LeaveReason.TOO_LARGE if code == 1009 else LeaveReason.PROTOCOL_ERROR
            assert await served.until_left() == [expected]

    async def test_the_code_arrives_although_the_client_goes_on_sending(self) -> None:
        async with serving() as served, served.connect("?types=") as client, served.connect("?types=a") as other:
            await opened(client)
            await client.send("x" * 2_000_000)
            assert (await ended(client))[0] == 1009
            await opened(other)
            await served.house.gateway.publish([draft("a")])
            assert types(await received(other)) == ["a"]

    async def test_as_long_a_message_as_is_allowed(self) -> None:
        async with serving() as served, served.connect("?types=") as client:
            await opened(client)
            request = '{"type":"ping","id":"%s"}'
            text = request % ("x" * (65536 - len(request) + 2))
            assert len(text) == 65536
            assert (await say(client, text))["type"] == "pong"


class TestClosing:
    async def test_a_client_that_closes_is_answered_and_forgotten(self) -> None:
        async with serving() as served:
            async with served.connect("?types=a") as client:
                await opened(client)
                await client.close(4000, "enough")
            assert (client.close_code, client.close_reason) == (4000, "enough")
            assert await served.until_left() == [LeaveReason.CLIENT_CLOSED]
            assert served.house.gateway.clients.connections == []
            assert not any(served.server._slots)

    async def test_a_client_that_vanishes_is_forgotten(self) -> None:
        async with serving() as served, RawClient.open(served.port) as client:
            client.writer.transport.abort()
            assert await served.until_left() == [LeaveReason.CONNECTION_LOST]

    async def test_the_end_of_the_stream_without_a_close_is_the_end(self) -> None:
        async with serving() as served, RawClient.open(served.port) as client:
            client.writer.write_eof()
            await client.opened()
            assert await client.next() is None
            assert await served.until_left() == [LeaveReason.CONNECTION_LOST]

    async def test_who_ends_its_direction_is_handed_what_waits_and_nothing_more(self) -> None:
        async with (
            serving(soft_bytes=1 << 16) as served,
            RawClient.open(served.port, "?types=a", receive_buffer=4096) as slow,
        ):
            [connection] = served.house.gateway.clients.connections
            while not connection.subscriber.waiting_bytes:
                await served.house.gateway.publish([draft("a", KIB * 16)])
                await asyncio.sleep(0)
            slow.writer.write_eof()
            async with asyncio.timeout(10):
                while connection.subscriber.cohort is not None:
                    await asyncio.sleep(0)
            assert served.house.metrics.named("client_left") == []

    async def test_text_after_the_close_is_ignored_and_nothing_follows_it(self) -> None:
        async with serving() as served, RawClient.open(served.port, "?types=a") as client:
            await client.opened()
            ping = Frame(Opcode.TEXT, b'{"type":"ping"}')
            client.send(ping, Frame(Opcode.CLOSE, (1000).to_bytes(2)), ping)
            assert (await client.message())["type"] == "pong"
            close = await client.next()
            assert close is not None
            assert close.opcode is Opcode.CLOSE
            await served.house.gateway.publish([draft("a")])
            assert await client.next() is None

    async def test_the_server_waits_for_the_answer_to_its_close(self) -> None:
        async with serving() as served, RawClient.open(served.port, "?types=a") as client:
            await client.opened()
            [connection] = served.house.gateway.clients.connections
            connection.close(CloseCode.UNAUTHENTICATED, "ü" * 200)
            connection.send("pong", Pong(timestamp=""))
            assert (await client.message())["data"]["code"] == 4401
            close = await client.next()
            assert close is not None
            assert int.from_bytes(close.data[:2]) == 4401
            client.send(Frame(Opcode.TEXT, b'{"type":"ping"}'), Frame(Opcode.CLOSE, close.data[:2]))
            assert await client.next() is None
            assert await served.until_left() == [LeaveReason.TOKEN_EXPIRED]

    async def test_a_client_that_does_not_answer_the_close_is_cut_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(protocol_module, "LINGER_S", 0.01)
        async with serving() as served, RawClient.open(served.port, "?types=a") as client:
            await client.opened()
            served.house.gateway.clients.connections[0].close(CloseCode.DRAINING, "draining")
            assert await served.until_left() == [LeaveReason.DRAINED]

    async def test_a_drain_says_so_and_closes_with_1012(self) -> None:
        async with serving() as served, served.connect("?types=") as client, served.connect("?types=a") as other:
            await opened(client)
            await opened(other)
            await served.house.gateway.drain(0.0)
            for each in (client, other):
                notice = (await received(each))[0]
                assert (notice["type"], notice["data"]["code"]) == ("notification", "DRAINING")
                assert notice["data"]["retry_after_ms"] > 0
                assert await ended(each) == (1012, "the gateway is draining")
            refusal = await served.refused()
            assert (refusal.response.status_code, refusal.response.headers["Retry-After"]) == (503, "1")


class TestFailuresOfOurs:
    """What nobody foresaw, on one connection: it is closed with 1011, and nobody else notices."""

    async def test_in_carrying_a_request_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with serving() as served, served.connect("?types=a") as client, served.connect("?types=a") as other:
            await opened(client)
            await opened(other)
            with structlog.testing.capture_logs() as logs, monkeypatch.context() as patch:
                patch.setattr(StreamSession, "receive", _fails)
                await client.send('{"type":"ping"}')
                told = (await received(client))[0]
                assert await ended(client) == (1011, "the gateway failed at something unforeseen on this connection")
            assert (told["type"], told["data"]["code"]) == ("connection_error", 1011)
            assert [str(entry["exc_info"]) for entry in logs if entry["log_level"] == "error"] == ["unforeseen"]
            await served.house.gateway.publish([draft("a", 1)])
            assert (await received(other))[0]["data"] == 1
            await other.send('{"type":"ping"}')
            assert (await received(other))[0]["type"] == "pong"

    @pytest.mark.parametrize("where", ["frames", "_take"])
    async def test_in_reading_its_frames(self, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async with serving() as served, served.connect("?types=a") as client:
            await opened(client)
            with structlog.testing.capture_logs() as logs, monkeypatch.context() as patch:
                patch.setattr(Wire, where, _fails)
                await client.send('{"type":"ping"}')
                assert (await received(client))[0]["data"]["code"] == 1011
                assert (await ended(client))[0] == 1011
            assert [str(entry["exc_info"]) for entry in logs if entry["log_level"] == "error"] == ["unforeseen"]
            assert await served.until_left() == [LeaveReason.ERROR]


def _fails(*_: object, **__: object) -> None:
    raise RuntimeError("unforeseen")


class TestLiveness:
    async def test_any_frame_is_a_sign_of_life(self) -> None:
        async with serving() as served, RawClient.open(served.port) as client:
            await client.opened()
            [protocol] = served.server.made
            for answer in (Frame(Opcode.PONG, b""), Frame(Opcode.TEXT, b'{"type":"ping"}'), Frame(Opcode.PING, b"")):
                protocol.check_alive()
                while (frame := await client.next()) and frame.opcode is not Opcode.PING:
                    pass
                assert not protocol._alive
                client.send(answer)
                async with asyncio.timeout(PATIENCE_S):
                    while not protocol._alive:
                        await asyncio.sleep(0.001)
            assert served.house.metrics.named("client_left") == []

    async def test_an_unanswered_ping_is_the_end(self) -> None:
        async with serving() as served, RawClient.open(served.port) as client:
            await client.opened()
            [protocol] = served.server.made
            protocol.check_alive()
            protocol.check_alive()
            assert await served.until_left() == [LeaveReason.NO_PONG]

    async def test_each_connection_is_checked_once_in_a_round(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with serving() as served, served.connect("?types=") as client:
            await opened(client)
            [protocol] = served.server.made
            checks: list[int] = []
            naps: list[float] = []

            async def nap(delay: float) -> None:
                naps.append(delay)
                if len(naps) > 60:
                    raise asyncio.CancelledError

            monkeypatch.setattr(WebSocketProtocol, "check_alive", lambda it: checks.append(len(naps)))
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "sleep", nap)
                with pytest.raises(asyncio.CancelledError):
                    await served.server.run()
            assert checks == [20, 40, 60]
            assert set(naps) == {PING_S / 20}
            assert protocol in served.server._slots[0]

    async def test_when_the_timer_ends_so_does_every_connection(self) -> None:
        async with serving() as served, RawClient.open(served.port) as client, RawClient.open(served.port) as other:
            running = asyncio.create_task(served.server.run())
            await client.opened()
            await other.opened()
            await asyncio.sleep(0)
            running.cancel()
            assert await served.until_left(2) == [LeaveReason.DRAINED] * 2


class TestSlowReaders:
    async def test_a_reader_that_stopped_is_ended_with_4408_and_nobody_else_notices(self) -> None:
        async with (
            serving(soft_bytes=1 << 16, hard_bytes=1 << 19) as served,
            RawClient.open(served.port, "?types=a", receive_buffer=4096),
            served.connect("?types=a") as other,
        ):
            await opened(other)
            sent = 0
            while not served.house.metrics.named("client_left"):
                await served.house.gateway.publish([draft("a", KIB * 16)])
                sent += 1
                assert types(await received(other)) == ["a"]
                assert sent < 500
            assert await served.until_left() == [LeaveReason.TOO_SLOW]

    async def test_a_reader_that_comes_back_gets_the_gap_and_the_newest(self) -> None:
        async with (
            serving(soft_bytes=1 << 16) as served,
            RawClient.open(served.port, "?types=a", receive_buffer=4096) as slow,
        ):
            [connection] = served.house.gateway.clients.connections
            count = 0
            while connection.subscriber.skipped.get("a", 0) < 10:
                count += 1
                await served.house.gateway.publish([draft("a", KIB * 16, retain=True)])
                await asyncio.sleep(0)
            assert connection.subscriber.socket is None, "nothing is sent past what its transport holds"
            messages = [await slow.message()]
            while messages[-1].get("seq") != count:
                messages.append(await slow.message())
            assert connection.subscriber.socket is not None
            gaps = [m for m in messages if m["type"] == "gap"]
            events = [m["seq"] for m in messages if "seq" in m]
            assert sum(gap["data"]["skipped"]["a"] for gap in gaps) == count - len(events)
            assert events == sorted(set(events))
            assert connection.subscriber.delivered == len(events)

    async def test_a_replay_longer_than_the_hard_limit_waits_for_its_reader(self) -> None:
        async with serving(soft_bytes=1 << 16, hard_bytes=1 << 18, history_bytes=1 << 22) as served:
            await served.house.gateway.publish([draft("a", KIB * 16) for _ in range(128)])
            async with RawClient.open(served.port, f"?types=a&since={EPOCH}:0", receive_buffer=4096) as slow:
                [connection] = served.house.gateway.clients.connections
                assert connection.subscriber.waiting_bytes < 1 << 18
                assert (await slow.message())["data"]["resumed"] is True
                assert [(await slow.message())["seq"] for _ in range(128)] == [*range(1, 129)]

    async def test_pings_that_nobody_reads_the_answers_of_do_not_pile_up(self) -> None:
        async with (
            serving(soft_bytes=1 << 16, hard_bytes=1 << 18) as served,
            RawClient.open(served.port, receive_buffer=4096) as flood,
        ):
            frame = Frame(Opcode.PING, b"x" * 125).serialize(mask=True)
            with suppress(ConnectionError):
                for _ in range(10_000):
                    flood.writer.write(frame * 100)
                    await flood.writer.drain()
                    if served.house.metrics.named("client_left"):
                        break
            assert len(await served.until_left()) == 1


class TestFloods:
    SLOW = Rate(per_s=0.001, burst=3)
    """After a burst of frames, nothing more is read within any test's life."""

    @pytest.mark.parametrize(
        "flood",
        [
            [Frame(Opcode.PING, b"")] * 10,
            [Frame(Opcode.PONG, b"")] * 10,
            [Frame(Opcode.TEXT, b'{"type":"ping"}')] * 10,
            [Frame(Opcode.TEXT, b"", fin=False), *[Frame(Opcode.CONT, b"", fin=False)] * 9],
        ],
        ids=["pings", "pongs", "messages", "fragments"],
    )
    async def test_a_client_that_sends_too_many_frames_is_read_no_further(self, flood: list[Frame]) -> None:
        async with (
            serving(frames=self.SLOW) as served,
            RawClient.open(served.port) as client,
            served.connect("?types=") as other,
        ):
            transport = served.server.made[0]._transport
            client.send(*flood)
            async with asyncio.timeout(PATIENCE_S):
                while transport.is_reading():
                    await asyncio.sleep(0)
            assert types(await received(other, 2)) == ["welcome", "synced"]
            assert (await say(other, {"type": "ping"}))["type"] == "pong"
            assert served.house.metrics.named("client_left") == [], "it is not closed, only read slowly"

    async def test_within_the_burst_nothing_waits(self) -> None:
        async with serving(frames=self.SLOW) as served, RawClient.open(served.port) as client:
            await client.opened()
            client.send(Frame(Opcode.PING, b"1"), Frame(Opcode.PING, b"2"))
            assert [(await client.next() or Frame(Opcode.TEXT, b"")).data for _ in range(2)] == [b"1", b"2"]
            assert served.server.made[0]._transport.is_reading()

    async def test_it_is_read_on_when_its_time_has_come(self) -> None:
        async with serving(frames=Rate(per_s=200.0, burst=1)) as served, RawClient.open(served.port) as client:
            await client.opened()
            for n in range(5):
                client.send(*[Frame(Opcode.PING, b"%d" % n)] * 3)
            pongs = [await client.next() for _ in range(15)]
            assert [bytes(pong.data) for pong in pongs if pong is not None] == [b"%d" % (n // 3) for n in range(15)]

    async def test_much_at_once_is_taken_in_by_pieces_with_turns_for_others_between(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(protocol_module, "PIECE_BYTES", 100)
        async with serving() as served, RawClient.open(served.port) as client:
            await client.opened()
            pieces: list[int] = []
            real = FrameReader.feed

            def counting(reader: FrameReader, data: bytes) -> None:
                pieces.append(len(data))
                real(reader, data)

            monkeypatch.setattr(FrameReader, "feed", counting)
            text = b'{"type":"ping","id":"%s"}' % (b"x" * 5000)
            client.send(Frame(Opcode.TEXT, text), *[Frame(Opcode.PING, b"%d" % n) for n in range(100)])
            assert (await client.message())["id"] == "x" * 5000
            pongs = [await client.next() for _ in range(100)]
            assert [bytes(pong.data) for pong in pongs if pong is not None] == [b"%d" % n for n in range(100)]
            assert max(pieces) == 100
            assert sum(pieces) > 5000

    async def test_a_flood_that_ends_leaves_nothing_behind(self) -> None:
        async with serving(frames=self.SLOW) as served, RawClient.open(served.port) as client:
            client.send(*[Frame(Opcode.PING, b"")] * 10)
            transport = served.server.made[0]._transport
            async with asyncio.timeout(PATIENCE_S):
                while transport.is_reading():
                    await asyncio.sleep(0)
            served.house.gateway.clients.connections[0].abort(CloseCode.GOING_AWAY, "enough")
            await served.until_left()
            served.server.made[0]._read_on(b"more")

    async def test_what_comes_after_our_close_is_read_without_a_pause(self) -> None:
        async with serving(frames=self.SLOW) as served, RawClient.open(served.port) as client:
            await client.opened()
            served.house.gateway.clients.connections[0].close(CloseCode.DRAINING, "bye")
            client.send(*[Frame(Opcode.PING, b"")] * 10)
            while (frame := await client.next()) is not None and frame.opcode is not Opcode.CLOSE:
                pass
            assert served.server.made[0]._transport.is_reading()
            client.send(Frame(Opcode.CLOSE, b"\x03\xf4"))
            await client.end()
            assert await served.until_left() == [LeaveReason.DRAINED]


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "how", "status"),
        [
            ("?types=A", {}, 400),
            ("?since=x", {}, 400),
            ("?types=" + ",".join(f"t{n}" for n in range(9)), {}, 400),
            ("", {"origin": "https://evil.example"}, 403),
            ("", {"path": "/other"}, 404),
            ("", {"additional_headers": {"Sec-WebSocket-Version": "12"}}, 426),
            ("", {"additional_headers": {"Sec-WebSocket-Key": "12"}}, 400),
        ],
    )
    async def test_are_problems_before_the_upgrade(self, query: str, how: dict[str, Any], status: int) -> None:
        async with serving() as served:
            refusal = (await served.refused(query, **how)).response
            assert refusal.status_code == status
            assert refusal.headers["Content-Type"] == "application/problem+json"
            assert refusal.headers["Cache-Control"] == "no-store"
            assert refusal.body is not None
            problem = json.loads(refusal.body)
            assert problem["status"] == status
            assert problem["detail"]
            assert served.house.metrics.named("client_connected") == []

    async def test_a_host_that_is_not_ours(self) -> None:
        async with serving() as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(upgrade_request("evil.example"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 421 ")
            assert b"server.allowed_hosts" in await reader.read()
            writer.close()

    async def test_no_room(self) -> None:
        async with serving(max_clients=1) as served, served.connect("?types="):
            refusal = (await served.refused()).response
            assert refusal.status_code == 503
            assert 1 <= int(refusal.headers["Retry-After"]) <= 5

    async def test_tokens(self) -> None:
        reader = Grant(roles=frozenset({Role.SUBSCRIBER}), allowed=PatternSet(["a"]))
        grants = knowing({"r": reader, "w": Grant(roles=frozenset({Role.PUBLISHER}))})
        async with serving(authenticator=grants) as served:
            refusal = (await served.refused()).response
            assert (refusal.status_code, refusal.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert (await served.refused("?token=x")).response.status_code == 401
            assert (await served.refused("?token=w")).response.status_code == 403
            assert (await served.refused("?token=r&types=b")).response.status_code == 403
            bearer = {"Authorization": "Bearer r"}
            async with served.connect("?token=x&types=a", additional_headers=bearer) as client:
                assert (await received(client))[0]["data"]["subscriptions"] == ["a"]

    async def test_origins_that_are_let_in(self) -> None:
        async with serving() as served:
            for origin in (f"http://127.0.0.1:{served.port}", "https://app.example"):
                async with served.connect("?types=", origin=origin) as client:
                    assert types(await received(client)) == ["welcome"]

    async def test_a_path_under_a_prefix(self) -> None:
        async with serving(root_path="/gw") as served:
            for path in ("/gw/ws", "/ws"):
                async with served.connect("?types=", path=path) as client:
                    assert types(await received(client)) == ["welcome"]
            assert (await served.refused(path="/other/ws")).response.status_code == 404


def upgrade_request(host: str) -> bytes:
    return (
        f"GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()
