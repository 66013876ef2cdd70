"""One connection's stream of events: in order, and whole or with a gap where it is not.

A subscriber is in one of three conditions. Live and `clear`, the hub writes to it directly. *Catching up*, it works
off a feed (a reply, snapshots, then the history from its cursor on, with `synced` where that has reached what the
reply promised) in pieces, as its transport drains; what is published meanwhile waits in the history, and it goes live
when the feed has reached the newest event. *Backlogged*, its transport holds more than the soft limit and the outbox
conflates; that too is worked off in pieces.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import msgspec

from tidegate.core.cohort import Interest, Member, Phase, PhaseError
from tidegate.core.envelope import encode_gap, encode_synced
from tidegate.core.events import Event, Position
from tidegate.core.history import History
from tidegate.core.hub import Hub
from tidegate.core.instant import Instant
from tidegate.core.outbox import Outbox, count_skipped
from tidegate.core.retained import Name, Retained

PIECE_BYTES = 65536
"""What waits for a connection is written in joined pieces of about this size, or of a quarter of its hard limit."""

_NEVER = Instant(0.0, 0.0)


class Channel(Protocol):
    """What carries a subscriber's bytes.

    It reports two facts about itself, when they change and as often as it likes: that it holds bytes
    (`Subscriber.holding`; not needed where `socket` is None), and that it is over its soft limit
    (`Subscriber.pause`, and `resume` once it has drained). Everything else follows from these.
    """

    @property
    def socket(self) -> int | None:
        """The descriptor that the hub may send to while the channel holds nothing; None: only `write` is allowed."""
        ...

    def write(self, data: bytes) -> None:
        """Send `data` after everything written before. Never raises and never waits."""
        ...

    def unsent(self) -> int:
        """Bytes taken by `write` that the kernel has not taken yet."""
        ...


class SendLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much may wait for one connection; `soft_bytes` is the transport's own high-water mark."""

    hard_bytes: int
    grace_s: float


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """The shared state that subscribers read: one per gateway.

    `count_skipped` is told, by type, of the events that a subscriber's gap speaks of. `catching_up` are the
    subscribers that still read from the history.
    """

    hub: Hub
    history: History
    retained: Retained
    epoch: str
    count_skipped: Callable[[Mapping[str, int]], None]
    catching_up: "dict[Subscriber, None]" = msgspec.field(default_factory=dict)

    def is_wanted(self, event_type: str) -> bool:
        """Whether anyone is subscribed to `event_type`."""
        return self.hub.is_wanted(event_type) or any(each.interest.matches(event_type) for each in self.catching_up)

    def append(self, event: Event) -> None:
        """Take the next event into the history, past everyone who has not come to what falls out for it."""
        for fallen in self.history.append(event):
            for subscriber in self.catching_up:
                subscriber.evicted(fallen)


class Subscriber(Member):
    """One connection's stream.

    `too_slow` is called once, with the reason, when a limit is passed; `broken` when the hub could not hand something
    over, with the error. Neither may call back into the hub. `placed`: the client has a position, which events move;
    without one it must not resume, as snapshots may still be due. `paused`: the transport is full; only then has
    `review` anything to do.
    """

    __slots__ = (
        "_broken",
        "_channel",
        "_counted_from",
        "_cursor",
        "_feed",
        "_handed_over",
        "_limits",
        "_now",
        "_outbox",
        "_settled",
        "_stalled",
        "_stream",
        "_told_skipped",
        "_too_slow",
        "interest",
        "paused",
        "placed",
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
        self.placed = False
        self._told_skipped: dict[str, int] | None = None
        self._channel = channel
        self._stream = stream
        self._limits = limits
        self._too_slow: Callable[[str], None] | None = too_slow
        self._broken: Callable[[Exception], None] | None = broken
        self._feed: Iterator[bytes] | None = None
        self._cursor = 0
        self._handed_over = 0
        """The newest event that did not come live."""
        self._outbox: Outbox | None = None
        self.paused = False
        self._stalled: tuple[int, float] | None = None
        self._settled = 0
        self._counted_from = 0
        self._now = _NEVER

    def feed(
        self,
        head: bytes,
        *,
        interest: Interest,
        names: Iterable[Name],
        position: Position,
        synced_from: int | None,
        now: Instant,
    ) -> None:
        """Send `head`, then the snapshots of `names`, then every event after `position`, then go on live.

        `synced` goes out, once, when everything is handed over up to `synced_from` and up to what was newest when the
        last snapshot was taken; `synced_from` is None where `head` hands nothing over, and then `names` are none.
        `interest` replaces the one before. Raises `PhaseError` unless the subscriber is new or live.
        """
        is_new = self.phase is Phase.CATCHING_UP and self._feed is None
        if not is_new and not self.settle():
            raise PhaseError(
                f"one feed at a time: only a new or live subscriber can be fed, not one {self.phase.value}"
            )
        if not is_new:
            self._leave()
            self._transition(Phase.CATCHING_UP)
        self.interest = interest
        self._cursor = position.seq
        self._feed = self._frames(head, list(names), position, synced_from)
        self._stream.catching_up[self] = None
        self._pump(now)

    def send(self, data: bytes) -> None:
        """Send framed `data` to this connection alone, after everything that was published before."""
        if self.cohort is not None and self.cohort.pending:
            self._stream.hub.flush_cohort(self.cohort)
        self.write(data)

    def settle(self) -> bool:
        """Hand over what was published so far; whether all of it is with the transport, and it takes more.

        Only then may a request be answered: the position in the answer counts everything before it.
        """
        if self.cohort is not None:
            self._stream.hub.flush_cohort(self.cohort)
        return self.clear

    def pause(self) -> None:
        """The channel holds more than the soft limit. Nothing happens if that was known."""
        if self.paused or self.phase is Phase.CLOSED:
            return
        self.paused = True
        if self.phase is Phase.LIVE:
            self._transition(Phase.BACKLOGGED)
        self._check_hard_limit()

    def resume(self, now: Instant) -> None:
        """The channel has drained. Nothing happens if it was not over the soft limit."""
        if not self.paused or self.phase is Phase.CLOSED:
            return
        self.paused = False
        self._stalled = None
        self._pump(now)

    def review(self, now: Instant) -> None:
        """Call about once a second: notices a kernel that takes no byte for the grace period."""
        if not self.paused or self.phase is Phase.CLOSED:
            return
        unsent = self._channel.unsent()
        if self._stalled is None or unsent < self._stalled[0]:
            self._stalled = (unsent, now.mono)
        elif now.mono - self._stalled[1] >= self._limits.grace_s:
            self._give_up(f"the connection took no byte for {self._limits.grace_s:g} s")

    def evicted(self, event: Event) -> None:
        """`event` fell out of the history; if this subscriber has not come to it yet, the outbox keeps what it can."""
        assert event.seq is not None
        if self._feed is not None and self._cursor < event.seq:
            self._cursor = event.seq
            if self.interest.matches(event.type, event.draft.about):
                self._settled += 1
                self.offer([event])

    def offer(self, events: list[Event]) -> None:
        """Keep what `events` the bounds allow, until the transport has drained."""
        if self.phase is Phase.CLOSED:
            return
        if self._outbox is None:
            self._outbox = Outbox()
        for event in events:
            self._outbox.offer(event)
        self._check_hard_limit()

    def failed(self, error: Exception) -> None:
        """The hub could not hand something over."""
        if self._broken is not None:
            self._broken(error)

    def detach(self) -> None:
        """The connection is gone: nothing is written any more."""
        if self.phase is Phase.CLOSED:
            return
        # First, so that leaving the hub, which flushes the cohort, writes nothing behind a close frame.
        self._transition(Phase.CLOSED)
        self._too_slow = self._broken = None
        self._leave()
        self._end_feed()
        self._outbox = None

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for this connection, in its transport and in its outbox."""
        return self._channel.unsent() + (self._outbox.bytes if self._outbox else 0)

    @property
    def delivered(self) -> int:
        """Live and replayed events handed to the transport so far."""
        live = 0 if self.cohort is None else self.cohort.flushed - self._counted_from
        held_back = len(self._outbox) + sum(self._outbox.skipped.values()) if self._outbox else 0
        return self._settled + live - held_back

    @property
    def skipped(self) -> dict[str, int]:
        """Events left out so far, by type as far as these are counted, also those that no gap has told of yet."""
        skipped = {**(self._told_skipped or {})}
        if self._outbox is not None:
            count_skipped(skipped, self._outbox.skipped.items())
        return skipped

    def _frames(self, head: bytes, names: list[Name], position: Position, synced_from: int | None) -> Iterator[bytes]:
        framing, history = self.interest.framing, self._stream.history
        yield head
        for name in names:
            found = self._stream.retained.snapshot(name, self._now)
            # A value that changed or went after `position` follows as an event of the history, so it is no snapshot
            # any more; and `synced` must not come before that event.
            assert synced_from is not None, "snapshots are always followed by `synced`"
            if history.newest > synced_from:
                synced_from = history.newest
            if found is not None and (found[0].seq or 0) <= position.seq:
                yield framing.snapshot(*found)
        while True:
            if self._outbox is not None:
                yield from self._kept()
            if synced_from is not None and self._cursor >= synced_from:
                # Where the history overran a slow reader, later events than that had to come before.
                yield self._synced(max(synced_from, self._handed_over))
                synced_from = None
                continue
            event = history.get(self._cursor + 1)
            if event is None:
                # The newest event is reached, but only for now: more may come before a full transport has drained.
                yield b""
                continue
            self._cursor += 1
            if self.interest.matches(event.type, event.draft.about):
                self._settled += 1
                yield self._framed(event)

    def _synced(self, seq: int) -> bytes:
        """Everything up to `seq` has been handed over, or a gap has named it."""
        self.placed = True
        position = Position(self._stream.epoch, seq)
        return self.interest.framing.synced(position, encode_synced(position, timestamp=self._now.wall))

    def _framed(self, event: Event) -> bytes:
        framing, self._handed_over = self.interest.framing, event.seq or 0
        return framing.event(event, self._stream.epoch) if self.placed else framing.message(event.type, event.json)

    def _pump(self, now: Instant) -> None:
        self._now = now
        # A piece lies in the transport whole, on top of what is there: that alone must not pass the hard limit.
        piece_bytes = min(PIECE_BYTES, self._limits.hard_bytes // 4)
        while self._feed is not None and not self.paused:
            piece, is_all = _take(self._feed, piece_bytes)
            if piece:
                self.write(piece)
            if is_all and not self.paused:
                self._end_feed()
                self._transition(Phase.LIVE)
                self._join()
        while self._outbox is not None and not self.paused:
            self.write(_take(self._kept(), piece_bytes)[0])
        if self.phase is Phase.BACKLOGGED and not self.paused:
            self._transition(Phase.LIVE)
        self._now = _NEVER

    def _kept(self) -> Iterator[bytes]:
        """Work the outbox off: what it had to skip, then what it kept, until it is empty."""
        framing = self.interest.framing
        while self._outbox is not None:
            if skipped := self._outbox.take_skipped():
                if self._told_skipped is None:
                    self._told_skipped = {}
                count_skipped(self._told_skipped, skipped.items())
                self._settled -= sum(skipped.values())
                self._stream.count_skipped(skipped)
                yield framing.message("gap", encode_gap("slow_consumer", timestamp=self._now.wall, skipped=skipped))
            event = self._outbox.pop()
            if not self._outbox:
                self._outbox = None
            yield self._framed(event)

    def _end_feed(self) -> None:
        self._feed = None
        self._stream.catching_up.pop(self, None)

    def _check_hard_limit(self) -> None:
        if self.waiting_bytes > self._limits.hard_bytes:
            self._give_up(f"more than {self._limits.hard_bytes} bytes were waiting for the connection")

    def _give_up(self, reason: str) -> None:
        if self._too_slow is not None:
            too_slow, self._too_slow = self._too_slow, None
            too_slow(reason)

    def _join(self) -> None:
        cohort = self._stream.hub.join(self, self.interest)
        self.interest = cohort.interest
        self._counted_from = cohort.flushed

    def _leave(self) -> None:
        if (cohort := self.cohort) is not None:
            self._stream.hub.leave(self)
            self._settled += cohort.flushed - self._counted_from


def _take(frames: Iterator[bytes], size: int) -> tuple[bytes, bool]:
    """Frames joined up to about `size` bytes, and whether an empty one came: there are no more now."""
    piece: list[bytes] = []
    for frame in frames:
        if not frame:
            return b"".join(piece), True
        piece.append(frame)
        size -= len(frame)
        if size <= 0:
            break
    return b"".join(piece), False
