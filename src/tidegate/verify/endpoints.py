"""Clients of the gateway's REST API and of the fault proxy's control API.

All methods raise `CouldNotTest` if the server does not answer, or answers something unexpected.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp
import msgspec

from tidegate.verify.faultproxy import AnyFault, CallRecord, name_of
from tidegate.verify.frames import Frame
from tidegate.verify.obstacles import CouldNotTest

FORBIDDEN = 403

ANSWER_S = 10.0
"""Timeout of a request. A server that takes longer counts as dead."""

POLL_S = 0.01
"""The interval at which to poll a state that no event announces."""

T = TypeVar("T")


class BreakerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker, as shown by REST."""

    name: str
    state: str
    forced: bool
    failure_count: int
    success_count: int
    open_count: int
    open_max_s: float
    half_open_successes: int
    retry_at: str | None


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A source, as shown by REST."""

    type: str
    backend: str
    interval_s: float
    timeout_s: float
    stale: bool
    as_of: str | None
    error_code: str | None


class GatewayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of the gateway."""

    epoch: str
    seq: int
    sources: list[SourceStatus]
    breakers: list[BreakerStatus]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The retained events."""

    epoch: str
    seq: int
    events: list[Frame]


class ProxyState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the fault proxy. `faults` are the faults that are switched on; `names` are their names."""

    down: bool
    held: int
    concurrent: int
    faults: list[dict[str, Any]]

    @property
    def names(self) -> set[str]:
        return {fault["name"] for fault in self.faults}


class _Calls(msgspec.Struct, frozen=True):
    calls: list[CallRecord]


class _Endpoint:
    """A client of an HTTP server that answers in JSON. `name` is the name of the server in error messages."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, name: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._session = session
        self._name = name
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def _ask(self, method: str, path: str, *, body: object = None, or_status: int | None = None) -> bytes:
        """Send a request and return the body. Raises `CouldNotTest` unless the status is 2xx or `or_status`."""
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with self._session.request(
                method,
                self.url + path,
                data=data,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=ANSWER_S),
                allow_redirects=False,  # a server at another address is not the one under test
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise CouldNotTest(f"{self._name} at {self.url} does not answer: {reason}") from error
        status = response.status
        if status != or_status and not 200 <= status < 300:
            raise CouldNotTest(f"{self._name}: {method} {path} was answered with HTTP {status}: {content[:300]!r}")
        return content

    async def _read(self, path: str, kind: type[T]) -> T:
        content = await self._ask("GET", path)
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise CouldNotTest(f"{self._name}: GET {path} was answered with something else: {error}") from error


class GatewayApi(_Endpoint):
    """The REST API of the gateway."""

    async def check_health(self) -> None:
        """Return if the gateway answers."""
        await self._ask("GET", "/healthz")

    async def until_ready(self, *, within_s: float) -> None:
        """Wait until every source has been polled once. Raises `CouldNotTest` after `within_s` seconds."""
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            try:
                await self._ask("GET", "/readyz")
            except CouldNotTest:
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(POLL_S)
            else:
                return

    async def status(self) -> GatewayStatus:
        return await self._read("/api/v1/status", GatewayStatus)

    async def breaker(self, name: str) -> BreakerStatus:
        return await self._read(f"/api/v1/status/circuit-breaker/{name}", BreakerStatus)

    async def snapshot(self) -> Snapshot:
        """Return all retained events."""
        return await self._read("/api/v1/snapshot", Snapshot)

    async def reset(self, breaker: str) -> None:
        """Close `breaker` and reset its counts. Does nothing if the token lacks the role admin."""
        await self._ask("POST", f"/api/v1/circuit-breaker/{breaker}/reset", or_status=FORBIDDEN)

    async def poll(self, backend: str) -> None:
        """Send a hint that something changed at `backend`. Does nothing if the token does not allow it."""
        await self._ask("POST", f"/api/v1/backends/{backend}/poll", or_status=FORBIDDEN)


class ProxyApi(_Endpoint):
    """The control API of the fault proxy."""

    _newest = 0

    async def state(self) -> ProxyState:
        return await self._read("/state", ProxyState)

    async def set(self, fault: AnyFault) -> None:
        """Switch `fault` on."""
        parameters = {key: value for key, value in msgspec.to_builtins(fault).items() if key != "name"}
        await self._ask("PUT", f"/faults/{name_of(fault)}", body=parameters)

    async def clear(self, kind: type[AnyFault] | None = None) -> None:
        """Switch off the fault of this kind, or all faults."""
        await self._ask("DELETE", "/faults" if kind is None else f"/faults/{name_of(kind())}")

    async def release(self, count: int | None = None) -> None:
        """Release the oldest `count` held answers, or all."""
        await self._ask("POST", "/release" if count is None else f"/release?count={count}")

    async def calls(self, *, after: int = 0) -> list[CallRecord]:
        """Return the calls with a number above `after`, in the order in which they came."""
        calls: list[CallRecord] = []
        while page := (await self._read(f"/calls?after={after}", _Calls)).calls:
            calls += page
            after = page[-1].number
        return calls

    async def last_call(self) -> int:
        """Return the number of the newest call; 0 before the first."""
        self._newest = max([self._newest, *(call.number for call in await self.calls(after=self._newest))])
        return self._newest

    async def until(self, condition: Callable[[ProxyState], bool], *, within_s: float) -> bool:
        """Wait until `condition` holds. Return False if it does not within `within_s` seconds."""
        deadline = asyncio.get_running_loop().time() + within_s
        while not condition(await self.state()):
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True
