"""The lines that the log gets about a polled backend: one function for each, as `drafts` for events."""

from collections.abc import Collection
from typing import Any, Literal

import msgspec

from tidegate.core.instant import Instant, rfc3339
from tidegate.core.polling.breaker_values import BreakerView, Transition
from tidegate.core.polling.decision import Note
from tidegate.core.polling.incident import Incident
from tidegate.core.polling.outcome import Fault

NAMES = 5
"""How many sources a line names. It says how many there are, too."""


class IncidentNow(msgspec.Struct, frozen=True):
    """An incident as it is at `now`, when a line about it is written.

    `breaker` is the one that the line names, and `of` is how many sources `backend` has.
    """

    backend: str
    incident: Incident
    breaker: BreakerView | None
    of: int
    now: Instant


def failing(about: IncidentNow) -> Note:
    """Calls fail, since `since`. Said when that begins, and again while it lasts."""
    incident = about.incident
    fields = {**_sources(about, incident.touched if incident.is_open else incident.failing), **_error(about)}
    return Note(
        "warning", "backend failing" if incident.is_wide else "source failing", fields | _breaker(about) | _since(about)
    )


def failing_otherwise(backend: str, event_type: str, fault: Fault) -> Note:
    """A source of a failing backend fails in another way than the line about the backend says."""
    fields = {"backend": backend, "type": event_type, "error_code": fault.code.value, "error": fault.message}
    return Note("warning", "source failing otherwise", fields)


def recovered(about: IncidentNow) -> Note:
    """All sources that failed were answered again, and the breakers are closed.

    If this is the only line, the failures were soon repaired by repeating the calls. It says the error_code of the line
    before, and the newest error.
    """
    incident = about.incident
    told = _error(about) | ({"error_code": incident.code.value} if incident.code is not None else {})
    fields = {**_sources(about, incident.touched), **told, "since": _at(about), "after_s": _seconds(about)}
    counts = {"failures": incident.failures, "breaker_openings": incident.openings}
    return Note("info", "backend recovered" if incident.is_wide else "source recovered", fields | counts)


def flapping(about: IncidentNow) -> Note:
    """It was well and fails again, too often for a line each time. `is_failing` is whether it fails now."""
    incident = about.incident
    fields = {**_sources(about, incident.touched), "is_failing": incident.is_failing, **_error(about)}
    return Note(
        "warning",
        "backend flapping" if incident.is_wide else "source flapping",
        fields | _breaker(about) | _since(about) | _times(about),
    )


def steady(about: IncidentNow) -> Note:
    """One that was flapping has been well for long."""
    incident = about.incident
    fields = {**_sources(about, incident.touched), **_error(about), **_since(about), **_times(about)}
    return Note("info", "backend steady again" if incident.is_wide else "source steady again", fields)


def removed(about: IncidentNow, reason: str) -> Note:
    """What failed is not polled any more, or in another way."""
    incident = about.incident
    fields = {**_sources(about, incident.touched), **_error(about), **_since(about), "reason": reason}
    return Note("info", "backend failing no more" if incident.is_wide else "source failing no more", fields)


def breaker_moved(backend: str, move: Transition, level: Literal["debug", "info"]) -> Note:
    """A move of a breaker. `cause` is the code of the failure that opened it."""
    fields = {
        "backend": backend,
        "breaker": move.breaker,
        "state": move.state.value,
        "reason": move.reason.value,
        "cause": None if move.cause is None else move.cause.value,
        "failures": move.failure_count,
        "retry_at": None if move.retry_at is None else rfc3339(move.retry_at),
    }
    return Note(level, "breaker moved", fields)


def backend_held(backend: str, until: Instant, suppressed: int) -> Note:
    """The backend asks for no call before `until`. It has done so `suppressed` times since the line before."""
    fields = {"backend": backend, "until": rfc3339(until.wall)} | ({"suppressed": suppressed} if suppressed else {})
    return Note("info", "backend asked for a pause", fields)


def _sources(about: IncidentNow, types: Collection[str]) -> dict[str, Any]:
    if not about.incident.is_wide:
        return {"backend": about.backend, "type": next(iter(about.incident.touched))}
    names = sorted(types)
    return {"backend": about.backend, "sources": len(names), "of": about.of, "types": names[:NAMES]}


def _error(about: IncidentNow) -> dict[str, Any]:
    fault, breaker = about.incident.fault, about.breaker
    if fault is not None:
        return {"error_code": fault.code.value, "error": fault.message}
    error = None if breaker is None else breaker.last_error  # of slow answers, which are no failed calls
    return {} if error is None else {"error_code": error.code.value, "error": error.message}


def _breaker(about: IncidentNow) -> dict[str, Any]:
    return {} if about.breaker is None else {"breaker": about.breaker.name, "state": about.breaker.state.value}


def _since(about: IncidentNow) -> dict[str, Any]:
    return {"since": _at(about), "for_s": _seconds(about), "failures": about.incident.failures}


def _times(about: IncidentNow) -> dict[str, Any]:
    incident = about.incident
    failed_s = round(incident.failed_s(about.now), 3)
    return {"times": incident.stretches, "failed_s": failed_s, "breaker_openings": incident.openings}


def _at(about: IncidentNow) -> str:
    return rfc3339(about.incident.since.seen_at(about.now).wall)


def _seconds(about: IncidentNow) -> float:
    return round(about.now.mono - about.incident.since.mono, 3)
