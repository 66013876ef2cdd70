"""One peer without a token sends what no request needs, for as long as it is let: it takes nothing from others."""

import asyncio
import gc
import os
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import written_to
from programs import private_bytes
from serving import RawClient, Serving, request, serving

from tidegate.errors import CloseCode

FLOOD_BYTES = 12 << 20
"""Before there was a bound, trailers took 30 times as much."""

SLACK_BYTES = 16 << 20

EVIL = b"GET / HTTP/1.1\r\nHost: evil.example\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
STREAM = b"GET /api/v1/events?types= HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = b"Content-Length: 99999999999\r\n\r\n"
UPGRADE = (
    b"GET /ws?types= HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
TRAILERS = CHUNKED + b"1\r\nx\r\n0\r\n"

ENDED = {
    "trailers of a request that is refused": (EVIL + TRAILERS, b"a:\r\n"),
    "trailers of a request that is answered": (GET + TRAILERS, b"a:\r\n"),
    "trailers of a stream": (STREAM + TRAILERS, b"a:\r\n"),
    "trailers of a body that is read": (POST + TRAILERS, b"a:\r\n"),
    "one endless trailer": (EVIL + TRAILERS + b"a: ", b"x"),
    "an endless extension of a chunk": (EVIL + CHUNKED + b"1", b";abc=def"),
    "an endless extension of a body that is read": (POST + CHUNKED + b"1", b";abc=def"),
    "chunks of one byte": (EVIL + CHUNKED, b"1\r\nx\r\n"),
    "chunks of one byte for a stream": (STREAM + CHUNKED, b"1\r\nx\r\n"),
    "the size of a chunk with endless noughts": (POST + CHUNKED, b"0"),
    "empty lines": (b"", b"\r\n"),
    "empty lines behind an answer": (GET + b"\r\n", b"\r\n"),
    "a body that is announced and not wanted": (GET + ENDLESS, b"x"),
    "a body of a request that is refused": (EVIL + ENDLESS, b"x"),
    "a body that a stream does not want": (STREAM + ENDLESS, b"x"),
    "a body that is too long": (POST + CHUNKED, b"400\r\n" + b" " * 1024 + b"\r\n"),
    "a body behind a wish to go on": (EVIL + b"Expect: 100-continue\r\n" + ENDLESS, b"x"),
    "fields of a head": (b"GET / HTTP/1.1\r\n", b"a:\r\n"),
    "an endless line": (b"GET /", b"x"),
    "requests whose answers nobody takes": (b"", GET + b"\r\n"),
    "requests behind a stream": (STREAM + b"\r\n", GET + b"a:\r\n" * 900 + b"\r\n"),
    "bytes behind a stream that ends its connection": (STREAM + b"Connection: close\r\n\r\n", b"x"),
    "requests behind a stream in HTTP/1.0": (
        STREAM.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\n",
        GET + b"\r\n",
    ),
    "bytes behind an upgrade that is not ours": (GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b"x"),
    "upgrades that are not ours": (b"", GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
    "a preface of HTTP/2 and its frames": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0"),
    "bytes behind an upgrade that is refused": (UPGRADE.replace(b"localhost", b"evil.example"), b"x"),
    "a frame that is too long": (UPGRADE + b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0", b"x"),
    "a message in fragments that is too long": (
        UPGRADE + b"\x02\x80\0\0\0\0",
        b"\x00\xfe\x20\x00\0\0\0\0" + b"x" * 0x2000,
    ),
    "a control frame that is too long": (UPGRADE + b"\x89\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0", b"x"),
}

SLOWED_DOWN = {
    "fragments": (UPGRADE + b"\x01\x80\0\0\0\0", b"\x00\x80\0\0\0\0"),
    "pings": (UPGRADE, b"\x89\x80\0\0\0\0"),
}


async def flood(client: RawClient, begin: bytes, again: bytes) -> None:
    """Send `begin` and then `again` and again, until the server ends the connection or it was enough."""
    piece, sent = again * max(1, 65536 // len(again)), 0
    with suppress(ConnectionError):
        client.writer.write(begin)
        while sent < FLOOD_BYTES:
            client.writer.write(piece)
            sent += len(piece)
            await client.writer.drain()


async def answered_meanwhile(served: Serving, flooding: asyncio.Task[None]) -> None:
    """Another client is answered, again and again, until the flood is over or waits."""
    for _ in range(20):
        assert (await served.ask("GET", "/healthz")).status == 200
        if flooding.done():
            return


async def leave(client: RawClient, served: Serving) -> None:
    """Close `client`, and see the server notice."""
    client.writer.transport.abort()
    await client.close()
    for connection in served.house.gateway.clients.connections:
        connection.abort(CloseCode.GOING_AWAY, "the test is over")
    async with asyncio.timeout(20):
        while served.house.gateway.clients.connections:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("kind", [*ENDED, *SLOWED_DOWN])
async def test_a_flood_takes_no_memory_and_no_time_of_others(kind: str) -> None:
    begin, again = {**ENDED, **SLOWED_DOWN}[kind]
    async with serving() as served:
        await served.ask("GET", "/healthz")
        gc.collect()
        before = private_bytes(os.getpid())
        client = await RawClient.open(served.port)
        flooding = asyncio.create_task(flood(client, begin, again))
        async with asyncio.timeout(60):
            await answered_meanwhile(served, flooding)
            if kind in ENDED:
                await flooding
                with suppress(ConnectionError):
                    await client.rest()
        grown = private_bytes(os.getpid()) - before
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        await leave(client, served)
    assert grown < SLACK_BYTES, f"{grown} bytes more"


@pytest.mark.parametrize("kind", ["trailers of a request that is refused", "a body of a request that is refused"])
async def test_a_flood_under_tls_is_ended_too(kind: str, tmp_path: Path) -> None:
    certificates = written_to(tmp_path)
    theirs = ssl.create_default_context(cafile=str(certificates.ca))
    async with serving(server={"ssl": certificates.server_side()}) as served:
        client = RawClient(*await asyncio.open_connection("127.0.0.1", served.port, ssl=theirs))
        async with asyncio.timeout(60):
            await flood(client, *ENDED[kind])
            with suppress(ConnectionError):
                await client.rest()
        client.writer.transport.abort()


async def test_trailers_are_no_fields_of_the_request() -> None:
    """A peer behind a proxy that checks fields could have smuggled one in."""
    async with serving() as served:
        sent = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        sent += b"Transfer-Encoding: chunked\r\n\r\n0\r\nOrigin: https://evil.example\r\n\r\n"
        assert (await served.send(sent)).status == 200


async def test_a_body_that_nobody_wants_and_that_ends_leaves_the_connection_open() -> None:
    async with serving() as served:
        client = await RawClient.open(served.port)
        client.writer.write(EVIL + b"Content-Length: 1100000\r\n\r\n" + b"x" * 1_100_000)
        client.writer.write(request("GET", "/healthz", host="localhost"))
        answers = await client.rest()
        await client.close()
    assert answers.startswith(b"HTTP/1.1 421 ")
    assert b"HTTP/1.1 200 " in answers


async def test_a_body_in_small_chunks_is_published() -> None:
    event = b'{"type":"app.a","data":"%b"}' % (b"x" * 3000)
    chunks = b"".join(b"10\r\n%b\r\n" % event[at : at + 16] for at in range(0, len(event) // 16 * 16, 16))
    rest = event[len(event) // 16 * 16 :]
    chunks += b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest)
    async with serving() as served:
        answer = await served.send(POST + b"Connection: close\r\n" + CHUNKED + chunks)
    assert answer.status == 202


@pytest.mark.parametrize(
    "coding",
    ["gzip, chunked", "gzip", "identity", "chunked, chunked", "xchunked", "chunked\r\nTransfer-Encoding: chunked"],
)
async def test_a_transfer_coding_that_is_not_chunked_is_answered(coding: str) -> None:
    async with serving() as served:
        answer = await served.send(POST + f"Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n".encode())
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 400


async def test_chunks_in_http_1_0_are_answered() -> None:
    async with serving() as served:
        answer = await served.send(POST.replace(b"HTTP/1.1", b"HTTP/1.0") + CHUNKED + b"0\r\n\r\n")
    assert (answer.status, answer.json["status"]) == (400, 400)


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n", b"5\r\nhelloworld", b"-1\r\n", b"1" * 40 + b"\r\n", b"1\r\nx\r\n0\r\nnonsense\r\n"]
)
async def test_chunks_that_are_none_are_answered(chunks: bytes) -> None:
    async with serving() as served:
        answer = await served.send(POST + CHUNKED + chunks)
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert answer.json["status"] == 400
        assert served.house.gateway.position.seq == 0


async def test_a_length_and_a_coding_at_once_are_answered() -> None:
    async with serving() as served:
        answer = await served.send(POST + b"Content-Length: 3\r\n" + CHUNKED + b"0\r\n\r\n")
    assert answer.status == 400
