"""What happens to connections when the process is about to run out of file descriptors.

The kernel gives each connection the lowest free descriptor. So one with a high number is among the last for which there
is room. These are not let in: they are told so and closed, which frees the descriptor for the next. Only probes are
answered, since the process is alive. Without this, the last descriptor would be used up, and then connections would be
closed without a word.
"""

import asyncio
import resource
import time

from tidegate.core.log_events import LimitedEvent
from tidegate.core.problem import ProblemAnswer
from tidegate.errors import RefusalReason
from tidegate.inbound.server.shared import Shared
from tidegate.runtime.limited_log import LoggedFault, Observe

RESERVED = 8
"""How many descriptors are kept free of clients."""

STAY_S = 2.0
"""How long a connection with one of these may stay, in seconds."""

LINE_BYTES = 4096
"""How much of a request is waited for until its first line has come."""

PROBES = (b"GET /healthz ", b"GET /readyz ", b"HEAD /healthz ", b"HEAD /readyz ")

REMEDY = "raise the limit of open files (LimitNOFILE of the service, ulimit -n) above server.max_clients, with 200 more"


class LastPlaces:
    """Knows which connections are among the last that there are descriptors for."""

    def __init__(self, observe: Observe) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._limit = limit
        self._first = limit - RESERVED if limit != resource.RLIM_INFINITY else None
        self._fault = LoggedFault(
            "tidegate.http",
            LimitedEvent.NO_FILE_DESCRIPTOR,
            over="file descriptors are free again",
            now=time.monotonic,
            observe=observe,
        )

    def has(self, transport: asyncio.BaseTransport) -> bool:
        """Return whether a new connection is among the last. Logs when that begins, and when it is over."""
        if self._first is None:
            return False
        if transport.get_extra_info("socket").fileno() < self._first:
            self._fault.fine(limit=self._limit)
            return False
        self._fault.occurred(limit=self._limit, remedy=REMEDY)
        return True


class LastPlace(asyncio.Protocol):
    """Reads the first line of a request in place of `connection`: answers 503, or hands a probe on to it."""

    def __init__(
        self, connection: asyncio.Protocol, transport: asyncio.Transport, shared: Shared, *, address: str
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._shared = shared
        self._address = address
        self._received = b""
        self._is_refused = False
        asyncio.get_running_loop().call_later(STAY_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._received += data
        if self._received.startswith(PROBES):
            self._transport.set_protocol(self._connection)
            self._connection.data_received(self._received)
        elif b"\n" in self._received or len(self._received) > LINE_BYTES:
            self._is_refused = True
            request_id = self._shared.request_id(self._address, None)
            self._shared.refused(RefusalReason.NO_FILE_DESCRIPTOR, self._address, request_id)
            detail = "the gateway has no file descriptor left for clients: come back later"
            answer = ProblemAnswer(503, detail, {"Retry-After": "5"})
            self._transport.write(answer.closing(self._shared.common.block(), request_id=request_id))
            self._transport.close()  # without lingering: the next client needs the descriptor

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
