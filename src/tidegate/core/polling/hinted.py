"""What follows when somebody says that something changed at a backend: its sources are asked before their ticks.

An operator or a webhook is believed, and asked for nothing often. What a backend says of itself may be wrong, and may
come at any rate: it never brings a probe forward, nor an attempt at an account that was refused.
"""

from collections.abc import Iterable

from tidegate.core.instant import Instant
from tidegate.core.polling.accounts import Accounts
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.lineup import Lineup
from tidegate.core.polling.source import Source


class Hinted:
    """The hints to one backend. Raises `KeyError` for a name that no source has."""

    def __init__(self, parts: BackendParts, lineup: Lineup, accounts: Accounts) -> None:
        self._parts, self._lineup, self._accounts = parts, lineup, accounts

    def from_outside(self, event_types: Iterable[str], now: Instant) -> None:
        """Somebody else says that these changed: ask them now, and let the probe of an open breaker go."""
        covered = self._changed(event_types)
        for name in dict.fromkeys(source.plan.breaker for source in covered):
            self._parts.breakers[name].poke(now)
        self._accounts.poke(covered, now)
        self._lineup.ask(covered)

    def from_backend(self, event_types: Iterable[str], now: Instant) -> None:
        """The backend says that these changed: ask them soon, one after the other, if their breaker lets them.

        Those that it refuses are asked when it does.
        """
        covered = self._changed(event_types)
        for source in covered:
            self._lineup.refused([source], self._parts.breakers[source.plan.breaker], now)
        self._lineup.follow((each for each in covered if self._parts.breakers[each.plan.breaker].is_closed), now)

    def _changed(self, event_types: Iterable[str]) -> list[Source]:
        changed = [self._parts.sources[name] for name in event_types]
        for source in changed:
            source.calls.note_change()
        return changed
