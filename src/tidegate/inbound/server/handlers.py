"""Hands each request to its handler: `AtOnce` if it can answer without waiting, else the ASGI application.

Connections that become WebSockets go to the `Upgrade` callback. Knows nothing of how requests are read.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Literal, Protocol, cast

import msgspec

from tidegate.inbound.server.cycle import AsgiApp, RequestCycle, WholeAnswer, scope_of
from tidegate.inbound.server.reading import RequestHead
from tidegate.runtime.access import LOCAL_ADDRESS, REQUEST_ID, Request

TRANSPORT = "tidegate.transport"

Upgrade = Callable[[asyncio.Transport, str, str, Request], object]
"""Takes over the connection of an upgrade request. Gets its transport, the method and target, and the request."""


class AtOnce(Protocol):
    """Answers the cheapest and most frequent requests directly.

    For those, a task and an ASGI scope would cost more than the answer (docs/design/front-door.md).
    """

    def wants(self, method: str, path: bytes) -> bool:
        """Whether it may answer such a request, once the whole request has been received."""

    def answer(
        self, request: Request, method: str, path: bytes, body: bytes
    ) -> WholeAnswer | Awaitable[WholeAnswer] | None:
        """Return the answer, or an awaitable of it. Return None, without any effect, to leave it to the application."""


class Peer(msgspec.Struct, frozen=True):
    """The client at the other end of a connection. `client` is its address and port, None if it has none."""

    transport: asyncio.Transport
    client: tuple[str, int] | None
    scheme: Literal["http", "https"]

    @property
    def address(self) -> str:
        """The IP address alone; "" if there is none, as on a Unix socket."""
        return self.client[0] if self.client else ""

    def request(self, head: RequestHead, request_id: str) -> Request:
        """Make the part of a request that admission needs."""
        return Request.read(
            self.address, self.scheme, head.fields, local_address=self.local_address, request_id=request_id
        )

    @property
    def local_address(self) -> Callable[[], str]:
        """A function that returns the address of our end. It makes a system call, and few requests need it."""
        return functools.partial(_local_address, self.transport)


class Handlers:
    """Starts the handlers of requests. `tasks` are the running ones."""

    def __init__(self, app: AsgiApp, upgrade: Upgrade, at_once: AtOnce | None) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._app = app
        self._upgrade = upgrade
        self._at_once = at_once

    def replace(self, app: AsgiApp, at_once: AtOnce | None) -> None:
        """Have requests answered by these from now on. Those that are being answered are not affected."""
        self._app, self._at_once = app, at_once

    def answers_at_once(self, head: RequestHead) -> bool:
        """Whether the request can be answered at once, if the whole request is received in this read."""
        return self._at_once is not None and self._at_once.wants(head.method, head.path)

    def answer_at_once(self, cycle: RequestCycle, peer: Peer) -> None:
        """Answer a request for which `answers_at_once` is true, and which has been received whole."""
        assert self._at_once is not None, "answers_at_once was true"
        head = cycle.head
        try:
            outcome = self._at_once.answer(peer.request(head, cycle.id), head.method, head.path, cycle.body)
            if outcome is None:
                self.start(cycle, peer)
            elif isinstance(outcome, tuple):
                cycle.send_whole(*outcome)
            else:
                self._run(cycle.run(cycle.send_whole_later(outcome)))
        except Exception as error:  # noqa: BLE001 - every error is answered
            cycle.fail(error)

    def start(self, cycle: RequestCycle, peer: Peer) -> None:
        """Start a task in which the application answers."""
        state = {TRANSPORT: peer.transport, LOCAL_ADDRESS: peer.local_address, REQUEST_ID: cycle.id}
        scope = scope_of(cycle.head, scheme=peer.scheme, client=peer.client, state=state)
        self._run(cycle.run(self._app(scope, cycle.receive, cycle.send)))

    def upgrade(self, head: RequestHead, peer: Peer, request_id: str) -> None:
        """Hand the connection over to become a WebSocket."""
        self._upgrade(peer.transport, head.method, head.target.decode("latin-1"), peer.request(head, request_id))

    def _run(self, answering: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(answering)
        self.tasks.add(task)  # asyncio keeps only a weak reference
        task.add_done_callback(self.tasks.discard)


def transport_of(scope: Mapping[str, Any]) -> asyncio.Transport:
    """Return the transport of an ASGI scope that this server made, to see how much is unsent, or to abort it."""
    return cast("asyncio.Transport", scope["state"][TRANSPORT])


def _local_address(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("sockname")
    return name[0] if isinstance(name, tuple) else ""
