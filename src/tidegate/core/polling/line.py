"""The turns that wait for one of a backend's connections, or have one. It knows which of them is a breaker's probe.

A breaker that is not closed has at most one turn here that has no permit yet. Who is lined up is decided in
`tidegate.core.polling.lineup`.
"""

from collections.abc import Callable, Collection

from tidegate.core.instant import Instant
from tidegate.core.polling.places import Places
from tidegate.core.polling.source import Source
from tidegate.core.polling.turn import Knock, Turn


class Line:
    """The line for the `connections` of one backend. `over` is called once for each turn that has ended."""

    def __init__(self, connections: int, *, over: Callable[[Turn], None]) -> None:
        self._connections = connections
        self._places: Places[Turn] = Places(connections)
        self._turns: set[Turn] = set()  # from waiting to the end
        self._probes: dict[str, Turn] = {}  # by breaker, until it has a permit: from then on the breaker knows of it
        self._over = over

    @property
    def has_room(self) -> bool:
        """Whether a connection is free that nobody waits for."""
        return self._places.has_room

    @property
    def turns(self) -> list[Turn]:
        """The turns that have not ended."""
        return list(self._turns)

    def resize(self, connections: int) -> None:
        """The backend has so many `connections` from now on. More than that may have one, until they have ended."""
        self._places.resize(connections - self._connections)
        self._connections = connections

    def has_probe(self, breaker_name: str) -> bool:
        """Whether a turn of this breaker is to be its probe, and has no permit yet."""
        return breaker_name in self._probes

    def add(self, turn: Turn) -> None:
        """Let `turn` wait for a connection. Its sources are in flight from now on."""
        is_probe = self._enter(turn)
        asked_at = min(source.calls.last_sent for source in turn.group)
        self._places.wait(turn, asked_at=asked_at, probes=is_probe)

    def next(self, now: Instant) -> Turn | None:
        """Return the next turn, which has a connection from now on; None if none is free, or nobody waits."""
        turn = self._places.next()
        if turn is not None:
            turn.has_place = True
            turn.began = now
        return turn

    def occupy(self) -> bool:
        """Take a connection for a knock, if one is free that nobody waits for. Return whether that is so."""
        return self._places.take()

    def hand_over(self, turn: Turn, now: Instant) -> None:
        """Give the connection of a knock to `turn`."""
        self._enter(turn)
        turn.has_place = True
        turn.began = now

    def end_knock(self, knock: Knock) -> None:
        """Free the connection of `knock`."""
        if not knock.is_over:
            knock.is_over = True
            self._places.leave()

    def withdraw(self, leaves: Callable[[Turn], bool]) -> list[Turn]:
        """Take the turns for which `leaves` is true out of the line. Return them. Those that have a place stay."""
        turns = self._places.withdraw(leaves)
        for turn in turns:
            self.end(turn)
        return turns

    def outdate(self, changed: Collection[Source]) -> list[Source]:
        """These were removed, became another value, or changed their breaker. Turns of theirs that wait are over.

        Return the other sources of turns that were to be asked, and are not.
        """
        for turn in self._turns:
            turn.is_outdated = turn.is_outdated or any(source in changed for source in turn.group)
        over = self.withdraw(lambda turn: turn.is_outdated)
        return [source for turn in over for source in turn.group if source not in changed]

    def clear(self) -> list[Turn]:
        """End all turns, also those that have a connection. Return them."""
        turns = [*self.withdraw(lambda _: True), *self._turns]
        for turn in turns:
            self.end(turn)
        return turns

    def forget_probe(self, turn: Turn) -> None:
        """The breaker was asked for a permit for `turn`: from now on the breaker knows whether a probe is out."""
        if self._probes.get(turn.breaker.name) is turn:
            del self._probes[turn.breaker.name]

    def end(self, turn: Turn) -> None:
        """Free the connection of `turn` and let its sources be asked again. Has no effect if it is over already."""
        if turn.is_over:
            return
        turn.is_over = True
        self._turns.discard(turn)
        self.forget_probe(turn)
        if turn.has_place:
            self._places.leave()
        for source in turn.group:
            source.calls.end_turn()
        self._over(turn)

    def _enter(self, turn: Turn) -> bool:
        """Return whether `turn` is a probe."""
        self._turns.add(turn)
        for source in turn.group:
            source.calls.in_flight = True
        is_probe = not turn.breaker.is_closed
        if is_probe:
            self._probes[turn.breaker.name] = turn
        return is_probe
