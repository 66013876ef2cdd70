"""A real gateway and the page in a real browser, whose clocks stand still but for what a test moves, for pictures.

Both clocks begin at one moment and move together, chance has a seed, and what happens, happens at fixed times. So a
picture that is taken twice is the same. The round trip and the rate of events are real: others are written there.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from unittest.mock import patch

from playwright.async_api import Browser, Page

from tidegate.app import App, Parts, running
from tidegate.config import from_document
from tidegate.core.access.grant import UNRESTRICTED
from tidegate.core.envelope import raw
from tidegate.core.events import Draft
from tidegate.core.instant import Instant
from tidegate.testing import ManualClock, MemoryStore, ScriptedBackend

HOST = "nas-1.example"
BEGINNING = datetime(2026, 11, 29, 6, 12, tzinfo=UTC).timestamp()
STEP_S = 0.25
REAL_S = 0.03
"""How long the network is given at each step, by the clock on the wall."""
TURNS = 20
"""How often the event loop goes round until what was due is done: no backend of a scene waits for a socket."""
PATIENCE_MS = 20_000
HEIGHTS = {1280: 800, 390: 844}
SCHEMES = ("light", "dark")
FACTS = """() => {
    const line = document.querySelector("#connection .facts-line");
    if (line) line.textContent = line.textContent.replace(/^[\\d.]+ ms · [\\d.]+ ev/, "12 ms · 2.1 ev");
}"""


class Scene:
    """`backends` are what the gateway asks, by name; `app` is the gateway, while it runs."""

    def __init__(self, page: Page, port: int, backends: dict[str, ScriptedBackend]) -> None:
        self.page = page
        self.backends = backends
        self.clock = ManualClock(Instant(1000.0, BEGINNING))
        self.store = MemoryStore()
        self._port = port
        self._life = AsyncExitStack()
        self._app: App | None = None

    @property
    def app(self) -> App:
        assert self._app is not None, "the gateway does not run"
        return self._app

    async def starts(self, document: Mapping[str, Any]) -> None:
        """Start the gateway, and poll everything once."""
        server = {"port": self._port, "state_dir": "", "allowed_hosts": [HOST], **document.get("server", {})}
        config = from_document({**document, "server": server}, environ={})
        named = {backend: self.backends[backend] for backend in document.get("backends", {})}
        seeded = partial(random.Random, 7)
        with patch("tidegate.parts.random.Random", seeded):
            parts = Parts(backends=named, clock=self.clock, store=self.store)
            self._app = await self._life.enter_async_context(running(config, parts))
        for name in named:
            await self.polls(name)

    async def ends(self) -> None:
        """The gateway ends, and its connections with it."""
        await self._life.aclose()
        self._app = None

    async def opens(self, path: str = "") -> None:
        await self.page.goto(f"http://{HOST}/{path}")

    async def polls(self, backend: str) -> None:
        await self.app.supervisor.poll(backend)
        await asyncio.sleep(REAL_S)

    async def publishes(self, type_: str, data: object, key: str | None = None) -> None:
        draft = Draft(type=type_, data=raw(data), key=key, retain=True)
        await self.app.gateway.publishers.publish([draft], UNRESTRICTED)

    async def passes(self, seconds: float, *, step_s: float = STEP_S) -> None:
        """Time passes for the page and then for the gateway, whose answers reach the page before the next step."""
        for _ in range(round(seconds / step_s)):
            await self.page.clock.run_for(round(1000 * step_s))
            await self._passes_for_the_gateway(step_s)
            await asyncio.sleep(REAL_S)

    async def _passes_for_the_gateway(self, seconds: float) -> None:
        """Time passes from one thing that is due to the next, so that none is late."""
        end = self.clock.elapsed + seconds
        while (left_s := end - self.clock.elapsed) > 0:
            due_in_s = self.clock.next_due_in
            self.clock.advance(left_s if due_in_s is None else min(max(due_in_s, 1e-3), left_s))
            for _ in range(TURNS):
                await asyncio.sleep(0)

    async def passes_for_the_page(self, seconds: float) -> None:
        """Time passes, and the gateway is silent."""
        for _ in range(round(seconds / STEP_S)):
            await self.page.clock.run_for(round(1000 * STEP_S))
            await asyncio.sleep(REAL_S / 3)

    async def sees(self, selector: str) -> None:
        """Wait until the page has this; its time goes on by no more than its next frames need."""
        async with asyncio.timeout(PATIENCE_MS / 1000):
            while not await self.page.locator(selector).first.is_visible():
                await self.page.clock.run_for(1)
                await asyncio.sleep(REAL_S)

    async def pictures(self) -> AsyncIterator[tuple[str, bytes]]:
        """A picture for each width and scheme, as (WIDTH-SCHEME, PNG)."""
        for width, height in HEIGHTS.items():
            await self.page.set_viewport_size({"width": width, "height": height})
            for scheme in SCHEMES:
                await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
                await self.page.clock.run_for(1)
                await self.page.clock.run_for(300)
                await self.page.evaluate(FACTS)
                yield f"{width}-{scheme}", await self.page.screenshot(animations="disabled", caret="hide")


@asynccontextmanager
async def scene(browser: Browser, port: int, backends: dict[str, ScriptedBackend]) -> AsyncIterator[Scene]:
    """A page that is not opened yet, in a browser that finds `HOST` at `port` of this machine."""
    context = await browser.new_context(
        viewport={"width": 1280, "height": HEIGHTS[1280]}, locale="en-GB", timezone_id="UTC", device_scale_factor=1
    )
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    await page.clock.install(time=datetime.fromtimestamp(BEGINNING - 60, UTC))
    await page.clock.pause_at(datetime.fromtimestamp(BEGINNING, UTC))
    await page.add_init_script("Math.random = () => 0.5")
    it = Scene(page, port, backends)
    try:
        yield it
    finally:
        await it.ends()
        await context.close()
