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

from tidegate.core.cohort import Cohort, Interest, Member
from tidegate.core.events import About, Event
from tidegate.core.framing import Framing

T = TypeVar("T")

ROUTES = 4096
"""Event types whose cohorts are remembered; publishers may invent types, so there is a bound."""

Multicast = Callable[[Sequence[int], bytes], Sequence[tuple[int, int]]]
"""Sends bytes to each of some sockets, by descriptor, as far as they take them at once. Never raises and never waits.

What it returns tells, for each that did not take them all, its place in the sequence and how many bytes it took.
"""

WRITE_BYTES = 262144
"""What is joined into one write at the most, unless one event alone is larger."""


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
        cohort.file(member)
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
