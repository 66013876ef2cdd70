"""A backend that does what a test says."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tidegate.errors import ApplicationError, BackendError, Disconnected, NoCredentials
from tidegate.ports import Ask, Call

Script = Callable[[Call], object] | Mapping[str, object]
"""What calls are answered: by method, or by a function of the call. An answer is a JSON value, or an error."""

METHOD_NOT_FOUND = -32601
"""JSON-RPC 2.0, section 5.1."""


class Exchange(msgspec.Struct, frozen=True):
    """One use of a backend: when it began, by the event loop's clock, and what was asked."""

    at: float
    calls: Sequence[Call]

    @property
    def methods(self) -> list[str]:
        """The methods that were asked for, in their order."""
        return [call.method for call in self.calls]


class ScriptedBackend:
    """Implements `tidegate.ports.Backend`: answers from `script`, unless it was told to `fail` or to `hang`.

    Both `script` and `delay_s`, how long each exchange takes, may be changed at any time, as may `missing`: while it
    is an error, our own part is missing, and nothing is sent. `exchanges` are all that began so far.
    """

    def __init__(self, script: Script = {}, *, delay_s: float = 0.0) -> None:  # noqa: B006 - never changed here
        self.script = script
        self.delay_s = delay_s
        self.missing: NoCredentials | None = None
        self.exchanges: list[Exchange] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.closed = False
        self._error: Exception | None = None
        self._moving = asyncio.Event()
        self._moving.set()

    def fail(self, error: Exception) -> None:
        """From now on every exchange ends with `error`; a `BackendError` for what can become of a real one."""
        self._error = error

    def hang(self) -> None:
        """From now on no exchange ends."""
        self._moving.clear()

    def recover(self) -> None:
        """Answer from the script again, also those who have been left hanging."""
        self._error = None
        self._moving.set()

    async def prepare(self) -> Ask:
        """See `tidegate.ports.Prepares`."""
        if self.missing is not None:
            raise self.missing
        return self.call

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
