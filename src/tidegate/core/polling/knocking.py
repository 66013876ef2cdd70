"""When to knock: to see whether a backend that could not be reached can be reached again.

A knock makes a connection and asks nothing, so it costs a backend next to nothing. It is made while a breaker is open
because the backend could not be reached: often in the first minute of an episode, then less often. What it finds only
brings the probe forward. There is one knock at a time for all breakers of a backend.

Times are monotonic. Who may be asked, and the connection that a knock occupies, are the line-up's.
"""

from collections.abc import Callable, Container, Iterable, Mapping

from tidegate.backoff import Backoff
from tidegate.core.instant import Instant
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.turn import Knock

OFTEN_S = 1.0
SELDOM_S = 5.0
OFTEN_FOR_S = 60.0
"""Gaps between two knocks that begin in the first `OFTEN_FOR_S` of an episode are `OFTEN_S`; later, `SELDOM_S`."""

SPREAD = 0.2
"""How far a gap may be from that, as a share of it."""


class Knocking:
    """The knocks of one backend. `open_max_s` limits the gap where knocks succeed but probes find no connection."""

    def __init__(self, *, open_max_s: float) -> None:
        self.current: Knock | None = None
        """The knock that is under way."""
        self.open_max_s = open_max_s
        self._is_new = True  # a breaker that is open already was taken over from another process: it waits no longer
        self._due: dict[str, _Due] = {}

    def keep(self, names: Container[str]) -> None:
        """Only the breakers of `names` are left."""
        self._due = {name: due for name, due in self._due.items() if name in names}

    def due(self) -> list[tuple[str, float]]:
        """The breakers that want a knock, and when; none while one is under way."""
        return [] if self.current else [(name, due.at) for name, due in self._due.items()]

    def follow(self, breakers: Iterable[Breaker], now: Instant, draw: Callable[[], float]) -> None:
        """Note which of `breakers` want a knock, and from when on. Call it whenever one of them may have moved."""
        for breaker in breakers:
            knocks_from, episode = breaker.knocks_from_mono(now), breaker.episode
            if knocks_from is None or episode is None:
                self._due.pop(breaker.name, None)
            elif breaker.name not in self._due or self._due[breaker.name].generation != breaker.generation:
                gap_s = 0.0 if self._is_new else self._gap_s(breaker, now, draw())
                first_at = max(now.mono + gap_s, knocks_from)
                self._due[breaker.name] = _Due(breaker.generation, first_at)
        self._is_new = False

    def is_wanted(self, knock: Knock) -> bool:
        """Whether any of the breakers that `knock` is made for still wants it."""
        return any(self._wants(name, knock.generations) for name in self._due)

    def begin(self, breakers: Mapping[str, Breaker], now: Instant, draw: Callable[[], float]) -> Knock:
        """Begin a knock for all breakers that want one."""
        knock = self.current = Knock({name: due.generation for name, due in self._due.items()})
        for name, due in self._due.items():
            due.at = now.mono + self._gap_s(breakers[name], now, draw())
        return knock

    def end(self, knock: Knock, now: Instant) -> list[str]:
        """`knock` has ended. Return the breakers that it was made for and that still want it."""
        self.current = None
        for due in self._due.values():
            due.at = max(due.at, now.mono)
        return [name for name in self._due if self._wants(name, knock.generations)]

    def drop(self) -> None:
        """The knock that is under way counts no longer."""
        self.current = None

    def _wants(self, name: str, generations: Mapping[str, int]) -> bool:
        return self._due[name].generation == generations.get(name)

    def _gap_s(self, breaker: Breaker, now: Instant, jitter: float) -> float:
        """The gap that begins now."""
        episode = breaker.episode
        assert episode is not None, "a breaker that wants a knock is in an episode"
        gap_s = OFTEN_S if now.mono < episode.began + OFTEN_FOR_S else SELDOM_S
        longest_s = max(gap_s, self.open_max_s)
        backoff = Backoff(first_s=gap_s, max_s=longest_s, least=1 - SPREAD, most=1 + SPREAD)
        return backoff.delay_s(episode.fruitless + 1, jitter=jitter)


class _Due:
    """When the next knock for a breaker is due, in the generation in which it is open."""

    __slots__ = ("at", "generation")

    def __init__(self, generation: int, at: float) -> None:
        self.generation = generation
        self.at = at
