"""Who a connection is to the hub: what it wants, which phase its stream is in, and where it is filed.

Connections with equal interests share a cohort. A cohort files each member in one of three places, by two things only:
the member's `Phase`, and whether its channel holds bytes. The hub reads these places and asks a member nothing.
Knows nothing of what a subscriber does in a phase (`subscriber.py`) or of when things are sent (`hub.py`).
"""

from collections.abc import Callable
from enum import Enum

from tidegate.core.access.grant import may_see
from tidegate.core.delivery.framing import Framing
from tidegate.core.events import About, Event
from tidegate.core.topics import PatternSet


class Phase(Enum):
    """What a subscriber's stream is doing.

    ::

                      caught up              over the soft limit
        CATCHING_UP ------------> LIVE <------------------------> BACKLOGGED
              ^                    |      drained, outbox empty
              +--------------------+
                       fed

    Every phase may change to CLOSED, which is the last.
    """

    CATCHING_UP = "catching up"
    """New, or reading from the history. It is in no cohort."""

    LIVE = "live"
    """In a cohort: what is published is sent to it at once."""

    BACKLOGGED = "backlogged"
    """In a cohort, but its channel is over the soft limit: what is published goes to its outbox."""

    CLOSED = "closed"
    """The stream has ended: nothing is written any more."""

    # Enum's own hash is Python code, and runs for each connection.
    __hash__ = object.__hash__


CATCHING_UP, LIVE, BACKLOGGED, CLOSED = Phase
# By these names: `Phase.LIVE` runs Python code in 3.11, and a connect would do that ten times.

_NEXT = {
    CATCHING_UP: (LIVE, CLOSED),
    LIVE: (BACKLOGGED, CATCHING_UP, CLOSED),
    BACKLOGGED: (LIVE, CLOSED),
    CLOSED: (),
}


class PhaseError(AssertionError):
    """Something was asked of a subscriber that its phase does not allow: a mistake of ours, never of a client's."""


class Interest:
    """What a connection wants and may see. Equal interests are equal, and put connections into one cohort."""

    __slots__ = ("_hash", "_sees_everything", "allowed", "framing", "wanted")

    def __init__(self, wanted: PatternSet, *, allowed: PatternSet, framing: Framing) -> None:
        self.wanted = wanted
        self.allowed = allowed
        self.framing = framing
        self._sees_everything = allowed.is_everything
        self._hash = hash((wanted.patterns, allowed.patterns, id(framing)))

    def matches(self, event_type: str, about: About = None) -> bool:
        """Whether an event of `event_type`, which speaks of the types `about`, goes to this connection."""
        return self.wanted.matches(event_type) and (self._sees_everything or may_see(self.allowed, event_type, about))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Interest)
            and self.framing is other.framing
            and self.wanted.patterns == other.wanted.patterns
            and self.allowed.patterns == other.allowed.patterns
        )

    def __hash__(self) -> int:
        return self._hash


class Member:
    """A connection as the hub sees it.

    In phase LIVE, events are sent at once: to `socket`, or with `write` while that is None. In phase BACKLOGGED they
    are given to `offer`. `write` and `offer` may change the phase and what the channel holds, but must not make a
    member join or leave a cohort: the hub is in the middle of handing out when it calls them.

    `socket` is the descriptor under the channel, or None where bytes may not be sent past it (TLS, an HTTP stream).
    """

    __slots__ = ("_descriptor", "_holds", "cohort", "phase", "write")

    def __init__(self, write: Callable[[bytes], None], *, socket: int | None = None) -> None:
        self.write = write
        self.cohort: Cohort | None = None
        self.phase = CATCHING_UP
        """Changed by `_transition` alone."""
        self._descriptor = socket
        self._holds = False

    @property
    def is_live(self) -> bool:
        """Whether everything published so far is with the channel, and the channel takes more."""
        return self.phase is LIVE

    @property
    def socket(self) -> int | None:
        """The descriptor that may be sent to now; None while bytes wait in the channel, which are to come first."""
        return None if self._holds else self._descriptor

    def set_holding(self, holds: bool) -> None:
        """The channel began to hold bytes that the kernel has not taken, or holds none any more."""
        self._holds = holds
        # Without a descriptor the member is never sent to past its channel, so its place does not depend on this.
        if self._descriptor is not None and self.cohort is not None:
            self.cohort.file(self)

    def offer(self, events: list[Event]) -> None:
        """Take note of `events`, which cannot be written now."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """`write` or `offer` raised `error`, which the hub caught for the sake of the others. Must not call the hub."""
        raise NotImplementedError

    def _transition(self, to: Phase) -> None:
        """Change the phase, and with it the place in the cohort. Raises `PhaseError` where that cannot follow."""
        if to not in _NEXT[self.phase]:
            raise PhaseError(f"a subscriber that is {self.phase.value} cannot become {to.value}")
        self.phase = to
        if self.cohort is not None:
            self.cohort.file(self)


class Cohort:
    """The members of one interest, and what was published to them in this turn of the event loop."""

    __slots__ = ("behind", "flushed", "interest", "pending", "sockets", "writes")

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.sockets: dict[Member, int] = {}
        """Live members that may be sent to directly, and their sockets."""
        self.writes: dict[Member, Callable[[bytes], None]] = {}
        """The other live members, and how to write to each."""
        self.behind: dict[Member, None] = {}
        """Members that are not live: they are offered the events."""
        self.pending: list[Event] = []
        self.flushed = 0
        """Events written or offered to the members so far."""

    def file(self, member: Member) -> None:
        """Put `member` where it belongs now. No other code decides that."""
        self.remove(member)
        if member.phase is not LIVE:
            self.behind[member] = None
        elif (socket := member.socket) is not None:
            self.sockets[member] = socket
        else:
            self.writes[member] = member.write

    def remove(self, member: Member) -> None:
        """Forget where `member` is."""
        self.sockets.pop(member, None)
        self.writes.pop(member, None)
        self.behind.pop(member, None)

    def take_pending(self) -> list[Event]:
        """What was published since the last call, to be handed out at once."""
        events, self.pending = self.pending, []
        self.flushed += len(events)
        return events

    def __len__(self) -> int:
        """How many members there are."""
        return len(self.sockets) + len(self.writes) + len(self.behind)
