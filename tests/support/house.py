"""A gateway with one backend in virtual time, for tests of what polls it."""

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec

import msgspec
from fanout import options
from simulation.virtual import VirtualLoop

from tidegate.core.events import Draft, EncodedDraft, Position
from tidegate.core.instant import Instant
from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.outcome import ClassifyPolicy
from tidegate.core.polling.source_values import SourceSpec
from tidegate.core.shaping import Shape
from tidegate.errors import BusError, BusUnknown
from tidegate.inbound.multicast import send_to_all
from tidegate.outbound.auth import OpenAuthenticator
from tidegate.outbound.bus_memory import MemoryBus
from tidegate.ports import Backend, Bus, Call
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.poller import BackendPoller
from tidegate.runtime.supervisor import Supervisor
from tidegate.testing import MemoryStore, RecordingMetrics, ScriptedBackend

INTERVAL_S = 10.0
TIMEOUT_S = 2.0
BREAKER = BreakerRules(failure_threshold=3, open_s=20.0, open_max_s=80.0)
POLICY = ClassifyPolicy()

P = ParamSpec("P")


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test, a function or a method, on a loop whose time passes as soon as nothing else is to be done."""

    @functools.wraps(test)
    def run(*given: P.args, **named: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*given, **named))

    return run


class LoopClock:
    """The loop's time, and a wall clock that is `set_by` seconds off the right time."""

    def __init__(self) -> None:
        self.set_by = 0.0

    def now(self) -> Instant:
        mono = asyncio.get_running_loop().time()
        return Instant(mono, 1_795_000_000.0 + mono + self.set_by)

    async def sleep_until(self, mono: float) -> None:
        await asyncio.sleep(max(0.0, mono - asyncio.get_running_loop().time()))

    def call_at(self, mono: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_at(mono, callback)


class RecordingBus(MemoryBus):
    """A bus in memory that notes every draft, and when it was delivered."""

    def __init__(self, published: list[tuple[float, Draft]]) -> None:
        super().__init__("e1")
        self._published = published

    def publish(self, drafts: Sequence[EncodedDraft], *, id: str, fence: int | None = None) -> asyncio.Future[Position]:  # noqa: A002
        now = asyncio.get_running_loop().time()
        self._published += [(now, encoded.draft) for encoded in drafts]
        return super().publish(drafts, id=id, fence=fence)


class HardBus(RecordingBus):
    """A bus that takes its time and fails: `delay_s` is asked how long, `fails` whether and how, for each publish.

    Where `stores`, what fails with `BusUnknown` was published all the same.
    """

    def __init__(
        self,
        published: list[tuple[float, Draft]],
        *,
        delay_s: Callable[[], float] = lambda: 0.0,
        fails: Callable[[], BusError | None] = lambda: None,
        stores: bool = False,
    ) -> None:
        super().__init__(published)
        self.delay_s = delay_s
        self.fails = fails
        self.stores = stores
        self.known: set[str] = set()

    def publish(self, drafts: Sequence[EncodedDraft], *, id: str, fence: int | None = None) -> asyncio.Future[Position]:  # noqa: A002
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Position] = loop.create_future()
        error, delay_s = self.fails(), self.delay_s()
        is_stored = error is None or (self.stores and isinstance(error, BusUnknown))

        def conclude() -> None:
            if is_stored and id not in self.known:
                self.known.add(id)
                super(HardBus, self).publish(drafts, id=id, fence=fence)
            if error is None:
                outcome.set_result(self.position)
            else:
                outcome.set_exception(error)

        if delay_s:
            loop.call_later(delay_s, conclude)
        else:
            conclude()
        return outcome


class House:
    """A gateway with one backend, and everything that it publishes, in order, with when it did.

    Without `retry_s` no failed call is repeated, so that most tests have only the calls that they are about.
    """

    def __init__(
        self,
        *sources: SourcePlan,
        batch: bool = False,
        connections: int = 16,
        store: MemoryStore | None = None,
        breaker: BreakerRules = BREAKER,
        policy: ClassifyPolicy = POLICY,
        retry_s: float = 0.0,
        backend: Backend | None = None,
        bus: Callable[[list[tuple[float, Draft]]], Bus] = RecordingBus,
    ) -> None:
        self.backend = ScriptedBackend(lambda call: {"ok": True}, delay_s=0.1)
        """What is asked, unless there is another `backend`."""
        self.store = store
        self.published: list[tuple[float, Draft]] = []
        self.metrics = RecordingMetrics()
        clock = self.clock = LoopClock()
        self.gateway = Gateway(
            options(source_types=frozenset(source.spec.type for source in sources), heartbeat_interval_s=3600.0),
            bus=bus(self.published),
            clock=clock,
            metrics=self.metrics,
            authenticator=OpenAuthenticator(),
            multicast=send_to_all,
            store=store,
        )
        plan = BackendPlan(
            name="engine",
            timeout_s=TIMEOUT_S,
            batch=batch,
            connections=connections,
            retry_s=retry_s,
            breaker=breaker,
            policy=policy,
            event_bytes=1000,
            rpc_error_interval_s=60.0,
            sources=sources,
        )
        self.poller = BackendPoller(
            plan,
            backend=self.backend if backend is None else backend,
            gateway=self.gateway,
            clock=clock,
            metrics=self.metrics,
            store=store,
            rng=random.Random(7),
        )
        self.supervisor = Supervisor(self.gateway, [self.poller], store=store)

    def of(self, event_type: str) -> list[Draft]:
        return [draft for _, draft in self.published if draft.type == event_type]

    def freshness(self, event_type: str) -> dict[str, Any]:
        """The newest `source.freshness` of a type."""
        told = [draft for draft in self.of("source.freshness") if draft.key == event_type]
        data: dict[str, Any] = msgspec.json.decode(told[-1].data)
        return data

    def stale(self, event_type: str) -> list[tuple[str | None, str | None]]:
        """Why its stale events say that they are, one after the other, and the cause of that."""
        return [(draft.error_code, draft.cause) for draft in self.of(event_type) if draft.stale]

    def states(self) -> list[str]:
        return [msgspec.json.decode(draft.data)["state"] for draft in self.of("circuit_breaker.state")]


def times(backend: ScriptedBackend) -> list[float]:
    """When it was asked."""
    return [exchange.at for exchange in backend.exchanges]


def stall(seconds: float) -> None:
    """Time passes and nothing runs: the process is stopped, or something keeps the loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.selector.clock.advance(seconds)


def source(
    event_type: str = "a.status", *, breaker: str = "engine", shape: Shape | None = None, **fields: Any
) -> SourcePlan:
    shape = shape or Shape()
    plan = {name: fields.pop(name) for name in ("idle_interval_s", "refresh_on") if name in fields}
    spec = {"type": event_type, "backend": "engine", "interval_s": INTERVAL_S, "timeout_s": TIMEOUT_S, **fields}
    spec["keyed"] = shape.items is not None
    return SourcePlan(spec=SourceSpec(**spec), call=Call(event_type), breaker=breaker, shape=shape, **plan)
