"""Which source of a backend is asked next, and why: every reason to ask one comes together here.

A source is asked on its tick, as the probe of a breaker, because somebody asked for it, once more after a failed call
(`repetitions`), or because the backend is back (`catching_up`). A knock (`knocking`) asks nothing, but takes a
connection too. Who waits for a connection, and who has one, is kept in `line`.

What is said of a source that is not asked is decided in `tidegate.core.polling.backend_state`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from tidegate.core.instant import LONG_AGO, Instant
from tidegate.core.measurements import RepetitionEnded
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.breaker_values import BreakerView
from tidegate.core.polling.carried import CarriedTicks
from tidegate.core.polling.catching_up import CatchingUp, in_turn
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.held_back import HeldBack
from tidegate.core.polling.line import Line
from tidegate.core.polling.probing import Probing
from tidegate.core.polling.punctuality import LATE_S, Punctuality
from tidegate.core.polling.repetitions import Repetitions
from tidegate.core.polling.schedule import Schedule
from tidegate.core.polling.source import Source
from tidegate.core.polling.turn import Turn, Why


class Lineup:
    """The turns of one backend and its `parts`. `schedule` has the ticks of every source.

    `draw` returns a random number in [0, 1). `can_knock` says whether there is a way to knock.
    """

    def __init__(self, plan: BackendPlan, parts: BackendParts, *, draw: Callable[[], float], can_knock: bool) -> None:
        self._plan = plan
        self._sources, self._breakers, self._behind = parts.sources, parts.breakers, parts.behind
        self._draw = draw
        self.schedule = Schedule()
        self.punctuality = Punctuality()
        rate_per_s, at_once = plan.normal_rate_per_s, 1 if plan.batch else plan.connections
        self._repetitions = Repetitions(plan, rate_per_s=rate_per_s)
        self._catching_up = CatchingUp(rate_per_s=rate_per_s, connections=at_once)
        self.line = Line(plan.connections, over=self._over)
        self.probing = Probing(
            plan,
            line=self.line,
            limits=self._catching_up,
            parts=parts,
            draw=draw,
            can_knock=can_knock,
        )
        self._asked_for: dict[Source, None] = {}
        self._held_back = HeldBack(parts.breakers)

    def begin(self, now: Instant) -> None:
        """Schedule the first poll of every source, soon; sources with the same interval are due together."""
        phases: dict[float, float] = {}
        for source in self._sources.values():
            interval_s = source.plan.spec.interval_s
            phase = phases.setdefault(interval_s, self._draw())
            self.schedule.add(source.type, interval_s=interval_s, phase=phase, now=now.mono)

    def resume(
        self, ticks: Mapping[str, CarriedTicks], *, held_back: Iterable[str], due: Iterable[str], now: Instant
    ) -> None:
        """Go on with ticks from another process, instead of `begin`. Ask those that are `due` one after the other."""
        for event_type, carried in ticks.items():
            self.schedule.resume(event_type, carried, now=now)
        self._held_back.add(self._sources[name] for name in held_back)
        self._catch_up([self._sources[name] for name in due], now)

    @property
    def held_back(self) -> list[str]:
        """The sources that are asked as soon as the backend's hold ends."""
        return self._held_back.names

    @property
    def due(self) -> list[str]:
        """The sources that are to be asked before their next tick, or are being asked."""
        waiting = {*self._asked_for, *self._repetitions.waiting, *self._catching_up.waiting}
        return [each.type for each in self._sources.values() if each in waiting or each.calls.in_flight]

    # when

    def wake_at(self) -> float | None:
        """Monotonic time at which there is a source to ask or a knock to make; None for never."""
        times = [self.schedule.next_at, self._repetitions.next_at, self._catching_up.next_at]
        times += [self.probing.wake_at(), self._held_back.wake_at]
        if self._asked_for:
            times.append(LONG_AGO)
        return min((at for at in times if at is not None), default=None)

    def next_poll_at(self, source: Source, breaker: BreakerView, now: Instant) -> float:
        """Return the monotonic time at which `source` is asked next, unless its breaker refuses it."""
        at = self.schedule.next_due(source.type)
        repeated_at = self._repetitions.due_at(source)
        at = max(at if repeated_at is None else min(at, repeated_at), source.calls.waits_until)
        if breaker.held_until is None or now.mono >= breaker.held_until.mono:
            return now.mono if source in self._catching_up.waiting else at
        return breaker.held_until.mono if source in self._held_back else max(at, breaker.held_until.mono)

    # another configuration

    def follow_plan(self, plan: BackendPlan, gone: Collection[Source]) -> None:
        """Ask by another `plan` from now on, and none of the sources that are `gone`."""
        self.forget(gone)
        self._plan = plan
        rate_per_s, at_once = plan.normal_rate_per_s, 1 if plan.batch else plan.connections
        self._repetitions.follow(plan, rate_per_s=rate_per_s)
        self._catching_up.follow(rate_per_s=rate_per_s, connections=at_once)
        self.line.resize(plan.connections)
        self.probing.follow(plan)

    def forget(self, gone: Collection[Source]) -> None:
        """Ask none of these any more. Others of their types keep their ticks."""
        self.stop(gone)
        self._held_back.forget(gone)
        for source in gone:
            self._asked_for.pop(source, None)
            if source.type not in self._sources:
                self.schedule.remove(source.type)

    def follow_session(self, *, can_knock: bool, into: Decision) -> list[Turn]:
        """The backend is called in another session: end all turns. Return them, since their permits have no outcome."""
        self._held_back.forget(self._sources.values())
        self.probing.follow_session(can_knock=can_knock, into=into)
        return self.line.clear()

    # reasons to ask

    def ask(self, sources: Iterable[Source]) -> None:
        """Somebody wants these to be asked now. Those that may not be asked then are left out."""
        self._asked_for |= dict.fromkeys(sources)

    def repeat(self, failed: Sequence[Source], *, unreachable: bool, now: Instant) -> None:
        """The calls of `failed`, which were made together, failed: repeat them soon."""
        self._repetitions.plan(failed, now=now, unreachable=unreachable, draw=self._draw)

    def catch_up(self, breaker: Breaker, view: BreakerView, now: Instant) -> None:
        """`breaker` has closed: ask the sources behind it that know nothing of now, one after the other."""
        wanted = [
            source
            for source in self._behind[breaker.name]
            if source.calls.may_begin(now) and (source.calls.tick_refused or source.freshness.status(now, view).stale)
        ]
        self._catch_up(wanted, now, after_hold=breaker.was_held)

    def follow(self, sources: Iterable[Source], now: Instant) -> None:
        """There is news of `sources`, or their account is let in again: ask them one after the other."""
        self._catch_up(list(sources), now)

    def stop(self, sources: Collection[Source]) -> None:
        """The breaker of `sources` has opened, or the backend is held: they are not asked between two ticks."""
        self._catching_up.stop(sources)
        self.punctuality.given_up(sources)
        for source in sources:
            self._repetitions.drop(source)

    def hold(self) -> None:
        """The backend asks to be left alone: those that are yet to be asked are asked when that is over."""
        self._held_back.add([*self._catching_up.waiting, *self._repetitions.waiting])
        self.stop(self._sources.values())

    @property
    def has_caught_up(self) -> bool:
        """Whether nobody is yet to be asked because the backend is back."""
        return self._catching_up.is_over

    # who

    def take_due(self, now: Instant) -> dict[str, list[Source]]:
        """Take the sources whose tick is due from the schedule, by breaker.

        A source that is still being asked has missed its tick: that is counted. One whose tick comes very late is asked
        as after a recovery.
        """
        due: dict[str, list[Source]] = {name: [] for name in self._breakers}
        ticks, late = self.schedule.take_due(now.mono), []
        is_late = any(now.mono - tick.at > LATE_S for tick in ticks)
        for tick in ticks:
            source = self._sources[tick.name]
            due[source.plan.breaker].append(source)
            if source.calls.in_flight:
                self.schedule.miss(tick.name)
                continue
            self.punctuality.ticked(source, tick.at)
            if is_late and self._breakers[source.plan.breaker].is_closed:
                late.append(source)
        self._catch_up(late, now)
        return due

    def line_up(self, breaker_name: str, ticked: Sequence[Source], now: Instant, into: Decision) -> Collection[Source]:
        """Line up those sources of a breaker that are asked now because of their tick, or as its probe. Return them."""
        breaker = self._breakers[breaker_name]
        if not breaker.is_closed:
            asked = self.probing.line_up(breaker, ticked, now, into)
            self.refused((source for source in ticked if source not in asked), breaker, now)
            return asked
        ready = [source for source in ticked if source.calls.may_begin(now) and not self._is_asked_soon(source, now)]
        asked, waiting = set(ready), self._catching_up.waiting
        self.punctuality.given_up(each for each in ticked if each not in asked and each not in waiting)
        if breaker.refusal(now) is not None:
            self.refused(ready, breaker, now)
            return []
        self._add(ready, breaker, Why.TICK, ticks=asked)
        return asked

    def line_up_others(self, now: Instant, into: Decision) -> None:
        """Line up the sources that are asked now for another reason than their tick."""
        self._catch_up(self._held_back.take(now), now, after_hold=True)
        for name in self._breakers if self._asked_for else ():
            asked_for = [source for source in self._asked_for if source.plan.breaker == name]
            self._add(self._askable(asked_for, now), self._breakers[name], Why.ASKED_FOR)
        self._asked_for.clear()
        for group in self._repetitions.take_due(now):
            if ready := self._askable(group, now):
                if self.line.has_room and self._repetitions.begin(now):
                    self.line.add(Turn(ready, self._breakers[ready[0].plan.breaker], Why.REPETITION))
                else:
                    into.measurements.append(RepetitionEnded(self._plan.name, "no_room"))
        while (behind := self._catching_up.take(now)) is not None:
            breaker, ready = self._breakers[behind[0].plan.breaker], self._askable(behind, now)
            turn = Turn(ready, breaker, Why.CATCHING_UP) if ready else self.probing.after_knock(breaker, now)
            if turn is not None:
                self._catching_up.began(turn, now)
                self.line.add(turn)

    def withdraw(self, now: Instant) -> list[Turn]:
        """Take the turns out of the line that their breaker refuses now. Return them."""
        turns = self.line.withdraw(lambda turn: turn.breaker.refusal(now, reached=turn.reached) is not None)
        for turn in turns:
            self.refused(turn.group, turn.breaker, now)
        return turns

    def refused(self, sources: Iterable[Source], breaker: Breaker, now: Instant) -> None:
        """`breaker` does not let these be asked: ask them as soon as it does, or when the hold is over."""
        self.punctuality.given_up(sources := list(sources))
        if not breaker.is_closed:
            for source in sources:
                source.calls.tick_refused = True
        elif breaker.refusal(now) is not None:
            self._held_back.add(sources)

    def sent(self, turn: Turn, now: Instant, into: Decision) -> None:
        """The call of `turn` is sent now. It takes the place of repetitions."""
        self.punctuality.sent(turn, now, into)
        timeout_s = turn.timeout_s  # of all of them: a batch may have thousands
        for source in turn.group:
            self._repetitions.drop(source)
            source.calls.sent(now, at_tick=source in turn.ticks, timeout_s=timeout_s)

    def _over(self, turn: Turn) -> None:
        if turn.why is Why.REPETITION:
            self._repetitions.ended()
        self._catching_up.ended(turn)
        self.probing.ended(turn)
        self.punctuality.given_up(turn.group)
        self.ask([source for source in turn.group if source.calls.take_change()])

    def _add(self, ready: Sequence[Source], breaker: Breaker, why: Why, *, ticks: Collection[Source] = ()) -> None:
        for group in [ready] if self._plan.batch and ready else [[source] for source in ready]:
            self.line.add(Turn(group, breaker, why, ticks=ticks))

    def _askable(self, sources: Iterable[Source], now: Instant) -> list[Source]:
        """Those of `sources` that may be asked between two ticks. If only a hold keeps one from it, it is held back."""
        able = []
        for source in sources:
            breaker = self._breakers[source.plan.breaker]
            if not breaker.is_closed or not source.calls.may_begin(now):
                continue
            if breaker.refusal(now) is None:
                able.append(source)
            else:
                self.refused([source], breaker, now)
        return able

    def _is_asked_soon(self, source: Source, now: Instant) -> bool:
        """Whether its tick makes no call: it was asked since the tick before, or is about to be."""
        return source in self._catching_up.waiting or now.mono < source.calls.last_off_grid + source.interval_s / 2

    def _catch_up(self, sources: Sequence[Source], now: Instant, *, after_hold: bool = False) -> None:
        """Ask `sources` once: longest ago first, those never answered last, and after them those that fail alone."""
        groups: dict[object, list[Source]] = {}
        for source in in_turn(sources):
            together = (source.plan.breaker, source.interval_s) if self._plan.batch else source
            groups.setdefault(together, []).append(source)
            self._repetitions.drop(source)
        if groups:
            self._catching_up.begin(groups.values(), now, after_hold=after_hold)
