"""A gateway over a connection that lasts, as its users run it: with TrueNAS' recipe, at a server with its manners."""

import contextlib
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from truenas import TrueNas

from tidegate.config.recipes import recipe
from tidegate.errors import ErrorCode
from tidegate.testing import RunningGateway, gateway
from tidegate.testing.following import Follower


class House:
    """An appliance with one app, which can be switched off, and a gateway whose ticks come once an hour."""

    def __init__(self, nas: TrueNas, running: RunningGateway, key_file: Path, power: contextlib.AsyncExitStack) -> None:
        self.nas, self.running, self.key_file, self._power = nas, running, key_file, power

    async def switch_off(self) -> None:
        await self._power.aclose()

    async def switch_on(self) -> None:
        await self._power.enter_async_context(self.nas.serving())


@contextlib.asynccontextmanager
async def polled(folder: Path, *, key: str = "right") -> AsyncIterator[House]:
    nas, file = TrueNas("right"), folder / "key"
    file.write_text(key)
    async with contextlib.AsyncExitStack() as power:
        await power.enter_async_context(nas.serving())
        await nas.change("plex")
        config: dict[str, Any] = tomllib.loads(recipe("truenas"))
        [backend] = config["backends"].values()
        backend |= {"url": nas.url, "secrets": {"key_file": str(file)}}
        for source in config["sources"].values():
            source["interval_s"] = 3600.0
        async with gateway(config) as running:
            yield House(nas, running, file, power)


async def app(events: Follower, state: str, *, stale: bool = False) -> object:
    """Wait until the app has the `state`; return why it is stale."""
    event = await events.next("truenas.app", where=lambda each: each.data["state"] == state and each.stale is stale)
    return event.error_code


async def test_what_the_server_tells_of_is_an_event_at_once(tmp_path: Path) -> None:
    async with polled(tmp_path) as house, house.running.follow("truenas.*") as events:
        await app(events, "RUNNING")
        await house.nas.change("plex", state="STOPPED")
        await app(events, "STOPPED")
        house.nas.expire_sessions()
        await house.nas.change("plex", state="RUNNING")
        await app(events, "RUNNING")


async def test_a_lost_connection_is_told_at_once_and_what_changed_meanwhile_when_it_is_back(tmp_path: Path) -> None:
    async with polled(tmp_path) as house, house.running.follow("truenas.app") as events:
        await app(events, "RUNNING")
        await house.switch_off()
        assert await app(events, "RUNNING", stale=True) == "RPC_DISCONNECT"
        house.nas.apps["plex"]["state"] = "STOPPED"  # and nobody is told
        await house.switch_on()
        await app(events, "STOPPED")
        await house.nas.change("plex", state="RUNNING")
        await app(events, "RUNNING")


async def test_a_refused_key_is_not_tried_again_and_another_one_at_once(tmp_path: Path) -> None:
    async with polled(tmp_path, key="wr0ng-k3y") as house, house.running.follow("truenas.app") as events:
        assert {source.error_code for source in house.running.app.supervisor.sources()} == {ErrorCode.RPC_AUTH}
        assert len(house.nas.logins) <= 3, "one for each source at most"
        house.key_file.write_text("right")
        await app(events, "RUNNING")
