"""How programs have a gateway inside, with parts of their own; see `client_types`."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import assert_type

import msgspec

from tidegate.app import App, Parts, running
from tidegate.config import Config, from_document, load, show
from tidegate.core.measurements import BreakerMoved, PollEnded
from tidegate.errors import BackendError, ConfigError, Disconnected, ErrorCode, Problem
from tidegate.payload import compact
from tidegate.ports import (
    Ask,
    Backend,
    Call,
    Clock,
    Coverage,
    Distribution,
    Instant,
    Measurement,
    Prepares,
    Read,
    SavedValue,
    Store,
)
from tidegate.testing import ManualClock, MemoryStore, RecordingMetrics, ScriptedBackend, gateway
from tidegate.testing.contracts import StoreContract


class Thermometer:
    answers_are_compact = True

    async def prepare(self) -> Ask:
        return self.call

    async def call(self, calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        return [compact(b"21.5") if call.method == "read" else Disconnected("no such thing") for call in calls]

    async def aclose(self) -> None:
        pass


class ManyStores:
    async def load(self) -> Sequence[SavedValue]:
        return ()

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        pass

    async def aclose(self) -> None:
        pass


class TestManyStores(StoreContract):
    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Store, None]:
        yield ManyStores()


class Figures:
    def observe(self, measured: Measurement) -> None:
        match measured:
            case PollEnded():
                assert_type(measured.code, ErrorCode | None)
            case BreakerMoved():
                assert_type(measured.state, str)
            case _:
                pass

    def read_from(self, read: Read) -> None:
        for reading in read():
            assert_type(reading.value, float | Distribution)

    def render(self, coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
        yield b""


class Slow:
    def now(self) -> Instant:
        return Instant(0.0, 0.0)

    def call_at(self, mono: float, callback: Callable[[], None]) -> asyncio.Handle:
        return asyncio.get_running_loop().call_soon(callback)

    async def sleep_until(self, mono: float) -> None:
        pass


async def serve(file: Path) -> None:
    try:
        config = load(file, environ={})
    except ConfigError as error:
        assert_type(error.problems, tuple[Problem, ...])
        return
    assert_type(config, Config)
    assert_type(config.server.port, int)
    assert_type(show(config), str)
    parts = Parts(backends={"room": Thermometer()}, store=ManyStores(), metrics=Figures(), clock=Slow())
    async with running(config, parts) as app:
        assert_type(app, App)
        assert_type(app.url, str)
        await app.drain()


def implementations() -> None:
    backend: Backend = Thermometer()
    prepared: Prepares = Thermometer()
    clock: Clock = ManualClock()
    Parts(backends={"a": ScriptedBackend(), "b": backend}, clock=clock, store=MemoryStore(), metrics=RecordingMetrics())
    assert isinstance(prepared, Prepares)


async def tested() -> None:
    async with gateway({}, backends={"room": Thermometer()}) as live, live.follow("room.*") as events:
        event = await events.next(where=lambda event: bool(event.stale), within_s=1.0)
        assert_type(event.key, str | None)
        await live.poll("room")


class Speechless:
    async def aclose(self) -> None:
        pass


def mistakes() -> None:
    Parts(backends={"a": Speechless()})  # type: ignore[dict-item]
    Parts(clock=MemoryStore())  # type: ignore[arg-type]
    from_document({})  # type: ignore[call-arg]
    Call("read", params={"a": 1})  # type: ignore[arg-type]
