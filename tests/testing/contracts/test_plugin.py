"""The contract of plug-ins: one that keeps it, and others that break a promise each."""

import asyncio
import inspect
import unittest
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec import Raw

from tidegate.backends import BackendContext, Secret
from tidegate.errors import ApplicationError, BackendError, Disconnected, InvalidResponse
from tidegate.ports import Call
from tidegate.testing import opened_plugin
from tidegate.testing.contracts import PluginContract, expectations

ANSWERS: Mapping[str, bytes] = {"a": b"1.10", "b": b'{"x":[1,2]}'}


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    port: int
    password: Secret


class Lines:
    """Sends a line with the password and the method, and gets a line. One connection for each exchange."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._writers: set[asyncio.StreamWriter] = set()

    async def call(self, calls: Sequence[Call]) -> Sequence[Raw | BackendError]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._options.port)
        self._writers.add(writer)
        try:
            return [await self._answer(reader, writer, call.method) for call in calls]
        finally:
            self._writers.discard(writer)
            self.let_go(writer)

    def let_go(self, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str
    ) -> Raw | BackendError:
        writer.write(f"{self._options.password.reveal()} {method}\n".encode())
        line = (await reader.readline()).strip()
        if not line:
            raise Disconnected("the service closed the connection")
        if line == b"refused":
            return ApplicationError(None, "refused")
        if line not in ANSWERS.values():
            raise InvalidResponse("expected an answer")
        return Raw(line)

    async def aclose(self) -> None:
        for writer in self._writers:
            writer.close()


class Plugin:
    api = 1
    batches = True
    Options: type[msgspec.Struct] = Options

    def open(self, options: Any, context: BackendContext) -> Lines:
        return Lines(options)


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    handlers: dict[asyncio.Task[Any] | None, asyncio.StreamWriter] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers[asyncio.current_task()] = writer
        try:
            await answer_all(reader, writer)
        finally:
            writer.close()

    async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            password, method = line.decode().split()
            if method == "hangs":
                await reader.read()
            if method == "breaks" or password != "secret":
                break
            writer.write(ANSWERS.get(method, method.encode()) + b"\n")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()  # since Python 3.12, waiting for its end waits for what a client never closes
        await asyncio.sleep(0.01)  # until a connection that was given up at once has its handler too
        for writer in handlers.values():
            writer.transport.abort()
        await asyncio.gather(*filter(None, handlers), return_exceptions=True)
        await asyncio.sleep(0)  # connections are closed in the next turn


class OfLines(PluginContract):
    plugin: ClassVar[Any] = Plugin
    secrets: ClassVar = {"pw": "secret"}
    answers: ClassVar = ANSWERS
    error, breaks, hangs, garbles = "refused", "breaks", "hangs", "garbled"

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Mapping[str, Any]]:
        async with served() as port:
            yield {"port": port, "password": "{pw}"}


class TestPlugin(OfLines):
    async def test_it_is_opened_with_what_the_test_says(self) -> None:
        contexts = []

        class Told(Plugin):
            def open(self, options: Any, context: BackendContext) -> Lines:
                contexts.append(context)
                return super().open(options, context)

        options = {"port": 1, "password": "{pw}"}
        async with opened_plugin(Told, options, secrets={"pw": "x"}, response_bytes=7):
            [context] = contexts
        assert (context.response_bytes, context.secrets["pw"].reveal()) == (7, "x")
        assert context.tls_context().check_hostname


class Lax(Plugin):
    class Options(msgspec.Struct, kw_only=True):
        port: int
        password: Secret


class Eager(Plugin):
    def open(self, options: Any, context: BackendContext) -> Lines:
        self.task = asyncio.ensure_future(asyncio.sleep(0.05))
        return super().open(options, context)


class Hoarding(Plugin):
    def open(self, options: Any, context: BackendContext) -> Lines:
        class Kept(Lines):
            kept: ClassVar[list[asyncio.StreamWriter]] = KEPT

            def let_go(self, writer: asyncio.StreamWriter) -> None:
                self.kept.append(writer)

            async def aclose(self) -> None:
                return None

        return Kept(options)


KEPT: list[asyncio.StreamWriter] = []
STRICT = "an_option_that_nobody_knows_is_refused"
NOT_BEFORE = "a_backend_connects_nothing_before_it_is_called"
CLOSED = "a_backend_that_is_closed_leaves_neither_sockets_nor_tasks"
HANGS = "a_cancelled_call_that_hangs_leaves_no_task_behind"  # that of the service, which the test sees too
CANCELLED = "calls_that_are_cancelled_leave_no_socket_each"


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Plugin, set()),
        (Lax, {STRICT}),
        (Eager, {NOT_BEFORE}),
        (Hoarding, {CLOSED, CANCELLED, "closing_it_fails_the_calls_in_flight", HANGS}),
    ],
)
async def test_a_promise_that_is_broken_fails_its_test(
    make: Callable[[], Any], found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expectations, "PATIENCE_S", 0.5)

    class Contract(OfLines):
        plugin = make

    broken = set()
    for name, _ in inspect.getmembers(Contract, inspect.iscoroutinefunction):
        if name.startswith("test_"):
            try:
                await getattr(Contract(), name)()
            except unittest.SkipTest:
                pass
            except Exception:  # noqa: BLE001 - as for pytest
                broken.add(name.removeprefix("test_"))
            for writer in KEPT:
                writer.close()
            KEPT.clear()
    await asyncio.sleep(0.1)
    assert broken == found
