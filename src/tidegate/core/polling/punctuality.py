"""Whether the sources of one backend are asked when their ticks are due: how late, and which ticks were missed.

A tick that leads to no call for a reason, such as an open breaker, is not late. Decides nothing.
"""

from collections.abc import Iterable

from tidegate.core.instant import Instant
from tidegate.core.measurements import PollStarted, TicksMissed
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.source import Source
from tidegate.core.polling.turn import Turn

LATE_S = 1.0
"""A tick that comes so much late, in seconds, was missed: the machine slept, or this process was stopped. Its source is
asked as after a recovery, since all others are late too."""


class Punctuality:
    """The ticks that a call is yet to be sent for."""

    def __init__(self) -> None:
        self._due: dict[Source, float] = {}

    def ticked(self, source: Source, at: float) -> None:
        """The tick of `source` at the monotonic time `at` was taken: a call follows, or else `given_up`."""
        self._due[source] = at

    def given_up(self, sources: Iterable[Source]) -> None:
        """No call is sent for the ticks of `sources`, except of those that wait for a connection already."""
        for source in sources:
            if not source.calls.in_flight:
                self._due.pop(source, None)

    def sent(self, turn: Turn, now: Instant, into: Decision) -> None:
        """The call of `turn` is sent now: measure how late it is, if it is for a tick."""
        due = [self._due.pop(source) for source in turn.group if source in self._due]
        if due:
            into.measurements.append(PollStarted(max(0.0, now.mono - min(due))))

    def count_missed(self, source: Source, missed: int, into: Decision) -> None:
        """So many ticks of `source` were missed: measure those since the last time."""
        if missed > source.missed_counted:
            into.measurements.append(TicksMissed(source.type, missed - source.missed_counted))
            source.missed_counted = missed
