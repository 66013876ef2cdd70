"""One client's stream of events: in order, and complete, or with a `gap` message where events were dropped.

What a subscriber does is its `Phase`. *Catching up*, it reads from a feed (`feed.py`) as its channel drains, in pieces,
and goes live when the feed has reached the newest event. *Live*, the hub sends to it at once. *Backlogged*, its channel
is over the soft limit: the outbox keeps the newest, and is sent in pieces once the channel has drained.

Here a slow client is detected: more than the hard limit waits for it (`_check_hard_limit`), or the kernel took no byte
for the grace period (`review`). `too_slow` reports it; `runtime/clients.py` closes the connection (4408). Knows nothing
of requests, tokens or how a channel sends.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from tidegate.core.delivery.channel import Channel
from tidegate.core.delivery.cohort import BACKLOGGED, CATCHING_UP, CLOSED, LIVE, Interest, Member, PhaseError
from tidegate.core.delivery.feed import Feed, take_piece
from tidegate.core.delivery.outbox import Outbox, count_skipped
from tidegate.core.delivery.retained import Name
from tidegate.core.delivery.stream import Stream
from tidegate.core.envelope import encode_gap
from tidegate.core.events import Event, Position
from tidegate.core.instant import Instant

PIECE_BYTES = 65536
"""What waits for a connection is written in pieces of about this size, or of a quarter of its hard limit if smaller."""


class SendLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much may wait for one connection, and for how long (seconds) its kernel may take nothing."""

    hard_bytes: int
    grace_s: float


class Subscriber(Member):
    """One connection's stream.

    `too_slow` is called once, with the reason, when a limit is passed; `broken` when the hub could not send or offer
    something, with the error. Neither may call back into the hub.
    """

    __slots__ = (
        "_broken",
        "_channel",
        "_delivered_before",
        "_feed",
        "_flushed_at_join",
        "_limits",
        "_outbox",
        "_reported_skipped",
        "_stalled",
        "_stream",
        "_too_slow",
        "interest",
        "paused",
    )

    def __init__(
        self,
        channel: Channel,
        *,
        stream: Stream,
        interest: Interest,
        limits: SendLimits,
        too_slow: Callable[[str], None],
        broken: Callable[[Exception], None],
    ) -> None:
        super().__init__(channel.write, socket=channel.socket)
        self.interest = interest
        self.paused = False
        """The channel is over its soft limit. Only then does `review` have anything to do."""
        self._channel = channel
        self._stream = stream
        self._limits = limits
        self._too_slow: Callable[[str], None] | None = too_slow
        self._broken: Callable[[Exception], None] | None = broken
        # Made when needed and dropped after: an idle connection has neither.
        self._feed: Feed | None = None
        self._outbox: Outbox | None = None
        self._reported_skipped: dict[str, int] | None = None
        """Dropped events by type, as far as gaps have reported them."""
        self._stalled: tuple[int, float] | None = None
        """The fewest unsent bytes that `review` has seen since the pause, and since when."""
        self._delivered_before = 0
        """Events of former feeds and cohorts, less what was dropped of them."""
        self._flushed_at_join = 0
        """What the cohort had flushed when this member joined it."""

    def feed(
        self,
        head: bytes,
        *,
        interest: Interest,
        names: Iterable[Name],
        position: Position,
        synced_from: int | None,
        now: Instant,
        has_position: bool = True,
    ) -> None:
        """Send `head`, then the snapshots of `names`, then every event after `position`, then go live.

        `interest` replaces the one before. For the rest see `Feed`. Raises `PhaseError` unless the subscriber is new
        or live.
        """
        is_new = self.phase is CATCHING_UP and self._feed is None
        if not is_new and not self.flush():
            raise PhaseError(f"one feed at a time: only a new or live subscriber is fed, not one {self.phase.value}")
        if not is_new:
            self._leave()
            self._transition(CATCHING_UP)
        self.interest = interest
        self._feed = Feed(
            head,
            interest=interest,
            names=list(names),
            position=position,
            synced_from=synced_from,
            has_position=has_position,
            stream=self._stream,
            outbox_frames=self._outbox_frames,
        )
        self._stream.catching_up[self] = None
        self._pump(now)

    def send(self, data: bytes) -> None:
        """Send framed `data` to this connection alone, after everything published before. `PhaseError` if closed."""
        if self.phase is CLOSED:
            raise PhaseError("nothing can be sent to a subscriber that is closed")
        if self.cohort is not None and self.cohort.pending:
            self._stream.hub.flush_cohort(self.cohort)
        self.write(data)

    def flush(self) -> bool:
        """Send what was published so far; whether all of it is with the channel, and the channel takes more.

        Only then may a request be answered: the position in the answer counts everything before it.
        """
        if self.cohort is not None:
            self._stream.hub.flush_cohort(self.cohort)
        return self.is_live

    def pause(self) -> None:
        """The channel is over its soft limit."""
        if self.paused or self.phase is CLOSED:
            return
        self.paused = True
        # A feed that is paused just waits, and its subscriber is in no cohort: the phase stays.
        if self.phase is LIVE:
            self._transition(BACKLOGGED)
        self._check_hard_limit()

    def resume(self, now: Instant) -> None:
        """The channel has drained."""
        if not self.paused or self.phase is CLOSED:
            return
        self.paused = False
        self._stalled = None
        self._pump(now)

    def review(self, now: Instant) -> None:
        """Give up on a client whose kernel took no byte for the grace period. Call about once a second."""
        if not self.paused or self.phase is CLOSED:
            return
        unsent = self._channel.unsent()
        if self._stalled is None or unsent < self._stalled[0]:
            # The kernel took some bytes since the last review: the client is slow but reads. The period begins anew.
            self._stalled = (unsent, now.mono)
        elif now.mono - self._stalled[1] >= self._limits.grace_s:
            self._give_up(f"the connection took no byte for {self._limits.grace_s:g} s")

    def keep_if_unread(self, event: Event) -> None:
        """The history drops `event`: if it is still to be sent, the outbox keeps it as long as the bounds allow."""
        if self._feed is not None and self._feed.pass_over(event):
            self.offer([event])

    def offer(self, events: list[Event]) -> None:
        """Keep what the bounds allow of `events`, until the channel has drained."""
        if self.phase is CLOSED:
            return
        if self._outbox is None:
            self._outbox = Outbox()
        for event in events:
            self._outbox.offer(event)
        self._check_hard_limit()

    def failed(self, error: Exception) -> None:
        """The hub could not send or offer something."""
        if self._broken is not None:
            self._broken(error)

    def detach(self) -> None:
        """The connection has ended: nothing is written any more. May be called again."""
        if self.phase is CLOSED:
            return
        # First, because leaving flushes the cohort: with this, nothing of that is written behind a close frame.
        self._transition(CLOSED)
        self._too_slow = self._broken = None
        self._leave()
        self._end_feed()
        self._outbox = None

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for this connection, in its channel and in its outbox."""
        return self._channel.unsent() + (self._outbox.bytes if self._outbox else 0)

    @property
    def delivered(self) -> int:
        """Live and replayed events handed to the channel so far."""
        live = 0 if self.cohort is None else self.cohort.flushed - self._flushed_at_join
        fed = 0 if self._feed is None else self._feed.count
        held_back = len(self._outbox) + sum(self._outbox.skipped.values()) if self._outbox else 0
        return self._delivered_before + live + fed - held_back

    @property
    def skipped(self) -> dict[str, int]:
        """Events dropped so far, by type as far as types are counted, also those that no gap has reported yet."""
        skipped = {**(self._reported_skipped or {})}
        if self._outbox is not None:
            count_skipped(skipped, self._outbox.skipped.items())
        return skipped

    def _pump(self, now: Instant) -> None:
        """Send what waits until the channel is full again, and go live if it is not. `write` may call `pause`."""
        # A piece lies in the channel whole, on top of what is there: that alone must not pass the hard limit.
        piece_bytes = min(PIECE_BYTES, self._limits.hard_bytes // 4)
        while self._feed is not None and not self.paused:
            piece, is_all = self._feed.take(piece_bytes, now)
            if piece:
                self.write(piece)
            # If that filled the channel, the feed stays: more may come into the history before it has drained.
            if is_all and not self.paused:
                self._end_feed()
                self._join()
        while self._outbox is not None and not self.paused:
            self.write(take_piece(self._outbox_frames(now), piece_bytes)[0])
        if self.phase is BACKLOGGED and not self.paused:
            self._transition(LIVE)

    def _outbox_frames(self, now: Instant) -> Iterator[bytes]:
        """Empty the outbox: what it had to drop, as a gap, then what it kept."""
        framing, epoch = self.interest.framing, self._stream.history.epoch
        while self._outbox is not None:
            if skipped := self._outbox.take_skipped():
                if self._reported_skipped is None:
                    self._reported_skipped = {}
                count_skipped(self._reported_skipped, skipped.items())
                self._delivered_before -= sum(skipped.values())
                self._stream.count_skipped(skipped)
                yield framing.message("gap", encode_gap("slow_consumer", timestamp=now.wall, skipped=skipped))
            event = self._outbox.pop()
            if not self._outbox:
                self._outbox = None
            yield framing.event(event, epoch) if self._feed is None else self._feed.frame(event)

    def _check_hard_limit(self) -> None:
        if self.waiting_bytes > self._limits.hard_bytes:
            self._give_up(f"more than {self._limits.hard_bytes} bytes were waiting for the connection")

    def _give_up(self, reason: str) -> None:
        if self._too_slow is not None:
            # Once only: until the connection is closed, every further event passes the limit again.
            too_slow, self._too_slow = self._too_slow, None
            too_slow(reason)

    def _end_feed(self) -> None:
        if self._feed is not None:
            self._delivered_before += self._feed.count
            self._feed.close()
            self._feed = None
            del self._stream.catching_up[self]

    def _join(self) -> None:
        self._transition(LIVE)
        cohort = self._stream.hub.join(self, self.interest)
        # Of equal interests one is kept: else ten thousand clients hold ten thousand copies.
        self.interest = cohort.interest
        self._flushed_at_join = cohort.flushed

    def _leave(self) -> None:
        if (cohort := self.cohort) is not None:
            self._stream.hub.leave(self)
            self._delivered_before += cohort.flushed - self._flushed_at_join
