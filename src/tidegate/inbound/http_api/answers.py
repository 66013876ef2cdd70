"""The bodies of the API, as structs; those of the status are in `shown.py`."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from tidegate.core.envelope import EventEnvelope
from tidegate.core.events import Position
from tidegate.core.grant import Grant, Role
from tidegate.core.instant import Time, rfc3339
from tidegate.core.topics import MAX_CHARACTERS, MAX_SEGMENTS
from tidegate.inbound.http_api.services import AuthMode
from tidegate.runtime.supervisor import ReadinessStatus

EVENT_TYPE_SCHEMA = {
    "pattern": rf"^[a-z0-9_-]+(\.[a-z0-9_-]+){{0,{MAX_SEGMENTS - 1}}}$",
    "maxLength": MAX_CHARACTERS,
}

MAX_KEY = 256

END_OF_TIME = 253_402_300_799.0
"""The last second that RFC 3339 can write, in Unix seconds: a token that is good for longer is good for ever."""


class Health(msgspec.Struct):
    """The process serves."""

    status: Literal["ok"] = "ok"


class Ready(msgspec.Struct):
    """`stale` counts the sources that are stale; there only when degraded."""

    status: Literal["ready", "degraded"]
    stale: int | UnsetType = UNSET


class NotReady(msgspec.Struct):
    """Before every source's first attempt has ended, or while the gateway drains."""

    status: Literal["starting", "draining"]


class Session(msgspec.Struct, kw_only=True):
    """What the caller may do. `types` null is everything; without a valid token `roles` and `types` are empty.

    `authenticated` is null while nobody can check tokens yet. `retry_after_s` is null unless a stream would be refused
    now for want of something that will come: room, the end of a drain, keys.
    """

    version: str
    auth: AuthMode
    authenticated: bool | None
    roles: list[Role]
    types: list[str] | None
    expires_at: Time | None
    status: ReadinessStatus
    retry_after_s: int | None
    now: Time


class Snapshot(msgspec.Struct):
    """The retained events, as a new subscriber would be handed them. `seq` is the position at the beginning."""

    epoch: str
    seq: int
    events: list[EventEnvelope]


class Published(msgspec.Struct):
    """The position of the last event that was published."""

    epoch: str
    seq: int


class Publication(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An event to publish. With `retain` new subscribers are handed it, for `ttl_s` seconds if that is given."""

    type: Annotated[str, Meta(extra_json_schema=EVENT_TYPE_SCHEMA)]
    data: Raw
    key: Annotated[str, Meta(min_length=1, max_length=MAX_KEY)] | None = None
    retain: bool = False
    ttl_s: Annotated[float, Meta(gt=0)] | None = None


class Polled(msgspec.Struct):
    """Whose sources are polled now."""

    backend: str


def what_is_granted(grant: Grant | None) -> tuple[list[Role], list[str] | None, Time | None]:
    """Roles, types and end of a grant as `Session` tells them; None grants nothing."""
    if grant is None:
        return [], [], None
    roles = [role for role in Role if role in grant.roles]
    types = None if grant.allowed.covers("*") else grant.allowed.sorted()
    if grant.expires_at is None or grant.expires_at >= END_OF_TIME:
        return roles, types, None
    return roles, types, rfc3339(grant.expires_at)


def published(position: Position) -> Published:
    """A position as the answer to a publisher."""
    return Published(position.epoch, position.seq)
