"""How the page is handled: keys, pause, details, paper, a wall, and a browser or machine that sleeps."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from browser import chromium, needs_browser
from playwright.async_api import Browser
from visiting import PATIENCE_S, Visitor, visited

from tidegate.errors import ApplicationError
from tidegate.testing import RunningGateway, ScriptedBackend, gateway

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), needs_browser]

NAMES = ["line.one", "line.two", "site.odd"]
FOCUSED = "document.activeElement.closest('[data-type]')?.dataset.type ?? document.activeElement.id"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@asynccontextmanager
async def serving() -> AsyncIterator[RunningGateway]:
    """A gateway with two sources that answer and one that never did, and 30 published values of one type."""
    answers = {"line.one": {"cpu_percent": 10}, "line.two": {"n": 1}, "site.odd": ApplicationError(-32000, "no disk")}
    sources = {name: {"backend": "rack", "method": name, "interval_s": 3600.0} for name in NAMES}
    async with gateway({"sources": sources}, backends={"rack": ScriptedBackend(answers)}) as running:
        for n in range(30):
            await running.publish("rack.node", {"n": n}, key=f"n{n:02}", retain=True)
        yield running


@asynccontextmanager
async def looking(browser: Browser, path: str = "") -> AsyncIterator[tuple[RunningGateway, Visitor]]:
    async with serving() as running, visited(browser, running.url, path) as visitor:
        await visitor.is_connected("live")
        yield running, visitor


async def test_keys_do_nothing_in_a_field_and_can_be_turned_off(browser: Browser) -> None:
    async with looking(browser) as (_, visitor):
        await visitor.sees("line.one", state="fresh")
        page = visitor.page
        press = page.keyboard.press
        await press("/")
        await page.keyboard.type("p2line")
        assert await page.input_value("#filter") == "p2line"
        await page.locator(".none").filter(has_text="No value matches “p2line”.").wait_for()
        assert await page.get_attribute(".pause", "aria-pressed") == "false"
        await press("Escape")
        await press("Escape")
        await visitor.sees("line.one", state="fresh")

        await press("?")
        await page.click("#keys input")
        await press("Escape")
        await press("p")
        await press("3")
        assert await page.get_attribute("main", "data-section") == "values"
        assert await page.get_attribute(".pause", "aria-pressed") == "false"


async def test_a_filter_is_in_the_address_and_so_is_only_what_is_not_current(browser: Browser) -> None:
    async with looking(browser, "#/values?filter=line&state=fresh") as (_, visitor):
        await visitor.sees("line.two", state="fresh")
        assert await visitor.row("site.odd").count() == 0
        await visitor.page.keyboard.press("Escape")
        await visitor.page.keyboard.press("f")
        await visitor.sees("site.odd", state="never")
        assert await visitor.row("line.one").count() == 0
        assert visitor.page.url.endswith("#/values?state=trouble")


async def test_who_comes_back_from_the_details_is_at_the_same_row(browser: Browser) -> None:
    async with looking(browser) as (_, visitor):
        await visitor.sees("line.two", state="fresh")
        press = visitor.page.keyboard.press
        await press("j")
        while await visitor.page.evaluate(FOCUSED) != "line.two":
            await press("j")
        await press("Enter")
        await visitor.page.locator("main[data-section='detail']").filter(has_text="line.two").wait_for()
        await press("Escape")
        await visitor.page.wait_for_function(f"() => {FOCUSED} === 'line.two'")


async def test_a_paused_page_neither_changes_nor_says_that_anything_is_fresh(browser: Browser) -> None:
    async with looking(browser) as (running, visitor):
        await visitor.sees("line.one", state="fresh")
        await visitor.page.keyboard.press("p")
        await visitor.sees("line.one", state="unvouched")
        assert set(await visitor.states()) == {"unvouched"}
        assert "Paused by you" in await visitor.page.inner_text("#banner")
        await running.publish("rack.new", {"n": 7}, retain=True)
        await visitor.page.wait_for_function("() => document.title.startsWith('?')")
        assert await visitor.row("rack.new").count() == 0
        await visitor.page.click("#banner .do")
        await visitor.sees("rack.new", state="published")
        await visitor.sees("line.one", state="fresh")


async def test_details_mark_what_has_changed_and_a_publisher_may_forget(browser: Browser) -> None:
    async with looking(browser, "#/value/rack.node/n07") as (running, visitor):
        page = visitor.page
        await page.locator(".json").filter(has_text='"n": 7').wait_for()
        assert await page.locator(".json .changed").count() == 0
        await running.publish("rack.node", {"n": 8}, key="n07", retain=True)
        await page.locator(".json .changed").filter(has_text='"n": 8').wait_for()
        assert await page.locator(".json .changed").count() == 1
        await page.locator(".trend-line .number").filter(has_text="8").wait_for()
        await visitor.has_no_barriers()
        await page.get_by_role("button", name="Forget…").click()
        await visitor.has_no_barriers()
        await page.get_by_role("button", name="Forget", exact=True).click()
        await page.get_by_text("there is no such value").wait_for()


async def test_paper_has_every_row_and_first_of_all_what_is_not_current(browser: Browser) -> None:
    async with looking(browser) as (_, visitor):
        await visitor.sees("line.one", state="fresh")
        assert await visitor.page.locator("[data-type='rack.node']").count() == 0
        await visitor.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        await visitor.page.emulate_media(media="print", color_scheme="dark")
        assert await visitor.page.locator("[data-type='rack.node']:visible").count() == 30
        printed = await visitor.page.inner_text(".print-only")
        assert "Not current: 1 value" in printed
        assert "site.odd: never answered" in printed
        assert not await visitor.page.is_visible("#filter")
        back = "getComputedStyle(document.body).backgroundColor"
        assert await visitor.page.evaluate(back) == "rgb(255, 255, 255)"
        await visitor.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert await visitor.page.locator("[data-type='rack.node']").count() == 0


async def test_a_wall_shows_trouble_and_what_was_chosen_and_nothing_to_click(browser: Browser) -> None:
    async with looking(browser, "?kiosk&types=line.*,rack.none") as (_, visitor):
        await visitor.sees("line.one", state="fresh")
        await visitor.sees("site.odd", state="never")
        assert await visitor.page.locator("[data-group]").count() == 0
        assert await visitor.page.locator("button:visible, nav:visible, input:visible").count() == 0


async def test_a_machine_that_slept_shows_nothing_as_fresh_before_the_gateway_has_answered(browser: Browser) -> None:
    async with looking(browser) as (_, visitor):
        await visitor.sees("line.one", state="fresh")
        # While it sleeps, only the wall clock goes on; and nothing gets through to the gateway afterwards.
        sleep = "WebSocket.prototype.send = () => {}; const now = Date.now; Date.now = () => now() + 60_000;"
        await visitor.page.evaluate(f"{{ {sleep} }}")
        await visitor.sees("line.one", state="unvouched")


async def test_what_the_browser_keeps_of_a_page_that_was_left_says_nothing_is_fresh(browser: Browser) -> None:
    async with looking(browser) as (_, visitor):
        await visitor.sees("line.one", state="fresh")
        states = await visitor.page.evaluate("""() => {
            dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
            return [...document.querySelectorAll("[data-type][data-state]")].map(({ dataset }) => dataset.state);
        }""")
        assert set(states) == {"unvouched"}
        await visitor.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        await visitor.sees("line.one", state="fresh")


async def test_a_page_that_cannot_draw_any_more_shows_no_value_at_all(browser: Browser) -> None:
    async with serving() as running, visited(browser, running.url, says=["error: .*a bug"]) as visitor:
        await visitor.sees("line.one", state="fresh")
        await visitor.page.evaluate("() => { document.getElementsByTagName = () => { throw new Error('a bug'); }; }")
        await visitor.page.get_by_text("This page has a fault").wait_for()
        assert await visitor.page.locator("[data-type]:visible").count() == 0
        await visitor.page.evaluate("() => { delete document.getElementsByTagName; }")
        await visitor.row("line.one").wait_for()


async def test_jobs_and_agents_of_the_reference_engine_have_tables(browser: Browser) -> None:
    job = {
        "state": "running",
        "percent": 40.5,
        "rate_bytes_per_s": 2e6,
        "eta_s": 90,
        "ratio": None,
        "destination": "/a.zst",
    }
    agent = {"state": "idle", "jobs_done": 3, "jobs_failed": 0, "cpu_percent": 1, "memory_bytes": 25_200_000}
    async with looking(browser) as (running, visitor):
        await running.publish("compression.update", job, key="job-1", retain=True)
        await running.publish("agent.status", agent, key="agent-1", retain=True)
        jobs = visitor.page.get_by_role("region", name="Compression jobs, table")
        await jobs.locator("tbody tr").filter(has_text=re.compile("job-1running40 %2.00 MB/s90 s/a.zst")).wait_for()
        agents = visitor.page.get_by_role("region", name="Agents, table").locator("tbody tr")
        await agents.filter(has_text=re.compile("agent-1idle1 %25.2 MB30")).wait_for()
        await running.publish("compression.update", {**job, "percent": 80}, key="job-1", retain=True)
        await jobs.get_by_text("80 %").wait_for()
        await visitor.has_no_barriers()


async def test_an_address_written_by_hand_leads_to_what_it_names(browser: Browser) -> None:
    async with looking(browser) as (running, visitor):
        for key in ("a", "a/b", "100%"):
            await running.publish("site.path", {"is": f"<{key}>"}, key=key, retain=True)
        for key in ("a/b", "100%"):
            await visitor.goes(f"#/value/site.path/{key}")
            await visitor.page.locator(".json").filter(has_text=f"<{key}>").wait_for()
        for nothing in ("constructor", "__proto__", "nothing"):
            await visitor.goes(f"#/{nothing}")
            await visitor.page.locator("main[data-section='values']").wait_for()
            await visitor.goes("#/log")
            await visitor.page.locator("main[data-section='log']").wait_for()


async def test_what_does_not_exist_is_not_given_the_reason_of_something_else(browser: Browser) -> None:
    async with looking(browser, "#/value/site.odd") as (_, visitor):
        await visitor.page.locator(".why").filter(has_text="no disk").wait_for()
        await visitor.goes("#/value/site.nothing")
        await visitor.page.get_by_text("there is no such value").wait_for()
        assert await visitor.page.locator(".why").is_hidden()


async def test_every_section_opens_while_the_gateway_does_not_answer(browser: Browser) -> None:
    loaded = "performance.getEntriesByType('resource').some(({ name }) => name.endsWith('/publish.js'))"
    async with looking(browser) as (_, visitor):
        async with asyncio.timeout(PATIENCE_S):
            while not await visitor.page.evaluate(loaded):
                await asyncio.sleep(0.1)
        await visitor.page.route("**/*.js", lambda route: route.abort())
        for section in ("breakers", "log", "clients"):
            await visitor.page.evaluate("(name) => { location.hash = `#/${name}`; }", section)
            await visitor.page.locator(f"main[data-section='{section}'] section h2").first.wait_for()


async def test_a_field_is_left_out_for_the_key_only_if_it_names_the_same(browser: Browser) -> None:
    async with looking(browser) as (running, visitor):
        await running.publish("site.unit", {"serial": "7", "load": 7}, key="7", retain=True)
        await visitor.sees("site.unit", "7", state="published", value="load")
        assert "serial" not in await visitor.row("site.unit", "7").inner_text()


async def test_a_row_that_is_used_again_says_nothing_of_the_value_before(browser: Browser) -> None:
    trend = "rows => rows.map((row) => row.querySelector('.trend .only-read').textContent)"
    async with looking(browser) as (_, visitor):
        for name, number in (("line.one", "10 %"), ("line.two", "1")):
            await visitor.page.fill("#filter", name)
            await visitor.page.locator(".rows tbody tr").locator("nth=1").wait_for(state="detached")
            (text,) = await visitor.page.eval_on_selector_all(".rows tbody tr.item", trend)
            assert text.startswith(f"{number},")


async def test_how_many_fields_found_no_room_is_seen_at_every_width(browser: Browser) -> None:
    sight = """() => {
        const box = (name) => document.querySelector(name).getBoundingClientRect();
        const [fields, more] = [box(".fields"), box(".fields .more")];
        return more.width > 0 && more.right <= fields.right + 1 && more.bottom <= fields.bottom + 1;
    }"""
    async with looking(browser) as (running, visitor):
        await running.publish("site.many", {f"field_{n}": n for n in range(40)}, retain=True)
        await running.publish("site.wide", {"text": "W" * 500, "n": 1}, retain=True)
        for name in ("site.many", "site.wide"):
            await visitor.page.fill("#filter", name)
            await visitor.sees(name, state="published")
            for width in (1280, 900, 700, 320):
                await visitor.page.set_viewport_size({"width": width, "height": 700})
                await visitor.page.locator(".rows tbody tr").locator("nth=1").wait_for(state="detached")
                async with asyncio.timeout(PATIENCE_S):  # it is measured anew with the next picture
                    while not await visitor.page.evaluate(sight):
                        await asyncio.sleep(0.05)


async def test_details_say_that_not_all_fields_are_listed(browser: Browser) -> None:
    async with looking(browser, "#/value/site.many") as (running, visitor):
        await running.publish("site.many", {f"n{n}": n for n in range(80)}, retain=True)
        await visitor.page.get_by_text("Only the first 60 are listed; the others are in the data.").wait_for()
