"""When each source of one backend has its ticks.

Every source has a fixed grid: ``anchor + n * interval``. After a tick, the next one is on that grid and strictly in the
future, so a late tick neither delays the following ones nor leads to a burst. All times are in seconds of the monotonic
clock. Knows nothing of calls or breakers, nor of anything that is asked between two ticks.
"""

import heapq
import math
from typing import NamedTuple

from tidegate.core.instant import Instant
from tidegate.core.polling.carried import CarriedTicks

FIRST_POLL_WITHIN_S = 1.0
"""First polls are spread over this many seconds: soon, but a backend is not asked for everything at once."""


class Tick(NamedTuple):
    """A tick of the source `name`, at the monotonic time `at`."""

    name: str
    at: float


class Schedule:
    """The ticks of all sources of one backend. An unknown name raises `KeyError`."""

    def __init__(self) -> None:
        self._sources: dict[str, _Ticks] = {}
        self._heap: list[tuple[float, str]] = []  # may hold outdated times, which `next_at` skips

    def add(self, name: str, *, interval_s: float, phase: float, now: float) -> None:
        """Poll `name` every `interval_s`. The first poll is within that or 1 s, at the share `phase`, in [0, 1).

        Sources that are added at the same `now` with the same interval and phase are always due together.
        """
        assert name not in self._sources, f"{name} is in the schedule already"
        anchor = now + phase * min(interval_s, FIRST_POLL_WITHIN_S)
        self._sources[name] = _Ticks(interval_s, anchor)
        self._arm(name, anchor)

    def join(self, name: str, *, interval_s: float, phase: float, now: float) -> bool:
        """Poll `name`, which may be in the schedule already, every `interval_s` from now on.

        Its ticks are those of the others with this interval. Return whether they begin later than a first poll should
        be. Without others, its ticks begin as by `add`.
        """
        before = self._sources.pop(name, None)
        others = (source for source in self._sources.values() if source.interval_s == interval_s)
        if (other := next(others, None)) is None:
            self.add(name, interval_s=interval_s, phase=phase, now=now)
        else:
            self._sources[name] = joined = _Ticks(interval_s, other.anchor)
            self._arm(name, joined.tick_after(now))
        if before is not None:
            self._sources[name].missed = before.missed
        return self._sources[name].next_at > now + min(interval_s, FIRST_POLL_WITHIN_S)

    def remove(self, name: str) -> None:
        """Poll `name` no longer."""
        del self._sources[name]

    def resume(self, name: str, carried: CarriedTicks, *, now: Instant) -> None:
        """Go on with the ticks of `name` where `carried` left off, instead of `add`."""
        ticks = self._sources[name] = _Ticks(carried.interval_s, now.when(carried.anchor).mono)
        ticks.missed = carried.missed
        self._arm(name, now.when(carried.next_at).mono)

    def carried(self, name: str, now: Instant) -> CarriedTicks:
        """The whole state of `name` at `now`."""
        ticks = self._sources[name]
        return CarriedTicks(
            interval_s=ticks.interval_s,
            anchor=now.wall_at(ticks.anchor),
            next_at=now.wall_at(ticks.next_at),
            missed=ticks.missed,
        )

    def interval_s(self, name: str) -> float | None:
        """The interval of `name`; None if it is not in the schedule."""
        source = self._sources.get(name)
        return None if source is None else source.interval_s

    @property
    def next_at(self) -> float | None:
        """When the next source is due; None without sources."""
        while self._heap and self._left(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def next_due(self, name: str) -> float:
        """When `name` is due next."""
        return self._sources[name].next_at

    def take_due(self, now: float) -> list[Tick]:
        """Return the ticks that are due, longest due first, one for each source, and arm each for its next time.

        Ticks that passed unnoticed in between are counted as missed.
        """
        ticks = []
        while (at := self.next_at) is not None and at <= now:
            name = self._heap[0][1]
            source = self._sources[name]
            following = source.tick_after(now)
            source.missed += round((following - at) / source.interval_s) - 1
            self._arm(name, following)
            ticks.append(Tick(name, at))
        return ticks

    def miss(self, name: str) -> None:
        """Count a tick of `name` as missed: its last call is still under way."""
        self._sources[name].missed += 1

    def missed(self, name: str) -> int:
        """Return how many ticks of `name` led to no poll because the backend, or this process, was too slow."""
        return self._sources[name].missed

    def set_interval(self, name: str, interval_s: float, now: float) -> None:
        """Poll `name` every `interval_s` from now on. The grid keeps its anchor."""
        source = self._sources[name]
        if source.interval_s != interval_s:
            source.interval_s = interval_s
            self._arm(name, source.tick_after(now))

    def _arm(self, name: str, at: float) -> None:
        self._sources[name].next_at = at
        heapq.heappush(self._heap, (at, name))
        # Each change of an interval leaves an outdated entry behind, and there may be many.
        if len(self._heap) > 2 * len(self._sources):
            self._heap = [(source.next_at, name) for name, source in self._sources.items()]
            heapq.heapify(self._heap)

    def _left(self, at: float, name: str) -> bool:
        source = self._sources.get(name)
        return source is None or source.next_at != at


class _Ticks:
    __slots__ = ("anchor", "interval_s", "missed", "next_at")

    next_at: float  # `_arm` sets it

    def __init__(self, interval_s: float, anchor: float) -> None:
        self.interval_s = interval_s
        self.anchor = anchor
        self.missed = 0

    def tick_after(self, time: float) -> float:
        """Return the first tick of the grid after `time`."""
        tick = math.floor((time - self.anchor) / self.interval_s) + 1
        at = self.anchor + tick * self.interval_s
        # The quotient may have been rounded down. Each tick is computed in the same way, so that none comes twice.
        return at if at > time else self.anchor + (tick + 1) * self.interval_s
