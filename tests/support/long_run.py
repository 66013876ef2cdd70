"""A whole deployment for minutes or hours: faults, reloads, clients that come and go, slow readers and a publisher.

Every client that reads checks that what it is told of everything has no hole and no repetition, over all its
connections. What they count is compared with the gateway's metrics at the end.
"""

import asyncio
import contextlib
import itertools
import random
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from programs import Program, private_bytes, tidegate, until
from simulation.clients import Wire

from tidegate.cli.engine_process import free_port
from tidegate.verify.faultproxy import FaultProxy
from tidegate.verify.faultproxy.faults import AnyFault, Fault

HISTORY_EVENTS = 2000
"""Small, so that it is full after two minutes; long enough for every client that comes back."""

AWAY_S = (0.1, 3.0)
FAULT_S = (1.0, 4.0)
PUBLISHES_PER_S = 10
ROW_EVERY_S = 5.0
SLOW = 5

QUICKENED = "steady.s0"
SLOW_S, QUICK_S = 2.0, 0.5
"""The intervals that this source has in turn."""

TRUNCATED, UNKNOWN_KEY, RESTORED = 4, 9, (0, 5)
"""Of ten reloads, these have a broken file, and those have the last good one again."""

FAULTS: tuple[Callable[[], AnyFault], ...] = (
    Fault.down,
    Fault.black_hole,
    Fault.reset,
    Fault.status,
    Fault.html,
    Fault.truncated_json,
    Fault.wrong_id,
    Fault.unauthorized,
    lambda: Fault.too_many_requests(retry_after_s=1),
    lambda: Fault.latency(delay_s=0.3, jitter_s=0.5),
)

COUNTS_TASKS = """
import signal, sys

def told(*_):
    import asyncio, gc
    gc.collect()
    sys.stderr.write('{"event": "tasks", "count": %d}\\n' % len(asyncio.all_tasks()))
    sys.stderr.flush()

signal.signal(signal.SIGUSR1, told)
"""
"""What Python runs at the start of the gateway, so that it can be asked from outside how many tasks it has.

Before it answers, it collects garbage: what connections that have ended leave in cycles is collected seldom, and would
look like a leak for an hour.
"""

COUNTED = re.compile(r"^(tidegate_[a-z_]+)(?:\{(.*)\})? ([0-9.e+-]+)$", re.MULTILINE)


@dataclass
class Account:
    """What was seen from outside. Nothing should be `wrong`."""

    connects: int = 0
    resumes: int = 0
    frames: int = 0
    published: int = 0
    reloads: Counter[str] = field(default_factory=Counter)
    quickened: list[float] = field(default_factory=list)
    """When `QUICKENED` was given the shorter of its two intervals, in Unix seconds."""
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A sample of the gateway's process, and of what it says of itself."""

    at_s: float
    private_bytes: int
    descriptors: int
    tasks: int
    clients: int
    history_events: int


class Head(msgspec.Struct):
    """What the check of a history needs of a message."""

    type: str
    data: msgspec.Raw
    seq: int | None = None
    snapshot: bool = False


HEAD = msgspec.json.Decoder(Head)


class Follower:
    """A client of everything. Over all its connections it is told each event behind its position once, in order."""

    def __init__(self, name: str, port: int, account: Account, rng: random.Random) -> None:
        self._name = name
        self._port = port
        self._account = account
        self._rng = rng
        self._epoch = ""
        self._reached = 0
        self._has_position = False

    async def come_and_go(self, *, visit_s: tuple[float, float]) -> None:
        """Connect, stay for so long and leave, half of the times without a goodbye, until cancelled."""
        while True:
            async with self._connection() as wire:
                await asyncio.wait([wire.lost], timeout=self._rng.uniform(*visit_s))
                if wire.lost.done():
                    self._account.wrong.append(f"{self._name} was closed at {self._reached}")
                if self._rng.random() < 0.5:
                    wire.close()
                    await asyncio.wait([wire.lost], timeout=5.0)
            await asyncio.sleep(self._rng.uniform(*AWAY_S))

    def _connection(self) -> AbstractAsyncContextManager[Wire]:
        since = f"&since={quote(f'{self._epoch}:{self._reached}')}" if self._has_position else ""
        self._account.connects += 1
        return connection(self._port, f"/ws?types=*{since}", self._hear)

    def _hear(self, text: bytes) -> None:
        message = HEAD.decode(text)
        self._account.frames += 1
        if message.type == "welcome":
            self._welcomed(msgspec.json.decode(message.data))
        elif message.type == "synced":
            self._has_position = True
        elif message.type == "gap":
            self._account.wrong.append(f"{self._name} at {self._reached}: {text.decode()}")
        elif message.seq is not None and not message.snapshot:
            if message.seq != self._reached + 1:
                self._account.wrong.append(f"{self._name}: {message.seq} came after {self._reached}")
            self._reached = message.seq

    def _welcomed(self, data: Mapping[str, Any]) -> None:
        if self._has_position:
            self._account.resumes += 1
            if data["resumed"]:
                return
            self._account.wrong.append(f"{self._name} could not resume at {self._reached}: {data}")
        self._epoch, self._reached, self._has_position = data["epoch"], data["seq"], False


@asynccontextmanager
async def connection(port: int, path: str, hear: Callable[[bytes], None]) -> AsyncIterator[Wire]:
    """A connection to the gateway. It ends by RST if it is still open when the context ends."""
    _, wire = await asyncio.get_running_loop().create_connection(lambda: Wire(path, hear), "127.0.0.1", port)
    try:
        assert (await wire.opened).status_code == 101
        yield wire
    finally:
        wire.abort()


class Deployment:
    """A gateway and its configuration file; a backend that is always well, and one behind a proxy that makes faults."""

    def __init__(self, folder: Path, gateway: Program, proxy: FaultProxy, engine: str) -> None:
        self.account = Account()
        self.rows: list[Row] = []
        self._folder = folder
        self._gateway = gateway
        self._proxy = proxy
        self._engine = engine
        self._session = aiohttp.ClientSession()
        self._began = asyncio.get_running_loop().time()

    @property
    def url(self) -> str:
        return self._gateway.url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> list[dict[str, Any]]:
        return self._gateway.log

    async def aclose(self) -> None:
        await self._session.close()

    async def run(self, seconds: float, *, followers: int, visit_s: tuple[float, float], reload_every_s: float) -> None:
        """Run everything for so long, then let all be well and everybody leave."""
        rng = random.Random(1)
        crowd = [Follower(f"client {n}", self.port, self.account, random.Random(n)) for n in range(followers)]
        works = [
            *(follower.come_and_go(visit_s=visit_s) for follower in crowd),
            *(self._read_slowly() for _ in range(SLOW)),
            self._publish(),
            self._make_faults(rng),
            self._keep_reloading(reload_every_s),
            self._keep_sampling(),
        ]
        tasks = [asyncio.create_task(work) for work in works]
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()
        self._proxy.clear()

    async def counted(self) -> dict[str, dict[str, float]]:
        """Every figure of /metrics, by name and labels."""
        async with self._session.get(f"{self.url}/metrics") as response:
            text = await response.text()
        found: dict[str, dict[str, float]] = {}
        for name, labels, value in COUNTED.findall(text):
            found.setdefault(name, {})[labels] = float(value)
        return found

    async def sample(self) -> Row:
        pid = self._gateway.pid
        tasks = await self._tasks()
        counted = await self.counted()
        return Row(
            at_s=asyncio.get_running_loop().time() - self._began,
            private_bytes=private_bytes(pid),
            descriptors=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
            tasks=tasks,
            clients=int(sum(counted["tidegate_clients"].values())),
            history_events=int(sum(counted["tidegate_history_events"].values())),
        )

    async def _tasks(self) -> int:
        lines, said_before = self._gateway.err, len(self._gateway.err)

        def told() -> list[str]:
            return [line for line in lines[said_before:] if '"tasks"' in line]

        self._gateway.signal(signal.SIGUSR1)
        line: dict[str, Any] = msgspec.json.decode((await asyncio.to_thread(until, told))[-1])
        return int(line["count"])

    async def _keep_sampling(self) -> None:
        while True:
            await asyncio.sleep(ROW_EVERY_S)
            self.rows.append(await self.sample())

    async def _keep_reloading(self, every_s: float) -> None:
        for turn in itertools.count(1):
            await asyncio.sleep(every_s)
            await self._reload(turn)

    async def _reload(self, turn: int) -> None:
        """Write another file and send SIGHUP. Wait for what comes of it."""
        place = turn % 10
        text = configuration(self._proxy.url, self._engine, turn=turn - 2 if place in RESTORED else turn)
        if place == UNKNOWN_KEY:
            text = f"no_such_key = 1\n{text}"
        write(self._folder, text[: text.rindex("interval_s") + 5] if place == TRUNCATED else text)
        before = await self._reloads()
        self._gateway.signal(signal.SIGHUP)
        while not (came := await self._reloads() - before):
            await asyncio.sleep(0.05)
        self.account.reloads += came
        if came["changed"] and interval_of_quickened(turn) == QUICK_S:
            self.account.quickened.append(time.time())
        if (came["refused"] > 0) != (place in {TRUNCATED, UNKNOWN_KEY}):
            self.account.wrong.append(f"reload {turn} ended as {dict(came)}")

    async def _reloads(self) -> Counter[str]:
        counted = (await self.counted())["tidegate_config_reloads_total"]
        return Counter({labels.split('"')[1]: int(count) for labels, count in counted.items()})

    async def _make_faults(self, rng: random.Random) -> None:
        while True:
            self._proxy.set(rng.choice(FAULTS)())
            await asyncio.sleep(rng.uniform(*FAULT_S))
            self._proxy.clear()
            await asyncio.sleep(rng.uniform(*FAULT_S))

    async def _publish(self) -> None:
        url = f"{self.url}/api/v1/events"
        for number in itertools.count():
            event = {"type": "line.count", "data": {"number": number, "text": "x" * 200}, "retain": True}
            async with self._session.post(url, json=event) as response:
                if response.status != 202:
                    self.account.wrong.append(f"a publish was refused: {await response.text()}")
            self.account.published += 1
            await asyncio.sleep(1 / PUBLISHES_PER_S)

    async def _read_slowly(self) -> None:
        """A client that hardly reads. The gateway may drop what it wants for it, and may close it."""
        while True:
            self.account.connects += 1
            async with connection(self.port, "/ws?types=*", lambda _: None) as wire:
                while not wire.lost.done():
                    wire.stop_reading()
                    await asyncio.sleep(5.0)
                    wire.go_on_reading()
                    await asyncio.sleep(0.01)


def configuration(flaky: str, steady: str, *, turn: int) -> str:
    """The file of reload `turn`: a source's interval changes, another comes and goes, as does a whole backend."""
    lines = ["[server]", 'host = "127.0.0.1"', f"max_clients = {2000 + turn % 7}", "[history]"]
    lines += [f"events = {HISTORY_EVENTS}"]
    sources = [(f"flaky.s{n}", "flaky", 1.0 + (turn % 3) * 0.5 if n == 0 else 1.0) for n in range(5)]
    sources += [(QUICKENED, "steady", interval_of_quickened(turn)), ("steady.s1", "steady", 1.0)]
    backends = {"flaky": flaky, "steady": steady}
    if turn % 2:
        sources.append(("flaky.guest", "flaky", 1.0))
    if turn % 4 == 1:
        backends["visitor"] = steady
        sources.append(("visitor.status", "visitor", 1.0))
    for name, url in backends.items():
        lines += [f"[backends.{name}]", f'url = "{url}/rpc"', "timeout_s = 1.0"]
    for name, backend, interval_s in sources:
        lines += [f'[sources."{name}"]', f'backend = "{backend}"', 'method = "system.status"']
        lines += [f"interval_s = {interval_s}"]
    return "\n".join([*lines, ""])


def interval_of_quickened(turn: int) -> float:
    return QUICK_S if turn % 2 else SLOW_S


def write(folder: Path, text: str) -> None:
    """Write the configuration file as an editor does: nobody ever sees half of it."""
    draft = folder / "draft.toml"
    draft.write_text(text)
    draft.replace(folder / "tidegate.toml")


@asynccontextmanager
async def deployed(folder: Path) -> AsyncIterator[Deployment]:
    """Run the reference engine, the fault proxy and the gateway while the context is open."""
    (folder / "sitecustomize.py").write_text(COUNTS_TASKS)
    engine = f"http://127.0.0.1:{(engine_port := free_port(preferred=0))}"
    async with AsyncExitStack() as stack:
        enter = stack.enter_context
        enter(tidegate("engine", "--port", str(engine_port), "--agents", "1", "--state-dir", "", folder=folder))
        await listening(engine_port)
        proxy = await stack.enter_async_context(FaultProxy(upstream=engine, seed=1))
        write(folder, configuration(proxy.url, engine, turn=0))
        gateway = enter(
            tidegate("serve", "--config", "tidegate.toml", "--port", "0", folder=folder, PYTHONPATH=str(folder))
        )
        await asyncio.to_thread(lambda: gateway.url)
        deployment = Deployment(folder, gateway, proxy, engine)
        stack.push_async_callback(deployment.aclose)
        yield deployment


async def listening(port: int) -> None:
    """Return once somebody listens at `port` of the loopback."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


def save(rows: Sequence[Row], file: Path) -> None:
    """Write `rows` as CSV."""
    names = list(Row.__dataclass_fields__)
    lines = [",".join(names), *(",".join(str(getattr(row, name)) for name in names) for row in rows)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, ""]))
