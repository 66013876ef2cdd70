"""Tracks the position up to which a client has received everything, and how to resume from it. Pure.

The rule is in `docs/protocol.md`, with test vectors in `docs/vectors`. A connection that was not resumed has no
position before its first ``synced``. A resumed connection starts with the position that it asked for. After that, the
position is the largest ``seq`` of ``synced``, heartbeats and events that are not snapshots.

A position is valid only for the patterns of the last ``synced``, and a resumed connection gets no snapshots. So a
client resumes with those patterns, and subscribes to the other patterns after it has been synced.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self, TypeVar

import msgspec

from tidegate.client.items import Message

Patterns = frozenset[str]

T = TypeVar("T")


class Position(NamedTuple):
    """A place in the sequence of events; `epoch` names the sequence."""

    epoch: str
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``EPOCH:SEQ``. Raises `ValueError` for anything else."""
        epoch, _, seq = text.rpartition(":")
        if not (epoch and seq.isascii() and seq.isdecimal()):
            raise ValueError(f"expected a position of the form EPOCH:SEQ, got {text!r}")
        return cls(epoch, int(seq))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


class Opening(NamedTuple):
    """How to open the next connection.

    `types`: the patterns to connect with; None for the gateway's defaults.
    `since`: the position to resume from; None to start anew.
    `later`: the patterns to subscribe to after the connection has been synced.
    """

    types: Patterns | None
    since: Position | None
    later: Patterns


class ClientPosition:
    """A client's position across connections. Pass every message of the server to `take`, in order.

    `wanted`: the patterns to subscribe to; None for the gateway's defaults.
    `since`, `since_types`: a position saved earlier and the patterns for which it is valid; None for `wanted`.

    `complete` is the position, None while there is none. `patterns` are the patterns for which it is valid. While
    `awaits_synced`, current values may still be on their way. An old gateway never sends ``synced``; then ``pong``
    serves instead, because it follows everything that was requested before the ``ping``.
    """

    __slots__ = ("_epoch", "_promised", "_seen", "_subscribed", "_wanted", "awaits_synced", "complete", "patterns")

    def __init__(
        self,
        wanted: Iterable[str] | None = None,
        *,
        since: Position | None = None,
        since_types: Iterable[str] | None = None,
    ) -> None:
        self._wanted = None if wanted is None else frozenset(wanted)
        self.complete = since
        self.patterns = self._wanted
        if since_types is not None:
            self.patterns = frozenset(since_types) if self._wanted is None else self._wanted & frozenset(since_types)
        self.awaits_synced = False
        self._epoch = ""
        self._seen = 0
        """The largest `seq` that counts towards a position, also while there is no position yet."""
        self._promised = 0
        """The `seq` up to which an old gateway (no ``synced``) has sent everything when its ``pong`` arrives."""
        self._subscribed: Patterns = frozenset()

    def opening(self) -> Opening:
        """Return how to open the next connection."""
        if self.complete is None:
            return Opening(self._wanted, None, frozenset())
        return Opening(self.patterns, self.complete, self.missing)

    @property
    def missing(self) -> Patterns:
        """The wanted patterns for which the position is not valid."""
        return frozenset() if self._wanted is None or self.patterns is None else self._wanted - self.patterns

    def take(self, frame: Message) -> None:
        """Process a message of the server. Raises one of `tidegate.client.items.UNREADABLE` for malformed data."""
        match frame.type:
            case "welcome":
                self._welcomed(_read(frame, _Welcome))
            case "synced":
                self._synced(_place(frame))
            case "pong" if self.awaits_synced:
                self._synced(Position(self._epoch, self._promised))
            # After these gaps, the current values follow, then `synced`. After slow_consumer nothing follows: the
            # dropped events are lost, so the position stays as it is.
            case "gap" if _read(frame, _Gap).reason != "slow_consumer":
                self.complete, self.awaits_synced = None, True
            case "subscribed":
                self._promised = _place(frame).seq
                self._added(frozenset(_read(frame, _Types).types))
            case "unsubscribed":
                self._end(frozenset(_read(frame, _Types).types))
            case "authenticated":
                self._end(frozenset(_read(frame, _Types).types))
                self.awaits_synced = True
            case "heartbeat" if (place := _place(frame)).epoch == self._epoch:
                self._reached(place.seq)
            case _ if frame.seq is not None and not frame.snapshot:
                self._reached(frame.seq)

    def _welcomed(self, welcome: "_Welcome") -> None:
        self._epoch, self._promised, self._seen = welcome.epoch, welcome.seq, 0
        self._subscribed, self.awaits_synced = frozenset(welcome.subscriptions), True
        self.complete = None
        if welcome.resumed:
            self._seen = welcome.seq
            self.complete, self.patterns = Position(welcome.epoch, welcome.seq), self._subscribed

    def _synced(self, position: Position) -> None:
        if position.epoch != self._epoch:
            self._epoch, self._seen = position.epoch, 0
        self._seen = max(self._seen, position.seq)
        self.complete = Position(self._epoch, self._seen)
        self.patterns, self.awaits_synced = self._subscribed, False

    def _reached(self, seq: int) -> None:
        self._seen = max(self._seen, seq)
        if self.complete is not None:
            self.complete = Position(self._epoch, self._seen)

    def _added(self, subscribed: Patterns) -> None:
        self._wanted = subscribed if self._wanted is None else self._wanted | subscribed
        self._subscribed, self.awaits_synced = subscribed, True

    def _end(self, left: Patterns) -> None:
        """Only the patterns `left` are still subscribed to."""
        if ended := self._subscribed - left:
            self._wanted = (self._subscribed if self._wanted is None else self._wanted) - ended
            self.patterns = None if self.patterns is None else self.patterns - ended
        self._subscribed = left


class _Welcome(msgspec.Struct):
    epoch: str
    seq: int
    resumed: bool
    subscriptions: list[str]


class _Place(msgspec.Struct):
    epoch: str
    seq: int


class _Types(msgspec.Struct):
    types: list[str]


class _Gap(msgspec.Struct):
    reason: str


def _read(frame: Message, kind: type[T]) -> T:
    return msgspec.json.decode(frame.data_json, type=kind)


def _place(frame: Message) -> Position:
    place = _read(frame, _Place)
    return Position(place.epoch, place.seq)
