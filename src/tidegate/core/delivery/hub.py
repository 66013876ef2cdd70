"""Who gets an event, and the one write that brings it: the fast path of the gateway.

`Hub.publish` only notes an event for each cohort that wants it. `Hub.flush`, at the end of the event loop's turn, joins
what a cohort got and sends it once per connection. The kernel's send costs more than all the rest, so fewer sends is
what makes it fast. Per connection nothing is touched but the number of its socket: with a thousand connections their
objects are out of the cache, and each one read would be a miss. `docs/design/performance.md` has the measurements.

Knows nothing of what a member does with events while it is not live, or of where events come from.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from tidegate.core.delivery.cohort import Cohort, Interest, Member
from tidegate.core.delivery.framing import Framing
from tidegate.core.events import About, Event

T = TypeVar("T")

ROUTES = 4096
"""Event types whose cohorts are remembered. Publishers may invent types, so there must be a limit."""

Multicast = Callable[[Sequence[int], bytes], Sequence[tuple[int, int]]]
"""Sends the same bytes to each of the sockets (descriptors). Never raises and never waits.

Returns, for each socket that did not take all of them, its index in the sequence and how many bytes it took.
"""

WRITE_BYTES = 262144
"""Most bytes joined into one write, unless one event alone is larger. Larger bursts are sent in halves."""


class Hub:
    """All cohorts. `multicast` sends to members' sockets.

    Positions of events belong to `epoch`. Set it anew when another sequence begins, after a flush.
    """

    def __init__(self, epoch: str, multicast: Multicast) -> None:
        self.epoch = epoch
        self._multicast = multicast
        self._cohorts: dict[Interest, Cohort] = {}
        self._routes: dict[tuple[str, About], dict[Cohort, None]] = {}
        self._dirty: list[Cohort] = []

    def publish(self, event: Event) -> int:
        """Note `event` for everyone who wants it, to be sent by `flush`. Returns how many connections that is."""
        reached = 0
        for cohort in self._route(event.draft.type, event.draft.about):
            # Nothing is sent here: five events of one poll become one send of five frames, not five sends.
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
        """Send everything that was noted: once per connection."""
        dirty, self._dirty = self._dirty, []
        # Cohorts that got the same events, in the same framing, share one join and one call to the sockets: so ten
        # thousand different subscriptions cost hardly more than one.
        alike: dict[tuple[Framing, *tuple[Event, ...]], list[Cohort]] = {}
        for cohort in dirty:
            # One that was flushed alone since (`flush_cohort`) has nothing left.
            if cohort.pending:
                alike.setdefault((cohort.interest.framing, *cohort.take_pending()), []).append(cohort)
        for (framing, *events), cohorts in alike.items():
            self._hand_out(events, framing, cohorts)

    def flush_cohort(self, cohort: Cohort) -> None:
        """Send now what was noted for one cohort, so that something else may follow it."""
        if cohort.pending:
            self._hand_out(cohort.take_pending(), cohort.interest.framing, [cohort])

    def join(self, member: Member, interest: Interest) -> Cohort:
        """Let `member` have what is published from now on, and nothing that was published before."""
        cohort = self._cohorts.get(interest)
        if cohort is None:
            cohort = self._cohorts[interest] = Cohort(interest)
            # Routes that are remembered would pass the new cohort by.
            for (event_type, about), cohorts in self._routes.items():
                if interest.matches(event_type, about):
                    cohorts[cohort] = None
        # Before it joins: the newcomer has read these events from the history.
        if cohort.pending:
            self.flush_cohort(cohort)
        member.cohort = cohort
        cohort.file(member)
        return cohort

    def leave(self, member: Member) -> None:
        """Take `member` out of its cohort, after it was given all that was published until now."""
        cohort = member.cohort
        assert cohort is not None, "only a member that has joined can leave"
        self.flush_cohort(cohort)
        member.cohort = None
        cohort.remove(member)
        # An empty cohort would still be routed to, and count as somebody's interest.
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
        # Each event was encoded when it was published; here it only gets a frame's head. Once for everybody.
        data = b"".join([framing.event(event, self.epoch) for event in events])
        if len(data) > WRITE_BYTES and len(events) > 1:
            # In halves: a channel that the first half fills is offered the second, and its outbox conflates it. In one
            # piece, a burst could take a client that reads well over its hard limit.
            half = len(events) // 2
            self._hand_out(events[:half], framing, cohorts)
            self._hand_out(events[half:], framing, cohorts)
            return
        # Who is written to and who is offered is decided before anything is sent. A write may fill its channel, which
        # files its member behind: that member has had these events and must not be offered them as well. It also means
        # that no dictionary changes while it is iterated.
        writes = [each for cohort in cohorts for each in cohort.writes.items()]
        behind = [member for cohort in cohorts for member in cohort.behind]
        # The common case is this one call into C, with nothing but descriptors: no member is touched. Their channels
        # hold nothing (else they would be in `writes`), so nothing is overtaken.
        if left := self._multicast([socket for cohort in cohorts for socket in cohort.sockets.values()], data):
            # Only if a socket was full or broken is it worth finding out whose it is. Nothing has moved yet, so the
            # indexes still fit. The channel takes the rest, and tells us that it holds bytes.
            members = [member for cohort in cohorts for member in cohort.sockets]
            for index, taken in left:
                _attempt(members[index], members[index].write, data[taken:])
        for member, write in writes:
            _attempt(member, write, data)
        for member in behind:
            _attempt(member, member.offer, events)

    def _route(self, event_type: str, about: About) -> Collection[Cohort]:
        # Matching patterns against every cohort costs more than a send: the answer is remembered for each type.
        route = self._routes.get((event_type, about))
        if route is None:
            # All at once: keeping count of what is used least would cost something on every publish.
            if len(self._routes) >= ROUTES:
                self._routes.clear()
            route = self._routes[event_type, about] = {
                cohort: None for interest, cohort in self._cohorts.items() if interest.matches(event_type, about)
            }
        return route


def _attempt(member: Member, step: Callable[[T], None], what: T) -> None:
    """Do what concerns `member` alone. If it raises, that member is told, and the next one has its turn."""
    try:
        step(what)
    except Exception as error:  # noqa: BLE001 - the member tells its connection, which closes
        member.failed(error)
