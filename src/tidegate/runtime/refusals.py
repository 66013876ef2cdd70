"""Counts refused requests, and logs them at a limited rate."""

from functools import partial

import structlog

from tidegate.core.measurements import RequestRefused
from tidegate.errors import RefusalReason
from tidegate.ports import Clock, Metrics, Timer

SUMMARY_S = 60.0
"""The shortest time between two log lines with the same reason. A line sums up all refusals since the previous one."""

log = structlog.get_logger("tidegate.access")


class Refusals:
    """The refusals of one gateway, over any transport. Call `close` at the end.

    The first refusal for a reason is logged at once. Later ones are summed up every `SUMMARY_S` in one line, with their
    number and the last address, so that a flood of requests does not flood the log. The contents of requests, such as
    tokens, are not passed to this class.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._unlogged: dict[RefusalReason, _Unlogged] = {}

    def note(self, transport: str, reason: RefusalReason, address: str) -> None:
        """Count and log a refused client at `address`. `transport` is ``websocket``, ``sse`` or ``http``."""
        self._metrics.observe(RequestRefused(transport, reason))
        unlogged = self._unlogged.get(reason)
        if unlogged is None:
            _log(reason, transport, address, count=1)
            self._start_summary(reason)
        else:
            unlogged.count += 1
            unlogged.transport, unlogged.address = transport, address

    def close(self) -> None:
        """Log what has not been logged yet."""
        for reason, unlogged in self._unlogged.items():
            unlogged.timer.cancel()
            unlogged.log(reason)
        self._unlogged.clear()

    def _start_summary(self, reason: RefusalReason) -> None:
        summarize = partial(self._summarize, reason)
        self._unlogged[reason] = _Unlogged(self._clock.call_at(self._clock.now().mono + SUMMARY_S, summarize))

    def _summarize(self, reason: RefusalReason) -> None:
        unlogged = self._unlogged.pop(reason)
        unlogged.log(reason)
        if unlogged.count:
            self._start_summary(reason)


class _Unlogged:
    """The refusals for one reason since its last log line."""

    def __init__(self, timer: Timer) -> None:
        self.timer = timer
        self.count = 0
        self.transport = self.address = ""

    def log(self, reason: RefusalReason) -> None:
        if self.count:
            _log(reason, self.transport, self.address, count=self.count)


def _log(reason: RefusalReason, transport: str, address: str, *, count: int) -> None:
    log.info("refused", reason=reason.value, transport=transport, address=address, count=count)
