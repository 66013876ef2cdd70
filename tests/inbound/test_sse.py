"""Server-sent events on a raw socket: order, positions, resuming, slow readers, and what a stream leaves behind."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import pytest
import structlog
from fanout import House, draft
from serving import GRANTS, RawClient, Serving, read_answer, request, serving

from tidegate.core.access.grant import UNRESTRICTED, Grant
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.topics import PatternSet
from tidegate.errors import LeaveReason
from tidegate.inbound.sse import COMMENT, EventStream, EventStreams
from tidegate.runtime.admission import Admission
from tidegate.runtime.connection import Connection

Block = dict[str, str]

RESET = struct.pack("ii", 1, 0)
"""As the socket option SO_LINGER: closing resets the connection."""


class Reader:
    """An event stream's blocks, out of their chunks."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.head = ""
        self._text = ""

    async def block(self) -> Block:
        """The fields of the next block; a comment is a field without a name."""
        while "\n\n" not in self._text:
            self._text += await self._chunk()
        block, self._text = self._text.split("\n\n", 1)
        return dict(_field(line) for line in block.split("\n"))

    async def types(self, count: int) -> list[str]:
        return [(await self.block()).get("event", "") for _ in range(count)]

    async def end(self) -> str:
        """Everything up to the last chunk."""
        while chunk := await self._chunk():
            self._text += chunk
        return self._text

    async def _chunk(self) -> str:
        size = int(await self.client.until(b"\r\n"), 16)
        async with asyncio.timeout(20):
            return (await self.client.reader.readexactly(size + 2))[:-2].decode()


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip()


@asynccontextmanager
async def stream(gate: Serving, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    client = await RawClient.open(gate.port)
    try:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        head = request("GET", f"/api/v1/events{query}", b"", host="127.0.0.1", **fields)
        client.writer.write(head.replace(b"Connection: close\r\n", b""))
        reader = Reader(client)
        reader.head = (await client.until(b"\r\n\r\n")).decode()
        yield reader
    finally:
        await client.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def publish(gate: Serving, *drafts: Any) -> None:
    await gate.house.gateway.publish(drafts)


async def test_welcome_snapshots_position_then_live() -> None:
    async with serving() as gate:
        await publish(gate, draft("system.status", 1, retain=True), draft("app.news", 2))
        async with stream(gate, "?types=system.*,app.*") as reader:
            welcome = await reader.block()
            snapshot = await reader.block()
            synced = await reader.block()
            await publish(gate, draft("app.news", {"x": "\n"}))
            live = await reader.block()
    assert "content-type: text/event-stream\r\n" in reader.head
    assert "cache-control: no-store, no-transform\r\n" in reader.head
    assert "x-accel-buffering: no\r\n" in reader.head
    assert (welcome["event"], welcome["retry"]) == ("welcome", "3000")
    assert "id" not in welcome
    data = json.loads(welcome["data"])["data"]
    assert (data["epoch"], data["seq"], data["subscriptions"]) == ("e1", 2, ["app.*", "system.*"])
    assert (snapshot["event"], json.loads(snapshot["data"])["snapshot"]) == ("system.status", True)
    assert "id" not in snapshot
    assert (synced["event"], synced["id"]) == ("synced", "e1:2")
    assert json.loads(synced["data"])["data"] == {"epoch": "e1", "seq": 2}
    assert (live["event"], live["id"], json.loads(live["data"])["data"]) == ("app.news", "e1:3", {"x": "\n"})


@pytest.mark.parametrize("how", ["header", "query", "both"])
async def test_resuming_replays_what_was_missed(how: str) -> None:
    async with serving() as gate:
        await publish(gate, *(draft("app.news", n) for n in range(4)))
        query = {"header": "?types=app.*", "query": "?types=app.*&since=e1:2", "both": "?types=app.*&since=e1:0"}
        headers = {} if how == "query" else {"Last_Event_ID": "e1:2"}
        async with stream(gate, query[how], **headers) as reader:
            welcome = json.loads((await reader.block())["data"])["data"]
            replayed = [await reader.block() for _ in range(2)]
            synced = await reader.block()
    assert (welcome["resumed"], welcome["seq"]) == (True, 2)
    assert [event["id"] for event in replayed] == ["e1:3", "e1:4"]
    assert (synced["event"], synced["id"]) == ("synced", "e1:4")


async def test_a_resume_that_fails_is_a_gap_and_snapshots() -> None:
    async with serving() as gate:
        await publish(gate, draft("system.status", 1, retain=True))
        async with stream(gate, "?types=system.*", Last_Event_ID="older:7") as reader:
            assert await reader.types(4) == ["welcome", "gap", "system.status", "synced"]


@pytest.mark.parametrize("sent", ["42", "null", "undefined", "2026-11-22T21:40:03Z", "1700000000000-0", ":1", "\xfc"])
@pytest.mark.parametrize("how", ["header", "query"])
async def test_an_id_that_is_none_of_ours_is_a_gap_and_snapshots(sent: str, how: str) -> None:
    async with serving() as gate:
        await publish(gate, draft("system.status", 1, retain=True))
        query = "?types=system.*" + (f"&lastEventId={quote(sent)}" if how == "query" else "&since=e1:1")
        headers = {"Last_Event_ID": sent} if how == "header" else {}
        async with stream(gate, query, **headers) as reader:
            assert reader.head.startswith("HTTP/1.1 200 ")
            assert json.loads((await reader.block())["data"])["data"]["resumed"] is False
            gap = json.loads((await reader.block())["data"])["data"]
            assert gap == {"reason": "epoch_changed", "requested": None, "skipped": {}}
            assert (await reader.block())["event"] == "system.status"


async def test_a_position_of_many_digits_is_a_gap_and_names_it() -> None:
    async with serving() as gate:
        far = f"e1:{10**19}"
        for query, headers in ((f"?since={far}", {}), ("", {"Last_Event_ID": far})):
            async with stream(gate, query, **headers) as reader:
                await reader.block()
                gap = json.loads((await reader.block())["data"])["data"]
            assert (gap["reason"], gap["requested"]) == ("epoch_changed", far)


async def test_of_the_three_ways_to_resume_the_first_that_is_not_empty_counts() -> None:
    async with serving() as gate:
        await publish(gate, *(draft("app.news", n) for n in range(4)))
        for query, headers, seq in (
            ("since=e1:1&lastEventId=e1:2", {"Last_Event_ID": "e1:3"}, 3),
            ("since=x&lastEventId=e1:2", {"Last_Event_ID": ""}, 2),
            ("since=e1:1&lastEventId=", {}, 1),
        ):
            async with stream(gate, f"?types=app.*&{query}", **headers) as reader:
                welcome = json.loads((await reader.block())["data"])["data"]
            assert (welcome["resumed"], welcome["seq"]) == (True, seq)


async def test_the_default_subscriptions() -> None:
    async with serving() as gate, stream(gate) as reader:
        data = json.loads((await reader.block())["data"])["data"]
    assert data["subscriptions"] == sorted(gate.house.gateway.options.default_types)


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?types=No", {}, 400),
        ("?types=%ff", {}, 400),
        ("?since=x", {}, 400),
        ("?since=42", {}, 400),
        ("?since=x&lastEventId=", {"Last-Event-ID": ""}, 400),
        ("?protocol=2", {}, 400),
        ("?types=" + ",".join(f"t{n}" for n in range(9)), {}, 400),
    ],
)
async def test_malformed_queries(query: str, headers: dict[str, str], status: int) -> None:
    async with serving() as gate:
        answer = await gate.ask("GET", f"/api/v1/events{query}", **headers)
    assert (answer.status, answer.json["status"]) == (status, status)


async def test_tokens_in_header_and_query() -> None:
    async with serving(grants=GRANTS) as gate:
        assert (await gate.ask("GET", "/api/v1/events?token=wrong")).status == 401
        assert (await gate.ask("GET", "/api/v1/events?token=system&types=storage.*")).status == 403
        assert (await gate.ask("GET", "/api/v1/events?token=all", Authorization="Bearer wrong")).status == 401
        async with stream(gate, "?token=system") as reader:
            data = json.loads((await reader.block())["data"])["data"]
        async with stream(gate, "?token=wrong&types=app.*", Authorization="Bearer all") as reader:
            assert (await reader.block())["event"] == "welcome"
    assert data["subscriptions"] == ["heartbeat", "notification", "rpc_error", "system.status"]


async def test_no_room() -> None:
    async with serving(max_clients=1) as gate, stream(gate):
        answer = await gate.ask("GET", "/api/v1/events")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1


async def test_comments_keep_the_stream_alive() -> None:
    async with serving(heartbeat_interval_s=0.01) as gate, stream(gate, "?types=app.*") as reader:
        await reader.block()
        await reader.block()
        assert [await reader.block(), await reader.block()] == [{"": ""}, {"": ""}]


async def test_comments_that_were_held_up_are_not_made_up_for() -> None:
    interval_s = 0.02
    house = House(heartbeat_interval_s=interval_s)
    streams = EventStreams(house.gateway, transport_of=lambda _: asyncio.Transport(), soft_bytes=1 << 18)
    times: list[float] = []
    left = asyncio.Event()

    async def send(message: Any) -> None:
        if message.get("body") == COMMENT:
            times.append(asyncio.get_running_loop().time())
        elif b"welcome" in message.get("body", b""):
            await asyncio.sleep(5 * interval_s)
        if len(times) == 4:
            left.set()

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    await streams.open(Admission(Grant(), "192.0.2.1", PatternSet(["app.*"])))({}, receive, send)
    assert all(after - before >= interval_s for before, after in pairwise(times))


async def test_a_client_that_leaves_leaves_nothing() -> None:
    async with serving() as gate:
        before = asyncio.all_tasks()
        for _ in range(3):
            async with stream(gate, "?types=app.*") as reader:
                await reader.block()
                assert len(gate.house.gateway.clients.connections) == 1
            await until(lambda: not gate.house.gateway.clients.connections)
        await until(lambda: asyncio.all_tasks() == before)
    assert gate.house.metrics.named("client_connected") == [("sse",)] * 3
    assert gate.house.metrics.named("client_left") == [("sse", LeaveReason.CLIENT_CLOSED)] * 3


async def test_a_client_that_vanishes_has_not_closed_its_stream() -> None:
    async with serving() as gate, stream(gate, "?types=app.*") as reader:
        await reader.block()
        reader.client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await reader.client.close()
        await until(lambda: not gate.house.gateway.clients.connections)
    assert gate.house.metrics.named("client_left") == [("sse", LeaveReason.CONNECTION_LOST)]


async def test_draining_says_so_and_ends_the_stream() -> None:
    async with serving() as gate, stream(gate, "?types=app.*") as reader:
        await reader.block()
        await reader.block()
        await gate.house.gateway.drain(0)
        block = await reader.block()
        notice = json.loads(block["data"])
        assert await reader.end() == ""
        assert (await gate.ask("GET", "/api/v1/events")).status == 503
        await until(lambda: not gate.house.gateway.clients.connections)
    assert notice["data"]["code"] == "DRAINING"
    assert int(block["retry"]) == notice["data"]["retry_after_ms"], (
        "a browser comes back by itself, and gives up at 503"
    )
    assert gate.house.metrics.named("client_left") == [("sse", LeaveReason.DRAINED)]


async def test_an_ended_stream_leaves_its_connection_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.inbound.sse.LINGER_S", 0.02)
    async with serving() as gate, stream(gate, "?types=app.*") as reader:
        await gate.house.gateway.drain(0)
        await reader.end()
        await asyncio.sleep(0.05)
        reader.client.writer.write(request("GET", "/healthz", host="127.0.0.1"))
        assert read_answer(await reader.client.rest()).status == 200


async def test_the_end_of_a_token_ends_the_stream() -> None:
    grants = {"brief": Grant(expires_at=1_795_383_603.123 + 60)}
    async with serving(grants=grants) as gate, stream(gate, "?token=brief&types=app.*") as reader:
        await reader.block()
        gate.house.clock.advance(61)
        text = await reader.end()
    assert '"code":4401' in text


async def test_a_failure_of_ours_ends_the_stream_with_an_error_and_nobody_else_notices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("unforeseen")

    async with serving() as gate, stream(gate, "?types=app.*") as other:
        await other.block()
        await other.block()
        await publish(gate, draft("app.kept", 1, retain=True))
        await other.block()
        with structlog.testing.capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(gate.house.gateway.retained, "snapshot", fails)
            async with stream(gate, "?types=app.*") as reader:
                text = await reader.end()
        assert '"type":"connection_error"' in text
        assert '"code":1011' in text
        assert [str(entry["exc_info"]) for entry in logs if entry["log_level"] == "error"] == ["unforeseen"]
        await publish(gate, draft("app.news", 2))
        assert (await other.block())["event"] == "app.news"


async def fill(gate: Serving, count: int) -> None:
    for _ in range(count):
        await publish(gate, draft("system.status", "x" * 50_000, retain=True), draft("app.news", "y"))
        await asyncio.sleep(0)


async def slow(gate: Serving) -> RawClient:
    """A client that opened a stream and reads nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", gate.port))
    client = RawClient(*await asyncio.open_connection(sock=sock, limit=4096))
    client.writer.write(request("GET", "/api/v1/events?types=*", host="127.0.0.1"))
    await until(lambda: len(gate.house.gateway.clients.connections) == 1)
    return client


async def test_a_slow_reader_gets_a_gap_and_the_newest() -> None:
    async with serving(soft_bytes=65536) as gate:
        client = await slow(gate)
        connection = gate.house.gateway.clients.connections[0]
        await fill(gate, 100)
        await until(lambda: not connection.subscriber.is_live)
        assert connection.subscriber.waiting_bytes < 1 << 20
        await fill(gate, 100)
        received = bytearray()
        async with asyncio.timeout(20):
            while b"id: e1:400\n" not in received:
                received += await client.reader.read(65536)
            await until(lambda: connection.subscriber.is_live)
        await client.close()
    assert b"event: gap\n" in received
    assert b'"reason":"slow_consumer"' in received
    assert received.count(b"event: system.status\n") < 150


async def test_a_stream_is_given_more_only_when_nothing_waits_any_more() -> None:
    streams = EventStreams(House().gateway, transport_of=lambda _: asyncio.Transport(), soft_bytes=1000)
    stream = EventStream(streams, Admission(UNRESTRICTED, "127.0.0.1", PatternSet(["*"])))
    done: list[str] = []

    class Told:
        """A connection that says when it stops and goes on."""

        subscriber = SimpleNamespace(paused=False)

        def pause(self) -> None:
            if not self.subscriber.paused:
                self.subscriber.paused = True
                done.append("pause")

        def resume(self) -> None:
            self.subscriber.paused = False
            done.append("resume")

    stream._connection = cast("Connection", Told())

    async def send(message: dict[str, Any]) -> None:
        done.append(message["body"].decode()[0])

    for name in "abc":
        stream.write(name.encode() * 600)
    await stream._send_waiting(send)
    assert done == ["pause", "a", "b", "c", "resume"]


async def test_a_reader_that_takes_nothing_is_dropped() -> None:
    limits = SendLimits(hard_bytes=1 << 20, grace_s=10.0)
    async with serving(soft_bytes=65536, send_limits=limits) as gate:
        before = asyncio.all_tasks()
        client = await slow(gate)
        for n in range(200):
            await publish(gate, draft(f"app.t{n}", "x" * 50_000, retain=True))
            await asyncio.sleep(0)
        await until(lambda: not gate.house.gateway.clients.connections)
        await until(lambda: asyncio.all_tasks() == before)
        await client.close()
    assert gate.house.metrics.named("client_left") == [("sse", LeaveReason.TOO_SLOW)]


async def test_a_stream_that_is_closed_is_not_kept_by_a_reader_that_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tidegate.inbound.sse.LINGER_S", 0.05)
    async with serving(soft_bytes=65536) as gate:
        before = asyncio.all_tasks()
        client = await slow(gate)
        await fill(gate, 100)
        await gate.house.gateway.drain(0)
        await until(lambda: not gate.house.gateway.clients.connections)
        await until(lambda: asyncio.all_tasks() == before)
        await client.close()
