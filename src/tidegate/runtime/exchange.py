"""One exchange with a backend: its preparation, its calls with a deadline, and the outcome for each source.

A `Backend` may be other people's code, so it is not trusted. This is the only place that checks what it returns or
raises. The functions here return outcomes, and raise nothing but our own cancellation.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from tidegate.core.payload import compact
from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan, call_timeout_s
from tidegate.core.polling.outcome import Fault, Outcome, classify
from tidegate.core.polling.source_values import Value
from tidegate.core.shaping import shaped
from tidegate.errors import DeadlineExceeded, InvalidResponse, MappingFailed, NoCredentials
from tidegate.ports import Ask, Backend, Call, Clock
from tidegate.runtime.deadline import deadline

CLOSE_S = 5.0
"""How long a backend may take to close its connections, in seconds: the end of the process waits for it."""

KNOCK_S = 3.0
"""How long a knock may take, in seconds, if the calls of the backend may take longer."""

log = structlog.get_logger("tidegate.exchange")


class Prepared(msgspec.Struct, frozen=True):
    """A backend that can be asked now. If `checks`, its answers have yet to be checked: they may not be JSON.

    `secret` is the credentials that `ask` sends, to be compared with others; None if there are none.
    `made_by` names whoever wrote the backend, for messages about answers of a wrong shape.
    """

    ask: Ask
    checks: bool
    secret: bytes | None = None
    made_by: str = ""


class WrongShape(InvalidResponse):
    """A backend returned or raised something that `tidegate.ports.Backend` does not allow: a mistake of its author."""


async def prepare(backend: Backend, plan: BackendPlan, clock: Clock) -> Prepared | Fault:
    """Get what an exchange with `backend` needs, such as credentials. If that fails, return the fault: send nothing."""
    # Not `isinstance(backend, Prepares)`: Python 3.11 inspects the whole protocol at each call, which is slow.
    get_ready: Callable[[], Awaitable[Ask]] | None = getattr(backend, "prepare", None)
    if get_ready is None:
        return Prepared(backend.call, checks=_is_to_be_checked(backend))
    try:
        async with deadline(clock, plan.timeout_s):
            ask = await get_ready()
    except BaseException as error:  # noqa: BLE001 - whatever a backend raises is a fault
        go_on_with_cancellation(error)
        return _fault(_unprepared(error, plan), plan)
    if not callable(ask):
        return _fault(NoCredentials(f"expected something to call from prepare(), got {type(ask).__name__}"), plan)
    return Prepared(ask, checks=_is_to_be_checked(backend), secret=_secret(ask), made_by=_made_by(ask))


async def exchange(
    prepared: Prepared, plan: BackendPlan, sources: Sequence[SourcePlan], clock: Clock
) -> list[tuple[Outcome, Value | None]]:
    """Make one call to a backend for all `sources`.

    Return an outcome for each, in their order, with the value if it is an answer. A failure is an outcome, not an
    exception. If this is cancelled, the call is too.
    """
    # Exceptions are classified and dropped at once: their tracebacks keep the answers alive, however large those are.
    began = clock.now().mono

    def classified(result: msgspec.Raw | Exception) -> Outcome:
        if isinstance(result, WrongShape) and prepared.made_by:
            result = InvalidResponse(f"{prepared.made_by}: {result}")
        unreachable = not _has_connected(prepared.ask)
        elapsed_s = clock.now().mono - began
        return _scrubbed(
            classify(result, elapsed_s=elapsed_s, policy=plan.policy, unreachable=unreachable), prepared.ask
        )

    def judged(source: SourcePlan, answer: object) -> tuple[Outcome, Value | None]:
        if isinstance(answer, Exception):
            return classified(answer), None
        try:
            result = _json(answer, checks=prepared.checks)
            value = _value(source, result, event_bytes=plan.event_bytes)
        except Exception as error:  # noqa: BLE001 - what cannot be read is an outcome too
            return classified(error), None
        return classified(result), value

    try:
        calls = [source.call for source in sources]
        answers = await _answers(prepared.ask, calls, clock, timeout_s=call_timeout_s(sources))
    except Exception as error:  # noqa: BLE001 - whatever a call ended with is an outcome
        return [(classified(error), None)] * len(sources)
    return [judged(source, answer) for source, answer in zip(sources, answers, strict=True)]


def can_knock(backend: Backend) -> bool:
    """Return whether `reached` can find out anything about `backend`."""
    return callable(getattr(backend, "knock", None))


async def reached(backend: Backend, plan: BackendPlan, clock: Clock) -> bool:
    """Knock at `backend`. Return whether it could be reached within `KNOCK_S`, or `timeout_s` if that is less.

    Whatever a knock raises is a no. If this is cancelled, the knock is too.
    """
    knock: Callable[[], Awaitable[object]] | None = getattr(backend, "knock", None)
    if knock is None:
        return False
    try:
        async with deadline(clock, min(plan.timeout_s, KNOCK_S)) as limit:
            await knock()
    except BaseException as error:  # noqa: BLE001 - whatever a backend raises
        go_on_with_cancellation(error)
        return False
    go_on_with_cancellation(None)  # the backend may have swallowed it
    return not limit.expired()  # or that of its deadline


async def close(backend: Backend, name: str) -> None:
    """Close `backend`, within `CLOSE_S`. A failure is logged, not raised: the caller has others to close."""
    try:
        # By the machine's clock: a program must end even if a test has stopped the gateway's clock.
        async with asyncio.timeout(CLOSE_S):
            await backend.aclose()
    except BaseException as error:  # noqa: BLE001 - whatever a backend raises
        go_on_with_cancellation(error)
        log.warning("a backend could not be closed", backend=name, error=repr(error))


async def _answers(ask: Ask, calls: Sequence[Call], clock: Clock, *, timeout_s: float) -> Sequence[object]:
    """Return what came back for each of `calls`; only the number is checked. Any other end raises an `Exception`."""
    try:
        async with deadline(clock, timeout_s) as limit:
            answers = _as_list(await ask(calls), len(calls))
    except BaseException as error:
        go_on_with_cancellation(error)
        if limit.expired():
            raise _late(timeout_s) from None
        if isinstance(error, Exception):
            raise
        raise WrongShape(f"expected an answer or an error, got {type(error).__name__} raised") from error
    if limit.expired():  # the backend swallowed the cancellation, and its answer comes too late
        raise _late(timeout_s)
    return answers


def _as_list(answers: object, count: int) -> list[object]:
    """Return `answers` as a list of our own: counting those of others runs their code."""
    if not isinstance(answers, Sequence) or isinstance(answers, str | bytes | bytearray | memoryview):
        raise WrongShape(f"expected a list of {count} answers, got {type(answers).__name__}")
    listed = list(answers)
    if len(listed) != count:
        raise WrongShape(f"expected {count} answers, got {len(listed)}")
    return listed


def _json(answer: object, *, checks: bool) -> msgspec.Raw:
    """Return the JSON of an answer. Raises `InvalidResponse` if it is none."""
    if not isinstance(answer, msgspec.Raw):
        raise WrongShape(f"expected a msgspec.Raw or a BackendError as an answer, got {type(answer).__name__}")
    try:
        return compact(answer) if checks else answer
    except InvalidResponse as error:
        raise WrongShape(str(error)) from error


def _value(plan: SourcePlan, result: msgspec.Raw, *, event_bytes: int) -> Value:
    """Return what the source makes of `result`. Raises `MappingFailed` if something is missing or too large."""
    try:
        return shaped(result, plan.shape, event_bytes=event_bytes)
    except Exception as error:
        raise MappingFailed(str(error)) from error


def go_on_with_cancellation(error: BaseException | None) -> None:
    """Raise `CancelledError` if this task was cancelled, whatever error the backend made of it. Also raise Ctrl-C."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error
    if isinstance(error, KeyboardInterrupt):
        raise error


def _unprepared(error: BaseException, plan: BackendPlan) -> NoCredentials:
    if isinstance(error, NoCredentials):
        return error
    if isinstance(error, TimeoutError):
        return NoCredentials(f"expected to be ready for a call within {plan.timeout_s:g} s")
    return NoCredentials(f"could not get ready for a call: {error!r}")


def _fault(error: NoCredentials, plan: BackendPlan) -> Fault:
    outcome = classify(error, elapsed_s=0.0, policy=plan.policy)
    assert isinstance(outcome, Fault), "an error is never an answer"
    return outcome


def _late(timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"expected an answer within {timeout_s:g} s")


def _is_to_be_checked(backend: Backend) -> bool:
    return getattr(backend, "answers_are_compact", False) is not True


def _has_connected(ask: Ask) -> bool:
    return _attribute(ask, "connected") is not False


def _made_by(ask: Ask) -> str:
    named = _attribute(ask, "made_by")
    return named if isinstance(named, str) else ""


def _secret(ask: Ask) -> bytes | None:
    secret = _attribute(ask, "secret")
    return secret if isinstance(secret, bytes) else None


def _scrubbed(outcome: Outcome, ask: Ask) -> Outcome:
    """Return `outcome` without secrets in its message: errors of shape quote names that a backend may have echoed."""
    scrub = _attribute(ask, "scrubbed")
    if not isinstance(outcome, Fault) or not callable(scrub):
        return outcome
    try:
        message = str(scrub(outcome.message))
    except Exception:  # noqa: BLE001 - it may be code that is not ours
        message = "a message that may have a secret in it"
    return msgspec.structs.replace(outcome, message=message)


def _attribute(ask: Ask, name: str) -> object:
    try:
        return getattr(ask, name, None)
    except BaseException as error:  # noqa: BLE001 - an attribute may be computed, by code that is not ours
        go_on_with_cancellation(error)
        return None
