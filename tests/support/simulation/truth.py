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

from simulation.backend import Exchange
from simulation.breakers import Hold, Model, Move, code
from simulation.clients import Message
from simulation.record import Published, Record
from simulation.scenario import REFUSING, TOTAL, Fault, Phase
from tidegate.config import BackendConfig, SourceConfig
from tidegate.core.instant import rfc3339
from tidegate.errors import BackendError

EDGE_S = 0.01
"""So close to a limit either side of it may be told."""

SLACK_S = 0.5

Items = dict[str, bytes]
CLOSED, HALF_OPEN, OPEN = "closed", "half_open", "open"


class Known(msgspec.Struct, frozen=True):
    """What is known of a source after some of its calls have ended; `sent` is monotonic, `as_of` Unix time."""

    items: Items | None = None
    as_of: float = 0.0
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
        self.stale = self.stale_before = True
        self.told_at: float | None = None
        self.freshness: tuple[bool, bool] | None = None
        self.turns: list[tuple[float, bool]] = []
        self.running: Exchange | None = None
        self.failures = 0
        self.reported_at = 0.0
        self.refused_at = float("-inf")

    @property
    def before(self) -> Known:
        return self.known[0]

    @property
    def after(self) -> Known:
        return self.known[-1]

    @property
    def keyed(self) -> bool:
        return self.settings.key is not None

    def ended(self, result: bytes | BackendError | None, exchange: Exchange) -> None:
        """A call of this source ended."""
        known = self.after
        if isinstance(result, bytes):
            as_of = max(known.as_of, exchange.sent.wall)
            self.known.append(Known(self.split(result), as_of, exchange.sent.mono, None, known.attempts + 1))
        else:
            self.known.append(msgspec.structs.replace(known, failure=code(result), attempts=known.attempts + 1))

    def split(self, data: bytes) -> Items:
        """What is published for an answer: by key, or whole under ""."""
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
        """The code of an episode that goes on. What a hold made too old says what brought the hold."""
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
            siblings = [s for s in self.sources.values() if s.model is model]
            refused = max(s.refused_at for s in siblings) + model.open_max_s
            busy_s = max(model.timeout_s, *(s.wait_s for s in siblings))
            if model.probe_at is not None and now - max(model.probe_at + busy_s, refused) > SLACK_S:
                self._fail(f"{model.name}: {model.state} without a probe since {model.probe_at:.3f}")
                model.retry_at = now
        for source in self.sources.values():
            source.known = [source.after]
            source.stale_before = source.stale
            self._check_silence(source)

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
        results: Sequence[Any] = exchange.results or [None] * len(exchange.methods)
        self._running[exchange.backend] -= 1
        self._holds[exchange.backend].ended(exchange)
        next(self._sources_of(exchange)).model.ended(exchange, self._at)
        for source, method, result in zip(self._sources_of(exchange), exchange.methods, results, strict=True):
            source.running = None
            if isinstance(result, bytes) and not self._given[exchange.backend].gave(method, exchange, result):
                self._fail(f"{source.type}: {result!r} was never given")
                continue
            source.ended(result, exchange)
            if code(result) == "RPC_AUTH":
                source.refused_at = self._at

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
            told = (data["stale"], data["as_of"] is None)
            source = self.sources[data["type"]]
            if told == source.freshness:
                self._fail(f"{source.type}: freshness told again, though it did not change")
            source.freshness = told
        elif message.type in self.sources:
            self._data(self.sources[message.type], message)

    def _data(self, source: Source, message: Message) -> None:
        starts = source.told_at is None or not source.stale_before
        complaints = [self._complaint(source, known, message, starts) for known in source.known]
        if all(complaints):
            self._fail(f"{source.type} {message.seq}: {complaints[-1]}")
        if message.gone:
            source.items.pop(message.key or "", None)
        else:
            source.items[message.key or ""] = message
        if not source.turns or source.stale != message.stale:
            source.turns.append((self._at, bool(message.stale)))
        source.stale = bool(message.stale)
        source.told_at = self._at

    def _complaint(self, source: Source, known: Known, message: Message, starts: bool) -> str | None:
        """What is untrue in a data event or a snapshot, if `known` is what is known."""
        if known.items is None:
            return "data, though none ever came"
        if message.as_of != rfc3339(known.as_of):
            return f"as_of {message.as_of}, expected {rfc3339(known.as_of)}"
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
        return self._wrong_reason(source, known, message, starts) or (
            None if message.expired else self._wrong_data(known, message)
        )

    def _wrong_data(self, known: Known, message: Message) -> str | None:
        given = (known.items or {}).get(message.key or "")
        return None if bytes(message.data) == given else f"data {bytes(message.data)!r}, expected {given!r}"

    def _wrong_reason(self, source: Source, known: Known, message: Message, starts: bool) -> str | None:
        codes = {source.why(known)}
        if starts and known.attempts > source.before.attempts and known.failure:
            codes = {known.failure} if source.model.shown == CLOSED else codes | {known.failure}
        if message.error_code not in codes:
            return f"error_code {message.error_code}, expected {sorted(codes)}"
        model = source.model
        tries = model.next_tries(self._at)
        if message.retry_at not in tries or message.cause != model.cause:
            return f"retry at {message.retry_at} for {message.cause}, expected {tries} for {model.cause}"
        return None

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
        if message.as_of != rfc3339(known.as_of):
            return f"as_of {message.as_of}, expected {rfc3339(known.as_of)}"
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
                source.freshness = (True, True)
            if source.freshness is not None and source.freshness != (source.stale, source.told_at is None):
                self._fail(f"{source.type}: freshness was told as {source.freshness}, but stale is {source.stale}")
                source.freshness = (source.stale, source.told_at is None)
            if known.items is not None and source.stale not in source.stale_at(known, self._at):
                self._fail(f"{source.type}: told stale={source.stale}; {source.model.shown}, last {known.failure}")
                source.stale = not source.stale
            self._check_held(source, known)

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
        if _any_of(REFUSING, phases, start - rules.open_max_s - max(s.tick_s for s in siblings), start):
            by += rules.open_max_s
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
