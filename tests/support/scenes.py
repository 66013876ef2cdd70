"""The states of the page of which there are pictures. `SCENES` plays each on a `scene.Scene` that is not opened yet."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from playwright.async_api import Route, WebSocketRoute
from scene import Scene

from tidegate.errors import ApplicationError, Disconnected
from tidegate.ports import Call
from tidegate.testing import ScriptedBackend

Json = Mapping[str, Any]
Play = Callable[[Scene], Awaitable[None]]

TOKEN = "a-token-of-the-pictures"
PLANT = {"plant.pressure": 1.7, "plant.flow": {"flow_l_per_min": 38.2, "valve": "open"}}
WEATHER = {"weather.now": {"temperature_c": -3.5, "humidity_percent": 81, "text": "light snow"}}
POOLS = [
    {"name": "tank", "state": "online", "used_bytes": 7_421_703_487_488, "size_bytes": 11_997_000_000_000},
    {"name": "backup", "state": "online", "used_bytes": 1_870_000_000_000, "size_bytes": 3_998_000_000_000},
]


class Nas:
    """Answers that move as those of a machine do."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, call: Call) -> object:
        self.asked += 1
        wave = math.sin(self.asked / 5) + 0.4 * math.sin(self.asked * 1.7)
        return {
            "system.status": {
                "hostname": "nas-1",
                "cpu_percent": round(31 + 18 * wave, 1),
                "memory_used_bytes": 6_871_947_674 + round(4e8 * wave),
                "uptime_s": 1_213_207 + self.asked,
                "load": [0.42, 0.37, 0.31],
            },
            "storage.pool": {"pools": POOLS},
            "network.rates": {"received_bytes_per_s": 1_284_000 + round(6e5 * wave), "errors": 0},
        }[call.method]


def backends() -> dict[str, ScriptedBackend]:
    """What the gateway of a scene may ask, all well."""
    return {"nas": ScriptedBackend(Nas()), "plant": ScriptedBackend(PLANT), "weather": ScriptedBackend(WEATHER)}


def document(**tables: Any) -> dict[str, Any]:
    """The configuration of most scenes; `tables` replace its own."""
    breaker = {"failure_threshold": 3, "open_s": 60.0, "open_max_s": 120.0}
    source = {"interval_s": 5.0}
    sources = {name: {"backend": name.split(".")[0], "method": name, **source} for name in (*PLANT, *WEATHER)}
    sources |= {name: {"backend": "nas", "method": name, **source} for name in ("system.status", "network.rates")}
    pool = {"backend": "nas", "method": "storage.pool", "items": "/pools", "key": "name", "on_change": True, **source}
    return {
        "backends": {
            name: {"url": f"http://{name}.invalid", "breaker": breaker} for name in ("nas", "plant", "weather")
        },
        "sources": {**sources, "storage.pool": pool},
        **tables,
    }


async def all_well(it: Scene) -> None:
    """Everything is current, with ten minutes of history."""
    await it.starts(document())
    await it.publishes("build.result", {"state": "passed", "duration_s": 412}, "main")
    await it.publishes("door.front", "closed")
    await it.opens()
    await it.sees('[data-type="weather.now"][data-state="fresh"]')
    await it.passes(200, step_s=5)
    await it.passes(2.25)  # so that no age is about to change


async def first_load(it: Scene) -> None:
    async def holds(route: Route) -> None:
        await asyncio.sleep(3600)

    await it.starts(document())
    await it.page.route("**/api/v1/session", holds)
    await it.opens()
    await it.passes_for_the_page(1)


async def token_needed(it: Scene) -> None:
    await it.starts(document(auth={"mode": "token", "tokens": [{"token": TOKEN}]}))
    await it.opens()
    await it.sees("#login")
    await it.page.fill("#token", "another one")
    await it.page.keyboard.press("Enter")
    await it.sees("#refusal:not(:empty)")


async def some_stale(it: Scene) -> None:
    await all_well(it)
    it.backends["weather"].fail(Disconnected("the cable is out"))
    await it.polls("weather")
    await it.sees('[data-type="weather.now"][data-state="stale"]')
    await it.passes(1)


async def breaker_open(it: Scene) -> None:
    await all_well(it)
    it.backends["plant"].fail(Disconnected("the cable is out"))
    await it.polls("plant")
    await it.passes(30, step_s=5)
    await it.sees('[data-type="plant.flow"]:has-text("CIRCUIT_BREAKER_OPEN")')
    await it.passes(2)


async def half_open(it: Scene) -> None:
    await breaker_open(it)
    it.backends["plant"].hang()
    await it.polls("plant")
    await it.sees('#banner:has-text("being tried")')


async def forced(it: Scene) -> None:
    await all_well(it)
    await it.app.supervisor.command("plant", "force-open", by="operator")
    await it.passes(10, step_s=5)
    await it.sees('[data-type="plant.flow"][data-state="stale"]')
    await it.passes(2)


async def never_answered(it: Scene) -> None:
    it.backends["plant"].script = {**PLANT, "plant.flow": ApplicationError(-32000, "no such meter")}
    await all_well(it)


async def expired(it: Scene) -> None:
    tables = document()
    tables["sources"]["plant.flow"]["max_stale_s"] = 20.0
    await it.starts(tables)
    await it.opens()
    await it.sees('[data-type="plant.flow"][data-state="fresh"]')
    it.backends["plant"].fail(Disconnected("the cable is out"))
    await it.passes(40, step_s=5)
    await it.sees('[data-type="plant.flow"][data-state="expired"]')
    await it.passes(2)


async def restored(it: Scene) -> None:
    await it.starts(document())
    await it.passes(2)
    await it.ends()
    it.backends |= backends()
    for name in ("plant", "weather"):
        it.backends[name].hang()
    await it.starts(document())
    await it.opens()
    await it.sees('[data-type="plant.flow"]:has-text("RESTORED")')


async def silent(it: Scene) -> None:
    is_frozen = False

    async def passes(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        server.on_message(lambda message: None if is_frozen else route.send(message))

    await it.page.route_web_socket("**/ws?*", passes)
    await all_well(it)
    is_frozen = True
    await it.passes_for_the_page(32)
    await it.sees('#connection[data-state="quiet"]')


async def cut_off(it: Scene) -> None:
    await all_well(it)
    await it.ends()
    await it.sees('#connection[data-state="waiting"]')
    await it.passes_for_the_page(12)


async def offline(it: Scene) -> None:
    await all_well(it)
    await it.page.context.set_offline(True)
    await it.passes_for_the_page(12)
    await it.sees('#connection[data-state="offline"]')


async def restarted(it: Scene) -> None:
    await all_well(it)
    await it.ends()
    await it.sees('#connection[data-state="waiting"]')
    it.backends |= backends()
    await it.starts(document())
    await it.passes(8)
    await it.sees("#notices:has-text('restarted')")
    await it.passes(2)


async def draining(it: Scene) -> None:
    await it.starts(document(server={"drain_s": 8.0}))
    await it.opens()
    await it.sees('[data-type="weather.now"][data-state="fresh"]')
    draining = asyncio.create_task(it.app.drain())
    await it.sees('#connection[data-state="waiting"]')
    await it.passes_for_the_page(2.5)
    await it.sees("#banner:has-text('restarting')")
    draining.cancel()


async def too_slow(it: Scene) -> None:
    skipped = {"system.status": 12, "network.rates": 11}
    gap = {"reason": "slow_consumer", "requested": None, "skipped": skipped}
    sockets: list[WebSocketRoute] = []

    async def passes(route: WebSocketRoute) -> None:
        route.connect_to_server()
        sockets.append(route)

    await it.page.route_web_socket("**/ws?*", passes)
    await all_well(it)
    message = {"type": "gap", "timestamp": "2026-11-29T06:15:21.000Z", "data": gap}
    sockets[-1].send(msgspec.json.encode(message).decode())
    await it.sees("#notices:has-text('12 of system.status')")


async def nothing_yet(it: Scene) -> None:
    await it.starts({})
    await it.opens()
    await it.sees("main:has-text('Nothing is polled yet')")


async def many_keys(it: Scene) -> None:
    await it.starts(document())
    for n in range(2000):
        await it.publishes("rack.node", {"load": n % 90 / 10, "temperature_c": 20 + n % 7}, f"n{n:04}")
    await it.opens()
    await it.sees("[data-group='rack.node']")
    await it.passes(10, step_s=5)
    await it.page.locator("[data-group='rack.node'] button").click()
    await it.sees('[data-type="rack.node"]')


async def detail(it: Scene) -> None:
    await all_well(it)
    await it.opens("#/value/system.status")
    await it.sees("main[data-section=detail]")
    await it.passes(10, step_s=5)


async def breakers(it: Scene) -> None:
    await breaker_open(it)
    await it.opens("#/breakers")
    await it.sees('[data-breaker="plant"]')
    await it.passes(10, step_s=5)


async def log(it: Scene) -> None:
    await it.starts(document())
    await it.opens("#/log")
    await it.sees("main[data-section=log]")
    await it.passes(60, step_s=5)


async def clients(it: Scene) -> None:
    await it.starts(document())
    await it.opens("#/clients")
    await it.sees("main[data-section=clients]")
    await it.passes(10, step_s=5)


PLAYS: tuple[Play, ...] = (
    *(first_load, token_needed, all_well, some_stale, breaker_open, half_open, forced, never_answered, expired),
    *(restored, silent, cut_off, offline, restarted, draining, too_slow, nothing_yet, many_keys),
    *(detail, breakers, log, clients),
)
SCENES: Mapping[str, Play] = {play.__name__.replace("_", "-"): play for play in PLAYS}
