"""The backends of a world: real HTTP/1.1 over virtual sockets, steered by the scenario.

A backend remembers every good answer that it gave.
"""

import asyncio
import json
import random
import re
from collections import deque
from typing import Any

from simulation.network import Door, Manner
from simulation.scenario import ANSWERS, LOAD_S, Fate, Fault
from simulation.virtual import VirtualLoop

FAST_S = 0.2
"""The longest that a healthy backend takes."""

UNMAPPABLE = b'{"nothing":"of what you want"}'
"""An answer in time, well-formed, and without what a source with a mapping looks for."""

LOOKUP_S = 20.0
"""How long a resolver takes that gets no answer."""

BLINK_S = 0.3
"""How long a listener that blinks is there, and how long it is away."""

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
_PHRASES = {200: b"OK", 401: b"Unauthorized", 404: b"Not Found", 429: b"Too Many", 500: b"Broken", 503: b"Unavailable"}
_MANNERS = {
    Fault.DEAD: Manner.REFUSED,
    Fault.NO_NAME: Manner.REFUSED,
    Fault.UNANSWERED: Manner.UNANSWERED,
    Fault.RESET: Manner.RESET,
    Fault.HALF_DEAD: Manner.EVERY_OTHER,
    Fault.HALF_RESET: Manner.EVERY_OTHER_RESET,
    Fault.NO_ENTRY: Manner.REFUSED_OR_RESET,
    Fault.ONE_SLOT: Manner.ONE_SLOT,
}
"""How connections are taken under a fault; any other takes them."""

_BREAKS_OFF = frozenset({*_MANNERS, Fault.SLOW_NAME}) - {Fault.UNANSWERED}
"""Faults that begin with the end of every connection. A machine that is switched off says nothing on any."""


class ScriptedBackend:
    """One backend. `given` holds its good answers: method, when the request came, data."""

    def __init__(self, name: str, loop: VirtualLoop, fate: Fate, *, timeout_s: float, seed: int) -> None:
        self.given: list[tuple[str, float, bytes]] = []
        self.calls = 0
        self.name = name
        self.door = Door(loop, name, fate.syns_s)
        self._loop = loop
        self._fate = fate
        self._timeout_s = timeout_s
        self._rng = random.Random(f"backend {name} {seed}")
        self._fault: Fault | None = None
        self._refused_secret: bytes | None = None
        self._broken: tuple[str, Fault] | None = None
        self._recent: deque[float] = deque()
        self._open: dict[_Conversation, None] = {}

    async def run(self) -> None:
        """Live through the phases, then stay well until cancelled."""
        loop = self._loop
        listener: Any = self.door.listener
        server = await loop.create_server(lambda: _Conversation(self), sock=listener)
        try:
            for phase in self._fate.phases:
                self._begin(phase.fault)
                match phase.fault:
                    case Fault.FLAP:
                        await self._flap(phase.end)
                    case Fault.BLINK:
                        await self._blink(phase.end)
                    case Fault.ONE_SLOT:
                        await self._share(phase.end)
                    case _:
                        await asyncio.sleep(phase.end - loop.time())
            await loop.create_future()
        finally:
            server.close()
            self._drop_all()

    def secret(self) -> bytes | None:
        """What our own token for it says now, None if it cannot be read. What was written again says the same."""
        if self._fault is Fault.NO_TOKEN and self._rng.random() < 0.5:
            return None
        now = self._loop.time()
        return b"secret %d" % sum(rewriting.other for rewriting in self._fate.rewritings if rewriting.at <= now)

    def opened(self, conversation: "_Conversation") -> None:
        self._open[conversation] = None
        if self.door.resets:
            conversation.drop()

    def closed(self, conversation: "_Conversation") -> None:
        del self._open[conversation]
        self.door.inside -= 1

    def receive(self, conversation: "_Conversation", body: bytes) -> None:
        """Take one request, and answer it as the present phase says."""
        now = self._loop.time()
        self.calls += 1
        requests = json.loads(body)
        fault = self._fault_of(requests)
        delay = 0.0 if self._rng.random() < 0.2 else self._rng.uniform(0.001, FAST_S)
        if fault is Fault.LATE:
            delay = self._rng.uniform(0, 1.6) * self._timeout_s
        elif fault is Fault.OVERLOAD:
            delay += self._burden(now)
        elif fault is Fault.HELD_DEAD:
            self._loop.call_later(FAST_S, self._die_held)
        if fault not in {Fault.HANG, Fault.UNANSWERED}:
            data = self._answer(fault, requests, now)
            self._loop.call_later(delay, conversation.respond, data, fault is Fault.TRUNCATED)

    def _fault_of(self, requests: Any) -> Fault | None:
        """What is wrong with the answer to these requests; for a batch in which one is broken, see `_response`."""
        match self._fault:
            case Fault.CHAOS:
                return self._rng.choice([None, None, Fault.LATE, Fault.LATE, *ANSWERS])
            case Fault.RACE:
                return self._rng.choice([Fault.STATUS, Fault.LATE])
            case Fault.EXPIRED:
                return Fault.UNAUTHORIZED if self.secret() == self._refused_secret else None
            case Fault.ONE_BROKEN if isinstance(requests, dict):
                return self._broken_how(requests["method"])
        return self._fault

    def _broken_how(self, method: str) -> Fault | None:
        """The first source that is asked is the broken one."""
        if self._broken is None:
            kinds = [Fault.STATUS, Fault.NOT_FOUND, Fault.RPC_ERROR, Fault.CALLER_ERROR, Fault.HANG, Fault.LATE]
            self._broken = method, self._rng.choice(kinds)
        return self._broken[1] if self._broken[0] == method else None

    def _burden(self, now: float) -> float:
        """More calls than the backend can bear take longer than anybody waits."""
        recent = self._recent
        recent.append(now)
        while recent[0] < now - LOAD_S:
            recent.popleft()
        return self._timeout_s * (len(recent) / self._fate.bearable) ** 2

    def _answer(self, fault: Fault | None, requests: Any, now: float) -> bytes:
        match fault:
            case Fault.STATUS | Fault.NO_TOKEN:
                return _http(500, b"oops")
            case Fault.NOT_FOUND:
                return _http(404, b"no such route")
            case Fault.TOO_MANY:
                return _http(429, b"slow down")
            case Fault.BUSY | Fault.HELD_DEAD:
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
        if self._fault is Fault.ONE_BROKEN and fault is Fault.ONE_BROKEN:
            fault = Fault.RPC_ERROR if self._broken_how(method) is not None else None
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

    def _begin(self, fault: Fault | None) -> None:
        """Another phase: what it does to connections, and to those that there are."""
        was_silent = self._fault is Fault.UNANSWERED
        self._fault = fault
        self._broken = None
        self._recent.clear()
        self._refused_secret = self.secret() if fault is Fault.EXPIRED else None
        self.door.manner = _MANNERS.get(fault, Manner.TAKEN) if fault is not None else Manner.TAKEN
        self.door.is_known = fault is not Fault.NO_NAME
        self.door.lookup_s = LOOKUP_S if fault is Fault.SLOW_NAME else 0.0
        if fault in _BREAKS_OFF or was_silent:
            self._drop_all()

    async def _flap(self, until: float) -> None:
        while self._loop.time() < until:
            self._die()
            await self._sleep(self._rng.uniform(0.5, 20), until)
            self.door.manner = Manner.TAKEN
            await self._sleep(self._rng.uniform(0.5, 20), until)

    async def _blink(self, until: float) -> None:
        while self._loop.time() < until:
            self._die()
            await self._sleep(BLINK_S, until)
            self.door.manner = Manner.TAKEN
            await self._sleep(BLINK_S, until)

    async def _share(self, until: float) -> None:
        """Somebody else has the only slot at times."""
        while self._loop.time() < until:
            await self._sleep(self._rng.uniform(1, 30), until)
            while self.door.inside and self._loop.time() < until:
                await self._sleep(0.5, until)
            if not self.door.inside:
                self.door.inside += 1
                await self._sleep(self._rng.uniform(1, 20), until)
                self.door.inside -= 1

    async def _sleep(self, seconds: float, until: float) -> None:
        await asyncio.sleep(min(seconds, until - self._loop.time()))

    def _die_held(self) -> None:
        if self._fault is Fault.HELD_DEAD:
            self._die()

    def _die(self) -> None:
        self.door.manner = Manner.REFUSED
        self._drop_all()

    def _drop_all(self) -> None:
        for conversation in list(self._open):
            conversation.drop()


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
