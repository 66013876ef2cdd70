"""The state that all subscribers of a gateway read: what is published, kept and retained.

Makes sure that what the history drops is first offered to every subscriber that still reads from it. Knows nothing of
channels or of how a subscriber is fed.
"""

from typing import Protocol

import msgspec

from tidegate.core.delivery.cohort import Interest
from tidegate.core.delivery.framing import Framing
from tidegate.core.delivery.history import History
from tidegate.core.delivery.hub import Hub
from tidegate.core.delivery.retained import Retained
from tidegate.core.delivery.traffic import Traffic
from tidegate.core.events import Event


class HistoryReader(Protocol):
    """A subscriber that still reads from the history."""

    interest: Interest

    def keep_if_unread(self, event: Event) -> None:
        """The history drops `event`. Keep it now if it was not read yet: there is no later chance."""
        ...


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """What subscribers read. There is one for each gateway.

    `traffic` counts what they are given.
    `catching_up` holds the subscribers that still read from the history.
    """

    hub: Hub
    history: History
    retained: Retained
    traffic: Traffic
    catching_up: dict[HistoryReader, None] = msgspec.field(default_factory=dict)

    def is_wanted(self, event_type: str) -> bool:
        """Whether anyone is subscribed to `event_type`."""
        return self.hub.is_wanted(event_type) or any(each.interest.matches(event_type) for each in self.catching_up)

    def live_frame(self, event: Event, framing: Framing) -> bytes:
        """Return a live event as a frame, for one client that could not be sent it at once."""
        self.traffic.note_live(event, 1)
        return framing.event(event, self.history.epoch)

    def append(self, event: Event) -> None:
        """Add the next event to the history. Offer what it drops to the subscribers that still read from it."""
        self._offer_dropped(self.history.append(event))

    def resize_history(self, *, max_events: int, max_bytes: int) -> None:
        """Give the history other limits. What it drops at once for them is offered as in `append`."""
        self._offer_dropped(self.history.resize(max_events=max_events, max_bytes=max_bytes))

    def _offer_dropped(self, events: list[Event]) -> None:
        for dropped in events:
            for reader in self.catching_up:
                reader.keep_if_unread(dropped)
