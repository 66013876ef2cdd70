"""Each fault on raw sockets: it is that fault and no other. On asyncio's loop, and at the end again on uvloop."""

import asyncio
import contextlib
import gc
import inspect
import json
import random
import socket
import struct
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import pytest
import uvloop

from tidegate.errors import UnknownName
from tidegate.verify.faultproxy import Fault, FaultProxy, How

PATIENCE_S = 10
RESULT = {"value": "y" * 200}


class Backend:
    """A JSON-RPC server on raw streams that also upgrades, and streams events."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.bodies: list[Any] = []
        self.connections = 0
        self.swallowed = bytearray()
        self.stream: asyncio.StreamWriter | None = None
        self.streaming = asyncio.Event()
        self.extra_headers = b""
        self._writers: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            await server.wait_closed()
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                await self._answer(head, reader, writer)

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/ws" in head:
            upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            await self._stream(upgrade, reader, writer)
        elif b"/events" in head:
            await self._stream(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
                reader,
                writer,
            )
        elif b"/chunked" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")
        elif b"/until-eof" in head:
            writer.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
            writer.close()
        elif b"/half" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            writer.close()
        else:
            lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line]
            call = json.loads(await reader.readexactly(lengths[0])) if lengths else None
            self.bodies.append(call)
            body = json.dumps([reply(c) for c in call] if isinstance(call, list) else reply(call)).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + self.extra_headers)
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), b"" if head.startswith(b"HEAD") else body))

    async def _stream(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        self.stream = writer
        self.streaming.set()
        while data := await reader.read(65536):
            self.swallowed += data
            if b"/ws" in self.requests[-1]:
                writer.write(b"echo " + data)
        if b"/ws" in self.requests[-1]:
            writer.write(b"bye")
        writer.close()


def reply(call: Any) -> Any:
    return {"jsonrpc": "2.0", "id": call and call["id"], "result": RESULT}


class Client:
    """A raw client. Nothing is read ahead, so bytes that came before a reset are seen before it."""

    def __init__(self, port: int) -> None:
        self._sock = socket.socket()
        self._sock.setblocking(False)
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._pending = b""
        self.receives: list[int] = []

    async def __aenter__(self) -> Self:
        try:
            await self._loop.sock_connect(self._sock, ("127.0.0.1", self._port))
        except BaseException:
            self._sock.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def leave(self, *, rst: bool = False) -> None:
        if rst:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def half_close(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def receive(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            data = await self._loop.sock_recv(self._sock, 65536)
        self.receives.append(len(data))
        return data

    async def receive_all(self) -> tuple[bytes, str]:
        """Everything up to the end, and what the end was."""
        seen = self._pending
        while True:
            try:
                data = await self.receive()
            except ConnectionResetError:
                return seen, "RST"
            if not data:
                return seen, "FIN"
            seen += data

    async def until(self, wanted: bytes) -> bytes:
        seen, self._pending = self._pending, b""
        while wanted not in seen:
            data = await self.receive()
            assert data, f"expected {wanted!r} before the end, got {seen!r}"
            seen += data
        end = seen.index(wanted) + len(wanted)
        self._pending = seen[end:]
        return seen[:end]

    async def answer(self) -> tuple[bytes, bytes]:
        """A head and a body framed by Content-Length."""
        head = await self.until(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body, self._pending = self._pending, b""
        while len(body) < length:
            data = await self.receive()
            assert data, f"expected {length} bytes of body, got {len(body)}"
            body += data
        self._pending = body[length:]
        return head, body[:length]

    async def call(self, request: bytes | None = None) -> tuple[bytes, bytes]:
        await self.send(request or rpc())
        return await self.answer()

    async def is_silent(self) -> bool:
        """Whether nothing is there to be read after everyone else had many turns."""
        for _ in range(50):
            await asyncio.sleep(0)
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self._pending
        return False


def post(body: bytes, path: bytes = b"/rpc", headers: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: backend\r\n%bContent-Length: %d\r\n\r\n"
    return head % (path, headers, len(body)) + body


def get(path: bytes, headers: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: backend\r\n%b\r\n" % (path, headers)


def rpc(call_id: int = 7) -> bytes:
    return post(json.dumps({"jsonrpc": "2.0", "id": call_id, "method": "system.status"}).encode())


def batch(*ids: int) -> bytes:
    return post(json.dumps([{"jsonrpc": "2.0", "id": i, "method": f"m{i}"} for i in ids]).encode())


WEBSOCKET = get(b"/ws?token=secret", b"Connection: Upgrade\r\nUpgrade: websocket\r\n")


@pytest.fixture
async def backend() -> Backend:
    return Backend()


@pytest.fixture
async def proxy(backend: Backend) -> AsyncIterator[FaultProxy]:
    async with backend.serving() as url, FaultProxy(upstream=url, seed=1) as proxy:
        yield proxy


def endings(proxy: FaultProxy) -> list[tuple[str | None, int | None, tuple[str, ...]]]:
    return [(call.how, call.status, call.faults) for call in proxy.calls]


async def until_idle(proxy: FaultProxy) -> None:
    """No call is in flight."""
    async with asyncio.timeout(PATIENCE_S):
        await proxy.until(lambda p: p.calls.concurrent == 0)


# Without a fault


async def test_answers_pass_unchanged_and_connections_are_kept(proxy: FaultProxy, backend: Backend) -> None:
    async with Client(proxy.port) as client:
        for call_id in (1, 2):
            head, body = await client.call(rpc(call_id))
            assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            assert json.loads(body) == {"jsonrpc": "2.0", "id": call_id, "result": RESULT}
    assert backend.connections == 1
    assert backend.requests[0] == rpc().split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert [call.methods for call in proxy.calls] == [("system.status",)] * 2
    assert endings(proxy) == [(How.ANSWERED, 200, ())] * 2


async def test_pipelined_requests_are_answered_in_order(proxy: FaultProxy) -> None:
    async with Client(proxy.port) as client:
        await client.send(rpc(1) + rpc(2) + rpc(3))
        assert [json.loads((await client.answer())[1])["id"] for _ in range(3)] == [1, 2, 3]


async def test_chunked_requests_go_on_whole(proxy: FaultProxy, backend: Backend) -> None:
    chunked = b"POST /rpc HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n" + b'{"id":1\r\n1\r\n}\r\n0\r\n\r\n'
    async with Client(proxy.port) as client:
        await client.call(chunked)
    assert backend.bodies == [{"id": 1}]
    assert b"transfer-encoding" not in backend.requests[0].lower()


async def test_an_answer_without_length_ends_with_the_connection(proxy: FaultProxy) -> None:
    async with Client(proxy.port) as client:
        await client.send(get(b"/until-eof"))
        seen, end = await client.receive_all()
        assert (seen.partition(b"\r\n\r\n")[2], end) == (b"until the end", "FIN")


async def test_head_has_no_body_and_keeps_the_connection(proxy: FaultProxy) -> None:
    async with Client(proxy.port) as client:
        await client.send(b"HEAD /rpc HTTP/1.1\r\n\r\n")
        assert b"Content-Length: 2" in await client.until(b"\r\n\r\n")
        assert (await client.call())[0].startswith(b"HTTP/1.1 200")


async def test_connection_close_is_kept_to(proxy: FaultProxy) -> None:
    async with Client(proxy.port) as client:
        await client.send(post(b'{"id":1}', headers=b"Connection: close\r\n"))
        assert (await client.receive_all())[1] == "FIN"


async def test_what_is_not_http_gets_400_and_no_call(proxy: FaultProxy) -> None:
    async with Client(proxy.port) as client:
        await client.send(b"what?\r\n\r\n")
        seen, end = await client.receive_all()
        assert seen.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert end == "FIN"
    assert proxy.calls.total == 0


async def test_no_upstream_resets_the_client(backend: Backend) -> None:
    async with backend.serving() as url:
        pass
    async with FaultProxy(upstream=url) as proxy, Client(proxy.port) as client:
        await client.send(rpc())
        assert await client.receive_all() == (b"", "RST")
        assert endings(proxy) == [(How.UPSTREAM_FAILED, None, ())]


async def test_upstream_breaking_off_resets_the_client(proxy: FaultProxy) -> None:
    async with Client(proxy.port) as client:
        await client.send(get(b"/half"))
        seen, end = await client.receive_all()
        assert (seen.partition(b"\r\n\r\n")[2], end) == (b"half", "RST")


async def test_a_kept_connection_outlives_a_restart_of_upstream(backend: Backend) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with backend.serving() as url:
            proxy = await stack.enter_async_context(FaultProxy(upstream=url))
            client = await stack.enter_async_context(Client(proxy.port))
            await client.call()
        async with backend.serving(int(url.rpartition(":")[2])):
            await client.call()
    assert backend.connections == 2


async def test_calls_are_counted_while_they_are_in_flight(proxy: FaultProxy) -> None:
    proxy.set(Fault.late())
    before = time.monotonic()
    async with Client(proxy.port) as one, Client(proxy.port) as two:
        await one.send(rpc(1))
        await two.send(batch(2, 3))
        await proxy.until(lambda p: p.held == 2)
        assert (proxy.calls.total, proxy.calls.concurrent, proxy.calls.max_concurrent) == (2, 2, 2)
        assert sorted(call.methods for call in proxy.calls) == [("m2", "m3"), ("system.status",)]
        assert all(call.how is None and call.ended_mono is None for call in proxy.calls)
        assert proxy.release() == 2
        await one.answer()
        await two.answer()
    assert (proxy.calls.concurrent, proxy.calls.max_concurrent) == (0, 2)
    for call in proxy.calls:
        assert call.ended_mono is not None
        assert before <= call.came_mono <= call.ended_mono <= time.monotonic()
        assert call.came_wall <= time.time()


async def test_a_client_that_leaves_is_noticed(proxy: FaultProxy) -> None:
    proxy.set(Fault.late())
    async with Client(proxy.port) as client:
        await client.send(rpc())
        await proxy.until(lambda p: p.held == 1)
    await until_idle(proxy)
    assert (proxy.held, endings(proxy)) == (0, [(How.CLIENT_LEFT, None, ("late",))])


# Faults of the transport


async def test_down_refuses_connections_and_up_again_is_the_same_port(proxy: FaultProxy) -> None:
    for _ in range(3):
        proxy.set(Fault.down())
        assert proxy.is_down
        with pytest.raises(ConnectionRefusedError):
            await Client(proxy.port).__aenter__()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", proxy.port))
        proxy.clear("down")
        async with Client(proxy.port) as client:
            assert (await client.call())[0].startswith(b"HTTP/1.1 200")
    assert endings(proxy) == [(How.ANSWERED, 200, ())] * 3


async def test_down_resets_what_is_open(proxy: FaultProxy) -> None:
    proxy.set(Fault.late())
    async with Client(proxy.port) as idle, Client(proxy.port) as busy, Client(proxy.port) as unseen:
        await busy.send(rpc())
        await proxy.until(lambda p: p.held == 1 and p.connections >= 2)
        proxy.set(Fault.down())
        for client in (idle, busy, unseen):
            assert await client.receive_all() == (b"", "RST")
        await proxy.until(lambda p: p.connections == 0)
    assert endings(proxy) == [(How.STOPPED, None, ("late",))]


async def test_down_before_the_start_refuses_from_the_start(backend: Backend) -> None:
    async with backend.serving() as url:
        proxy = FaultProxy(upstream=url)
        proxy.set(Fault.down())
        async with proxy:
            with pytest.raises(ConnectionRefusedError):
                await Client(proxy.port).__aenter__()
            proxy.clear()
            async with Client(proxy.port) as client:
                await client.call()


async def test_connecting_is_not_answered_until_the_fault_is_over(proxy: FaultProxy) -> None:
    for _ in range(2):
        proxy.set(Fault.unanswered())
        connecting = asyncio.create_task(asyncio.open_connection("127.0.0.1", proxy.port))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(connecting), 0.2)
        assert proxy.connections == 0
        proxy.clear("unanswered")
        async with Client(proxy.port) as client:
            assert (await client.call())[0].startswith(b"HTTP/1.1 200")
        _, writer = await asyncio.wait_for(connecting, PATIENCE_S)  # the kernel sends its SYN again after 1 s
        writer.close()
        await writer.wait_closed()
    assert endings(proxy) == [(How.ANSWERED, 200, ())] * 2


async def test_unanswered_resets_what_is_open_and_gives_way_to_down(proxy: FaultProxy) -> None:
    async with Client(proxy.port) as client:
        await proxy.until(lambda p: p.connections == 1)
        proxy.set(Fault.unanswered())
        assert await client.receive_all() == (b"", "RST")
    proxy.set(Fault.down())
    with pytest.raises(ConnectionRefusedError):
        await Client(proxy.port).__aenter__()
    proxy.clear("down")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Client(proxy.port).__aenter__(), 0.2)
    proxy.clear()
    async with Client(proxy.port) as client:
        await client.call()


@pytest.mark.parametrize("after_bytes", [None, 0, 10])
async def test_reset_comes_in_the_middle_of_the_body(proxy: FaultProxy, after_bytes: int | None) -> None:
    proxy.set(Fault.reset(after_bytes=after_bytes))
    async with Client(proxy.port) as client:
        await client.send(rpc())
        seen, end = await client.receive_all()
    head, _, body = seen.partition(b"\r\n\r\n")
    length = int(head.split(b"Content-Length: ")[1])
    assert end == "RST"
    assert len(body) == (length // 2 if after_bytes is None else after_bytes)
    assert endings(proxy) == [(How.RESET, 200, ("reset",))]


async def test_reset_counts_the_bytes_of_all_pieces(proxy: FaultProxy) -> None:
    proxy.set(Fault.huge_body(size_bytes=500_000))
    proxy.set(Fault.reset(after_bytes=100_000))
    async with Client(proxy.port) as client:
        await client.send(rpc())
        seen, end = await client.receive_all()
    assert (len(seen.partition(b"\r\n\r\n")[2]), end) == (100_000, "RST")


async def test_a_reset_beyond_the_body_comes_at_its_end(proxy: FaultProxy) -> None:
    proxy.set(Fault.reset(after_bytes=10**6))
    async with Client(proxy.port) as client:
        await client.send(rpc())
        seen, end = await client.receive_all()
    assert json.loads(seen.partition(b"\r\n\r\n")[2])["result"] == RESULT
    assert end == "RST"


async def test_black_hole_reads_everything_and_answers_nothing(proxy: FaultProxy, backend: Backend) -> None:
    proxy.set(Fault.black_hole())
    async with Client(proxy.port) as client:
        await client.send(rpc())
        await proxy.until(lambda p: p.calls.total == 1)
        proxy.clear()
        await client.send(rpc() * 20_000)
        assert await client.is_silent()
    await until_idle(proxy)
    assert backend.connections == 0
    assert endings(proxy) == [(How.CLIENT_LEFT, None, ("black_hole",))]


async def test_latency_delays_the_answer_and_nothing_else(proxy: FaultProxy) -> None:
    proxy.set(Fault.latency(delay_s=0.04, jitter_s=0.01))
    async with Client(proxy.port) as client:
        began = time.monotonic()
        _, body = await client.call()
        assert time.monotonic() - began >= 0.039
        assert json.loads(body)["result"] == RESULT


async def test_jitter_is_drawn_for_each_answer(proxy: FaultProxy) -> None:
    proxy.set(Fault.latency(delay_s=0.01, jitter_s=0.05))
    rng = random.Random(1)
    async with Client(proxy.port) as client:
        for _ in range(4):
            began = time.monotonic()
            await client.call()
            assert time.monotonic() - began >= rng.uniform(0.01, 0.06) - 0.001


async def test_bandwidth_is_a_ceiling(proxy: FaultProxy) -> None:
    proxy.set(Fault.bandwidth(bytes_per_s=5000.0))
    async with Client(proxy.port) as client:
        began = time.monotonic()
        await client.call()
        last_write = 5000 / 50
        assert time.monotonic() - began >= (sum(client.receives) - last_write) / 5000 - 0.001


async def test_slicing_comes_in_small_pieces(proxy: FaultProxy) -> None:
    async with Client(proxy.port) as client:
        whole = b"".join(await client.call())
        assert len(client.receives) <= 3
        client.receives.clear()
        proxy.set(Fault.slicing(size_bytes=10))
        assert b"".join(await client.call()) == whole
        assert len(client.receives) >= len(whole) // 40


async def test_slices_can_be_far_between(proxy: FaultProxy) -> None:
    proxy.set(Fault.slicing(size_bytes=100, pause_s=0.01))
    async with Client(proxy.port) as client:
        began = time.monotonic()
        await client.call()
        assert time.monotonic() - began >= (sum(client.receives) // 100) * 0.01 - 0.001


async def test_slow_close_announces_the_close_and_waits_with_it(proxy: FaultProxy) -> None:
    proxy.set(Fault.slow_close(delay_s=0.05))
    async with Client(proxy.port) as client:
        began = time.monotonic()
        head, body = await client.call()
        assert b"\r\nConnection: close\r\n" in head
        assert json.loads(body)["result"] == RESULT
        assert await client.is_silent()
        assert await client.receive_all() == (b"", "FIN")
        assert time.monotonic() - began >= 0.049


async def test_late_answers_are_those_of_their_time(proxy: FaultProxy, backend: Backend) -> None:
    proxy.set(Fault.late(count=2))
    async with Client(proxy.port) as first, Client(proxy.port) as second, Client(proxy.port) as third:
        await first.send(rpc(1))
        await proxy.until(lambda p: p.held == 1)
        await second.send(rpc(2))
        await proxy.until(lambda p: p.held == 2)
        assert [call["id"] for call in backend.bodies] == [1, 2]
        assert json.loads((await third.call(rpc(3)))[1])["id"] == 3
        assert await first.is_silent()
        assert proxy.release(1) == 1
        assert json.loads((await first.answer())[1])["id"] == 1
        assert await second.is_silent()
        assert proxy.release() == 1
        assert json.loads((await second.answer())[1])["id"] == 2
    assert proxy.release() == 0


# Faults of HTTP and JSON-RPC


@pytest.mark.parametrize("code", [500, 502, 503, 504])
async def test_status(proxy: FaultProxy, backend: Backend, code: int) -> None:
    proxy.set(Fault.status(code))
    async with Client(proxy.port) as client:
        for _ in range(2):  # the connection is kept
            head, _ = await client.call()
            assert head.startswith(b"HTTP/1.1 %d " % code)
    assert backend.connections == 0
    assert endings(proxy) == [(How.ANSWERED, code, ("status",))] * 2


async def test_too_many_requests_says_when_to_come_back(proxy: FaultProxy) -> None:
    proxy.set(Fault.too_many_requests(17))
    async with Client(proxy.port) as client:
        head, _ = await client.call()
    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: 17\r\n" in head


async def test_unauthorized(proxy: FaultProxy) -> None:
    proxy.set(Fault.unauthorized())
    async with Client(proxy.port) as client:
        head, _ = await client.call()
    assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nWWW-Authenticate: Bearer" in head


async def test_html(proxy: FaultProxy) -> None:
    proxy.set(Fault.html())
    async with Client(proxy.port) as client:
        head, body = await client.call()
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/html")
    assert body.startswith(b"<!doctype html>")


async def test_truncated_json_is_all_that_was_promised(proxy: FaultProxy) -> None:
    async with Client(proxy.port) as client:
        _, whole = await client.call()
        proxy.set(Fault.truncated_json())
        _, body = await client.call()
        assert body == whole[: len(whole) // 2]
        assert await client.is_silent()


async def test_chunked_answers_pass_and_are_spoilt(proxy: FaultProxy) -> None:
    async with Client(proxy.port) as client:
        await client.send(get(b"/chunked"))
        assert b"Transfer-Encoding: chunked" in await client.until(b"\r\n\r\n")
        assert (await client.until(b"0\r\n\r\n")).replace(b"\r\n", b"") == b"1{1}0"
        proxy.set(Fault.truncated_json())
        head, body = await client.call(get(b"/chunked"))
        assert b"chunked" not in head
        assert body == b"{"


async def test_an_answer_too_large_to_be_spoilt_is_a_failure(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.verify.faultproxy.connection.MAX_SPOILT_BYTES", 10)
    proxy.set(Fault.truncated_json())
    async with Client(proxy.port) as client:
        await client.send(rpc())
        assert await client.receive_all() == (b"", "RST")


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (Fault.wrong_id(), {"jsonrpc": "2.0", "id": 1000010, "result": RESULT}),
        (Fault.no_result_no_error(), {"jsonrpc": "2.0", "id": 7}),
        (Fault.rpc_error(-32601, "no"), {"jsonrpc": "2.0", "id": 7, "error": {"code": -32601, "message": "no"}}),
        (Fault.partial_batch(), {"jsonrpc": "2.0", "id": 7, "result": RESULT}),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_members_of_an_answer(proxy: FaultProxy, fault: Any, answer: Any) -> None:
    proxy.set(fault)
    async with Client(proxy.port) as client:
        assert json.loads((await client.call())[1]) == answer
        proxy.clear()
        assert json.loads((await client.call())[1])["result"] == RESULT


async def test_result_and_error(proxy: FaultProxy) -> None:
    proxy.set(Fault.result_and_error())
    async with Client(proxy.port) as client:
        answer = json.loads((await client.call())[1])
    assert set(answer) == {"jsonrpc", "id", "result", "error"}
    assert (answer["id"], answer["result"]) == (7, RESULT)


async def test_partial_batch(proxy: FaultProxy) -> None:
    proxy.set(Fault.partial_batch(2))
    async with Client(proxy.port) as client:
        _, body = await client.call(batch(1, 2, 3))
    assert [answer["id"] for answer in json.loads(body)] == [3]


async def test_nan(proxy: FaultProxy) -> None:
    proxy.set(Fault.nan())
    async with Client(proxy.port) as client:
        _, body = await client.call()
    assert body == b'{"jsonrpc":"2.0","id":7,"result":NaN}'


async def test_a_spoilt_answer_is_asked_for_uncompressed(proxy: FaultProxy, backend: Backend) -> None:
    proxy.set(Fault.nan(count=1))
    async with Client(proxy.port) as client:
        for _ in range(2):
            await client.call(post(b'{"id":1}', headers=b"Accept-Encoding: gzip\r\n"))
    assert [b"Accept-Encoding" in request for request in backend.requests] == [False, True]


async def test_huge_body_is_valid_and_never_held(proxy: FaultProxy) -> None:
    size = 16 * 1024 * 1024
    proxy.set(Fault.huge_body(size_bytes=size))
    async with Client(proxy.port) as client:
        tracemalloc.start()
        await client.send(rpc())
        head = await client.until(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % size in head
        first = await client.until(b"x")
        seen, last = len(first) + len(client._pending), b""
        while seen < size:
            piece = await client.receive()
            last = (last + piece)[-3:]
            seen += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert first == b'{"jsonrpc":"2.0","id":7,"result":"x'
    assert last == b'x"}'
    assert seen == size
    assert peak < 2 * 1024 * 1024


async def test_endless_body_goes_on_until_the_client_leaves(proxy: FaultProxy) -> None:
    proxy.set(Fault.endless_body())
    async with Client(proxy.port) as client:
        await client.send(rpc())
        assert b"Transfer-Encoding: chunked" in await client.until(b"\r\n\r\n")
        seen = b""
        while len(seen) < 4_000_000:
            seen += await client.receive()
        assert b"\r\n0\r\n" not in seen
        assert b"}" not in seen
    await until_idle(proxy)
    assert endings(proxy) == [(How.CLIENT_LEFT, 200, ("endless_body",))]


async def test_a_client_that_does_not_read_costs_no_memory(proxy: FaultProxy) -> None:
    proxy.set(Fault.endless_body())
    async with Client(proxy.port) as client:
        tracemalloc.start()
        await client.send(rpc())
        for _ in range(500):
            await asyncio.sleep(0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 * 1024 * 1024


async def test_what_is_made_up_without_json_rpc(proxy: FaultProxy) -> None:
    async with Client(proxy.port) as client:
        for fault in (Fault.deep_json(3), Fault.huge_body(size_bytes=256)):
            proxy.set(fault)
        assert (await client.call(get(b"/")))[1] == b'"' + b"x" * 254 + b'"'
        proxy.clear("huge_body")
        assert (await client.call(get(b"/")))[1] == b"[[[]]]"
        await client.send(b"HEAD / HTTP/1.1\r\n\r\n")
        assert b"Content-Length: 6" in await client.until(b"\r\n\r\n")
        assert (await client.call(get(b"/")))[0].startswith(b"HTTP/1.1 200 ")


async def test_deep_json(proxy: FaultProxy) -> None:
    proxy.set(Fault.deep_json(70_000))
    async with Client(proxy.port) as client:
        _, body = await client.call()
    assert body == b'{"jsonrpc":"2.0","id":7,"result":' + b"[" * 70_000 + b"]" * 70_000 + b"}"


async def test_stalled_headers_stop_before_their_end(proxy: FaultProxy) -> None:
    proxy.set(Fault.stalled_headers())
    async with Client(proxy.port) as client:
        await client.send(rpc())
        assert await client.until(b"appl") == b"HTTP/1.1 200 OK\r\nContent-Type: appl"
        assert await client.is_silent()
    await until_idle(proxy)
    assert endings(proxy) == [(How.CLIENT_LEFT, None, ("stalled_headers",))]


async def test_dead_keep_alive_closes_only_connections_that_were_kept(proxy: FaultProxy, backend: Backend) -> None:
    proxy.set(Fault.dead_keep_alive())
    for _ in range(2):
        async with Client(proxy.port) as client:
            await client.call()
            await client.send(rpc())
            assert await client.receive_all() == (b"", "FIN")
    assert len(backend.requests) == 2
    assert endings(proxy) == [(How.ANSWERED, 200, ()), (How.CLOSED, None, ("dead_keep_alive",))] * 2


async def test_faults_of_the_answer_and_of_its_delivery_combine(proxy: FaultProxy) -> None:
    proxy.set(Fault.status(503))
    proxy.set(Fault.reset(after_bytes=4))
    async with Client(proxy.port) as client:
        await client.send(rpc())
        seen, end = await client.receive_all()
    assert seen.startswith(b"HTTP/1.1 503 ")
    assert (len(seen.partition(b"\r\n\r\n")[2]), end) == (4, "RST")


async def test_count_and_probability(proxy: FaultProxy) -> None:
    proxy.set(Fault.status(500, count=2))
    async with Client(proxy.port) as client:
        assert [(await client.call())[0][9:12] for _ in range(4)] == [b"500", b"500", b"200", b"200"]
        assert proxy.faults == ()
        proxy.set(Fault.status(500, probability=0.5))
        seen = [(await client.call())[0][9:12] for _ in range(20)]
    rng = random.Random(1)
    [rng.random() for _ in range(2)]
    assert seen == [b"500" if rng.random() < 0.5 else b"200" for _ in range(20)]


async def test_a_fault_of_some_methods_or_paths_leaves_the_others_alone(proxy: FaultProxy) -> None:
    proxy.set(Fault.status(500, methods=("b", "/plain")))
    asked = [
        post(b'{"id": 1, "method": "a"}'),
        post(b'{"id": 1, "method": "b"}'),
        post(b'[{"id": 1, "method": "a"}, {"id": 2, "method": "b"}]'),
        get(b"/other"),
        get(b"/plain?q=1"),
    ]
    async with Client(proxy.port) as client:
        assert [(await client.call(one))[0][9:12] for one in asked] == [b"200", b"500", b"500", b"200", b"500"]


async def test_unknown_names_are_refused(proxy: FaultProxy) -> None:
    with pytest.raises(UnknownName, match=r"expected a fault \(bandwidth, .*, got 'fire'"):
        proxy.clear("fire")


# Streams


async def test_an_upgraded_connection_is_a_stream_both_ways(proxy: FaultProxy, backend: Backend) -> None:
    async with Client(proxy.port) as client:
        await client.send(WEBSOCKET + b"early ")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert await client.until(b"early ") == b"echo early "
        await client.send(b"\x81\x05hello")
        assert await client.until(b"hello") == b"echo \x81\x05hello"
        assert proxy.calls.concurrent == 1
        assert proxy.calls.records[0].path == "/ws"
        assert backend.stream is not None
        backend.stream.close()
        assert await client.receive_all() == (b"", "FIN")
    assert endings(proxy) == [(How.ANSWERED, 101, ())]


async def test_a_half_closed_stream_is_passed_on(proxy: FaultProxy, backend: Backend) -> None:
    async with Client(proxy.port) as client:
        await client.send(WEBSOCKET)
        await client.until(b"\r\n\r\n")
        client.half_close()
        assert await client.receive_all() == (b"bye", "FIN")
    assert endings(proxy) == [(How.ANSWERED, 101, ())]


async def test_a_reset_of_a_stream_is_passed_on(proxy: FaultProxy, backend: Backend) -> None:
    async with Client(proxy.port) as client:
        await client.send(WEBSOCKET)
        await client.until(b"\r\n\r\n")
        client.leave(rst=True)
    await until_idle(proxy)
    assert endings(proxy) == [(How.CLIENT_LEFT, 101, ())]


async def test_a_refused_upgrade_stays_http(proxy: FaultProxy) -> None:
    proxy.set(Fault.unauthorized(count=1))
    async with Client(proxy.port) as client:
        await client.send(WEBSOCKET)
        assert (await client.answer())[0].startswith(b"HTTP/1.1 401 ")
        assert (await client.call())[0].startswith(b"HTTP/1.1 200 ")


async def test_who_asks_for_an_upgrade_has_to_wait_for_it(proxy: FaultProxy) -> None:
    proxy.set(Fault.late())
    async with Client(proxy.port) as client:
        await client.send(WEBSOCKET + b"x" * 100_000)
        assert (await client.receive_all())[0] == b""


async def test_an_event_stream_passes_piece_by_piece(proxy: FaultProxy, backend: Backend) -> None:
    proxy.set(Fault.nan())  # there is no answer that it could spoil
    async with Client(proxy.port) as client:
        await client.send(get(b"/events"))
        await client.until(b"\r\n\r\n")
        assert backend.stream is not None
        for piece in (b"6\r\nid: 1\n\r\n", b"6\r\nid: 2\n\r\n"):
            backend.stream.write(piece)
            assert await client.until(b"\n\r\n") == piece
        backend.stream.write(b"0\r\n\r\n")
        assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


async def test_a_client_that_leaves_ends_its_stream_upstream(proxy: FaultProxy, backend: Backend) -> None:
    async with Client(proxy.port) as client:
        await client.send(get(b"/events"))
        await client.until(b"\r\n\r\n")
    await until_idle(proxy)
    assert endings(proxy) == [(How.CLIENT_LEFT, 200, ())]


@pytest.mark.parametrize("first", [True, False])
async def test_reset_cuts_a_stream_within_a_piece(proxy: FaultProxy, backend: Backend, first: bool) -> None:
    async with Client(proxy.port) as client:
        if first:
            proxy.set(Fault.reset(count=1))
        await client.send(WEBSOCKET)
        await client.until(b"\r\n\r\n")
        if not first:
            await client.send(b"one")
            await client.until(b"echo one")
            proxy.set(Fault.reset(count=1))
        await client.send(b"other")
        assert await client.receive_all() == (b"echo ", "RST")


async def test_black_hole_swallows_a_stream_for_good(proxy: FaultProxy, backend: Backend) -> None:
    async with Client(proxy.port) as client:
        await client.send(WEBSOCKET)
        await client.until(b"\r\n\r\n")
        await client.send(b"one")
        await client.until(b"echo one")
        proxy.set(Fault.black_hole(count=1))
        await client.send(b"two")
        while proxy.faults:
            await asyncio.sleep(0)
        assert await client.is_silent()
        await client.send(b"three")
        assert await client.is_silent()
        assert backend.swallowed == b"onetwo"
        assert backend.stream is not None
        backend.stream.close()
        assert await client.is_silent()


async def test_a_slow_client_holds_its_stream_back(proxy: FaultProxy, backend: Backend) -> None:
    async with Client(proxy.port) as client:
        await client.send(WEBSOCKET)
        await client.until(b"\r\n\r\n")
        proxy.set(Fault.bandwidth(bytes_per_s=1.0))
        assert backend.stream is not None
        backend.stream.transport.set_write_buffer_limits(high=0)
        backend.stream.write(b"x" * 16_000_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await backend.stream.drain()


@pytest.mark.parametrize("first", [True, False])
async def test_slow_close_of_a_stream(proxy: FaultProxy, backend: Backend, first: bool) -> None:
    async with Client(proxy.port) as client:
        if first:
            proxy.set(Fault.slow_close(delay_s=0.03, count=1))
        await client.send(WEBSOCKET)
        assert b"\r\nConnection: Upgrade\r\n" in await client.until(b"\r\n\r\n")
        proxy.set(Fault.slow_close(delay_s=0.03, count=1))
        began = time.monotonic()
        assert backend.stream is not None
        backend.stream.close()
        assert await client.receive_all() == (b"", "FIN")
        assert time.monotonic() - began >= 0.029


# The end


async def test_closing_leaves_no_task_and_no_socket(backend: Backend) -> None:
    async with backend.serving() as url:
        async with contextlib.AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(FaultProxy(upstream=url))
            proxy.set(Fault.late(count=1))
            clients = [await stack.enter_async_context(Client(proxy.port)) for _ in range(4)]
            await clients[0].send(rpc())
            await proxy.until(lambda p: p.held == 1)
            proxy.set(Fault.black_hole(count=1))
            await clients[1].send(rpc())
            await proxy.until(lambda p: p.calls.total == 2)
            await clients[2].send(WEBSOCKET)
            await clients[2].until(b"\r\n\r\n")
            ours = {task for task in asyncio.all_tasks() if "Connection." in repr(task)}
            assert len(ours) >= 9
            await proxy.__aexit__(None, None, None)
            assert not [task for task in asyncio.all_tasks() if task in ours]
            assert (proxy.connections, proxy.calls.concurrent, proxy.held) == (0, 0, 0)
            assert [call.how for call in proxy.calls] == [How.STOPPED] * 3
            for client in clients:
                assert (await client.receive_all())[0] == b""
            stack.pop_all()
            for client in clients:
                client.leave()
        with pytest.raises(ConnectionRefusedError):
            await Client(proxy.port).__aenter__()
    gc.collect()  # a socket that was left open would warn, and warnings are errors


async def test_a_taken_port_is_an_error(proxy: FaultProxy) -> None:
    with pytest.raises(OSError, match="in use"):
        await FaultProxy(upstream=proxy.url, listen=("127.0.0.1", proxy.port)).__aenter__()


@pytest.mark.parametrize("url", ["https://x:1", "http://", "x:1", "http://x/path"])
def test_upstreams_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected an upstream of the form"):
        FaultProxy(upstream=url)


ON_UVLOOP_TOO = [
    test
    for name, test in list(globals().items())
    if name.startswith("test_")
    and inspect.iscoroutinefunction(test)
    and set(inspect.signature(test).parameters) <= {"proxy", "backend"}
]


@pytest.mark.parametrize("test", ON_UVLOOP_TOO, ids=lambda test: test.__name__.removeprefix("test_"))
def test_on_uvloop(test: Callable[..., Awaitable[None]]) -> None:
    async def run() -> None:
        backend = Backend()
        async with backend.serving() as url, FaultProxy(upstream=url, seed=1) as proxy:
            given = {"proxy": proxy, "backend": backend}
            await test(**{name: given[name] for name in inspect.signature(test).parameters})

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
