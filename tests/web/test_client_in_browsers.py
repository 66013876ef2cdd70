"""The JavaScript client in real browsers: cut off, frozen, restarted, and where no WebSocket gets through.

It runs on a page of another origin, over WebSocket and over SSE at the same time. Firefox closes an `EventSource` for
good at the first reconnect that is refused; the client must not depend on that.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest
from browser import chromium, needs_browser
from firefox import firefox, needs_firefox
from js_client import SUPPORT
from mortal_gateway import MortalGateway, mortal
from site_of_others import Site, site
from steered_backend import SteeredBackend, counting, steered

from tidegate.verify.faultproxy import Fault, FaultProxy

pytestmark = pytest.mark.real

HEARTBEAT_S = 0.5
PATIENCE_S = 60.0
REFUSED_S = 2.5
HTML = '<!doctype html><title>A page</title><script type="module" src="client-page.js"></script>'


class Page(Protocol):
    async def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        ...


class Followed:
    """Clients in a page, by the name of their transport."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def follow(self, transport: str) -> None:
        options = json.dumps({"transport": transport})
        await self._page.evaluate(f"follow({transport!r}, {options})")

    async def facts(self, transport: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._page.evaluate(f"facts({transport!r})")
        return found

    async def until(self, name: str, **expected: Any) -> None:
        """Wait until these of its facts are as expected."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while not expected.items() <= (facts := await self.facts(name)).items():
            assert asyncio.get_running_loop().time() < deadline, (name, expected, facts)
            await asyncio.sleep(0.05)

    async def all_are_live(self, backend: SteeredBackend, *transports: str, gaps: list[str]) -> None:
        """They are current again, and have missed nothing but what a gap has told."""
        for transport in transports:
            await self.until(transport, state="live", values=["fresh"])
            newest = [answer.value for answer in backend.given if answer.path == "/count"][-1]
            async with asyncio.timeout(PATIENCE_S):
                while (await self.facts(transport))["newest"] <= newest:
                    await asyncio.sleep(0.05)
            facts = await self.facts(transport)
            assert (facts["twice"], facts["holes"], facts["gaps"]) == (0, 0, gaps), (transport, facts)


@pytest.fixture
def stranger() -> Iterator[Site]:
    """Who has the page."""
    with site() as it:
        yield it


@asynccontextmanager
async def in_chromium(url: str) -> AsyncIterator[Page]:
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(url)
        yield page


@asynccontextmanager
async def in_firefox(url: str) -> AsyncIterator[Page]:
    async with firefox(url) as page:
        yield page


async def is_cut_off(page: Followed, gateway: MortalGateway, backend: SteeredBackend, proxy: FaultProxy) -> None:
    proxy.set(Fault.down())
    for transport in ("websocket", "sse"):
        await page.until(transport, state="waiting", values=["unvouched"])
    await asyncio.sleep(REFUSED_S)
    proxy.clear()
    await page.all_are_live(backend, "websocket", "sse", gaps=[])


async def is_frozen(page: Followed, gateway: MortalGateway, backend: SteeredBackend, proxy: FaultProxy) -> None:
    loop = asyncio.get_running_loop()
    frozen = loop.time()
    gateway.freeze()
    for transport in ("websocket", "sse"):
        await page.until(transport, state="quiet", values=["unvouched"])
    assert loop.time() - frozen < 20, "a browser notices after a minute"
    gateway.thaw()
    await page.all_are_live(backend, "websocket", "sse", gaps=[])


async def is_restarted(page: Followed, gateway: MortalGateway, backend: SteeredBackend, proxy: FaultProxy) -> None:
    gateway.kill()
    for transport in ("websocket", "sse"):
        await page.until(transport, state="waiting")
    await gateway.start()
    await page.all_are_live(backend, "websocket", "sse", gaps=["epoch_changed"])


async def has_no_websocket(page: Followed, gateway: MortalGateway, backend: SteeredBackend, proxy: FaultProxy) -> None:
    proxy.set(Fault.status(code=502, methods=("/ws",)))
    await page.follow("auto")
    await page.until("auto", state="live", transport="sse")
    await page.all_are_live(backend, "auto", gaps=[])


@pytest.mark.parametrize(
    "browser",
    [
        pytest.param(in_chromium, id="chromium", marks=needs_browser),
        pytest.param(in_firefox, id="firefox", marks=needs_firefox),
    ],
)
async def test_whatever_happens_the_client_in_a_browser_comes_back_and_misses_nothing(
    browser: Any, stranger: Site
) -> None:
    async with steered({"/count": counting(), "/name": "plant"}) as backend:
        stranger.files["/page.html"] = HTML
        stranger.files["/client-page.js"] = (SUPPORT / "client-page.js").read_text()
        server = {"heartbeat_interval_s": HEARTBEAT_S, "allowed_origins": [stranger.url]}
        polled = {"backend": "plant", "interval_s": 0.3}
        document = {
            "server": server,
            "backends": {"plant": {"url": backend.url, "protocol": "http"}},
            "sources": {"plant.count": {**polled, "method": "/count"}, "plant.name": {**polled, "method": "/name"}},
        }
        async with (
            mortal(document) as gateway,
            FaultProxy(upstream=gateway.url) as proxy,
            browser(f"{stranger.url}/page.html?gateway={proxy.url}") as opened,
        ):
            page = Followed(opened)
            async with asyncio.timeout(PATIENCE_S):
                while not await opened.evaluate("globalThis.isReady ?? false"):
                    await asyncio.sleep(0.05)
            for transport in ("websocket", "sse"):
                await page.follow(transport)
            await page.all_are_live(backend, "websocket", "sse", gaps=[])
            for happens in (is_cut_off, is_frozen, is_restarted, has_no_websocket):
                await happens(page, gateway, backend, proxy)
