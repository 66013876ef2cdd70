"""What the hub knows of a connection: its interest, its phase, and its cohort.

Connections with equal interests share a cohort. A cohort files each member in one of three places. The place depends
only on the member's `Phase` and on whether its channel holds bytes. The hub reads the places and never asks a member.
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
                    a new feed

    Every phase may change to CLOSED, which is the last.
    """

    CATCHING_UP = "catching up"
    """New, or reading from the history. It is in no cohort."""

    LIVE = "live"
    """In a cohort: what is published is sent to it at once."""

    BACKLOGGED = "backlogged"
    """In a cohort, but its channel is over the soft limit: what is published goes to its outbox."""

    CLOSED = "closed"
    """The stream has ended: nothing more is written."""

    # Enum's own hash is Python code, and runs for each connection.
    __hash__ = object.__hash__


CATCHING_UP, LIVE, BACKLOGGED, CLOSED = Phase
# Use these names. In Python 3.11, each `Phase.LIVE` runs Python code, and a connect would run it ten times.

_NEXT = {
    CATCHING_UP: (LIVE, CLOSED),
    LIVE: (BACKLOGGED, CATCHING_UP, CLOSED),
    BACKLOGGED: (LIVE, CLOSED),
    CLOSED: (),
}


class PhaseError(AssertionError):
    """A call that the subscriber's phase does not allow: a bug in the gateway, never a client's mistake."""


class Interest:
    """What a connection wants and may see. Equal interests are equal, and put connections into one cohort."""

    __slots__ = ("_hash", "_sees_everything", "allowed", "framing", "wanted")

    def __init__(self, wanted: PatternSet, *, allowed: PatternSet, framing: Framing) -> None:
        self.wanted = wanted
        self.allowed = allowed
        self.framing = framing
        self._sees_everything = allowed.is_everything
        # Computed once, because the hub looks up the interest at each connect. There is one object for each framing.
        self._hash = hash((wanted.patterns, allowed.patterns, id(framing)))

    def matches(self, event_type: str, about: About = None) -> bool:
        """Whether this connection gets an event of `event_type` that is about the types `about` (see `Draft`)."""
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

    In phase LIVE, events are sent at once: to `socket`, or with `write` while `socket` is None. In phase BACKLOGGED
    they are passed to `offer`. `write` and `offer` may change the phase and what the channel holds. They must not make
    a member join or leave a cohort, because the hub calls them while it is handing out events.

    `socket` is the descriptor under the channel. It is None if bytes must not bypass the channel (TLS, an HTTP stream).
    """

    __slots__ = ("_descriptor", "_holds", "cohort", "phase", "write")

    def __init__(self, write: Callable[[bytes], None], *, socket: int | None = None) -> None:
        self.write = write
        self.cohort: Cohort | None = None
        self.phase = CATCHING_UP
        """Only `_transition` changes it."""
        self._descriptor = socket
        self._holds = False

    @property
    def is_live(self) -> bool:
        """Whether the phase is LIVE: every event that the hub has flushed was written, and the channel takes more."""
        return self.phase is LIVE

    @property
    def socket(self) -> int | None:
        """The descriptor that may be sent to now; None while the channel holds bytes, which must go out first."""
        return None if self._holds else self._descriptor

    def set_holding(self, holds: bool) -> None:
        """Note whether the channel holds bytes that the kernel has not taken. Call it when that changes."""
        self._holds = holds
        # Without a descriptor, everything goes through the channel, so the member's place does not depend on this.
        if self._descriptor is not None and self.cohort is not None:
            self.cohort.file(self)

    def offer(self, events: list[Event]) -> None:
        """Keep `events`, which cannot be written now."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """Handle `error`, which `write` or `offer` raised. The hub went on with the other members. Must not call it."""
        raise NotImplementedError

    def _transition(self, to: Phase) -> None:
        """Change the phase, and with it the place in the cohort. Raises `PhaseError` if `to` cannot follow."""
        if to not in _NEXT[self.phase]:
            raise PhaseError(f"a subscriber that is {self.phase.value} cannot become {to.value}")
        self.phase = to
        if self.cohort is not None:
            self.cohort.file(self)


class Cohort:
    """The members with one interest, and the events that were published to them in this turn of the event loop."""

    __slots__ = ("behind", "flushed", "interest", "pending", "sockets", "writes")

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        # Dictionaries keep the order of the members, and remove one quickly.
        self.sockets: dict[Member, int] = {}
        """Live members whose sockets may be sent to directly, with their sockets."""
        self.writes: dict[Member, Callable[[bytes], None]] = {}
        """The other live members, with the function that writes to each."""
        self.behind: dict[Member, None] = {}
        """Members that are not live. Events are passed to their `offer`."""
        self.pending: list[Event] = []
        """Events that were published since the last flush."""
        self.flushed = 0
        """Events written or offered to the members so far."""

    def file(self, member: Member) -> None:
        """Put `member` into the place where it belongs now. No other code decides that."""
        self.remove(member)
        if member.phase is not LIVE:
            self.behind[member] = None
        elif (socket := member.socket) is not None:
            self.sockets[member] = socket
        else:
            self.writes[member] = member.write

    def remove(self, member: Member) -> None:
        """Take `member` out of its place, if it has one."""
        self.sockets.pop(member, None)
        self.writes.pop(member, None)
        self.behind.pop(member, None)

    def take_pending(self) -> list[Event]:
        """Return the events published since the last flush. They count as flushed: hand them out at once."""
        events, self.pending = self.pending, []
        self.flushed += len(events)
        return events

    def __len__(self) -> int:
        """How many members there are."""
        return len(self.sockets) + len(self.writes) + len(self.behind)
