"""The race that started this project: to subscribe while events are published, and to miss or repeat some.

Events are published in every turn of the loop while hundreds of clients on real sockets connect, subscribe,
unsubscribe, break off at any moment and resume. Each reads its acknowledgement, then the snapshots that are due, then a
gapless and repeat-free run of its types; and in the end it has the newest value of each, over all its connections.
"""

import asyncio
import functools
import json
from collections.abc import Callable
from random import Random
from typing import Any

from fanout import draft
from resuming import Resuming, Rule
from serving import Serving, serving
from websockets.asyncio.client import ClientConnection, connect

from tidegate.core.topics import PatternSet

CLIENTS = 200
ACTS = 3
TYPES = [f"{area}.{name}" for area in "abcdefgh" for name in "xyz"]
BUSY = [event_type for event_type in TYPES if not event_type.endswith("z")]
"""The others are published once, at the beginning: who misses their values never gets them."""

PATTERNS = [*TYPES, *(f"{area}.*" for area in "abcdefgh")]
ALWAYS = PatternSet([BUSY[0], "the.end"])
"""What everybody is subscribed to, so that nobody waits in vain."""

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
    """One client, which believes nothing, and comes back by a rule."""

    def __init__(self, served: Serving, world: World, random: Random, rule: Callable[[frozenset[str]], Rule]) -> None:
        self._served = served
        self._world = world
        self._random = random
        self._patterns = self._choice()
        self._rule = rule(self._patterns.patterns)
        self._complete = 0
        self._due: set[str] = set()
        self._synced_from: int | None = None
        self._received: set[int] = set()
        self.events = 0
        self.cut_before_synced = 0

    async def run(self, has_acted: Callable[[], None]) -> None:
        """Come, act at random, and stay until the last event."""
        await asyncio.sleep(self._random.random() / 2)
        socket = await self._connect()
        for _ in range(ACTS):
            for _ in range(self._random.randrange(8)):
                await self._read(socket)
            socket = await self._act(socket)
        has_acted()
        while await self._read(socket) != LAST:
            pass
        await socket.close()

    def lacks(self) -> list[str]:
        """The types of which it should have the newest value, and has not."""
        newest = {event_type: seq for seq, event_type in enumerate(self._world.types, 1)}
        return [t for t, seq in newest.items() if self._patterns.matches(t) and seq not in self._received]

    def _choice(self) -> PatternSet:
        return PatternSet(self._random.sample(PATTERNS, self._random.randint(1, 3))) | ALWAYS

    async def _act(self, socket: ClientConnection) -> ClientConnection:
        match self._random.randrange(5):
            case 0 | 1:
                self.cut_before_synced += self._synced_from is not None
                await socket.close()
                return await self._connect()
            case 2 if len(self._patterns) > 2:
                removed = PatternSet(self._random.sample(self._patterns.sorted(), 1)) - ALWAYS
                await self._ask(socket, "unsubscribe", removed)
            case _ if len(self._patterns) < 6:
                await self._ask(socket, "subscribe", self._choice())
            case _:
                await self._ask(socket, "ping", PatternSet())
        return socket

    async def _connect(self) -> ClientConnection:
        types, since = self._rule.opening
        later = PatternSet(self._rule.later)
        assert types is not None
        self._patterns = PatternSet(types)
        query = f"types={','.join(self._patterns.sorted())}"
        if since is not None:
            query += f"&since={since}"
        url = f"ws://127.0.0.1:{self._served.port}/ws?{query}"
        socket = await connect(url, proxy=None, ping_interval=None, compression=None)
        welcome = await self._next(socket)
        assert welcome["type"] == "welcome"
        assert welcome["data"]["subscriptions"] == self._patterns.sorted()
        assert welcome["data"]["resumed"] is (since is not None)
        if since is None:
            self._received.clear()
            self._hand_over(welcome["data"]["seq"], old=PatternSet())
        else:
            self._keep_what_is_wanted()
            self._complete = welcome["data"]["seq"]
            assert since.endswith(f":{self._complete}")
            self._due, self._synced_from = set(), self._complete
        if later:
            await self._ask(socket, "subscribe", later)
        return socket

    async def _ask(self, socket: ClientConnection, kind: str, patterns: PatternSet) -> None:
        """Send a request and read up to its reply: until then, the old patterns hold."""
        await socket.send(json.dumps({"type": kind, "id": 1, "data": {"types": patterns.sorted()}}))
        while (message := await self._next(socket)).get("id") != 1:
            self._judge(message)
        assert self._synced_from is None, "the answer overtakes nothing"
        old = self._patterns
        match message["type"]:
            case "subscribed":
                self._patterns |= patterns
                assert message["data"]["types"] == self._patterns.sorted()
                seq = message["data"]["seq"]
                assert not self._world.missing(old, after=self._complete, before=seq + 1)
                self._hand_over(seq, old=old)
            case "unsubscribed":
                self._patterns -= patterns
                assert message["data"] == {"types": self._patterns.sorted(), "removed": patterns.sorted()}
                self._keep_what_is_wanted()
            case other:
                assert other == "pong"

    async def _read(self, socket: ClientConnection) -> str:
        message = await self._next(socket)
        self._judge(message)
        event_type: str = message["type"]
        return event_type

    async def _next(self, socket: ClientConnection) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await socket.recv())
        self._rule.tell(message)
        return message

    def _judge(self, message: dict[str, Any]) -> None:
        if message["type"] == "synced":
            self._synced(message["data"]["seq"])
            return
        seq, event_type = message["seq"], message["type"]
        assert self._world.types[seq - 1] == event_type
        assert self._patterns.matches(event_type)
        self._received.add(seq)
        if message.get("snapshot"):
            self._due.remove(event_type)
            assert self._synced_from is not None
            assert seq == self._world.newest(event_type, upto=self._handed_over_at)
            return
        assert seq > self._complete
        assert not self._world.missing(self._patterns, after=self._complete, before=seq)
        self._complete = seq
        self._due.discard(event_type)
        self.events += 1

    def _hand_over(self, seq: int, *, old: PatternSet) -> None:
        self._complete = self._handed_over_at = self._synced_from = seq
        self._due = {t for t in self._world.types[:seq] if self._patterns.matches(t) and not old.matches(t)}

    def _synced(self, seq: int) -> None:
        """Each value that was due has come: as a snapshot, or as the event that overtook it."""
        assert self._synced_from is not None, "nothing was promised"
        assert self._synced_from <= seq <= len(self._world.types)
        assert not self._world.missing(self._patterns, after=self._complete, before=seq + 1)
        assert not self._due
        self._complete, self._synced_from = seq, None

    def _keep_what_is_wanted(self) -> None:
        self._received = {seq for seq in self._received if self._patterns.matches(self._world.types[seq - 1])}


async def publish(served: Serving, world: World, acting: set[Client]) -> None:
    """One to three events in every turn of the loop while anyone is acting, then the last one."""
    random = Random(0)
    batch = TYPES
    while acting:
        world.types += batch
        await served.house.gateway.publish([draft(t, "x" * 50, retain=True) for t in batch])
        await asyncio.sleep(0)
        batch = random.choices(BUSY, k=random.randint(1, 3))
    world.types.append(LAST)
    await served.house.gateway.publish([draft(LAST)])


async def race(rule: Callable[[frozenset[str]], Rule]) -> list[Client]:
    """Clients that come back by `rule`, after they have heard the last event."""
    world = World()
    async with serving(max_clients=CLIENTS * 2, history_events=1_000_000) as served, asyncio.timeout(DEADLINE_S):
        clients = [Client(served, world, Random(n), rule) for n in range(CLIENTS)]
        acting = set(clients)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(publish(served, world, acting))
            for client in clients:
                tasks.create_task(client.run(functools.partial(acting.remove, client)))
    return clients


async def test_nothing_is_lost_or_repeated_whoever_comes_and_goes() -> None:
    clients = await race(Resuming)
    assert sum(client.events for client in clients) > 10 * CLIENTS
    assert sum(client.cut_before_synced for client in clients) > CLIENTS / 20
    assert [client.lacks() for client in clients] == [[]] * CLIENTS
