"""A publisher sends a thousand retained events a second, and its gateway is killed again and again.

What was answered more than a second before a kill is there afterwards, whole, or something newer. What was deleted or
has ended stays away. `PUBLISHER_KILLS` says how often.
"""

import asyncio
import math
import os
import random
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from programs import Program, tidegate

from tidegate.core.instant import from_rfc3339

pytestmark = pytest.mark.real

KILLS = int(os.environ.get("PUBLISHER_KILLS", "3"))
KEYS = 400
EVENTS_PER_S = 1000
ARRAY = 50
SAVED_S = 1.0
"""A published value is on disk so long after its 202."""
TTLS_S = (None, None, None, None, 0.7, 4.0)
RESOLUTION_S = 0.002
"""Of a `timestamp`."""

CONFIG = """\
[server]
port = 0
state_dir = "state"
allow_no_sources = true
"""


class Op(msgspec.Struct, eq=False):
    """One change of a key: a value with a `number`, or without one a deletion. Times are in Unix seconds."""

    request: int
    number: int | None
    ttl_s: float | None
    sent_at: float
    answered_at: float | None = None

    def may_be_there(self, *, started_at: float, killed_at: float) -> bool:
        """Whether a gateway that started at `started_at` may have it."""
        if self.number is None:
            return False
        published_at = killed_at if self.answered_at is None else self.answered_at
        return self.ttl_s is None or published_at + self.ttl_s >= started_at

    def may_be_away(self, *, seen_at: float) -> bool:
        return self.number is None or (self.ttl_s is not None and self.sent_at + self.ttl_s <= seen_at)


class Ledger:
    """What was sent, and what must be there. `ops` are those of each key since the last restart, oldest first."""

    def __init__(self) -> None:
        self.ops: dict[str, list[Op]] = {f"k{number}": [Op(0, None, None, 0.0, 1.0)] for number in range(KEYS)}
        self.counts = dict.fromkeys(("events", "deletions", "restored", "surely saved", "newer", "ended"), 0)
        self._request = 0

    def sending(self, changes: Iterable[tuple[str, int | None, float | None]]) -> list[Op]:
        self._request += 1
        ops = []
        for key, number, ttl_s in changes:
            ops.append(Op(self._request, number, ttl_s, time.time()))
            self.ops[key].append(ops[-1])
        return ops

    def judge(self, found: dict[str, dict[str, Any]], *, killed_at: float, started_at: float, seen_at: float) -> None:
        """Compare what a new gateway hands out with what was sent, and begin anew from there."""
        assert found.keys() <= self.ops.keys()
        by_number = {op.number: op for ops in self.ops.values() for op in ops}
        assert {event["data"]["n"] for event in found.values()} <= by_number.keys()
        newest = max((by_number[event["data"]["n"]].request for event in found.values()), default=0)
        """The newest request of which something is there: everything of it and of those before must be."""
        later = [op.request for ops in self.ops.values() for op in ops if op.number is not None and op.ttl_s is None]
        unseen = min((request for request in later if request > newest), default=math.inf)
        """Deletions before this request may be on disk too: nothing shows that they are not."""
        for key, ops in self.ops.items():
            answered = [at for at, op in enumerate(ops) if (op.answered_at or killed_at) < killed_at - SAVED_S]
            allowed = ops[answered[-1] :]
            on_disk = [op for op in ops if op.request <= newest][-1]
            event = found.get(key)
            if event is None:
                last = [op for op in ops if on_disk.request <= op.request < unseen]
                assert any(op.may_be_away(seen_at=seen_at) for op in last), (key, last)
                assert any(op.may_be_away(seen_at=seen_at) for op in allowed), (key, allowed)
                self.counts["ended"] += on_disk.number is not None
                self.ops[key] = [Op(on_disk.request, None, None, 0.0, 1.0)]
            else:
                assert event["data"]["n"] == on_disk.number, (key, event, on_disk)
                assert on_disk in allowed, f"{key} has {event}, expected one of {allowed}"
                assert on_disk.may_be_there(started_at=started_at, killed_at=killed_at), (key, on_disk, started_at)
                self._judge_event(event, on_disk, killed_at)
                self.counts["restored"] += 1
                self.counts["surely saved"] += on_disk is allowed[0]
                self.counts["newer"] += on_disk is not allowed[0]
                on_disk.answered_at = on_disk.answered_at or killed_at
                self.ops[key] = [on_disk]

    @staticmethod
    def _judge_event(event: dict[str, Any], op: Op, killed_at: float) -> None:
        assert event["data"] == data(op.number or 0), "torn"
        assert "stale" not in event
        timestamp = from_rfc3339(event["timestamp"])
        assert op.sent_at - RESOLUTION_S <= timestamp <= (op.answered_at or killed_at) + RESOLUTION_S


def data(number: int) -> dict[str, Any]:
    return {"n": number, "same": [f"{number}"] * 20}


class Publisher:
    """Sends arrays, single events and deletions, one after the other, until its gateway is gone."""

    def __init__(self, url: str, ledger: Ledger, rng: random.Random) -> None:
        self._url = url
        self._ledger = ledger
        self._rng = rng
        self._numbers = 0

    async def run(self, session: aiohttp.ClientSession) -> None:
        started_at, sent = time.monotonic(), 0
        try:
            while True:
                sent += await self._publish(session, self._rng.choice((1, ARRAY, ARRAY)))
                if self._rng.random() < 0.5:
                    await self._delete(session)
                await asyncio.sleep(max(0.0, started_at + sent / EVENTS_PER_S - time.monotonic()))
        except aiohttp.ClientError:
            return

    async def _publish(self, session: aiohttp.ClientSession, count: int) -> int:
        keys = self._rng.sample(sorted(self._ledger.ops), count)
        changes = [(key, self._next_number(), self._rng.choice(TTLS_S)) for key in keys]
        events = [
            {"type": "load.item", "key": key, "data": data(number), "retain": True}
            | ({} if ttl_s is None else {"ttl_s": ttl_s})
            for key, number, ttl_s in changes
        ]
        ops = self._ledger.sending(changes)
        async with session.post(f"{self._url}/api/v1/events", json=events if count > 1 else events[0]) as response:
            assert response.status == 202, await response.text()
        self._answered(ops, "events")
        return count

    async def _delete(self, session: aiohttp.ClientSession) -> None:
        key = self._rng.choice(sorted(self._ledger.ops))
        ops = self._ledger.sending([(key, None, None)])
        async with session.delete(f"{self._url}/api/v1/snapshot/load.item", params={"key": key}) as response:
            assert response.status in {200, 404}, await response.text()
        self._answered(ops, "deletions")

    def _answered(self, ops: list[Op], what: str) -> None:
        for op in ops:
            op.answered_at = time.time()
        self._ledger.counts[what] += len(ops)

    def _next_number(self) -> int:
        self._numbers += 1
        return time.time_ns() // 1000 + self._numbers  # never the same, in no life


async def snapshot(session: aiohttp.ClientSession, url: str) -> dict[str, dict[str, Any]]:
    async with session.get(f"{url}/api/v1/snapshot") as response:
        events = (await response.json())["events"]
    return {event["key"]: event for event in events if event["type"] == "load.item"}


async def test_a_publisher_loses_nothing_that_was_answered_a_second_before_a_kill(tmp_path: Path) -> None:
    config = tmp_path / "tidegate.toml"
    config.write_text(CONFIG)
    rng, ledger = random.Random(7), Ledger()
    killed_at = time.time()
    for life in range(KILLS + 1):
        started_at = time.time()
        with tidegate("serve", "--config", str(config)) as gateway:
            url = await asyncio.to_thread(Program.url.__get__, gateway)
            async with aiohttp.ClientSession() as session:
                found = await snapshot(session, url)
                ledger.judge(found, killed_at=killed_at, started_at=started_at, seen_at=time.time())
                if life < KILLS:
                    publishing = asyncio.create_task(Publisher(url, ledger, rng).run(session))
                    await asyncio.sleep(rng.uniform(2.0, 3.5))
                    assert not publishing.done()
                    killed_at = time.time()
                    gateway.signal(signal.SIGKILL)
                    await publishing
        if life:
            print(f"kill {life}: {ledger.counts}")
        await asyncio.sleep(rng.uniform(0.0, 1.0))
    assert ledger.counts["restored"] > KEYS / 4 * KILLS, ledger.counts
    assert ledger.counts["newer"] > 0
