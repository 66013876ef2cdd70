"""What the gateway itself tells in events: the `data` of the built-in types.

Whoever publishes one of them fills one of these, and the AsyncAPI document is made from them.
"""

import msgspec

from tidegate.core.breaker import Reason, State
from tidegate.core.events import Draft
from tidegate.core.instant import Time, from_rfc3339, rfc3339
from tidegate.errors import ErrorCode


class BreakerState(msgspec.Struct, kw_only=True):
    """A breaker moved, or is there from the start; an operator's command is a move too. The key is its name."""

    breaker: str
    state: State
    from_state: State | None = msgspec.field(name="from")
    reason: Reason
    forced: bool
    failure_count: int
    open_count: int
    opened_at: Time | None
    retry_at: Time | None


class SourceFreshness(msgspec.Struct, kw_only=True):
    """The data of a source became stale, fresh or known. The key is its event type."""

    type: str
    stale: bool
    error_code: ErrorCode | None
    as_of: Time | None


class RpcError(msgspec.Struct, kw_only=True):
    """Calls of a source fail; `suppressed` counts the errors that were not told since the last one."""

    backend: str
    source: str
    error_code: ErrorCode
    message: str
    consecutive_failures: int
    retry_at: Time | None
    suppressed: int


class Heartbeat(msgspec.Struct, kw_only=True):
    """The gateway lives, and this is the newest position."""

    epoch: str
    seq: int
    uptime_s: float
    clients: int


RETAINED_TYPES = ("circuit_breaker.state", "source.freshness")
"""Those of which the newest event of each key is kept."""


def moved(draft: Draft, step_s: float) -> Draft:
    """What a retained `draft` says once the wall clock was set by `step_s` seconds: its times are moved too."""
    data = draft.data
    match draft.type:
        case "circuit_breaker.state":
            told = msgspec.json.decode(data, type=BreakerState)
            told.opened_at = _moved(told.opened_at, step_s)
            told.retry_at = _moved(told.retry_at, step_s)
            data = msgspec.Raw(msgspec.json.encode(told))
        case "source.freshness":
            known = msgspec.json.decode(data, type=SourceFreshness)
            known.as_of = _moved(known.as_of, step_s)
            data = msgspec.Raw(msgspec.json.encode(known))
    return msgspec.structs.replace(
        draft,
        data=data,
        as_of=None if draft.as_of is None else draft.as_of + step_s,
        retry_at=None if draft.retry_at is None else draft.retry_at + step_s,
    )


def _moved(time: Time | None, step_s: float) -> Time | None:
    return None if time is None else rfc3339(from_rfc3339(time) + step_s)
