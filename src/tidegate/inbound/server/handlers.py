"""Who answers the requests of a server: the ASGI application, what needs neither task nor scope, or a WebSocket."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Literal, Protocol, cast

import msgspec

from tidegate.inbound.server.cycle import AsgiApp, RequestCycle, WholeAnswer, scope_of
from tidegate.inbound.server.reading import RequestHead
from tidegate.runtime.access import LOCAL_ADDRESS, Request

TRANSPORT = "tidegate.transport"

Upgrade = Callable[[asyncio.Transport, str, str, Request], object]
"""Takes the connection of an upgrade request over: its transport, method, target and what else is asked."""


class AtOnce(Protocol):
    """Answers some requests without waiting, which then need no task and no ASGI scope."""

    def wants(self, method: str, path: bytes) -> bool:
        """Whether such a request is for it, if the whole of it has come."""

    def answer(
        self, asked: Request, method: str, path: bytes, body: bytes
    ) -> WholeAnswer | Awaitable[WholeAnswer] | None:
        """The answer, or how to wait for it; None, and nothing done, to have the application answer."""


class Peer(msgspec.Struct, frozen=True):
    """Whose requests they are. `client` is the address and port of the other end, None where it has none."""

    transport: asyncio.Transport
    client: tuple[str, int] | None
    scheme: Literal["http", "https"]

    @property
    def address(self) -> str:
        """The address alone, "" where it has none."""
        return self.client[0] if self.client else ""

    def asks(self, head: RequestHead) -> Request:
        """What the rules of admission judge."""
        return Request.read(self.address, self.scheme, head.fields, local_address=self.local_address)

    @property
    def local_address(self) -> Callable[[], str]:
        """Tells the address of our end: few requests are asked for it, and the kernel has to be."""
        return functools.partial(_local_address, self.transport)


class Handlers:
    """Starts the answers. `tasks` are those that run."""

    def __init__(self, app: AsgiApp, upgrade: Upgrade, at_once: AtOnce | None) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._app = app
        self._upgrade = upgrade
        self._at_once = at_once

    def answers_at_once(self, head: RequestHead) -> bool:
        """Whether the request could be answered at once, if the whole of it has come."""
        return self._at_once is not None and self._at_once.wants(head.method, head.path)

    def answer_at_once(self, cycle: RequestCycle, peer: Peer) -> None:
        """Answer a request that has come as a whole, and for which `answers_at_once`."""
        assert self._at_once is not None, "somebody wanted it"
        head = cycle.head
        try:
            outcome = self._at_once.answer(peer.asks(head), head.method, head.path, cycle.body)
            if outcome is None:
                self.start(cycle, peer)
            elif isinstance(outcome, tuple):
                cycle.tell(*outcome)
            else:
                self._run(cycle.run(cycle.tell_later(outcome)))
        except Exception as error:  # noqa: BLE001 - every error is answered
            cycle.fail(error)

    def start(self, cycle: RequestCycle, peer: Peer) -> None:
        """Have the application answer."""
        state = {TRANSPORT: peer.transport, LOCAL_ADDRESS: peer.local_address}
        scope = scope_of(cycle.head, scheme=peer.scheme, client=peer.client, state=state)
        self._run(cycle.run(self._app(scope, cycle.receive, cycle.send)))

    def upgrade(self, head: RequestHead, peer: Peer) -> None:
        """Hand the connection on to whoever answers upgrades."""
        self._upgrade(peer.transport, head.method, head.target.decode("latin-1"), peer.asks(head))

    def _run(self, answering: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(answering)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def transport_of(scope: Mapping[str, Any]) -> asyncio.Transport:
    """The transport under an ASGI scope that came from here: to see what it holds unsent, or to abort it."""
    return cast("asyncio.Transport", scope["state"][TRANSPORT])


def _local_address(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("sockname")
    return name[0] if isinstance(name, tuple) else ""
