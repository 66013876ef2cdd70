"""The HTTP side in a test's hands: a gateway behind the real application on a real socket, and a raw client."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from fanout import House, knowing

from tidegate.core.access.grant import Coverage, Grant, Role
from tidegate.core.instant import Instant
from tidegate.core.polling.breaker_values import BreakerView, LastFailure, Move, Reason, State
from tidegate.core.polling.source_values import SourceView
from tidegate.core.topics import PatternSet
from tidegate.errors import ErrorCode, UnknownName
from tidegate.inbound.http_api import ApiOptions, Reloading, http_api
from tidegate.inbound.server import serve, transport_of
from tidegate.inbound.sse import EventStreams
from tidegate.inbound.websocket import WebSocketOptions, WebSocketServer
from tidegate.ports import Authenticator
from tidegate.runtime.access import Gate
from tidegate.runtime.admission import Admissions
from tidegate.runtime.supervisor import Readiness, ReadinessStatus

WALL = 1_795_383_603.123
WALL_TEXT = "2026-11-22T21:40:03.123Z"

GRANTS = {
    "all": Grant(name="root"),
    "sub": Grant(name="reader", roles=frozenset({Role.SUBSCRIBER})),
    "pub": Grant(name="writer", roles=frozenset({Role.PUBLISHER})),
    "system": Grant(name="narrow", roles=frozenset({Role.SUBSCRIBER}), allowed=PatternSet(["system.*"])),
}


def breaker(name: str, state: State = State.CLOSED, **changes: Any) -> BreakerView:
    fields: dict[str, Any] = {
        "state": state,
        "forced": False,
        "since": WALL,
        "failure_count": 0,
        "failure_threshold": 7,
        "success_count": 3,
        "open_count": 0,
        "open_max_s": 15.0,
        "half_open_successes": 1,
        "retry_at": None,
        "last_error": None,
        "cause": None,
    }
    return BreakerView(name=name, **{**fields, **changes})


def source(event_type: str, backend: str, **changes: Any) -> SourceView:
    fields: dict[str, Any] = {
        "interval_s": 5.0,
        "timeout_s": 2.0,
        "max_age_s": 10.0,
        "on_change": False,
        "stale": False,
        "as_of": WALL,
        "error_code": None,
        "next_poll_at": WALL,
        "missed_ticks": 0,
    }
    return SourceView(type=event_type, backend=backend, **{**fields, **changes})


@dataclass
class FakeSupervisor:
    """Two backends: a healthy one, and one whose source has a breaker of its own, which is open."""

    SERVES: ClassVar = {"engine": "system.status", "disks": "storage.update", "disks/storage.update": "storage.update"}

    status: ReadinessStatus = "ready"
    stale: int = 0
    commands: list[tuple[str, str, str]] = field(default_factory=list)
    polled: list[tuple[str, ...]] = field(default_factory=list)
    fails: Exception | None = None

    def readiness(self) -> Readiness:
        return Readiness(self.status, self.stale)

    def coverage(self, allowed: PatternSet) -> Coverage:
        names = frozenset(name for name, event_type in self.SERVES.items() if allowed.matches(event_type))
        return Coverage(types=allowed, breakers=names, backends=names & {"engine"})

    def sources(self, allowed: PatternSet) -> Sequence[SourceView]:
        found = [
            source("system.status", "engine"),
            source("storage.update", "disks", stale=True, as_of=None, error_code=ErrorCode.RPC_TIMEOUT),
        ]
        return [each for each in found if allowed.matches(each.type)]

    def breakers(self, allowed: PatternSet) -> Sequence[BreakerView]:
        if self.fails is not None:
            raise self.fails
        error = LastFailure(ErrorCode.RPC_TIMEOUT, "no answer in 2 s", WALL)
        found = [
            breaker("engine"),
            breaker("disks"),
            breaker(
                "disks/storage.update",
                State.OPEN,
                retry_at=WALL,
                failure_count=5,
                last_error=error,
                history=(
                    Move(Instant(0.0, WALL), None, State.CLOSED, Reason.START),
                    Move(Instant(0.0, WALL), State.CLOSED, State.OPEN, Reason.FAILURE_THRESHOLD),
                ),
            ),
        ]
        return [view for view in found if allowed.matches(self.SERVES[view.name])]

    def breaker(self, name: str, allowed: PatternSet) -> BreakerView:
        views = self.breakers(allowed)
        for view in views:
            if view.name == name:
                return view
        raise UnknownName(f"expected a breaker ({', '.join(view.name for view in views)}), got {name!r}")

    async def command(self, name: str, action: str, *, by: str, allowed: PatternSet) -> BreakerView:
        view = self.breaker(name, allowed)
        if action not in {"force-open", "force-closed", "reset"}:
            raise UnknownName(f"expected an action, got {action!r}")
        self.commands.append((name, action, by))
        return view

    async def poll(self, backend: str, allowed: PatternSet, *, only: Collection[str]) -> None:
        known = {source.type for source in self.sources(allowed) if source.backend == backend}
        if not known:
            raise UnknownName(f"expected a backend, got {backend!r}")
        if unknown := set(only) - known:
            raise UnknownName(f"expected a source, got {sorted(unknown)}")
        self.polled.append((backend, *only))


@dataclass
class Serving:
    """A server that listens, and all that stands behind it."""

    port: int
    house: House
    supervisor: FakeSupervisor

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> "Answer":
        """One request on a connection of its own; underscores in `headers` stand for dashes."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return await self.send(request(method, path, data, host=f"127.0.0.1:{self.port}", **fields))

    async def send_in_two(self, data: bytes) -> "Answer":
        """Send the head of a request, then its body: it does not come whole."""
        head, mark, body = data.partition(b"\r\n\r\n")
        client = await RawClient.open(self.port)
        try:
            client.writer.write(head + mark)
            await self.ask("GET", "/healthz")  # by now the head has been read
            client.writer.write(body)
            return read_answer(await client.rest())
        finally:
            await client.close()

    async def send(self, data: bytes) -> "Answer":
        """Send `data`, read the answer up to the end of the connection."""
        client = await RawClient.open(self.port)
        try:
            client.writer.write(data)
            return read_answer(await client.rest())
        finally:
            await client.close()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """One TCP connection, byte by byte. Every read fails after a while, so that a test never hangs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> "RawClient":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(20):
            return await self.reader.readuntil(mark)

    async def rest(self) -> bytes:
        """All that comes until the server ends the connection."""
        async with asyncio.timeout(20):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def request(method: str, path: str, body: bytes = b"", *, host: str, **headers: str) -> bytes:
    """A request that asks for the connection to be closed after it."""
    fields = {"Host": host, "Connection": "close", **headers}
    if body:
        fields = {"Content-Length": str(len(body)), **fields}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def read_answer(data: bytes) -> Answer:
    """An answer that ends with the connection."""
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    headers: dict[str, str] = {}
    for name, _, value in (line.partition(": ") for line in lines):
        headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(_chunks(body))
    return Answer(int(status_line.split()[1]), headers, body)


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, rest = body.partition(b"\r\n")
        yield rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]


def _told_metrics(coverage: Coverage, *, openmetrics: bool = False) -> Iterator[bytes]:
    """What it was told, instead of metrics."""
    yield f"# covered: {coverage.types.sorted()}\n".encode()
    yield f"# openmetrics: {openmetrics}\n".encode()


@asynccontextmanager
async def serving(
    *,
    grants: Mapping[str, Grant] | None = None,
    authenticator: Authenticator | None = None,
    gate: Mapping[str, Any] | None = None,
    http: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    websocket: Mapping[str, Any] | None = None,
    soft_bytes: int = 1 << 18,
    reloads: Reloading | None = None,
    **options: Any,
) -> AsyncIterator[Serving]:
    """Everything but pollers, listening on a free port. Tokens are asked for with `grants`, or an `authenticator`."""
    authenticator = knowing(grants) if grants else authenticator
    house = House(authenticator=authenticator, **options)
    supervisor = FakeSupervisor()
    rules = Gate(authenticator=house.gateway.authentication, bound_host="127.0.0.1", **(gate or {}))
    admissions = Admissions(house.gateway, rules)
    frames: dict[str, Any] = {
        "message_bytes": 65536,
        "send_buffer_soft_bytes": 1 << 18,
        "send_buffer_hard_bytes": 1 << 22,
        **(websocket or {}),
    }
    websocket_server = WebSocketServer(house.gateway, admissions, WebSocketOptions(**frames))
    streams = EventStreams(house.gateway, transport_of=transport_of, soft_bytes=soft_bytes, jitter=lambda: 0.5)
    limits: dict[str, Any] = {"version": "0.1.0", "publish_bytes": 4096, "body_s": 20.0, **(http or {})}
    app = http_api(
        house.gateway,
        supervisor,
        admissions,
        options=ApiOptions(auth="token" if authenticator else "none", **limits),
        open_stream=streams.open,
        transport_of=transport_of,
        render_metrics=_told_metrics,
        url="http://127.0.0.1",
        reloads=reloads,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    running = asyncio.create_task(house.gateway.run())
    try:
        refused = partial(house.gateway.refusals.note, "http")
        limits = {"handshake_s": 20.0, **(server or {})}
        async with serve(app, websocket_server, app.at_once, sock=listener, refused=refused, **limits):
            yield Serving(port, house, supervisor)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
