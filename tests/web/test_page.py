"""The page in a real browser with a gateway that is well: what it shows, what it asks for, and whom it serves."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from browser import chromium, needs_browser
from playwright.async_api import Browser
from signing import secret, signed
from visiting import PATIENCE_S, Visitor, visited

from tidegate.core.access.grant import UNRESTRICTED
from tidegate.core.envelope import raw
from tidegate.core.events import Draft
from tidegate.errors import ApplicationError
from tidegate.outbound.auth.jwt import LEEWAY_S
from tidegate.testing import RunningGateway, ScriptedBackend, gateway

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), needs_browser]

GOOD = "t-good-0123456789"
PUBLISHER = "t-publisher-0123456789"
TOKENS = {"mode": "token", "tokens": [{"token": GOOD}, {"token": PUBLISHER, "roles": ["publisher"]}]}
REFUSED_SOCKET = re.compile(r"error: WebSocket connection to '.*' failed")
SECTIONS = {
    "values": "#/values",
    "breakers": "#/breakers",
    "log": "#/log",
    "clients": "#/clients",
    "detail": "#/value/system.status",
}
TALL = {"width": 1280, "height": 2000}
PHONE = {"width": 320, "height": 640}

Json = Mapping[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


def sources(names: Sequence[str], **options: object) -> Json:
    return {name: {"backend": "rack", "method": name, "interval_s": 3600.0, **options} for name in names}


@asynccontextmanager
async def serving(answers: Json, **config: Any) -> AsyncIterator[tuple[RunningGateway, ScriptedBackend]]:
    """A gateway that polls `answers` of one backend, named ``rack``, when it is told to."""
    backend = ScriptedBackend(dict(answers))
    document = {"sources": sources(list(answers)), **config}
    async with gateway(document, backends={"rack": backend} if answers else {}) as running:
        yield running, backend


async def publish_nodes(running: RunningGateway, number: int) -> None:
    drafts = [node(n) for n in range(number)]
    for first in range(0, number, 100):
        await running.app.gateway.publishers.publish(drafts[first : first + 100], UNRESTRICTED)


def node(n: int) -> Draft:
    return Draft(type="rack.node", data=raw({"load": n / 10, "name": f"node {n}"}), key=f"n{n:04}", retain=True)


async def digits(visitor: Visitor, count: str) -> int:
    """A count as it is shown, with whatever stands between the digits."""
    text = await visitor.page.locator(f'[data-count="{count}"] .count').inner_text()
    return int(re.sub(r"\D", "", text))


async def test_one_of_51_sources_that_was_never_answered_is_a_row_and_comes_first(browser: Browser) -> None:
    answers = {f"rack.s{n:02}": {"load": n} for n in range(50)} | {"rack.odd": ApplicationError(-32000, "no disk")}
    async with serving(answers) as (running, _), visited(browser, running.url) as visitor:
        await visitor.sees("rack.odd", state="never")
        await visitor.sees("rack.s00", state="fresh")
        assert (await visitor.states())[0] == "never"
        assert await visitor.row("rack.odd").filter(has_text="RPC_APPLICATION_ERROR").count() == 1
        assert (await digits(visitor, "all"), await digits(visitor, "trouble")) == (51, 1)
        assert await digits(visitor, "fresh") == 50
        await visitor.page.wait_for_selector("#banner:visible:has-text('51')")
        assert "1" in await visitor.page.title()
        await visitor.has_no_barriers()


SCROLL = """async () => {
    const drawn = () => [...document.querySelectorAll('[data-type="rack.node"][data-key]')];
    // A browser that draws nothing for a while must not hold the test up for ever, nor a page that jumps back.
    const frame = () => new Promise((done) => { requestAnimationFrame(done); setTimeout(done, 1000); });
    const scrolls = (it) => it.scrollHeight > it.clientHeight + 1
                            && /auto|scroll/.test(getComputedStyle(it).overflowY);
    let scroller = drawn()[0].parentElement;
    while (scroller && !scrolls(scroller)) scroller = scroller.parentElement;
    scroller ??= document.scrollingElement;
    const seen = new Set();
    const places = [];
    for (let at = -1; at !== scroller.scrollTop; ) {
        if (places.length === 1000) throw new Error(`it never ends: ${places.slice(-9)} of ${scroller.scrollHeight}`);
        at = scroller.scrollTop;
        places.push(at);
        for (const row of drawn()) seen.add(row.dataset.key);
        scroller.scrollTop += 0.8 * Math.min(scroller.clientHeight, innerHeight);
        await frame();
    }
    return [...seen].filter(Boolean).sort();
}"""


async def test_all_of_2000_keys_are_counted_and_reachable(browser: Browser) -> None:
    async with serving({}) as (running, _):
        await publish_nodes(running, 2000)
        async with visited(browser, running.url, record=False, viewport=TALL) as visitor:
            await visitor.is_connected("live")
            group = visitor.page.locator("[data-group='rack.node']")
            await group.wait_for()
            assert (await digits(visitor, "all"), await digits(visitor, "published")) == (2000, 2000)
            await visitor.has_no_barriers()
            await group.locator("button").click()
            await visitor.row("rack.node", "n0000").wait_for()
            assert await visitor.page.evaluate(SCROLL) == [f"n{n:04}" for n in range(2000)]
            await visitor.has_no_barriers()

            await visitor.page.keyboard.press("/")
            await visitor.page.keyboard.type("n1234")
            await visitor.sees("rack.node", "n1234", state="published", value="123.4")
            await visitor.goes("#/value/rack.node/n0815")
            await visitor.page.locator("main[data-section='detail']").filter(has_text="node 815").wait_for()
            await visitor.has_no_barriers()


async def test_a_key_is_reached_with_the_keyboard_alone(browser: Browser) -> None:
    async with serving({}) as (running, _):
        await publish_nodes(running, 60)
        async with visited(browser, running.url) as visitor:
            await visitor.page.locator("[data-group='rack.node']").wait_for()
            press = visitor.page.keyboard.press
            await press("j")
            await press("Enter")
            await visitor.row("rack.node", "n0000").wait_for()
            for _ in range(31):
                await press("j")
            await press("Enter")
            await visitor.page.locator("main[data-section='detail']").filter(has_text="node 30").wait_for()
            await press("Escape")
            await visitor.page.locator("main[data-section='values']").wait_for()


SELECT = """(text) => {
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode() && !walker.currentNode.data.includes(text));
    getSelection().selectAllChildren(walker.currentNode.parentNode);
}"""


async def test_text_that_is_selected_stays_selected_through_ten_events(browser: Browser) -> None:
    answers = {"system.status": {"hostname": "nas-one", "now": "event-0"}}
    async with serving(answers) as (running, backend), visited(browser, running.url) as visitor:
        await visitor.sees("system.status", state="fresh", value="nas-one")
        await visitor.page.evaluate(SELECT, "nas-one")
        assert "nas-one" in await visitor.page.evaluate("String(getSelection())")
        for n in range(1, 11):
            backend.script = {"system.status": {"hostname": "nas-one", "now": f"event-{n}"}}
            await running.poll("rack")
            await visitor.sees("system.status", state="fresh", value=f"event-{n}")
        assert "nas-one" in await visitor.page.evaluate("String(getSelection())")


async def test_a_selected_value_that_is_not_current_any_more_does_not_say_fresh(browser: Browser) -> None:
    async with serving({"plant.word": "one-thing"}) as (running, backend), visited(browser, running.url) as visitor:
        await visitor.sees("plant.word", state="fresh", value="one-thing")
        await visitor.page.evaluate(SELECT, "one-thing")
        backend.script = {"plant.word": "another-thing"}
        await running.poll("rack")
        await visitor.page.wait_for_function(
            """() => {
                const row = document.querySelector('[data-type="plant.word"]');
                const isShown = row.querySelector(".value").textContent.includes("another-thing");
                return isShown || row.dataset.state !== "fresh";
            }"""
        )


async def test_what_others_publish_is_shown_as_text_and_as_it_is(browser: Browser) -> None:
    hostile = "<img src=x onerror='globalThis.isTaken = true'>\u202egnp.exe\u0007"
    async with serving({}) as (running, _):
        await running.publish("site.note", {"text": hostile}, retain=True)
        await running.publish("site.word", hostile, retain=True)
        async with visited(browser, running.url) as visitor:
            for type_ in ("site.note", "site.word"):
                await visitor.sees(type_, state="published", value="<img src=x")
                shown = await visitor.row(type_).locator(".value").inner_text()
                assert "\u202e" not in shown
                assert "\\u202e" in shown.lower()
            await visitor.goes("#/value/site.note")
            await visitor.page.locator("main[data-section='detail']").filter(has_text="<img src=x").wait_for()
            assert "\u202e" not in await visitor.page.locator("main").inner_text()
            assert await visitor.page.locator("main img").count() == 0
            assert not await visitor.page.evaluate("Boolean(globalThis.isTaken)")


async def test_a_phone_shows_values_without_scrolling_sideways(browser: Browser) -> None:
    answers = {
        "system.status": {"hostname": "a-name-that-is-long-and-has-no-space-in-it-at-all.example.internal", "n": 1},
        "a.type-with-a-name.that-is-rather-long.and-goes.on-and.on": {"text": "word " * 40},
        "system.odd": ApplicationError(-32000, "no disk"),
    }
    async with serving(answers) as (running, _), visited(browser, running.url, viewport=PHONE) as visitor:
        await visitor.sees("system.odd", state="never")
        for section, path in SECTIONS.items():
            await visitor.goes(path)
            await visitor.page.locator(f"main[data-section='{section}']").wait_for()
            widths = await visitor.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert widths[0] <= widths[1] == 320, path
            await visitor.has_no_barriers()
        await visitor.goes("#/values")
        assert await visitor.row("system.status").locator(".value").first.is_visible()
        small = await visitor.page.eval_on_selector_all(
            "button, nav a, input, select",
            """(them) => them.filter((it) => it.checkVisibility() && it.getBoundingClientRect().height < 43.5)
                             .map((it) => it.outerHTML)""",
        )
        assert small == []


async def test_nothing_to_show_says_how_to_begin(browser: Browser) -> None:
    async with serving({}) as (running, _), visited(browser, running.url) as visitor:
        await visitor.is_connected("live")
        await visitor.page.locator("main").filter(has_text="[sources.").wait_for()
        assert await visitor.states() == []
        await visitor.has_no_barriers()


async def test_a_page_is_asked_for_a_token_and_told_why_it_is_refused(browser: Browser) -> None:
    served = serving({"system.status": {"n": 1}}, auth=TOKENS)
    async with served as (running, _), visited(browser, running.url) as visitor:
        form = visitor.page.locator("#login")
        await form.filter(has_text="tidegate token create").wait_for()
        await visitor.has_no_barriers()
        for wrong, words in (("nonsense", "token"), (PUBLISHER, "subscriber")):
            await visitor.page.fill("#token", wrong)
            await visitor.page.keyboard.press("Enter")
            await form.locator("[role=alert]").filter(has_text=words).wait_for()
            assert await visitor.states() == []
        await visitor.has_no_barriers()
        await visitor.page.fill("#token", GOOD)
        await visitor.page.keyboard.press("Enter")
        await visitor.sees("system.status", state="fresh")
        assert not await form.is_visible()
        assert GOOD not in visitor.page.url
        await visitor.page.get_by_role("button", name="Sign out").click()
        await form.wait_for()
        assert await visitor.states() == []
        await visitor.stays()  # signing out has loaded the page again


async def test_a_token_that_expires_takes_the_values_along(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s" * 32)
    (tmp_path / "secret").chmod(0o600)
    auth = {"mode": "jwt", "jwt": {"algorithms": ["HS256"], "secret_file": str(tmp_path / "secret")}}
    served = serving({"system.status": {"n": 1}}, auth=auth)
    async with served as (running, _), visited(browser, running.url, says=[REFUSED_SOCKET]) as visitor:
        token = signed({"roles": ["subscriber"], "exp": int(time.time() + 4 - LEEWAY_S)}, secret(), "HS256")
        await visitor.page.fill("#token", token)
        await visitor.page.keyboard.press("Enter")
        await visitor.sees("system.status", state="fresh")
        await visitor.page.wait_for_selector("#login:visible")
        await asyncio.sleep(0.3)
        assert await visitor.claims_fresh(since=time.time() - 0.2, until=time.time()) == set()


ELSEWHERE = """async (url) => {
    const { connect } = await import(`${url}/client.js`);
    let wasTold = false;
    const client = connect(url);
    client.on("*", () => { wasTold = true; });
    await new Promise((done) => client.onStatus(({ attempt }) => { if (attempt >= 2) done(); }));
    return [client.status.reason, wasTold];
}"""


async def test_a_page_of_another_origin_may_have_the_client_and_no_event(browser: Browser) -> None:
    async with serving({"system.status": {"n": 1}}) as (running, _), serving({}) as (elsewhere, _):
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"{elsewhere.url}/healthz")
        async with asyncio.timeout(PATIENCE_S):
            reason, was_told = await page.evaluate(ELSEWHERE, running.url)
        await context.close()
    assert "does not allow pages of" in reason
    assert not was_told
