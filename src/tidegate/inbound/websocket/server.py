"""Upgrades: who is let in, and one timer that pings everybody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidegate.core.framing import WEBSOCKET
from tidegate.core.grant import Role
from tidegate.core.query import StreamQuery, parse_stream_query
from tidegate.errors import AccessRefused, CloseCode, RefusalReason
from tidegate.inbound.websocket import handshake, subprotocol
from tidegate.inbound.websocket.protocol import ProtocolOptions, WebSocketProtocol
from tidegate.runtime.access import Admission, Gate, Request, bearer_token
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.keeping import kept_running

PING_S = 20.0
"""A connection is pinged this often, and closed if nothing came from it between two pings."""

PATHS = ("/ws", "/ws/")


class WebSocketOptions(ProtocolOptions, frozen=True, kw_only=True):
    """What the adapter itself needs to know. `root_path` is the prefix of a proxy, "" without one."""

    root_path: str = ""


class WebSocketServer:
    """Takes over the connections that ask for an upgrade, and pings them all from one timer.

    `running` must be entered while connections are open.
    """

    def __init__(self, gateway: Gateway, gate: Gate, options: WebSocketOptions) -> None:
        self._gateway = gateway
        self._gate = gate
        self._options = options
        self._slots: list[dict[WebSocketProtocol, None]] = [{} for _ in range(int(PING_S))]
        self._slot = 0
        self._ended_callback = self._ended  # one bound method for all connections

    def __call__(self, transport: asyncio.Transport, method: str, target: str, asked: Request) -> WebSocketProtocol:
        """Answer an upgrade request that came on `transport`, which is the result's from now on.

        `target` is the request's path with its query.
        """
        protocol = WebSocketProtocol(transport, self._options, slot=self._slot, ended=self._ended_callback)
        self._slots[self._slot][protocol] = None
        try:
            admission, query = self._admit(target, asked)
            patterns = self._gateway.patterns_for(query.types, admission.grant)
            answer = handshake.acceptance(method, asked.headers)
        except AccessRefused as refused:
            protocol.refuse(handshake.refusal(refused))
            if refused.reason is not None:
                self._gateway.refusals.note("websocket", refused.reason, self._gate.address(asked))
            return protocol
        connection = self._gateway.connect(
            protocol,
            transport="websocket",
            address=admission.address,
            framing=WEBSOCKET,
            grant=admission.grant,
            patterns=patterns,
        )
        protocol.open(connection)
        connection.start(query.since, by_default=query.types is None, preamble=answer)
        return protocol

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connections are pinged while the context is open. Leaving it ends them all."""
        async with kept_running({"websocket": self.run}, self._gateway.clock):
            yield

    async def run(self) -> None:
        """Ping connections, each once in `PING_S`, a slot of them each second, until cancelled; then end them all."""
        try:
            while True:
                await asyncio.sleep(PING_S / len(self._slots))
                self._slot = (self._slot + 1) % len(self._slots)
                for protocol in list(self._slots[self._slot]):
                    protocol.check_alive()
        finally:
            for protocol in [protocol for slot in self._slots for protocol in slot]:
                protocol.abort(CloseCode.GOING_AWAY, "the gateway ends")

    def _ended(self, protocol: WebSocketProtocol, reason: str) -> None:
        self._slots[protocol.slot].pop(protocol, None)
        if protocol.connection is not None:
            self._gateway.disconnect(protocol.connection, reason)

    def _admit(self, target: str, asked: Request) -> tuple[Admission, StreamQuery]:
        path, _, query_string = target.partition("?")
        self._gate.check_host(asked)
        self._gate.check_origin(asked)
        if path.removeprefix(self._options.root_path) not in PATHS:
            raise AccessRefused(
                404, f"expected the path {PATHS[0]}, got {path[:200]!r}", reason=RefusalReason.MALFORMED
            )
        handshake.check_version(asked.headers)
        self._gateway.check_room()
        query = parse_stream_query(query_string)
        token = query.token
        if subprotocol.FIELD in asked.headers and bearer_token(asked) is None:
            offered = subprotocol.offered_token(asked.headers)
            token = token if offered is None else offered
        return self._gate.authenticate(asked, token, Role.SUBSCRIBER), query
