"""The WebSocket server: admits or refuses upgrade requests, and pings all connections from one timer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidegate.core.access.grant import Role
from tidegate.core.delivery.framing import WEBSOCKET
from tidegate.errors import AccessRefused, CloseCode, LeaveReason, RefusalReason
from tidegate.inbound.websocket import handshake
from tidegate.inbound.websocket.protocol import ProtocolOptions, WebSocketProtocol
from tidegate.runtime.access import Request
from tidegate.runtime.admission import Admission, Admissions
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.keeping import kept_running
from tidegate.runtime.request_counts import OTHER_ROUTE

PING_S = 20.0
"""Seconds between pings. A connection from which nothing was received since the last ping is closed.

Shorter than the idle timeouts of proxies (nginx 60 s).
"""

PATHS = ("/ws", "/ws/")

SWITCHING_PROTOCOLS = 101
NOT_FOUND = 404


class WebSocketOptions(ProtocolOptions, frozen=True, kw_only=True):
    """The options of each connection, and `root_path`: the path prefix that a proxy adds, "" if none."""

    root_path: str = ""


class WebSocketServer:
    """Takes over the connections that ask for an upgrade, and pings them.

    `running` must be entered before the first one. The connections are spread over slots, one for each second of
    `PING_S`. Each second one slot is pinged: a timer for each connection would cost more.
    """

    def __init__(self, gateway: Gateway, admissions: Admissions, options: WebSocketOptions) -> None:
        self._gateway = gateway
        self._admissions = admissions
        self._options = options
        self._slots: list[dict[WebSocketProtocol, None]] = [{} for _ in range(int(PING_S))]
        self._slot = 0
        self._ended_callback = self._ended  # one bound method for all connections
        gateway.requests.know([PATHS[0]])

    def __call__(self, transport: asyncio.Transport, method: str, target: str, request: Request) -> WebSocketProtocol:
        """Answer an upgrade request. The returned protocol owns `transport` from then on, also if it was refused.

        `target` is the path with its query.
        """
        protocol = WebSocketProtocol(transport, self._options, slot=self._slot, ended=self._ended_callback)
        self._slots[self._slot][protocol] = None
        try:
            admission = self._admit(target, request)
            acceptance = handshake.acceptance(method, request.headers, request_id=request.id)
        except AccessRefused as refused:
            answer = handshake.refusal(refused)
            protocol.refuse(answer.closing(request_id=request.id))
            self._admissions.note_answered(OTHER_ROUTE if answer.status == NOT_FOUND else PATHS[0], answer.status)
            self._admissions.note_refused(request, "websocket", answer.reason)
            return protocol
        connection = self._gateway.clients.connect(
            protocol,
            transport="websocket",
            address=admission.address,
            request_id=admission.request_id,
            framing=WEBSOCKET,
            grant=admission.grant,
            patterns=admission.patterns,
            token=admission.token,
            revision=admission.revision,
        )
        self._admissions.note_answered(PATHS[0], SWITCHING_PROTOCOLS)
        protocol.open(connection)
        connection.start(admission.since, by_default=admission.by_default, preamble=acceptance)
        return protocol

    def follow(self, options: WebSocketOptions) -> None:
        """Take on other options, for connections that come from now on."""
        self._options = options

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ping the connections while the context is open. Leaving closes them all."""
        async with kept_running({"websocket": self.run}, self._gateway.clock, observe=self._gateway.observe):
            yield

    async def run(self) -> None:
        """Ping one slot of connections each second, until cancelled. Then close all connections."""
        try:
            while True:
                await asyncio.sleep(PING_S / len(self._slots))
                self._slot = (self._slot + 1) % len(self._slots)
                for protocol in list(self._slots[self._slot]):
                    protocol.check_alive()
        finally:
            for protocol in [protocol for slot in self._slots for protocol in slot]:
                protocol.abort(CloseCode.GOING_AWAY, "the gateway ends")

    def _ended(self, protocol: WebSocketProtocol, reason: LeaveReason, detail: str) -> None:
        self._slots[protocol.slot].pop(protocol, None)
        if protocol.connection is not None:
            self._gateway.clients.disconnect(protocol.connection, reason, detail)

    def _admit(self, target: str, request: Request) -> Admission:
        path, _, query = target.partition("?")
        self._admissions.arrive(request)  # host and origin first: to others, not even the path is checked
        if path.removeprefix(self._options.root_path) not in PATHS:
            raise AccessRefused(
                404, f"expected the path {PATHS[0]}, got {path[:200]!r}", reason=RefusalReason.MALFORMED
            )
        handshake.check_version(request.headers)
        return self._admissions.admit(request, Role.SUBSCRIBER, "websocket", query=query)
