"""What the page costs a browser: 1,000 events a second over 2,000 keys, for `BUDGET_S` seconds.

The time that its main thread has worked is compared, not the clock on the wall, so that a busy machine does not matter.
"""

import asyncio
import contextlib
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import pytest
from browser import chromium, needs_browser
from playwright.async_api import CDPSession, Page
from visiting import Visitor, visited

from tidegate.core.access.grant import UNRESTRICTED
from tidegate.core.envelope import raw
from tidegate.core.events import Draft
from tidegate.testing import RunningGateway, gateway

pytestmark = [pytest.mark.real, needs_browser]

SECONDS = float(os.environ.get("BUDGET_S", "5"))
TRACED_S = 2.0
KEYS = 2000
EVENTS_PER_S = 1000
BATCHES_PER_S = 20
SAMPLE_EVERY_S = 30.0

MOST_OF_A_CORE = 0.25
LONGEST_TASK_S = 0.1
MOST_HEAP_BYTES = 40e6
MOST_HEAP_GROWTH_BYTES_PER_MIN = 1e6
MOST_NODES = 3000
GROWTH_FROM_S = 300.0
"""The shortest run in which the growth of the heap means anything: what the page keeps is filling until then."""

COUNT_NODES = """() => {
    const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
    let nodes = 1;
    while (walker.nextNode()) nodes += 1;
    return nodes;
}"""


@dataclass(frozen=True)
class Cost:
    """`main_thread` is the share of a core, `heaps` the bytes after collections, as (seconds, bytes)."""

    seconds: float
    events: int
    main_thread: float
    longest_task_s: float
    nodes: int
    heaps: Sequence[tuple[float, float]]

    @property
    def growth_bytes_per_min(self) -> float:
        settled = [it for it in self.heaps if it[0] >= self.seconds / 3]
        return 60 * statistics.linear_regression(*zip(*settled, strict=True)).slope


class Publisher:
    """Publishes `EVENTS_PER_S`, to one key after the other. `events` is how many so far."""

    def __init__(self, running: RunningGateway) -> None:
        self._publish = running.app.gateway.publishers.publish
        self.events = 0

    async def once_each(self) -> None:
        for _ in range(KEYS // 100):
            await self._batch(100)

    async def forever(self) -> None:
        began, size = time.monotonic(), EVENTS_PER_S // BATCHES_PER_S
        for batch in range(10**9):
            await asyncio.sleep(began + batch / BATCHES_PER_S - time.monotonic())
            await self._batch(size)

    async def _batch(self, size: int) -> None:
        numbers = range(self.events, self.events + size)
        self.events += size
        await self._publish([self._draft(n) for n in numbers], UNRESTRICTED)

    @staticmethod
    def _draft(n: int) -> Draft:
        data = {"load": n % 97 / 10, "temperature_c": 20 + n % 13, "name": f"node {n % KEYS}", "uptime_s": n}
        return Draft(type="rack.node", data=raw(data), key=f"n{n % KEYS:04}", retain=True)


@asynccontextmanager
async def busy_page() -> AsyncIterator[tuple[Visitor, Publisher]]:
    """The page with 2,000 keys in one group, which is open, while events come."""
    async with gateway({}) as running, chromium() as browser:
        publisher = Publisher(running)
        await publisher.once_each()
        async with visited(browser, running.url, record=False) as visitor:
            await visitor.page.locator("[data-group='rack.node'] button").click()
            await visitor.row("rack.node", "n0000").wait_for()
            publishing = asyncio.create_task(publisher.forever())
            try:
                await asyncio.sleep(1.0)
                yield visitor, publisher
            finally:
                publishing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await publishing


async def metrics(cdp: CDPSession) -> dict[str, float]:
    return {it["name"]: it["value"] for it in (await cdp.send("Performance.getMetrics"))["metrics"]}


async def heap(cdp: CDPSession) -> float:
    await cdp.send("HeapProfiler.collectGarbage")
    return (await metrics(cdp))["JSHeapUsedSize"]


async def longest_task_s(page: Page) -> float:
    """The time that the main thread worked at one piece at most, within `TRACED_S`."""
    browser = page.context.browser
    assert browser is not None
    await browser.start_tracing(page=page, categories=["toplevel", "disabled-by-default-devtools.timeline"])
    await asyncio.sleep(TRACED_S)
    events = json.loads(await browser.stop_tracing())["traceEvents"]
    mains = {(it["pid"], it["tid"]) for it in events if it.get("args", {}).get("name") == "CrRendererMain"}
    worked = [
        it["tdur"] for it in events if it["name"] == "RunTask" and (it["pid"], it["tid"]) in mains and "tdur" in it
    ]
    assert worked, "the trace has no task of the main thread"
    return float(max(worked)) / 1e6


async def cost_of(visitor: Visitor, publisher: Publisher) -> Cost:
    """Measure for `SECONDS`."""
    cdp = await visitor.page.context.new_cdp_session(visitor.page)
    await cdp.send("Performance.enable")
    heaps = [(0.0, await heap(cdp))]
    began, before, events = time.monotonic(), await metrics(cdp), publisher.events
    while (left_s := began + SECONDS - time.monotonic()) > 0:
        await asyncio.sleep(min(left_s, SAMPLE_EVERY_S))
        now, seconds = await metrics(cdp), time.monotonic() - began
        heaps.append((seconds, await heap(cdp)))
    return Cost(
        seconds=round(seconds, 1),
        events=publisher.events - events,
        main_thread=round((now["ThreadTime"] - before["ThreadTime"]) / seconds, 3),
        longest_task_s=round(await longest_task_s(visitor.page), 3),
        nodes=await visitor.page.evaluate(COUNT_NODES),
        heaps=heaps,
    )


async def test_a_thousand_events_a_second_over_2000_keys_leave_the_browser_its_time() -> None:
    async with busy_page() as (visitor, publisher):
        cost = await cost_of(visitor, publisher)
    print(json.dumps(asdict(cost)))
    assert cost.events > 0.8 * EVENTS_PER_S * cost.seconds, "the machine is too busy to publish that much"
    assert cost.main_thread < MOST_OF_A_CORE
    assert cost.longest_task_s < LONGEST_TASK_S
    assert cost.nodes < MOST_NODES
    assert cost.heaps[-1][1] < MOST_HEAP_BYTES
    if cost.seconds >= GROWTH_FROM_S:
        assert cost.growth_bytes_per_min < MOST_HEAP_GROWTH_BYTES_PER_MIN
