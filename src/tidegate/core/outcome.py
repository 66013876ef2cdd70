"""What the end of a call means: for the breaker that judges the backend, and for the data that is published.

`classify` is the only place that decides this. It is total: it has an outcome for everything a call may end with.
"""

import enum
from collections.abc import Iterable

import msgspec

from tidegate.errors import ApplicationError, BackendError, ErrorCode, HttpStatus, MappingFailed, NoCredentials

CALLER_ERRORS = frozenset({-32600, -32601, -32602, -32700})
"""JSON-RPC 2.0, section 5.1: the request is at fault, so the backend is alive. Never counted against the backend."""

MESSAGE_CHARACTERS = 1000
"""How much of an error's message is published. A backend may send any text, and every subscriber gets it."""

_BUSY = frozenset({408, 425, 429})
"""4xx statuses that are about the backend's state, not about the request."""

_HOLDING = frozenset({429, 503})
"""Statuses whose ``Retry-After`` asks for no calls (RFC 9110 section 10.2.3, RFC 6585 section 4)."""


class Verdict(enum.Enum):
    """What an outcome says about the backend.

    ALIVE: it answered, in time and correctly, but refused this one call. That neither ends nor continues a run of
    failures; as a probe it is a success. IGNORED: nothing, since the call was cancelled or never sent.
    """

    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    ALIVE = enum.auto()
    IGNORED = enum.auto()


class Answer(msgspec.Struct, frozen=True):
    """A valid result. If it came too slowly, the data is good, but it counts as a failure of the backend."""

    data: msgspec.Raw
    slow: bool = False

    @property
    def verdict(self) -> Verdict:
        return Verdict.FAILURE if self.slow else Verdict.SUCCESS


class Fault(msgspec.Struct, frozen=True):
    """No usable result. `retry_after_s` is how long the backend wants no call at all, in seconds from now."""

    code: ErrorCode
    message: str
    verdict: Verdict
    retry_after_s: float | None = None


Outcome = Answer | Fault


class ClassifyPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend's configuration adds to the rules.

    Answers that took longer than `slow_s` seconds are slow. `ignored_codes` are more codes of JSON-RPC error objects
    that, like `CALLER_ERRORS`, do not count against the backend. One answer can hold off calls for at most
    `retry_after_max_s` seconds, however long it asks for.
    """

    slow_s: float | None = None
    ignored_codes: frozenset[int] = frozenset()
    retry_after_max_s: float = 300.0


def classify(result: msgspec.Raw | BaseException, *, elapsed_s: float, policy: ClassifyPolicy) -> Outcome:
    """Return what it means that a call ended with `result` after `elapsed_s` seconds. Never raises.

    `TimeoutError` is the caller's own deadline. A `BaseException` that is no `Exception`, such as a cancellation, is
    ignored. Any other error that is not a `BackendError` with an `ErrorCode` is a failure, RPC_INVALID_RESPONSE.
    """
    try:
        if isinstance(result, BaseException):
            return _fault(result, policy)
        return Answer(result, slow=policy.slow_s is not None and elapsed_s > policy.slow_s)
    except Exception as error:  # noqa: BLE001 - a classifier that raises would leave its permit unrecorded
        return Fault(
            ErrorCode.RPC_INVALID_RESPONSE, f"classifying the outcome raised {type(error).__name__}", Verdict.FAILURE
        )


def batch_verdict(outcomes: Iterable[Outcome]) -> tuple[Verdict, Fault | None]:
    """Return the verdict of a whole batch, and the first fault that has this verdict.

    It is the first of these that any element has: success, failure, alive. Otherwise, or without elements, ignored.
    """
    outcomes = list(outcomes)
    verdicts = {outcome.verdict for outcome in outcomes}
    if Verdict.SUCCESS in verdicts:
        return Verdict.SUCCESS, None
    verdict = next((found for found in (Verdict.FAILURE, Verdict.ALIVE) if found in verdicts), Verdict.IGNORED)
    faults = (outcome for outcome in outcomes if isinstance(outcome, Fault) and outcome.verdict is verdict)
    return verdict, next(faults, None)


def hold_s(outcomes: Iterable[Outcome]) -> float:
    """Return for how many seconds the backend wants no call: the longest request among `outcomes`, or 0."""
    return max((outcome.retry_after_s or 0.0 for outcome in outcomes if isinstance(outcome, Fault)), default=0.0)


def _fault(error: BaseException, policy: ClassifyPolicy) -> Fault:
    message = str(error) or type(error).__name__
    match error:
        case HttpStatus(status=status, code=ErrorCode() as code):
            return _told(code, message, _status_verdict(status), _wish(error, policy) if status in _HOLDING else None)
        case ApplicationError(rpc_code=rpc_code, code=ErrorCode() as code):
            alive = rpc_code in CALLER_ERRORS or rpc_code in policy.ignored_codes
            return _told(code, message, Verdict.ALIVE if alive else Verdict.FAILURE, _wish(error, policy))
        case MappingFailed(code=ErrorCode() as code):
            return _told(code, message, Verdict.ALIVE)
        case NoCredentials(code=ErrorCode() as code):
            return _told(code, message, Verdict.IGNORED)
        case BackendError(code=ErrorCode() as code):
            return _told(code, message, Verdict.FAILURE)
        case TimeoutError():
            return _told(ErrorCode.RPC_TIMEOUT, message, Verdict.FAILURE)
        case Exception():
            return _told(ErrorCode.RPC_INVALID_RESPONSE, repr(error), Verdict.FAILURE)
        case _:
            return _told(ErrorCode.RPC_DISCONNECT, message, Verdict.IGNORED)


def _told(code: ErrorCode, message: str, verdict: Verdict, retry_after_s: float | None = None) -> Fault:
    """Return the fault with a message that can be published: of bounded length, and valid in UTF-8."""
    shown = message[:MESSAGE_CHARACTERS].encode(errors="replace").decode()
    return Fault(code, shown, verdict, retry_after_s)


def _status_verdict(status: int) -> Verdict:
    alive = 300 <= status < 500 and status not in _BUSY
    return Verdict.ALIVE if alive else Verdict.FAILURE


def _wish(error: BackendError, policy: ClassifyPolicy) -> float | None:
    """Return how long the backend asks for no calls, limited by the policy; None if that is no time in the future."""
    wish = error.retry_after_s
    return min(wish, policy.retry_after_max_s) if wish is not None and wish > 0 else None
