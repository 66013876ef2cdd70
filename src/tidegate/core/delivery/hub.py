"""Finds the connections that want an event, and sends it to them: the fast path of the gateway.

`Hub.publish` only adds an event to each cohort that wants it. `Hub.flush`, at the end of the event loop's turn, joins
the events of a cohort and sends them with one write per connection. A send by the kernel costs more than everything
else together, so few sends make the hub fast. For each connection, the hub reads nothing but the number of its socket:
the objects of a thousand connections do not stay in the CPU's cache, so reading them would mean a cache miss for each.
`docs/design/performance.md` has the measurements.

Knows nothing of what a member does with events while it is not live, or of where events come from.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from tidegate.core.delivery.cohort import Cohort, Interest, Member
from tidegate.core.delivery.framing import Framing
from tidegate.core.delivery.traffic import Traffic
from tidegate.core.events import About, Event

T = TypeVar("T")

ROUTES = 4096
"""For how many event types the hub remembers the cohorts. Publishers may invent types, so there must be a limit."""

Multicast = Callable[[Sequence[int], bytes], Sequence[tuple[int, int]]]
"""Sends the same bytes to each of the sockets (descriptors). Never raises and never waits.

For each socket that did not take all bytes, it returns the socket's index and how many bytes the socket took.
"""

WRITE_BYTES = 262144
"""Most bytes joined into one write, unless a single event is larger. A larger burst is sent in halves.

As large as the default of `limits.send_buffer_soft_bytes`: one write does not take a channel far past its soft limit.
Where the hard limit is small, a hub is made with less (`SendLimits.at_once`).
"""


class Hub:
    """All cohorts. `multicast` sends to members' sockets. `traffic` counts what members are given.

    `epoch` is the epoch of the events' positions; event streams write it. When another epoch begins, call `flush`
    first and then set `epoch`. `write_bytes`: see `WRITE_BYTES`.
    """

    def __init__(self, epoch: str, multicast: Multicast, *, traffic: Traffic, write_bytes: int = WRITE_BYTES) -> None:
        self.epoch = epoch
        self._traffic = traffic
        self._multicast = multicast
        self.write_bytes = write_bytes
        self._cohorts: dict[Interest, Cohort] = {}
        self._routes: dict[tuple[str, About], dict[Cohort, None]] = {}
        self._dirty: list[Cohort] = []

    def publish(self, event: Event) -> None:
        """Add `event` to every cohort that wants it. `flush` sends it."""
        for cohort in self._route(event.draft.type, event.draft.about):
            # Nothing is sent here, so that five events of one poll become one send of five frames, not five sends.
            if not cohort.pending:
                self._dirty.append(cohort)
            cohort.pending.append(event)

    @property
    def dirty(self) -> bool:
        """Whether anything was published since the last flush."""
        return bool(self._dirty)

    def flush(self) -> None:
        """Send everything that was published since the last flush, with one write per connection."""
        dirty, self._dirty = self._dirty, []
        # Cohorts that got the same events, in the same framing, share one join and one multicast. So ten thousand
        # different subscriptions cost hardly more than one.
        alike: dict[tuple[Framing, *tuple[Event, ...]], list[Cohort]] = {}
        for cohort in dirty:
            # A cohort that `flush_cohort` has flushed in the meantime has nothing left.
            if cohort.pending:
                alike.setdefault((cohort.interest.framing, *cohort.take_pending()), []).append(cohort)
        for (framing, *events), cohorts in alike.items():
            self._hand_out(events, framing, cohorts)

    def flush_cohort(self, cohort: Cohort) -> None:
        """Send what was published to one cohort now, so that something else may be written after it."""
        if cohort.pending:
            self._hand_out(cohort.take_pending(), cohort.interest.framing, [cohort])

    def join(self, member: Member, interest: Interest) -> Cohort:
        """Put `member` into the cohort of `interest`: it gets all events from now on, and none from before."""
        cohort = self._cohorts.get(interest)
        if cohort is None:
            cohort = self._cohorts[interest] = Cohort(interest)
            # The remembered routes do not contain the new cohort yet.
            for (event_type, about), cohorts in self._routes.items():
                if interest.matches(event_type, about):
                    cohorts[cohort] = None
        # Flush before the member joins: it has read the pending events from the history already.
        if cohort.pending:
            self.flush_cohort(cohort)
        member.cohort = cohort
        cohort.file(member)
        return cohort

    def leave(self, member: Member) -> None:
        """Take `member` out of its cohort, after sending it everything that was published so far."""
        cohort = member.cohort
        assert cohort is not None, "only a member that has joined can leave"
        self.flush_cohort(cohort)
        member.cohort = None
        cohort.remove(member)
        # Delete an empty cohort: events would still be added to it, and `is_wanted` would count it as an interest.
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
        """Send or offer `events` to every member of `cohorts`, which all use `framing`."""
        # Each event was encoded when it was published. Here it only gets its frame, once for all members.
        data = b"".join([framing.event(event, self.epoch) for event in events])
        if len(data) > self.write_bytes and len(events) > 1:
            # If the first half fills a channel, the second half goes to the member's outbox, which conflates it. Sent
            # in one piece, a burst could take even a client that reads well over its hard limit.
            half = len(events) // 2
            self._hand_out(events[:half], framing, cohorts)
            self._hand_out(events[half:], framing, cohorts)
            return
        # Decide who is written to and who is offered before anything is sent. A write may fill its channel, which moves
        # the member to `behind`. That member has been sent these events, so it must not be offered them too. These
        # copies also keep the dictionaries from changing while they are iterated.
        writes = [each for cohort in cohorts for each in cohort.writes.items()]
        behind = [member for cohort in cohorts for member in cohort.behind]
        sockets = [socket for cohort in cohorts for socket in cohort.sockets.values()]
        self._count(events, framing, len(data), len(sockets) + len(writes))
        # In the common case, everything is this one call into C. It takes only descriptors and touches no member. The
        # channels hold no bytes (else their members would be in `writes`), so nothing is overtaken.
        if left := self._multicast(sockets, data):
            # Some sockets were full or broken: only now look up their members. No member has moved since the call, so
            # the indexes still fit. The channel takes the rest, and reports that it holds bytes (`set_holding`).
            members = [member for cohort in cohorts for member in cohort.sockets]
            for index, taken in left:
                _attempt(members[index], members[index].write, data[taken:])
        for member, write in writes:
            _attempt(member, write, data)
        for member in behind:
            _attempt(member, member.offer, events)

    def _count(self, events: list[Event], framing: Framing, size: int, receivers: int) -> None:
        """Count `events`, framed in `size` bytes, for all members that are written to. The others may not get them."""
        traffic = self._traffic
        traffic.sent_bytes[framing] += size * receivers
        for event in events:
            traffic.note_live(event, receivers)

    def _route(self, event_type: str, about: About) -> Collection[Cohort]:
        # Matching patterns against every cohort costs more than a send, so the result is remembered for each type.
        route = self._routes.get((event_type, about))
        if route is None:
            # Forget all routes at once: finding the least used one would need bookkeeping on every publish.
            if len(self._routes) >= ROUTES:
                self._routes.clear()
            route = self._routes[event_type, about] = {
                cohort: None for interest, cohort in self._cohorts.items() if interest.matches(event_type, about)
            }
        return route


def _attempt(member: Member, step: Callable[[T], None], what: T) -> None:
    """Call `step`, which concerns `member` alone. An error is passed to that member and does not stop the others."""
    try:
        step(what)
    except Exception as error:  # noqa: BLE001 - the member reports it to its connection, which closes
        member.failed(error)
