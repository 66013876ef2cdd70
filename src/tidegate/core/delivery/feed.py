"""What a subscriber is sent before it goes live: a reply, snapshots, then the history, with `synced` in its place.

A feed decides the order and nothing else. It is read in pieces, as the channel drains; what is published meanwhile
waits in the history, and what the history drops meanwhile waits in the subscriber's outbox, which the feed sends first.
"""

from collections.abc import Callable, Generator, Iterator

from tidegate.core.delivery.cohort import Interest
from tidegate.core.delivery.retained import Name
from tidegate.core.delivery.stream import Stream
from tidegate.core.envelope import encode_synced
from tidegate.core.events import Event, Position
from tidegate.core.instant import Instant


class Feed:
    """One feed: `head`, the snapshots of `names`, then every event after `position` that is of interest.

    `synced` comes once, when everything is sent up to `synced_from` and up to what was newest when the last snapshot
    was taken. `synced_from` is None if the head promises nothing; then `names` must be empty.

    `has_position`: the client has a position already, and events move it. If not, events carry no position before
    `synced`: a client that resumed from one would never get the snapshots that were still to come.

    `outbox_frames` gives the outbox's frames, oldest first. Call `close` in the end: a feed refers to itself.
    """

    __slots__ = (
        "_cursor",
        "_frames",
        "_has_position",
        "_newest_sent",
        "_now",
        "_outbox_frames",
        "_overrun",
        "_stream",
        "count",
        "interest",
    )

    _now: Instant  # when the piece is taken that is made now

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
        """Events taken from the history so far, sent or passed to the outbox."""
        self._has_position = has_position
        self._stream = stream
        self._outbox_frames = outbox_frames
        self._cursor = position.seq
        """Every event up to here was sent, is in the outbox, or is of no interest."""
        self._newest_sent = 0
        self._overrun = False
        self._frames = self._generate(head, names, position, synced_from)

    def take(self, size: int, now: Instant) -> tuple[bytes, bool]:
        """The next frames, about `size` bytes of them, and whether that is everything up to the newest event."""
        self._now = now
        return take_piece(self._frames, size)

    def pass_over(self, event: Event) -> bool:
        """The history drops `event`. Whether it is still to be sent: the caller must offer it to the outbox."""
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
        """`event` as a frame of this feed, which the caller sends next."""
        framing, self._newest_sent = self.interest.framing, event.seq or 0
        return (
            framing.event(event, self._stream.history.epoch)
            if self._has_position
            else framing.message(event.type, event.json)
        )

    def close(self) -> None:
        """Nothing more is taken."""
        self._frames.close()

    def _generate(
        self, head: bytes, names: list[Name], position: Position, synced_from: int | None
    ) -> Generator[bytes, None, None]:
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
            if self._overrun:
                # What the history dropped is older than all that it still has.
                self._overrun = False
                yield from self._outbox_frames(self._now)
            if synced_from is not None and self._cursor >= synced_from:
                # After an overrun, later events than `synced_from` had to come before it.
                yield self._synced(max(synced_from, self._newest_sent))
                synced_from = None
                continue
            event = history.after(self._cursor)
            if event is None:
                # The newest event is reached, but only for now: more may come before a full channel has drained.
                yield b""
                continue
            assert event.seq is not None, "only what has a position is kept"
            self._cursor = event.seq
            if self.interest.matches(event.type, event.draft.about):
                self.count += 1
                yield self.frame(event)

    def _synced(self, seq: int) -> bytes:
        """Everything up to `seq` was sent, or a gap has reported it."""
        self._has_position = True
        position = Position(self._stream.history.epoch, seq)
        return self.interest.framing.synced(position, encode_synced(position, timestamp=self._now.wall))


def take_piece(frames: Iterator[bytes], size: int) -> tuple[bytes, bool]:
    """The next frames as one piece of about `size` bytes, and whether an empty frame ended it: nothing more for now."""
    piece: list[bytes] = []
    for frame in frames:
        if not frame:
            return b"".join(piece), True
        piece.append(frame)
        size -= len(frame)
        if size <= 0:
            break
    return b"".join(piece), False
