"""Says when the event loop stood still, and for how long: stopped, starved, or held by one long call.

Nothing can be said while it stands still, so it is said when that is over. A machine that was asleep is told apart: the
clock of the event loop stands still then, and that of `tidegate.ports.Clock` does not.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

from tidegate.core.instant import rfc3339
from tidegate.core.log_events import LimitedEvent
from tidegate.ports import Clock
from tidegate.runtime.limited_log import LimitedLines, Observe

SAID_S = 1.0
"""A loop that was late by more than this is said."""

STALLED_S = 5.0
"""A gateway whose loop was late by more than this is not ready, for as long again."""

ASLEEP_S = 1.0
"""The machine was asleep if the two clocks differ by more than this."""

log = structlog.get_logger("tidegate.supervisor")


class _Clocks(NamedTuple):
    """The seconds of three clocks: with the time asleep, without it, and that our processors were busy."""

    mono: float
    awake: float
    busy: float


class Stalls:
    """The stalls of one event loop. Give `late` every lag of its timer, in order. Call `close` at the end.

    `awake` reads the clock of the loop, and `busy` the processor time that the process has used.
    """

    def __init__(
        self,
        clock: Clock,
        observe: Observe,
        *,
        awake: Callable[[], float] | None = None,
        busy: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._awake = awake or asyncio.get_running_loop().time
        self._busy = busy
        self._lines = LimitedLines(
            "tidegate.supervisor", LimitedEvent.LOOP_STALLED, clock=clock, observe=observe, level="warning", whole=2
        )
        self._before = self._read()
        self._not_ready_until = float("-inf")

    @property
    def is_stalled(self) -> bool:
        """Whether the loop was late by more than `STALLED_S` within the last `STALLED_S`."""
        return self._clock.now().mono < self._not_ready_until

    def late(self, late_s: float) -> None:
        """A timer of the loop was called so many seconds late, now."""
        before, self._before = self._before, self._read()
        if late_s <= SAID_S:
            return
        now = self._clock.now()
        asleep_s = (self._before.mono - before.mono) - (self._before.awake - before.awake)
        if asleep_s > ASLEEP_S:
            log.info("the machine was asleep", for_s=round(asleep_s, 3), since=rfc3339(now.wall - late_s))
            late_s -= asleep_s
            if late_s <= SAID_S:
                return
        if late_s > STALLED_S:
            self._not_ready_until = now.mono + STALLED_S
        busy_s = self._before.busy - before.busy
        self._lines.say(for_s=round(late_s, 3), since=rfc3339(now.wall - late_s), busy_s=round(busy_s, 3))

    def close(self) -> None:
        """Say what has not been said yet."""
        self._lines.close()

    def _read(self) -> _Clocks:
        return _Clocks(self._clock.now().mono, self._awake(), self._busy())
