"""The page in Debian's Firefox: live, changing, cut off while the gateway is frozen, and back after a restart."""

import asyncio
import re
import time

import pytest
from firefox import firefox, needs_firefox
from mortal_gateway import mortal
from steered_backend import counting, steered

pytestmark = [pytest.mark.real, needs_firefox]

HEARTBEAT_S = 0.8
SILENCE_S = 2.5 * HEARTBEAT_S + 1.0

STATES = "[...document.querySelectorAll('[data-type][data-state]')].map((row) => row.dataset.state)"
CONNECTION = "document.getElementById('connection')?.dataset.state"
FRESH = f"{CONNECTION} === 'live' && {STATES}.join() === 'fresh'"
NUMBER = "parseInt(document.querySelector('[data-type] .value').textContent)"
NETWORK = re.compile(r".*(can.t establish a connection|was interrupted while|NetworkError|NS_ERROR)", re.IGNORECASE)


async def test_the_page_in_firefox() -> None:
    async with steered({"/count": counting()}) as backend:
        document = {
            "server": {"heartbeat_interval_s": HEARTBEAT_S},
            "backends": {"plant": {"url": backend.url, "protocol": "http"}},
            "sources": {"plant.count": {"backend": "plant", "method": "/count", "interval_s": 0.3}},
        }
        async with mortal(document) as gateway, firefox(gateway.url) as page:
            await page.until(FRESH)
            await page.evaluate("globalThis.isTheSame = true")
            await page.until(f"{NUMBER} > {backend.given[-1].value}")

            frozen = time.monotonic()
            gateway.freeze()
            await page.until(f"!{STATES}.includes('fresh')")
            assert time.monotonic() - frozen < 10 * SILENCE_S, "a browser notices after a minute"
            assert await page.evaluate(STATES) == ["unvouched"]
            gateway.thaw()
            await page.until(FRESH)

            gateway.kill()
            await page.until(f"{CONNECTION} === 'waiting' && {STATES}.join() === 'unvouched'")
            await asyncio.sleep(1.0)  # Firefox closes some things for good at the first refused reconnect
            await gateway.start()
            await page.until(FRESH)
            await page.until(f"{NUMBER} > {backend.given[-1].value}")
            assert await page.evaluate("globalThis.isTheSame")
    assert [line for line in page.said if not NETWORK.match(line)] == []
