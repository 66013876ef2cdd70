"""The calls of one source: when it was asked last, whether it is being asked, and whether it may be asked now.

What its calls brought is kept in `tidegate.core.polling.source`. Times are monotonic.
"""

from collections.abc import Callable
from typing import Self

from tidegate.backoff import Backoff
from tidegate.core.instant import LONG_AGO, Instant, carried_time, resumed_time
from tidegate.core.polling.call_end import CallEnd
from tidegate.core.polling.carried import CarriedCalls

REFUSED_WAIT = Backoff(first_s=5.0, max_s=300.0, least=0.5, most=1.0)
"""How long a source waits after its account was refused, however its breaker is set: many attempts may lock it."""


class SourceCalls:
    """The calls of one source."""

    __slots__ = (
        "_has_changed",
        "end",
        "failed_alone",
        "in_flight",
        "knows_secret",
        "last_off_grid",
        "last_sent",
        "refusals",
        "refused_secret",
        "speaks_for_tick",
        "tick_refused",
        "waits_until",
    )

    def __init__(self) -> None:
        self.in_flight = False
        """Whether it waits for a connection, or is being asked."""
        self.end = CallEnd()
        """When the call under way has to end."""
        self.last_sent = LONG_AGO
        self.last_off_grid = LONG_AGO
        """When it was last asked between two ticks."""
        self.tick_refused = False
        """Whether a tick led to no call because the breaker was not closed, since it was last asked."""
        self.failed_alone = False
        """Whether its newest call failed, and its breaker was closed all the same."""
        self.speaks_for_tick = False
        """Whether the end of the call under way says what a tick had to say, which came when it was about to end."""
        self.refusals = 0
        """How many of its calls in a row were refused for its account."""
        self.refused_secret: bytes | None = None
        """What the newest of them authenticated with; None if that could not be read."""
        self.knows_secret = True
        """Whether `refused_secret` is known. Secrets are not carried to another process."""
        self.waits_until = LONG_AGO
        """Until when it waits because of that."""
        self._has_changed = False  # what it tells, since its call under way was sent

    @classmethod
    def from_carried(cls, carried: CarriedCalls, *, now: Instant) -> Self:
        """Make one that goes on where `carried` left off, without the call that was under way then."""
        resumed = cls()
        resumed.last_sent = resumed_time(carried.last_sent, now)
        resumed.last_off_grid = resumed_time(carried.last_off_grid, now)
        resumed.tick_refused = carried.tick_refused
        resumed.failed_alone = carried.failed_alone
        resumed.refusals = carried.refusals
        resumed.knows_secret = False
        resumed.waits_until = resumed_time(carried.waits_until, now)
        return resumed

    def handed_on(self) -> Self:
        """Return the calls of the source that takes its place: none is under way, but it waits as long."""
        handed_on = type(self)()
        handed_on.last_sent = self.last_sent
        handed_on.refusals = self.refusals
        handed_on.refused_secret, handed_on.knows_secret = self.refused_secret, self.knows_secret
        handed_on.waits_until = self.waits_until
        return handed_on

    def forget_refusals(self) -> None:
        """Another account may be used from now on."""
        self.refusals, self.refused_secret, self.waits_until = 0, None, LONG_AGO

    def carried(self, now: Instant) -> CarriedCalls:
        """The whole state at `now`, except a call under way, and secrets."""
        return CarriedCalls(
            last_sent=carried_time(self.last_sent, now),
            last_off_grid=carried_time(self.last_off_grid, now),
            tick_refused=self.tick_refused,
            failed_alone=self.failed_alone,
            refusals=self.refusals,
            waits_until=carried_time(self.waits_until, now),
        )

    def may_begin(self, now: Instant) -> bool:
        """Whether it has no turn already, and does not wait after a refused account."""
        return not self.in_flight and self.waits_until <= now.mono

    def waits(self, now: Instant) -> bool:
        """Whether it waits after a refused account."""
        return now.mono < self.waits_until

    def sent(self, now: Instant, *, at_tick: bool, timeout_s: float) -> None:
        """A call is sent now, because a tick was due or between two ticks. It is cancelled after `timeout_s`."""
        self.last_sent = now.mono
        self._has_changed = False
        self.tick_refused = False
        if not at_tick:
            self.last_off_grid = now.mono
        self.speaks_for_tick = False
        self.end.begin(now.mono + timeout_s)

    def note_change(self) -> None:
        """What it tells has changed just now: the answer to a call that was sent may be older than that."""
        self._has_changed = self.in_flight

    def take_change(self) -> bool:
        """Whether it has to be asked once more, now that its turn has ended. Any number of changes count as one."""
        has_changed, self._has_changed = self._has_changed, False
        return has_changed

    def end_turn(self) -> None:
        """Its turn has ended or was withdrawn: it may be asked again."""
        self.in_flight = False
        self.end.clear()

    def refused(self, secret: bytes | None, now: Instant, draw: Callable[[], float]) -> None:
        """Its account was refused, with this `secret`; None if that could not be read."""
        self.refusals += 1
        self.refused_secret, self.knows_secret = secret, True
        self.waits_until = now.mono + REFUSED_WAIT.delay_s(self.refusals, jitter=draw())

    def end_wait(self) -> None:
        """There is a reason to try the account again now. If it is refused again, the wait is longer still."""
        self.waits_until = LONG_AGO
