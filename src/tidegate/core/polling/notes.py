"""The lines that the log gets about a polled backend: one function for each, as `drafts` for events."""

from tidegate.core.instant import Instant, rfc3339
from tidegate.core.polling.breaker_values import BreakerView, Transition
from tidegate.core.polling.decision import Note
from tidegate.core.polling.episodes import Recovery
from tidegate.core.polling.outcome import Fault


def source_failing(backend: str, event_type: str, fault: Fault, breaker: BreakerView) -> Note:
    """The first failure of an episode. The others are only counted, so that the log stays readable in an outage."""
    fields = {
        "source": event_type,
        "backend": backend,
        "error_code": fault.code.value,
        "error": fault.message,
        "breaker": breaker.state.value,
    }
    return Note("warning", "source failing", fields)


def source_recovered(backend: str, event_type: str, recovery: Recovery) -> Note:
    """The end of an episode."""
    fields = {
        "source": event_type,
        "backend": backend,
        "failures": recovery.failures,
        "after_s": round(recovery.duration_s, 3),
    }
    return Note("info", "source recovered", fields)


def breaker_moved(move: Transition) -> Note:
    """A move of a breaker."""
    fields = {
        "breaker": move.breaker,
        "state": move.state.value,
        "reason": move.reason.value,
        "failures": move.failure_count,
        "retry_at": None if move.retry_at is None else rfc3339(move.retry_at),
    }
    return Note("info", "breaker moved", fields)


def backend_held(backend: str, until: Instant) -> Note:
    """The backend asks for no call before `until`."""
    return Note("info", "backend asked for a pause", {"backend": backend, "until": rfc3339(until.wall)})
