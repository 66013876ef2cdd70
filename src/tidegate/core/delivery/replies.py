"""The gateway's messages to one connection alone: the welcome, answers to requests, and why the connection ends.

Each function returns one message as a frame. `wall` is the time that the message shows, in Unix seconds. Knows nothing
of when a message may be sent or of what follows it.
"""

from msgspec import Raw, UnsetType

from tidegate.core import envelope as wire
from tidegate.core.delivery.framing import Framing
from tidegate.core.delivery.session import AddPatterns, RemovePatterns
from tidegate.core.events import GapReason, Position
from tidegate.core.instant import rfc3339
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode, MessageError

_RETRYABLE = {CloseCode.TOO_SLOW, CloseCode.INTERNAL_ERROR}
"""Close codes after which it helps to connect again. The other errors have a cause that the client must remove."""


def welcome(
    framing: Framing,
    *,
    wall: float,
    client_id: str,
    request_id: str,
    server: str,
    begin: Position,
    resumed: bool,
    patterns: PatternSet,
    heartbeat_interval_s: float,
) -> bytes:
    """Return the first message. The stream begins after `begin`; if the client `resumed`, with a replay."""
    data = wire.WelcomeData(
        client_id=client_id,
        request_id=request_id,
        protocol=wire.PROTOCOL_VERSION,
        server=server,
        epoch=begin.epoch,
        seq=begin.seq,
        resumed=resumed,
        subscriptions=patterns.sorted(),
        heartbeat_interval_s=heartbeat_interval_s,
    )
    return message(framing, "welcome", wire.Welcome(timestamp=rfc3339(wall), data=data))


def cannot_resume(framing: Framing, reason: GapReason, *, wall: float, requested: Position | None) -> bytes:
    """Return the gap that says why (`reason`) there is no replay from `requested`."""
    return framing.message("gap", wire.encode_gap(reason, timestamp=wall, requested=requested, skipped={}))


def subscribed(framing: Framing, effect: AddPatterns, *, wall: float, position: Position) -> bytes:
    """Return the answer to a subscribe, which takes effect at `position`."""
    data = wire.SubscribedData(
        types=effect.patterns.sorted(), added=effect.added.sorted(), epoch=position.epoch, seq=position.seq
    )
    return message(framing, "subscribed", wire.Subscribed(timestamp=rfc3339(wall), id=effect.id, data=data))


def unsubscribed(framing: Framing, effect: RemovePatterns, *, wall: float) -> bytes:
    """Return the answer to an unsubscribe."""
    data = wire.UnsubscribedData(types=effect.patterns.sorted(), removed=effect.removed.sorted())
    return message(framing, "unsubscribed", wire.Unsubscribed(timestamp=rfc3339(wall), id=effect.id, data=data))


def authenticated(framing: Framing, request_id: Raw | UnsetType, *, wall: float, left: PatternSet) -> bytes:
    """Return the message that a new token was accepted. `left` are the patterns that it still covers."""
    data = wire.AuthenticatedData(types=left.sorted())
    return message(framing, "authenticated", wire.Authenticated(timestamp=rfc3339(wall), id=request_id, data=data))


def pong(framing: Framing, request_id: Raw | UnsetType, *, wall: float) -> bytes:
    """Return the answer to a ping message."""
    return message(framing, "pong", wire.Pong(timestamp=rfc3339(wall), id=request_id))


def error(framing: Framing, request_id: Raw | UnsetType, refused: MessageError, *, wall: float) -> bytes:
    """Return the message that a request was refused. The connection stays open."""
    data = wire.ErrorData(code=refused.code, message=str(refused), retryable=refused.retryable)
    return message(framing, "error", wire.Error(timestamp=rfc3339(wall), id=request_id, data=data))


def synced(framing: Framing, position: Position, *, wall: float) -> bytes:
    """Return the message that everything up to `position` was sent."""
    return framing.synced(position, wire.encode_synced(position, timestamp=wall))


def connection_error(framing: Framing, code: CloseCode, reason: str, *, wall: float) -> bytes:
    """Return the last message before the connection is closed because of an error."""
    data = wire.ConnectionErrorData(code=code, message=reason, retryable=code in _RETRYABLE)
    return message(framing, "connection_error", wire.ConnectionError(timestamp=rfc3339(wall), data=data))


def message(framing: Framing, name: str, content: wire.Message) -> bytes:
    """Return any message, `content`, whose type on the wire is `name`."""
    return framing.message(name, wire.encode(content))
