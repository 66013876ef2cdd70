import asyncio
import socket
from contextlib import suppress

import pytest
from fanout import draft
from serving import RawClient, serving
from websockets.frames import Frame, Opcode

UPGRADE = (
    b"GET /ws?types= HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def test_an_upgrade_while_an_answer_is_under_way_ends_the_connection_and_leaves_nothing() -> None:
    async with serving() as served:
        client = await RawClient.open(served.port)
        client.writer.write(b"GET /api/v1/events?types=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.until(b"welcome")
        client.writer.write(UPGRADE)
        async with asyncio.timeout(20):
            while served.house.gateway.clients.connections:
                await asyncio.sleep(0.005)
        await client.close()
        assert served.house.metrics.named("client_connected") == [("sse",)]


async def test_an_upgrade_behind_an_answer_that_is_not_taken_ends_the_connection() -> None:
    """Its transport is full already and would never say so to the connection, which then had no limit."""
    async with serving() as served:
        await served.house.gateway.publish([draft("a", "x" * (1 << 20), retain=True)])
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", served.port))
        client = RawClient(*await asyncio.open_connection(sock=sock, limit=1024))
        client.writer.write(b"GET /api/v1/snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.until(b"\r\n\r\n")
        client.writer.write(UPGRADE)
        with suppress(ConnectionError):
            assert b"welcome" not in await client.rest()
        assert served.house.metrics.named("client_connected") == []
        await client.close()


async def test_frames_that_come_with_the_upgrade_request_are_read() -> None:
    async with serving() as served:
        client = await RawClient.open(served.port)
        client.writer.write(UPGRADE + Frame(Opcode.TEXT, b'{"type":"ping","id":7}').serialize(mask=True))
        assert b'"type":"welcome"' in await client.until(b'"id":7,')
        await client.close()


async def test_frames_after_a_request_that_is_refused_are_thrown_away() -> None:
    async with serving() as served:
        client = await RawClient.open(served.port)
        foreign = UPGRADE.replace(b"localhost", b"evil.example")
        client.writer.write(foreign + Frame(Opcode.TEXT, b"{}").serialize(mask=True))
        assert (await client.rest()).startswith(b"HTTP/1.1 421 ")
        await client.close()


@pytest.mark.parametrize("connection", [b"Upgrade\r\nConnection: keep-alive", b"keep-alive\r\nConnection: Upgrade"])
async def test_an_upgrade_is_one_in_whichever_field_it_is_said(connection: bytes) -> None:
    async with serving() as served:
        client = await RawClient.open(served.port)
        client.writer.write(UPGRADE.replace(b"Connection: Upgrade", b"Connection: " + connection))
        assert (await client.until(b"welcome")).startswith(b"HTTP/1.1 101 ")
        await client.close()


async def test_http_1_0_knows_no_upgrade() -> None:
    async with serving() as served:
        answer = await served.send(UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert answer.status == 426
        assert served.house.metrics.named("client_connected") == []
