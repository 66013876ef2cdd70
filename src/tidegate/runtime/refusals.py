"""Counts refused requests, and logs them at a limited rate."""

from tidegate.core.log_events import LimitedEvent
from tidegate.core.measurements import RequestRefused
from tidegate.errors import RefusalReason
from tidegate.ports import Clock, Metrics
from tidegate.runtime.limited_log import LimitedLines

WHOLE = 5
"""How many refusals for one reason get a line of their own in a minute. The others are summed up."""


WARNED = frozenset(
    {
        RefusalReason.BAD_TOKEN,
        RefusalReason.MAX_CLIENTS,
        RefusalReason.CONNECTS_RATE,
        RefusalReason.KEYS_UNAVAILABLE,
        RefusalReason.NO_FILE_DESCRIPTOR,
    }
)
"""Refusals that are warnings: somebody may be guessing, or clients are turned away who may come in."""


class Refusals:
    """The refusals of one gateway, over any transport. Call `close` at the end.

    `counts` has their number by reason. The first `WHOLE` for a reason in a minute are logged at once. The others are
    summed up in one line, with their number and the loudest address, so that a flood of requests does not flood the
    log, and who guesses tokens can be read from it. Nothing else of a request is passed to this class: no token, and no
    text that a client has chosen.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self.counts = dict.fromkeys(RefusalReason, 0)
        self._metrics = metrics
        self._clock = clock
        self._lines: dict[RefusalReason, LimitedLines] = {}

    def note(self, transport: str, reason: RefusalReason, address: str, request_id: str = "") -> None:
        """Count and log a refused client at `address`. `transport` is ``websocket``, ``sse`` or ``http``."""
        self.counts[reason] += 1
        self._metrics.observe(RequestRefused(transport, reason))
        lines = self._lines.get(reason)
        if lines is None:
            lines = self._lines[reason] = self._lines_of(reason)
        lines.say(reason=reason.value, transport=transport, address=address, request_id=request_id)

    def close(self) -> None:
        """Log what has not been logged yet."""
        for lines in self._lines.values():
            lines.close()

    def _lines_of(self, reason: RefusalReason) -> LimitedLines:
        return LimitedLines(
            "tidegate.access",
            LimitedEvent.REFUSED,
            clock=self._clock,
            observe=self._metrics.observe,
            whole=WHOLE,
            level="warning" if reason in WARNED else "info",
            by="reason",
            loudest="address",
        )
