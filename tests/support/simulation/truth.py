"""What was published, held against what the backends really gave: instant by instant, event by event.

The calls as the tap saw them are the truth. From them a small model of our own says, for each source, what is known,
since when, and whether it is fresh; every event and every snapshot must say the same, and no change may stay untold.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from simulation.accounts import Accounts
from simulation.bounds import Bounds
from simulation.breakers import Counted, Model, Move
from simulation.clients import Message
from simulation.holds import Hold
from simulation.knocks import Knocking
from simulation.rates import Kind, Rates
from simulation.record import Published, Record
from simulation.reports import Reports
from simulation.sources import EDGE_S, Known, Source
from simulation.tap import Exchange, Knock
from simulation.verdicts import Verdict, code, is_unreachable, verdict, verdict_of
from tidegate.config import BackendConfig
from tidegate.core.instant import rfc3339

SLACK_S = 0.5

TURN_S = 0.03
"""What is told within it, is told in one breath."""

WAKING_S = 1.0
"""After a machine has slept its timers fire within it."""

CLOSED, OPEN = "closed", "open"
NOTHING_DUE: Sequence[Move] = ()


class Truth:
    """The walk through all instants of a record."""

    def __init__(self, record: Record) -> None:
        config = record.scenario.config
        self._record = record
        self._at = 0.0
        self._woke_at = 0.0
        self._models: dict[str, Model] = {}
        self._holds = {name: Hold(settings) for name, settings in config.backends.items()}
        self._running: Counter[str] = Counter()
        self._full_at: dict[str, float] = dict.fromkeys(config.backends, 0.0)
        self._pokes = {name: [at for at, backend in record.pokes if backend == name] for name in config.backends}
        self._accounts = {
            name: Accounts(self._pokes[name], record.taps[name].reads if name in record.taps else ())
            for name in config.backends
        }
        self.sources: dict[str, Source] = {}
        for event_type, settings in config.sources.items():
            backend = config.backends[settings.backend]
            account = self._accounts[settings.backend][event_type]
            model = self._model(event_type)
            model.sources += 1
            self.sources[event_type] = Source(event_type, settings, backend.timeout_s, model, account)
        self._rates: dict[str, Rates] = {}
        self._knocking: dict[str, Knocking] = {}
        for name, backend in config.backends.items():
            self._make_room_for_waiting(name, backend)
            self._rates[name] = Rates(backend, self._behind(name), self._pokes[name])
            behind: dict[Model, list[str]] = defaultdict(list)
            for source in self._behind(name):
                behind[source.model].append(source.type)
            self._knocking[name] = Knocking(
                behind, self._holds[name], self._accounts[name], timeout_s=backend.timeout_s
            )
        interval_s = config.limits.rpc_error_interval_s
        self._reports = {name: Reports(source, interval_s) for name, source in self.sources.items()}
        self._repeats: Counter[str] = Counter()
        self._allowed: Counter[str] = Counter()
        self._changed_at: dict[str, float] = {}
        self._by_method = {(s.settings.backend, s.settings.method): s for s in self.sources.values()}
        self._given = {name: _Given(given) for name, given in record.given.items()}

    def _model(self, event_type: str) -> Model:
        config = self._record.scenario.config
        settings = config.sources[event_type]
        backend = settings.backend
        name = f"{backend}/{event_type}" if settings.breaker == "own" else backend
        shortest_s = min(each.interval_s for each in config.sources.values() if each.backend == backend)
        hold, pokes = self._holds[backend], self._pokes[backend]
        model = Model(name, config.backends[backend], hold, shortest_s=shortest_s, pokes=pokes)
        return self._models.setdefault(name, model)

    def _behind(self, backend: str) -> list[Source]:
        return [source for source in self.sources.values() if source.settings.backend == backend]

    def _make_room_for_waiting(self, name: str, backend: BackendConfig) -> None:
        """Where not all sources can be asked at once, each may wait for the calls of all the others."""
        sources = self._behind(name)
        if backend.connections < len(sources):
            for source in sources:
                source.wait_s = (len(sources) - 1) * backend.timeout_s
                source.tick_s += source.wait_s

    def check(self) -> None:
        """Walk through all instants, and note everything that is wrong."""
        for at, group in itertools.groupby(self._timeline(), key=itemgetter(0)):
            self._at = at
            items = [(kind, item) for _, _, kind, item in group]
            told = [item for kind, item in items if kind == "event"]
            self._begin(told)
            for kind, item in items:
                match kind:
                    case "start":
                        self._started(item)
                    case "end":
                        self._ended(item)
                    case "knock":
                        self._knocked(item)
                    case "knocked":
                        self._knock_ended(item)
            self._check_reports(event.message for event in told if event.message.type == "rpc_error")
            for event in told:
                self._published(event)
            for kind, item in items:
                if kind == "handed":
                    self._handed(*item)
            self._finish()
        Bounds(self._record, self.sources, self._rates).check()

    def _timeline(self) -> list[tuple[float, int, str, Any]]:
        end = self._record.scenario.duration_s
        items: list[tuple[float, int, str, Any]] = []
        for name, tap in self._record.taps.items():
            for exchange in tap.exchanges:
                items.append((exchange.sent.mono, exchange.started_as, "start", exchange))
                if exchange.ended is not None:
                    items.append((exchange.ended, exchange.ended_as, "end", exchange))
            for knock in tap.knocks:
                items.append((knock.began, knock.started_as, "knock", (name, knock)))
                if knock.ended is not None:
                    items.append((knock.ended, knock.ended_as, "knocked", (name, knock)))
        items += [(event.at, event.message.seq or 0, "event", event) for event in self._record.log]
        items += [(at, 0, "handed", (client, message)) for at, client, message in self._record.handed]
        return sorted(
            (item for item in items if item[0] < end), key=lambda item: (item[0], item[2] == "handed", item[1])
        )

    # one instant

    def _begin(self, told: Sequence[Published]) -> None:
        self._woke_at = max((end for _, end in self._record.sleeps if end <= self._at), default=0.0)
        for name in self._holds:
            self._rates[name].woke_at = self._knocking[name].woke_at = self._woke_at
        for hold in self._holds.values():
            hold.begin_instant()
        moves: dict[str, list[Move]] = defaultdict(list)
        for event in told:
            if event.message.type == "circuit_breaker.state":
                move = msgspec.json.decode(event.message.data, type=Move)
                moves[move.breaker].append(move)
        for name, model in self._models.items():
            model.begin_instant(moves.get(name, NOTHING_DUE))
            self._check_probe(model)
        for source in self.sources.values():
            source.known = [source.after]
            self._check_silence(source)
            self._check_asked(source)

    def _check_probe(self, model: Model) -> None:
        """Whoever may be asked is asked as the probe as soon as one is wanted."""
        if model.probe_at is None:
            return
        siblings = [s for s in self.sources.values() if s.model is model]
        able_at = min((s.account.able_at for s in siblings if s.running is None), default=self._at)
        busy_s = max(s.wait_s for s in siblings)
        if self._at - max(max(model.probe_at, self._woke_at) + busy_s, able_at) > SLACK_S:
            self._fail(f"{model.name}: {model.state} without a probe since {model.probe_at:.3f}")
            model.retry_at = self._at

    def _check_asked(self, source: Source) -> None:
        """No tick is skipped for ever: while nothing forbids it, it is asked within one and a half intervals."""
        model = source.model
        if model.state != CLOSED or source.running is not None or self._at < model.hold.until:
            return
        full_at = self._full_at[source.settings.backend]  # a probe goes first, again and again
        free_at = max(model.since, model.hold.until, source.account.able_at, self._woke_at, full_at)
        since = max(source.last_started, source.last_ended, free_at)
        line_s = source.wait_s
        if source.last_started < free_at:  # it is caught up, after all the others
            line_s = max(line_s, len(self._behind(source.settings.backend)) * source.timeout_s)
        if self._at - since > 1.5 * source.settings.interval_s + line_s + SLACK_S:
            self._fail(f"{source.type}: not asked since {source.last_started:.3f}, and could be since {free_at:.3f}")
            source.last_started = self._at

    def _check_silence(self, source: Source) -> None:
        now = self._at
        if source.told_at is None or now < self._woke_at + WAKING_S:
            return
        if not source.stale and now > source.after.sent + source.limit_s + EDGE_S:
            self._fail(f"{source.type}: still told fresh at the age of {now - source.after.sent:.3f} s")
        shown = source.stale and any(not message.expired for message in source.items.values())
        if shown and source.expired_at(source.after, now - EDGE_S) == {True}:
            self._fail(f"{source.type}: still shown at the age of {now - source.after.sent:.3f} s")
        repeats = source.settings.stale_repeat if source.stale else not source.settings.on_change
        if repeats and not source.keyed and now > max(source.told_at, self._woke_at) + source.tick_s + SLACK_S:
            self._fail(f"{source.type}: silence since {source.told_at:.3f}")
            source.told_at = now

    def _sources_of(self, exchange: Exchange) -> Iterator[Source]:
        return (self._by_method[exchange.backend, method] for method in exchange.methods)

    def _started(self, exchange: Exchange) -> None:
        sources = list(self._sources_of(exchange))
        for model in {source.model.name: source.model for source in sources}.values():
            if complaint := model.started(exchange, self._at):
                self._fail(f"{model.name}: {complaint}")
        types = [source.type for source in sources]
        if complaint := self._accounts[exchange.backend].started(types, exchange, self._at):
            self._fail(f"{exchange.backend}: {complaint}")
        if complaint := self._rates[exchange.backend].started(exchange, sources, self._at):
            self._fail(f"{', '.join(types)}: {complaint}")
        for source in sources:
            if source.running is not None:
                self._fail(f"{source.type}: asked while it is being asked")
            source.started(exchange, self._at)
        self._running[exchange.backend] += 1

    def _ended(self, exchange: Exchange) -> None:
        name = exchange.backend
        answers: Sequence[Any] = exchange.results or [None] * len(exchange.methods)
        sources = list(self._sources_of(exchange))
        results = [source.mapped(answer) for source, answer in zip(sources, answers, strict=True)]
        unreachable = is_unreachable(exchange, results)
        self._running[name] -= 1
        self._holds[name].ended(exchange, results)
        answered = verdict(results) in {Verdict.GOOD, Verdict.ALIVE}
        kind = self._rates[name].ended(exchange, answered=answered)
        failing = [s.type for s, result in zip(sources, results, strict=True) if verdict_of(result) is Verdict.BAD]
        sources[0].model.ended(exchange, failing, results, _counted(kind, sources), self._at)
        refused = [code(result) == "RPC_AUTH" for result in results]
        self._accounts[name].ended([source.type for source in sources], refused, exchange, answered)
        for source, method, result in zip(sources, exchange.methods, results, strict=True):
            if kind not in {Kind.TICK, Kind.AGAIN}:
                self._allowed[source.type] += 1
            if isinstance(result, bytes):
                source.account.answered()
            if isinstance(result, bytes) and not self._given[name].gave(method, exchange, result):
                self._fail(f"{source.type}: {result!r} was never given")
                source.running = None
                continue
            source.ended(result, exchange, is_unreachable=unreachable, now=self._at)

    def _knocked(self, knocked: tuple[str, Knock]) -> None:
        backend, knock = knocked
        if complaint := self._knocking[backend].started(knock, self._at):
            self._fail(f"{backend}: {complaint}")

    def _knock_ended(self, knocked: tuple[str, Knock]) -> None:
        backend, knock = knocked
        if complaint := self._knocking[backend].ended(knock, self._at):
            self._fail(f"{backend}: {complaint}")

    def _published(self, event: Published) -> None:
        message = event.message
        if message.type == "circuit_breaker.state":
            move = msgspec.json.decode(message.data, type=Move)
            complaint = self._models[move.breaker].told(move)
            if complaint:
                self._fail(f"{move.breaker}: {complaint}")
        elif message.type == "source.freshness":
            data = msgspec.json.decode(message.data)
            told = (data["stale"], data["as_of"] is None, data["error_code"])
            source = self.sources[data["type"]]
            if told == source.freshness:
                self._fail(f"{source.type}: freshness told again, though it did not change")
            source.freshness = told
        elif message.type in self.sources:
            self._data(self.sources[message.type], message)

    def _data(self, source: Source, message: Message) -> None:
        complaints = [self._complaint(source, known, message) for known in source.known]
        if all(complaints):
            self._fail(f"{source.type} {message.seq}: {' or '.join(map(str, complaints))}")
        self._check_repeat(source, message)
        if message.gone:
            source.items.pop(message.key or "", None)
        else:
            source.items[message.key or ""] = message
        if not source.turns or source.stale != message.stale:
            source.turns.append((self._at, bool(message.stale)))
        source.stale = bool(message.stale)
        source.code = message.error_code
        source.told_at = self._at
        self._check_one_reason(source, message)

    def _check_repeat(self, source: Source, message: Message) -> None:
        """What has not changed is said again at ticks, and by calls that are no repetitions."""
        before, name = source.items.get(message.key or ""), source.type
        if source.keyed or not source.settings.stale_repeat:
            return
        if before is None or not message.stale or _says(before) != _says(message):
            self._changed_at[name], self._repeats[name], self._allowed[name] = self._at, 0, 0
            return
        self._repeats[name] += 1
        pokes = sum(self._changed_at[name] <= at <= self._at for at in self._pokes[source.settings.backend])
        ticks = (self._at - self._changed_at[name]) / source.settings.interval_s + 2
        if self._repeats[name] > ticks + self._allowed[name] + pokes:
            self._fail(f"{name} {message.seq}: repeated {self._repeats[name]} times since {self._changed_at[name]:.3f}")

    def _check_one_reason(self, source: Source, message: Message) -> None:
        """A hang is told as a timeout or by its age, not as both in one turn."""
        if message.error_code == "OVERDUE":
            source.overdue_told_at = self._at
        elif message.stale and source.after.failure == "RPC_TIMEOUT" and self._at - source.overdue_told_at < TURN_S:
            self._fail(f"{source.type} {message.seq}: {message.error_code} right after OVERDUE")

    def _complaint(self, source: Source, known: Known, message: Message) -> str | None:
        """What is untrue in a data event or a snapshot, if `known` is what is known."""
        if known.items is None:
            return "data, though none ever came"
        if complaint := self._wrong_as_of(known, message):
            return complaint
        if message.stale not in source.stale_at(known, self._at):
            return f"stale is {message.stale}; {source.model.name} is {source.model.shown}, last {known.failure}"
        if message.gone:
            return "gone, though it is there" if (message.key or "") in known.items else None
        if not message.stale:
            codes = message.error_code or message.retry_at or message.cause or message.expired
            return f"fresh, and yet {codes}" if codes else self._wrong_data(known, message)
        if message.expired not in source.expired_at(known, self._at):
            return f"expired is {message.expired}"
        if message.expired and bytes(message.data) != b"null":
            return "expired, and yet with data"
        return self._wrong_reason(source, known, message) or (
            None if message.expired else self._wrong_data(known, message)
        )

    def _wrong_data(self, known: Known, message: Message) -> str | None:
        given = (known.items or {}).get(message.key or "")
        return None if bytes(message.data) == given else f"data {bytes(message.data)!r}, expected {given!r}"

    def _wrong_as_of(self, known: Known, message: Message) -> str | None:
        """Data is as of when its request was sent, by the clock as it is; a snapshot no later than its own event."""
        walls, now = self._record.walls, self._at
        if message.as_of is not None and walls.tells(known.sent, message.as_of, since=known.sent, now=now):
            return None
        expected = [rfc3339(known.sent + offset) for offset in walls.at(now)]
        if message.snapshot and message.as_of == message.timestamp < max(expected):
            return None
        return f"as_of {message.as_of}, expected {expected}"

    def _wrong_reason(self, source: Source, known: Known, message: Message) -> str | None:
        model = source.model
        if message.error_code not in source.whys(known) or message.cause != model.cause:
            return f"{message.error_code} for {message.cause}, expected {source.whys(known)} for {model.cause}"
        expected = model.next_tries(self._at)
        if not any(
            self._is_told(retry_at, message.retry_at, since=min(model.since, model.retry_since))
            for retry_at in expected
        ):
            return f"retry at {message.retry_at}, expected {expected}"
        return None

    def _is_told(self, moment: float | None, shown: str | None, *, since: float) -> bool:
        if moment is None or shown is None:
            return moment is None and shown is None
        return self._record.walls.tells(moment, shown, since=since, now=self._at)

    def _handed(self, client: str, message: Message) -> None:
        source = self.sources[message.type]
        if source.model.shown != source.model.shown_before:
            return  # it may have been handed before or after the move
        complaints = [self._handed_complaint(source, known, message) for known in source.known]
        if all(complaints):
            self._fail(f"{source.type} {message.seq}, handed to {client}: {complaints[-1]}")

    def _handed_complaint(self, source: Source, known: Known, message: Message) -> str | None:
        if message.stale not in source.stale_at(known, self._at):
            return f"stale is {message.stale}; {source.model.name} is {source.model.shown}, last {known.failure}"
        if complaint := self._wrong_as_of(known, message):
            return complaint
        return None if message.expired else self._wrong_data(known, message)

    def _check_reports(self, reports: Iterable[Message]) -> None:
        told = defaultdict(list)
        for message in reports:
            data = msgspec.json.decode(message.data)
            told[data["source"]].append(data)
        for source in self.sources.values():
            got = told[source.type]
            for known in source.known[1:]:
                if complaint := self._reports[source.type].ended(known.failure, got, self._at):
                    self._fail(f"{source.type}: {complaint}")
            if got:
                self._fail(f"{source.type}: reports of errors that there were not: {got}")

    def _finish(self) -> None:
        """After an instant everything that changed in it has been told."""
        for name, backend in self._record.scenario.config.backends.items():
            taken = self._running[name] + (self._knocking[name].running is not None)
            if taken == backend.connections:
                self._full_at[name] = self._at
            elif taken > backend.connections:
                self._fail(f"{name}: {taken} calls and knocks at once, expected {backend.connections}")
        for model in self._models.values():
            if model.predicted:
                self._fail(f"{model.name}: did not tell that it became {model.predicted}")
        for source in self.sources.values():
            known = source.after
            if known.attempts and source.freshness is None:
                self._fail(f"{source.type}: its freshness was never told")
                source.freshness = source.told
            if source.freshness is not None and source.told_at is None:
                source.code = source.freshness[2]  # nothing else tells why there is no data
            if source.freshness is not None and source.freshness != source.told:
                self._fail(f"{source.type}: freshness was told as {source.freshness}, the newest event {source.told}")
                source.freshness = source.told
            self._check_outage(source)
            if known.items is not None and source.stale not in source.stale_at(known, self._at):
                self._fail(f"{source.type}: told stale={source.stale}; {source.model.shown}, last {known.failure}")
                source.stale = not source.stale
            self._check_held(source, known)

    def _check_outage(self, source: Source) -> None:
        """While a breaker is not closed, everything behind it that is stale says so, for one cause."""
        model = source.model
        if model.shown == CLOSED or source.freshness is None:
            return
        reasons = {(message.error_code, message.cause) for message in source.items.values()}
        if source.code != "CIRCUIT_BREAKER_OPEN" or reasons - {("CIRCUIT_BREAKER_OPEN", model.cause)}:
            self._fail(
                f"{source.type}: stale because of {source.code}, {reasons}, though {model.name} is {model.shown}"
            )

    def _check_held(self, source: Source, known: Known) -> None:
        if known.items is None or any(message.expired for message in source.items.values()):
            return
        told = {key: bytes(message.data) for key, message in source.items.items()}
        if told != known.items:
            self._fail(f"{source.type}: told {told}, but {known.items} is known")

    def _fail(self, what: str) -> None:
        self._record.fail(self._at, what)


class _Given:
    """The good answers of one backend, by method and data."""

    def __init__(self, given: Iterable[tuple[str, float, bytes]]) -> None:
        self._times: dict[tuple[str, bytes], list[float]] = defaultdict(list)
        for method, at, data in given:
            self._times[method, data].append(at)

    def gave(self, method: str, exchange: Exchange, data: bytes) -> bool:
        """Whether the backend gave `data` to a request of `exchange`."""
        assert exchange.ended is not None
        return any(exchange.sent.mono <= at <= exchange.ended for at in self._times[method, data])


def _counted(kind: Kind, sources: Sequence[Source]) -> Counted:
    """Whether the breaker counts a failure of such a call."""
    if kind is Kind.AGAIN:
        return Counted.UNLESS_ALONE
    if kind is Kind.TICK or not any(source.in_row for source in sources):
        return Counted.SURELY
    return Counted.MAYBE


def _says(message: Message) -> tuple[object, ...]:
    """What a data event says of its data."""
    return message.stale, message.error_code, message.cause, message.expired, bytes(message.data)
