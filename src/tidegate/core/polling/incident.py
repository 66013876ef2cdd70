"""One incident of a backend: what the log says of it, and when.

A backend that is down makes each of its sources fail, and one that comes and goes does so again and again. For whoever
reads the log that is one thing: it begins, it goes on, it is over. An incident is a run of stretches in which calls
failed, with at most `STEADY_S` between two. The first stretch is said `GATHER_S` after its first failure, or as soon as
a breaker opens: by then it is known how many sources it concerns. A second stretch makes it one that flaps.

It only counts, and decides what there is to say: `incidents` writes the lines. Times are monotonic.
"""

import enum
from collections.abc import Collection

from tidegate.backoff import Backoff
from tidegate.core.instant import Instant
from tidegate.core.polling.outcome import Fault
from tidegate.errors import ErrorCode

GATHER_S = 3.0
"""Sources that fail together are gathered into one line for so long, in seconds: most calls are repeated by then."""

STEADY_S = 300.0
"""A backend that fails again sooner than this after it was back is flapping; one that does not is steady."""

AGAIN_S = Backoff(first_s=60.0, max_s=900.0, least=1.0)
"""When an incident that goes on is said again: after a minute, then after twice as long, and so on."""

OTHER_CODES = 5
"""How many sources that fail in another way than the incident's first line says get a line of their own."""


class Say(enum.Enum):
    """What there is to say of an incident."""

    FAILING = enum.auto()
    FAILING_OTHERWISE = enum.auto()
    OPENED = enum.auto()
    RECOVERED = enum.auto()
    FLAPPING = enum.auto()
    STEADY = enum.auto()


class Incident:
    """One incident, from its first failure on. `failures` counts failed calls, `openings` those of breakers,
    also by probes that fail.

    `failing` are the sources whose newest call failed, and `touched` all that it has concerned. `stretches` counts how
    many times it has begun to fail.
    """

    def __init__(self, now: Instant) -> None:
        self.since = now
        self.failing: set[str] = set()
        self.touched: set[str] = set()
        self.failures = self.openings = self.stretches = 0
        self.fault: Fault | None = None
        """The newest failure of a call."""
        self.is_open = False
        """Whether a breaker has opened in this stretch."""
        self.is_flapping = False
        self.was_said = False
        """Whether the log says that it is there."""
        self.code: ErrorCode | None = None
        """The code that the log says."""
        self._began: float | None = None  # this stretch; None while all is well
        self._well_since = now.mono
        self._failed_s = 0.0
        self._said_wide = False  # of more than one source, or of a breaker
        self._is_lasting = False  # it flapped, and has failed for long since
        self._otherwise: set[str] = set()
        self._lines = self._failures_said = 0
        self._line_at = now.mono + GATHER_S

    @property
    def is_failing(self) -> bool:
        """Whether it is in a stretch."""
        return self._began is not None

    @property
    def is_wide(self) -> bool:
        """Whether it concerns more than one source."""
        return self.is_open or len(self.touched) > 1

    @property
    def due_at(self) -> float | None:
        """When `tick` has something to say, or the incident is over."""
        if self._began is not None:
            return self._line_at
        if not self.is_flapping:
            return None
        steady_at = self._well_since + STEADY_S
        return steady_at if self.failures == self._failures_said else min(self._line_at, steady_at)

    def is_over(self, now: Instant) -> bool:
        """Whether a failure now begins another one."""
        return self._began is None and now.mono >= self._well_since + STEADY_S

    def failed_s(self, now: Instant) -> float:
        """The seconds for which it failed, all stretches together."""
        return self._failed_s + (0.0 if self._began is None else now.mono - self._began)

    # what happens

    def failed(self, event_type: str, fault: Fault, now: Instant) -> Say | None:
        """A call for a source failed."""
        self.failures += 1
        self.fault = fault
        self.failing.add(event_type)
        self.touched.add(event_type)
        if self._began is None:
            return self._begin(now)
        if not self.was_said or self.is_flapping:
            return None
        if self.is_wide and not self._said_wide:
            return self._say(Say.FAILING, now)
        if fault.code is not self.code and event_type not in self._otherwise and len(self._otherwise) < OTHER_CODES:
            self._otherwise.add(event_type)
            return Say.FAILING_OTHERWISE
        return None

    def opened(self, behind: Collection[str], now: Instant) -> Say | None:
        """A breaker has opened: that concerns all sources `behind` it."""
        self.openings += 1
        self.touched.update(behind)
        self.is_open = True
        if self._began is None:
            say = self._begin(now)
            if say is not None:
                return say
        if self.is_flapping:
            return None
        if not self._said_wide:
            return self._say(Say.FAILING, now)
        return Say.OPENED if self.openings == 1 else None

    def answered(self, event_type: str) -> None:
        """A source that failed was answered, or failed in a way that belongs to another incident, or is gone."""
        self.failing.discard(event_type)

    def settle(self, now: Instant) -> Say | None:
        """Nothing speaks against it but sources in `failing`. If there are none, this stretch has ended."""
        if self._began is None or self.failing:
            return None
        self._failed_s += now.mono - self._began
        self._began, self._well_since = None, now.mono
        self.is_open = False
        is_said = self._is_lasting or not self.is_flapping
        self._is_lasting = False
        return Say.RECOVERED if is_said else None

    def tick(self, now: Instant) -> Say | None:
        """Time has passed."""
        if self._began is None:
            if not self.is_flapping:
                return None
            if now.mono >= self._well_since + STEADY_S:
                return Say.STEADY
            if self.failures == self._failures_said:
                return None
        elif self.is_flapping and not self._is_lasting and now.mono >= self._began + STEADY_S:
            self._is_lasting = True
            return self._say(Say.FAILING, now)
        if now.mono < self._line_at:
            return None
        return self._say(Say.FLAPPING if self.is_flapping and not self._is_lasting else Say.FAILING, now)

    def _begin(self, now: Instant) -> Say | None:
        self._began = now.mono
        self.stretches += 1
        if self.stretches == 1 or self.is_flapping:
            return None
        self.is_flapping = True
        self._lines = 0
        return self._say(Say.FLAPPING, now)

    def _say(self, say: Say, now: Instant) -> Say:
        self.was_said, self._said_wide = True, self.is_wide
        self.code = None if self.fault is None else self.fault.code
        self._failures_said = self.failures
        self._lines += 1
        self._line_at = now.mono + AGAIN_S.delay_s(self._lines, jitter=0.0)
        return say
