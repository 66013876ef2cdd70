"""A snapshot that is larger than what is held for one reader."""

import asyncio
import gc
import json
import os
import socket
from contextlib import suppress

import pytest
from fanout import draft, knowing
from programs import private_bytes
from serving import GRANTS, FakeSupervisor, RawClient, Serving, serving, source

from tidegate.core.delivery.slowness import SendLimits

GET = b"GET /api/v1/snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n"
GRACE_S = 0.2


async def filled(gate: Serving, count: int, size: int) -> None:
    """Retain `count` values of `size` bytes."""
    for n in range(count):
        await gate.house.gateway.publish([draft("app.a", f"{n:06}" + "x" * size, key=str(n), retain=True)])


async def reader(gate: Serving, asking: bytes = GET) -> RawClient:
    """One that has asked, and whose kernel holds little; it reads when told to."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", gate.port))
    client = RawClient(*await asyncio.open_connection(sock=sock, limit=1024))
    client.writer.write(asking)
    return client


async def test_a_large_snapshot_comes_whole_and_in_order() -> None:
    async with serving() as gate:
        await filled(gate, 700, 1000)
        await gate.house.gateway.publish([draft("app.b", 1, retain=True)])
        answer = await gate.ask("GET", "/api/v1/snapshot")
        one = await gate.ask("GET", "/api/v1/snapshot/app.b")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["seq"] == 701
    assert [event["seq"] for event in answer.json["events"]] == list(range(1, 702))
    assert all(event["snapshot"] is True for event in answer.json["events"])
    assert [event["data"] for event in one.json["events"]] == [1]


@pytest.mark.parametrize("size", [10, 1000, 100_000])
async def test_old_clients_get_all_of_it_too(size: int) -> None:
    async with serving() as gate:
        await filled(gate, 600, size // 10)
        answer = await gate.send(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert "transfer-encoding" not in answer.headers
    assert len(answer.json["events"]) == 600


async def test_an_answer_without_a_body_ends() -> None:
    async with serving() as gate:
        await filled(gate, 700, 1000)
        answer = await gate.ask("HEAD", "/api/v1/snapshot")
    assert (answer.status, answer.body) == (200, b"")


async def test_values_that_a_token_does_not_cover_are_left_out_of_all_pieces() -> None:
    async with serving(grants=GRANTS) as gate:
        await filled(gate, 700, 10)
        await gate.house.gateway.publish([draft("system.status", 1, retain=True)])
        await filled(gate, 700, 10)
        answer = await gate.ask("GET", "/api/v1/snapshot", Authorization="Bearer system")
        every = await gate.ask("GET", "/api/v1/snapshot", Authorization="Bearer all")
    assert [event["type"] for event in answer.json["events"]] == ["system.status"]
    assert len(every.json["events"]) == 701


@pytest.mark.parametrize("is_gone", [True, False])
async def test_it_is_cut_off_when_its_token_is_withdrawn(is_gone: bool) -> None:
    """Not ended in order: what came is not all of it."""
    async with serving(grants=GRANTS) as gate:
        await filled(gate, 200, 100_000)
        client = await reader(
            gate, GET.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer all\r\nConnection: close\r\n\r\n")
        )
        try:
            await client.until(b"\r\n\r\n")
            gate.house.gateway.authenticate_with(knowing({"other" if is_gone else "all": GRANTS["all"]}))
            came = b""
            with suppress(ConnectionError):
                came = await client.rest()
            assert came.endswith(b"]}\r\n0\r\n\r\n") is not is_gone
        finally:
            await client.close()


async def test_an_event_is_the_newest_when_its_piece_is_written_and_what_is_gone_is_left_out() -> None:
    async with serving() as gate:
        await filled(gate, 40, 100_000)
        client = await reader(gate)
        await client.until(b'"seq":40,')
        gateway = gate.house.gateway
        await gateway.publish([draft("app.a", "new", key="39", retain=True)])
        await gateway.publish([draft("app.a", key="38", retain=True, gone=True)])
        await gateway.publish([draft("app.z", "newcomer", retain=True)])
        rest = b""
        async with asyncio.timeout(20):
            while not rest.endswith(b"0\r\n\r\n"):
                rest += await client.reader.read(1 << 20)
        await client.close()
    assert b'"data":"new"' in rest
    assert b'"data":"000039x' not in rest
    assert b'"key":"38"' not in rest
    assert b'"key":"37"' in rest


async def test_readers_that_never_read_take_little_and_are_given_up_and_others_are_answered() -> None:
    """Before there were pieces, each of them took all that was retained, and nobody was answered meanwhile."""
    readers, limits = 8, SendLimits(hard_bytes=1 << 22, grace_s=GRACE_S)
    async with serving(send_limits=limits) as gate:
        await filled(gate, 300, 100_000)
        await gate.ask("GET", "/api/v1/snapshot")
        gc.collect()
        before = private_bytes(os.getpid())
        clients = [await reader(gate) for _ in range(readers)]
        for client in clients:
            await client.until(b"\r\n\r\n")
            assert (await gate.ask("GET", "/healthz")).status == 200
        grown = private_bytes(os.getpid()) - before
        for client in clients:
            assert await is_cut_off(client)
            await client.close()
    assert grown < readers * (1 << 20), f"{grown} bytes more"


async def is_cut_off(client: RawClient) -> bool:
    """Wait without reading until the server gave the reader up; whether the answer was cut."""
    raw_socket = client.writer.get_extra_info("socket")
    async with asyncio.timeout(20):
        while raw_socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and not client.writer.is_closing():
            await asyncio.sleep(0.01)
            with suppress(ConnectionError):
                client.writer.write(b"\r\n")
    rest = b""
    with suppress(ConnectionError):
        rest = await client.rest()
    return not rest.endswith(b"0\r\n\r\n")


async def test_a_slow_reader_that_takes_a_little_now_and_then_gets_all_of_it() -> None:
    async with serving(send_limits=SendLimits(hard_bytes=1 << 22, grace_s=GRACE_S)) as gate:
        await filled(gate, 10, 100_000)
        client = await reader(gate, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        got = b""
        async with asyncio.timeout(60):
            while data := await client.reader.read(20_000):
                got += data
                await asyncio.sleep(GRACE_S / 10)
        await client.close()
    assert got.endswith(b"]}\r\n0\r\n\r\n")


@pytest.mark.parametrize(("path", "requests"), [("/api/v1/status", 2), ("/openapi.json", 80)])
async def test_no_route_keeps_an_answer_for_a_reader_that_never_reads(
    path: str, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeSupervisor, "sources", lambda *_: [source(f"t.n{n}", "engine") for n in range(20_000)])
    async with serving(server={"slow_grace_s": GRACE_S}) as gate:
        client = await reader(gate, GET.replace(b"/api/v1/snapshot", path.encode()) * requests)
        await client.until(b"200 OK")
        assert await is_cut_off(client)
        await client.close()


async def test_what_a_snapshot_says_is_json_whatever_its_pieces_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for events, size in ((1, 1), (2, 1), (3, 10_000), (1000, 1)):
        monkeypatch.setattr("tidegate.runtime.snapshots.SNAPSHOT_EVENTS", events)
        monkeypatch.setattr("tidegate.runtime.snapshots.SNAPSHOT_BYTES", size)
        async with serving(grants=GRANTS) as gate:
            gateway = gate.house.gateway
            for count in range(5):
                for bearer in ("all", "system"):
                    answer = await gate.ask("GET", "/api/v1/snapshot", Authorization=f"Bearer {bearer}")
                    found = json.loads(answer.body)["events"]
                    assert len(found) == (count if bearer == "all" else count // 2)
                kind = "system.status" if count % 2 else "app.a"
                await gateway.publish([draft(kind, count, key=str(count), retain=True)])
