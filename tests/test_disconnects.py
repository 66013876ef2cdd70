"""A client that leaves at any moment leaves nothing behind: no task, no descriptor, no memory, no word in the log.

DISCONNECTS=100000 pytest tests/test_disconnects.py -k however_many
"""

import asyncio
import gc
import itertools
import logging
import os
import random
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog
import uvloop
from fanout import draft
from leaving import STAGES, Leaver, Stage
from programs import private_bytes
from structlog.typing import EventDict

from tidegate.core.log_events import LimitedEvent
from tidegate.testing import RunningGateway, gateway

TOGETHER = 20
"""Clients at once."""

PATIENCE_S = 60.0

DISCONNECTS = int(os.environ.get("DISCONNECTS", "1000"))
"""How many clients come and go; `make soak` has 100,000."""

SLACK_BYTES = 4 << 20
"""More than the allocator ever keeps, and less than 100 bytes for each of 50,000 connects."""

CONFIG = {
    "limits": {"connects_per_s": 1e6, "connects_burst": 1_000_000, "handshake_s": 1.0},
    "history": {"events": 500, "bytes": 1 << 20},
}


class Complaints(logging.Handler):
    """Whatever is logged as a warning or worse, by us or by a library, and what the event loop was left alone with."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def processor(self, logger: Any, name: str, event: EventDict) -> str:
        if event["event"] != LimitedEvent.LOOP_STALLED:  # which a busy machine has done
            self.lines.append(str(event))
        raise structlog.DropEvent

    def unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.lines.append(str(context))


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    found = Complaints()
    before = structlog.get_config()
    structlog.configure(
        processors=[found.processor], wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
    )
    logging.getLogger().addHandler(found)
    yield found
    logging.getLogger().removeHandler(found)
    structlog.configure(**before)


class Scene:
    """A gateway with large values, a full history and an event every few milliseconds, and clients that leave it."""

    def __init__(self, running: RunningGateway) -> None:
        self._running = running
        self._port = int(running.url.rpartition(":")[2])
        self._visits = itertools.count()

    async def visit(self, stage: Stage, *, reset: bool) -> None:
        """Come, get to `stage`, and leave, by RST if `reset` says so."""
        number = next(self._visits)
        position = self._running.app.gateway.position
        client = Leaver(
            self._port,
            since=f"{position.epoch}:{position.seq - 300}",
            source=f"127.0.0.{2 + number % 250}",
            small=number % 3 == 0,
        )
        try:
            await client.connect()
            await stage(client)
        finally:
            client.leave(reset=reset)

    async def visits(self, stages: Iterable[tuple[Stage, bool]]) -> None:
        """One visit for each, some of them together."""
        waiting = iter(stages)

        async def come_again_and_again() -> None:
            for stage, reset in waiting:
                await self.visit(stage, reset=reset)

        await asyncio.gather(*(come_again_and_again() for _ in range(TOGETHER)))

    async def until_all_is_as(self, before: "Traces") -> None:
        """Wait for the server to notice, and for its timers of the connections to run out."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while (now := Traces.now(self._running)) != before:
            assert asyncio.get_running_loop().time() < deadline, f"expected {before}, got {now}"
            await asyncio.sleep(0.02)


class Traces(NamedTuple):
    """What can be left behind and seen at once."""

    clients: int
    tasks: int
    descriptors: int

    @classmethod
    def now(cls, running: RunningGateway) -> "Traces":
        return cls(
            len(running.app.gateway.clients.connections),
            len(asyncio.all_tasks()),
            len(list(Path("/proc/self/fd").iterdir())),
        )


@asynccontextmanager
async def scene() -> AsyncIterator[tuple[Scene, Traces]]:
    async with gateway(CONFIG) as running:
        publish = running.app.gateway.publish
        await publish([draft("value", "v" * 10_000, key=str(n), retain=True) for n in range(50)])
        await publish([draft("load", "x" * 1000) for _ in range(600)])
        task = asyncio.create_task(_publish_on(running))
        for _ in range(20):  # until every task of the gateway has begun those that it lives with
            await asyncio.sleep(0)
        try:
            yield Scene(running), Traces.now(running)
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _publish_on(running: RunningGateway) -> None:
    while True:
        await running.app.gateway.publish([draft("load", "x" * 1000)])
        await asyncio.sleep(0.005)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on the loop that `tidegate serve` has."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_at_every_stage(stage: Stage, complaints: Complaints) -> None:
    async def main() -> None:
        async with scene() as (clients, before):
            asyncio.get_running_loop().set_exception_handler(complaints.unhandled)
            await clients.visits([(stage, False), (stage, True)] * 5)
            await clients.until_all_is_as(before)

    run(main())
    assert complaints.lines == []


def test_however_many_come_and_go_memory_stays(complaints: Complaints) -> None:
    """The first half is for what is made once: pools of the allocator, caches, names of metrics."""
    order = random.Random(1)

    def mixed(count: int) -> list[tuple[Stage, bool]]:
        return [(order.choice(STAGES), order.random() < 0.5) for _ in range(count)]

    async def main() -> None:
        async with scene() as (clients, before):
            asyncio.get_running_loop().set_exception_handler(complaints.unhandled)
            await clients.visits(mixed(DISCONNECTS // 2))
            await clients.until_all_is_as(before)
            gc.collect()
            private = private_bytes(os.getpid())
            await clients.visits(mixed(DISCONNECTS // 2))
            await clients.until_all_is_as(before)
            gc.collect()
            grown = private_bytes(os.getpid()) - private
            print(f"{DISCONNECTS} connects: {grown} bytes more after the second half of them")
            assert grown < SLACK_BYTES, f"{grown} bytes more after {DISCONNECTS // 2} connects"

    run(main())
    assert complaints.lines == []
