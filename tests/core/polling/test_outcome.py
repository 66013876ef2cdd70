"""The classifier, row by row of its table, and the verdict of a batch."""

import asyncio
import math

import msgspec
import pytest

from tidegate.core.polling.outcome import (
    CALLER_ERRORS,
    Answer,
    ClassifyPolicy,
    Fault,
    Verdict,
    batch_verdict,
    classify,
    hold_s,
    is_too_many,
)
from tidegate.errors import (
    ApplicationError,
    BackendError,
    DeadlineExceeded,
    Disconnected,
    ErrorCode,
    HttpStatus,
    InvalidResponse,
    LoginRefused,
    MappingFailed,
    NoCredentials,
)

POLICY = ClassifyPolicy(ignored_codes=frozenset({-32001}))
DATA = msgspec.Raw(b'{"n":1.10}')


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class TooWide(BackendError):
    code = ErrorCode.RPC_INVALID_RESPONSE


class Uncoded(BackendError):
    code = "SOMETHING"  # type: ignore[assignment]


def with_status(status: int, error: ApplicationError) -> ApplicationError:
    error.status = status
    return error


FAULTS = [
    (Disconnected("refused"), Verdict.FAILURE, ErrorCode.RPC_DISCONNECT),
    (DeadlineExceeded("after 2 s"), Verdict.FAILURE, ErrorCode.RPC_TIMEOUT),
    (TimeoutError(), Verdict.FAILURE, ErrorCode.RPC_TIMEOUT),
    (InvalidResponse("not JSON"), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (TooWide("an adapter's own error"), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (ApplicationError(-32000, "busy"), Verdict.FAILURE, ErrorCode.RPC_APPLICATION_ERROR),
    (ApplicationError(-32603, "internal"), Verdict.FAILURE, ErrorCode.RPC_APPLICATION_ERROR),
    (ApplicationError(-32001, "listed"), Verdict.ALIVE, ErrorCode.RPC_APPLICATION_ERROR),
    *((ApplicationError(code, ""), Verdict.ALIVE, ErrorCode.RPC_APPLICATION_ERROR) for code in sorted(CALLER_ERRORS)),
    *(
        (HttpStatus(status, ""), Verdict.FAILURE, ErrorCode.RPC_HTTP_STATUS)
        for status in (103, 299, 408, 425, 429, 500, 503, 599)
    ),
    *(
        (HttpStatus(status, ""), Verdict.ALIVE, ErrorCode.RPC_HTTP_STATUS)
        for status in (300, 302, 399, 400, 404, 409, 424, 426, 428, 430, 499)
    ),
    *((HttpStatus(status, ""), Verdict.ALIVE, ErrorCode.RPC_AUTH) for status in (401, 403, 407)),
    (MappingFailed("nothing at /a"), Verdict.ALIVE, ErrorCode.RPC_INVALID_RESPONSE),
    (NoCredentials("no such file"), Verdict.IGNORED, ErrorCode.RPC_AUTH),
    (LoginRefused("wrong password"), Verdict.ALIVE, ErrorCode.RPC_AUTH),
    (ValueError("from nowhere"), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (RecursionError(), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (BackendError("without a code"), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (Uncoded("with a code that is none of ours"), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),
    (HttpStatus("500", "no number"), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),  # type: ignore[arg-type]
    (HttpStatus(429, "", retry_after_s="soon"), Verdict.FAILURE, ErrorCode.RPC_INVALID_RESPONSE),  # type: ignore[arg-type]
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


@pytest.mark.parametrize(
    "error",
    [
        HttpStatus(429, "", retry_after_s=7.0),
        HttpStatus(503, "", retry_after_s=7.0),
        ApplicationError(-32000, "busy, in the body of a 503", retry_after_s=7.0),
        ApplicationError(-32601, "unknown, in the body of a 429", retry_after_s=7.0),
    ],
)
def test_the_wish_of_the_backend_is_passed_on(error: BackendError) -> None:
    outcome = classify(error, elapsed_s=0.0, policy=POLICY)
    assert isinstance(outcome, Fault)
    assert outcome.retry_after_s == 7.0


@pytest.mark.parametrize("status", [301, 401, 404, 500, 502])
def test_retry_after_of_any_other_status_is_no_wish_to_be_left_alone(status: int) -> None:
    outcome = classify(HttpStatus(status, "", retry_after_s=7.0), elapsed_s=0.0, policy=POLICY)
    assert isinstance(outcome, Fault)
    assert outcome.retry_after_s is None


@pytest.mark.parametrize(
    ("wish", "granted"),
    [(0.0, None), (-5.0, None), (math.nan, None), (0.5, 0.5), (4.0, 4.0), (60.5, 60.0), (math.inf, 60.0)],
)
def test_the_wish_is_cut_to_what_is_granted(wish: float, granted: float | None) -> None:
    policy = ClassifyPolicy(retry_after_max_s=60.0)
    outcome = classify(HttpStatus(503, "", retry_after_s=wish), elapsed_s=0.0, policy=policy)
    assert isinstance(outcome, Fault)
    assert outcome.retry_after_s == granted


def test_of_several_wishes_the_longest_counts() -> None:
    wishes = [Fault(ErrorCode.RPC_HTTP_STATUS, "429", Verdict.FAILURE, wish) for wish in (None, 7.0, 20.0, 5.0)]
    assert hold_s([Answer(DATA), *wishes]) == 20.0
    assert hold_s([Answer(DATA), wishes[0]]) == hold_s([]) == 0.0


def test_a_message_is_text_of_bounded_length_that_can_be_published() -> None:
    outcome = classify(Disconnected("\ud83d" + "x" * 5000), elapsed_s=0.0, policy=POLICY)
    assert isinstance(outcome, Fault)
    assert outcome.message == "?" + "x" * 999


def test_without_a_wish_there_is_none() -> None:
    outcome = classify(Disconnected(), elapsed_s=0.0, policy=POLICY)
    assert isinstance(outcome, Fault)
    assert outcome.retry_after_s is None


OK = Answer(DATA)
SLOW = Answer(DATA, slow=True)
FAILED = Fault(ErrorCode.RPC_APPLICATION_ERROR, "first", Verdict.FAILURE)
FAILED_TOO = Fault(ErrorCode.RPC_INVALID_RESPONSE, "second", Verdict.FAILURE)
ALIVE = Fault(ErrorCode.RPC_APPLICATION_ERROR, "unknown method", Verdict.ALIVE)
UNMAPPED = Fault(ErrorCode.RPC_INVALID_RESPONSE, "nothing there", Verdict.ALIVE)
IGNORED = Fault(ErrorCode.RPC_AUTH, "nothing was sent", Verdict.IGNORED)


@pytest.mark.parametrize(
    ("outcomes", "verdict", "fault"),
    [
        ([OK], Verdict.SUCCESS, None),
        ([FAILED, ALIVE, OK], Verdict.SUCCESS, None),
        ([SLOW, OK], Verdict.SUCCESS, None),
        ([ALIVE, FAILED, FAILED_TOO], Verdict.FAILURE, FAILED),
        ([SLOW, ALIVE], Verdict.FAILURE, None),
        ([ALIVE, UNMAPPED], Verdict.ALIVE, ALIVE),
        ([IGNORED, UNMAPPED], Verdict.ALIVE, UNMAPPED),
        ([SLOW, FAILED], Verdict.FAILURE, FAILED),
        ([IGNORED, IGNORED], Verdict.IGNORED, IGNORED),
        ([], Verdict.IGNORED, None),
    ],
)
def test_a_batch_has_one_verdict(outcomes: list[Answer | Fault], verdict: Verdict, fault: Fault | None) -> None:
    assert batch_verdict(outcomes) == (verdict, fault)


@pytest.mark.parametrize("error", [Disconnected("refused"), DeadlineExceeded("after 2 s"), TimeoutError()])
def test_a_failure_before_the_connection_stood_is_unreachable(error: Exception) -> None:
    outcome = classify(error, elapsed_s=0.1, policy=POLICY, unreachable=True)
    assert isinstance(outcome, Fault)
    assert (outcome.verdict, outcome.unreachable) == (Verdict.FAILURE, True)
    outcome = classify(error, elapsed_s=0.1, policy=POLICY)
    assert isinstance(outcome, Fault)
    assert not outcome.unreachable


@pytest.mark.parametrize(
    "result",
    [
        DATA,
        NoCredentials("no such file"),
        asyncio.CancelledError(),
        HttpStatus(500, ""),
        ApplicationError(-32000, "busy"),
        InvalidResponse("not JSON"),
        MappingFailed("nothing at /a"),
        ValueError("from nowhere"),
        Unprintable(),
    ],
    ids=repr,
)
def test_whatever_shows_a_connection_or_says_nothing_is_not_unreachable(result: msgspec.Raw | BaseException) -> None:
    policy = ClassifyPolicy(slow_s=0.01)
    outcome = classify(result, elapsed_s=0.1, policy=policy, unreachable=True)
    assert not (isinstance(outcome, Fault) and outcome.unreachable)


@pytest.mark.parametrize(
    ("error", "too_many"),
    [
        (HttpStatus(429, ""), True),
        (HttpStatus(429, "", retry_after_s=0.0), True),
        (HttpStatus(429, "", retry_after_s=math.nan), True),
        (HttpStatus(429, "", retry_after_s=7.0), False),
        (HttpStatus(503, ""), False),
        (with_status(429, ApplicationError(-32000, "busy")), True),
        (with_status(429, ApplicationError(-32601, "unknown")), True),
        (with_status(429, ApplicationError(-32000, "busy", retry_after_s=7.0)), False),
        (with_status(503, ApplicationError(-32000, "busy")), False),
        (ApplicationError(429, "busy"), False),
        (Disconnected("refused"), False),
    ],
    ids=repr,
)
def test_a_429_that_does_not_say_for_how_long_is_too_many(error: BackendError, too_many: bool) -> None:
    outcome = classify(error, elapsed_s=0.1, policy=POLICY)
    assert isinstance(outcome, Fault)
    assert outcome.too_many is too_many
    assert is_too_many([Answer(DATA), outcome]) is too_many


def test_where_no_wish_is_granted_nothing_is_too_many() -> None:
    outcome = classify(HttpStatus(429, ""), elapsed_s=0.1, policy=ClassifyPolicy(retry_after_max_s=0.0))
    assert isinstance(outcome, Fault)
    assert not outcome.too_many
    assert hold_s([outcome]) == 0.0
