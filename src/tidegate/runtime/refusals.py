"""Who was turned away, counted, and told in the log at a bounded rate."""

from functools import partial

import structlog

from tidegate.core.measurements import RequestRefused
from tidegate.errors import RefusalReason
from tidegate.ports import Clock, Metrics, Timer

SUMMARY_S = 60.0
"""How often each reason is logged at the most: the first refusal at once, those after it together."""

log = structlog.get_logger("tidegate.access")


class Refusals:
    """The refusals of one gateway, whatever carried the request. Call `close` at the end.

    One flood of them, of whatever kind, is a line for each reason and `SUMMARY_S`, with its number and the newest
    address. What came with a request, tokens above all, is not known here.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._untold: dict[RefusalReason, _Untold] = {}

    def note(self, transport: str, reason: RefusalReason, address: str) -> None:
        """Somebody at `address` was turned away from `transport`: ``websocket``, ``sse`` or ``http``."""
        self._metrics.observe(RequestRefused(transport, reason))
        untold = self._untold.get(reason)
        if untold is None:
            _tell(reason, transport, address, count=1)
            self._wait(reason)
        else:
            untold.count += 1
            untold.transport, untold.address = transport, address

    def close(self) -> None:
        """Tell of what was not told yet."""
        for reason, untold in self._untold.items():
            untold.timer.cancel()
            untold.tell(reason)
        self._untold.clear()

    def _wait(self, reason: RefusalReason) -> None:
        summarize = partial(self._summarize, reason)
        self._untold[reason] = _Untold(self._clock.call_at(self._clock.now().mono + SUMMARY_S, summarize))

    def _summarize(self, reason: RefusalReason) -> None:
        untold = self._untold.pop(reason)
        untold.tell(reason)
        if untold.count:
            self._wait(reason)


class _Untold:
    """What came since the last line of one reason."""

    def __init__(self, timer: Timer) -> None:
        self.timer = timer
        self.count = 0
        self.transport = self.address = ""

    def tell(self, reason: RefusalReason) -> None:
        if self.count:
            _tell(reason, self.transport, self.address, count=self.count)


def _tell(reason: RefusalReason, transport: str, address: str, *, count: int) -> None:
    log.info("refused", reason=reason.value, transport=transport, address=address, count=count)
