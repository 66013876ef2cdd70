"""The backends of a world: real HTTP/1.1 over virtual sockets, steered by the scenario; and a tap on the calls.

A backend remembers every good answer that it gave; the tap remembers when calls began, ended, and with what. Together
they are the truth that clients' messages are held against.
"""

import asyncio
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from simulation.scenario import Fault, Phase
from simulation.virtual import Listener, VirtualLoop
from tidegate.core.instant import Instant
from tidegate.errors import BackendError, NoCredentials
from tidegate.ports import Backend, Call

PORT = 80
FAST_S = 0.2
"""The longest that a healthy backend takes."""

UNMAPPABLE = b'{"nothing":"of what you want"}'
"""An answer in time, well-formed, and without what a source with a mapping looks for."""

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
_PHASES = {Fault.DEAD, Fault.FLAP, Fault.RACE, Fault.CHAOS, Fault.NO_TOKEN}
_SINGLE_ANSWERS = [fault for fault in Fault if fault not in _PHASES]
_PHRASES = {200: b"OK", 401: b"Unauthorized", 429: b"Too Many", 500: b"Broken", 503: b"Unavailable"}


class Exchange:
    """One call of the poller's to its backend. `results` is None while it runs, and after it was given up.

    `ended` is monotonic. `started_as` and `ended_as` number the starts and ends of a backend's calls in the order in
    which they came.
    """

    __slots__ = ("backend", "ended", "ended_as", "methods", "results", "sent", "started_as")

    def __init__(self, number: int, backend: str, methods: Sequence[str], sent: Instant) -> None:
        self.started_as = number
        self.ended_as = 0
        self.backend = backend
        self.methods = methods
        self.sent = sent
        self.ended: float | None = None
        self.results: Sequence[bytes | BackendError] | None = None


class Tap:
    """A `Backend` that notes every exchange of the real one behind it.

    It looks for its token when it is called, so that a call without one decides nothing about the backend.
    """

    def __init__(
        self, name: str, backend: Backend, now: Callable[[], Instant], *, has_token: Callable[[], bool]
    ) -> None:
        self.exchanges: list[Exchange] = []
        self._has_token = has_token
        self._name = name
        self._backend = backend
        self._now = now
        self._numbered = 0

    async def call(self, calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        exchange = Exchange(self._next(), self._name, [call.method for call in calls], self._now())
        self.exchanges.append(exchange)
        try:
            if not self._has_token():
                raise NoCredentials("the token file is not there")
            answers = await self._backend.call(calls)
            exchange.results = [answer if isinstance(answer, BackendError) else bytes(answer) for answer in answers]
        except BackendError as error:
            exchange.results = [error] * len(calls)
            raise
        finally:
            exchange.ended = self._now().mono
            exchange.ended_as = self._next()
        return answers

    async def aclose(self) -> None:
        await self._backend.aclose()

    def _next(self) -> int:
        self._numbered += 1
        return self._numbered


class ScriptedBackend:
    """One backend. `given` holds its good answers: method, when the request came, data."""

    def __init__(self, name: str, loop: VirtualLoop, phases: Sequence[Phase], *, timeout_s: float, seed: int) -> None:
        self.given: list[tuple[str, float, bytes]] = []
        self.calls = 0
        self._name = name
        self._loop = loop
        self._phases = phases
        self._timeout_s = timeout_s
        self._rng = random.Random(f"backend {name} {seed}")
        self._fault: Fault | None = None
        self._server: asyncio.Server | None = None
        self._open: dict[_Conversation, None] = {}

    async def run(self) -> None:
        """Live through the phases, then stay well until cancelled."""
        loop = self._loop
        try:
            for phase in self._phases:
                self._fault = phase.fault
                if phase.fault is Fault.FLAP:
                    await self._flap(phase.end)
                else:
                    await (self._die() if phase.fault is Fault.DEAD else self._rise())
                    await asyncio.sleep(phase.end - loop.time())
            await loop.create_future()
        finally:
            await self._die()

    def has_token(self) -> bool:
        """Whether our own token for it can be read now."""
        return self._fault is not Fault.NO_TOKEN or self._rng.random() < 0.5

    def opened(self, conversation: "_Conversation") -> None:
        self._open[conversation] = None

    def closed(self, conversation: "_Conversation") -> None:
        self._open.pop(conversation, None)

    def receive(self, conversation: "_Conversation", body: bytes) -> None:
        """Take one request, and answer it as the present phase says."""
        now = self._loop.time()
        self.calls += 1
        fault = self._fault
        if fault is Fault.CHAOS:
            fault = self._rng.choice([None, None, Fault.LATE, Fault.LATE, *_SINGLE_ANSWERS])
        elif fault is Fault.RACE:
            fault = self._rng.choice([Fault.STATUS, Fault.LATE])
        delay = 0.0 if self._rng.random() < 0.2 else self._rng.uniform(0.001, FAST_S)
        if fault is Fault.LATE:
            delay = self._rng.uniform(0, 1.6) * self._timeout_s
        if fault is not Fault.HANG:
            data = self._answer(fault, json.loads(body), now)
            self._loop.call_later(delay, conversation.respond, data, fault is Fault.TRUNCATED)

    def _answer(self, fault: Fault | None, requests: Any, now: float) -> bytes:
        match fault:
            case Fault.STATUS | Fault.NO_TOKEN:
                return _http(500, b"oops")
            case Fault.BUSY:
                return _http(self._rng.choice([429, 503]), b"later", retry_after=self._rng.randint(1, 90))
            case Fault.UNAUTHORIZED:
                return _http(401, b"who are you?")
            case Fault.GARBAGE:
                return _http(200, b"<html>It works!</html>")
        if isinstance(requests, list):
            responses = [self._response(fault, request, now) for request in requests]
            self._rng.shuffle(responses)
            return _http(200, b"[" + b",".join(responses) + b"]")
        return _http(200, self._response(fault, requests, now))

    def _response(self, fault: Fault | None, request: dict[str, Any], now: float) -> bytes:
        method, number = request["method"], request["id"]
        match fault:
            case Fault.RPC_ERROR:
                return b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32000,"message":"no"}}' % number
            case Fault.CALLER_ERROR:
                return b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32601,"message":"what?"}}' % number
            case Fault.WRONG_ID:
                return b'{"jsonrpc":"2.0","id":%d,"result":"not yours"}' % (number + 1)
        data = UNMAPPABLE if fault is Fault.MAPPING and not method.endswith(".status") else self._data(method, now)
        self.given.append((method, now, data))
        return b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (number, data)

    def _data(self, method: str, now: float) -> bytes:
        """The state at `now`: it changes slowly, and numbers keep their digits."""
        if method.endswith(".list"):
            items = [
                b'{"id":"%b","v":%d}' % (name, (now + 100 * n) // (70 + 30 * n))
                for n, name in enumerate((b"a", b"b", b"c", b"d"))
                if n == 0 or (now // 150 + n) % 3
            ]
            return b'{"items":[%b]}' % b",".join(items)
        state = self._state(now)
        return b'{"state":%b,"other":0}' % state if method.endswith(".part") else state

    def _state(self, now: float) -> bytes:
        if self._rng.random() < 0.5:
            return b'{"v":%d,"digits":1.10}' % (now // 45)
        return b'{"v":%d,"digits":1.10,"n":%d,"pad":"%b"}' % (
            now // 45,
            len(self.given),
            b"x" * (len(self.given) % 160),
        )

    async def _flap(self, until: float) -> None:
        loop = self._loop
        while loop.time() < until:
            await self._die()
            await asyncio.sleep(min(self._rng.uniform(0.5, 20), until - loop.time()))
            await self._rise()
            await asyncio.sleep(min(self._rng.uniform(0.5, 20), until - loop.time()))

    async def _die(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for conversation in list(self._open):
            conversation.drop()

    async def _rise(self) -> None:
        if self._server is None:
            listener: Any = Listener(self._loop, self._name, PORT)
            self._server = await self._loop.create_server(lambda: _Conversation(self), sock=listener)


class _Conversation(asyncio.Protocol):
    """One keep-alive connection of a client."""

    def __init__(self, backend: ScriptedBackend) -> None:
        self._backend = backend
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._backend.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend.closed(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, rest = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if blank and length and len(rest) >= int(length[1]):
            self._buffer = b""
            self._backend.receive(self, rest)

    def respond(self, data: bytes, truncated: bool) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(data[: len(data) - 3] if truncated else data)
        if truncated:
            self._transport.close()

    def drop(self) -> None:
        self._transport.abort()


def _http(status: int, body: bytes, *, retry_after: int | None = None) -> bytes:
    wish = b"" if retry_after is None else b"Retry-After: %d\r\n" % retry_after
    return b"HTTP/1.1 %d %b\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        _PHRASES[status],
        wish,
        len(body),
        body,
    )
