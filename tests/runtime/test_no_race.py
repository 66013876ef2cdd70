"""The race that started this project: to subscribe while events are published, and to miss or repeat some.

Events are published in every turn of the loop while hundreds of clients on real sockets connect, subscribe,
unsubscribe, break off and resume at random. Each reads its acknowledgement, then the snapshots that are due, then a
gapless and repeat-free run of its types.
"""

import asyncio
import functools
import json
from collections.abc import Callable
from random import Random
from typing import Any

from fanout import EPOCH, draft
from serving import Serving, serving
from websockets.asyncio.client import ClientConnection, connect

from tidegate.core.topics import PatternSet

CLIENTS = 200
ACTS = 3
TYPES = [f"{area}.{name}" for area in "abcdefgh" for name in "xyz"]
PATTERNS = [*TYPES, *(f"{area}.*" for area in "abcdefgh")]
LAST = "the.end"
DEADLINE_S = 120.0


class World:
    """All that was published: the type of each event, by its place; every type is retained, without keys."""

    def __init__(self) -> None:
        self.types: list[str] = []

    def missing(self, patterns: PatternSet, *, after: int, before: int) -> list[str]:
        return [t for t in self.types[after : before - 1] if patterns.matches(t)]

    def newest(self, event_type: str, *, upto: int) -> int | None:
        """The place of the newest event of `event_type` when `upto` had been published."""
        return next((seq for seq in range(upto, 0, -1) if self.types[seq - 1] == event_type), None)


class Client:
    """One client, which believes nothing."""

    def __init__(self, served: Serving, world: World, random: Random) -> None:
        self._served = served
        self._world = world
        self._random = random
        self._patterns = PatternSet()
        self._complete = 0
        self._due: set[str] = set()
        self._due_at = 0
        self.events = 0

    async def run(self, has_acted: Callable[[], None]) -> None:
        """Come, act at random, and stay until the last event."""
        await asyncio.sleep(self._random.random() / 2)
        socket = await self._connect(self._choice(), since=None)
        for _ in range(ACTS):
            for _ in range(self._random.randrange(6)):
                await self._read(socket)
            socket = await self._act(socket)
        has_acted()
        while await self._read(socket) != LAST:
            pass
        await socket.close()

    def _choice(self) -> PatternSet:
        return PatternSet(self._random.sample(PATTERNS, self._random.randint(1, 2)))

    async def _act(self, socket: ClientConnection) -> ClientConnection:
        match self._random.randrange(5):
            case 0:
                await socket.close()
                return await self._connect(self._patterns, since=self._complete)
            case 1 if len(self._patterns) > 2:
                removed = PatternSet(self._random.sample(self._patterns.sorted(), 1)) - PatternSet([LAST])
                await self._ask(socket, "unsubscribe", removed)
            case _ if len(self._patterns) < 6:
                await self._ask(socket, "subscribe", self._choice())
            case _:
                await self._ask(socket, "ping", PatternSet())
        return socket

    async def _connect(self, patterns: PatternSet, *, since: int | None) -> ClientConnection:
        self._patterns = patterns | PatternSet([LAST])
        query = f"types={','.join(self._patterns.sorted())}"
        if since is not None:
            query += f"&since={EPOCH}:{since}"
        url = f"ws://127.0.0.1:{self._served.port}/ws?{query}"
        socket = await connect(url, proxy=None, ping_interval=None, compression=None)
        welcome = json.loads(await socket.recv())
        assert welcome["type"] == "welcome"
        assert welcome["data"]["subscriptions"] == self._patterns.sorted()
        assert welcome["data"]["resumed"] is (since is not None)
        if since is None:
            self._now_complete(welcome["data"]["seq"], new=self._patterns, old=PatternSet())
        else:
            assert welcome["data"]["seq"] == since
            self._due = set()
        return socket

    async def _ask(self, socket: ClientConnection, kind: str, patterns: PatternSet) -> None:
        """Send a request and read up to its reply: until then, the old patterns hold."""
        await socket.send(json.dumps({"type": kind, "id": 1, "data": {"types": patterns.sorted()}}))
        while (message := await self._next(socket)).get("id") != 1:
            self._judge(message)
        self._no_more_snapshots()
        old = self._patterns
        match message["type"]:
            case "subscribed":
                self._patterns |= patterns
                assert message["data"]["types"] == self._patterns.sorted()
                seq = message["data"]["seq"]
                assert not self._world.missing(old, after=self._complete, before=seq + 1)
                self._now_complete(seq, new=self._patterns, old=old)
            case "unsubscribed":
                self._patterns -= patterns
                assert message["data"] == {"types": self._patterns.sorted(), "removed": patterns.sorted()}
            case other:
                assert other == "pong"

    async def _read(self, socket: ClientConnection) -> str:
        message = await self._next(socket)
        self._judge(message)
        event_type: str = message["type"]
        return event_type

    async def _next(self, socket: ClientConnection) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await socket.recv())
        return message

    def _judge(self, message: dict[str, Any]) -> None:
        seq, event_type = message["seq"], message["type"]
        assert self._world.types[seq - 1] == event_type
        assert self._patterns.matches(event_type)
        if message.get("snapshot"):
            self._due.remove(event_type)
            assert seq == self._world.newest(event_type, upto=self._due_at)
            return
        self._no_more_snapshots()
        assert seq > self._complete
        assert not self._world.missing(self._patterns, after=self._complete, before=seq)
        self._complete = seq
        self.events += 1

    def _now_complete(self, seq: int, *, new: PatternSet, old: PatternSet) -> None:
        self._complete = self._due_at = seq
        self._due = {t for t in self._world.types[:seq] if new.matches(t) and not old.matches(t)}

    def _no_more_snapshots(self) -> None:
        """A snapshot that did not come was overtaken by a newer event, which follows."""
        assert all(t in self._world.types[self._due_at :] for t in self._due)
        self._due = set()


async def publish(served: Serving, world: World, acting: set[Client]) -> None:
    """One to three events in every turn of the loop while anyone is acting, then the last one."""
    random = Random(0)
    while acting:
        batch = random.choices(TYPES, k=random.randint(1, 3))
        world.types += batch
        await served.house.gateway.publish([draft(t, "x" * 50, retain=True) for t in batch])
        await asyncio.sleep(0)
    world.types.append(LAST)
    await served.house.gateway.publish([draft(LAST)])


async def test_nothing_is_lost_or_repeated_whoever_comes_and_goes() -> None:
    world = World()
    async with serving(max_clients=CLIENTS * 2, history_events=1_000_000) as served, asyncio.timeout(DEADLINE_S):
        clients = [Client(served, world, Random(n)) for n in range(CLIENTS)]
        acting = set(clients)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(publish(served, world, acting))
            for client in clients:
                tasks.create_task(client.run(functools.partial(acting.remove, client)))
    assert sum(client.events for client in clients) > 10 * CLIENTS
