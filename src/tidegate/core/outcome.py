"""What the end of a call means, for the breaker that judges the backend and for the data that is published.

`classify` is the only place that knows this. It is total: whatever a call ended with, it answers.
"""

import enum
from collections.abc import Iterable

import msgspec

from tidegate.errors import ApplicationError, BackendError, ErrorCode, HttpStatus, MappingFailed, NoCredentials

CALLER_ERRORS = frozenset({-32600, -32601, -32602, -32700})
"""JSON-RPC 2.0, section 5.1: the request is at fault, so the backend is alive. Never held against it."""

MESSAGE_CHARACTERS = 1000
"""How much of an error's message is told."""

_BUSY = frozenset({408, 425, 429})
"""4xx that speak of the backend's state, not of the request."""

_HOLDING = frozenset({429, 503})
"""Statuses whose ``Retry-After`` is a wish to be left alone (RFC 9110 section 10.2.3, RFC 6585 section 4)."""


class Verdict(enum.Enum):
    """What an outcome says about the backend.

    ALIVE: it answered, in time and in order, and what is wrong is this one call. That neither ends nor continues a
    run of failures; as a probe it is a success. IGNORED: nothing at all, since the call was cancelled or never sent.
    """

    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    ALIVE = enum.auto()
    IGNORED = enum.auto()


class Answer(msgspec.Struct, frozen=True):
    """A valid result. One that came too slowly is good data and a failure of the backend."""

    data: msgspec.Raw
    slow: bool = False

    @property
    def verdict(self) -> Verdict:
        return Verdict.FAILURE if self.slow else Verdict.SUCCESS


class Fault(msgspec.Struct, frozen=True):
    """No usable result. `retry_after_s` is for how many seconds from now the backend wants no call at all."""

    code: ErrorCode
    message: str
    verdict: Verdict
    retry_after_s: float | None = None


Outcome = Answer | Fault


class ClassifyPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend's configuration adds to the rules.

    Answers that took longer than `slow_s` seconds are slow; `ignored_codes` are codes of JSON-RPC error objects,
    beside `CALLER_ERRORS`, that are not held against the backend. A backend is left alone for at most
    `retry_after_max_s` seconds because of one answer, however long it asks for.
    """

    slow_s: float | None = None
    ignored_codes: frozenset[int] = frozenset()
    retry_after_max_s: float = 300.0


def classify(result: msgspec.Raw | BaseException, *, elapsed_s: float, policy: ClassifyPolicy) -> Outcome:
    """What a call that ended with `result` after `elapsed_s` seconds means. Never raises.

    `TimeoutError` is the caller's own deadline. What is no `Exception` at all (a cancellation that the caller did not
    keep to itself) is ignored; any other error that is not a `BackendError` with an `ErrorCode` is a failure,
    RPC_INVALID_RESPONSE.
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
    """The one verdict of a batch, and the first fault that has this verdict.

    One success is a success; else a failure if any element failed; else alive if any was; else ignored, as is a batch
    of nothing.
    """
    outcomes = list(outcomes)
    verdicts = {outcome.verdict for outcome in outcomes}
    if Verdict.SUCCESS in verdicts:
        return Verdict.SUCCESS, None
    verdict = next((found for found in (Verdict.FAILURE, Verdict.ALIVE) if found in verdicts), Verdict.IGNORED)
    faults = (outcome for outcome in outcomes if isinstance(outcome, Fault) and outcome.verdict is verdict)
    return verdict, next(faults, None)


def hold_s(outcomes: Iterable[Outcome]) -> float:
    """For how many seconds from now the backend wants no call, as the longest wish among `outcomes` says; 0: none."""
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
    """The fault with a message that can be published: of bounded length, and text that UTF-8 can carry."""
    shown = message[:MESSAGE_CHARACTERS].encode(errors="replace").decode()
    return Fault(code, shown, verdict, retry_after_s)


def _status_verdict(status: int) -> Verdict:
    alive = 300 <= status < 500 and status not in _BUSY
    return Verdict.ALIVE if alive else Verdict.FAILURE


def _wish(error: BackendError, policy: ClassifyPolicy) -> float | None:
    """How long the backend asks to be left alone, cut to what is granted; None also for what is no time to come."""
    wish = error.retry_after_s
    return min(wish, policy.retry_after_max_s) if wish is not None and wish > 0 else None
