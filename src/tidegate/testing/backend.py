"""A fake backend that a test controls."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec

from tidegate.errors import ApplicationError, BackendError, Disconnected, NoCredentials
from tidegate.ports import Ask, Call

Script = Callable[[Call], object] | Mapping[str, object]
"""The answers: a mapping from method to answer, or a function from call to answer.

An answer is a JSON value, or an exception. A `BackendError` stands for this one call; any other exception ends the
whole exchange.
"""

METHOD_NOT_FOUND = -32601
"""The error code for a method that the script does not name (JSON-RPC 2.0, section 5.1)."""


class Exchange(msgspec.Struct, frozen=True):
    """One exchange with a backend: when it started, in seconds of the event loop's clock, and its calls."""

    at: float
    calls: Sequence[Call]

    @property
    def methods(self) -> list[str]:
        """The methods of the calls, in order."""
        return [call.method for call in self.calls]


class ScriptedBackend:
    """Implements `tidegate.ports.Backend`: answers from `script`, until told to `fail` or to `hang`.

    A test may change these attributes at any time: `script`; `delay_s`, how many seconds each exchange takes;
    `missing`, an error that `prepare` raises, as if credentials were missing; and `secret`, the credentials that it
    sends. `exchanges` lists all exchanges that have started, and `knocks` when each knock started, in seconds of the
    event loop's clock.
    """

    def __init__(self, script: Script = {}, *, delay_s: float = 0.0) -> None:  # noqa: B006 - never changed here
        self.script = script
        self.delay_s = delay_s
        self.missing: NoCredentials | None = None
        self.secret: bytes | None = None
        self.exchanges: list[Exchange] = []
        self.knocks: list[float] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.closed = False
        self._error: Exception | None = None
        self._unreachable = False
        self._hints: asyncio.Queue[str | None] = asyncio.Queue()
        self._moving = asyncio.Event()
        self._moving.set()

    def fail(self, error: Exception, *, unreachable: bool = False) -> None:
        """From now on, every exchange raises `error`: a `BackendError`, if it is to behave like a real backend.

        If `unreachable`, no connection can be made: a knock raises `error` too.
        """
        self._error = error
        self._unreachable = unreachable

    def hang(self, *, unreachable: bool = False) -> None:
        """From now on, no exchange ends. If `unreachable`, they hang while connecting, and so does a knock."""
        self._moving.clear()
        self._unreachable = unreachable

    def recover(self) -> None:
        """Answer from the script again, also the exchanges that are hanging."""
        self._error = None
        self._unreachable = False
        self._moving.set()

    def hint(self, name: str | None = None) -> None:
        """Say that what `name` stands for has changed; None for everything."""
        self._hints.put_nowait(name)

    async def hints(self) -> AsyncIterator[str | None]:
        """See `tidegate.ports.Hints`."""
        while True:
            yield await self._hints.get()

    async def prepare(self) -> Ask:
        """See `tidegate.ports.Prepares`."""
        if self.missing is not None:
            raise self.missing
        return _PreparedCall(self)

    async def knock(self) -> None:
        """See `tidegate.ports.Knocks`."""
        self.knocks.append(asyncio.get_running_loop().time())
        if self._unreachable:
            await self._moving.wait()
        if self._error is not None and (self._unreachable or self.closed):
            raise self._error

    def is_connected(self) -> bool:
        """Return whether connections can be made now."""
        return not self._unreachable

    async def call(self, calls: Sequence[Call]) -> list[msgspec.Raw | BackendError]:
        """See `tidegate.ports.Backend`."""
        self.exchanges.append(Exchange(asyncio.get_running_loop().time(), calls))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay_s)
            await self._moving.wait()
        finally:
            self.in_flight -= 1
        if self._error is not None:
            raise self._error
        return [self._answer(call) for call in calls]

    async def aclose(self) -> None:
        """See `tidegate.ports.Backend`."""
        self.closed = True
        self._error = Disconnected("the backend was closed")
        self._moving.set()

    def _answer(self, call: Call) -> msgspec.Raw | BackendError:
        if callable(self.script):
            answer = self.script(call)
        else:
            unknown = ApplicationError(METHOD_NOT_FOUND, f"there is no method {call.method!r}")
            answer = self.script.get(call.method, unknown)
        match answer:
            case BackendError():
                return answer
            case Exception():
                raise answer
            case _:
                return msgspec.Raw(msgspec.json.encode(answer))


class _PreparedCall:
    """What `ScriptedBackend.prepare` returns: makes one exchange, and then says whether a connection stood."""

    def __init__(self, backend: ScriptedBackend) -> None:
        self.connected = True
        self.secret = backend.secret
        self._backend = backend

    async def __call__(self, calls: Sequence[Call]) -> list[msgspec.Raw | BackendError]:
        try:
            return await self._backend.call(calls)
        finally:
            self.connected = self._backend.is_connected()
