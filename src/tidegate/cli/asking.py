"""Asks a source of a backend once, as the gateway would, and keeps what came: for ``doctor`` and ``call``.

The rules are the gateway's own, in `tidegate.runtime.exchange`. Only what that drops is kept here: the whole answer,
and the error with its cause.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.polling.source_values import Value
from tidegate.errors import BackendError, ErrorCode
from tidegate.outbound.clock import SystemClock
from tidegate.ports import Ask, Backend, Call
from tidegate.runtime.exchange import exchange, prepare

GRACE_S = 2.0
"""How long a backend may take, beyond its timeouts, to end a call that was cancelled."""

CLOCK = SystemClock()


class Reply(msgspec.Struct, frozen=True):
    """What came of one call within `elapsed_s` seconds: a `value` to be published, or a `fault`.

    `answer` is the whole answer, if there was one. `error` is what the fault was made of, with its cause, if that is
    known. Show nothing of an answer that `scrubbed` has not seen: a backend may repeat the secrets that it was sent.
    """

    elapsed_s: float
    value: Value | None = None
    fault: Fault | None = None
    answer: msgspec.Raw | None = None
    error: BaseException | None = None
    scrubbed: Callable[[str], str] = str


async def asked(backend: Backend, plan: BackendPlan, source: SourcePlan) -> Reply:
    """Ask `source` once. Returns within its timeout, whatever the backend does. If this is cancelled, the call is."""
    began = time.monotonic()
    task = asyncio.ensure_future(_asked(backend, plan, source))
    limit_s = plan.timeout_s + source.spec.timeout_s + GRACE_S
    try:
        await asyncio.wait({task}, timeout=limit_s)
    finally:
        if not task.done():
            task.cancel()
    if task.done():
        return task.result()
    message = f"expected the call to end when it was cancelled after {source.spec.timeout_s:g} s, it goes on"
    return Reply(time.monotonic() - began, fault=Fault(ErrorCode.RPC_TIMEOUT, message, Verdict.FAILURE))


async def _asked(backend: Backend, plan: BackendPlan, source: SourcePlan) -> Reply:
    began = time.monotonic()
    prepared = await prepare(backend, plan, CLOCK)
    if isinstance(prepared, Fault):
        return Reply(time.monotonic() - began, fault=prepared)
    witness = _Witness(prepared.ask)
    [(outcome, value)] = await exchange(msgspec.structs.replace(prepared, ask=witness), plan, [source], CLOCK)
    elapsed_s = time.monotonic() - began
    scrubbed: Callable[[str], str] = getattr(prepared.ask, "scrubbed", str)
    if isinstance(outcome, Fault):
        return Reply(elapsed_s, fault=outcome, answer=witness.answer, error=witness.error, scrubbed=scrubbed)
    return Reply(elapsed_s, value=value, answer=outcome.data, scrubbed=scrubbed)


class _Witness:
    """Passes one call on, and keeps what it returned or raised. Has the attributes of the function that it calls."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.answer: msgspec.Raw | None = None
        self.error: BaseException | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._ask, name)

    async def __call__(self, calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        try:
            answers = await self._ask(calls)
        except BaseException as error:
            self.error = error
            raise
        match answers:
            case [msgspec.Raw() as answer]:
                self.answer = answer
            case [BackendError() as fault]:
                self.error = fault
        return answers
