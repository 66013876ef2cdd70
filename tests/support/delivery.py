"""What every client must have received: a model of the contract, and readers that hold a stream against it.

A reader knows nothing of sessions, cohorts or outboxes. After each acknowledgement its client gets the snapshots that
are due, then each event that it may see once and in order, or a gap that counts exactly what is missing.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tidegate.core.events import Event, Position
from tidegate.core.framing import EVENT_STREAM, WEBSOCKET, Framing
from tidegate.core.topics import UNCOVERED_PATTERNS, UNRESTRICTED_TYPES, PatternSet

Message = dict[str, Any]

Name = tuple[str, str | None]


class Interest(NamedTuple):
    """What a client asked for, and what its token covers."""

    wanted: PatternSet
    allowed: PatternSet

    def sees(self, event_type: str, about: frozenset[str] | None = None) -> bool:
        speaks_of = {event_type} if about is None else about
        return self.wanted.matches(event_type) and (
            event_type in UNRESTRICTED_TYPES or any(self.allowed.matches(one) for one in speaks_of)
        )

    def narrowed(self, allowed: PatternSet) -> "Interest":
        """After a new token: patterns that it does not cover have ended."""
        left = [p for p in self.wanted.patterns if p in UNCOVERED_PATTERNS or allowed.covers(p)]
        return Interest(PatternSet(left), allowed)


class World:
    """All that was ever published in the sequence `epoch`, and what follows from it."""

    def __init__(self, epoch: str, *, max_events: int, max_bytes: int) -> None:
        self.epoch = epoch
        self.events: list[Event] = []
        self._max_events = max_events
        self._max_bytes = max_bytes

    @property
    def newest(self) -> Position:
        return Position(self.epoch, len(self.events))

    def seen(self, interest: Interest, *, after: int, upto: int) -> Counter[str]:
        """How many events of each type the positions in (after, upto] hold for `interest`."""
        return Counter(e.type for e in self.events[after:upto] if interest.sees(e.type, e.draft.about))

    def retained(self, upto: int) -> dict[Name, Event]:
        """Every retained value when `upto` was the newest."""
        values: dict[Name, Event] = {}
        for each in self.events[:upto]:
            if each.draft.gone:
                values.pop((each.type, each.key), None)
            elif each.draft.retain:
                values[each.type, each.key] = each
        return values

    def replaced(self, name: Name, *, after: int) -> bool:
        """Whether the retained value of `name` changed after the position `after`."""
        return any((e.type, e.key) == name and (e.draft.retain or e.draft.gone) for e in self.events[after:])

    def refuses(self, since: Position) -> str | None:
        """Why nobody can be replayed everything since `since`; None if it is all still there."""
        if since.epoch != self.epoch or since.seq > len(self.events):
            return "epoch_changed"
        return "history_truncated" if since.seq < self._forgotten() else None

    def _forgotten(self) -> int:
        """The position up to which everything fell out of the history: each event pushes out what must go."""
        oldest, size = 0, 0
        for newest, event in enumerate(self.events, 1):
            size += len(event.json)
            while newest - oldest > self._max_events or size > self._max_bytes:
                size -= len(self.events[oldest].json)
                oldest += 1
        return oldest


class Reader:
    """Reads one connection's messages and holds each against the contract.

    `position` is where the client is by the rule of its transport: the contract's for WebSocket; for server-sent
    events the last id.
    """

    def __init__(self, world: World, interest: Interest, since: Position | None, framing: Framing) -> None:
        self.interest = interest
        self.position = 0
        self.asked: list[tuple[int, str, PatternSet]] = []
        """Requests that are not answered yet: id, kind of the answer, and what it is about."""
        self.events = 0
        self.skipped: Counter[str] = Counter()
        self.told: str | None = None
        """The message of the `connection_error` that ended it."""
        self._world = world
        self._since = since
        self._framing = framing
        self._welcomed = False
        self._placed = False
        self._seen = 0
        self._owed: Counter[str] = Counter()
        self._snapshots: dict[Name, Event] = {}
        self._snapshots_at = 0

    def read(self, message: Message, place: Position | None) -> None:
        """Take a message; `place` is the id that came with it."""
        assert self.told is None, "nothing comes after the goodbye"
        assert self._welcomed or message["type"] == "welcome"
        is_event = "seq" in message and not message.get("snapshot")
        expected = Position(self._world.epoch, message["seq"]) if is_event and self._is_sse else None
        assert place == expected
        if message.get("snapshot"):
            self._snapshot(message)
            return
        if message["type"] == "connection_error":
            self.told = message["data"]["message"]
            return
        if message["type"] != "gap" or message["data"]["reason"] == "slow_consumer":
            self._end_of_snapshots()
        match message["type"]:
            case "welcome":
                self._welcome(message["data"])
            case "gap":
                self._gap(message["data"])
            case "subscribed" | "unsubscribed" | "authenticated" | "pong":
                self._reply(message)
            case "heartbeat":
                self._heartbeat(message["data"])
            case _:
                self._event(message)

    def placed(self, place: Position) -> None:
        """Take a bare id: once, behind the snapshots."""
        assert self._is_sse
        assert not self._placed
        self._end_of_snapshots()
        assert place == Position(self._world.epoch, self._seen)
        self._placed = True
        self.position = place.seq

    def settled(self) -> None:
        """Nothing waits any more: all that was published must be here or counted, and nothing more be counted."""
        assert not self.asked
        assert self._placed is self._is_sse
        self._end_of_snapshots()
        self._complete_upto(len(self._world.events))
        assert not +self._owed

    @property
    def _is_sse(self) -> bool:
        return self._framing is EVENT_STREAM

    def _welcome(self, data: Message) -> None:
        assert not self._welcomed
        self._welcomed = True
        refused = None if self._since is None else self._world.refuses(self._since)
        resumed = self._since is not None and refused is None
        assert (data["resumed"], data["subscriptions"]) == (resumed, self.interest.wanted.sorted())
        assert data["epoch"] == self._world.epoch
        self._seen = data["seq"]
        self._reach(data["seq"])
        if self._since is not None and resumed:
            assert data["seq"] == self._since.seq
            return
        assert data["seq"] == len(self._world.events)
        self._expect_snapshots(lambda event: True)

    def _gap(self, data: Message) -> None:
        if data["reason"] == "slow_consumer":
            assert data["requested"] is None
            assert all(count > 0 for count in data["skipped"].values())
            self._owed += Counter({t: n for t, n in data["skipped"].items() if t != "heartbeat"})
            self.skipped += Counter(data["skipped"])
            return
        assert self._since is not None
        reason = self._world.refuses(self._since)
        assert data == {"reason": reason, "requested": str(self._since), "skipped": {}}
        self._since = None

    def _reply(self, message: Message) -> None:
        request_id, kind, about = self.asked.pop(0)
        newest = len(self._world.events)
        assert (message["type"], message["id"]) == (kind, request_id)
        self._complete_upto(newest)
        assert not +self._owed
        before = self.interest
        match kind:
            case "subscribed":
                self.interest = before._replace(wanted=before.wanted | about)
                assert message["data"] == {
                    "types": self.interest.wanted.sorted(),
                    "added": (about - before.wanted).sorted(),
                    "epoch": self._world.epoch,
                    "seq": newest,
                }
                self._reach(newest)
            case "unsubscribed":
                removed = PatternSet(before.wanted.patterns & about.patterns)
                self.interest = before._replace(wanted=before.wanted - removed)
                assert message["data"] == {"types": self.interest.wanted.sorted(), "removed": removed.sorted()}
            case "authenticated":
                self.interest = before.narrowed(about)
                assert message["data"] == {"types": self.interest.wanted.sorted()}
        self._expect_snapshots(lambda event: not before.sees(event.type, event.draft.about))

    def _heartbeat(self, data: Message) -> None:
        assert self.interest.sees("heartbeat")
        self.events += 1
        self._complete_upto(data["seq"])
        if not self._is_sse:
            self._reach(data["seq"])

    def _expect_snapshots(self, is_new: Callable[[Event], bool]) -> None:
        self._snapshots_at = len(self._world.events)
        self._snapshots = {
            name: event
            for name, event in self._world.retained(self._snapshots_at).items()
            if self.interest.sees(event.type, event.draft.about) and is_new(event)
        }

    def _snapshot(self, message: Message) -> None:
        expected = self._snapshots.pop((message["type"], message.get("key")))
        assert message == {**json.loads(expected.json), "snapshot": True}

    def _end_of_snapshots(self) -> None:
        for name in self._snapshots:
            assert self._world.replaced(name, after=self._snapshots_at)
        self._snapshots = {}

    def _event(self, message: Message) -> None:
        seq = message["seq"]
        published = self._world.events[seq - 1]
        assert message == json.loads(published.json)
        assert self.interest.sees(published.type, published.draft.about)
        assert seq > self._seen
        self.events += 1
        self._complete_upto(seq - 1)
        self._seen = seq
        self._reach(seq)

    def _reach(self, seq: int) -> None:
        self.position = max(self.position, seq)

    def _complete_upto(self, seq: int) -> None:
        """Every event up to `seq` was either here or is one that a gap has counted."""
        missing = self._world.seen(self.interest, after=self._seen, upto=seq)
        assert missing <= self._owed
        self._owed -= missing
        self._seen = max(self._seen, seq)


class Known:
    """What a client knows after some messages: where it is, and what it is subscribed to. It judges nothing.

    `renewals` are what the tokens cover that it sent, in order.
    """

    def __init__(self, interest: Interest, since: Position | None, renewals: Sequence[PatternSet]) -> None:
        self.interest = interest
        self.since = since
        self._renewals = iter(renewals)

    def take(self, stream: bytes, framing: Framing, epoch: str) -> None:
        """Take the whole messages at the beginning of `stream`."""
        for message, place in decoded(stream, framing):
            if framing is EVENT_STREAM:
                self.since = place or self.since
            elif message is not None:
                self._message(message, epoch)

    def _message(self, message: Message, epoch: str) -> None:
        data = message["data"]
        match message["type"]:
            case "welcome":
                self.since = Position(epoch, data["seq"])
            case "subscribed":
                self.interest = self.interest._replace(wanted=PatternSet(data["types"]))
                self._reach(data["seq"])
            case "unsubscribed":
                self.interest = self.interest._replace(wanted=PatternSet(data["types"]))
            case "authenticated":
                self.interest = Interest(PatternSet(data["types"]), next(self._renewals))
            case "heartbeat":
                self._reach(data["seq"])
            case _ if "seq" in message and not message.get("snapshot"):
                self._reach(message["seq"])

    def _reach(self, seq: int) -> None:
        assert self.since is not None
        self.since = Position(self.since.epoch, max(self.since.seq, seq))


def decoded(stream: bytes, framing: Framing) -> Iterator[tuple[Message | None, Position | None]]:
    """The whole messages at the beginning of `stream`, each with the id that it carries; None for an id alone."""
    if framing is WEBSOCKET:
        for payload in _frames(stream):
            yield json.loads(payload), None
        return
    for block in stream.split(b"\n\n")[:-1]:
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
        place = Position.parse(fields[b"id"].decode()) if b"id" in fields else None
        if b"data" not in fields:
            assert fields.keys() == {b"id"}
            yield None, place
            continue
        message = json.loads(fields[b"data"])
        assert fields[b"event"].decode() == message["type"]
        yield message, place


def _frames(stream: bytes) -> Iterator[bytes]:
    """The payloads of the whole, unmasked text frames of less than 64 KiB at the beginning of `stream`."""
    at = 0
    while at + 4 <= len(stream):
        assert stream[at] == 0x81
        size = stream[at + 1]
        begin = at + 2 if size < 126 else at + 4
        end = begin + (size if size < 126 else int.from_bytes(stream[at + 2 : at + 4]))
        if end > len(stream):
            break
        yield stream[begin:end]
        at = end
