"""What the connections of one server have in common: who answers, how long anybody waits, what is read and ended."""

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Literal, Protocol

import msgspec

from tidegate.errors import RefusalReason
from tidegate.inbound.server.answering import CommonFields
from tidegate.inbound.server.deadlines import Deadlines
from tidegate.inbound.server.handlers import Handlers

OnRefused = Callable[[RefusalReason, str], None]
"""Told of a connection that was ended before it had sent a whole request: why, and the address of its peer."""


class Use(Enum):
    """What is done with the bytes that come."""

    READ = auto()
    HANDED_ON = auto()
    """The connection is a WebSocket's."""
    THROWN_AWAY = auto()
    """It was refused, and ends."""


class Served(Protocol):
    """A connection, as its server ends it."""

    def shutdown(self) -> None: ...

    def abort(self) -> None: ...


class Shared(msgspec.Struct, kw_only=True):
    """What the connections of one server share. `gone` is called when one ended or became a WebSocket."""

    handlers: Handlers
    refused: OnRefused
    scheme: Literal["http", "https"]
    body_bytes: int
    slow_grace_s: float
    heads: Deadlines[Any]
    idle: Deadlines[Any]
    common: CommonFields
    gone: Callable[[], None]
    connections: set["Served"] = msgspec.field(default_factory=set)
    is_ending: bool = False
