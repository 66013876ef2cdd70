"""A thousand clients, of which fifty stop reading: what each of them gets, and what that costs the gateway's memory."""

import asyncio
import json
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from programs import Program, private_bytes, tidegate

pytestmark = pytest.mark.real

CLIENTS, STUCK = 1000, 50
SOFT_BYTES, HARD_BYTES, HISTORY_BYTES = 65_536, 1 << 19, 2 << 20
WRITE_BYTES = 262_144
CONNECTION_BYTES = 8192
EVENTS, EVENT_BYTES, AT_ONCE = 8000, 10_000, 50
KEYS = 10
TICK_EVERY = 40
PATIENCE_S = 120.0

CONFIG = f"""
[server]
port = 0
state_dir = ""
allow_no_sources = true
heartbeat_interval_s = 0.5
[limits]
publishes_per_s = 1000000.0
publishes_burst = 1000000
send_buffer_soft_bytes = {SOFT_BYTES}
send_buffer_hard_bytes = {HARD_BYTES}
slow_grace_s = 30.0
[history]
bytes = {HISTORY_BYTES}
"""

ALLOWED_BYTES = (
    CLIENTS * CONNECTION_BYTES
    + 2 * HISTORY_BYTES
    + STUCK * (SOFT_BYTES + WRITE_BYTES + min(HARD_BYTES, (256 + KEYS) * EVENT_BYTES))
    + (16 << 20)  # what the interpreter makes once, and a publish on its way
)
"""The formula of docs/limits.md."""


class Client(asyncio.Protocol):
    """Counts what it reads. One that is `small` has little room in its kernel, so that it is soon seen to be stuck."""

    def __init__(self, types: str) -> None:
        self._types = types
        self._buffer = bytearray()
        self.messages: list[dict[str, Any]] = []
        self.lost = asyncio.Event()

    async def open(self, port: int, *, small: bool = False) -> "Client":
        raw = socket.socket()
        if small:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", port))
        await loop.create_connection(lambda: self, sock=raw)
        self.transport.write(
            f"GET /ws?types={self._types} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        await self.until("welcome")
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._frames = self._read()
        next(self._frames)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        next(self._frames)

    async def until(self, kind: str, *, after: int = 0) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := [m for m in self.messages[after:] if m["type"] == kind]):
                await asyncio.sleep(0.01)
        return found[0]

    def seen(self, kind: str) -> list[int]:
        """The positions of what came of a type."""
        return [message["seq"] for message in self.messages if message["type"] == kind]

    def _read(self) -> Iterator[None]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            yield
        del self._buffer[: end + 4]
        while True:
            while (frame := self._frame()) is None:
                yield
            if frame:
                self.messages.append(json.loads(frame))

    def _frame(self) -> bytes | None:
        """The next text frame whole, b"" for a frame of another kind, None while it is not there."""
        if len(self._buffer) < 2:
            return None
        size, head = self._buffer[1], 2
        if size == 126:
            size, head = int.from_bytes(self._buffer[2:4]), 4
        elif size == 127:
            size, head = int.from_bytes(self._buffer[2:10]), 10
        if len(self._buffer) < head + size:
            return None
        opcode, payload = self._buffer[0] & 0x0F, bytes(self._buffer[head : head + size])
        del self._buffer[: head + size]
        return payload if opcode == 1 else b""


async def publish(session: aiohttp.ClientSession, url: str) -> list[int]:
    """All events, in order; the positions of the ticks among them."""
    ticks = []
    for first in range(0, EVENTS, AT_ONCE):
        batch = [
            {"type": "big.state", "key": str(n % KEYS), "retain": True, "data": "x" * EVENT_BYTES}
            if n % 2
            else {"type": "big.event", "data": "x" * EVENT_BYTES}
            for n in range(first, first + AT_ONCE)
        ]
        batch += [{"type": "tick", "data": n} for n in range(first, first + AT_ONCE, TICK_EVERY)]
        async with session.post(f"{url}/api/v1/events", json=batch) as answer:
            assert answer.status == 202, await answer.text()
            last = (await answer.json())["seq"]
        count = len(batch) - AT_ONCE
        ticks += list(range(last - count + 1, last + 1))
    return ticks


async def scene(gateway: Program) -> None:
    port = int(gateway.url.rpartition(":")[2])
    readers = [Client("tick") for _ in range(CLIENTS - STUCK)]
    conflated = [Client("big.state,heartbeat") for _ in range(STUCK // 2)]
    swamped = [Client("big.*,heartbeat") for _ in range(STUCK // 2)]
    stuck = [*conflated, *swamped]
    try:
        grown = await play(port, gateway, readers, stuck)
        assert grown < ALLOWED_BYTES < EVENTS * EVENT_BYTES, f"{grown} of {ALLOWED_BYTES} bytes"
        for client in stuck:
            client.transport.resume_reading()
        for client in conflated:
            await is_told_of_its_gap(client)
        for client in swamped:
            await is_closed(client)
    finally:
        for client in [*readers, *stuck]:
            client.transport.abort()
        await asyncio.wait([asyncio.ensure_future(client.lost.wait()) for client in [*readers, *stuck]])


async def play(port: int, gateway: Program, readers: list[Client], stuck: list[Client]) -> int:
    """The others miss nothing. How many bytes the gateway has grown by then."""
    for some in range(0, len(readers), 100):
        await asyncio.gather(*(reader.open(port) for reader in readers[some : some + 100]))
    await asyncio.gather(*(client.open(port, small=True) for client in stuck))
    for client in stuck:
        client.transport.pause_reading()
    before = private_bytes(gateway.pid)
    async with aiohttp.ClientSession() as session:
        ticks = await publish(session, gateway.url)
    grown = private_bytes(gateway.pid) - before
    async with asyncio.timeout(PATIENCE_S):
        while any(len(reader.seen("tick")) < len(ticks) for reader in readers):
            await asyncio.sleep(0.05)
    assert all(reader.seen("tick") == ticks for reader in readers)
    return grown


async def is_told_of_its_gap(client: Client) -> None:
    """Where events are missing it is told how many, and every key's newest value is there in the end."""
    await client.until("gap")
    await client.until("heartbeat", after=len(client.messages))
    skipped: Counter[str] = Counter()
    for gap in (message["data"] for message in client.messages if message["type"] == "gap"):
        assert gap["reason"] == "slow_consumer"
        skipped.update(gap["skipped"])
    values = [message for message in client.messages if message["type"] == "big.state"]
    assert len(values) + skipped["big.state"] == EVENTS // 2
    assert len({message["key"] for message in values[-KEYS // 2 :]}) == KEYS // 2
    positions = client.seen("big.state")
    assert positions == sorted(positions)
    assert not client.lost.is_set()


async def is_closed(client: Client) -> None:
    """What came before it was closed is whole: it was cut off, not flushed."""
    async with asyncio.timeout(PATIENCE_S):
        await client.lost.wait()
    assert not any(message["type"] == "gap" for message in client.messages)


def test_fifty_of_a_thousand_stop_reading(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text(CONFIG)
    with tidegate("serve", "--config", "tidegate.toml", folder=tmp_path) as gateway:
        asyncio.run(scene(gateway))
        gateway.signal(signal.SIGTERM)  # the last of a minute are summed up at its end, or at once by who stops
        gateway.wait()
    left = [line for line in gateway.log if line["event"] == "client left"]
    slow = [line for line in left if line.get("reason") == "too_slow"]
    assert len(slow) + sum(line.get("by_reason", {}).get("too_slow", 0) for line in left) == STUCK // 2
