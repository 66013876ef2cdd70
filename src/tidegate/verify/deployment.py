"""The deployment under test: a gateway, a backend behind the fault proxy, and what is known of their settings.

`local_deployment` starts all of them, with short intervals. `remote_deployment` connects to a running gateway and finds
out what it can.
"""

import asyncio
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from tidegate.verify.bounds import Rules
from tidegate.verify.endpoints import POLL_S, GatewayApi, GatewayStatus, ProxyApi
from tidegate.verify.faultproxy import Fault, FaultProxy, control_server
from tidegate.verify.frames import read_error, seconds
from tidegate.verify.observer import NotSeen, StreamEnded, observing
from tidegate.verify.obstacles import CouldNotTest
from tidegate.verify.programs import Program, running_program
from tidegate.verify.settings import LOCAL, Settings, configuration

GATEWAY: Final = (sys.executable, "-P", "-m", "tidegate", "serve")
ENGINE: Final = (
    *(sys.executable, "-P", "-m", "tidegate.engine", "--port", "0", "--stop-with-parent"),
    *("--state-dir", "", "--agents", "0"),
)

ENGINE_READY = re.compile(r"engine listening on (http://[^/\s\"]+)")
GATEWAY_READY = re.compile(r'^(?=.*"event": ?"listening").*"url": ?"(http://[^"]+)"')

READY_S: Final = 30.0
"""How long a deployment that has just been started may take to complete its first polls."""

SLACK_S: Final = 2.0
"""Tolerance for events that come later than promised, since the machine may be busy."""

HINT_EVERY_S: Final = 1.0
"""How often to ask for a poll of what is stale. A source that is being asked when a hint comes is not asked anew."""


class Deployment:
    """A gateway and the fault proxy in front of one of its backends.

    `backend` is the name of that backend and of its breaker. `sources` are the event types that it feeds, `interval_s`
    is the longest of their intervals. `rules` are those of its breaker, which are public; `settings` are None if the
    others are unknown. `patience_s` is the timeout for expected events, long enough for a busy machine.
    """

    def __init__(
        self,
        *,
        gateway: GatewayApi,
        proxy: ProxyApi,
        backend: str,
        status: GatewayStatus,
        token: str | None = None,
        settings: Settings | None = None,
        programs: "LocalPrograms | None" = None,
    ) -> None:
        own_breaker = {breaker.name.partition("/")[2] for breaker in status.breakers}
        sources = [s for s in status.sources if s.backend == backend and s.type not in own_breaker]
        if not sources:
            raise CouldNotTest(f"expected sources that share the breaker of {backend!r}, found none")
        self.gateway = gateway
        self.proxy = proxy
        self.backend = backend
        self.token = token
        self.sources = tuple(source.type for source in sources)
        breaker = next(breaker for breaker in status.breakers if breaker.name == backend)
        self.rules = Rules(
            open_max_s=breaker.open_max_s,
            timeout_s=max(source.timeout_s for source in sources),
            half_open_successes=breaker.half_open_successes,
        )
        self.interval_s = max(source.interval_s for source in sources)
        self.settings = settings
        self.programs = programs
        # The sources of a gateway of our own that are polled seldom are asked when we say so.
        waited_s = self.interval_s if settings is None else min(settings.intervals_s.values())
        self.patience_s = 10.0 + 8 * waited_s

    @property
    def is_local(self) -> bool:
        """Whether this process started the programs."""
        return self.programs is not None

    async def recover(self) -> None:
        """Switch off all faults and wait until everything is fresh.

        If the token allows it, an open breaker is reset, to skip the back-off that earlier faults have caused, and a
        hint is sent now and then, to skip the wait for the next poll.

        Raises `CouldNotTest` if the sources do not become fresh, or if an admin has forced the breaker open or closed.
        """
        await self.heal()
        breaker = await self.gateway.breaker(self.backend)
        if breaker.forced:
            raise CouldNotTest(f"the breaker {breaker.name} is forced {breaker.state}: reset it first")
        if breaker.state != "closed" or breaker.open_count > 0:
            await self.gateway.reset(self.backend)
        await self.gateway.poll(self.backend)
        problem = await self._trouble()
        hinted_at = time.monotonic()
        deadline = hinted_at + self.patience_s + await self._open_for_s()
        while problem is not None:
            if time.monotonic() > deadline:
                raise CouldNotTest(f"with a healthy backend the gateway does not become fresh: {problem}")
            if time.monotonic() > hinted_at + HINT_EVERY_S:
                await self.gateway.poll(self.backend)
                hinted_at = time.monotonic()
            await asyncio.sleep(POLL_S)
            problem = await self._trouble()

    async def recover_fully(self) -> None:
        """Like `recover`, and then wait until the next failure of a source is the first one of an episode.

        Its episodes of errors are over when it was well for `rpc_error_interval_s`. Nothing is waited for if that is
        unknown.
        """
        await self.recover()
        if self.settings is not None:
            await asyncio.sleep(self.settings.rpc_error_interval_s)

    async def heal(self) -> None:
        """Switch off all faults and release all held answers. Raises `CouldNotTest`."""
        await self.proxy.clear()
        await self.proxy.release()

    async def death(self) -> str | None:
        """Return which participant has died, and how; None if all are running."""
        try:
            for program in self.programs.running if self.programs else ():
                if program.death:
                    return program.death
            await self.gateway.check_health()
            await self.proxy.state()
        except CouldNotTest as error:
            return str(error)
        return None

    async def restart_gateway(self) -> None:
        """Kill the gateway with SIGKILL and start it again. Only for a local deployment. Raises `CouldNotTest`."""
        assert self.programs is not None
        self.gateway.url = (await self.programs.restart_gateway()).url

    async def _trouble(self) -> str | None:
        status = await self.gateway.status()
        for breaker in status.breakers:
            if breaker.name == self.backend and breaker.state != "closed":
                return f"the breaker {breaker.name} is {breaker.state}"
        for source in status.sources:
            if source.type in self.sources and source.stale:
                return f"{source.type} is stale ({source.error_code})"
        return None

    async def _open_for_s(self) -> float:
        retry_at = (await self.gateway.breaker(self.backend)).retry_at
        return 0.0 if retry_at is None else max(0.0, seconds(retry_at) - time.time())


class LocalPrograms:
    """The processes of a local deployment. `running` are those that should be running."""

    def __init__(self, stack: AsyncExitStack, engine: Program, gateway_command: Sequence[str], *, config: Path) -> None:
        self.engine = engine
        self.gateway: Program
        self.gateway_command = gateway_command
        self._config = config
        self._stack = stack

    @property
    def running(self) -> tuple[Program, Program]:
        return self.engine, self.gateway

    async def start_gateway(self) -> Program:
        self.gateway = await self._stack.enter_async_context(
            running_program("gateway", (*self.gateway_command, "--config", str(self._config)), ready=GATEWAY_READY)
        )
        return self.gateway

    async def restart_gateway(self) -> Program:
        await self.gateway.kill()
        return await self.start_gateway()


@asynccontextmanager
async def local_deployment(
    *, gateway_command: Sequence[str] = GATEWAY, settings: Settings = LOCAL
) -> AsyncIterator[Deployment]:
    """Run the reference engine, the fault proxy and a gateway on free ports while the context is open.

    The gateway is started as `gateway_command` with ``--config FILE``. Raises `CouldNotTest`.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-verify-")))
        engine = await stack.enter_async_context(running_program("engine", ENGINE, ready=ENGINE_READY))
        proxy = await stack.enter_async_context(FaultProxy(upstream=engine.url))
        control_url = await stack.enter_async_context(control_server(proxy))
        config = directory / "tidegate.toml"
        config.write_text(configuration(proxy.url, settings, state_dir=directory / "state"))
        programs = LocalPrograms(stack, engine, gateway_command, config=config)
        gateway_url = (await programs.start_gateway()).url
        session = await stack.enter_async_context(aiohttp.ClientSession())
        gateway = GatewayApi(session, gateway_url, name="the gateway")
        yield Deployment(
            gateway=gateway,
            proxy=ProxyApi(session, control_url, name="the fault proxy"),
            backend="engine",
            status=await gateway.status(),
            settings=settings,
            programs=programs,
        )


@asynccontextmanager
async def remote_deployment(*, url: str, fault_url: str, token: str | None = None) -> AsyncIterator[Deployment]:
    """Connect to the gateway at `url`. One of its backends is behind the fault proxy with control API `fault_url`.

    If the gateway has several backends, one call is made to fail, to see which backend it is. Sources without a value,
    such as those of an empty list, are left out. Raises `CouldNotTest`.
    """
    async with aiohttp.ClientSession() as session:
        gateway = GatewayApi(session, url, name="the gateway", token=token)
        proxy = ProxyApi(session, fault_url, name="the fault proxy")
        await gateway.check_health()
        await proxy.state()
        await gateway.until_ready(within_s=READY_S)
        status = await gateway.status()
        backends = sorted({source.backend for source in status.sources})
        if not backends:
            raise CouldNotTest("the gateway polls nothing that this token may see")
        backend = backends[0] if len(backends) == 1 else await _behind(gateway, proxy, status, token)
        with_values = {frame.type for frame in (await gateway.snapshot()).events}
        status = msgspec.structs.replace(status, sources=[s for s in status.sources if s.type in with_values])
        yield Deployment(gateway=gateway, proxy=proxy, backend=backend, status=status, token=token)


async def _calm(gateway: GatewayApi, *, within_s: float) -> None:
    """Wait until nothing is stale, at most `within_s`.

    A source that fails already may not report a further failure, because `rpc_error` events are rate-limited.
    """
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(source.stale for source in (await gateway.status()).sources):
            return
        await asyncio.sleep(POLL_S)


async def _behind(gateway: GatewayApi, proxy: ProxyApi, status: GatewayStatus, token: str | None) -> str:
    """Return the name of the backend whose calls go through `proxy`."""
    within_s = 10.0 + 2 * max(source.interval_s for source in status.sources)
    await _calm(gateway, within_s=within_s)
    async with observing(gateway.url, label="which backend", types=("rpc_error",), token=token) as observer:
        await proxy.set(Fault.html(count=1))
        try:
            found = await observer.when(
                lambda: next((read_error(frame) for frame in observer.frames if frame.type == "rpc_error"), None),
                within_s=within_s,
            )
        except (NotSeen, StreamEnded) as error:
            raise CouldNotTest(f"no backend of the gateway seems to be behind the fault proxy: {error}") from error
        finally:
            await proxy.clear(Fault.html)
    return found.backend
