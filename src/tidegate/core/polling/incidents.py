"""The incidents of one backend, as the lines that the log gets of them.

There is one for the backend, whatever the failures that its breakers count say, since a backend that dies may refuse
some calls and leave others unanswered. Beside it there is one for each error code that says nothing about the backend,
such as a refused account: that is one cause, too, however many sources it concerns.
"""

from collections.abc import Collection
from typing import Literal

from tidegate.core.instant import Instant
from tidegate.core.log_events import RepeatingFault
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.breaker_values import Reason, State, Transition
from tidegate.core.polling.decision import Decision, Note
from tidegate.core.polling.incident import Incident, Say
from tidegate.core.polling.notes import (
    IncidentNow,
    backend_held,
    breaker_moved,
    failing,
    failing_otherwise,
    flapping,
    recovered,
    removed,
    steady,
)
from tidegate.core.polling.outcome import Fault, Outcome, Verdict
from tidegate.errors import ErrorCode

Cause = ErrorCode | None
"""What the failures of one incident have in common: that they blame the backend (None), or a code."""

OF_OPERATORS = frozenset({Reason.FORCE_OPEN, Reason.FORCE_CLOSED, Reason.RESET, Reason.RELOAD})
"""Moves of a breaker that belong to no incident: each of them is said."""


class Incidents:
    """Keeps the incidents of the backend `name`, and adds the notes about them to decisions."""

    def __init__(self, name: str, parts: BackendParts) -> None:
        self._name = name
        self._parts = parts
        self._incidents: dict[Cause, Incident] = {}
        self._causes: dict[str, Cause] = {}  # of the sources that fail
        self._pauses = RepeatingFault()
        self._owed: list[Note] = []

    @property
    def is_on(self) -> bool:
        """Whether there is an incident, or was one."""
        return bool(self._incidents)

    @property
    def due_at(self) -> float | None:
        """Monotonic time of the next `tick` that has something to say; None if time alone brings nothing."""
        return min((at for each in self._incidents.values() if (at := each.due_at) is not None), default=None)

    def ended(self, event_type: str, outcome: Outcome, now: Instant, into: Decision) -> None:
        """A call for a source has ended."""
        if not isinstance(outcome, Fault):
            if event_type in self._causes:
                self._leave(event_type, now, into)
            return
        cause = None if outcome.verdict is Verdict.FAILURE else outcome.code
        if self._causes.get(event_type, cause) is not cause:
            self._leave(event_type, now, into)
        self._causes[event_type] = cause
        incident = self._at(cause, now)
        self._note(incident, incident.failed(event_type, outcome, now), now, into, event_type=event_type)

    def moved(self, move: Transition, now: Instant, into: Decision) -> None:
        """A breaker has moved. Moves of an incident are details: its lines say how often the breaker has opened."""
        is_news = move.forced or move.reason in OF_OPERATORS
        if move.state is State.OPEN and not move.forced:
            incident = self._at(None, now)
            say = None
            if move.from_state is State.CLOSED:
                say = incident.opened(self._parts.serves[move.breaker], now)
            else:
                incident.openings += 1  # a probe has failed
            if say is Say.OPENED:
                is_news = True
            else:
                self._note(incident, say, now, into)
        into.notes.append(breaker_moved(self._name, move, "info" if is_news else "debug"))

    def settle(self, now: Instant, into: Decision) -> None:
        """The breakers are closed, and everybody was asked since: the backend is well unless sources fail."""
        incident = self._incidents.get(None)
        if incident is not None:
            self._note(incident, incident.settle(now), now, into)

    def held(self, until: Instant, now: Instant, into: Decision) -> None:
        """The backend asks for no call before `until`. One that asks again and again is said once a minute."""
        line = self._pauses.occurred(now.mono)
        if line is not None:
            into.notes.append(backend_held(self._name, until, line.suppressed))

    def removed(
        self,
        event_types: Collection[str],
        now: Instant,
        into: Decision,
        *,
        reason: Literal["removed by reload", "changed by reload"] = "removed by reload",
    ) -> None:
        """These sources are not polled any more, or are other ones, for this `reason`: their incidents are over."""
        into.notes += self._owed
        self._owed.clear()
        for event_type in event_types:
            if event_type not in self._causes:
                continue
            cause = self._causes.pop(event_type)
            incident = self._incidents[cause]
            incident.answered(event_type)
            if not incident.failing:
                del self._incidents[cause]
                if incident.was_said:
                    into.notes.append(removed(self._about(incident, now), reason))

    def released(self, event_types: Collection[str], now: Instant) -> None:
        """These sources are polled by another backend from now on. The next `removed` says what that ends."""
        out = Decision()
        self.removed(event_types, now, out)
        self._owed += out.notes

    def tick(self, now: Instant, into: Decision) -> None:
        """Time has passed."""
        due_at = self.due_at
        if due_at is None or now.mono < due_at:
            return
        for cause, incident in list(self._incidents.items()):
            self._note(incident, incident.tick(now), now, into)
            if incident.is_over(now):
                del self._incidents[cause]

    def say_open(self, now: Instant, into: Decision) -> None:
        """Say once more each incident that is said and not over."""
        for incident in self._incidents.values():
            if incident.was_said and incident.is_flapping:
                into.notes.append(flapping(self._about(incident, now)))
            elif incident.was_said and incident.is_failing:
                into.notes.append(failing(self._about(incident, now)))

    def _at(self, cause: Cause, now: Instant) -> Incident:
        incident = self._incidents.get(cause)
        if incident is None or incident.is_over(now):
            self._incidents[cause] = incident = Incident(now)
        return incident

    def _leave(self, event_type: str, now: Instant, into: Decision) -> None:
        """A source does not fail any more as it did."""
        cause = self._causes.pop(event_type)
        incident = self._incidents[cause]
        incident.answered(event_type)
        if cause is not None:  # the backend's own is over when `settle` says so
            self._note(incident, incident.settle(now), now, into)

    def _note(self, incident: Incident, say: Say | None, now: Instant, into: Decision, *, event_type: str = "") -> None:
        match say:
            case Say.FAILING_OTHERWISE:
                assert incident.fault is not None, "a call failed"
                into.notes.append(failing_otherwise(self._name, event_type, incident.fault))
            case Say.FAILING:
                into.notes.append(failing(self._about(incident, now)))
            case Say.FLAPPING:
                into.notes.append(flapping(self._about(incident, now)))
            case Say.RECOVERED:
                into.notes.append(recovered(self._about(incident, now)))
            case Say.STEADY:
                into.notes.append(steady(self._about(incident, now)))

    def _about(self, incident: Incident, now: Instant) -> IncidentNow:
        """What a line about `incident` may say. Its breaker is one that is not closed, if there is any."""
        names = {self._parts.sources[each].plan.breaker for each in incident.touched if each in self._parts.sources}
        views = [self._parts.view(name, now) for name in sorted(names)]
        breaker = next((view for view in views if not view.is_closed), views[0] if views else None)
        return IncidentNow(self._name, incident, breaker, len(self._parts.sources), now)
