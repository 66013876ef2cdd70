"""Breakers, log, clients and the publish dialog in a real browser: what they say, and what they no longer say."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import pytest_asyncio
from browser import chromium, needs_browser
from mortal_gateway import MortalGateway, mortal
from playwright.async_api import Browser, Locator, Route
from visiting import OUTAGE, Visitor, visited

from tidegate.cli.engine_process import free_port
from tidegate.core.access.grant import UNRESTRICTED
from tidegate.core.envelope import raw
from tidegate.core.events import Draft
from tidegate.errors import Disconnected
from tidegate.testing import RunningGateway, ScriptedBackend, gateway

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), needs_browser]

HEARTBEAT_S = 0.4
REFUSED = "error: Failed to load resource: the server responded with a status of"
LIST = ".log-list"

Log = tuple[RunningGateway, Visitor]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def down() -> AsyncIterator[MortalGateway]:
    """A process whose only backend is not there, so that it can be frozen."""
    document = {
        "server": {"heartbeat_interval_s": HEARTBEAT_S},
        "backends": {"plant": {"url": f"http://127.0.0.1:{free_port(preferred=0)}/rpc"}},
        "sources": {"plant.pressure": {"backend": "plant", "method": "pressure", "interval_s": 0.2}},
    }
    async with mortal(document) as gateway:
        yield gateway


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[RunningGateway, ScriptedBackend]]:
    """A gateway that polls ``plant.pressure`` when it is told to; its breaker opens at the third failure."""
    backend = ScriptedBackend({"pressure": {"bar": 1.7}})
    breaker = {"failure_threshold": 3, "open_s": 30.0, "open_max_s": 30.0}
    document = {
        "server": {"heartbeat_interval_s": HEARTBEAT_S},
        "limits": {"rpc_error_interval_s": 0},
        "backends": {"plant": {"retry_s": 0, "breaker": breaker}},
        "sources": {"plant.pressure": {"backend": "plant", "method": "pressure", "interval_s": 3600.0}},
    }
    async with gateway(document, backends={"plant": backend}) as running:
        yield running, backend


async def fail(running: RunningGateway, backend: ScriptedBackend, upto: int) -> None:
    """Let it be out of reach, and ask it until so many calls in a row have failed."""
    backend.fail(Disconnected("the cable is out"), unreachable=True)
    while (failures := running.app.supervisor.breaker("plant").failure_count) < upto:
        await running.poll("plant")
        while running.app.supervisor.breaker("plant").failure_count == failures:
            await asyncio.sleep(0.005)


async def publish(running: RunningGateway, numbers: range) -> None:
    drafts = [Draft(type="rack.node", data=raw({"load": n}), key=f"n{n}") for n in numbers]
    for first in range(0, len(drafts), 100):
        await running.app.gateway.publishers.publish(drafts[first : first + 100], UNRESTRICTED)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(browser: Browser) -> AsyncIterator[Log]:
    """A gateway, and the log of an open page."""
    async with serving() as (running, _), visited(browser, running.url, "#/log", record=False) as visitor:
        await visitor.is_connected("live")
        await visitor.page.wait_for_selector(LIST)
        yield running, visitor


@contextmanager
def frozen(gateway: MortalGateway) -> Iterator[None]:
    gateway.freeze()
    try:
        yield
    finally:
        gateway.thaw()


def card(visitor: Visitor, state: str) -> Locator:
    return visitor.page.locator(f'[data-breaker="plant"][data-state="{state}"]')


def lines(visitor: Visitor, text: str) -> Locator:
    return visitor.page.locator(f"{LIST} li:not([hidden])").filter(has_text=text)


class TestBreakers:
    async def test_failures_are_counted_while_it_is_closed_and_then_it_counts_down(self, browser: Browser) -> None:
        async with serving() as (running, backend), visited(browser, running.url, "#/breakers") as visitor:
            await card(visitor, "closed").filter(has_text="No failure").wait_for()
            await fail(running, backend, 2)
            await card(visitor, "closed").filter(has_text="2 of 3 failures in a row").wait_for()
            assert await visitor.page.locator(".pip.full").count() == 2
            await fail(running, backend, 3)
            is_open = card(visitor, "open").filter(has_text="sooner if it can be reached")
            await is_open.filter(has_text="Next try at the latest in").wait_for()
            text = await is_open.inner_text()
            assert "3 failures in a row" in text
            assert "cannot be reached" in text
            await is_open.locator("li[data-state=stale] a[href='#/value/plant.pressure']").wait_for()
            assert await is_open.locator(".timeline-open").get_attribute("d")
            await is_open.locator("summary").click()
            await is_open.locator(".moves").filter(has_text="open: too many failures in a row").wait_for()
            await visitor.has_no_barriers()

    async def test_cut_off_no_card_claims_to_be_current(self, browser: Browser, down: MortalGateway) -> None:
        async with visited(browser, down.url, "#/breakers/plant", says=[OUTAGE]) as visitor:
            await card(visitor, "open").wait_for()
            with frozen(down):
                was = card(visitor, "unvouched").filter(has_text=re.compile("was (open|half-open)"))
                await was.filter(has_text="not known").wait_for()
                assert await was.locator("li[data-state=unvouched]").filter(has_text="had no answer").count() == 1
                assert "when last heard of" in await visitor.page.locator(".breakers").inner_text()
                await visitor.has_no_barriers()
            await card(visitor, "open").wait_for()

    async def test_an_operator_is_told_what_a_command_does_and_why_it_was_refused(self, browser: Browser) -> None:
        async with serving() as (running, _), visited(browser, running.url, "#/breakers", says=[REFUSED]) as visitor:
            page = visitor.page
            button = page.get_by_role("button", name="Force open… plant")
            await button.click()
            dialog = page.locator("dialog[open]")
            await dialog.filter(has_text="nothing is asked of it, until somebody resets the breaker").wait_for()
            await visitor.has_no_barriers()
            await page.route("**/force-open", refuse)
            await dialog.get_by_role("button", name="Force open").click()
            await dialog.get_by_role("alert").filter(has_text="not today (409) Try again in 7 s.").wait_for()
            await page.unroute("**/force-open")
            await dialog.get_by_role("button", name="Force open").click()
            await card(visitor, "open").filter(has_text="forced open").wait_for()
            assert await dialog.count() == 0
            assert await button.evaluate("(it) => it === document.activeElement"), "the focus is back at the opener"
            await card(visitor, "open").filter(has_text="Nothing is asked until an operator resets it").wait_for()
            await running.command("plant", "reset")
            await card(visitor, "closed").wait_for()

    async def test_a_pause_freezes_the_cards_and_none_looks_current(self, browser: Browser) -> None:
        async with serving() as (running, backend), visited(browser, running.url, "#/breakers") as visitor:
            await card(visitor, "closed").wait_for()
            await visitor.page.keyboard.press("p")
            await card(visitor, "unvouched").filter(has_text="was closed").wait_for()
            await fail(running, backend, 3)
            assert await card(visitor, "unvouched").filter(has_text="was closed").count() == 1
            await visitor.page.keyboard.press("p")
            await card(visitor, "open").wait_for()


async def refuse(route: Route) -> None:
    await route.fulfill(status=409, headers={"Retry-After": "7"}, json={"status": 409, "detail": "not today"})


class TestLog:
    async def test_only_lines_in_view_are_in_the_page_and_all_that_are_kept_can_be_reached(
        self, browser: Browser
    ) -> None:
        async with serving() as (running, _), visited(browser, running.url, "#/log", record=False) as visitor:
            page = visitor.page
            await visitor.is_connected("live")
            await page.wait_for_selector(LIST)
            await publish(running, range(2500))
            await lines(visitor, "load 2\u202f499").or_(lines(visitor, "load 2499")).first.wait_for()
            await page.get_by_text("2000 lines").or_(page.get_by_text("2\u202f000 lines")).wait_for()
            assert await page.locator(f"{LIST} li").count() < 60
            await page.locator(LIST).evaluate("(list) => list.scrollTo(0, list.scrollHeight)")
            await page.wait_for_selector(f'{LIST} li[aria-posinset="2000"][aria-setsize="2000"]')
            await page.locator("#filter").fill("n2400")
            await page.get_by_text("1 of 2000 lines match").wait_for()
            assert await lines(visitor, "n2400").count() == 1

    async def test_a_selection_stays_while_lines_move_on(self, log: Log) -> None:
        running, visitor = log
        await running.publish("backup.done", "first")
        await lines(visitor, "first").wait_for()
        await lines(visitor, "first").locator(".text").evaluate("(it) => getSelection().selectAllChildren(it)")
        for n in range(10):
            await running.publish("backup.done", f"later {n}")
        await lines(visitor, "later 9").wait_for()
        assert await visitor.page.evaluate("String(getSelection())") == "first"
        await visitor.page.evaluate("getSelection().removeAllRanges()")

    async def test_a_pause_keeps_what_is_shown_and_counts_what_comes(self, log: Log) -> None:
        running, visitor = log
        await running.publish("backup.done", "before")
        await lines(visitor, "before").wait_for()
        await visitor.page.get_by_role("button", name="Pause").click()
        await running.publish("backup.done", "meanwhile")
        await visitor.page.get_by_role("button", name="Go on · 1 new").click()
        await lines(visitor, "meanwhile").wait_for()

    async def test_text_from_events_is_shown_as_it_is_and_a_line_opens(self, log: Log) -> None:
        running, visitor = log
        page = visitor.page
        await running.publish("backup.done", {"text": "<img src=x onerror=alert(1)>\u202egnp.exe"})
        line = lines(visitor, "<img src=x onerror=alert(1)>\\u202egnp.exe")
        await line.wait_for()
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        await page.locator("dialog[open] pre").filter(has_text='"type": "backup.done"').wait_for()
        await visitor.has_no_barriers()
        await page.keyboard.press("Escape")
        assert await line.locator("button").evaluate("(it) => it === document.activeElement")

    async def test_what_is_no_pattern_is_said_and_the_old_ones_stay(self, log: Log) -> None:
        running, visitor = log
        types = visitor.page.get_by_label("Types")
        await types.fill("backup.*, Nonsense")
        await types.press("Enter")
        await visitor.page.get_by_role("alert").filter(has_text="got “Nonsense”").wait_for()
        await running.publish("rack.node", "all the same")
        await lines(visitor, "all the same").wait_for()
        await types.fill("backup.*")
        await types.press("Enter")
        await running.publish("rack.node", "not any more")
        await running.publish("backup.done", "the last one")
        await lines(visitor, "the last one").wait_for()
        assert await lines(visitor, "not any more").count() == 0

    async def test_a_silence_of_the_gateway_is_a_line(self, browser: Browser, down: MortalGateway) -> None:
        async with visited(browser, down.url, "#/log", says=[OUTAGE]) as visitor:
            await visitor.is_connected("live")
            await visitor.page.locator(LIST).wait_for()
            await visitor.page.locator("#filter").fill("gateway")
            with frozen(down):
                await lines(visitor, "Nothing is heard from the gateway.").wait_for()
            await lines(visitor, "The gateway is heard again").or_(lines(visitor, "Connected again")).first.wait_for()
            await visitor.has_no_barriers()


async def look_away(visitor: Visitor) -> None:
    """Look at another section for a moment: clients are asked for again at once when they are shown."""
    for section in ("log", "clients"):
        await visitor.page.evaluate("(section) => { location.hash = `#/${section}`; }", section)
        await visitor.page.wait_for_selector(f"main[data-section={section}]")


class TestClients:
    async def test_who_is_connected_and_that_the_table_is_old_when_it_is(self, browser: Browser) -> None:
        says = [REFUSED]
        async with serving() as (running, _), visited(browser, running.url, "#/clients", says=says) as visitor:
            row = visitor.page.locator(".clients-table tbody tr").filter(has_text="circuit_breaker.state")
            await row.filter(has_text="127.0.0.1").wait_for()
            await visitor.has_no_barriers()
            await visitor.page.route("**/api/v1/clients", refuse)
            await look_away(visitor)
            clients = visitor.page.locator(".clients")
            await clients.filter(has_text="The clients could not be read: not today (409)").wait_for()
            assert await clients.get_attribute("data-old") == "true"
            assert "Not current, as of" in await clients.inner_text()
            await visitor.has_no_barriers()
            await visitor.page.unroute("**/api/v1/clients")
            await look_away(visitor)
            await visitor.page.locator(".clients[data-old=false]").wait_for()


class TestPublish:
    async def test_what_was_typed_is_published_digit_by_digit_and_stays_when_it_is_refused(
        self, browser: Browser
    ) -> None:
        async with serving() as (running, _), visited(browser, running.url, says=[REFUSED]) as visitor:
            page = visitor.page
            await visitor.is_connected("live")
            await visitor.sees("plant.pressure", state="fresh")
            await page.keyboard.press("n")
            dialog = page.locator("dialog[open]")
            publishes = dialog.get_by_role("button", name="Publish")
            await page.get_by_label("Type", exact=True).fill("plant.pressure")
            data = page.get_by_label("Data")
            await data.fill('{"ok": true,\n "bytes": 12345678901234567890,}')
            await publishes.click()
            await dialog.get_by_text("Not JSON at line 2, column 32: expected a name in quotes.").wait_for()
            assert await data.evaluate("(it) => [it === document.activeElement, it.selectionStart]") == [True, 44]
            await visitor.has_no_barriers()
            await data.fill('{"bytes": 12345678901234567890}')
            await publishes.click()
            await dialog.get_by_role("alert").filter(has_text="is polled from a backend").wait_for()
            assert await data.input_value() == '{"bytes": 12345678901234567890}'
            await page.get_by_label("Type", exact=True).fill("backup.done")
            await page.get_by_label("Keep it for new clients").check()
            await publishes.click()
            await dialog.get_by_role("status").filter(has_text="Published at position").wait_for()
            kept = await page.evaluate("fetch('api/v1/snapshot/backup.done').then((answer) => answer.text())")
            assert '"bytes":12345678901234567890' in kept.replace(" ", "")
            await dialog.get_by_role("link", name="Show the value").click()
            await page.wait_for_selector("main[data-section=detail]")
