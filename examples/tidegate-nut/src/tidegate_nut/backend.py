"""The backend: turns calls into questions to upsd, and what comes back into JSON."""

import asyncio
import re
from collections.abc import Sequence

import msgspec

from tidegate.errors import ApplicationError, BackendError, Disconnected
from tidegate.ports import Ask, Call
from tidegate_nut.upsd import Connection, Server

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")

Answers = list[msgspec.Raw | BackendError]


class NutBackend:
    """Implements `tidegate.ports.Backend`, `Prepares` and `Knocks`: calls take turns on one connection to `server`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._is_logged_in = False
        self._is_closed = False

    async def prepare(self) -> Ask:
        """See `tidegate.ports.Prepares`."""
        return Exchange(self)

    async def call(self, calls: Sequence[Call]) -> Answers:
        """See `tidegate.ports.Backend.call`."""
        return await Exchange(self)(calls)

    async def knock(self) -> None:
        """See `tidegate.ports.Knocks`."""
        async with self._turn:
            await self._connected()

    async def aclose(self) -> None:
        """See `tidegate.ports.Backend.aclose`."""
        self._is_closed = True
        self._drop()  # the call that reads from it ends with `Disconnected`

    async def exchange(self, calls: Sequence[Call], exchange: "Exchange") -> Answers:
        """Make `calls`, one after the other. The connection is only kept if all of it went well."""
        async with self._turn:
            exchange.connected = False
            connection = await self._connected()
            exchange.connected = True
            try:
                if not self._is_logged_in:
                    await connection.log_in()
                    self._is_logged_in = True
                return [await _answer(connection, call) for call in calls]
            except BaseException:
                self._drop()
                raise

    async def _connected(self) -> Connection:
        if self._is_closed:
            raise Disconnected("the backend is closed")
        if self._connection is None or not self._connection.is_usable:
            self._drop()
            self._connection = await Connection.made(self._server)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.abort()
        self._connection, self._is_logged_in = None, False


class Exchange:
    """The function that makes one exchange. Afterwards `connected` says whether its connection stood."""

    def __init__(self, backend: NutBackend) -> None:
        self._backend = backend
        self.connected = True

    async def __call__(self, calls: Sequence[Call]) -> Answers:
        return await self._backend.exchange(calls, self)


async def _answer(connection: Connection, call: Call) -> msgspec.Raw | BackendError:
    """Return the answer to one call. An error that is about this call alone stands in its place."""
    try:
        match call.method:
            case "ups":
                rows = await connection.listed("UPS")
                return _json({name: await _variables(connection, name) for name, _ in rows})
            case "variables":
                return _json(await _variables(connection, _named(call)))
    except ApplicationError as error:
        return error
    return ApplicationError(None, f'expected the method "ups" or "variables", got {call.method!r}')


async def _variables(connection: Connection, name: str) -> dict[str, msgspec.Raw]:
    return {variable: _value(text) for variable, text in await connection.listed(f"VAR {name}")}


def _named(call: Call) -> str:
    match msgspec.json.decode(call.params):
        case {"ups": str(name)} if re.fullmatch(r"[^\s\"\\]+", name):
            return name
    raise ApplicationError(None, 'expected params = { ups = "NAME" }')


def _value(text: str) -> msgspec.Raw:
    """Return what is written as a number as that number, with all its digits, and all else as text."""
    return msgspec.Raw(text.encode() if _NUMBER.fullmatch(text) else msgspec.json.encode(text))


def _json(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
