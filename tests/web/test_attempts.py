"""How often the page in a real browser tries to reach a gateway that is away, and how soon it is back.

The page's time stands still and is moved by the test; the network's does not, so each attempt is waited for. What the
rules are, tests/web/client holds; here it is seen that a browser does not get into their way: Chromium holds WebSockets
back after failures, and the page therefore looks at the session first.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from browser import chromium, needs_browser
from mortal_gateway import MortalGateway, mortal
from playwright.async_api import Browser, Page, Request

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), needs_browser]

PATIENCE_S = 30.0
TELL = (
    "document.dispatchEvent(new Event('visibilitychange'))",
    "window.dispatchEvent(new Event('online'))",
)
STEP_S = 0.5


class Opened:
    """An open page. `handshakes` are the connections that it tried to open, `looks` its questions for the session."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.handshakes = self.looks = 0
        self._under_way: set[Request] = set()
        page.on("websocket", self._note_handshake)
        page.on("request", self._note_request)
        page.on("requestfinished", self._note_end)
        page.on("requestfailed", self._note_end)

    def _note_handshake(self, _: object) -> None:
        self.handshakes += 1

    def _note_request(self, request: Request) -> None:
        self.looks += request.url.endswith("/api/v1/session")
        self._under_way.add(request)

    def _note_end(self, request: Request) -> None:
        self._under_way.discard(request)

    async def is_now(self, *states: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.page.evaluate("document.getElementById('connection').dataset.state") not in states:
                await self.page.clock.run_for(1)
                await asyncio.sleep(0.01)

    async def passes(self, seconds: float) -> None:
        """Time passes, and each attempt ends before more of it does."""
        for _ in range(round(seconds / STEP_S)):
            await self.page.clock.run_for(round(1000 * STEP_S))
            await self.page.evaluate("0")  # behind what the browser tells of attempts that have begun
            async with asyncio.timeout(PATIENCE_S):
                while self._under_way:
                    await asyncio.sleep(0.005)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[MortalGateway]:
    async with mortal({"server": {"drain_s": 3.0}}) as gateway:
        yield gateway


@asynccontextmanager
async def opened(browser: Browser, url: str, *, random: float) -> AsyncIterator[Opened]:
    """The page, live. `random` is what `Math.random` returns there."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.clock.install(time=datetime.now(UTC))
    await page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))  # it goes on until then, and never back
    await page.add_init_script(f"Math.random = () => {random}")
    it = Opened(page)
    try:
        await page.goto(url)
        await it.is_now("live")
        it.handshakes = it.looks = 0
        yield it
    finally:
        await context.close()


@pytest.mark.parametrize(("is_disturbed", "most"), [(False, 17), (True, 17 + 2 * 12)])
async def test_a_dead_gateway_gets_few_attempts_and_is_found_again(
    is_disturbed: bool, most: int, browser: Browser, gateway: MortalGateway
) -> None:
    """At the shortest waits that chance can give: 0.5, 1, 2, 4, 4 … s."""
    async with opened(browser, gateway.url, random=0.0) as it:
        gateway.kill()
        await it.is_now("waiting")
        for _ in range(60):
            if is_disturbed:
                for event in TELL:
                    await it.page.evaluate(event)
            await it.passes(1)
        assert most / 3 < it.looks <= most
        assert it.handshakes <= 1, "browsers delay WebSockets after failures"
        await gateway.start()
        await it.passes(4.5)
        await it.is_now("live")


async def test_a_drain_is_waited_for_though_the_page_is_shown(browser: Browser, gateway: MortalGateway) -> None:
    async with opened(browser, gateway.url, random=0.0) as it:
        gateway.terminate()
        await it.is_now("waiting")
        for event in TELL:
            await it.page.evaluate(event)
        await it.passes(3.0)
        assert it.handshakes + it.looks == 0
        await it.passes(2.0)
        assert it.looks > 0
        gateway.program.wait()
        await gateway.start()
