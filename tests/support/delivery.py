"""What every client must have received: a model of the contract, and readers that hold a stream against it.

A reader knows nothing of sessions, cohorts or outboxes. After each acknowledgement its client gets the snapshots that
are due, then each event that it may see once and in order, or a gap that counts exactly what is missing; and `synced`,
once, when nothing of what was promised is still to come.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from resuming import Rule

from tidegate.core.delivery.framing import EVENT_STREAM, WEBSOCKET, Framing
from tidegate.core.events import Event, Position
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
        self._limits = [(0, max_events, max_bytes)]
        """The limits of the history, each with the newest position when they were set."""

    def resize(self, max_events: int, max_bytes: int) -> None:
        self._limits.append((len(self.events), max_events, max_bytes))

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

    def refuses(self, since: Position) -> str | None:
        """Why nobody can be replayed everything since `since`; None if it is all still there."""
        if since.epoch != self.epoch or since.seq > len(self.events):
            return "epoch_changed"
        return "history_truncated" if since.seq < self._forgotten() else None

    def _forgotten(self) -> int:
        """The position up to which everything fell out of the history: each event pushes out what must go."""
        oldest, size, limits = 0, 0, list(self._limits)
        _, max_events, max_bytes = limits.pop(0)
        for newest in range(len(self.events) + 1):
            size += len(self.events[newest - 1].json) if newest else 0
            while True:
                while newest - oldest > max_events or size > max_bytes:
                    size -= len(self.events[oldest].json)
                    oldest += 1
                if not limits or limits[0][0] > newest:
                    break
                _, max_events, max_bytes = limits.pop(0)
        return oldest


class Reader:
    """Reads one connection's messages and holds each against the contract."""

    def __init__(self, world: World, interest: Interest, since: Position | None, framing: Framing) -> None:
        self.interest = interest
        self.granted = interest.allowed
        """What the token covers; the stream shows less after the token came to cover more, until a request."""
        self.regranted: list[PatternSet] = []
        """What the token covers from the next `unsubscribed` on that nobody asked for."""
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
        self._resumed = False
        """Whether it is in its replay."""
        self._placed = False
        """Whether the client has a position: on an event stream, events have an id."""
        self._synced_from: int | None = None
        """The position that the next `synced` must reach at least; None while none is due."""
        self._seen = 0
        self._owed: Counter[str] = Counter()
        self._pardoned: Counter[str] = Counter()
        """Of what may be counted by a gap although it does not have to come any more."""
        self._snapshots: dict[Name, Event] = {}
        self._came: set[Name] = set()
        """Of what changed since those were due."""

    def read(self, message: Message, place: Position | None) -> None:
        """Take a message; `place` is the id that came with it."""
        assert self.told is None, "nothing comes after the goodbye"
        assert self._welcomed or message["type"] == "welcome"
        is_event = "seq" in message and not message.get("snapshot")
        moves = (is_event and self._placed) or message["type"] == "synced"
        seq: int = message["data"]["seq"] if message["type"] == "synced" else message.get("seq", 0)
        assert place == (Position(self._world.epoch, seq) if moves and self._is_sse else None)
        if message.get("snapshot"):
            self._snapshot(message)
            return
        if message["type"] == "connection_error":
            self.told = message["data"]["message"]
            return
        match message["type"]:
            case "welcome":
                self._welcome(message["data"])
            case "gap":
                self._gap(message["data"])
            case "synced":
                self._synced(message["data"])
            case "unsubscribed" if "id" not in message:
                removed = self.regrant(self.regranted.pop(0))
                assert message["data"] == {"types": self.interest.wanted.sorted(), "removed": removed.sorted()}
            case "error":
                _, kind, about = self.asked.pop(0)
                assert (kind, message["data"]["code"]) == ("subscribed", "FORBIDDEN")
                assert not all(map(self._may_subscribe, about.patterns))
            case "subscribed" | "unsubscribed" | "authenticated" | "pong":
                self._reply(message)
            case "heartbeat":
                self._heartbeat(message["data"])
            case _:
                self._event(message)

    def regrant(self, allowed: PatternSet) -> PatternSet:
        """Its token covers `allowed` now. What is still to come goes by that. Returns the patterns that end."""
        before, newest = self.interest, len(self._world.events)
        self.interest = Interest(before.narrowed(allowed).wanted, before.allowed & allowed)
        self.granted = allowed
        self._snapshots = {
            name: event for name, event in self._snapshots.items() if self.interest.sees(event.type, event.draft.about)
        }
        # A gap may count what was dropped before, whoever may see it now.
        self._pardoned += self._world.seen(before, after=self._seen, upto=newest)
        self._pardoned -= self._world.seen(self.interest, after=self._seen, upto=newest)
        return before.wanted - self.interest.wanted

    def ends_by(self, allowed: PatternSet) -> bool:
        """Whether a pattern ends if its token covers `allowed`."""
        return self.interest.narrowed(allowed).wanted != self.interest.wanted

    def check_complete(self) -> None:
        """Nothing waits any more: all that was published must be here or counted, and nothing more be counted."""
        assert not self.asked
        assert self._synced_from is None
        self._complete_upto(len(self._world.events))
        assert self._owed <= self._pardoned
        assert not self.regranted

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
        self._placed = self._resumed = resumed
        self._synced_from = len(self._world.events)
        if self._since is not None and resumed:
            assert data["seq"] == self._since.seq
            return
        assert data["seq"] == self._synced_from
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

    def _synced(self, data: Message) -> None:
        """Each name whose value was due has come: as a snapshot, or as what has become of it since."""
        assert self._synced_from is not None, "nothing was promised"
        assert data["epoch"] == self._world.epoch
        if self._resumed:
            assert data["seq"] == max(self._synced_from, self._seen)
            self._resumed = False
        assert self._synced_from <= data["seq"] <= len(self._world.events)
        self._complete_upto(data["seq"])
        assert data["seq"] == self._seen
        assert self._snapshots.keys() <= self._came
        self._snapshots = {}
        self._synced_from = None
        self._placed = True

    def _reply(self, message: Message) -> None:
        assert self._synced_from is None, "an answer overtakes nothing"
        request_id, kind, about = self.asked.pop(0)
        newest = len(self._world.events)
        assert (message["type"], message["id"]) == (kind, request_id)
        self._complete_upto(newest)
        assert self._owed <= self._pardoned
        before = self.interest
        match kind:
            case "subscribed":
                assert all(map(self._may_subscribe, about.patterns))
                # What a wider token shows comes with the values that a subscribe brings.
                allowed = self.granted if about - before.wanted else before.allowed
                self.interest = Interest(before.wanted | about, allowed)
                assert message["data"] == {
                    "types": self.interest.wanted.sorted(),
                    "added": (about - before.wanted).sorted(),
                    "epoch": self._world.epoch,
                    "seq": newest,
                }
            case "unsubscribed":
                removed = PatternSet(before.wanted.patterns & about.patterns)
                self.interest = before._replace(wanted=before.wanted - removed)
                assert message["data"] == {"types": self.interest.wanted.sorted(), "removed": removed.sorted()}
            case "authenticated":
                self.interest, self.granted = before.narrowed(about), about
                assert message["data"] == {"types": self.interest.wanted.sorted()}
        if kind in {"subscribed", "authenticated"}:
            self._synced_from = newest
            self._expect_snapshots(lambda event: not before.sees(event.type, event.draft.about))

    def _may_subscribe(self, pattern: str) -> bool:
        return pattern in UNCOVERED_PATTERNS or self.granted.covers(pattern)

    def _heartbeat(self, data: Message) -> None:
        assert self.interest.sees("heartbeat")
        self.events += 1
        assert self._synced_from is None, "it tells of a position before that is reached"
        self._complete_upto(data["seq"])

    def _expect_snapshots(self, is_new: Callable[[Event], bool]) -> None:
        self._came = set()
        self._snapshots = {
            name: event
            for name, event in self._world.retained(len(self._world.events)).items()
            if self.interest.sees(event.type, event.draft.about) and is_new(event)
        }

    def _snapshot(self, message: Message) -> None:
        expected = self._snapshots.pop((message["type"], message.get("key")))
        assert message == {**json.loads(expected.json), "snapshot": True}

    def _event(self, message: Message) -> None:
        seq = message["seq"]
        published = self._world.events[seq - 1]
        assert message == json.loads(published.json)
        assert self.interest.sees(published.type, published.draft.about)
        assert seq > self._seen
        self.events += 1
        self._complete_upto(seq - 1)
        self._seen = seq
        if published.draft.retain or published.draft.gone:
            self._came.add((published.type, published.key))

    def _complete_upto(self, seq: int) -> None:
        """Every event up to `seq` was either here or is one that a gap has counted."""
        missing = self._world.seen(self.interest, after=self._seen, upto=seq)
        assert missing <= self._owed
        self._owed -= missing
        self._seen = max(self._seen, seq)


class Known:
    """What a client has learned over all its connections, and how it comes back. It judges nothing.

    `received` are the positions of the snapshots and events that it has, of what it is subscribed to. On an event
    stream it comes back with the last id, as a browser does; over a WebSocket by `rule`.
    """

    def __init__(self, world: World, interest: Interest, framing: Framing, rule: Rule) -> None:
        self.interest = interest
        self.received: set[int] = set()
        self.last_id: Position | None = None
        self._world = world
        self._framing = framing
        self._rule = rule
        self._vouched = interest.allowed

    def opening(self) -> tuple[Interest, Position | None, PatternSet]:
        """What it connects with, and what it subscribes to after that."""
        if self._framing is EVENT_STREAM:
            return self.interest, self.last_id, PatternSet()
        types, since = self._rule.opening
        assert types is not None
        # To resume with a token that covers more would lose what only that one covers.
        if not all(self._vouched.covers(pattern) for pattern in self.interest.allowed.patterns):
            return self._covered(types | self._rule.later), None, PatternSet()
        place = None if since is None else Position.parse(since)
        return self._covered(types), place, self._covered(self._rule.later).wanted

    def hear(self, stream: bytes, renewals: Sequence[PatternSet], regrants: Sequence[tuple[int, PatternSet]]) -> None:
        """Take what has arrived of a connection; `renewals` are what the tokens sent on it cover, in order.

        `regrants` are what one came to cover meanwhile, each with how many tokens had been taken by then.
        """
        tokens = iter(renewals)
        renewed = 0
        for message, place in decoded(stream, self._framing):
            self._rule.tell(message)
            self.last_id = place or self.last_id
            match message["type"]:
                case "welcome":
                    self.interest = self.interest._replace(wanted=PatternSet(message["data"]["subscriptions"]))
                    if not message["data"]["resumed"]:
                        self.received.clear()
                case "subscribed" | "unsubscribed":
                    self.interest = self.interest._replace(wanted=PatternSet(message["data"]["types"]))
                case "authenticated":
                    renewed += 1
                    self.interest = Interest(PatternSet(message["data"]["types"]), next(tokens))
                case "synced":
                    self._vouched = self.interest.allowed
                case _ if "seq" in message:
                    self.received.add(message["seq"])
            if message["type"] in {"welcome", "unsubscribed", "authenticated"}:
                self._forget_unseen()
        for taken, allowed in regrants:
            self._vouched &= allowed
            if taken == renewed:
                self.interest = self.interest.narrowed(allowed)
                self._forget_unseen()

    def lacks(self) -> list[Event]:
        """The newest values, and the ends of values that it has, which it should have heard of and did not."""
        newest = {(e.type, e.key): e for e in self._world.events if e.draft.retain or e.draft.gone}
        had = {(e.type, e.key) for e in self._world.events if e.seq in self.received and e.draft.retain}
        # What its token came to cover on this connection is shown only after a request.
        shown = self.interest._replace(allowed=self.interest.allowed & self._vouched)
        seen = [(name, e) for name, e in newest.items() if shown.sees(e.type, e.draft.about)]
        wanted = [e for name, e in seen if name in had or not e.draft.gone]
        return [event for event in wanted if event.seq not in self.received]

    def _covered(self, types: Iterable[str]) -> Interest:
        """What it may still ask for: the gateway refuses the rest, if the client has not heard that it ended."""
        return self.interest._replace(wanted=PatternSet(types)).narrowed(self.interest.allowed)

    def _forget_unseen(self) -> None:
        self.received = {seq for seq in self.received if self._sees(self._world.events[seq - 1])}

    def _sees(self, event: Event) -> bool:
        return self.interest.sees(event.type, event.draft.about)


def decoded(stream: bytes, framing: Framing) -> Iterator[tuple[Message, Position | None]]:
    """The whole messages at the beginning of `stream`, each with the id that it carries."""
    if framing is WEBSOCKET:
        for payload in _frames(stream):
            yield json.loads(payload), None
        return
    for block in stream.split(b"\n\n")[:-1]:
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
        place = Position.parse(fields[b"id"].decode()) if b"id" in fields else None
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
