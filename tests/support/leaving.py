"""Clients that leave: at every stage of a request or a connection, with and without a goodbye to TCP."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Self

from websockets.frames import Frame, Opcode

LINGER_NOT = struct.pack("ii", 1, 0)
PATIENCE_S = 60.0
SMALL = 4096

UPGRADE = (
    "GET /ws?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
HEAD = "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n"
ALL_ROUTES = [
    *(
        ("GET", path)
        for path in ("/", "/client.js", "/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json")
    ),
    *(("GET", f"/api/v1/{path}") for path in ("status", "status/circuit-breaker", "snapshot", "snapshot/x", "clients")),
    *(("HEAD", path) for path in ("/", "/metrics", "/api/v1/snapshot", "/api/v1/events")),
    *(("POST", f"/api/v1/{path}") for path in ("events", "backends/x/poll", "circuit-breaker/x/reset")),
    ("DELETE", "/api/v1/snapshot/x"),
    ("OPTIONS", "/api/v1/events"),
    ("GET", "/ws"),
]


class Leaver:
    """One client. It reads what it must have seen, and no more. `since` is a position that a replay can begin at."""

    def __init__(self, port: int, *, since: str, source: str, small: bool) -> None:
        self.since = since
        self._port = port
        self._socket = socket.socket()
        if small:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self._socket.setblocking(False)
        # Many addresses, so that ports which wait for late segments (TIME_WAIT) never run out.
        self._socket.bind((source, 0))
        self._loop = asyncio.get_running_loop()

    async def connect(self) -> Self:
        await self._loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        return self

    async def send(self, data: str | bytes) -> None:
        await self._loop.sock_sendall(self._socket, data.encode() if isinstance(data, str) else data)

    async def until(self, mark: bytes) -> None:
        """Read until `mark` has come."""
        seen = b""
        async with asyncio.timeout(PATIENCE_S):
            while mark not in seen:
                data = await self._loop.sock_recv(self._socket, 4096)
                assert data, f"expected {mark!r}, got the end after {seen[-200:]!r}"
                seen = seen[-len(mark) :] + data

    def leave(self, *, reset: bool) -> None:
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self._socket.close()

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)


Stage = Callable[[Leaver], Awaitable[None]]


async def before_the_request(client: Leaver) -> None:
    """Nothing is sent."""


async def within_the_head(client: Leaver) -> None:
    await client.send("GET /ws?types=* HTTP/1.1\r\nHost: 127")


async def after_the_head(client: Leaver) -> None:
    await client.send(HEAD.format(method="GET", path="/api/v1/status", fields=""))


async def after_an_answer(client: Leaver) -> None:
    await after_the_head(client)
    await client.until(b'"breakers"')


async def within_a_large_answer(client: Leaver) -> None:
    await client.send(HEAD.format(method="GET", path="/api/v1/snapshot", fields=""))
    await client.until(b"200 OK")


async def within_the_metrics(client: Leaver) -> None:
    await client.send(HEAD.format(method="GET", path="/metrics", fields=""))


async def within_a_body(client: Leaver) -> None:
    await client.send(HEAD.format(method="POST", path="/api/v1/events", fields="Content-Length: 100\r\n") + '{"ty')


async def amid_pipelined_requests(client: Leaver) -> None:
    await client.send(HEAD.format(method="GET", path="/api/v1/status", fields="") * 5 + "GET /he")


async def amid_answers_that_it_does_not_take(client: Leaver) -> None:
    await client.send(HEAD.format(method="GET", path="/openapi.json", fields="") * 30)
    await client.until(b"200 OK")


async def amid_refusals_that_it_does_not_take(client: Leaver) -> None:
    await client.send(HEAD.format(method="GET", path="/no/such", fields="") * 30)
    await client.until(b"404 Not Found")


async def amid_snapshots_that_it_does_not_take(client: Leaver) -> None:
    await client.send(HEAD.format(method="GET", path="/api/v1/snapshot", fields="") * 30)
    await client.until(b"200 OK")


async def amid_every_kind_of_request(client: Leaver) -> None:
    for method, path in ALL_ROUTES:
        await client.send(HEAD.format(method=method, path=path, fields="Content-Length: 0\r\n"))
    await client.until(b"200 OK")


async def amid_publishes(client: Leaver) -> None:
    body = '{"type":"app.load","data":1}'
    fields = f"Content-Length: {len(body)}\r\n"
    await client.send((HEAD.format(method="POST", path="/api/v1/events", fields=fields) + body) * 5)
    await client.until(b"202 Accepted")


async def before_a_long_array_is_read(client: Leaver) -> None:
    """Its last event is refused, so that it does not push others out of the history."""
    body = "[" + '{"type":"app.load","data":1},' * 2000 + '{"type":"heartbeat","data":1}]'
    await client.send(
        HEAD.format(method="POST", path="/api/v1/events", fields=f"Content-Length: {len(body)}\r\n") + body
    )


async def within_a_chunk(client: Leaver) -> None:
    await client.send(
        HEAD.format(method="POST", path="/api/v1/events", fields="Transfer-Encoding: chunked\r\n") + "9\r\n{"
    )


async def within_the_trailers(client: Leaver) -> None:
    head = HEAD.format(method="POST", path="/api/v1/events", fields="Transfer-Encoding: chunked\r\n")
    await client.send(head + "1\r\n1\r\n0\r\na: b\r\n")


async def waiting_to_be_told_to_go_on(client: Leaver) -> None:
    fields = "Content-Length: 100\r\nExpect: 100-continue\r\n"
    await client.send(HEAD.format(method="POST", path="/api/v1/events", fields=fields))
    await client.until(b"100 Continue")


async def after_bad_chunks(client: Leaver) -> None:
    await client.send(
        HEAD.format(method="POST", path="/api/v1/events", fields="Transfer-Encoding: chunked\r\n") + "zz\r\n"
    )


async def behind_an_event_stream(client: Leaver) -> None:
    await client.send(HEAD.format(method="GET", path="/api/v1/events?types=*", fields=""))
    await client.send(HEAD.format(method="GET", path="/healthz", fields="") * 30)
    await client.until(b"event: load")


async def within_an_old_event_stream(client: Leaver) -> None:
    await client.send(HEAD.format(method="GET", path="/api/v1/events?types=*", fields="").replace("/1.1", "/1.0"))
    await client.until(b"event: load")


async def after_a_refusal(client: Leaver) -> None:
    await client.send(UPGRADE.format(query="types=A"))
    await client.until(b"400 Bad Request")


async def after_the_upgrade_request(client: Leaver) -> None:
    await client.send(UPGRADE.format(query="types=*"))


async def after_the_welcome(client: Leaver) -> None:
    await client.send(UPGRADE.format(query="types=*"))
    await client.until(b'"welcome"')


async def amid_events(client: Leaver) -> None:
    await after_the_welcome(client)
    await client.until(b'"type":"load"')


async def within_a_frame(client: Leaver) -> None:
    await after_the_welcome(client)
    await client.send(Frame(Opcode.TEXT, b'{"type":"ping"}').serialize(mask=True)[:-4])


async def within_a_message(client: Leaver) -> None:
    await after_the_welcome(client)
    await client.send(Frame(Opcode.TEXT, b'{"type":', fin=False).serialize(mask=True))


async def within_an_exchange(client: Leaver) -> None:
    await after_the_welcome(client)
    ask = Frame(Opcode.TEXT, b'{"type":"subscribe","types":["a","b.*"]}').serialize(mask=True)
    await client.send(ask + Frame(Opcode.PING, b"x").serialize(mask=True))


async def within_a_replay(client: Leaver) -> None:
    await client.send(UPGRADE.format(query=f"types=load&since={client.since}"))
    await client.until(b'"resumed":true')


async def with_its_close_on_the_way(client: Leaver) -> None:
    await after_the_welcome(client)
    await client.send(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))


async def after_both_closes(client: Leaver) -> None:
    await client.send(UPGRADE.format(query="types="))
    await client.until(b'"welcome"')
    await client.send(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
    await client.until(b"\x88\x02\x03\xe8")


async def within_the_servers_close(client: Leaver) -> None:
    """The server fails the connection, and waits for a close that does not come."""
    await client.send(UPGRADE.format(query="types="))
    await client.until(b'"welcome"')
    await client.send(b"\xff\xff\xff\xff")
    await client.until(b"\x88")


async def half_closed(client: Leaver) -> None:
    await after_the_welcome(client)
    client.half_close()


async def with_nonsense(client: Leaver) -> None:
    await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is no HTTP \r\n\r\n")


async def within_an_event_stream(client: Leaver) -> None:
    await client.send(HEAD.format(method="GET", path="/api/v1/events?types=*", fields=""))
    await client.until(b"event: load")


async def before_an_event_stream_begins(client: Leaver) -> None:
    await client.send(HEAD.format(method="GET", path="/api/v1/events?types=*", fields=""))


async def within_the_replay_of_an_event_stream(client: Leaver) -> None:
    await client.send(
        HEAD.format(method="GET", path="/api/v1/events?types=load", fields=f"Last-Event-ID: {client.since}\r\n")
    )
    await client.until(b'"resumed":true')


STAGES: list[Stage] = [
    before_the_request,
    within_the_head,
    after_the_head,
    after_an_answer,
    within_a_large_answer,
    within_the_metrics,
    within_a_body,
    amid_pipelined_requests,
    amid_answers_that_it_does_not_take,
    amid_refusals_that_it_does_not_take,
    amid_snapshots_that_it_does_not_take,
    amid_every_kind_of_request,
    amid_publishes,
    before_a_long_array_is_read,
    within_a_chunk,
    within_the_trailers,
    waiting_to_be_told_to_go_on,
    after_bad_chunks,
    behind_an_event_stream,
    within_an_old_event_stream,
    after_a_refusal,
    after_the_upgrade_request,
    after_the_welcome,
    amid_events,
    within_a_frame,
    within_a_message,
    within_an_exchange,
    within_a_replay,
    with_its_close_on_the_way,
    after_both_closes,
    within_the_servers_close,
    half_closed,
    with_nonsense,
    within_an_event_stream,
    before_an_event_stream_begins,
    within_the_replay_of_an_event_stream,
]
