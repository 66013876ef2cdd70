"""Somebody who looks at the page in a real browser, and minds what it says, asks for and shows."""

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser import said
from playwright.async_api import Browser, BrowserContext, Locator, Page, Request

SUPPORT = Path(__file__).parent
AXE = SUPPORT.parents[1] / "node_modules/axe-core/axe.min.js"
RECORDER = SUPPORT / "page-recorder.js"
PATIENCE_S = 20.0

needs_axe = pytest.mark.skipif(not AXE.exists(), reason="no axe-core: see tools/install-check-tools")

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LOOK = """async (only) => {
    const found = await axe.run(document, { runOnly: only, resultTypes: ["violations"] });
    return found.violations.flatMap((rule) =>
        rule.nodes.map((node) => `${rule.id}: ${node.html.slice(0, 200)}: ${node.failureSummary}`));
}"""

OUTAGE = re.compile(
    r"error: (Failed to load resource: (net::ERR_|the server responded with a status of 50[34])"
    r"|WebSocket connection to '.*' failed)"
)
"""What Chromium writes by itself when a gateway cannot be reached; no page can keep it from that."""

VISIBILITY = """
Object.defineProperty(document, "visibilityState", { get: () => globalThis.tabIsHidden ? "hidden" : "visible" });
Object.defineProperty(document, "hidden", { get: () => Boolean(globalThis.tabIsHidden) });
"""
TURN = "(hidden) => { globalThis.tabIsHidden = hidden; document.dispatchEvent(new Event('visibilitychange')); }"


@dataclass(frozen=True)
class Moment:
    """What the page claimed from `at` to `until`, in Unix seconds.

    `fresh` are the values of rows that said fresh, by TYPE KEY; `current` is how many it said there were.
    """

    at: float
    until: float
    fresh: Mapping[str, str]
    current: int
    connection: str


class Visitor:
    """An open page. `console` is what it has said, `strangers` are the URLs elsewhere that it has asked for."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.console = said(page)
        self.strangers: list[str] = []
        page.set_default_timeout(1000 * PATIENCE_S)
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        asked = urlsplit(request.url)
        if asked.scheme in {"http", "https", "ws", "wss"} and asked.netloc != urlsplit(self.url).netloc:
            self.strangers.append(request.url)

    async def goes(self, path: str) -> None:
        await self.page.goto(f"{self.url}/{path}")

    async def stays(self) -> None:
        """From now on, the page must not be loaded again."""
        await self.page.evaluate("globalThis.isTheSame = true")

    def row(self, type_: str, key: str = "") -> Locator:
        return self.page.locator(f'[data-type="{type_}"][data-key="{key}"]')

    async def sees(self, type_: str, key: str = "", *, state: str, value: str = "") -> None:
        """Wait until the row says so."""
        row = self.page.locator(f'[data-type="{type_}"][data-key="{key}"][data-state="{state}"]')
        await row.filter(has=self.page.locator(".value", has_text=value)).first.wait_for()

    async def is_connected(self, *states: str) -> None:
        """Wait until the connection is in one of these states."""
        await self.page.wait_for_selector(
            ", ".join(f'#connection[data-state="{state}"]' for state in states), state="attached"
        )

    async def states(self) -> list[str]:
        """The states of all rows that are drawn."""
        states: list[str] = await self.page.eval_on_selector_all(
            "[data-type][data-state]", "(rows) => rows.map((row) => row.dataset.state)"
        )
        return states

    async def hides(self) -> None:
        """Its tab goes into the background, where the browser stops its timers."""
        await self.page.evaluate(TURN, True)
        await self._lifecycle("frozen")

    async def comes_back(self) -> None:
        await self._lifecycle("active")
        await self.page.evaluate(TURN, False)

    async def _lifecycle(self, state: str) -> None:
        cdp = await self.page.context.new_cdp_session(self.page)
        await cdp.send("Page.setWebLifecycleState", {"state": state})
        await cdp.detach()

    async def moments(self) -> list[Moment]:
        """All that the page has claimed since it was opened."""
        log, now = await self.page.evaluate("[recorder.log, Date.now()]")
        ends = [entry["at"] for entry in log[1:]] + [now]
        return [
            Moment(entry["at"] / 1000, end / 1000, entry["fresh"], entry["current"], entry["connection"])
            for entry, end in zip(log, ends, strict=True)
        ]

    async def lag_s(self) -> float:
        """By how much the page's timers were late at worst: what a busy machine takes away from it."""
        return float(await self.page.evaluate("recorder.lagMs")) / 1000

    async def claims_fresh(self, *, since: float, until: float) -> set[str]:
        """The rows that said fresh at any moment between these Unix times."""
        within = (it for it in await self.moments() if it.at < until and it.until > since)
        return {name for moment in within for name in moment.fresh}

    async def has_no_barriers(self) -> None:
        """Check the page as it is with axe, in light and in dark."""
        if not AXE.exists():
            return
        if not await self.page.evaluate("'axe' in globalThis"):
            await self.page.evaluate(AXE.read_text())
        found = await self.page.evaluate(LOOK, {"type": "tag", "values": RULES})
        await self.page.emulate_media(color_scheme="dark")
        found += await self.page.evaluate(LOOK, {"type": "rule", "values": ["color-contrast"]})
        await self.page.emulate_media(color_scheme="light")
        assert not found, found

    def unexpected(self, expected: Iterable[str | re.Pattern[str]]) -> list[str]:
        """The errors and warnings on the console beside the `expected`."""
        patterns = [re.compile(it) for it in expected]
        lines = [line for line in self.console if line.startswith(("error", "warning"))]
        return [line for line in lines if not any(pattern.match(line) for pattern in patterns)]


@asynccontextmanager
async def visited(
    browser: Browser,
    url: str,
    path: str = "",
    *,
    says: Sequence[str | re.Pattern[str]] = (),
    record: bool = True,
    **options: Any,
) -> AsyncIterator[Visitor]:
    """The page of the gateway at `url`, opened in a profile of its own. `options` are those of Playwright's context.

    Without `record`, what it claims is not kept: that would cost the page time. At the end, it must have said nothing
    but what matches `says`, have asked no other host for anything, and not have been loaded again.
    """
    context: BrowserContext = await browser.new_context(**options)
    await context.add_init_script(VISIBILITY)
    if record:
        await context.add_init_script(path=RECORDER)
    try:
        visitor = Visitor(await context.new_page(), url)
        await visitor.goes(path)
        await visitor.stays()
        yield visitor
        assert await visitor.page.evaluate("globalThis.isTheSame"), "it was reloaded"
        assert not visitor.unexpected(says), visitor.console
        assert not visitor.strangers, visitor.strangers
    finally:
        await context.close()
