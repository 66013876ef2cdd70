"""The request and response bodies of the API. `shown.py` has those of the status routes."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from tidegate.core.access.grant import Grant, Role
from tidegate.core.envelope import EventEnvelope
from tidegate.core.events import Position
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
"""The last second that RFC 3339 can express, in Unix seconds. A token that expires later is shown without an end."""


class Health(msgspec.Struct):
    """The process answers requests."""

    status: Literal["ok"] = "ok"


class Ready(msgspec.Struct):
    """The gateway is ready. `stale` is the number of stale sources; present only if degraded."""

    status: Literal["ready", "degraded"]
    stale: int | UnsetType = UNSET


class NotReady(msgspec.Struct):
    """The gateway is not ready.

    The first poll of a source has not ended yet, or the process has just stood still for more than 5 s, or it is
    draining.
    """

    status: Literal["starting", "stalled", "draining"]


class Session(msgspec.Struct, kw_only=True):
    """What the client may do. `types` null means all types; without a valid token `roles` and `types` are empty.

    `authenticated` is null while tokens cannot be checked yet. `retry_after_s` is null, unless a stream would be
    refused now but not later: while there are too many clients, during a drain, or while tokens cannot be checked.
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
    """The retained events, as a new subscriber would get them. `seq` is the position when the snapshot was started."""

    epoch: str
    seq: int
    events: list[EventEnvelope]


class Published(msgspec.Struct):
    """The position of the last published event."""

    epoch: str
    seq: int


class Publication(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An event to publish. With `retain`, new subscribers get it too, for `ttl_s` seconds if given.

    They get it after a restart as well, if the gateway has a `state_dir`.
    """

    type: Annotated[str, Meta(extra_json_schema=EVENT_TYPE_SCHEMA)]
    data: Raw
    key: Annotated[str, Meta(min_length=1, max_length=MAX_KEY)] | None = None
    retain: bool = False
    ttl_s: Annotated[float, Meta(gt=0)] | None = None


class Polled(msgspec.Struct):
    """The backend whose sources are being polled."""

    backend: str


def what_is_granted(grant: Grant | None) -> tuple[list[Role], list[str] | None, Time | None]:
    """Return roles, types and expiry of a grant, in the form of `Session`. None grants nothing."""
    if grant is None:
        return [], [], None
    roles = [role for role in Role if role in grant.roles]
    types = None if grant.allowed.covers("*") else grant.allowed.sorted()
    if grant.expires_at is None or grant.expires_at >= END_OF_TIME:
        return roles, types, None
    return roles, types, rfc3339(grant.expires_at)


def published(position: Position) -> Published:
    """Make the response to a publisher from a position."""
    return Published(position.epoch, position.seq)
