"""How soon a failure and a recovery have to be told: the bounds of `recovery.md`, "What must hold".

Phases in which a backend does nothing well are held to the first, those in which it is well after others to the second.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

from simulation.backend import FAST_S, LOOKUP_S
from simulation.breakers import Opening
from simulation.knocks import knock_by
from simulation.rates import Rates
from simulation.record import Record
from simulation.scenario import TOTAL, Fault, Phase
from simulation.sources import Source

SLACK_S = 0.5

JITTER = 0.2

SLOW = frozenset(
    {
        Fault.UNANSWERED,
        Fault.SLOW_NAME,
        Fault.HANG,
        Fault.LATE,
        Fault.RACE,
        Fault.CHAOS,
        Fault.OVERLOAD,
        Fault.ONE_BROKEN,
    }
)
"""Faults after which a probe or a knock may still wait for its end."""


class Bounds:
    """Held against a whole world, once `sources` know what was told of them."""

    def __init__(self, record: Record, sources: Mapping[str, Source], rates: Mapping[str, Rates]) -> None:
        self._record = record
        self._sources = sources
        self._rates = rates

    def check(self) -> None:
        for name, fate in self._record.scenario.fates.items():
            sources = [source for source in self._sources.values() if source.settings.backend == name]
            for before, phase in itertools.pairwise([None, *fate.phases]):
                assert phase is not None
                for source in sources:
                    if phase.fault in TOTAL:
                        self._check_noticed(source, phase.start, phase.end)
                    elif phase.fault is None and before is not None:
                        slow = [each.end for each in fate.phases if each.fault is Fault.SLOW_NAME]
                        looked_up_at = max((end + LOOKUP_S for end in slow if end <= phase.start), default=0.0)
                        self._check_recovered(source, before, phase, sources, looked_up_at)

    def _check_noticed(self, source: Source, start: float, end: float) -> None:
        """By its next tick, and the end of that call."""
        calls_s = source.timeout_s * (1 if source.timeout_s < source.settings.interval_s else 2)
        by = self._awake(start, start + 1.5 * source.settings.interval_s + calls_s + source.wait_s + SLACK_S)
        if source.model.hold.was_on(start, by):
            return  # nobody is asked; that it grows too old is told, as ever
        fresh_all_along = not source.stale_sometime(start, by)
        if by < end and fresh_all_along and source.turns and source.turns[0][0] < start:
            self._record.fail(by, f"{source.type}: not told stale, though its backend failed at {start:.3f}")

    def _check_recovered(
        self, source: Source, before: Phase, phase: Phase, siblings: Sequence[Source], looked_up_at: float
    ) -> None:
        start, end = max(phase.start, looked_up_at), phase.end
        by = self._fresh_by(source, before, start, siblings) + SLACK_S
        by = self._awake(start - source.tick_s, by)
        end = min([end, *(begin for begin, _ in self._record.sleeps if begin >= by)])
        if by < end and source.stale_sometime(by, end):
            self._record.fail(
                by, f"{source.type}: not fresh by then, though its backend is well since {phase.start:.3f}"
            )
        if phase.end == self._record.scenario.duration_s and by >= end:
            self._record.fail(by, f"{source.type}: the calm is too short to judge, {by - end:.3f} s")

    def _fresh_by(self, source: Source, before: Phase, start: float, siblings: Sequence[Source]) -> float:
        settled = start + source.timeout_s + SLACK_S  # by then every call has ended that began before
        holds = [until for since, until in source.model.hold.spans if since <= settled]
        begin = max([start, *holds[-1:]])
        opening = self._opening_at(source, start, settled)
        if opening is None:
            by = self._asked_by(source, begin, settled, siblings)
        else:
            by = self._probed_by(source, opening, before, begin, settled) + self._caught_up_s(source, siblings)
        if holds and holds[-1] > start - source.tick_s:  # after a hold everybody is asked at the normal rate
            by += len(siblings) / max(1.0, self._rates[source.settings.backend].normal)
        waits = [able_at for at, able_at in source.account.waits if at <= settled]
        if waits and waits[-1] > start - source.tick_s:
            by = max(by, waits[-1] + source.tick_s + source.wait_s)
        return by

    def _opening_at(self, source: Source, start: float, settled: float) -> Opening | None:
        """The opening that its breaker has to come back from; None if it is closed."""
        model = source.model
        openings = [opening for opening in model.opened if opening.at <= settled]
        closings = [at for at in model.closed_at if at <= start]
        if not openings or (closings and closings[-1] >= openings[-1].at):
            return None
        return openings[-1]

    def _asked_by(self, source: Source, begin: float, settled: float, siblings: Sequence[Source]) -> float:
        """By its next tick; or by its repetition, where it is the only one that fails."""
        by = begin + 1.5 * source.settings.interval_s + source.timeout_s + source.wait_s
        settings = self._record.scenario.config.backends[source.settings.backend]
        last = next((end for end in reversed(source.ends) if end.at <= settled), None)
        if last is None or not settings.retry_s or source.wait_s or source.account.was_refused(last.at):
            return by
        if source.model.hold.was_on(last.at, begin + SLACK_S):
            return by
        failing = [each for each in siblings if any(end.at >= last.at and end.in_row for end in each.ends)]
        wait_s = settings.retry_s if last.is_unreachable else settings.retry_s * 2.0 ** (last.in_row - 1)
        if last.timed_out and not last.is_unreachable:
            wait_s = max(wait_s, source.timeout_s)
        has_room = failing == [source] and (last.in_row == 1 or wait_s * (1 - JITTER) > 1.0)
        if has_room and wait_s * (1 + JITTER) < source.settings.interval_s:
            by = min(by, max(begin, last.at + wait_s * (1 + JITTER)) + FAST_S)
        return by

    def _probed_by(self, source: Source, opening: Opening, before: Phase, begin: float, settled: float) -> float:
        model = source.model
        siblings = [each for each in self._sources.values() if each.model is model]
        begin = max(begin, opening.at)
        by = max(begin, opening.retry_at)
        is_silent = opening.unanswered or before.fault in SLOW
        if is_silent:
            by += source.timeout_s
        if opening.unreachable:
            knocked_by = knock_by(begin, opening.began)
            if opening.doubled:
                knocked_by = begin + min((knocked_by - begin) * 2**opening.doubled, 1.2 * model.open_max_s)
            if is_silent:
                knocked_by += source.timeout_s
            flap_s = min(2.0 ** (opening.nth - 2), model.open_max_s) if opening.nth > 1 else 0.0
            by = min(by, max(knocked_by, opening.at + flap_s))
        able_at = [
            max([float("-inf"), *(able for at, able in each.account.waits if at <= settled)]) for each in siblings
        ]
        successes = self._record.scenario.config.backends[source.settings.backend].breaker.half_open_successes
        waits_s = source.timeout_s if source.wait_s else 0.0
        return max(by, min(able_at)) + waits_s + successes * FAST_S

    def _caught_up_s(self, source: Source, siblings: Sequence[Source]) -> float:
        """How much later than the first the last source is fresh."""
        places = self._record.scenario.config.backends[source.settings.backend].connections
        count, rate = len(siblings), min(places / FAST_S, self._rates[source.settings.backend].cap)
        return count / rate + FAST_S * (1 + math.log2(min(count, places)))

    def _awake(self, start: float, by: float) -> float:
        """Nobody is told anything by a machine that sleeps; what it missed it makes up for."""
        for begin, end in self._record.sleeps:
            if begin <= by and end >= start:
                by = max(by, end) + (by - start)
        return by
