"""What was published around reloads, held against what was configured and what the backends really answered.

Each answer of a backend says what was asked for. So nobody is told as fresh what is the answer to another question
than the one that is configured. What is removed ends, once, and says nothing more. What goes on goes on: a breaker
moves only for a cause, whoever is added or asked otherwise is asked soon, and nobody's ticks move.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from simulation.backend import FAST_S
from simulation.clients import Message
from simulation.origins import Answer, Era, Eras, items_of
from simulation.record import Name, Published, Record
from simulation.sources import EDGE_S, GRID_S
from simulation.tap import Exchange, Tap
from simulation.verdicts import Result, Verdict, code, verdict
from tidegate.config import Config, SourceConfig
from tidegate.errors import HttpStatus

SLACK_S = 0.5
SOON_S = 1.0
"""How soon a source is asked that is added, or asked otherwise."""

PATIENCE_S = 10.0
"""How much later all this is told where the bus is unsteady."""

REFUSED_S = 320.0
"""How long a source may wait whose account was refused."""

HELD_S = 35.0
"""How long a backend of these worlds may ask to be left alone."""

A_SECOND = 20.0
"""So many sources may be asked in a second beside their ticks, if four times the normal rate is less."""

BREAKER, FRESHNESS = "circuit_breaker.state", "source.freshness"


class Step(msgspec.Struct, frozen=True):
    """From the time `at` on, after position `seq`, `config` was in force.

    `renewed` are the backends that were called in another session from then on, `others` those that are another
    service.
    """

    at: float
    seq: int
    config: Config
    renewed: frozenset[str]
    others: frozenset[str]


def breaker_of(event_type: str, settings: SourceConfig) -> str:
    """The name of the breaker that a source stands behind."""
    return f"{settings.backend}/{event_type}" if settings.breaker == "own" else settings.backend


class Switches:
    """The judge of a world with reloads, of its `record`. `sessions` are all taps of each backend."""

    def __init__(
        self, record: Record, steps: Sequence[Step], sessions: Mapping[str, Sequence[Tap]], *, is_steady: bool
    ) -> None:
        self._record = record
        self._steps = steps
        self._is_steady = is_steady
        self._grace_s = 0.0 if is_steady else PATIENCE_S
        self._calls = {
            name: sorted((e for tap in taps for e in tap.exchanges), key=lambda e: e.sent.mono)
            for name, taps in sessions.items()
        }
        self._knocks = {name: [knock for tap in taps for knock in tap.knocks] for name, taps in sessions.items()}
        self._eras = Eras(steps, self._calls, end=record.scenario.duration_s)
        self._held: dict[Name, Message] = {}
        self._states: dict[str, str] = {}
        self._closed_since: dict[str, float] = {}
        self._trouble: dict[str, list[tuple[float, float]]] = defaultdict(list)
        """Spans in which a breaker was not closed, by its name."""
        self._told_fresh: dict[str, list[float]] = defaultdict(list)
        self._gone: dict[Name, float] = {}

    def check(self) -> None:
        """Walk through everything that the witness heard, and then through all calls."""
        steps = iter(self._steps)
        step, after = next(steps), next(steps, None)
        unsettled: list[Step] = []
        for published in self._record.log.snapshots:
            self._held[published.message.name] = published.message
            if published.message.type == BREAKER:
                self._moved(published, step)
        for published in self._record.log:
            seq = published.message.seq or 0
            while after is not None and after.seq < seq:
                self._settle(unsettled, after.at, step)
                unsettled.append(after)
                step, after = after, next(steps, None)
            self._settle(unsettled, published.at, step)
            self._told(published, step)
        for each in unsettled:
            self._settled(each, step)
        self._check_calls()

    # what was told

    def _told(self, published: Published, step: Step) -> None:
        message, at = published.message, published.at
        sources = step.config.sources
        if message.type == "rpc_error":
            name = msgspec.json.decode(message.data)["source"]
            if name not in sources and not self._is_late(at):
                self._fail(at, f"rpc_error of {name}, which is removed")
        if message.type not in {BREAKER, FRESHNESS} and not self._eras.was_ever(message.type):
            return
        exists = self._exists(message, step)
        if message.gone:
            if message.name not in self._held and not self._is_late(at):
                self._fail(at, f"{message.name} is told gone, and is not there")
            elif (
                exists
                and (message.type in {BREAKER, FRESHNESS} or not message.key)
                and not self._was_switched(message, at)
            ):
                self._fail(at, f"{message.name} is told gone, and goes on")
            self._held.pop(message.name, None)
            if message.type == BREAKER:
                self._ended(message.key or "", at)
            return
        if not exists and not self._is_late(at):
            self._fail(at, f"{message.name} is told, though it is removed")
        self._held[message.name] = message
        if message.type == BREAKER:
            self._moved(published, step)
        elif message.type in sources:
            self._data(published, sources[message.type])

    def _exists(self, message: Message, step: Step) -> bool:
        sources = step.config.sources
        match message.type:
            case "circuit_breaker.state":
                return message.key in {breaker_of(*each) for each in sources.items()}
            case "source.freshness":
                return message.key in sources
        return message.type in sources

    def _was_switched(self, message: Message, at: float) -> bool:
        """Whether it is another one than before, since a moment ago."""
        if message.type in {BREAKER, FRESHNESS}:
            return self._is_late(at)
        return any(era.since <= at for era in self._eras.of(message.type)[1:])

    def _is_late(self, at: float) -> bool:
        """Whether something decided before a reload may still be told."""
        return not self._is_steady and any(step.at <= at <= step.at + self._grace_s for step in self._steps)

    def _data(self, published: Published, settings: SourceConfig) -> None:
        message, at = published.message, published.at
        era, key = self._eras.at(message.type, at), message.key or ""
        if message.stale:
            if not message.expired and not self._eras.gave(message.type, key, bytes(message.data), until=at):
                self._fail(at, f"{message.type} {message.seq}: {bytes(message.data)!r} was never given")
            if message.error_code == "RELOADED" and self._eras.attempted(era, before=at) and self._is_steady:
                self._fail(at, f"{message.type} {message.seq}: RELOADED, though it was asked since {era.since:.3f}")
            return
        self._told_fresh[message.type].append(at)
        name = breaker_of(message.type, settings)
        if self._states.get(name, "closed") != "closed" and not self._is_late(at):
            self._fail(at, f"{message.type} {message.seq}: fresh, though {name} is {self._states[name]}")
        eras = [era] if not self._is_late(at) else [each for each in self._eras.of(message.type) if each.since <= at]
        answers = [answer for each in eras for answer in self._known(each, at)]
        if not any(answer.items.get(key) == bytes(message.data) for answer in answers):
            self._fail(
                at,
                f"{message.type} {message.seq}: fresh {bytes(message.data)!r}, and since {era.since:.3f} "
                f"{era.settings.method} of {era.settings.backend} gave {[a.items.get(key) for a in answers]}",
            )
            return
        if self._is_steady and not any(self._is_as_of(answer, message, at) for answer in answers):
            self._fail(at, f"{message.type} {message.seq}: as of {message.as_of}, {[a.sent for a in answers]} expected")
        if self._is_steady and all(at - answer.sent > answer.limit_s + EDGE_S for answer in answers):
            self._fail(at, f"{message.type} {message.seq}: fresh at the age of {at - answers[-1].sent:.3f} s")

    def _is_as_of(self, answer: Answer, message: Message, at: float) -> bool:
        return message.as_of is not None and self._record.walls.tells(
            answer.sent, message.as_of, since=answer.sent, now=at
        )

    def _known(self, era: Era, at: float) -> list[Answer]:
        """The answers of which any may be the newest now: to the question of this era."""
        answers = self._eras.answers(era, until=at)
        newest: list[Answer] = []
        for answer in answers:
            if answer.ended <= at - (self._grace_s or EDGE_S):
                newest = [each for each in newest if each.ended > at - (self._grace_s or EDGE_S)]
            newest.append(answer)
        return newest

    def _moved(self, published: Published, step: Step) -> None:
        message, at = published.message, published.at
        move = msgspec.json.decode(message.data)
        name = move["breaker"]
        before = self._states.get(name)
        if not message.snapshot:
            if move["from"] != before:
                self._fail(at, f"{name}: moved from {move['from']}, and {before} was told")
            if before is not None and self._is_steady and (complaint := self._without_cause(name, move, at, step)):
                self._fail(at, f"{name}: {complaint}")
        if move["state"] != "closed" and before in {None, "closed"}:
            self._closed_since[name] = at
        elif move["state"] == "closed" and before not in {None, "closed"}:
            self._ended(name, at)
        self._states[name] = move["state"]

    def _ended(self, name: str, at: float) -> None:
        if self._states.pop(name, "closed") != "closed":
            self._trouble[name].append((self._closed_since[name], at))

    def _without_cause(self, name: str, move: Mapping[str, Any], at: float, step: Step) -> str | None:
        """What is wrong with a move of a breaker that was there before."""
        backend = name.partition("/")[0]
        if move["reason"] == "reload":
            is_renewed = any(each.at == at and backend in each.renewed for each in self._steps)
            return None if is_renewed else "moved by a reload that left it as it was"
        ended = [e for e in self._calls[backend] if e.ended is not None and abs(e.ended - at) < EDGE_S]
        match move["state"]:
            case "open":
                wanted = {Verdict.BAD}
            case "closed":
                wanted = {Verdict.GOOD, Verdict.ALIVE}
            case _:
                return None
        said = {verdict(e.results or [None]) for e in ended}
        return None if said & wanted else f"moved to {move['state']}, and no call was the cause"

    def _settle(self, unsettled: list[Step], now: float, newest: Step) -> None:
        while unsettled and now > unsettled[0].at + self._grace_s:
            self._settled(unsettled.pop(0), newest)

    def _settled(self, step: Step, newest: Step) -> None:
        """By now everything is told that this step has changed, if `newest` has not changed it again."""
        at = step.at + self._grace_s
        if newest.at <= at and newest is not step:
            return
        breakers = {breaker_of(*each) for each in newest.config.sources.items()}
        for name, message in self._held.items():
            if not self._exists(message, newest):
                self._fail(at, f"{name} was removed at {step.at:.3f}, and not told gone")
            elif message.type in newest.config.sources and not message.stale:
                self._check_shown(message, at, newest)
        for each in breakers - {key for event_type, key in self._held if event_type == BREAKER}:
            self._fail(at, f"{each}: no state of this breaker was told")

    def _check_shown(self, message: Message, at: float, newest: Step) -> None:
        settings = newest.config.sources[message.type]
        era, name = self._eras.at(message.type, at), breaker_of(message.type, settings)
        if self._states.get(name, "closed") != "closed":
            self._fail(at, f"{message.name}: stays fresh, though {name} is {self._states[name]}")
        if era.since >= newest.at and not self._eras.answers(era, until=at):
            self._fail(at, f"{message.name}: stays fresh, though {era.settings.method} was not answered yet")

    # what was asked

    def _check_calls(self) -> None:
        for backend, calls in self._calls.items():
            self._check_places(backend, calls)
        starts: dict[str, list[float]] = defaultdict(list)
        for event_type in self._eras.types:
            for era in self._eras.of(event_type):
                starts[event_type] += [exchange.sent.mono for exchange in self._eras.calls(era)]
                self._check_begin(era)
            self._check_ticks(event_type, starts[event_type])

    def _check_places(self, backend: str, calls: Sequence[Exchange]) -> None:
        under_way: list[Exchange] = []
        for call in calls:
            at = call.sent.mono
            under_way = [each for each in under_way if each.ended is None or each.ended > at]
            under_way.append(call)
            places = self._places(backend, at)
            if places is None:
                self._fail(at, f"{backend}: called, though it is removed")
            elif len(under_way) > places:
                self._fail(at, f"{backend}: {len(under_way)} calls at once, expected {places}")

    def _places(self, backend: str, at: float) -> int | None:
        """How many calls may be made at once; the largest that is right in this instant."""
        now = self._step_at(at).config.backends.get(backend)
        before = self._step_at(at - EDGE_S).config.backends.get(backend)
        found = [each.connections for each in (now, before) if each is not None]
        return max(found, default=None)

    def _step_at(self, at: float) -> Step:
        return self._steps[max(0, bisect_right(self._steps, at, key=lambda step: step.at) - 1)]

    def _check_begin(self, era: Era) -> None:
        """Who is added, or asked otherwise, is asked soon, and told once it was answered."""
        if era.since == 0.0 or era.until - era.since < SLACK_S:
            return
        backend = era.settings.backend
        config = self._step_at(era.since).config
        siblings = [each for each in config.sources.values() if each.backend == backend]
        queue_s = len(siblings) * (FAST_S / config.backends[backend].connections + 1 / A_SECOND)
        by = era.since + min(SOON_S, era.settings.interval_s) + queue_s + SLACK_S
        if by >= era.until or not self._is_calm(era.type, backend, era.since, by):
            return
        if not any(call.sent.mono <= by for call in self._eras.calls(era)):
            self._fail(by, f"{era.type}: not asked yet, though it is configured since {era.since:.3f}")
        told_by = by + FAST_S
        is_told = any(era.since <= at <= told_by for at in self._told_fresh[era.type])
        if not is_told and told_by < era.until and self._is_calm(era.type, backend, era.since, told_by):
            self._fail(told_by, f"{era.type}: not fresh yet, though it is configured since {era.since:.3f}")

    def _check_ticks(self, event_type: str, starts: Sequence[float]) -> None:
        """No tick is left out, nor moved, while nothing but reloads goes on."""
        for n, (before, at) in enumerate(pairwise(starts)):
            era = self._eras.at(event_type, before)
            if at >= era.until or not self._is_calm(event_type, era.settings.backend, before, at):
                continue
            apart, intervals = at - before, {s for _, s in self._eras.intervals(event_type, before, at)}
            if apart > 1.5 * max(intervals) + SLACK_S + self._line_s(era.settings.backend, at):
                self._fail(at, f"{event_type}: not asked for {apart:.3f} s, at {sorted(intervals)} s")
            if n and self._is_left_alone(era, starts[n - 1], at):
                interval_s = era.settings.interval_s if len(intervals) != 1 else min(intervals)
                was_on_grid = abs(before - starts[n - 1] - interval_s) < GRID_S
                if was_on_grid and abs(apart - interval_s) > GRID_S:
                    self._fail(at, f"{event_type}: asked {apart:.3f} s after its tick, at {interval_s:g} s")

    def _is_left_alone(self, era: Era, start: float, end: float) -> bool:
        """Whether no reload changed anything for it, and nobody poked its backend, between these two."""
        backend = era.settings.backend
        if start < era.since or not self._is_calm(era.type, backend, start, end):
            return False
        if any(name == backend and start - SLACK_S <= at <= end for at, name in self._record.pokes):
            return False
        steps = [self._step_at(start), *(step for step in self._steps if start < step.at <= end)]
        told = {
            (settings.interval_s, breaker_of(era.type, settings))
            for step in steps
            for settings in [step.config.sources.get(era.type, era.settings)]
        }
        is_one_session = not any(backend in step.renewed for step in steps[1:])
        has_room = all(
            step.config.backends[backend].connections
            > sum(each.backend == backend for each in step.config.sources.values())
            for step in steps
        )
        return len(told) == 1 and is_one_session and has_room

    def _line_s(self, backend: str, at: float) -> float:
        config = self._step_at(at).config
        settings = config.backends[backend]
        return sum(each.backend == backend for each in config.sources.values()) * FAST_S / settings.connections

    def _is_calm(self, event_type: str, backend: str, start: float, end: float) -> bool:
        """Whether nothing was wrong with a backend for so long that only reloads can be the cause of anything."""
        record = self._record
        names = {backend, f"{backend}/{event_type}"}
        if any(at < end + EDGE_S and until > start - EDGE_S for name in names for at, until in self._trouble[name]):
            return False
        if any(self._states.get(name, "closed") != "closed" for name in names):
            return False
        if any(begin <= end + SLACK_S and until >= start - SLACK_S for begin, until in record.sleeps):
            return False
        phases = record.scenario.fates[backend].phases
        if any(each.fault is not None and each.start <= end and each.end >= start - HELD_S for each in phases):
            return False
        calls = self._calls[backend]
        first = bisect_right(calls, start - REFUSED_S, key=lambda call: call.sent.mono)
        for call in calls[first:]:
            if call.sent.mono > end:
                break
            results: Sequence[Result] = call.results or [None]
            for result in results:
                if code(result) == "RPC_AUTH":
                    return False
                if (
                    isinstance(result, HttpStatus)
                    and result.status in {429, 503}
                    and call.sent.mono > start - 2 * HELD_S
                ):
                    return False
        return True

    def _fail(self, at: float, what: str) -> None:
        self._record.fail(at, what)


__all__: Sequence[str] = ["Step", "Switches", "items_of"]
