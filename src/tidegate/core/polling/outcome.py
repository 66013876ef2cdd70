"""Classifies how a call ended: what the breaker records, and what is published.

`classify` is the only place with these rules. It has a result for everything that a call can return or raise.
"""

import enum
from collections.abc import Iterable

import msgspec

from tidegate.errors import (
    ApplicationError,
    BackendError,
    ErrorCode,
    HttpStatus,
    LoginRefused,
    MappingFailed,
    NoCredentials,
)

CALLER_ERRORS = frozenset({-32600, -32601, -32602, -32700})
"""Error codes that blame the request (JSON-RPC 2.0, section 5.1). The backend is alive; no failure is recorded."""

MESSAGE_CHARACTERS = 1000
"""How much of an error's message is published: enough for a sentence, and bounded because a backend chooses it."""

_BUSY = frozenset({408, 425, 429})
"""4xx statuses that are about the state of the backend, not about the request."""

_HOLDING = frozenset({429, 503})
"""Statuses whose ``Retry-After`` asks for no further calls (RFC 9110 section 10.2.3, RFC 6585 section 4)."""

_TOO_MANY_REQUESTS = 429

_WITHOUT_ANSWER = frozenset({ErrorCode.RPC_DISCONNECT, ErrorCode.RPC_TIMEOUT})
"""Codes of failures that may have come before a connection stood."""


class Verdict(enum.Enum):
    """What an outcome says about the backend.

    ALIVE: the backend answered properly and in time, but something is wrong with this one call. That neither ends nor
    continues a run of failures; a probe with this verdict succeeds. IGNORED: it says nothing, because the call was
    cancelled or never sent.
    """

    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    ALIVE = enum.auto()
    IGNORED = enum.auto()


class Answer(msgspec.Struct, frozen=True):
    """A valid result. A `slow` one is published as good data, but counts as a failure of the backend."""

    data: msgspec.Raw
    slow: bool = False

    @property
    def verdict(self) -> Verdict:
        return Verdict.FAILURE if self.slow else Verdict.SUCCESS


class Fault(msgspec.Struct, frozen=True):
    """No usable result. `retry_after_s` is how many seconds the backend asks us not to call it; None if it does not.

    `too_many`: it asks us not to call it, with a status 429, but not for how long. `unreachable`: the last attempt of
    the call ended before its TCP or Unix connection stood. Only a failure can be unreachable.
    """

    code: ErrorCode
    message: str
    verdict: Verdict
    retry_after_s: float | None = None
    too_many: bool = False
    unreachable: bool = False


Outcome = Answer | Fault


class ClassifyPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules that a backend's configuration adds.

    An answer is slow if it took longer than `slow_s` seconds. `ignored_codes` are JSON-RPC error codes that do not
    count as failures, in addition to `CALLER_ERRORS`. `retry_after_max_s` limits, in seconds, how long one answer can
    stop calls to the backend. If it is 0, no answer can, and no fault is `too_many`.
    """

    slow_s: float | None = None
    ignored_codes: frozenset[int] = frozenset()
    retry_after_max_s: float = 300.0


def classify(
    result: msgspec.Raw | BaseException, *, elapsed_s: float, policy: ClassifyPolicy, unreachable: bool = False
) -> Outcome:
    """Classify a call that ended with `result` after `elapsed_s` seconds. Never raises.

    `unreachable` says that the last attempt of the call ended before its connection stood. It counts only for failures
    with the code RPC_DISCONNECT or RPC_TIMEOUT: every other result shows that something was received.

    `TimeoutError` means that the caller's timeout expired. A `BaseException` that is not an `Exception`, such as a
    cancellation, is ignored. Any other error that is not a `BackendError` with an `ErrorCode` is a failure with the
    code RPC_INVALID_RESPONSE.
    """
    try:
        if isinstance(result, BaseException):
            return _reached_or_not(_fault(result, policy), unreachable)
        return Answer(result, slow=policy.slow_s is not None and elapsed_s > policy.slow_s)
    except Exception as error:  # noqa: BLE001 - a classifier that raises would leave its permit unrecorded
        return Fault(
            ErrorCode.RPC_INVALID_RESPONSE, f"classifying the outcome raised {type(error).__name__}", Verdict.FAILURE
        )


def batch_verdict(outcomes: Iterable[Outcome]) -> tuple[Verdict, Fault | None]:
    """Return the verdict of a whole batch, and the first fault with this verdict.

    The batch is a success if one call succeeded; or else a failure if one failed; or else alive if one was; or else
    ignored. An empty batch is ignored.
    """
    outcomes = list(outcomes)
    verdicts = {outcome.verdict for outcome in outcomes}
    if Verdict.SUCCESS in verdicts:
        return Verdict.SUCCESS, None
    verdict = next((found for found in (Verdict.FAILURE, Verdict.ALIVE) if found in verdicts), Verdict.IGNORED)
    faults = (outcome for outcome in outcomes if isinstance(outcome, Fault) and outcome.verdict is verdict)
    return verdict, next(faults, None)


def hold_s(outcomes: Iterable[Outcome]) -> float:
    """Return how many seconds the backend asks us not to call it: the longest time in `outcomes`; 0.0 if none."""
    return max((outcome.retry_after_s or 0.0 for outcome in outcomes if isinstance(outcome, Fault)), default=0.0)


def is_too_many(outcomes: Iterable[Outcome]) -> bool:
    """Return whether the backend asks us not to call it, but not for how long: whether one outcome is `too_many`."""
    return any(isinstance(outcome, Fault) and outcome.too_many for outcome in outcomes)


def _fault(error: BaseException, policy: ClassifyPolicy) -> Fault:
    message = str(error) or type(error).__name__
    match error:
        case HttpStatus(status=status, code=ErrorCode() as code):
            asked_s = _asked_hold_s(error, policy) if status in _HOLDING else None
            too_many = _is_too_many(status, asked_s, policy)
            return _published_fault(code, message, _status_verdict(status), asked_s, too_many=too_many)
        case ApplicationError(rpc_code=rpc_code, status=status, code=ErrorCode() as code):
            alive = rpc_code in CALLER_ERRORS or rpc_code in policy.ignored_codes
            asked_s = _asked_hold_s(error, policy)
            too_many = _is_too_many(status, asked_s, policy)
            return _published_fault(
                code, message, Verdict.ALIVE if alive else Verdict.FAILURE, asked_s, too_many=too_many
            )
        case MappingFailed(code=ErrorCode() as code) | LoginRefused(code=ErrorCode() as code):
            return _published_fault(code, message, Verdict.ALIVE)
        case NoCredentials(code=ErrorCode() as code):
            return _published_fault(code, message, Verdict.IGNORED)
        case BackendError(code=ErrorCode() as code):
            return _published_fault(code, message, Verdict.FAILURE)
        case TimeoutError():
            return _published_fault(ErrorCode.RPC_TIMEOUT, message, Verdict.FAILURE)
        case Exception():
            return _published_fault(ErrorCode.RPC_INVALID_RESPONSE, repr(error), Verdict.FAILURE)
        case _:
            return _published_fault(ErrorCode.RPC_DISCONNECT, message, Verdict.IGNORED)


def _published_fault(
    code: ErrorCode, message: str, verdict: Verdict, retry_after_s: float | None = None, *, too_many: bool = False
) -> Fault:
    """Make a fault whose message can be published: truncated, and without characters that UTF-8 cannot encode."""
    shown = message[:MESSAGE_CHARACTERS].encode(errors="replace").decode()
    return Fault(code, shown, verdict, retry_after_s, too_many)


def _reached_or_not(fault: Fault, unreachable: bool) -> Fault:
    if unreachable and fault.verdict is Verdict.FAILURE and fault.code in _WITHOUT_ANSWER:
        return msgspec.structs.replace(fault, unreachable=True)
    return fault


def _status_verdict(status: int) -> Verdict:
    alive = 300 <= status < 500 and status not in _BUSY
    return Verdict.ALIVE if alive else Verdict.FAILURE


def _asked_hold_s(error: BackendError, policy: ClassifyPolicy) -> float | None:
    """Return how many seconds the backend asks for, up to the limit of `policy`; None if it asks for none."""
    asked_s = error.retry_after_s
    return min(asked_s, policy.retry_after_max_s) if asked_s is not None and asked_s > 0 else None


def _is_too_many(status: int | None, asked_s: float | None, policy: ClassifyPolicy) -> bool:
    # A Retry-After of 0, or of a moment in the past, asks for no time either: it often comes from rounding down.
    return status == _TOO_MANY_REQUESTS and asked_s is None and policy.retry_after_max_s > 0
