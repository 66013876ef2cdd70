"""Which source of a backend is asked next: on its tick, as the probe of a breaker, or because a hold has ended.

It owns the schedule, the queue for the backend's connections, and which turn in that queue is a probe. A breaker that
is not closed has at most one turn in the queue. What is said of a source that is not asked is decided in
`tidegate.core.polling.backend_state`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.measurements import TicksMissed
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.breaker import Breaker, Permit
from tidegate.core.polling.breaker_values import BreakerView
from tidegate.core.polling.carried import CarriedTicks
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.places import Places
from tidegate.core.polling.schedule import Schedule
from tidegate.core.polling.source import Source


class Turn:
    """Sources that are asked together, from waiting for a connection to the end of their call.

    `began` is when it got its connection. `sent` and `permit` are set once the breaker has admitted it.
    """

    __slots__ = ("began", "breaker", "group", "has_place", "is_over", "permit", "sent")

    began: Instant  # set together with `has_place`
    sent: Instant  # set together with `permit`

    def __init__(self, group: Sequence[Source], breaker: Breaker) -> None:
        self.group = group
        self.breaker = breaker
        self.has_place = False
        self.is_over = False
        self.permit: Permit | None = None


class Lineup:
    """The turns of one backend. `sources` and `breakers` are by name; `behind` are the sources of each breaker."""

    def __init__(
        self,
        plan: BackendPlan,
        *,
        sources: Mapping[str, Source],
        breakers: Mapping[str, Breaker],
        behind: Mapping[str, Sequence[Source]],
    ) -> None:
        self._batch = plan.batch
        self._sources = sources
        self._breakers = breakers
        self._behind = behind
        self._schedule = Schedule()
        self._places: Places[Turn] = Places(plan.connections)
        self._probes: dict[str, Turn] = {}  # by breaker, until it has a permit: from then on the breaker knows of it
        self._held_back: dict[str, None] = {}  # sources that missed a tick only because of a hold

    def begin(self, now: Instant, draw: Callable[[], float]) -> None:
        """Schedule the first poll of every source, soon; sources with the same interval are due together."""
        phases: dict[float, float] = {}
        for source in self._sources.values():
            interval_s = source.plan.spec.interval_s
            phase = phases.setdefault(interval_s, draw())
            self._schedule.add(source.type, interval_s=interval_s, phase=phase, now=now.mono)

    def resume(self, ticks: Mapping[str, CarriedTicks], held_back: Iterable[str], now: Instant) -> None:
        """Go on with ticks from another process, instead of `begin`."""
        for event_type, carried in ticks.items():
            self._schedule.resume(event_type, carried, now=now)
        self._held_back = dict.fromkeys(held_back)

    def carried(self, now: Instant) -> dict[str, CarriedTicks]:
        """The ticks of every source. A source that is being asked now is due at once after `resume`."""
        return {name: self._carried_ticks(source, now) for name, source in self._sources.items()}

    # when

    def wake_at(self) -> float | None:
        """Monotonic time at which a source is due: by a tick, as a probe, or at the end of a hold; None for never."""
        times = [self._schedule.next_at]
        times += [self._probe_at(name) for name in self._breakers]
        if self._held_back:
            times.append(self._hold_ends_at)
        return min((at for at in times if at is not None), default=None)

    def next_poll_at(self, source: Source, breaker: BreakerView, now: Instant) -> float:
        """Return the monotonic time at which `source` is asked next, unless its breaker refuses it."""
        at = max(self._schedule.next_due(source.type), source.backs_off_until)
        if breaker.held_until is None or now.mono >= breaker.held_until.mono:
            return at
        return breaker.held_until.mono if source.type in self._held_back else max(at, breaker.held_until.mono)

    def missed(self, source: Source) -> int:
        """Return how many ticks of `source` led to no poll because the backend, or this process, was too slow."""
        return self._schedule.missed(source.type)

    def count_missed(self, source: Source, into: Decision) -> None:
        """Measure the ticks of `source` that were missed since the last time."""
        missed = self.missed(source)
        if missed > source.missed_counted:
            into.measurements.append(TicksMissed(source.type, missed - source.missed_counted))
            source.missed_counted = missed

    # who

    def hint(self, event_types: Iterable[str], now: Instant) -> None:
        """Something changed at the backend: these sources are due now."""
        self._schedule.hint(event_types, now.mono)

    def spread(self, sources: Iterable[Source], now: Instant, draw: Callable[[], float]) -> None:
        """Their breaker has closed: ask `sources` one after the other within their intervals."""
        if not self._batch:  # a batch is one call anyway: its next tick is soon enough
            self._schedule.spread([source.type for source in sources], now.mono, jitter=draw())

    def follow_interval(self, source: Source, now: Instant) -> None:
        """`source` is asked at another interval from now on."""
        self._schedule.set_interval(source.type, source.interval_s, now.mono)

    def make_up_for_hold(self, now: Instant) -> None:
        """If a hold has ended, ask the sources that missed a tick because of it, one after the other."""
        if not self._held_back or now.mono < self._hold_ends_at:
            return
        # A breaker that is not closed gets its probe, and its sources are spread when it closes.
        names = [name for name in self._held_back if self._breakers[self._sources[name].plan.breaker].is_closed]
        names.sort(key=lambda name: self._sources[name].last_sent)
        self._held_back.clear()
        if self._batch:
            self._schedule.hint(names, now.mono)
        else:
            self._schedule.spread(names, now.mono, jitter=0.0)

    def take_due(self, now: Instant) -> dict[str, list[Source]]:
        """Take the sources that are due from the schedule, by breaker. Each is armed for its next tick.

        A source that is still being asked has missed its tick: that is counted.
        """
        due: dict[str, list[Source]] = {name: [] for name in self._breakers}
        for event_type in self._schedule.take_due(now.mono):
            source = self._sources[event_type]
            due[source.plan.breaker].append(source)
            if source.in_flight:
                self._schedule.miss(event_type)
        return due

    def line_up(self, breaker_name: str, due: Sequence[Source], now: Instant) -> list[Source]:
        """Queue the sources of a breaker that are to be asked now, for a connection. Return them.

        If the breaker is closed, these are all of `due` that may be asked; otherwise a probe alone.
        """
        asked = self._asked(breaker_name, due, now)
        breaker = self._breakers[breaker_name]
        for group in ([asked] if asked else []) if self._batch else [[source] for source in asked]:
            turn = Turn(group, breaker)
            for source in group:
                source.in_flight = True
            if not breaker.is_closed:
                self._probes[breaker_name] = turn
            asked_at = min(source.last_sent for source in group)
            self._places.wait(turn, asked_at=asked_at, probes=not breaker.is_closed)
        return asked

    def next(self, now: Instant) -> Turn | None:
        """Return the next turn, which has a connection from now on; None if none is free, or nobody waits."""
        turn = self._places.next()
        if turn is not None:
            turn.has_place = True
            turn.began = now
        return turn

    def withdraw(self, now: Instant) -> list[Source]:
        """Take the turns out of the queue that their breaker refuses now. Return their sources."""
        sources: list[Source] = []
        for turn in self._places.withdraw(lambda turn: turn.breaker.refusal(now) is not None):
            sources += turn.group
            self.note_held_back(turn.group, turn.breaker, now)
            self.end_turn(turn)
        return sources

    def note_held_back(self, sources: Iterable[Source], breaker: Breaker, now: Instant) -> None:
        """If only a hold keeps `sources` from being asked, ask them as soon as it ends."""
        if breaker.is_closed and breaker.refusal(now) is not None:
            self._held_back |= dict.fromkeys(source.type for source in sources)

    def forget_probe(self, turn: Turn) -> None:
        """The breaker was asked for a permit for `turn`: from now on the breaker knows whether a probe is out."""
        if self._probes.get(turn.breaker.name) is turn:
            del self._probes[turn.breaker.name]

    def end_turn(self, turn: Turn) -> None:
        """Free the connection of `turn` and let its sources be asked again. Has no effect if it is over already."""
        if turn.is_over:
            return
        turn.is_over = True
        self.forget_probe(turn)
        if turn.has_place:
            self._places.leave()
        for source in turn.group:
            source.end_turn()

    @property
    def held_back(self) -> Sequence[str]:
        """The sources that are asked as soon as the backend's hold ends."""
        return list(self._held_back)

    def _asked(self, breaker_name: str, due: Sequence[Source], now: Instant) -> list[Source]:
        breaker = self._breakers[breaker_name]
        refused = breaker.refusal(now) is not None
        ready = [source for source in due if source.may_be_asked(now)]
        if breaker.is_closed:
            self.note_held_back(ready, breaker, now)
            return [] if refused else ready
        able = [source for source in self._behind[breaker_name] if source.may_be_asked(now)]
        if refused or not able or breaker_name in self._probes:
            return []
        # The source that was asked longest ago: a source whose own call always fails must not be the probe each time.
        probe = min(able, key=lambda source: source.last_sent)
        return [probe, *(source for source in ready if source is not probe)] if self._batch else [probe]

    def _probe_at(self, breaker_name: str) -> float | None:
        """Monotonic time at which a source has to be chosen as the probe; None if time alone does not decide that."""
        at = self._breakers[breaker_name].probe_at_mono
        if at is None or breaker_name in self._probes:
            return None
        able_at = [source.backs_off_until for source in self._behind[breaker_name] if not source.in_flight]
        return max(at, min(able_at)) if able_at else None

    @property
    def _hold_ends_at(self) -> float:
        """Monotonic time at which the backend's newest hold ends or ended; it is the same for all its breakers."""
        held_until = next((breaker.view().held_until for breaker in self._breakers.values()), None)
        return LONG_AGO if held_until is None else held_until.mono

    def _carried_ticks(self, source: Source, now: Instant) -> CarriedTicks:
        ticks = self._schedule.carried(source.type, now)
        if not source.in_flight:
            return ticks
        return msgspec.structs.replace(ticks, next_at=now.wall, off_grid=True)
