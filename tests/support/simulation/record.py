"""What is known of a world from outside: what clients heard, what backends gave, what was wrong with either."""

from bisect import bisect_right
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from itertools import combinations
from typing import Any

import msgspec
import structlog

from simulation.clients import Message, Visit
from simulation.scenario import Scenario
from simulation.tap import Tap
from simulation.virtual import EPOCH_WALL
from tidegate.config import Config, SourceConfig
from tidegate.core.instant import from_rfc3339

WITNESS = "witness"
"""The client of everything that stays from beginning to end; what it heard is the log of what was published."""

MANY = 30
"""Violations that are kept; who reads more?"""

STEP_S = 1.0
"""A jump of the wall clock that is no larger need not be followed: contract, section 2."""

INSTANT_S = 1e-4
"""What is no farther apart may have happened in any order."""

ROUNDING_S = 0.003
"""Times are told in milliseconds, twice cut off."""

Name = tuple[str, str]


def wants(patterns: frozenset[str], event_type: str) -> bool:
    """Whether any of `patterns` matches `event_type`: contract, section 1."""
    return any(p in {"*", event_type} or (p.endswith(".*") and event_type.startswith(p[:-1])) for p in patterns)


class Published(msgspec.Struct, frozen=True):
    """An event of the log: when it was heard, which is when it was published, and the frame as it came."""

    at: float
    message: Message
    text: bytes


class Log:
    """Everything that was published since the witness came, by `seq`; `first` is the position it came at."""

    def __init__(self, retained: AbstractSet[str]) -> None:
        self.first = 0
        self._retained = retained
        self._events: list[Published] = []
        self._handed: dict[int, Published] = {}
        self._places: dict[Name, list[int]] = {}

    def begin(self, seq: int) -> None:
        self.first = seq

    def append(self, event: Published) -> None:
        """Take the witness's next event or snapshot; one that is not the next is the reading's to complain of."""
        seq = event.message.seq or 0
        if event.message.snapshot:
            self._handed[seq] = event
        else:
            self._events.append(event)
        if event.message.type in self._retained:
            self._places.setdefault(event.message.name, []).append(seq)

    def __getitem__(self, seq: int) -> Published:
        return self._events[seq - self.first - 1] if seq > self.first else self._handed[seq]

    def __iter__(self) -> Iterator[Published]:
        return iter(self._events)

    @property
    def snapshots(self) -> Iterator[Published]:
        """What the witness was handed when it came."""
        return iter(self._handed.values())

    @property
    def last(self) -> int:
        return self.first + len(self._events)

    def last_before(self, at: float) -> int:
        """The newest position that was published before the instant `at`."""
        low, high = 0, len(self._events)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._events[middle].at < at else (low, middle)
        return self.first + low

    def newest(self, name: Name, position: int) -> int | None:
        """The newest retained event of `name` up to `position`; None where it is gone, or never came."""
        places = self._places.get(name, [])
        index = bisect_right(places, position)
        if not index or self[places[index - 1]].message.gone:
            return None
        return places[index - 1]

    def names(self, position: int) -> Iterator[tuple[Name, int]]:
        """What was retained at `position`: every name, and where its event is."""
        for name in self._places:
            if (seq := self.newest(name, position)) is not None:
                yield name, seq


class Walls:
    """What the wall clock said, as an offset to the loop's, through all of its jumps."""

    def __init__(self) -> None:
        self._offsets: list[tuple[float, float]] = [(float("-inf"), EPOCH_WALL)]

    def jumped(self, at: float, seconds: float) -> None:
        self._offsets.append((at, self._offsets[-1][1] + seconds))

    def at(self, now: float) -> list[float]:
        """The offsets at `now`: two in the instant of a jump."""
        before, after = (self._offsets[bisect_right(self._offsets, (at, float("inf"))) - 1][1] for at in _around(now))
        return [before] if before == after else [before, after]

    def tells(self, moment: float, shown: str, *, since: float, now: float) -> bool:
        """Whether `shown` is how a `moment` that is held since `since` may be told at `now`: it follows the jumps.

        What is no step may be left out, also where it is what two steps come to that nobody looked between.
        """
        first = bisect_right(self._offsets, (since - INSTANT_S, float("inf"))) - 1
        last = bisect_right(self._offsets, (now + INSTANT_S, float("inf")))
        offsets = [offset for _, offset in self._offsets[first:last]]
        exact = not any(0.0 < abs(one - other) <= STEP_S for one, other in combinations(offsets, 2))
        slack_s = ROUNDING_S if exact else STEP_S + ROUNDING_S
        return any(abs(from_rfc3339(shown) - moment - offset) <= slack_s for offset in self.at(now))

    def moved(self, told: str | None, shown: str | None, *, since: float, now: float) -> bool:
        """Whether a time that was `told` at `since` may be `shown` as this at `now`."""
        if told is None or shown is None:
            return told is shown
        return any(self.tells(from_rfc3339(told) - o, shown, since=since, now=now) for o in self.at(since))


def _around(at: float) -> tuple[float, float]:
    return at - INSTANT_S, at + INSTANT_S


class Record:
    """Everything that a checker needs. `handed` are the snapshots of source types that were written at once.

    `pokes` says when somebody asked for a backend to be polled at once, `sleeps` from when until when the machine
    slept.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.violations: list[str] = []
        self.taps: dict[str, Tap] = {}
        self.given: dict[str, list[tuple[str, float, bytes]]] = {}
        self.configs = [(float("-inf"), scenario.config)]
        """Every configuration that was in force, and since when."""
        self.retained = {*scenario.config.sources, "circuit_breaker.state", "source.freshness"}
        self.log = Log(self.retained)
        self.handed: list[tuple[float, str, Message]] = []
        self.walls = Walls()
        self.views: dict[str, tuple[frozenset[str], dict[Name, Message]]] = {}
        self.waiting: list[Visit] = []
        self.pokes: list[tuple[float, str]] = []
        self.sleeps: list[tuple[float, float]] = []

    def reloaded(self, at: float, config: Config) -> None:
        """Another configuration is in force."""
        self.configs.append((at, config))
        self.retained.update(config.sources)

    @property
    def last_config(self) -> Config:
        """The configuration that is in force at the end."""
        return self.configs[-1][1]

    def settings(self, event_type: str) -> Iterator[SourceConfig]:
        """What was ever configured for a source."""
        return (config.sources[event_type] for _, config in self.configs if event_type in config.sources)

    def least_history(self, at: float) -> int:
        """The shortest history that was configured up to now."""
        return min(config.history.events for since, config in self.configs if since <= at)

    def fail(self, at: float, what: str) -> None:
        """Note that something was wrong."""
        if len(self.violations) < MANY:
            self.violations.append(f"{at:.6f}: {what}")

    def logged(self, _logger: object, _name: str, event: Any) -> Any:
        """The processor of everything that is logged as an error: nothing may be."""
        self.fail(-1, f"logged as an error: {event}")
        raise structlog.DropEvent

    def heard(self, client: str, at: float, message: Message, text: bytes) -> None:
        """A client heard something. What the witness hears is the log."""
        if client == WITNESS and message.seq is not None:
            self.log.append(Published(at, message, text))
        elif client == WITNESS and message.type == "welcome":
            self.log.begin(msgspec.json.decode(message.data)["seq"])
