"""The page in a real browser, while its gateway goes and comes: it is back without a reload, and no hot loop.

The page's time stands still and is moved by the tests. The network's does not, so each attempt is waited for.
"""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, needs_browser
from playwright.async_api import Page, Request, WebSocketRoute
from programs import Program, tidegate
from websockets.asyncio.client import connect

from tidegate.app import running
from tidegate.config import from_document

pytestmark = [pytest.mark.real, needs_browser]

PATIENCE_MS = 60_000
TELL = {
    "shown": "document.dispatchEvent(new Event('visibilitychange'))",
    "online": "window.dispatchEvent(new Event('online'))",
}


class Opened:
    """An open page whose time is moved by `passes`.

    `handshakes` are the connections that it has tried to open, `looks` the requests that ask whether it is
    there.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.handshakes = self.looks = 0
        self._answered = asyncio.Event()
        page.on("websocket", self._note_handshake)
        page.on("request", self._note_request)
        page.on("requestfinished", self._note_answer)

    def _note_handshake(self, _: object) -> None:
        self.handshakes += 1

    def _note_request(self, request: Request) -> None:
        self.looks += request.url.endswith("/api/v1/session")

    def _note_answer(self, request: Request) -> None:
        if request.url.endswith("/api/v1/session"):
            self._answered.set()

    async def turn_away(self, route: WebSocketRoute, code: int) -> None:
        self.handshakes += 1
        await route.close(code=code, reason="not like this")

    @property
    def attempts(self) -> int:
        return self.handshakes + self.looks

    async def tries(self, attempts: int) -> None:
        """Wait until it has made so many attempts; the browser tells of them a moment later."""
        async with asyncio.timeout(PATIENCE_MS / 1000):
            while self.attempts < attempts:
                await asyncio.sleep(0.01)

    async def has_heard(self) -> None:
        """Wait until the session has been answered, and the page has read the answer."""
        async with asyncio.timeout(PATIENCE_MS / 1000):
            await self._answered.wait()
        await self.page.evaluate("fetch('healthz').then((answer) => answer.text())")

    async def is_now(self, text: str) -> None:
        await self.page.wait_for_function(
            "text => document.getElementById('connection').textContent === text", arg=text, polling=20
        )

    async def passes(self, seconds: float) -> None:
        await self.page.clock.run_for(round(1000 * seconds))
        await self.page.evaluate("0")  # behind what the browser tells of attempts that have begun

    async def tells(self, event: str) -> None:
        await self.page.evaluate(TELL[event])

    async def fails(self, waits_s: Sequence[float]) -> None:
        """Its gateway is gone: wait until it knows, and then until an attempt has failed after each of `waits_s`."""
        await self.is_now("disconnected")
        for wait_s in waits_s:
            before = self.attempts
            await self.passes(wait_s)
            await self.tries(before + 1)
            await self.is_now("disconnected")


@asynccontextmanager
async def opened(
    url: str, *, random: float = 0.999999, state: str = "live", closed_with: int | None = None
) -> AsyncIterator[Opened]:
    """The page at `url`, with its connection in `state`. `random` is what `Math.random` returns there.

    With `closed_with`, its connections reach no gateway and are closed with this code.
    """
    async with chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        await page.clock.install(time=0)
        await page.clock.pause_at(1)
        await page.add_init_script(f"Math.random = () => {random}")
        it = Opened(page)
        if closed_with is not None:
            await page.route_web_socket("**/ws*", lambda route: it.turn_away(route, closed_with))
        await page.goto(url)
        await it.is_now(state)
        await page.evaluate("window.isTheSame = true")
        yield it
        assert await page.evaluate("window.isTheSame"), "it was reloaded"


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def gateway(port: int, folder: Path, *, more: str = "", **server: Any) -> Iterator[Program]:
    lines = "\n".join(f"{name} = {value}" for name, value in server.items())
    (folder / "tidegate.toml").write_text(f"[server]\nport = {port}\n{lines}\n{more}")
    with tidegate("serve", "--config", "tidegate.toml", folder=folder) as program:
        assert program.url
        yield program


async def test_the_page_comes_back_by_itself_within_8_s(port: int, tmp_path: Path) -> None:
    with gateway(port, tmp_path) as first:
        url = first.url
        async with opened(url) as page:
            first.process.kill()
            await page.fails([1, 2, 4])
            with gateway(port, tmp_path):
                await page.passes(7.9)
                assert (page.handshakes, page.looks) == (2, 3), "it waits for up to 8 s"
                await page.passes(0.1)
                # It cannot resume, so it connects anew for what the defaults are now: at once, since no time passes.
                await page.tries(4 + 4)
                assert page.handshakes == 4
                await page.is_now("live")


@pytest.mark.parametrize(("event", "within_s"), [("shown", 0.001), ("online", 2.0)])
async def test_it_comes_back_sooner_when_it_is_shown_or_online(
    event: str, within_s: float, port: int, tmp_path: Path
) -> None:
    with gateway(port, tmp_path) as first:
        async with opened(first.url) as page:
            first.process.kill()
            await page.fails([1, 2, 4])
            with gateway(port, tmp_path):
                await page.tells(event)
                await page.passes(within_s)
                await page.is_now("live")


async def test_the_network_that_returns_is_heard_of(port: int, tmp_path: Path) -> None:
    """The browser's own event, not one of ours."""
    with gateway(port, tmp_path) as first:
        async with opened(first.url) as page:
            first.process.kill()
            await page.fails([1, 2, 4])
            await page.page.context.set_offline(True)
            with gateway(port, tmp_path):
                await page.page.context.set_offline(False)
                await page.page.wait_for_function("navigator.onLine", polling=20)
                await page.passes(2)
                await page.is_now("live")


@pytest.mark.parametrize(("is_disturbed", "most"), [(False, 17), (True, 17 + 2 * 12)])
async def test_a_dead_gateway_gets_few_attempts_a_minute(
    is_disturbed: bool, most: int, port: int, tmp_path: Path
) -> None:
    """At the shortest waits that chance can give: 0.5, 1, 2, 4, 4 … s."""
    with gateway(port, tmp_path) as first:
        async with opened(first.url, random=0.0) as page:
            first.process.kill()
            await page.is_now("disconnected")
            for _ in range(120):
                if is_disturbed:
                    for event in TELL:
                        await page.tells(event)
                await page.passes(0.5)
                await page.is_now("disconnected")
            assert most / 2 < page.looks <= most
            assert page.handshakes == 2, "the one that was live, and one more: browsers delay them after failures"


async def test_a_drain_is_waited_for_though_the_page_is_shown(port: int, tmp_path: Path) -> None:
    with gateway(port, tmp_path, drain_s=3.0) as program:
        async with opened(program.url) as page:
            program.signal(signal.SIGTERM)
            await page.is_now("disconnected")
            await page.tells("shown")
            await page.tells("online")
            await page.passes(3.4)
            assert page.attempts == 1
            await page.passes(0.2)
            await page.tries(2)


async def test_a_full_gateway_is_left_alone_as_long_as_it_says() -> None:
    config = from_document({"server": {"port": 0, "state_dir": "", "drain_s": 0.0, "max_clients": 1}}, environ={})
    async with (
        running(config) as app,
        connect(app.url.replace("http", "ws") + "/ws"),
        opened(app.url, state="disconnected") as page,
    ):
        # The session says 3 s, the handshake before it has said 2 s: refusals are spread.
        await page.has_heard()
        for event in TELL:
            await page.tells(event)
        await page.passes(2.8)
        assert page.attempts == 2
        await page.passes(0.3)
        await page.tries(3)
        assert page.handshakes == 1, "it looks first"


async def test_a_refused_page_asks_for_a_token_and_tries_no_more() -> None:
    auth = {"mode": "token", "tokens": [{"token": "t-0123456789abcdef"}]}
    config = from_document({"server": {"port": 0, "state_dir": "", "drain_s": 0.0}, "auth": auth}, environ={})
    async with running(config) as app, opened(app.url, state="disconnected") as page:
        await page.page.wait_for_selector("#login:visible")
        for _ in range(3):
            for event in TELL:
                await page.tells(event)
            await page.passes(20)
        assert (page.handshakes, page.looks) == (1, 1), "it has found out why, once"
        await page.page.fill("#token", "t-0123456789abcdef")
        await page.page.click("#login button")
        await page.is_now("live")


async def test_while_it_hears_nothing_no_state_is_shown_as_certain(port: int, tmp_path: Path) -> None:
    text = "getComputedStyle(document.querySelector('#breakers .badge'), '::after').content"
    nas = (
        '[backends.nas]\nurl = "http://127.0.0.1:9/"\n[sources.nas]\nbackend = "nas"\nmethod = "x"\ninterval_s = 60.0\n'
    )
    with gateway(port, tmp_path, more=nas) as program:
        async with opened(program.url) as page:
            await page.passes(0.1)  # it draws
            assert await page.page.evaluate(text) == "none"
            program.process.kill()
            await page.is_now("disconnected")
            assert await page.page.evaluate(text) == '"?"'


async def test_an_open_breaker_says_by_when_its_backend_is_asked() -> None:
    with socket.socket() as unheard:  # bound and not listening: connections are refused
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/"
        document = {
            "server": {"port": 0, "state_dir": "", "drain_s": 0.0},
            "backends": {"nas": {"url": url, "protocol": "http", "breaker": {"failure_threshold": 1, "open_s": 60.0}}},
            "sources": {"nas.status": {"backend": "nas", "method": "/", "interval_s": 0.2}},
        }
        async with running(from_document(document, environ={})) as app, opened(app.url) as page:
            await page.passes(0.1)  # it draws
            row = page.page.locator("#breakers tr")
            while "open" not in await row.inner_text():
                await asyncio.sleep(0.05)
                await page.passes(0.1)
            text = (await row.inner_text()).replace("\t", " ")
    assert re.search(r"by \d.* at the latest, sooner if it can be reached", text)


@pytest.mark.parametrize(
    ("code", "state", "asks_for_token"),
    [(1009, "refused: not like this", False), (4401, "disconnected", True), (4403, "disconnected", True)],
)
async def test_a_final_close_code_ends_the_attempts(code: int, state: str, asks_for_token: bool) -> None:
    config = from_document({"server": {"port": 0, "state_dir": "", "drain_s": 0.0}}, environ={})
    async with running(config) as app, opened(app.url, state=state, closed_with=code) as page:
        for _ in range(3):
            for event in TELL:
                await page.tells(event)
            await page.passes(20)
        assert page.attempts == 1
        assert await page.page.locator("#login").is_visible() == asks_for_token
