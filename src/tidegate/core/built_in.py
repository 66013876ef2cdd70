"""The `data` of the built-in event types, which only the gateway publishes.

The AsyncAPI document is made from these classes: their docstrings are its descriptions.
"""

from collections.abc import Mapping
from typing import get_args, get_type_hints

import msgspec

from tidegate.core.events import DRAFT_TIMES, Draft
from tidegate.core.instant import Time, from_rfc3339, rfc3339
from tidegate.core.polling.breaker_values import Reason, State
from tidegate.errors import ErrorCode


class BreakerState(msgspec.Struct, kw_only=True):
    """A circuit breaker changed its state, began in it, or got an operator's command. The key is the breaker's name.

    `retry_at` is the latest time at which the backend is asked again. It is asked sooner if a connection to it can be
    made (`reason` `reachable`), or if somebody asks for a poll (`poke`).
    """

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
    """The data of a source became stale or fresh, or arrived for the first time. The key is the source's event type."""

    type: str
    stale: bool
    error_code: ErrorCode | None
    as_of: Time | None


class RpcError(msgspec.Struct, kw_only=True):
    """Calls of a source fail. `suppressed` counts the failures since the last such event that were not published."""

    backend: str
    source: str
    error_code: ErrorCode
    message: str
    consecutive_failures: int
    retry_at: Time | None
    suppressed: int


class Heartbeat(msgspec.Struct, kw_only=True):
    """The gateway is alive. `epoch` and `seq` are the newest position."""

    epoch: str
    seq: int
    uptime_s: float
    clients: int


RETAINED: Mapping[str, type[msgspec.Struct]] = {
    "circuit_breaker.state": BreakerState,
    "source.freshness": SourceFreshness,
}
"""The built-in types that are retained, with the class of their data."""

_TIMES = {
    event_type: [name for name, hint in get_type_hints(data, include_extras=True).items() if Time in get_args(hint)]
    for event_type, data in RETAINED.items()
}


def with_times_moved(draft: Draft, step_s: float) -> Draft:
    """Return `draft` with all its times moved by `step_s` seconds, because the wall clock was set by that much."""
    data = draft.data
    if (data_type := RETAINED.get(draft.type)) is not None:
        content = msgspec.json.decode(data, type=data_type)
        for name in _TIMES[draft.type]:
            if (time := getattr(content, name)) is not None:
                setattr(content, name, rfc3339(from_rfc3339(time) + step_s))
        data = msgspec.Raw(msgspec.json.encode(content))
    moments = {name: moment for name in DRAFT_TIMES if (moment := getattr(draft, name)) is not None}
    later = {name: moment + step_s for name, moment in moments.items()}
    return msgspec.structs.replace(draft, data=data, **later)
