"""The classifier, row by row of its table, and the verdict of a batch."""

import msgspec
import pytest

from tidegate.core.outcome import (
    CALLER_ERRORS,
    Answer,
    ClassifyPolicy,
    Fault,
    Verdict,
    batch_verdict,
    classify,
)
from tidegate.errors import (
    ApplicationError,
    BackendError,
    DeadlineExceeded,
    Disconnected,
    ErrorCode,
    HttpStatus,
    InvalidResponse,
    NoCredentials,
)

POLICY = ClassifyPolicy(ignored_codes=frozenset({-32001}))
DATA = msgspec.Raw(b'{"n":1.10}')


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class TooWide(BackendError):
    code = ErrorCode.RPC_INVALID_RESPONSE


FAULTS = [
    (Disconnected("refused"), Verdict.FAILURE, ErrorCode.RPC_DISCONNECT),
    (DeadlineExceeded("after 2 s"), Verdict.FAILURE, ErrorCode.RPC_TIMEOUT),
    (TimeoutError(), Verdict.FAILURE, ErrorCode.RPC_TIMEOUT),
    (InvalidResponse("not JSON"), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (TooWide("an adapter's own error"), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (ApplicationError(-32000, "busy"), Verdict.FAILURE, ErrorCode.RPC_APPLICATION_ERROR),
    (ApplicationError(-32603, "internal"), Verdict.FAILURE, ErrorCode.RPC_APPLICATION_ERROR),
    (ApplicationError(-32001, "listed"), Verdict.IGNORED, ErrorCode.RPC_APPLICATION_ERROR),
    *((ApplicationError(code, ""), Verdict.IGNORED, ErrorCode.RPC_APPLICATION_ERROR) for code in sorted(CALLER_ERRORS)),
    *(
        (HttpStatus(status, ""), Verdict.FAILURE, ErrorCode.RPC_HTTP_STATUS)
        for status in (302, 399, 429, 500, 503, 599)
    ),
    *((HttpStatus(status, ""), Verdict.IGNORED, ErrorCode.RPC_HTTP_STATUS) for status in (400, 404, 428, 430, 499)),
    *((HttpStatus(status, ""), Verdict.IGNORED, ErrorCode.RPC_AUTH) for status in (401, 403)),
    (NoCredentials("no such file"), Verdict.IGNORED, ErrorCode.RPC_AUTH),
    (ValueError("from nowhere"), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (RecursionError(), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (BackendError("without a code"), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (Unprintable(), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (KeyboardInterrupt(), Verdict.IGNORED, ErrorCode.RPC_DISCONNECT),
    (GeneratorExit(), Verdict.IGNORED, ErrorCode.RPC_DISCONNECT),
]


@pytest.mark.parametrize(
    ("error", "verdict", "code"), FAULTS, ids=lambda value: getattr(value, "name", repr(type(value)))
)
def test_an_error_has_a_verdict_and_a_code(error: BaseException, verdict: Verdict, code: ErrorCode) -> None:
    outcome = classify(error, elapsed_s=0.1, policy=POLICY)
    assert isinstance(outcome, Fault)
    assert (outcome.verdict, outcome.code) == (verdict, code)
    assert outcome.message, "there is always something to tell"


def test_an_answer_in_time_is_a_success() -> None:
    outcome = classify(DATA, elapsed_s=3600.0, policy=POLICY)
    assert outcome == Answer(DATA)
    assert outcome.verdict is Verdict.SUCCESS


@pytest.mark.parametrize(("elapsed_s", "slow"), [(0.0, False), (0.5, False), (0.500001, True)])
def test_a_slow_answer_is_good_data_and_a_failure(elapsed_s: float, slow: bool) -> None:
    outcome = classify(DATA, elapsed_s=elapsed_s, policy=ClassifyPolicy(slow_s=0.5))
    assert outcome == Answer(DATA, slow=slow)
    assert outcome.verdict is (Verdict.FAILURE if slow else Verdict.SUCCESS)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Disconnected("connection refused"), "connection refused"),
        (ApplicationError(-32000, "busy"), "busy (-32000)"),
        (HttpStatus(500, "500 from the backend"), "500 from the backend"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("odd"), "ValueError('odd')"),
        (ValueError(), "ValueError()"),
        (Unprintable(), "classifying the outcome raised RuntimeError"),
    ],
)
def test_the_message_says_what_happened(error: Exception, message: str) -> None:
    outcome = classify(error, elapsed_s=0.0, policy=POLICY)
    assert isinstance(outcome, Fault)
    assert outcome.message == message


@pytest.mark.parametrize("status", [429, 503, 401])
def test_the_wish_of_the_backend_is_passed_on(status: int) -> None:
    outcome = classify(HttpStatus(status, "", retry_after_s=7.0), elapsed_s=0.0, policy=POLICY)
    assert isinstance(outcome, Fault)
    assert outcome.retry_after_s == 7.0


def test_without_a_wish_there_is_none() -> None:
    outcome = classify(Disconnected(), elapsed_s=0.0, policy=POLICY)
    assert isinstance(outcome, Fault)
    assert outcome.retry_after_s is None


OK = Answer(DATA)
SLOW = Answer(DATA, slow=True)
FAILED = Fault(ErrorCode.RPC_APPLICATION_ERROR, "first", Verdict.FAILURE)
FAILED_TOO = Fault(ErrorCode.RPC_INVALID_RESPONSE, "second", Verdict.FAILURE)
IGNORED = Fault(ErrorCode.RPC_APPLICATION_ERROR, "unknown method", Verdict.IGNORED)


@pytest.mark.parametrize(
    ("outcomes", "verdict", "fault"),
    [
        ([OK], Verdict.SUCCESS, None),
        ([FAILED, IGNORED, OK], Verdict.SUCCESS, None),
        ([SLOW, OK], Verdict.SUCCESS, None),
        ([IGNORED, FAILED, FAILED_TOO], Verdict.FAILURE, FAILED),
        ([SLOW, IGNORED], Verdict.FAILURE, None),
        ([SLOW, FAILED], Verdict.FAILURE, FAILED),
        ([IGNORED, IGNORED], Verdict.IGNORED, IGNORED),
        ([], Verdict.IGNORED, None),
    ],
)
def test_a_batch_has_one_verdict(outcomes: list[Answer | Fault], verdict: Verdict, fault: Fault | None) -> None:
    assert batch_verdict(outcomes) == (verdict, fault)
