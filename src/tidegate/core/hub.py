"""Who gets what: connections with equal subscriptions form a cohort, and a cohort's bytes are joined once.

The fast path is `Hub.publish` and `Hub.flush`. What is published within one turn of the event loop is collected per
cohort; the flush joins it once, also for all cohorts that got the same, and writes each connection once. The kernel's
send costs more than all the rest, so fewer writes is the lever; per connection, nothing is touched but the number of
its socket, since another object is another cache miss. `docs/design/performance.md` has the measurements.

Two kinds of connections are out of that way. One whose transport holds bytes, or that has no socket of its own, is
written to through its transport. One that is not `clear` (its transport is full, or it is still catching up) is offered
the events instead.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from tidegate.core.events import About, Event
from tidegate.core.framing import Framing
from tidegate.core.grant import may_see
from tidegate.core.topics import PatternSet

T = TypeVar("T")

ROUTES = 4096
"""Event types whose cohorts are remembered; publishers may invent types, so there is a bound."""

Multicast = Callable[[Sequence[int], bytes], Sequence[tuple[int, int]]]
"""Sends bytes to each of some sockets, by descriptor, as far as they take them at once. Never raises and never waits.

What it returns tells, for each that did not take them all, its place in the sequence and how many bytes it took.
"""

WRITE_BYTES = 262144
"""What is joined into one write at the most, unless one event alone is larger."""


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

    While `clear`, every event of its interest is handed over at once: to `socket`, or through `write` where that is
    None, as while the transport holds bytes that are to come before. Otherwise `offer` is told of the events. Neither
    may join or leave a cohort; both may change `clear` and `socket`.
    """

    __slots__ = ("_clear", "_socket", "cohort", "write")

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write
        self.cohort: Cohort | None = None
        self._clear = True
        self._socket: int | None = None

    @property
    def clear(self) -> bool:
        return self._clear

    @clear.setter
    def clear(self, clear: bool) -> None:
        self._clear = clear
        if self.cohort is not None:
            self.cohort.place(self)

    @property
    def socket(self) -> int | None:
        return self._socket

    @socket.setter
    def socket(self, socket: int | None) -> None:
        self._socket = socket
        if self.cohort is not None:
            self.cohort.place(self)

    def offer(self, events: list[Event]) -> None:
        """Take note of `events`, which cannot be written now."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """Neither `write` nor `offer` may raise: one of them did, and nobody else noticed. Must not call the hub."""
        raise NotImplementedError


class Cohort:
    """The members of one interest, and what was published to them in this turn."""

    __slots__ = ("behind", "flushed", "interest", "pending", "sockets", "writes")

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.sockets: dict[Member, int] = {}
        """The clear members that have a socket, and which."""
        self.writes: dict[Member, Callable[[bytes], None]] = {}
        """The other clear members, and how to write to them."""
        self.behind: dict[Member, None] = {}
        """Those that are not clear."""
        self.pending: list[Event] = []
        self.flushed = 0
        """Events written or offered to the members so far."""

    def place(self, member: Member) -> None:
        """Put `member`, which is here, where it belongs now."""
        self.remove(member)
        self.add(member)

    def add(self, member: Member) -> None:
        """Put `member`, which was not here, where it belongs."""
        if not member.clear:
            self.behind[member] = None
        elif member.socket is not None:
            self.sockets[member] = member.socket
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


class Hub:
    """All cohorts. `multicast` sends to members' sockets.

    `epoch` names the sequence that events belong to. Set it anew where another one begins, after a flush.
    """

    def __init__(self, epoch: str, multicast: Multicast) -> None:
        self.epoch = epoch
        self._multicast = multicast
        self._cohorts: dict[Interest, Cohort] = {}
        self._routes: dict[tuple[str, About], dict[Cohort, None]] = {}
        self._dirty: list[Cohort] = []

    def publish(self, event: Event) -> int:
        """Collect `event` for everyone who wants it until `flush`; how many connections that is."""
        reached = 0
        for cohort in self._route(event.type, event.draft.about):
            if not cohort.pending:
                self._dirty.append(cohort)
            cohort.pending.append(event)
            reached += len(cohort)
        return reached

    @property
    def dirty(self) -> bool:
        """Whether anything was published since the last flush."""
        return bool(self._dirty)

    def flush(self) -> None:
        """Write everything that was collected: once per connection."""
        dirty, self._dirty = self._dirty, []
        alike: dict[tuple[Framing, *tuple[Event, ...]], list[Cohort]] = {}
        for cohort in dirty:
            if cohort.pending:
                alike.setdefault((cohort.interest.framing, *cohort.take_pending()), []).append(cohort)
        for (framing, *events), cohorts in alike.items():
            self._hand_out(events, framing, cohorts)

    def flush_cohort(self, cohort: Cohort) -> None:
        """Write what was collected for one cohort, so that something else may follow it."""
        if cohort.pending:
            self._hand_out(cohort.take_pending(), cohort.interest.framing, [cohort])

    def join(self, member: Member, interest: Interest) -> Cohort:
        """Make `member` live: it gets what is published from now on, and nothing that was published before."""
        cohort = self._cohorts.get(interest)
        if cohort is None:
            cohort = self._cohorts[interest] = Cohort(interest)
            for (event_type, about), cohorts in self._routes.items():
                if interest.matches(event_type, about):
                    cohorts[cohort] = None
        if cohort.pending:
            self.flush_cohort(cohort)
        member.cohort = cohort
        cohort.add(member)
        return cohort

    def leave(self, member: Member) -> None:
        """Take `member` out of its cohort after it got all that was published to it until now."""
        cohort = member.cohort
        assert cohort is not None, "only who has joined can leave"
        self.flush_cohort(cohort)
        member.cohort = None
        cohort.remove(member)
        if not len(cohort):
            del self._cohorts[cohort.interest]
            for cohorts in self._routes.values():
                cohorts.pop(cohort, None)

    def is_wanted(self, event_type: str) -> bool:
        """Whether any member's interest matches `event_type`."""
        return bool(self._route(event_type, None))

    def __contains__(self, interest: Interest) -> bool:
        """Whether any member has this interest."""
        return interest in self._cohorts

    def __len__(self) -> int:
        """How many cohorts there are."""
        return len(self._cohorts)

    def _hand_out(self, events: list[Event], framing: Framing, cohorts: list[Cohort]) -> None:
        data = b"".join([framing.event(event, self.epoch) for event in events])
        if len(data) > WRITE_BYTES and len(events) > 1:
            # In two, so that a transport which the first half fills is offered the second, and conflates it.
            half = len(events) // 2
            self._hand_out(events[:half], framing, cohorts)
            self._hand_out(events[half:], framing, cohorts)
            return
        # All of them first, since a write may fill its transport and put its own member behind.
        writes = [each for cohort in cohorts for each in cohort.writes.items()]
        behind = [member for cohort in cohorts for member in cohort.behind]
        if left := self._multicast([socket for cohort in cohorts for socket in cohort.sockets.values()], data):
            members = [member for cohort in cohorts for member in cohort.sockets]
            for place, taken in left:
                _attempt(members[place], members[place].write, data[taken:])
        for member, write in writes:
            _attempt(member, write, data)
        for member in behind:
            _attempt(member, member.offer, events)

    def _route(self, event_type: str, about: About) -> Collection[Cohort]:
        route = self._routes.get((event_type, about))
        if route is None:
            if len(self._routes) >= ROUTES:
                self._routes.clear()
            route = self._routes[event_type, about] = {
                cohort: None for interest, cohort in self._cohorts.items() if interest.matches(event_type, about)
            }
        return route


def _attempt(member: Member, step: Callable[[T], None], what: T) -> None:
    """Do what concerns `member` alone: whatever becomes of it, the next one has its turn."""
    try:
        step(what)
    except Exception as error:  # noqa: BLE001 - the member tells its connection, which ends with it
        member.failed(error)
