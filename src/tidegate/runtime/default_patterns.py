"""The subscriptions of clients that name none, and what such a client misses that resumes after they have changed."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import lru_cache, partial

from tidegate.core.access.grant import may_subscribe
from tidegate.core.topics import PatternSet

REMEMBERED = 256
"""Size of the cache of default subscriptions, by what a token covers. Few sites have more different tokens."""


class DefaultPatterns:
    """The default patterns, which `change` replaces for those who connect later.

    A stream that was open at that time keeps the patterns from before. Its client may come back without naming any, and
    then has the new ones from a position at which it did not have them. `known_at` says what it may lack then.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.since = 0
        """The newest position when they changed last. Nobody resumes from before it without naming patterns."""
        self._patterns = tuple(patterns)
        self._cut_down = _cached(self._patterns)
        self._earlier: set[Hashable] = set()
        """The open streams by default that began before the last change."""
        self._last_earlier_left = -1
        """The newest position when the last of these had left."""
        self._common = PatternSet()
        """What all those have that may still come back from an earlier stream."""

    def covered_by(self, allowed: PatternSet) -> PatternSet:
        """Return those defaults that a token for `allowed` covers."""
        return self._cut_down(allowed)

    def change(self, patterns: Sequence[str], *, newest: int, streams: Iterable[Hashable]) -> None:
        """Use `patterns` from now on. `streams` are all open ones by default, `newest` is the newest position."""
        if tuple(patterns) == self._patterns:
            return
        before = PatternSet(self._patterns)
        is_settled = not self._earlier and self._last_earlier_left < newest
        self._common = before if is_settled else self._common & before
        self._earlier.update(streams)
        self._last_earlier_left = newest
        self.since = newest
        self._patterns = tuple(patterns)
        self._cut_down = _cached(self._patterns)

    def epoch_began(self) -> None:
        """Another sequence has begun, in which nobody has a position yet."""
        self.since, self._last_earlier_left = 0, -1
        self._earlier.clear()

    def ended(self, stream: Hashable, *, newest: int) -> None:
        """A stream has ended, when `newest` was the newest position."""
        if self._earlier and stream in self._earlier:
            self._earlier.remove(stream)
            self._last_earlier_left = newest

    def known_at(self, seq: int) -> PatternSet | None:
        """Return the default patterns that a client had for certain that resumes from position `seq`. None: all."""
        is_uncertain = bool(self._earlier) or seq <= self._last_earlier_left
        return self._common if is_uncertain else None


def _cached(patterns: Sequence[str]) -> Callable[[PatternSet], PatternSet]:
    return lru_cache(maxsize=REMEMBERED)(partial(_covered, patterns))


def _covered(patterns: Sequence[str], allowed: PatternSet) -> PatternSet:
    return PatternSet(pattern for pattern in patterns if may_subscribe(allowed, pattern))
