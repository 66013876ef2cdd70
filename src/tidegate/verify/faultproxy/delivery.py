"""Sends bytes to a client, subject to the faults of a plan, and holds answers back."""

import asyncio
import collections
import contextlib
import random
import socket
import struct
from collections.abc import Callable
from typing import Final

from tidegate.verify.faultproxy.answers import PIECE_BYTES
from tidegate.verify.faultproxy.calls import How
from tidegate.verify.faultproxy.drawing import Plan
from tidegate.verify.faultproxy.faults import Bandwidth, Late, Latency, Reset, Slicing

WRITES_PER_S: Final = 50
"""How many writes per second to make if the bandwidth is limited."""

_NO_LINGER: Final = struct.pack("ii", 1, 0)


def reset_on_close(sock: socket.socket) -> None:
    """Have the kernel send a reset when `sock` is closed, instead of ending the stream in good order."""
    with contextlib.suppress(OSError):  # the socket is closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


class Cut(Exception):
    """Ends the exchange and its connection, with a reset if `rst`. `how` is what the log says."""

    def __init__(self, how: How, *, rst: bool = True) -> None:
        self.how = how
        self.rst = rst
        super().__init__(how)


class HeldAnswers:
    """Answers that wait to be released, in the order in which they came. `changed` is called for each new one."""

    __slots__ = ("_changed", "_waiting")

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self) -> None:
        """Wait until released. Cancellation removes the answer from the queue."""
        released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(released)
        self._changed()
        try:
            await released
        finally:
            if released in self._waiting:
                self._waiting.remove(released)

    def release(self, count: int | None = None) -> int:
        """Release the oldest `count` answers, or all. Return how many were released."""
        going = len(self) if count is None else min(count, len(self))
        for _ in range(going):
            self._waiting.popleft().set_result(None)
        return going


class Delivery:
    """Writes to one client, subject to the faults in `plan`. The transport never buffers more than one write."""

    __slots__ = ("_body_bytes", "_held", "_jitter", "_writer", "plan")

    def __init__(self, writer: asyncio.StreamWriter, *, plan: Plan, held: HeldAnswers, jitter: random.Random) -> None:
        self.plan = plan
        self._writer = writer
        self._held = held
        self._jitter = jitter
        self._body_bytes = 0

    async def wait(self) -> None:
        """Wait for the latency and the release that the plan demands."""
        if latency := self.plan.get(Latency):
            await asyncio.sleep(self._jitter.uniform(latency.delay_s, latency.delay_s + latency.jitter_s))
        if self.plan.get(Late):
            await self._held.wait()

    async def send(self, data: bytes) -> None:
        """Pass `data` to the kernel, sliced and paced. Raises `ConnectionError` if the client is gone."""
        size, pause_s, s_per_byte = self._pace()
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self._writer.write(piece)
            await self._writer.drain()
            # Sleep even for 0 s: otherwise a client that reads as fast as this writes would starve other tasks.
            await asyncio.sleep(pause_s + s_per_byte * len(piece))

    async def send_body(self, piece: bytes, *, chunked: bool = False) -> None:
        """Send a piece of the body, as a chunk if `chunked`. Raises `Cut` where the plan resets the connection."""
        opening, closing = (b"%x\r\n" % len(piece), b"\r\n") if chunked else (b"", b"")
        if (room := self._room(piece)) is not None and room < len(piece):
            await self.send(opening + piece[:room])
            raise Cut(How.RESET)
        self._body_bytes += len(piece)
        await self.send(opening + piece + closing)

    async def finish(self, *, chunked: bool) -> None:
        """End the body. If the plan has a reset and the body was too short for it, raise `Cut` instead."""
        if self.plan.get(Reset):
            raise Cut(How.RESET)
        if chunked:
            await self.send(b"0\r\n\r\n")

    def _pace(self) -> tuple[int, float, float]:
        """Return the largest write in bytes, the pause after each write, and the extra pause per byte, in seconds."""
        slicing, bandwidth = self.plan.get(Slicing), self.plan.get(Bandwidth)
        size = slicing.size_bytes if slicing else PIECE_BYTES
        if bandwidth:
            size = min(size, max(1, int(bandwidth.bytes_per_s / WRITES_PER_S)))
        return size, slicing.pause_s if slicing else 0.0, 1 / bandwidth.bytes_per_s if bandwidth else 0.0

    def _room(self, piece: bytes) -> int | None:
        """Return how many bytes of `piece` to send before a reset; None if there is no reset."""
        if (reset := self.plan.get(Reset)) is None:
            return None
        return len(piece) // 2 if reset.after_bytes is None else max(reset.after_bytes - self._body_bytes, 0)
