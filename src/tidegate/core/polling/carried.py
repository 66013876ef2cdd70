"""The whole state of a backend as JSON can carry it, so that another process can go on with it.

One struct for each part that has state. Every time is in Unix seconds, since another process has another monotonic
clock. Calls under way are left out: whatever becomes of them, the process that takes over must not count it.

Values only. Each part makes its own with `carried(now)` and starts from one with `from_carried(...)`.
"""

from collections.abc import Mapping

import msgspec

from tidegate.core.polling.breaker_values import LastFailure, Reason, State, Transition
from tidegate.core.polling.source_values import FreshnessStatus, Items, Told
from tidegate.errors import ErrorCode


class CarriedMove(msgspec.Struct, frozen=True):
    """A `Move` of a breaker's history."""

    at: float
    from_state: State | None
    to: State
    reason: Reason


class CarriedEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """An `Episode` of a breaker."""

    began: float
    openings: int
    knock_from: float
    fruitless: int


class CarriedBreaker(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `Breaker`.

    `mode` is the name of a `Mode`. `window` are the calls that `failure_rate` counts: when each ended, and whether it
    failed. `run_began`, `uncounted` and `run_from` are the `Run` of failures.
    """

    mode: str
    generation: int
    since: float
    failures: int
    successes: int
    openings: int
    retry_at: float | None
    held_until: float | None
    cause: ErrorCode | None
    last_error: LastFailure | None
    history: list[CarriedMove]
    window: list[tuple[float, bool]]
    run_began: float | None
    uncounted: int
    run_from: list[str]
    unreachable: bool
    episode: CarriedEpisode | None


class CarriedTold(msgspec.Struct, frozen=True):
    """A `Told`. An item without a key has the key "". `items` are None if the source holds the very same."""

    status: FreshnessStatus | None
    items: dict[str, msgspec.Raw] | None


class CarriedFreshness(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `Freshness`. An item without a key has the key "".

    `is_reloaded`: before any request has brought a value, what is held was asked for in another way. `told` is what the
    bus has published.
    """

    interval_s: float
    limit_s: float
    items: dict[str, msgspec.Raw]
    sent_at: float | None
    held_request: int
    attempt: int
    failure: ErrorCode | None
    is_known: bool
    is_reloaded: bool
    told: CarriedTold


class CarriedReports(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an `ErrorReports`. Times are None if that never happened."""

    failures: int
    suppressed: int
    reported_at: float | None
    well_since: float | None


class CarriedTicks(msgspec.Struct, frozen=True, kw_only=True):
    """The ticks of one source in a `Schedule`."""

    interval_s: float
    anchor: float
    next_at: float
    missed: int


class CarriedCalls(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `SourceCalls`. Times are None if that never happened."""

    last_sent: float | None
    last_off_grid: float | None
    tick_refused: bool
    failed_alone: bool
    refusals: int
    waits_until: float | None


class CarriedSource(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `Source`."""

    freshness: CarriedFreshness
    reports: CarriedReports
    requests: int
    attempted: bool
    idle: bool
    calls: CarriedCalls
    missed_counted: int


class CarriedBackend(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `BackendState`.

    `held_back` are the sources that are asked when a hold ends, and `due` those that are asked at once. `untold` are
    the moves of breakers not published yet, oldest first. `busy` counts the refusals in a row without a time to wait.
    """

    breakers: dict[str, CarriedBreaker]
    sources: dict[str, CarriedSource]
    ticks: dict[str, CarriedTicks]
    held_back: list[str]
    due: list[str]
    busy: int
    untold: list[Transition]


def carried_told(told: Told, held: Items) -> CarriedTold:
    """Return `told` as JSON can carry it; `held` are the items that its source holds now."""
    # The items are mostly the same, and may be large: they are carried once.
    items = None if told.items is held else carried_items(told.items)
    return CarriedTold(told.status, items)


def told_from(carried: CarriedTold, held: Items) -> Told:
    """The inverse of `carried_told`."""
    items = held if carried.items is None else items_from(carried.items)
    return Told(carried.status, items)


def carried_items(items: Items) -> dict[str, msgspec.Raw]:
    """Return `items` as JSON can carry them: "" stands for no key."""
    return {key or "": data for key, data in items.items()}


def items_from(items: Mapping[str, msgspec.Raw]) -> Items:
    """The inverse of `carried_items`."""
    return {key or None: data for key, data in items.items()}
