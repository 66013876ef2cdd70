"""What runs, in which order it starts, whether it is ready, and how it ends.

Start: saved values are published as stale, then the pollers ask for fresh ones. End: the gateway drains, then what
runs is cancelled; whoever made the parts closes them. A part that fails is logged and started again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
import structlog

from tidegate.core.breaker import BreakerView
from tidegate.core.events import Draft
from tidegate.errors import UnknownName
from tidegate.ports import SavedValue, Store
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.poller import BackendPoller, SourceView

RESTART_S = 1.0
"""How long a part that failed rests before it is started again."""

COMMANDS = ("force-open", "force-closed", "reset")

log = structlog.get_logger("tidegate.supervisor")


ReadinessStatus = Literal["ready", "degraded", "starting", "draining"]


class Readiness(msgspec.Struct, frozen=True):
    """How far the gateway is, and `stale`, how many sources are stale."""

    status: ReadinessStatus
    stale: int


class Supervisor:
    """The running whole. `services` are coroutines that run until cancelled, by name."""

    def __init__(
        self,
        gateway: Gateway,
        pollers: Sequence[BackendPoller],
        *,
        store: Store | None,
        services: dict[str, Callable[[], Awaitable[None]]],
    ) -> None:
        self._gateway = gateway
        self._pollers = {poller.name: poller for poller in pollers}
        self._store = store
        self._services = {
            "gateway": gateway.run,
            **{f"poller {poller.name}": poller.run for poller in pollers},
            **services,
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything runs while the context is open. On leaving, what runs is cancelled."""
        saved = await self._saved()
        for poller in self._pollers.values():
            await poller.restore(saved)
        self._gateway.on_interest = self._interest_changed
        self._gateway.on_clock_set = self._clock_set
        self._gateway.retained.restated = self._restated
        tasks = [asyncio.create_task(_keep_running(name, run), name=name) for name, run in self._services.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def readiness(self) -> Readiness:
        """Whether the gateway is ready: a dead backend makes it degraded, not unready."""
        stale = sum(source.stale for source in self.sources())
        if self._gateway.draining:
            return Readiness("draining", stale)
        if not all(poller.settled for poller in self._pollers.values()):
            return Readiness("starting", stale)
        return Readiness("degraded" if stale else "ready", stale)

    def sources(self) -> list[SourceView]:
        """Every source, in the order of the configuration's backends."""
        return [source for poller in self._pollers.values() for source in poller.sources()]

    def breakers(self) -> list[BreakerView]:
        """Every breaker."""
        return [breaker for poller in self._pollers.values() for breaker in poller.breakers()]

    def breaker(self, name: str) -> BreakerView:
        """One of them. Raises `UnknownName`."""
        for view in self.breakers():
            if view.name == name:
                return view
        known = ", ".join(sorted(view.name for view in self.breakers()))
        raise UnknownName(f"expected the name of a breaker ({known}), got {name!r}")

    async def command(self, name: str, action: str, *, by: str) -> BreakerView:
        """Carry out an operator's command, one of `COMMANDS`, on a breaker; `by` is who asked, for the audit log.

        Raises `UnknownName`.
        """
        self.breaker(name)
        if action not in COMMANDS:
            raise UnknownName(f"expected one of {', '.join(COMMANDS)}, got {action!r}")
        log.warning("operator command", breaker=name, action=action, by=by)
        view = await self._pollers[name.partition("/")[0]].command(name, action)
        log.info("operator command done", breaker=name, action=action, by=by, state=view.state.value)
        return view

    async def poll(self, backend: str) -> None:
        """Something changed at `backend`: its sources are polled now. Raises `UnknownName`."""
        if backend not in self._pollers:
            raise UnknownName(f"expected the name of a backend ({', '.join(sorted(self._pollers))}), got {backend!r}")
        self._pollers[backend].poll_now()

    def _interest_changed(self) -> None:
        for poller in self._pollers.values():
            poller.interest_changed()

    def _clock_set(self) -> None:
        for poller in self._pollers.values():
            poller.clock_set()

    def _restated(self, draft: Draft) -> Draft:
        return next((said for poller in self._pollers.values() if (said := poller.restated(draft))), draft)

    async def _saved(self) -> dict[str, dict[str, SavedValue]]:
        saved: dict[str, dict[str, SavedValue]] = {}
        for value in await self._store.load() if self._store is not None else ():
            saved.setdefault(value.type, {})[value.key] = value
        return saved


async def _keep_running(name: str, run: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await run()
        except Exception:
            log.exception("a part failed and is started again", part=name, after_s=RESTART_S)
        await asyncio.sleep(RESTART_S)
