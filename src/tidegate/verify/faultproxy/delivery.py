"""Bytes on their way to the client, through the faults of a plan; and the answers that are held back."""

import asyncio
import collections
import random
from collections.abc import Callable
from typing import Final

from tidegate.verify.faultproxy.answers import PIECE_BYTES
from tidegate.verify.faultproxy.calls import How
from tidegate.verify.faultproxy.drawing import Plan
from tidegate.verify.faultproxy.faults import Bandwidth, Late, Latency, Reset, Slicing

WRITES_PER_S: Final = 50
"""Into how many writes a limited bandwidth divides a second."""


class Cut(Exception):
    """The exchange ends here and its connection with it; `how` is for the log, `rst` whether with a reset."""

    def __init__(self, how: How, *, rst: bool = True) -> None:
        self.how = how
        self.rst = rst
        super().__init__(how)


class HeldAnswers:
    """Answers that wait to be released, in the order in which they came. `changed` is told of each."""

    __slots__ = ("_changed", "_waiting")

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self) -> None:
        """Return once released. Cancellation takes the answer out of the queue."""
        released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(released)
        self._changed()
        try:
            await released
        finally:
            if released in self._waiting:
                self._waiting.remove(released)

    def release(self, count: int | None = None) -> int:
        """Let the oldest `count` answers go, or all; how many went."""
        going = len(self) if count is None else min(count, len(self))
        for _ in range(going):
            self._waiting.popleft().set_result(None)
        return going


class Delivery:
    """Writes to one client as `plan` has it. The transport never holds more than one write."""

    __slots__ = ("_body_bytes", "_held", "_jitter", "_writer", "plan")

    def __init__(self, writer: asyncio.StreamWriter, *, plan: Plan, held: HeldAnswers, jitter: random.Random) -> None:
        self.plan = plan
        self._writer = writer
        self._held = held
        self._jitter = jitter
        self._body_bytes = 0

    async def wait(self) -> None:
        """Latency, and the wait for a release."""
        if latency := self.plan.get(Latency):
            await asyncio.sleep(self._jitter.uniform(latency.delay_s, latency.delay_s + latency.jitter_s))
        if self.plan.get(Late):
            await self._held.wait()

    async def send(self, data: bytes) -> None:
        """Hand `data` to the kernel, sliced and paced. Raises `ConnectionError` where the client has gone."""
        size, pause_s, s_per_byte = self._pace()
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self._writer.write(piece)
            await self._writer.drain()
            # Even without a pause: a client that reads as fast as we write must not keep the loop to itself.
            await asyncio.sleep(pause_s + s_per_byte * len(piece))

    async def send_body(self, piece: bytes, *, chunked: bool = False) -> None:
        """`send` a piece of the body, as a chunk if so told. Raises `Cut` where the plan resets the connection."""
        opening, closing = (b"%x\r\n" % len(piece), b"\r\n") if chunked else (b"", b"")
        if (room := self._room(piece)) is not None and room < len(piece):
            await self.send(opening + piece[:room])
            raise Cut(How.RESET)
        self._body_bytes += len(piece)
        await self.send(opening + piece + closing)

    async def finish(self, *, chunked: bool) -> None:
        """The end of the body; a reset that found no place before comes here, instead of the end."""
        if self.plan.get(Reset):
            raise Cut(How.RESET)
        if chunked:
            await self.send(b"0\r\n\r\n")

    def _pace(self) -> tuple[int, float, float]:
        """The largest write, the pause after each, and what each byte adds to that, in seconds."""
        slicing, bandwidth = self.plan.get(Slicing), self.plan.get(Bandwidth)
        size = slicing.size_bytes if slicing else PIECE_BYTES
        if bandwidth:
            size = min(size, max(1, int(bandwidth.bytes_per_s / WRITES_PER_S)))
        return size, slicing.pause_s if slicing else 0.0, 1 / bandwidth.bytes_per_s if bandwidth else 0.0

    def _room(self, piece: bytes) -> int | None:
        """How much of `piece` goes out before a reset; None if there is none."""
        if (reset := self.plan.get(Reset)) is None:
            return None
        return len(piece) // 2 if reset.after_bytes is None else max(reset.after_bytes - self._body_bytes, 0)
