"""What the move of a breaker means for the backend: who is asked, who is told, and how long the outage lasted.

A breaker's move concerns all sources behind it. Whether it moves is decided in `breaker`.
"""

from collections.abc import Sequence
from typing import Literal

from tidegate.core.instant import Instant
from tidegate.core.measurements import BreakerMoved, OutageEnded
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.breaker_values import State, Transition
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.incidents import Incidents
from tidegate.core.polling.lineup import Lineup
from tidegate.core.polling.outage import Outage
from tidegate.core.polling.source import Source
from tidegate.core.polling.turn import Turn

Command = Literal["force-open", "force-closed", "reset"]
"""What an operator may do to a breaker."""


class Moves:
    """Takes in the moves of the breakers of one backend."""

    def __init__(self, plan: BackendPlan, parts: BackendParts, lineup: Lineup) -> None:
        self._name = plan.name
        self._parts = parts
        self._lineup = lineup
        self.incidents = Incidents(plan.name, parts)
        self._outage = Outage()

    @property
    def wake_at(self) -> float | None:
        """Monotonic time at which the log has to be told how an incident goes on; None if it has not."""
        return self.incidents.due_at

    def command(self, breaker_name: str, action: Command, now: Instant, out: Decision) -> None:
        """Carry out an operator's command on a breaker. Raises `KeyError` for a name that no breaker has."""
        breaker = self._parts.breakers[breaker_name]
        match action:
            case "force-open":
                transition = breaker.force_open(now)
            case "force-closed":
                transition = breaker.force_closed(now)
            case "reset":
                transition = breaker.reset(now)
        if action != "force-open":  # whoever lets calls through again means the whole backend
            self._parts.release()
        if transition is not None:
            self.take_in(transition, now, out)

    def take_in(self, transition: Transition, now: Instant, out: Decision, spoken: Sequence[Source] = ()) -> None:
        """A breaker moved: say so, and what that means for the sources behind it.

        `spoken` are the sources of the call that moved it, which have spoken in this decision.
        """
        out.moves.append(transition)
        self.incidents.moved(transition, now, out)
        out.measurements.append(BreakerMoved(transition.breaker, transition.state.value))
        breaker, behind = self._parts.breakers[transition.breaker], self._parts.behind[transition.breaker]
        self._parts.note_move(breaker.name, now)
        if transition.state is State.CLOSED:
            self._lineup.catch_up(breaker, self._parts.view(breaker.name, now), now)
        elif transition.state is State.OPEN:
            self._lineup.stop(behind)
            if not transition.forced:
                self._outage.begin(breaker.run.began)
        withdrawn = self._lineup.withdraw(now)
        for turn in withdrawn:
            self.not_asked(turn, now, out)
        silent = {*spoken, *(source for turn in withdrawn for source in turn.group)}
        for source in behind:
            # If its call is at its deadline, the end of that will say what the move means for it.
            if source not in silent and not source.calls.end.is_past_deadline(now):
                source.publish_changes(now, self._parts.seen_by(source, now), out)

    def not_asked(self, turn: Turn, now: Instant, out: Decision) -> None:
        """The sources of `turn` are not asked after all. Only those whose tick it was repeat what they said."""
        for source in turn.group:
            self._parts.not_asked([source], now, out, only_news=source not in turn.ticks)

    def call_ended(self, turn: Turn, now: Instant, out: Decision) -> None:
        """A call has ended. If the breakers are closed and everybody was asked since, an outage is over: measure it."""
        if not self._outage.is_on and not self.incidents.is_on:
            return
        if self._outage.is_on and turn.answered:
            self._outage.answered(now)
        if self._lineup.has_caught_up and all(breaker.is_closed for breaker in self._parts.breakers.values()):
            if self._outage.is_on:
                out.measurements.append(OutageEnded(self._name, self._outage.end()))
            self.incidents.settle(now, out)
