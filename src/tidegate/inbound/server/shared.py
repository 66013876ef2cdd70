"""What the connections of one server share: the handlers, the limits and the timeouts."""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Literal, Protocol

import msgspec

from tidegate.errors import RefusalReason
from tidegate.inbound.server.answering import CommonFields
from tidegate.inbound.server.deadlines import Deadlines
from tidegate.inbound.server.handlers import Handlers
from tidegate.runtime.request_ids import RequestId

OnRefused = Callable[[RefusalReason, str, str], None]
"""Called when a connection is refused before a whole request came.

It gets the reason, the client's IP address, and the id of the request.
"""


class Input(Enum):
    """What a connection does with the bytes that it receives."""

    PARSED = auto()
    """Parses requests."""
    HANDED_ON = auto()
    """Passes them to the WebSocket that it has become."""
    DISCARDED = auto()
    """Discards them: it ends. It was refused, or the last request that will be answered has come whole."""


class Served(Protocol):
    """A connection, as far as the server needs it at its own end."""

    def shutdown(self) -> None: ...

    def abort(self) -> None: ...


class Shared(msgspec.Struct, kw_only=True):
    """What the connections of one server share.

    `request_id` makes the id of each request. `heads` closes connections that send no whole request head in time, or
    not the rest of a request that is answered.
    `idle` closes those between two requests. `gone` is called when a connection has ended or become a WebSocket.
    `is_last` tells whether a new connection is one of the last for which there are file descriptors.
    `is_ending` is set when the server shuts down.
    """

    handlers: Handlers
    refused: OnRefused
    request_id: RequestId
    scheme: Literal["http", "https"]
    body_bytes: int
    slow_grace_s: float
    heads: Deadlines[Any]
    idle: Deadlines[Any]
    common: CommonFields
    gone: Callable[[], None]
    is_last: Callable[[asyncio.BaseTransport], bool] = lambda _: False
    connections: set["Served"] = msgspec.field(default_factory=set)
    is_ending: bool = False

    def turn_away(self, reason: RefusalReason, address: str, request_id: str | None = None) -> str:
        """Report that a request is refused. Return its id, which is made here if `request_id` is None."""
        request_id = request_id or self.request_id(address, None)
        self.refused(reason, address, request_id)
        return request_id
