"""Real services, each configured from its recipe, through a gateway that a client follows.

What clients are told must be what the service itself says. A source that tells only changes must be quiet while there
are none. When the service is killed, stopped or started again, its values must become stale and fresh in time. All of
them run side by side in one event loop, because they mostly wait.
"""

import asyncio
import contextlib
import signal
import tempfile
import threading
import tomllib
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from real_services import SERVICES, Place, Service
from real_services.running import Said, ask, end, free_ports, send, start

from tidegate.client import Event
from tidegate.config import from_document
from tidegate.config.recipes import recipe
from tidegate.testing import Follower, gateway

pytestmark = pytest.mark.real

INTERVAL_S = 1.0
"""The longest interval here: a recipe's own may be longer than a test should take."""

TIMEOUT_S = 2.0
"""A backend's `timeout_s`, which the recipes leave as it is."""

BUSY_S = 8.0
"""What a machine that runs all services and their gateways at once may add to any bound."""

STALE_WHEN_KILLED_S = INTERVAL_S + BUSY_S
"""The next poll finds nobody who listens."""

STALE_WHEN_STOPPED_S = INTERVAL_S + TIMEOUT_S + BUSY_S
"""The next poll is not answered in time."""

FRESH_S = 3.0 + BUSY_S
"""A second until the next knock or repetition, twice that if it came a little too early, and the call."""

FRESH_WHEN_CONTINUED_S = 4.0 + TIMEOUT_S + BUSY_S
"""A breaker may have opened, for 2 s and then for 4 s: who does not answer is not knocked at."""

CHANGE_S = 10.0 + BUSY_S
"""A service may take its time until it shows what has changed: Prometheus looks for targets every 5 s."""

QUIET_S = 4 * INTERVAL_S

Address = tuple[str, str | None]


@dataclass
class Watcher:
    """Reads all that a client is told. `held` is the latest event of each type and key.

    `news` are those with other data than the one before, in order. A busy machine may be late, and say so: that is no
    news.
    """

    held: dict[Address, Event] = field(default_factory=dict)
    news: list[Event] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self, follower: Follower) -> None:
        async for item in follower.stream:
            if isinstance(item, Event) and item.stale is not None:
                before = self.held.get((item.type, item.key))
                if before is None or (before.data, before.gone) != (item.data, item.gone):
                    self.news.append(item)
                self.held[item.type, item.key] = item
                self.told.set()

    async def until(self, what: str, condition: Callable[[Mapping[Address, Event]], object], within_s: float) -> None:
        """Wait until the `condition` of what is held is true. Raises `AssertionError` that says `what` was not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not condition(self.held):
                    self.told.clear()
                    await self.told.wait()
        shown = "\n".join(f"{event.raw.decode()[:300]}" for event in self.held.values())
        assert condition(self.held), f"not {what} within {within_s:g} s; held:\n{shown}"


def configured(service: Service, place: Place) -> Path:
    """Write the recipe with the service's address, and its secrets beside it."""
    text = recipe(service.recipe)
    assert service.address in text
    text = text.replace(service.address, service.address_at(place))
    folder = place.folder / "gateway"
    folder.mkdir()
    for name, secret in service.secrets.items():
        assert name in text, name
        (folder / name).write_text(secret)
    (folder / "tidegate.toml").write_text(text)
    return folder / "tidegate.toml"


@contextlib.asynccontextmanager
async def followed(file: Path) -> AsyncIterator[Watcher]:
    """A gateway with the configuration in `file`, and a client of it."""
    document = tomllib.loads(file.read_text())
    for source in document["sources"].values():
        if "refresh_on" not in source:
            source["interval_s"] = min(source["interval_s"], INTERVAL_S)
    config = from_document(document, environ={}, directory=file.parent)
    watcher = Watcher()
    async with gateway(config) as running, running.follow(*document["sources"]) as follower:
        watching = asyncio.create_task(watcher.watch(follower))
        try:
            yield watcher
        finally:
            watching.cancel()
            await asyncio.wait([watching])


@dataclass
class Life:
    """One service with its gateway, from one phase to the next."""

    service: Service
    place: Place
    watcher: Watcher

    async def run(self) -> None:
        await self.tells_what_the_service_says()
        await self.is_quiet()
        await self.tells_a_change_once()
        await self.survives_a_stop()
        await self.survives_a_kill()

    async def tells_what_the_service_says(self, within_s: float = FRESH_S) -> None:
        """Every value is fresh, and what the service says when asked directly."""
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            said = self._comparable(await ask(self.service, self.place))
            held = {address: event for address, event in self.watcher.held.items() if not event.gone}
            told = self._comparable({address: event.data for address, event in held.items() if address in said})
            if told == said and not any(event.stale for event in held.values()):
                return
            if asyncio.get_running_loop().time() > deadline:
                assert told == said, self._shown(held)
                assert not any(event.stale for event in held.values()), self._shown(held)
            await asyncio.sleep(0.1)

    async def is_quiet(self) -> None:
        """While nothing changes, nothing is told."""
        before = len(self.watcher.news)
        await asyncio.sleep(QUIET_S)
        loud = [event.raw.decode() for event in self.watcher.news[before:] if event.type not in self.service.restless]
        assert loud == [], "a source that tells only changes has told these while there were none"

    async def tells_a_change_once(self) -> None:
        """One change in the service is one event."""
        changed_type, key = self.service.changed
        before = len(self.watcher.news)

        def changes() -> list[Event]:
            since = self.watcher.news[before:]
            return [event for event in since if event.type == changed_type and (key is None or event.key == key)]

        await self.service.change(self.place)
        await self.watcher.until("told of the change", lambda _: changes(), CHANGE_S)
        await self.tells_what_the_service_says(CHANGE_S)
        if changed_type not in self.service.restless:
            assert len(changes()) == 1, [event.raw.decode() for event in changes()]

    async def survives_a_stop(self) -> None:
        send(self.place, signal.SIGSTOP)
        try:
            stale = all_stale({"RPC_TIMEOUT", "RPC_DISCONNECT", "CIRCUIT_BREAKER_OPEN"})
            await self.watcher.until("all stale after SIGSTOP", stale, STALE_WHEN_STOPPED_S)
        finally:
            send(self.place, signal.SIGCONT)
        await self.tells_what_the_service_says(FRESH_WHEN_CONTINUED_S)

    async def survives_a_kill(self) -> None:
        await end(self.place)
        stale = all_stale({"RPC_DISCONNECT", "CIRCUIT_BREAKER_OPEN"})
        await self.watcher.until("all stale after SIGKILL", stale, STALE_WHEN_KILLED_S)
        await start(self.service, self.place)
        await self.tells_what_the_service_says(FRESH_S)

    def _comparable(self, said: Said) -> Said:
        return {address: None if address[0] in self.service.restless else data for address, data in said.items()}

    def _shown(self, held: dict[Address, Event]) -> str:
        return "\n".join(event.raw.decode()[:400] for event in held.values())


def all_stale(reasons: Collection[str]) -> Callable[[Mapping[Address, Event]], bool]:
    """Whether all values that still exist are stale, each for one of these `reasons`."""

    def are(held: Mapping[Address, Event]) -> bool:
        return all(event.stale and event.error_code in reasons for event in held.values() if not event.gone)

    return are


async def live(service: Service) -> None:
    """Run the service, its gateway and its client through all phases."""
    port, *ports = free_ports(3)
    with tempfile.TemporaryDirectory() as folder:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            place = Place(Path(folder), port, ports, http)
            try:
                await start(service, place)
                if service.prepare is not None:
                    await service.prepare(place)
                async with followed(configured(service, place)) as watcher:
                    await Life(service, place, watcher).run()
            finally:
                await end(place)


class SideBySide:
    """An event loop in a thread of its own, in which all lives go on at once."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def begin(self, life: Coroutine[Any, Any, None]) -> "Future[None]":
        return asyncio.run_coroutine_threadsafe(life, self._loop)

    def close(self) -> None:
        """End what still goes on, and wait until each has ended its service."""
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture(scope="module")
def lives(request: pytest.FixtureRequest) -> Iterator[dict[str, "Future[None]"]]:
    """The lives of all services that are installed and that some test of this run asks for."""
    chosen = {
        item.callspec.id
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    }
    loop = SideBySide()
    found = [service for service in SERVICES if service.recipe in chosen and service.found()]
    futures = {service.recipe: loop.begin(live(service)) for service in found}
    try:
        yield futures
    finally:
        loop.close()


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.recipe)
def test_a_service_behind_its_recipe(service: Service, lives: dict[str, "Future[None]"]) -> None:
    if not service.found():
        pytest.skip(f"no {service.recipe}: {service.package} is not installed")
    lives[service.recipe].result()
