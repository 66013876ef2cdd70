"""Hands drafts to the bus, which gives them their positions, and waits for what became of them.

What must keep the order of a poller's decisions is published through a lane (`runtime/lanes.py`).
"""

import secrets
from collections.abc import Sequence

from tidegate.core.events import Draft, EncodedDraft, Position
from tidegate.errors import BusUnknown
from tidegate.ports import BusSession, Clock
from tidegate.runtime.lanes import RETRY_S, Lane, encoded
from tidegate.runtime.pending_publish import PendingPublish


class EventPublisher:
    """Publishes on one session of the bus, from `open` to `close`."""

    def __init__(self, clock: Clock, *, stuck_after_s: float) -> None:
        self._clock = clock
        self._stuck_after_s = stuck_after_s
        self._session: BusSession | None = None
        self._closed = False
        # Ids must not repeat those of an earlier process: the bus would take new drafts for ones that it has.
        self._id_prefix = secrets.token_hex(6)
        self._publishes = 0
        self._lanes: dict[str, Lane] = {}

    def open(self, session: BusSession) -> None:
        """Publish on `session` from now on."""
        self._session = session

    def close(self) -> None:
        """Stop all retries: the session is about to end."""
        self._closed = True
        for lane in self._lanes.values():
            lane.close()

    def set_stuck_after(self, stuck_after_s: float) -> None:
        """Change after how many seconds a lane is stuck, for all of them."""
        self._stuck_after_s = stuck_after_s
        for lane in self._lanes.values():
            lane.stuck_after_s = stuck_after_s

    def lane(self, name: str) -> Lane:
        """Return the lane of poller `name`. Always the same one."""
        lane = self._lanes.get(name)
        if lane is None:
            lane = Lane(name, self.start, others=self._lanes, clock=self._clock, stuck_after_s=self._stuck_after_s)
            self._lanes[name] = lane
        return lane

    async def publish(self, drafts: Sequence[Draft]) -> Position:
        """Publish `drafts`, at least one, in one batch and return the position of the last.

        While the outcome is unknown, it is tried again, for as long as it takes. Raises `BusRefused`, or `BusUnknown`
        if the gateway leaves the bus before the outcome is known. If it is cancelled, all are published or none.
        """
        return await self.outcome_within(self.hand_over(drafts), None)

    def hand_over(self, drafts: Sequence[Draft]) -> PendingPublish:
        """Hand `drafts`, at least one, to the bus in one batch. Wait for the outcome with `outcome_within`."""
        return self.start(encoded(drafts, self._clock.now()))

    def start(self, drafts: Sequence[EncodedDraft]) -> PendingPublish:
        """Hand `drafts`, at least one, to the bus with the timestamps that they have."""
        assert self._session is not None, "only an open gateway publishes"
        self._publishes += 1
        return PendingPublish(self._session, f"{self._id_prefix}.{self._publishes}", drafts)

    async def outcome_within(self, pending: PendingPublish, within_s: float | None) -> Position:
        """Wait for the position of `pending`; retry while the outcome is unknown, for at most `within_s` seconds.

        None: for as long as it takes. Raises `BusRefused`; or, after that time or once the gateway leaves the bus,
        `BusUnknown` (perhaps published, now or later).
        """
        ends = None if within_s is None else self._clock.now().mono + within_s
        while True:
            if not await pending.done_by(self._clock, ends):
                raise BusUnknown(f"no outcome within {within_s:g} s")
            failure = pending.failure()
            if not isinstance(failure, BusUnknown):
                return pending.result()
            retry_at = self._clock.now().mono + RETRY_S
            if ends is not None and retry_at >= ends:
                raise BusUnknown(f"no outcome within {within_s:g} s: {failure}") from failure
            await self._clock.sleep_until(retry_at)
            if self._closed:
                raise BusUnknown(f"no outcome before the gateway left the bus: {failure}") from failure
            pending.retry()
