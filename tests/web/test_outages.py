"""The page in a real browser, while backend, gateway and network fail: at no moment does a row wrongly say fresh.

What the page claims is recorded inside it (tests/support/page-recorder.js), at each change of its content and at each
frame. The times that a person is promised get as much more as the page's own timers were late.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from browser import chromium, needs_browser
from mortal_gateway import MortalGateway, mortal
from playwright.async_api import Browser
from steered_backend import Mode, SteeredBackend, counting, steered
from visiting import OUTAGE, Visitor, visited

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), needs_browser]

HEARTBEAT_S = 0.8
INTERVAL_S = 0.3
TIMEOUT_S = 0.5
PAINT_S = 0.25
SILENCE_S = 2.5 * HEARTBEAT_S
SLACK_S = 1.0
SOURCES = ("plant.count", "plant.steady")
PUBLISH = """(event) => fetch("/api/v1/events", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(event),
})"""


def document(backend: SteeredBackend) -> dict[str, object]:
    breaker = {"failure_threshold": 2, "open_s": 1.0, "open_max_s": 2.0}
    return {
        "server": {"heartbeat_interval_s": HEARTBEAT_S, "drain_s": 0.0, "state_dir": ""},
        "backends": {"plant": {"url": backend.url, "protocol": "http", "timeout_s": TIMEOUT_S, "breaker": breaker}},
        "sources": {name: {"backend": "plant", "method": f"/{name}", "interval_s": INTERVAL_S} for name in SOURCES},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend() -> AsyncIterator[SteeredBackend]:
    async with steered({"/plant.count": counting(), "/plant.steady": "as always"}) as backend:
        yield backend


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(backend: SteeredBackend) -> AsyncIterator[MortalGateway]:
    async with mortal(document(backend)) as gateway:
        yield gateway


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(browser: Browser, gateway: MortalGateway) -> AsyncIterator[Visitor]:
    """Somebody who sees that all is well."""
    async with visited(browser, gateway.url, says=[OUTAGE]) as visitor:
        await all_is_well(visitor)
        yield visitor


async def all_is_well(visitor: Visitor) -> None:
    await visitor.is_connected("live")
    for name in SOURCES:
        await visitor.sees(name, state="fresh")
    await visitor.page.wait_for_selector("#banner", state="hidden")


async def is_newer(visitor: Visitor, backend: SteeredBackend) -> None:
    """Wait until the row shows an answer that the backend has yet to give."""
    newest = max(it.value for it in backend.given if it.path == "/plant.count")
    await visitor.page.wait_for_function(
        "(newest) => parseInt(document.querySelector('[data-type=\"plant.count\"] .value').textContent) > newest",
        arg=newest,
    )


async def wrongly_fresh(visitor: Visitor, *, since: float) -> set[str]:
    """The rows that said fresh at some moment from `since`, or as much later as the page's timers were late."""
    return await visitor.claims_fresh(since=since + await visitor.lag_s(), until=time.time())


async def all_are_unvouched(visitor: Visitor, *, since: float) -> None:
    """The gateway was silent from `since`, and still is: wait, and check that it was told in time in word and state."""
    await visitor.page.wait_for_selector("#banner:visible")
    await asyncio.sleep(max(0.0, since + SILENCE_S + SLACK_S + 1.0 - time.time()))
    assert await wrongly_fresh(visitor, since=since + SILENCE_S + SLACK_S) == set()
    assert (await visitor.moments())[-1].current == 0
    assert set(await visitor.states()) == {"unvouched"}
    words = await visitor.page.locator("[data-type] .state").all_inner_texts()
    assert words
    assert not any(text.strip().startswith("fresh") for text in words)


async def test_it_loads_and_its_values_change(visitor: Visitor, backend: SteeredBackend) -> None:
    assert sorted(await visitor.states()) == ["fresh", "fresh"]
    await is_newer(visitor, backend)
    await visitor.has_no_barriers()


async def is_told_of(code: str, visitor: Visitor, backend: SteeredBackend, *, since: float) -> None:
    """The engine is away `since` then: wait for the rows and the banner, and check that they came in time."""
    for name in SOURCES:
        await visitor.sees(name, state="stale")
    row = visitor.page.locator('[data-type="plant.count"]')
    await row.filter(has_text="CIRCUIT_BREAKER_OPEN").filter(has_text=code).wait_for()
    banner = visitor.page.locator("#banner:visible")
    await banner.filter(has_text="plant").filter(has_text=re.compile(r"\d")).wait_for()
    assert await wrongly_fresh(visitor, since=since + INTERVAL_S + TIMEOUT_S + PAINT_S + SLACK_S) == set()
    assert "unvouched" not in await visitor.states()


@pytest.mark.parametrize(("mode", "code"), [("hangs", "RPC_TIMEOUT"), ("fails", "RPC_HTTP_STATUS")])
async def test_an_engine_that_stops_is_told_with_its_reason_and_when_it_is_asked_again(
    mode: Mode, code: str, visitor: Visitor, backend: SteeredBackend
) -> None:
    stopped = time.time()
    backend.steer(mode)
    await is_told_of(code, visitor, backend, since=stopped)
    await visitor.has_no_barriers()
    backend.steer("answers")
    await all_is_well(visitor)
    await is_newer(visitor, backend)


async def test_an_engine_that_is_killed_and_comes_back(visitor: Visitor, backend: SteeredBackend) -> None:
    stopped = time.time()
    await backend.refuse()
    await is_told_of("RPC_DISCONNECT", visitor, backend, since=stopped)
    await backend.listen()
    await all_is_well(visitor)
    await is_newer(visitor, backend)


async def test_while_the_gateway_is_frozen_not_one_row_says_fresh(
    visitor: Visitor, gateway: MortalGateway, backend: SteeredBackend
) -> None:
    await visitor.goes("#/breakers")
    breaker = visitor.page.locator("[data-breaker=plant]")
    await breaker.and_(visitor.page.locator("[data-state=closed]")).wait_for()
    await visitor.goes("#/values")
    frozen = time.time()
    gateway.freeze()
    try:
        await all_are_unvouched(visitor, since=frozen)
        await visitor.has_no_barriers()
        await visitor.goes("#/breakers")
        await breaker.and_(visitor.page.locator("[data-state=unvouched]")).wait_for()
        await visitor.has_no_barriers()
        await visitor.goes("#/values")
    finally:
        gateway.thaw()
    await all_is_well(visitor)
    await is_newer(visitor, backend)


async def test_a_gateway_that_is_killed_and_started_again_is_found_without_a_reload(
    visitor: Visitor, gateway: MortalGateway, backend: SteeredBackend
) -> None:
    await visitor.page.evaluate(PUBLISH, {"type": "site.note", "data": 1, "retain": True})
    await visitor.sees("site.note", state="published")
    killed = time.time()
    gateway.kill()
    await all_are_unvouched(visitor, since=killed)
    await visitor.has_no_barriers()
    await gateway.start()
    await visitor.page.locator("#banner").get_by_role("button", name="Now").click()
    await all_is_well(visitor)
    await is_newer(visitor, backend)
    await visitor.page.wait_for_selector("#notices:has-text('1 value of before is gone: site.note')")


async def test_a_browser_that_goes_offline_and_online_again(
    visitor: Visitor, gateway: MortalGateway, backend: SteeredBackend
) -> None:
    await visitor.page.context.set_offline(True)
    frozen = time.time()
    gateway.freeze()
    try:
        await all_are_unvouched(visitor, since=frozen)
    finally:
        gateway.thaw()
    await visitor.page.context.set_offline(False)
    await all_is_well(visitor)
    await is_newer(visitor, backend)


async def test_a_tab_in_the_background_claims_nothing_old_when_it_comes_back(
    visitor: Visitor, gateway: MortalGateway, backend: SteeredBackend
) -> None:
    await visitor.hides()
    gateway.freeze()
    try:
        await asyncio.sleep(SILENCE_S + 0.5)
        await visitor.comes_back()
        back = time.time()
        await asyncio.sleep(1.0)
        assert await visitor.claims_fresh(since=back + 2 * PAINT_S, until=time.time()) == set()
    finally:
        gateway.thaw()
    await all_is_well(visitor)
    await is_newer(visitor, backend)
