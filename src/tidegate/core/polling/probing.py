"""Which source is the probe of a breaker that is not closed, and when a knock brings it forward.

A probe is due when the breaker says so. A knock occupies a connection, and leaves it to the probe if the backend can be
reached. When knocks are due is decided in `knocking`.
"""

from collections.abc import Callable, Collection, Sequence

from tidegate.core.instant import Instant
from tidegate.core.measurements import KnockEnded
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.catching_up import CatchingUp
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.knocking import Knocking
from tidegate.core.polling.line import Line
from tidegate.core.polling.source import Source
from tidegate.core.polling.turn import Knock, Turn, Why


class Probing:
    """The probes and knocks of one backend, which wait in `line` with all other turns.

    Probes that one knock brings forward for several breakers have the `limits` of catching up, and share them with it.
    """

    def __init__(
        self,
        plan: BackendPlan,
        *,
        line: Line,
        limits: CatchingUp,
        parts: BackendParts,
        draw: Callable[[], float],
        can_knock: bool,
    ) -> None:
        self._plan = plan
        self._line = line
        self._limits = limits
        self._breakers = parts.breakers
        self._behind = parts.behind
        self._draw = draw
        self._can_knock = can_knock
        self._may_knock = can_knock
        self._held_until: float | None = None  # no knock is wanted before that
        self._knocking = Knocking(open_max_s=plan.breaker.open_max_s)
        self._reached: dict[str, int] = {}  # breakers whose probe a knock has brought forward, and their generation

    def follow(self, plan: BackendPlan) -> None:
        """Probe and knock by another `plan` from now on. Breakers that it has no longer are forgotten."""
        self._plan = plan
        self._knocking.open_max_s = plan.breaker.open_max_s
        self._knocking.keep(self._breakers)
        self._reached = {name: each for name, each in self._reached.items() if name in self._breakers}

    def follow_session(self, *, can_knock: bool, into: Decision) -> None:
        """The backend is called in another session from now on: what the last knock found says nothing of it."""
        self._can_knock = can_knock
        self._drop_knock(into)
        self._reached.clear()

    def wake_at(self) -> float | None:
        """Monotonic time at which there is a probe or a knock to begin; None if time alone does not decide that."""
        times = [self._held_until, *(self._probe_at(name) for name in self._breakers)]
        if self._may_knock and self._line.has_room:
            times.append(self._knock_at())
        return min((at for at in times if at is not None), default=None)

    def line_up(self, breaker: Breaker, ticked: Sequence[Source], now: Instant, into: Decision) -> Collection[Source]:
        """Line up the probe of `breaker` if it is due. Return its sources, which with batches are all of `ticked` too.

        A knock that is under way is dropped: the probe needs its connection.
        """
        probe_at = breaker.probe_at_mono
        if probe_at is None or now.mono < probe_at or self._line.has_probe(breaker.name):
            return []
        able = [source for source in self._behind[breaker.name] if source.calls.may_begin(now)]
        if not able:
            return []
        self._drop_knock(into)
        turn = self._probe(breaker, able, ticked, now)
        self._line.add(turn)
        return turn.group

    def knock(self, now: Instant, into: Decision, *, may_begin: bool = True) -> Knock | None:
        """Begin a knock if one is due and `may_begin`, and drop the one under way if nobody wants it any more.

        Call it whenever a breaker may have moved. A knock ends with `knocked`.
        """
        self._may_knock = self._can_knock and may_begin
        if not self._can_knock:
            return None
        self._knocking.follow(self._breakers.values(), now, self._draw)
        holds = [breaker.view().held_until for breaker in self._breakers.values() if breaker.is_held(now)]
        self._held_until = max((until.mono for until in holds if until is not None), default=None)
        self._reached = {
            name: generation
            for name, generation in self._reached.items()
            if self._breakers[name].generation == generation and self._behind[name][0] in self._limits.waiting
        }
        current = self._knocking.current
        if current is not None and not self._knocking.is_wanted(current):
            self._drop_knock(into)
        at = self._knock_at()
        if not may_begin or at is None or now.mono < at or not self._line.occupy():
            return None
        return self._knocking.begin(self._breakers, now, self._draw)

    def knocked(self, knock: Knock, *, reached: bool, now: Instant, into: Decision) -> Turn | None:
        """`knock` has ended. If the backend was `reached`, return the probe, which has the connection of the knock.

        The probes of other breakers that wanted the same knock follow within the limits of catching up.
        """
        if knock.is_over:
            return None
        names = self._knocking.end(knock, now)
        into.measurements.append(KnockEnded(self._plan.name, "reachable" if reached else "unreachable"))
        self._reached = {name: knock.generations[name] for name in names if reached}
        probes = (self.after_knock(self._breakers[name], now) for name in names)
        first = next((turn for turn in probes if turn is not None), None)
        if first is None:
            self._line.end_knock(knock)
            return None
        knock.is_over = True
        self._line.hand_over(first, now)
        if self._reached:
            self._limits.begin([[self._behind[name][0]] for name in self._reached], now, after_hold=False)
            self._limits.began(first, now)
        return first

    def after_knock(self, breaker: Breaker, now: Instant) -> Turn | None:
        """Return the probe of `breaker`, if a knock has brought it forward and `breaker` has not moved since."""
        able = [source for source in self._behind[breaker.name] if source.calls.may_begin(now)]
        if self._reached.pop(breaker.name, None) != breaker.generation or not able:
            return None
        if breaker.refusal(now, reached=True) is not None or self._line.has_probe(breaker.name):
            return None
        return self._probe(breaker, able, [], now, reached=True)

    def ended(self, turn: Turn) -> None:
        """A turn has ended. If it was a probe that failed, what the last knock found is no longer true."""
        if turn.why is Why.PROBE and turn.answered is False:
            self._reached.clear()

    def abandoned(self, knock: Knock, now: Instant) -> None:
        """`knock` was cancelled before it found anything. Has no effect if it is over already."""
        if not knock.is_over:
            self._knocking.end(knock, now)
            self._line.end_knock(knock)

    def _probe_at(self, breaker_name: str) -> float | None:
        at = self._breakers[breaker_name].probe_at_mono
        if at is None or self._line.has_probe(breaker_name):
            return None
        able_at = self._able_at(breaker_name)
        return None if able_at is None else max(at, able_at)

    def _knock_at(self) -> float | None:
        if self._reached:  # there is nothing to find out before their probes went
            return None
        times = []
        for name, at in self._knocking.due():
            able_at = self._able_at(name)
            if able_at is not None and not self._line.has_probe(name):
                times.append(max(at, able_at))
        return min(times, default=None)

    def _able_at(self, breaker_name: str) -> float | None:
        """Monotonic time from which a source can be the probe; None while all of them are being asked."""
        times = [source.calls.waits_until for source in self._behind[breaker_name] if not source.calls.in_flight]
        return min(times, default=None)

    def _probe(
        self, breaker: Breaker, able: Sequence[Source], ticked: Sequence[Source], now: Instant, *, reached: bool = False
    ) -> Turn:
        # The source that was asked longest ago: a source whose own call always fails must not be the probe each time.
        probe = min(able, key=lambda source: source.calls.last_sent)
        others = [source for source in ticked if source is not probe and source.calls.may_begin(now)]
        group = [probe, *others] if self._plan.batch else [probe]
        return Turn(group, breaker, Why.PROBE, ticks={*group} & {*ticked}, reached=reached)

    def _drop_knock(self, into: Decision) -> None:
        if (knock := self._knocking.current) is not None:
            self._knocking.drop()
            self._line.end_knock(knock)
            into.measurements.append(KnockEnded(self._plan.name, "dropped"))
