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

from simulation.backend import UNMAPPABLE, Exchange
from simulation.breakers import Hold, Model, Move, Result, code, longest_open_s
from simulation.clients import Message
from simulation.record import Published, Record
from simulation.scenario import REFUSING, TOTAL, Fault, Phase
from tidegate.config import BackendConfig, BreakerConfig, SourceConfig
from tidegate.core.instant import rfc3339
from tidegate.errors import MappingFailed

EDGE_S = 0.03
"""So close to a limit either side of it may be told. A call that is about to end then is waited for."""

SLACK_S = 0.5

TURN_S = 0.03
"""What is told within it, is told in one breath."""

Items = dict[str, bytes]
CLOSED, HALF_OPEN, OPEN = "closed", "half_open", "open"


class Known(msgspec.Struct, frozen=True):
    """What is known of a source after some of its calls have ended; `sent` is monotonic time."""

    items: Items | None = None
    sent: float = 0.0
    failure: str | None = None
    attempts: int = 0


class Source:
    """One source: what is known, and what subscribers were told of it."""

    def __init__(self, event_type: str, settings: SourceConfig, timeout_s: float, model: Model) -> None:
        self.type = event_type
        self.settings = settings
        self.model = model
        self.timeout_s = timeout_s
        self.tick_s = 2.5 * settings.interval_s + timeout_s
        """Up to 1.5 intervals from a tick off the grid to the next, one more if a recovery moves that, and its call."""
        self.limit_s = max(2 * settings.interval_s, settings.interval_s + timeout_s)
        self.wait_s = 0.0
        """How long it may wait for one of the backend's connections."""
        self.known = [Known()]
        """What was known before the present instant, and after each call that ended in it."""
        self.items: dict[str, Message] = {}
        self.stale = True
        self.code: str | None = None
        self.told_at: float | None = None
        self.freshness: tuple[bool, bool, str | None] | None = None
        self.overdue_told_at = float("-inf")
        self.turns: list[tuple[float, bool]] = []
        self.running: Exchange | None = None
        self.failures = 0
        self.reported_at = 0.0
        self.refusals = 0
        self.able_at = float("-inf")
        """By when it may be asked again after its account was refused."""

    @property
    def before(self) -> Known:
        return self.known[0]

    @property
    def after(self) -> Known:
        return self.known[-1]

    @property
    def keyed(self) -> bool:
        return self.settings.key is not None

    @property
    def told(self) -> tuple[bool, bool, str | None]:
        """What the newest event says, as `source.freshness` has to say it: stale, unknown, and why."""
        return self.stale, self.told_at is None, self.code

    def ended(self, result: Result, exchange: Exchange) -> None:
        """A call of this source ended."""
        known = self.after
        if isinstance(result, bytes):
            self.refusals = 0
            self.known.append(Known(self.split(result), exchange.sent.mono, None, known.attempts + 1))
        else:
            self.known.append(msgspec.structs.replace(known, failure=code(result), attempts=known.attempts + 1))

    def refused(self, at: float, rules: BreakerConfig) -> None:
        """Its account was refused: it is asked less and less."""
        self.refusals += 1
        self.able_at = at + min(rules.open_s * 2 ** (self.refusals - 1), longest_open_s(rules))

    def mapped(self, result: Result) -> Result:
        """What the mapping makes of an answer: itself, or its failure if what is wanted isn't there."""
        if isinstance(result, bytes) and result == UNMAPPABLE and (self.keyed or self.settings.select):
            return MappingFailed("not there")
        return result

    def split(self, data: bytes) -> Items:
        """What is published for an answer: by key, or whole under ""."""
        if self.settings.select:
            return {"": bytes(msgspec.json.decode(data, type=dict[str, msgspec.Raw])[self.settings.select[1:]])}
        if not self.keyed:
            return {"": data}
        items = msgspec.json.decode(data, type=dict[str, list[msgspec.Raw]])["items"]
        return {msgspec.json.decode(item)["id"]: bytes(item) for item in items}

    def stale_at(self, known: Known, now: float) -> set[bool]:
        """Whether data is stale at `now`; both where it is on the edge."""
        if self.model.shown != CLOSED or known.failure is not None:
            return {True}
        age = now - known.sent - self.limit_s
        return {True, False} if abs(age) < EDGE_S else {age > 0}

    def expired_at(self, known: Known, now: float) -> set[bool]:
        """Whether stale data is too old to be shown at `now`."""
        if self.settings.max_stale_s is None:
            return {False}
        age = now - known.sent - self.settings.max_stale_s
        return {True, False} if abs(age) < EDGE_S else {age > 0}

    def why(self, known: Known) -> str:
        """Why data is stale. What a hold made too old says what brought the hold."""
        if self.model.shown != CLOSED:
            return "CIRCUIT_BREAKER_OPEN"
        held = self.model.hold.until > known.sent + self.limit_s
        return known.failure or ("RPC_HTTP_STATUS" if held else "OVERDUE")


class Truth:
    """The walk through all instants of a record."""

    def __init__(self, record: Record) -> None:
        config = record.scenario.config
        self._record = record
        self._at = 0.0
        self._models: dict[str, Model] = {}
        self._holds = {name: Hold(settings) for name, settings in config.backends.items()}
        self._running: Counter[str] = Counter()
        self.sources: dict[str, Source] = {}
        for event_type, settings in config.sources.items():
            backend = config.backends[settings.backend]
            name = f"{settings.backend}/{event_type}" if settings.breaker == "own" else settings.backend
            model = self._models.setdefault(name, Model(name, backend, self._holds[settings.backend]))
            self.sources[event_type] = Source(event_type, settings, backend.timeout_s, model)
        for name, backend in config.backends.items():
            self._make_room_for_waiting(name, backend)
        self._by_method = {(s.settings.backend, s.settings.method): s for s in self.sources.values()}
        self._openings: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._closings: dict[str, list[float]] = defaultdict(list)
        self._given = {name: _Given(given) for name, given in record.given.items()}

    def _make_room_for_waiting(self, name: str, backend: BackendConfig) -> None:
        """Where not all sources can be asked at once, each may wait for the calls of all the others."""
        sources = [source for source in self.sources.values() if source.settings.backend == name]
        if backend.connections < len(sources):
            for source in sources:
                source.wait_s = (len(sources) - 1) * backend.timeout_s
                source.tick_s += source.wait_s

    def check(self) -> None:
        for at, group in itertools.groupby(self._timeline(), key=itemgetter(0)):
            self._at = at
            items = [(kind, item) for _, _, kind, item in group]
            self._begin()
            for kind, item in items:
                if kind == "start":
                    self._started(item)
                elif kind == "end":
                    self._ended(item)
            reports = [item.message for kind, item in items if kind == "event" and item.message.type == "rpc_error"]
            self._check_reports(reports)
            for kind, item in items:
                if kind == "event":
                    self._published(item)
            for kind, item in items:
                if kind == "handed":
                    self._handed(*item)
            self._finish()
        self._check_bounds()

    def _timeline(self) -> list[tuple[float, int, str, Any]]:
        end = self._record.scenario.duration_s
        items: list[tuple[float, int, str, Any]] = []
        for tap in self._record.taps.values():
            for exchange in tap.exchanges:
                items.append((exchange.sent.mono, exchange.started_as, "start", exchange))
                if exchange.ended is not None:
                    items.append((exchange.ended, exchange.ended_as, "end", exchange))
        items += [(event.at, event.message.seq or 0, "event", event) for event in self._record.log]
        items += [(at, 0, "handed", (client, message)) for at, client, message in self._record.handed]
        return sorted(
            (item for item in items if item[0] < end), key=lambda item: (item[0], item[2] == "handed", item[1])
        )

    # one instant

    def _begin(self) -> None:
        now = self._at
        for hold in self._holds.values():
            hold.begin_instant()
        for model in self._models.values():
            model.begin_instant(now)
            self._check_probe(model)
        for source in self.sources.values():
            source.known = [source.after]
            self._check_silence(source)

    def _check_probe(self, model: Model) -> None:
        """Whoever may be asked is asked as the probe as soon as one is wanted."""
        if model.probe_at is None:
            return
        siblings = [s for s in self.sources.values() if s.model is model]
        able_at = min((s.able_at for s in siblings if s.running is None), default=self._at)
        busy_s = max(s.wait_s for s in siblings)
        if self._at - max(model.probe_at + busy_s, able_at) > SLACK_S:
            self._fail(f"{model.name}: {model.state} without a probe since {model.probe_at:.3f}")
            model.retry_at = self._at

    def _check_silence(self, source: Source) -> None:
        now = self._at
        if source.told_at is None:
            return
        if not source.stale and now > source.after.sent + source.limit_s + EDGE_S:
            self._fail(f"{source.type}: still told fresh at the age of {now - source.after.sent:.3f} s")
        shown = source.stale and any(not message.expired for message in source.items.values())
        if shown and source.expired_at(source.after, now - EDGE_S) == {True}:
            self._fail(f"{source.type}: still shown at the age of {now - source.after.sent:.3f} s")
        repeats = source.settings.stale_repeat if source.stale else not source.settings.on_change
        if repeats and not source.keyed and now > source.told_at + source.tick_s + SLACK_S:
            self._fail(f"{source.type}: silence since {source.told_at:.3f}")
            source.told_at = now

    def _sources_of(self, exchange: Exchange) -> Iterator[Source]:
        return (self._by_method[exchange.backend, method] for method in exchange.methods)

    def _started(self, exchange: Exchange) -> None:
        models = {source.model.name: source.model for source in self._sources_of(exchange)}
        for model in models.values():
            if complaint := model.started(exchange, self._at):
                self._fail(f"{model.name}: {complaint}")
        for source in self._sources_of(exchange):
            if source.running is not None:
                self._fail(f"{source.type}: asked while it is being asked")
            source.running = exchange
        self._running[exchange.backend] += 1
        places = self._record.scenario.config.backends[exchange.backend].connections
        if self._running[exchange.backend] > places:
            self._fail(f"{exchange.backend}: {self._running[exchange.backend]} calls at once, expected {places}")

    def _ended(self, exchange: Exchange) -> None:
        answers: Sequence[Any] = exchange.results or [None] * len(exchange.methods)
        results = [s.mapped(answer) for s, answer in zip(self._sources_of(exchange), answers, strict=True)]
        self._running[exchange.backend] -= 1
        self._holds[exchange.backend].ended(exchange)
        next(self._sources_of(exchange)).model.ended(exchange, results, self._at)
        settings = self._record.scenario.config.backends[exchange.backend]
        for source, method, result in zip(self._sources_of(exchange), exchange.methods, results, strict=True):
            source.running = None
            if isinstance(result, bytes) and not self._given[exchange.backend].gave(method, exchange, result):
                self._fail(f"{source.type}: {result!r} was never given")
                continue
            source.ended(result, exchange)
            if code(result) == "RPC_AUTH":
                source.refused(self._at, settings.breaker)

    def _published(self, event: Published) -> None:
        message = event.message
        if message.type == "circuit_breaker.state":
            move = msgspec.json.decode(message.data, type=Move)
            complaint = self._models[move.breaker].told(move)
            if complaint:
                self._fail(f"{move.breaker}: {complaint}")
            if move.state == OPEN:
                model = self._models[move.breaker]
                self._openings[move.breaker].append((self._at, max(model.retry_at, model.hold.until)))
            elif move.state == CLOSED:
                self._closings[move.breaker].append(self._at)
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
        if (message.error_code, message.cause) != (source.why(known), model.cause):
            return f"{message.error_code} for {message.cause}, expected {source.why(known)} for {model.cause}"
        expected = model.next_tries(self._at)
        if not any(self._is_told(retry_at, message.retry_at, since=model.since) for retry_at in expected):
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
        """`rpc_error`: the first failure of an episode at once, then at most one in so many seconds."""
        told = defaultdict(list)
        for message in reports:
            data = msgspec.json.decode(message.data)
            told[data["source"]].append(data)
        interval_s = self._record.scenario.config.limits.rpc_error_interval_s
        for source in self.sources.values():
            got = told[source.type]
            for known in source.known[1:]:
                source.failures = 0 if known.failure is None else source.failures + 1
                since = self._at - source.reported_at - interval_s
                due = source.failures == 1 or (source.failures > 1 and since >= 0)
                report = got.pop(0) if got and (due or (source.failures and abs(since) < EDGE_S)) else None
                if report is not None:
                    source.reported_at = self._at
                    if (report["error_code"], report["consecutive_failures"]) != (known.failure, source.failures):
                        self._fail(f"{source.type}: reported {report}, expected failure {source.failures}")
                elif due and not (source.failures > 1 and abs(since) < EDGE_S):
                    self._fail(f"{source.type}: failure {source.failures} was not reported")
            if got:
                self._fail(f"{source.type}: reports of errors that there were not: {got}")

    def _finish(self) -> None:
        """After an instant everything that changed in it has been told."""
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

    # bounds over phases

    def _check_bounds(self) -> None:
        for name, phases in self._record.scenario.phases.items():
            sources = [source for source in self.sources.values() if source.settings.backend == name]
            for before, phase in itertools.pairwise([None, *phases]):
                assert phase is not None
                for source in sources:
                    if phase.fault in TOTAL:
                        self._check_noticed(source, phase.start, phase.end)
                    elif phase.fault is None and before is not None:
                        self._check_recovered(source, phase.start, phase.end, phases)

    def _check_noticed(self, source: Source, start: float, end: float) -> None:
        """Within an interval and a timeout, where no hint or recovery had moved the source off its grid."""
        interval_s, timeout_s = source.settings.interval_s, source.timeout_s
        moves = [*self._closings[source.model.name], *(until for _, until in source.model.hold.spans)]
        moves += [at for at, backend in self._record.hints if backend == source.settings.backend]
        usual_s = interval_s + (timeout_s if timeout_s < interval_s else 2 * timeout_s)
        moved = any(start - source.tick_s <= at <= start + usual_s for at in moves)
        by = start + (source.tick_s if moved else usual_s + source.wait_s) + SLACK_S
        if any(since < by and until > start for since, until in source.model.hold.spans):
            return  # nobody is asked; that it grows too old is told, as ever
        fresh_all_along = not self._stale_sometime(source, start, by)
        if by < end and fresh_all_along and source.turns and source.turns[0][0] < start:
            self._at = by
            self._fail(f"{source.type}: not told stale, though its backend failed at {start:.3f}")

    def _check_recovered(self, source: Source, start: float, end: float, phases: Sequence[Phase]) -> None:
        rules = self._record.scenario.config.backends[source.settings.backend].breaker
        openings = [r for at, r in self._openings[source.model.name] if at <= start + source.timeout_s + SLACK_S]
        siblings = [s for s in self.sources.values() if s.model is source.model]
        holds = [until for since, until in source.model.hold.spans if since <= start + source.timeout_s + SLACK_S]
        by = max([start, *openings[-1:], *holds[-1:]]) + 2 * source.timeout_s + SLACK_S
        by += 1.5 * source.settings.interval_s + source.wait_s
        by += (rules.half_open_successes - 1) * (source.timeout_s + source.wait_s)
        if _any_of(REFUSING, phases, start - longest_open_s(rules) - max(s.tick_s for s in siblings), start):
            by += longest_open_s(rules)
        if by < end and self._stale_sometime(source, by, end):
            self._at = by
            self._fail(f"{source.type}: not fresh by then, though its backend is well since {start:.3f}")
        if end == self._record.scenario.duration_s and by >= end:
            self._fail(f"{source.type}: the calm is too short to judge, {by - end:.3f} s")

    def _stale_sometime(self, source: Source, start: float, end: float) -> bool:
        turns = [(0.0, True), *source.turns]
        spans = zip(turns, [*turns[1:], (end, True)], strict=True)
        return any(stale and at <= end and until > start for (at, stale), (until, _) in spans)

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


def _any_of(faults: frozenset[Fault], phases: Iterable[Phase], start: float, end: float) -> bool:
    """Whether any of `faults` ended between `start` and `end`."""
    return any(phase.fault in faults and start <= phase.end <= end for phase in phases)
