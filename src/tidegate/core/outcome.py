"""What the end of a call means, for the breaker that judges the backend and for the data that is published.

`classify` is the only place that knows this. It is total: whatever a call ended with, it answers.
"""

import enum
from collections.abc import Iterable

import msgspec

from tidegate.errors import ApplicationError, BackendError, ErrorCode, HttpStatus, NoCredentials

CALLER_ERRORS = frozenset({-32600, -32601, -32602, -32700})
"""JSON-RPC 2.0, section 5.1: the request is at fault, so the backend is alive. Never held against it."""

_TOO_MANY_REQUESTS = 429


class Verdict(enum.Enum):
    """What an outcome says about the backend. IGNORED says nothing: the backend is alive, or was never asked."""

    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    IGNORED = enum.auto()


class Answer(msgspec.Struct, frozen=True):
    """A valid result. One that came too slowly is good data and a failure of the backend."""

    data: msgspec.Raw
    slow: bool = False

    @property
    def verdict(self) -> Verdict:
        return Verdict.FAILURE if self.slow else Verdict.SUCCESS


class Fault(msgspec.Struct, frozen=True):
    """No usable result. `retry_after_s` is the backend's wish for when to come again, in seconds from now."""

    code: ErrorCode
    message: str
    verdict: Verdict
    retry_after_s: float | None = None


Outcome = Answer | Fault


class ClassifyPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend's configuration adds to the rules.

    Answers that took longer than `slow_s` seconds are slow; `ignored_codes` are codes of JSON-RPC error objects,
    beside `CALLER_ERRORS`, that say nothing about the backend.
    """

    slow_s: float | None = None
    ignored_codes: frozenset[int] = frozenset()


def classify(result: msgspec.Raw | BaseException, *, elapsed_s: float, policy: ClassifyPolicy) -> Outcome:
    """What a call that ended with `result` after `elapsed_s` seconds means. Never raises.

    `TimeoutError` is the caller's own deadline. What is no `Exception` at all (a cancellation that the caller did not
    keep to itself) is ignored; any other error that is not a `BackendError` is a failure, RPC_INVALID_RESPONSE.
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

    One success is a success; else a failure if any element failed; else ignored, as is a batch of nothing.
    """
    outcomes = list(outcomes)
    verdicts = {outcome.verdict for outcome in outcomes}
    if Verdict.SUCCESS in verdicts:
        return Verdict.SUCCESS, None
    verdict = Verdict.FAILURE if Verdict.FAILURE in verdicts else Verdict.IGNORED
    faults = (outcome for outcome in outcomes if isinstance(outcome, Fault) and outcome.verdict is verdict)
    return verdict, next(faults, None)


def _fault(error: BaseException, policy: ClassifyPolicy) -> Fault:
    message = str(error) or type(error).__name__
    match error:
        case HttpStatus(status=status, retry_after_s=retry_after_s):
            return Fault(error.code, message, _status_verdict(status), retry_after_s)
        case ApplicationError(rpc_code=rpc_code):
            ignored = rpc_code in CALLER_ERRORS or rpc_code in policy.ignored_codes
            return Fault(error.code, message, Verdict.IGNORED if ignored else Verdict.FAILURE, error.retry_after_s)
        case NoCredentials(code=code):
            return Fault(code, message, Verdict.IGNORED)
        case BackendError(code=code):
            return Fault(code, message, Verdict.FAILURE)
        case TimeoutError():
            return Fault(ErrorCode.RPC_TIMEOUT, message, Verdict.FAILURE)
        case Exception():
            return Fault(ErrorCode.RPC_INVALID_RESPONSE, repr(error), Verdict.FAILURE)
        case _:
            return Fault(ErrorCode.RPC_DISCONNECT, message, Verdict.IGNORED)


def _status_verdict(status: int) -> Verdict:
    alive = 400 <= status < 500 and status != _TOO_MANY_REQUESTS
    return Verdict.IGNORED if alive else Verdict.FAILURE
