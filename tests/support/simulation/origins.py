"""Which question was asked of a source when, and what the backends answered to it."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from simulation.backend import UNMAPPABLE
from simulation.sources import Items
from simulation.tap import Exchange
from tidegate.config import Config, SourceConfig


class InForce(Protocol):
    """What was in force from a time on; see `simulation.switches.Step`."""

    at: float
    config: Config
    others: frozenset[str]


class Answer(msgspec.Struct, frozen=True):
    """A good answer to a call that was sent at `sent`: what it says by key, and until which age that is fresh."""

    sent: float
    ended: float
    items: Items
    limit_s: float


class Era(msgspec.Struct, frozen=True, eq=False):
    """One source, asked one question of one service, from `since` to `until`. Everything else may change meanwhile."""

    type: str
    settings: SourceConfig
    since: float
    until: float


def question(settings: SourceConfig) -> tuple[object, ...]:
    """What makes the answers of a source another value."""
    return settings.backend, settings.method, settings.select, settings.items, settings.key


def items_of(settings: SourceConfig, data: object) -> Items | None:
    """What is published for an answer, by key; None if it is none, or without what the source looks for."""
    if not isinstance(data, bytes) or (data == UNMAPPABLE and (settings.select or settings.items)):
        return None
    if settings.select:
        return {"": bytes(msgspec.json.decode(data, type=dict[str, msgspec.Raw])[settings.select[1:]])}
    if settings.key is None:
        return {"": data}
    items = msgspec.json.decode(data, type=dict[str, list[msgspec.Raw]])["items"]
    return {msgspec.json.decode(item)["id"]: bytes(item) for item in items}


class Eras:
    """All eras of a world, and the calls and answers of each."""

    def __init__(self, steps: Sequence[Any], calls: Mapping[str, Sequence[Exchange]], *, end: float) -> None:
        self._steps = steps
        self._of: dict[str, list[Era]] = defaultdict(list)
        self._calls: dict[Era, list[Exchange]] = defaultdict(list)
        self._answers: dict[Era, list[Answer]] = defaultdict(list)
        self._given: dict[tuple[str, str, bytes], float] = {}
        self._divide(end)
        self._assign(calls)

    @property
    def types(self) -> Iterator[str]:
        return iter(self._of)

    def was_ever(self, event_type: str) -> bool:
        return event_type in self._of

    def of(self, event_type: str) -> Sequence[Era]:
        return self._of[event_type]

    def at(self, event_type: str, at: float) -> Era:
        """The era now, or the last before."""
        eras = self._of[event_type]
        return eras[max(0, bisect_right(eras, at, key=lambda era: era.since) - 1)]

    def calls(self, era: Era) -> Sequence[Exchange]:
        """The calls that were made for it, whatever came of them."""
        return self._calls[era]

    def answers(self, era: Era, *, until: float) -> Sequence[Answer]:
        """Its good answers, in the order of their requests."""
        return [answer for answer in self._answers[era] if answer.ended <= until]

    def attempted(self, era: Era, *, before: float) -> bool:
        """Whether a call for it has ended before this time."""
        return any(c.ended is not None and c.ended < before and c.results is not None for c in self._calls[era])

    def gave(self, event_type: str, key: str, data: bytes, *, until: float) -> bool:
        """Whether any answer ever said this of a source."""
        return self._given.get((event_type, key, data), float("inf")) <= until

    def intervals(self, event_type: str, start: float, end: float) -> Iterator[tuple[float, float]]:
        """The intervals that were configured between these two, and since when."""
        for step, after in zip(self._steps, [*self._steps[1:], None], strict=True):
            settings = step.config.sources.get(event_type)
            if settings is not None and step.at <= end and (after is None or after.at >= start):
                yield step.at, settings.interval_s

    def _divide(self, end: float) -> None:
        open_: dict[str, Era] = {}
        for step in self._steps:
            for event_type, era in list(open_.items()):
                settings = step.config.sources.get(event_type)
                is_same = settings is not None and question(settings) == question(era.settings)
                if not is_same or (era.settings.backend in step.others):
                    self._close(open_.pop(event_type), step.at)
            for event_type, settings in step.config.sources.items():
                if event_type not in open_:
                    open_[event_type] = Era(event_type, settings, step.at, end)
        for era in open_.values():
            self._close(era, end)

    def _close(self, era: Era, until: float) -> None:
        self._of[era.type].append(msgspec.structs.replace(era, until=until))

    def _assign(self, calls: Mapping[str, Sequence[Exchange]]) -> None:
        by_method = {(e.settings.backend, e.settings.method): e.type for eras in self._of.values() for e in eras}
        for backend, exchanges in calls.items():
            for exchange in exchanges:
                for n, method in enumerate(exchange.methods):
                    era = self.at(by_method[backend, method], exchange.sent.mono)
                    if question(era.settings)[:2] != (backend, method):
                        continue  # of the turn in which a reload changed it: nobody may take its answer
                    self._calls[era].append(exchange)
                    self._take(era, exchange, n)

    def _take(self, era: Era, exchange: Exchange, n: int) -> None:
        items = None if exchange.results is None else items_of(era.settings, exchange.results[n])
        if items is None or exchange.ended is None:
            return
        for key, data in items.items():
            self._given.setdefault((era.type, key, data), exchange.ended)
        intervals = self.intervals(era.type, exchange.sent.mono, exchange.ended + 10_000.0)
        longest = max(interval_s for _, interval_s in intervals)
        timeout_s = max(step.config.backends[era.settings.backend].timeout_s for step in self._steps if era.settings.backend in step.config.backends)  # fmt: skip # noqa: E501
        limit_s = max(2 * longest, longest + timeout_s)
        self._answers[era].append(Answer(exchange.sent.mono, exchange.ended, items, limit_s))
