"""What is known of a source and its data: its configuration, its value, and the verdict on that.

Values only. The rules are in `tidegate.core.polling.freshness` and `tidegate.core.polling.source`.
"""

from collections.abc import Collection, Mapping

import msgspec

from tidegate.core.events import Draft
from tidegate.errors import ErrorCode

Value = msgspec.Raw | Mapping[str, msgspec.Raw]
"""A source's value, compact JSON: the whole value, or the items of a keyed source by their key."""

Items = Mapping[str | None, msgspec.Raw]
"""A value as `Freshness` holds it: one item under None if the type has no keys."""

Keys = Collection[str | None]
"""The keys of some items; None is the key of a value without keys."""


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of a source's data. `type` is the event type; `backend` is the name of the backend.

    Durations are in seconds. A stale value older than `max_stale_s` is no longer handed out. With `on_change`, good
    answers that change nothing are not published. With `stale_repeat`, a stale event is published again at each due
    tick. The value of a `keyed` source is a mapping; only new, changed and removed items are published.
    """

    type: str
    backend: str
    interval_s: float
    timeout_s: float
    max_stale_s: float | None = None
    on_change: bool = False
    stale_repeat: bool = True
    keyed: bool = False


_BEGINNING_IS_TOLD = frozenset({ErrorCode.CIRCUIT_BREAKER_OPEN, ErrorCode.RELOADED})
_END_IS_TOLD = frozenset({ErrorCode.RESTORED, ErrorCode.RELOADED, None})
"""Reasons why data is stale: see `FreshnessStatus.verdict_changed_since`."""


class FreshnessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a source's data. `error_code` says why it is stale; it is None also before the first outcome.

    `as_of` and `retry_at` are in Unix seconds. `as_of` is when the request was sent whose answer is held; None before
    the first answer. `retry_at` is when the backend is asked again, while an open breaker or a hold prevents calls.
    `cause` is the breaker's, while it is not closed. `expired`: too old to hand out.
    """

    stale: bool
    error_code: ErrorCode | None
    as_of: float | None
    retry_at: float | None
    cause: ErrorCode | None
    expired: bool

    def verdict_changed_since(self, said: "FreshnessStatus") -> bool:
        """Whether all items have to be published after `said`: the verdict changed, or the outage that made them stale.

        While a breaker is not closed, all stale data behind it says so, with the same cause. Data that is asked for in
        another way from now on says so. And data that was polled must no longer say that it was restored or reloaded,
        nor a source whose first call had not ended that there is no reason. Any other change of the reason is only told
        with data that is published anyway.
        """
        if (said.stale, said.expired) != (self.stale, self.expired):
            return True
        tells_why = self.error_code in _BEGINNING_IS_TOLD or said.error_code in _END_IS_TOLD
        return tells_why and said.reason != self.reason

    @property
    def in_freshness_event(self) -> tuple[bool, bool, ErrorCode | None]:
        """What the event `source.freshness` says: stale or not, known or not, and why. A change of it is published."""
        return self.stale, self.as_of is None, self.error_code

    @property
    def reason(self) -> tuple[ErrorCode | None, ErrorCode | None]:
        """Why the data is stale, and what opened the breaker."""
        return self.error_code, self.cause


class Told(msgspec.Struct, frozen=True, gc=False):
    """What subscribers hold of a source if they hear every event: the verdict on its data, and the data.

    `status` is None if they have been told no verdict, at the start and in a new epoch. In a new epoch they may hold
    `items` all the same, which were on their way to the bus when it began.

    `items` are the very mapping that `Freshness` holds, if its newest answer is what they hold. Another mapping may
    still have the same data, of an older answer.

    `held_before` is, in a new epoch, whether they may hold a verdict in the same way.
    """

    status: FreshnessStatus | None
    items: Items
    held_before: bool = False

    @property
    def may_be_held(self) -> bool:
        """Whether there may be something that has to be removed if the source is gone: a verdict, and perhaps items."""
        return self.status is not None or self.held_before or bool(self.items)

    def in_another_epoch(self) -> "Told":
        """What subscribers may hold of this in an epoch that began after it was decided."""
        return Told(None, self.items, self.may_be_held)


NOTHING_TOLD = Told(None, {})


class Update(msgspec.Struct):
    """What to publish, in this order.

    `as_of`, in Unix seconds, is set if a good answer left retained events unchanged: their `as_of` becomes this one.
    `told` is for `Freshness.taken`, once the drafts are published; None if there are none.
    """

    drafts: list[Draft] = []
    as_of: float | None = None
    told: Told | None = None


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What `GET /api/v1/status` shows of a source, except its times.

    A field that is added here and in `Source.view` is shown: the answer is made of these.

    `max_age_s` is the age at which the data becomes stale without a failed call, at the current interval. A call that
    has no answer after `timeout_s` has failed.
    """

    type: str
    backend: str
    interval_s: float
    timeout_s: float
    max_age_s: float
    on_change: bool
    stale: bool
    error_code: ErrorCode | None
    missed_ticks: int


class SourceView(SourceFacts, frozen=True, kw_only=True):
    """A snapshot of a source. Times are in Unix seconds."""

    as_of: float | None
    next_poll_at: float


def by_key(value: Value) -> Items:
    """Return `value` as it is held."""
    if isinstance(value, msgspec.Raw):
        return {None: value}
    return dict(value.items())
