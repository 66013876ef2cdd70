"""One client's stream of events: in order, and complete, or with a `gap` message where events were dropped.

What a subscriber does depends on its `Phase`. *Catching up*: it sends the pieces of a feed (`feed.py`) as its channel
drains, and goes live when the feed has reached the newest event. *Live*: the hub sends to it at once. *Backlogged*: its
channel is over the soft limit. New events go to the outbox, which is sent in pieces once the channel has drained.

A client is too slow if more bytes wait for it than the hard limit allows (`_check_hard_limit`), or if the kernel took
no byte for the grace period (`review`). `too_slow` reports that, and `runtime/clients.py` closes the connection (4408).
Knows nothing of requests, tokens or how a channel sends.
"""

from collections.abc import Callable, Iterable, Iterator

from tidegate.core.delivery.channel import Channel
from tidegate.core.delivery.cohort import BACKLOGGED, CATCHING_UP, CLOSED, LIVE, Interest, Member, PhaseError
from tidegate.core.delivery.feed import Feed, take_piece
from tidegate.core.delivery.outbox import Outbox, count_skipped
from tidegate.core.delivery.retained import Name
from tidegate.core.delivery.slowness import SendLimits, Stall
from tidegate.core.delivery.stream import Stream
from tidegate.core.envelope import encode_gap
from tidegate.core.events import Event, Position
from tidegate.core.instant import Instant

PIECE_BYTES = 65536
"""Feeds and outboxes are written in pieces of about this size, or of a quarter of the hard limit if that is smaller.

Large enough that a piece costs few calls, and small enough that many clients that catch up at once need little memory.
"""


class Subscriber(Member):
    """One connection's stream.

    `too_slow` is called once, with the reason, when the client passes a limit. `broken` is called with the error when
    the hub could not send or offer something. Neither may call back into the hub.
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
        "_stall",
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
        """Whether the channel is over its soft limit. Otherwise `review` has nothing to do."""
        self._channel = channel
        self._stream = stream
        self._limits = limits
        self._too_slow: Callable[[str], None] | None = too_slow
        self._broken: Callable[[Exception], None] | None = broken
        # Made when needed and removed afterwards, so that an idle connection holds neither.
        self._feed: Feed | None = None
        self._outbox: Outbox | None = None
        self._reported_skipped: dict[str, int] | None = None
        """Dropped events that gaps have reported, by type. None if there are none, as for most clients."""
        self._stall: Stall | None = None  # what `review` has seen since the pause
        self._delivered_before = 0  # events of earlier feeds and cohorts, less those that gaps have reported as dropped
        self._flushed_at_join = 0  # `flushed` of the cohort when this member joined it

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

        `interest` replaces the current one. `Feed` explains the other arguments. Raises `PhaseError` unless the
        subscriber is new or live.
        """
        if self.was_fed:
            # The feed begins at a position in the history: a live subscriber must first be sent what its cohort holds.
            if not self.flush():
                raise PhaseError(f"one feed at a time: only a new or live one is fed, not one {self.phase.value}")
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
        """Send framed `data` to this connection alone, after all earlier events. Raises `PhaseError` if closed."""
        if self.phase is CLOSED:
            raise PhaseError("nothing can be sent to a subscriber that is closed")
        self.flush()
        self.write(self._stream.traffic.counted(self.interest.framing, data))

    def narrow(self, interest: Interest) -> None:
        """Want less, in any phase but CLOSED: `interest` also holds for what waits here. Not while the hub sends."""
        is_in_cohort = self.cohort is not None
        self._leave()
        self.interest = interest
        if self._feed is not None:
            self._feed.narrow(interest)
        if self._outbox is not None:
            self._delivered_before -= self._outbox.keep_only(interest.matches)
            self._outbox = self._outbox if self._outbox or self._outbox.skipped else None
        if is_in_cohort:
            self._enter_cohort()

    def flush(self) -> bool:
        """Send what was published so far. Return whether the channel has all of it and takes more.

        Answer a request only if it returns True: the position in an answer promises every event up to it.
        """
        if self.cohort is not None:
            self._stream.hub.flush_cohort(self.cohort)
        return self.is_live

    def pause(self) -> None:
        """Stop sending: the channel is over its soft limit. Safe to call again."""
        if self.paused or self.phase is CLOSED:
            return
        self.paused = True
        # In CATCHING_UP the phase stays: the subscriber is in no cohort, and its feed waits until it is read again.
        if self.phase is LIVE:
            self._transition(BACKLOGGED)
        self._check_hard_limit()

    def resume(self, now: Instant) -> None:
        """Go on sending, because the channel has drained. Safe to call again."""
        if not self.paused or self.phase is CLOSED:
            return
        self.paused = False
        self._stall = None
        self._pump(now)

    def review(self, now: Instant) -> None:
        """Give up on the client if the kernel took no byte for the grace period. Call about once a second."""
        if not self.paused or self.phase is CLOSED:
            return
        unsent = self._channel.unsent()
        if self._stall is None:
            self._stall = Stall(unsent, now.mono)
        elif self._stall.lasts_s(unsent, now.mono) >= self._limits.grace_s:
            self._give_up(f"the connection took no byte for {self._limits.grace_s:g} s")

    def keep_if_unread(self, event: Event) -> None:
        """The history drops `event`. If the feed has not read it yet, keep it in the outbox."""
        if self._feed is not None and self._feed.pass_over(event):
            self.offer([event])

    def offer(self, events: list[Event]) -> None:
        """Keep `events` in the outbox, as far as its limits allow, until the channel has drained."""
        if self.phase is CLOSED:
            return
        if self._outbox is None:
            self._outbox = Outbox()
        for event in events:
            self._outbox.offer(event)
        self._check_hard_limit()

    def failed(self, error: Exception) -> None:
        """Report that the hub could not send or offer something."""
        if self._broken is not None:
            self._broken(error)

    def detach(self) -> None:
        """Close the stream, because the connection has ended. Nothing more is written. Safe to call again."""
        if self.phase is CLOSED:
            return
        delivered, skipped = self.delivered, self.skipped
        # Change the phase first. Leaving flushes the cohort, and nothing of that may follow a close frame.
        self._transition(CLOSED)
        self._too_slow = self._broken = None
        self._leave()
        self._end_feed()
        if self._outbox is not None:
            self._stream.traffic.note_skipped(*self._outbox.take_skipped())  # no gap will tell of them
        self._outbox, self._delivered_before, self._reported_skipped = None, delivered, skipped or None

    @property
    def was_fed(self) -> bool:
        """Whether anything was sent, or will be: `feed` was called."""
        return self.phase is not CATCHING_UP or self._feed is not None

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for this connection, in its channel and in its outbox."""
        return self._channel.unsent() + (self._outbox.bytes if self._outbox else 0)

    @property
    def delivered(self) -> int:
        """How many live and replayed events the channel was given so far."""
        # Counted by subtraction, so that the hub need not touch each member: a cohort counts its flushes, once for all.
        live = 0 if self.cohort is None else self.cohort.flushed - self._flushed_at_join
        held_back = len(self._outbox) + sum(self._outbox.skipped.values()) if self._outbox else 0
        return self._delivered_before + live + (self._feed.count if self._feed is not None else 0) - held_back

    @property
    def skipped(self) -> dict[str, int]:
        """How many events were dropped so far, by type (see `count_skipped`), reported by a gap or not."""
        skipped = {**(self._reported_skipped or {})}
        if self._outbox is not None:
            count_skipped(skipped, self._outbox.skipped.items())
        return skipped

    def _pump(self, now: Instant) -> None:
        """Send what waits until the channel is full. If everything could be sent, go live. `write` may call `pause`."""
        piece_bytes = self._limits.at_once(PIECE_BYTES)
        while self._feed is not None and not self.paused:
            piece, is_all = self._feed.take(piece_bytes, now)
            if piece:
                self.write(self._stream.traffic.counted(self.interest.framing, piece))
            # If this piece filled the channel, keep the feed: the history may get more events before it has drained.
            if is_all and not self.paused:
                self._end_feed()
                self._transition(LIVE)
                self._enter_cohort()
        while self._outbox is not None and not self.paused:
            # A generator that is left half-way loses nothing: it takes out an event only when it yields its frame.
            piece, _ = take_piece(self._outbox_frames(now), piece_bytes)
            self.write(self._stream.traffic.counted(self.interest.framing, piece))
        if self.phase is BACKLOGGED and not self.paused:
            self._transition(LIVE)

    def _outbox_frames(self, now: Instant) -> Iterator[bytes]:
        """Empty the outbox as frames: a gap that reports what it dropped, then the events that it kept."""
        framing = self.interest.framing
        while self._outbox is not None:
            skipped, conflated = self._outbox.take_skipped()
            if skipped:
                self._reported_skipped = self._reported_skipped or {}
                count_skipped(self._reported_skipped, skipped.items())
                self._delivered_before -= sum(skipped.values())
                self._stream.traffic.note_skipped(skipped, conflated)
                yield framing.message("gap", encode_gap("slow_consumer", timestamp=now.wall, skipped=skipped))
                continue  # more may have been dropped before this frame was taken, and the next event comes after that
            # There is an event, unless `narrow` has removed all: one is only dropped for a newer one.
            event = self._outbox.pop() if self._outbox else None
            if not self._outbox:
                self._outbox = None
            if event is not None:
                yield self._stream.live_frame(event, framing) if self._feed is None else self._feed.frame(event)

    def _check_hard_limit(self) -> None:
        if self.waiting_bytes > self._limits.hard_bytes:
            self._give_up(f"more than {self._limits.hard_bytes} bytes were waiting for the connection")

    def _give_up(self, reason: str) -> None:
        # Report it only once: until the connection is closed, every further event passes the limit again.
        too_slow, self._too_slow = self._too_slow, None
        if too_slow is not None:
            too_slow(reason)

    def _end_feed(self) -> None:
        if self._feed is not None:
            self._delivered_before += self._feed.count
            self._feed.close()
            self._feed = None
            del self._stream.catching_up[self]

    def _enter_cohort(self) -> None:
        cohort = self._stream.hub.join(self, self.interest)
        # Share the cohort's object, so that ten thousand clients with equal interests do not hold ten thousand copies.
        self.interest = cohort.interest
        self._flushed_at_join = cohort.flushed

    def _leave(self) -> None:
        if (cohort := self.cohort) is not None:
            self._stream.hub.leave(self)
            self._delivered_before += cohort.flushed - self._flushed_at_join
