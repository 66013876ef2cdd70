"""What a subscriber is sent before it goes live: a reply, snapshots, then the history, with `synced` at its point.

A feed decides only the order. It is read in pieces, as the channel drains. Events that are published in the meantime
wait in the history. Events that the history drops in the meantime wait in the subscriber's outbox, and the feed sends
those before it goes on with the history.
"""

from collections.abc import Callable, Generator, Iterator

from tidegate.core.delivery.cohort import Interest
from tidegate.core.delivery.retained import Name
from tidegate.core.delivery.stream import Stream
from tidegate.core.envelope import encode_synced
from tidegate.core.events import Event, Position
from tidegate.core.instant import Instant


class Feed:
    """The frames of one feed: `head`, the snapshots of `names`, then every event after `position` that is of interest.

    `synced` is sent once, when everything was sent up to `synced_from` and up to the newest event at the time when the
    last snapshot was taken. `synced_from` is None if `head` needs no `synced`; then `names` must be empty.

    `has_position`: the client has a position already, and events move it. If not, events carry no position before
    `synced`: a client that resumed from one would never get the snapshots that were still to come.

    `outbox_frames` returns the outbox's frames, oldest first. Call `close` when done, because a feed refers to itself.
    """

    __slots__ = (
        "_cursor",
        "_frames",
        "_has_position",
        "_is_narrowed",
        "_newest_sent",
        "_now",
        "_outbox_frames",
        "_overrun",
        "_replay_until",
        "_stream",
        "count",
        "interest",
    )

    _now: Instant  # the time of the current piece

    def __init__(
        self,
        head: bytes,
        *,
        interest: Interest,
        names: list[Name],
        position: Position,
        synced_from: int | None,
        has_position: bool,
        stream: Stream,
        outbox_frames: Callable[[Instant], Iterator[bytes]],
    ) -> None:
        self.interest = interest
        self.count = 0
        """How many events were taken from the history so far, to be sent or to go to the outbox."""
        self._has_position = has_position
        self._is_narrowed = False
        self._stream = stream
        self._outbox_frames = outbox_frames
        self._cursor = position.seq
        """Every event up to here was sent, is in the outbox, or is of no interest."""
        self._newest_sent = 0
        self._replay_until = synced_from or 0
        """Events up to here were published before this feed began: the client gets them because it resumes."""
        self._overrun = False
        """Whether the history dropped events before this feed could read them."""
        self._frames = self._generate(head, names, position, synced_from)

    def take(self, size: int, now: Instant) -> tuple[bytes, bool]:
        """Return the next frames, about `size` bytes, and whether that is everything up to the newest event."""
        self._now = now
        return take_piece(self._frames, size)

    def narrow(self, interest: Interest) -> None:
        """Send only what `interest`, which matches less than the one before, matches of what is still to come."""
        self.interest = interest
        self._is_narrowed = True

    def pass_over(self, event: Event) -> bool:
        """Go past `event`, which the history drops. Return whether the caller must offer it to the outbox."""
        assert event.seq is not None
        if self._cursor >= event.seq:
            return False
        self._cursor = event.seq
        if not self.interest.matches(event.type, event.draft.about):
            return False
        self.count += 1
        self._overrun = True
        return True

    def frame(self, event: Event) -> bytes:
        """Return `event` as a frame of this feed. The caller must send it next."""
        framing, self._newest_sent = self.interest.framing, event.seq or 0
        if self._newest_sent <= self._replay_until:
            self._stream.traffic.of(event.type).replayed += 1
        else:
            self._stream.traffic.note_live(event, 1)
        return (
            framing.event(event, self._stream.history.epoch)
            if self._has_position
            else framing.message(event.type, event.json)
        )

    def close(self) -> None:
        """End the feed. Nothing more may be taken."""
        # The generator holds the feed, and the feed holds the generator. Closing it ends this cycle at once.
        self._frames.close()

    def _generate(
        self, head: bytes, names: list[Name], position: Position, synced_from: int | None
    ) -> Generator[bytes, None, None]:
        framing, history = self.interest.framing, self._stream.history
        yield head
        for name in names:
            found = self._stream.retained.snapshot(name, self._now)
            # A value that changed or was removed after `position` follows as an event of the history. So it is not sent
            # as a snapshot, and `synced` must not come before that event.
            assert synced_from is not None, "snapshots are always followed by `synced`"
            if history.newest > synced_from:
                synced_from = history.newest
            if found is not None and (found[0].seq or 0) <= position.seq and self._still_wants(found[0]):
                self._stream.traffic.of(name[0]).snapshots += 1
                yield framing.snapshot(*found)
        while True:
            if self._overrun:
                # The dropped events are older than everything that the history still has.
                self._overrun = False
                yield from self._outbox_frames(self._now)
            if synced_from is not None and self._cursor >= synced_from:
                # After an overrun, events later than `synced_from` may have been sent already.
                yield self._synced(max(synced_from, self._newest_sent))
                synced_from = None
                continue
            event = history.after(self._cursor)
            if event is None:
                # All events were sent, but only for now: more may be published before a full channel has drained.
                yield b""
                continue
            assert event.seq is not None, "only what has a position is kept"
            self._cursor = event.seq
            if self.interest.matches(event.type, event.draft.about):
                self.count += 1
                yield self.frame(event)

    def _still_wants(self, event: Event) -> bool:
        """Whether a value is of interest that was when the feed began."""
        return not self._is_narrowed or self.interest.matches(event.type, event.draft.about)

    def _synced(self, seq: int) -> bytes:
        """Return the `synced` message: everything up to `seq` was sent, or a gap has reported it."""
        self._has_position = True
        position = Position(self._stream.history.epoch, seq)
        return self.interest.framing.synced(position, encode_synced(position, timestamp=self._now.wall))


def take_piece(frames: Iterator[bytes], size: int) -> tuple[bytes, bool]:
    """Return the next of `frames`, joined, about `size` bytes, and whether an empty frame ended them.

    An empty frame means that there is nothing more for now.
    """
    piece: list[bytes] = []
    for frame in frames:
        if not frame:
            return b"".join(piece), True
        piece.append(frame)
        size -= len(frame)
        if size <= 0:
            break
    return b"".join(piece), False
