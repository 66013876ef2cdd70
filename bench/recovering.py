"""Outages of backends, and how soon whoever asks them has fresh answers again.

A lane is one who asks: a gateway, or the plain loop of ``peers/asking.py``. Each lane has backends of its own, one
for each cell, that go out and come back at the same times. A gateway is one process with its default settings.
"""

import asyncio
import math
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

from bench.faults import FaultyBackend, Outage
from bench.measure import SERVER_CORE
from bench.programs import HERE
from bench.results import Row
from bench.servers import Running, Server
from bench.watching import Event, calls_and_knocks, gateway, listening, sources

TIMEOUT_S = 2.0
"""The default of `backends.NAME.timeout_s`, and the loop's."""

WARM_S = 8.0
"""Until every source has been asked, and the clients are connected."""

REST_S = 45.0
"""Between two outages of a backend; more than the default of `heal_s`."""

TRIES = 3
"""How often an outage begins anew that touched no source."""

MILLISECOND = 0.001
"""What `as_of` is rounded down to."""


@dataclass(frozen=True)
class Cell:
    """One backend with `sources`, each asked every `interval_s`. It is out for `lengths_s`, one after the other."""

    outage: Outage
    sources: int
    interval_s: float
    lengths_s: tuple[float, ...]
    latency_s: float = 0.0

    @property
    def asked(self) -> str:
        return f"{self.sources}, every {self.interval_s:g} s"


@dataclass
class Round:
    """One outage of a backend, and what was seen of it."""

    length_s: float
    out_at: float = float("inf")
    returned_at: float = float("inf")
    touched: set[int] = field(default_factory=set)
    fresh_at: dict[int, float] = field(default_factory=dict)
    attempts: int = 0
    knocks: int = 0
    _came_fresh: asyncio.Event = field(default_factory=asyncio.Event)

    def failed(self, number: int, began_at: float) -> None:
        """A call of a source failed."""
        if self.out_at - TIMEOUT_S <= began_at < self.returned_at and number not in self.fresh_at:
            self.touched.add(number)

    def stale(self, number: int) -> None:
        """A source is said to be stale."""
        if time.time() >= self.out_at and number not in self.fresh_at:
            self.touched.add(number)

    def fresh(self, number: int, as_of: float) -> None:
        """An answer to a call that began at `as_of` has come."""
        if as_of >= self.returned_at - MILLISECOND:
            self.fresh_at.setdefault(number, time.time())
            self._came_fresh.set()

    async def until_over(self) -> None:
        while not self.over:
            self._came_fresh.clear()
            await self._came_fresh.wait()

    @property
    def over(self) -> bool:
        """Whether all that the outage touched is fresh again."""
        return self.touched <= self.fresh_at.keys()


class Case:
    """A cell of one lane: its backend, and the round that is under way or was the last."""

    def __init__(self, name: str, cell: Cell) -> None:
        self.name = name
        self.cell = cell
        self.backend = FaultyBackend(latency_s=cell.latency_s)
        self.round = Round(0.0)

    def row(self, server: str, block: int) -> Row:
        it = self.round
        after = sorted(it.fresh_at[number] - it.returned_at for number in it.touched & it.fresh_at.keys())
        last_at = it.returned_at + (after[-1] if after else 0.0)
        return {
            "server": server,
            "round": block,
            "outage": self.cell.outage.value,
            "asked": self.cell.asked,
            "outage_s": it.length_s,
            "touched": len(it.touched),
            "first_s": after[0] if after else None,
            "last_s": after[-1] if after and it.over else None,
            "attempts": it.attempts,
            "knocks": it.knocks,
            "busiest": self.backend.busiest_second(it.returned_at, max(last_at, it.returned_at + 1.0)),
        }


class Lane:
    """One who asks. `cases` are in the order of the cells."""

    def __init__(self, name: str, cells: Sequence[Cell]) -> None:
        self.name = name
        self.cases = [Case(f"c{number}", cell) for number, cell in enumerate(cells)]

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask while the context is open."""
        raise NotImplementedError
        yield

    async def counts(self, case: Case) -> tuple[int, int]:
        """How many calls for `case` have failed so far, and how many knocks were made."""
        raise NotImplementedError


class GatewayLane(Lane):
    """A gateway. It is believed what its stream says, not what its backend has seen. `more` is TOML of the scenario.

    With many sources do not let it be `counted`: to render the metrics of 10,000 sources takes the gateway seconds.
    """

    def __init__(self, server: Server, cells: Sequence[Cell], *, more: str = "", counted: bool = True) -> None:
        super().__init__(server.name, cells)
        self._server = server
        self._more = more
        self._counted = counted
        self._by_name = {case.name: case for case in self.cases}
        self._running: Running

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        settings = "".join(sources(it.name, it.backend.port, it.cell.sources, it.cell.interval_s) for it in self.cases)
        async with gateway(self._server, settings + self._more) as self._running, listening(self._running, self._take):
            yield

    async def counts(self, case: Case) -> tuple[int, int]:
        if not self._counted:
            return 0, 0
        return await calls_and_knocks(self._running, backend=case.name, failed_only=True)

    def _take(self, event: Event) -> None:
        name, _, number = event["type"].partition(".s")
        case = self._by_name.get(name)
        if case is None or "stale" not in event:
            return
        if event["stale"]:
            case.round.stale(int(number))
        else:
            case.round.fresh(int(number), datetime.fromisoformat(event["as_of"]).timestamp())


class LoopLane(Lane):
    """The plain loop: a source is fresh when a call that began after the return is answered."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__("plain loop", cells)
        self._failed: dict[str, int] = {case.name: 0 for case in self.cases}

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        given = [f"{it.backend.port}:{it.cell.sources}:{it.cell.interval_s}" for it in self.cases]
        command = ["taskset", "-c", str(SERVER_CORE), sys.executable, str(HERE / "peers" / "asking.py")]
        process = await asyncio.create_subprocess_exec(*command, str(TIMEOUT_S), *given, stdout=asyncio.subprocess.PIPE)
        reading = asyncio.create_task(self._read(process))
        try:
            yield
        finally:
            process.terminate()
            await process.wait()
            await reading

    async def counts(self, case: Case) -> tuple[int, int]:
        return self._failed[case.name], 0

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        cases = {case.backend.port: case for case in self.cases}
        assert process.stdout is not None
        async for line in process.stdout:
            port, number, began, _ended, answered = line.split()
            case = cases[int(port)]
            if answered == b"1":
                case.round.fresh(int(number), float(began))
            else:
                self._failed[case.name] += 1
                case.round.failed(int(number), float(began))


def lanes_of(servers: Sequence[Server], cells: Sequence[Cell], *, loop: bool) -> list[Lane]:
    """A lane for each gateway, and one for the plain loop if wanted."""
    lanes: list[Lane] = [GatewayLane(server, cells) for server in servers]
    return [*lanes, LoopLane(cells)] if loop else lanes


async def measured(
    lanes: Sequence[Lane], *, patience_s: float, warm_s: float = WARM_S, after_s: float = 0.0
) -> list[Row]:
    """Let every cell go out once, `warm_s` after the start, and go on asking for `after_s` when all is over.

    A source that is not fresh `patience_s` after the return is given up.
    """
    async with AsyncExitStack() as stack:
        for lane in lanes:
            for case in lane.cases:
                await case.backend.start()
                stack.callback(case.backend.close)
            await stack.enter_async_context(lane.asking())
        await asyncio.sleep(warm_s)
        async with asyncio.TaskGroup() as tasks:
            rounds = [tasks.create_task(_rounds(lane, case, patience_s)) for lane in lanes for case in lane.cases]
        await asyncio.sleep(after_s)
        return [row for task in rounds for row in task.result()]


async def _rounds(lane: Lane, case: Case, patience_s: float) -> list[Row]:
    """A row for each outage of a case. Between them its breaker has time to heal."""
    rows: list[Row] = []
    for number, length_s in enumerate(case.cell.lengths_s):
        for _ in range(TRIES):
            await asyncio.sleep(REST_S if number else 0.0)
            case.round = Round(length_s)
            await _out(lane, case, patience_s)
            if case.round.touched:
                break
        rows.append(case.row(lane.name, case.cell.lengths_s[:number].count(length_s)))
        print(f"{lane.name}: {case.cell.outage.value}, {case.cell.asked}: {rows[-1]['last_s']}", file=sys.stderr)
    return rows


async def _out(lane: Lane, case: Case, patience_s: float) -> None:
    """A whole outage of one case, up to where everything is fresh again."""
    it = case.round
    await asyncio.sleep(_until_out(case) - time.time())
    before = await lane.counts(case)
    it.out_at = time.time()
    if case.cell.outage is Outage.ONE_POLL:
        await _one_poll(case, patience_s)
    else:
        await case.backend.go_out(case.cell.outage)
        await asyncio.sleep(it.length_s)
        it.attempts, it.knocks = (b - a for a, b in zip(before, await lane.counts(case), strict=True))
        it.returned_at = await case.backend.come_back()
    await asyncio.sleep(2 * TIMEOUT_S)  # what was still under way has failed by then
    with suppress(TimeoutError):
        async with asyncio.timeout(it.returned_at + patience_s - time.time()):
            await it.until_over()


async def _one_poll(case: Case, patience_s: float) -> None:
    answered = asyncio.Event()
    case.backend.on_well = answered.set
    await case.backend.go_out(Outage.ONE_POLL)
    async with asyncio.timeout(patience_s + case.cell.interval_s):
        await answered.wait()
    case.round.returned_at = time.time()
    case.round.attempts = 1


def _until_out(case: Case) -> float:
    """When to go out: at random, but so that a call is due meanwhile.

    Calls are due on a grid, except soon after one that was made off it.
    """
    interval_s = case.cell.interval_s
    width_s = min(case.round.length_s, interval_s)
    first_at, last_at = case.backend.called_at[0], case.backend.called_at[-1]
    earliest = max(time.time() + width_s, last_at + interval_s / 2)
    due_at = first_at + interval_s * math.ceil((earliest - first_at) / interval_s)
    return due_at - width_s * random.uniform(0.02, 0.98)
