"""Outages of backends, and how soon whoever asks them has fresh answers again.

A lane is one who asks: a gateway, or the plain loop of ``peers/asking.py``. Each lane has backends of its own, one
for each cell, that go out and come back at the same times. A gateway is one process with its default settings.
"""

import asyncio
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

MILLISECOND = 0.001
"""What `as_of` is rounded down to."""


@dataclass(frozen=True)
class Cell:
    """One backend with `sources`, each asked every `interval_s`, that is out once for `outage_s`."""

    outage: Outage
    sources: int
    interval_s: float
    outage_s: float
    block: int = 0
    latency_s: float = 0.0

    @property
    def asked(self) -> str:
        return f"{self.sources}, every {self.interval_s:g} s"

    def row_fields(self) -> Row:
        """What a row says of the cell."""
        return {"outage": self.outage.value, "asked": self.asked, "outage_s": self.outage_s, "block": self.block}


@dataclass
class Case:
    """A cell of one lane: its backend, and what was seen of it."""

    name: str
    cell: Cell
    backend: FaultyBackend
    out_at: float = float("inf")
    returned_at: float = float("inf")
    touched: set[int] = field(default_factory=set)
    fresh_at: dict[int, float] = field(default_factory=dict)
    attempts: int = 0
    knocks: int = 0
    _came_fresh: asyncio.Event = field(default_factory=asyncio.Event)

    def failed(self, number: int, began_at: float) -> None:
        """A call of a source failed, or the source was said to be stale, because of the outage."""
        if self.out_at - TIMEOUT_S <= began_at < self.returned_at and number not in self.fresh_at:
            self.touched.add(number)

    def stale(self, number: int) -> None:
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

    def row(self, server: str) -> Row:
        cell = self.cell
        after = sorted(self.fresh_at[number] - self.returned_at for number in self.touched & self.fresh_at.keys())
        last_at = self.returned_at + (after[-1] if after else 0.0)
        return {
            "server": server,
            **cell.row_fields(),
            "touched": len(self.touched),
            "first_s": after[0] if after else None,
            "last_s": after[-1] if after and self.over else None,
            "attempts": self.attempts,
            "knocks": self.knocks,
            "busiest": self.backend.busiest_second(self.returned_at, max(last_at, self.returned_at + 1.0)),
        }


class Lane:
    """One who asks. `cases` are in the order of the cells."""

    def __init__(self, name: str, cells: Sequence[Cell]) -> None:
        self.name = name
        self.cases = [
            Case(f"c{number}", cell, FaultyBackend(latency_s=cell.latency_s)) for number, cell in enumerate(cells)
        ]

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask while the context is open."""
        raise NotImplementedError
        yield

    async def counts(self, case: Case) -> tuple[int, int]:
        """How many calls were made for `case` so far, and how many knocks."""
        raise NotImplementedError


class GatewayLane(Lane):
    """A gateway. It is believed what its stream says, not what its backend has seen. `more` is TOML of the scenario."""

    def __init__(self, server: Server, cells: Sequence[Cell], *, more: str = "") -> None:
        super().__init__(server.name, cells)
        self._server = server
        self._more = more
        self._by_name = {case.name: case for case in self.cases}
        self._running: Running

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        settings = "".join(sources(it.name, it.backend.port, it.cell.sources, it.cell.interval_s) for it in self.cases)
        async with gateway(self._server, settings + self._more) as self._running, listening(self._running, self._take):
            yield

    async def counts(self, case: Case) -> tuple[int, int]:
        return await calls_and_knocks(self._running, backend=case.name)

    def _take(self, event: Event) -> None:
        name, _, number = event["type"].partition(".s")
        case = self._by_name.get(name)
        if case is None or "stale" not in event:
            return
        if event["stale"]:
            case.stale(int(number))
        else:
            case.fresh(int(number), datetime.fromisoformat(event["as_of"]).timestamp())


class LoopLane(Lane):
    """The plain loop: a source is fresh when a call that began after the return is answered."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__("plain loop", cells)
        self._asked: dict[str, int] = {case.name: 0 for case in self.cases}

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
        return self._asked[case.name], 0

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        cases = {case.backend.port: case for case in self.cases}
        assert process.stdout is not None
        async for line in process.stdout:
            port, number, began, _ended, answered = line.split()
            case = cases[int(port)]
            self._asked[case.name] += 1
            if answered == b"1":
                case.fresh(int(number), float(began))
            else:
                case.failed(int(number), float(began))


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
            for lane in lanes:
                for case in lane.cases:
                    tasks.create_task(_went_out(lane, case, patience_s))
        await asyncio.sleep(after_s)
        return [case.row(lane.name) for lane in lanes for case in lane.cases]


async def _went_out(lane: Lane, case: Case, patience_s: float) -> None:
    """The whole outage of one case, up to where everything is fresh again."""
    cell = case.cell
    chance = random.Random(f"{cell}")
    await asyncio.sleep(_until_out(case, chance) - time.time())
    before = await lane.counts(case)
    case.out_at = time.time()
    if cell.outage is Outage.ONE_POLL:
        await _one_poll(case, patience_s)
    else:
        await case.backend.go_out(cell.outage)
        await asyncio.sleep(cell.outage_s)
        case.attempts, case.knocks = (b - a for a, b in zip(before, await lane.counts(case), strict=True))
        case.returned_at = await case.backend.come_back()
    deadline = case.returned_at + patience_s
    settled_at = case.returned_at + 2 * TIMEOUT_S  # what was still under way has failed by then
    await asyncio.sleep(settled_at - time.time())
    with suppress(TimeoutError):
        async with asyncio.timeout(deadline - time.time()):
            await case.until_over()
    print(f"{lane.name}: {cell.outage.value}, {cell.asked}, {cell.outage_s:g} s: over {case.over}", file=sys.stderr)


async def _one_poll(case: Case, patience_s: float) -> None:
    answered = asyncio.Event()
    case.backend.on_well = answered.set
    await case.backend.go_out(Outage.ONE_POLL)
    async with asyncio.timeout(patience_s + case.cell.interval_s):
        await answered.wait()
    case.returned_at = time.time()
    case.attempts = 1


def _until_out(case: Case, chance: random.Random) -> float:
    """When to go out: at random, but so that a call is due meanwhile."""
    cell = case.cell
    last_at = case.backend.called_at[-1]
    width_s = min(cell.outage_s, cell.interval_s)
    begin = last_at + cell.interval_s - width_s * chance.uniform(0.02, 0.98)
    while begin < time.time():
        begin += cell.interval_s
    return begin
