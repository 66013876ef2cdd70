"""What one connection received, held against the log: whole, in order, nothing repeated, nothing untold.

Contract, sections 2 and 3. Knows nothing of backends: whether an event is true is the truth's to say.
"""

from collections import Counter
from typing import Any

import msgspec

from simulation.clients import Message, Visit
from simulation.record import STEP_S, Log, Name, Published, Record, wants
from simulation.scenario import FINAL_S
from tidegate.core.instant import rfc3339
from tidegate.errors import CloseCode

FOREIGN = "elsewhere:"
SILENCE_S = 1.0
"""How much later than its interval a heartbeat may come."""

TIMES = {"circuit_breaker.state": ("opened_at", "retry_at"), "source.freshness": ("as_of",)}
"""The times that are held in the data of events of the gateway itself."""

REPLIES = {"subscribe": "subscribed", "unsubscribe": "unsubscribed", "ping": "pong", "nonsense": "error"}


def check_visit(record: Record, visit: Visit) -> None:
    """Note everything that is wrong with what `visit` received."""
    _Reading(record, visit).check()


class _Reading:
    def __init__(self, record: Record, visit: Visit) -> None:
        self._record = record
        self._visit = visit
        self._log: Log = record.log
        self._patterns: frozenset[str] = frozenset()
        self._position = 0
        self._awaited: dict[Name, int] = {}
        self._awaited_at = 0
        self._overtaken: set[Name] = set()
        """Names whose snapshot did not come: the event that overtook it must, before `synced`."""
        self._synced_due = True
        self._missing: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._replied: set[int] = set()
        self._at = visit.started

    def check(self) -> None:
        heard = iter(self._visit.heard)
        for self._at, message, _ in heard:
            self._welcomed(message)
            break
        for at, message, text in heard:
            self._listen(at)
            self._at = at
            self._check_as_of(message)
            if message.snapshot:
                self._snapshot(message)
            elif message.seq is not None:
                self._event(message, text)
            else:
                self._notice(message)
        self._end()

    def _welcomed(self, message: Message) -> None:
        data = msgspec.json.decode(message.data)
        asked = self._visit.since
        self._patterns = frozenset(data["subscriptions"])
        self._position = data["seq"]
        self._expect(message.type == "welcome", "the first message is no welcome", message)
        self._expect(self._patterns == frozenset(self._visit.patterns), "not what was asked for", message)
        if data["resumed"]:
            self._expect(asked == f"{data['epoch']}:{data['seq']}", f"resumed, but not from {asked}", message)
        else:
            self._await(self._patterns, frozenset())
        self._view(fresh=not data["resumed"])
        self._gap_due = asked if asked is not None and not data["resumed"] else None

    def _event(self, message: Message, text: bytes) -> None:
        seq = message.seq or 0
        self._expect(self._gap_due is None, "an event where a gap was due", message)
        self._expect(seq > self._position, f"a position that does not ascend from {self._position}", message)
        self._expect(wants(self._patterns, message.type), f"what {sorted(self._patterns)} does not want", message)
        if self._position < seq <= self._log.last:
            self._expect(self._log[seq].text == text, "not what was published there", message)
            self._skip_to(seq - 1)
        self._position = max(self._position, seq)
        self._no_longer_await()
        self._overtaken.discard(message.name)
        self._see(message)

    def _snapshot(self, message: Message) -> None:
        seq = self._awaited.pop(message.name, None)
        if seq is None or seq != message.seq:
            self._fail(f"a snapshot where that of {seq} was due", message)
            return
        self._expect(self._is_snapshot_of(message, self._log[seq]), "a snapshot of something else", message)
        if message.source and not self._is_deaf(self._at):
            self._record.handed.append((self._at, self._visit.client, message))
        self._see(message)

    def _notice(self, message: Message) -> None:
        data = msgspec.json.decode(message.data)
        if message.id is not None:
            kind = self._visit.requests.get(message.id, "")
            self._expect(REPLIES.get(kind) == message.type, f"no answer to {kind!r}", message)
            self._expect(message.id not in self._replied, "answered twice", message)
            self._expect(not self._synced_due, "an answer before `synced`", message)
            self._replied.add(message.id)
        match message.type:
            case "gap":
                self._gap(message, data)
            case "synced":
                self._synced(message, data["seq"])
            case "heartbeat":
                self._expect(not self._synced_due, "a heartbeat before `synced`", message)
                self._expect(data["seq"] >= self._position, f"a heartbeat from before {self._position}", message)
                self._skip_to(data["seq"])
                self._no_longer_await()
            case "subscribed":
                self._skip_to(data["seq"])
                before, self._patterns = self._patterns, frozenset(data["types"])
                self._no_longer_await()
                self._await(self._patterns, before)
                self._synced_due = True
                self._view(fresh=False)
            case "unsubscribed":
                self._skip_to(self._log.last_before(self._at))
                self._patterns = frozenset(data["types"])
                self._no_longer_await()
                self._view(fresh=False)
            case "pong" | "error":
                pass
            case "connection_error":
                was_slow = self._visit.deaf != [] and data["code"] == CloseCode.TOO_SLOW
                self._expect(was_slow, "closed for nothing, or for a failure of ours", message)
            case _:
                self._fail("a message that has no place here", message)

    def _synced(self, message: Message, position: int) -> None:
        """Everything up to `position` has come, and of every name its value."""
        self._expect(self._synced_due, "nothing promised a `synced`", message)
        self._expect(position >= self._position, f"`synced` from before {self._position}", message)
        self._expect(position <= self._log.last, f"`synced` beyond {self._log.last}", message)
        self._skip_to(position)
        self._no_longer_await()
        self._expect(not self._overtaken, f"`synced`, and nothing came of {sorted(self._overtaken)}", message)
        self._synced_due = False

    def _gap(self, message: Message, data: dict[str, Any]) -> None:
        if data["reason"] == "slow_consumer":
            self._told.update(data["skipped"])
            self._expect(self._visit.deaf != [], "skipped, though it always read", message)
            return
        due = "epoch_changed" if (self._gap_due or "").startswith(FOREIGN) else "history_truncated"
        self._expect(data["reason"] == due, f"expected {due}", message)
        self._expect(data["requested"] == self._gap_due, f"expected {self._gap_due}", message)
        if due == "history_truncated":
            kept = self._record.least_history(self._at)
            behind = self._position - int((self._gap_due or "0").rpartition(":")[2])
            self._expect(behind > kept, f"only {behind} behind, and {kept} are kept", message)
        self._gap_due = None

    def _skip_to(self, position: int) -> None:
        """Everything up to `position` has been heard, or it is missing, and a gap must have told of it."""
        for seq in range(self._position + 1, min(position, self._log.last) + 1):
            event = self._log[seq].message
            if wants(self._patterns, event.type):
                self._missing[event.type] += 1
                if self._missing[event.type] > self._told[event.type]:
                    self._fail(f"event {seq} was dropped without a gap", event)
                    self._told[event.type] += 1
        self._position = max(self._position, position)

    def _await(self, patterns: frozenset[str], before: frozenset[str]) -> None:
        self._awaited_at = self._position
        self._overtaken = set()
        self._awaited = {
            name: seq
            for name, seq in self._log.names(self._position)
            if wants(patterns, name[0]) and not wants(before, name[0])
        }

    def _no_longer_await(self) -> None:
        """Snapshots come before live events, but for what is superseded by one of these."""
        for name in self._awaited:
            later = self._log.newest(name, self._log.last)
            if later is not None and later <= self._awaited_at:
                self._record.fail(self._at, f"{self._visit.client}: no snapshot of {name}")
        self._overtaken.update(self._awaited)
        self._awaited = {}

    def _is_snapshot_of(self, message: Message, published: Published) -> bool:
        """Whether a snapshot says what its event said, but for the times that follow the wall clock."""
        told, walls = published.message, self._record.walls
        rest = {"as_of": told.as_of, "retry_at": told.retry_at, "snapshot": told.snapshot, "data": told.data}
        if msgspec.structs.replace(message, **rest) != told:
            return False
        then, now = _told_times(told), _told_times(message)
        moved = all(walls.moved(then[name], now[name], since=published.at, now=self._at) for name in then)
        return moved and without_times(told) == without_times(message)

    def _check_as_of(self, message: Message) -> None:
        """`as_of` is never later than the event; in a snapshot of what did not change, never later than now."""
        if message.as_of is None:
            return
        settings = self._record.settings(message.type)
        if message.snapshot and any(each.on_change or each.key is not None for each in settings):
            latest = rfc3339(self._at + max(self._record.walls.at(self._at)) + STEP_S)
        else:
            latest = message.timestamp
        self._expect(message.as_of <= latest, f"as of {message.as_of}, later than {latest}", message)

    def _listen(self, at: float) -> None:
        """No silence longer than a heartbeat's interval, where these are subscribed to."""
        longest = self._record.scenario.config.server.heartbeat_interval_s + SILENCE_S
        longest += sum(end - begin for begin, end in self._record.sleeps if self._at <= end and begin <= at)
        if wants(self._patterns, "heartbeat") and at - self._at > longest and not self._is_deaf(self._at, at):
            self._record.fail(at, f"{self._visit.client}: silence since {self._at:.3f}")

    def _is_deaf(self, *moments: float) -> bool:
        return any(start <= moments[-1] and moments[0] <= end for start, end in self._visit.deaf)

    def _end(self) -> None:
        visit = self._visit
        ended = visit.ended if visit.ended is not None else self._at
        if not visit.left:
            self._expect(visit.deaf != [], "the connection was lost")
            return
        if not visit.heard:
            self._record.fail(self._at, f"{visit.client}: no welcome")
            return
        self._listen(ended)
        if not self._is_deaf(ended - 1, ended):
            self._skip_to(self._log.last_before(ended))
            self._no_longer_await()
            told = Counter({name: n for name, n in self._told.items() if name != "heartbeat"})
            if +told != +self._missing:
                self._record.fail(ended, f"{visit.client}: told of {+told}, but {+self._missing} are missing")
            if self._synced_due:
                self._record.fail(ended, f"{visit.client}: no `synced`")
            if len(self._replied) != visit.asked:
                self._record.fail(ended, f"{visit.client}: {visit.asked} requests, {len(self._replied)} answers")
        if ended >= self._record.scenario.duration_s and ended - visit.started < FINAL_S / 2:
            self._record.fail(ended, f"{visit.client}: came late, at {visit.started:.3f}")

    def _view(self, *, fresh: bool) -> None:
        """What the client believes of what it is subscribed to."""
        held = {} if fresh else self._record.views.get(self._visit.client, (frozenset(), {}))[1]
        kept = {name: message for name, message in held.items() if wants(self._patterns, name[0])}
        self._record.views[self._visit.client] = (self._patterns, kept)

    def _see(self, message: Message) -> None:
        if message.type in self._record.retained:
            held = self._record.views[self._visit.client][1]
            if message.gone:
                held.pop(message.name, None)
            else:
                held[message.name] = message

    def _expect(self, holds: bool, otherwise: str, message: Message | None = None) -> None:
        if not holds:
            self._fail(otherwise, message)

    def _fail(self, what: str, message: Message | None) -> None:
        shown = "" if message is None else f" ({message.type} {message.key or ''} {message.seq or ''})"
        self._record.fail(self._at, f"{self._visit.client}, here since {self._visit.started:.3f}: {what}{shown}")


def _told_times(message: Message) -> dict[str, str | None]:
    """The times that a retained event tells, but for its `timestamp`, and the `as_of` of data, which may be newer."""
    names = TIMES.get(message.type, ())
    data = msgspec.json.decode(message.data) if names else {}
    return {"envelope": message.retry_at, **{name: data[name] for name in names}}


def without_times(message: Message) -> Any:
    """What a retained event says, without the times in it that follow the wall clock."""
    names = TIMES.get(message.type)
    return msgspec.json.decode(message.data) | dict.fromkeys(names) if names else bytes(message.data)
