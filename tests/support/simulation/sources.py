"""What is known of one source, and what subscribers were told of it."""

from typing import NamedTuple

import msgspec

from simulation.accounts import Account
from simulation.backend import UNMAPPABLE
from simulation.breakers import Model
from simulation.clients import Message
from simulation.tap import Exchange
from simulation.verdicts import Result, code
from tidegate.config import SourceConfig
from tidegate.errors import MappingFailed

EDGE_S = 0.03
"""So close to a limit either side of it may be told. A call that is about to end then is waited for."""

GRID_S = 0.003
"""A call is as near to its tick where nobody waits for a connection."""

FIRST_POLL_S = 1.0
"""Within this every source is asked first."""

Items = dict[str, bytes]


class CallEnd(NamedTuple):
    """How a call ended: when, how many had failed in a row then, whether it `timed_out`, or found no connection."""

    at: float
    in_row: int
    timed_out: bool
    is_unreachable: bool


class Known(msgspec.Struct, frozen=True):
    """What is known of a source after some of its calls have ended; `sent` is monotonic time."""

    items: Items | None = None
    sent: float = 0.0
    failure: str | None = None
    attempts: int = 0


class Source:
    """One source: what is known, and what subscribers were told of it. `account` is how it stands with its account."""

    def __init__(
        self, event_type: str, settings: SourceConfig, timeout_s: float, model: Model, account: Account
    ) -> None:
        self.type = event_type
        self.settings = settings
        self.model = model
        self.account = account
        self.timeout_s = timeout_s
        self.limit_s = max(2 * settings.interval_s, settings.interval_s + timeout_s)
        self.tick_s = max(1.5 * settings.interval_s + timeout_s, self.limit_s)
        """Up to 1.5 intervals from a call off the grid to the next tick, and its call; nobody is asked in a hold."""
        self.wait_s = 0.0
        """How long it may wait for one of the backend's connections."""
        self.known = [Known()]
        """What was known before the present instant, and after each call that ended in it."""
        self.items: dict[str, Message] = {}
        self.stale = True
        self.code: str | None = None
        self.told_at: float | None = None
        self.freshness: tuple[bool, bool, str | None] | None = None
        self.overdue_told_at = float("-inf")
        self.turns: list[tuple[float, bool]] = []
        self.running: Exchange | None = None
        # its calls
        self.anchor: float | None = None
        """One of its ticks: when it was asked first, unless something kept it from being asked at once."""
        self.last_started = float("-inf")
        self.last_ended = float("-inf")
        self.was_off_grid = False
        self.in_row = 0
        """How many of its newest calls failed."""
        self.failed_unreachable = False
        self.ends: list[CallEnd] = []

    @property
    def before(self) -> Known:
        return self.known[0]

    @property
    def after(self) -> Known:
        return self.known[-1]

    @property
    def keyed(self) -> bool:
        return self.settings.key is not None

    @property
    def told(self) -> tuple[bool, bool, str | None]:
        """What the newest event says, as `source.freshness` has to say it: stale, unknown, and why."""
        return self.stale, self.told_at is None, self.code

    def is_on_grid(self, at: float) -> bool:
        """Whether one of its ticks is at this time."""
        interval_s = self.settings.interval_s
        return self.anchor is not None and (at - self.anchor + GRID_S) % interval_s < 2 * GRID_S

    def started(self, exchange: Exchange, now: float) -> None:
        """A call of this source starts."""
        self.was_off_grid = self.anchor is not None and not self.is_on_grid(now)
        is_free = not self.model.opened and self.model.hold.until <= 0
        if self.last_started == float("-inf") and now < FIRST_POLL_S and is_free:
            self.anchor = now
        self.running = exchange
        self.last_started = now

    def ended(self, result: Result, exchange: Exchange, *, is_unreachable: bool, now: float) -> None:
        """A call of this source ended."""
        known = self.after
        self.running = None
        self.last_ended = now
        self.failed_unreachable = is_unreachable
        self.in_row = 0 if isinstance(result, bytes) else self.in_row + 1
        self.ends.append(CallEnd(now, self.in_row, code(result) == "RPC_TIMEOUT", is_unreachable))
        if isinstance(result, bytes):
            self.known.append(Known(self.split(result), exchange.sent.mono, None, known.attempts + 1))
        else:
            self.known.append(msgspec.structs.replace(known, failure=code(result), attempts=known.attempts + 1))

    def mapped(self, result: Result) -> Result:
        """What the mapping makes of an answer: itself, or its failure if what is wanted isn't there."""
        if isinstance(result, bytes) and result == UNMAPPABLE and (self.keyed or self.settings.select):
            return MappingFailed("not there")
        return result

    def split(self, data: bytes) -> Items:
        """What is published for an answer: by key, or whole under ""."""
        if self.settings.select:
            return {"": bytes(msgspec.json.decode(data, type=dict[str, msgspec.Raw])[self.settings.select[1:]])}
        if not self.keyed:
            return {"": data}
        items = msgspec.json.decode(data, type=dict[str, list[msgspec.Raw]])["items"]
        return {msgspec.json.decode(item)["id"]: bytes(item) for item in items}

    def stale_at(self, known: Known, now: float) -> set[bool]:
        """Whether data is stale at `now`; both where it is on the edge."""
        if self.model.shown != "closed" or known.failure is not None:
            return {True}
        age = now - known.sent - self.limit_s
        return {True, False} if abs(age) < EDGE_S else {age > 0}

    def expired_at(self, known: Known, now: float) -> set[bool]:
        """Whether stale data is too old to be shown at `now`."""
        if self.settings.max_stale_s is None:
            return {False}
        age = now - known.sent - self.settings.max_stale_s
        return {True, False} if abs(age) < EDGE_S else {age > 0}

    def whys(self, known: Known) -> set[str]:
        """Why data is stale. What a hold made too old says what brought the hold."""
        if self.model.shown != "closed":
            return {"CIRCUIT_BREAKER_OPEN"}
        if known.failure is not None:
            return {known.failure}
        too_old_at = known.sent + self.limit_s
        return {"RPC_HTTP_STATUS" if until > too_old_at else "OVERDUE" for until in self.model.hold.states}

    def stale_sometime(self, start: float, end: float) -> bool:
        """Whether it was told stale at any time between these two."""
        turns = [(0.0, True), *self.turns]
        spans = zip(turns, [*turns[1:], (end, True)], strict=True)
        return any(stale and at <= end and until > start for (at, stale), (until, _) in spans)
