"""One exchange with a backend: its calls under a deadline, and what each source's part of it came to."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from tidegate.core.breaker import BreakerConfig
from tidegate.core.freshness import SourceSpec, Value
from tidegate.core.outcome import ClassifyPolicy, Outcome, classify
from tidegate.core.payload import keyed_items, select, within
from tidegate.errors import BackendError, DeadlineExceeded
from tidegate.ports import Backend, Call


class SourcePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How one source is polled. `select` and `items` are JSON Pointers; `key` names the items of a keyed source."""

    spec: SourceSpec
    call: Call
    breaker: str
    select: str = ""
    items: str = ""
    key: str | None = None
    idle_interval_s: float | None = None


class BackendPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How one backend is polled."""

    name: str
    timeout_s: float
    batch: bool
    breaker: BreakerConfig
    policy: ClassifyPolicy
    event_bytes: int
    rpc_error_interval_s: float
    sources: Sequence[SourcePlan]


async def exchange(
    backend: Backend, plan: BackendPlan, sources: Sequence[SourcePlan], *, monotonic: Callable[[], float]
) -> list[tuple[Outcome, Value | None]]:
    """Ask `backend` for `sources` at once: what each came to, in their order, and its value where that is good.

    `monotonic` tells the time in seconds. Failures are outcomes here, not exceptions; none is kept beyond its
    classification: its traceback holds the answer that was read, however large.
    """
    began = monotonic()

    def classified(result: msgspec.Raw | Exception) -> Outcome:
        return classify(result, elapsed_s=monotonic() - began, policy=plan.policy)

    def judged(source: SourcePlan, answer: msgspec.Raw | BackendError) -> tuple[Outcome, Value | None]:
        if isinstance(answer, BackendError):
            return classified(answer), None
        try:
            value = _value(source, answer, event_bytes=plan.event_bytes)
        except Exception as error:  # noqa: BLE001 - what cannot be read is an outcome too
            return classified(error), None
        return classified(answer), value

    try:
        async with asyncio.timeout(plan.timeout_s):
            answers = await backend.call([source.call for source in sources])
    except TimeoutError:
        late = DeadlineExceeded(f"expected an answer within {plan.timeout_s:g} s")
        return [(classified(late), None)] * len(sources)
    except Exception as error:  # noqa: BLE001 - whatever a call ended with is an outcome
        return [(classified(error), None)] * len(sources)
    return [judged(source, answer) for source, answer in zip(sources, answers, strict=True)]


def _value(plan: SourcePlan, result: msgspec.Raw, *, event_bytes: int) -> Value:
    """The part of a `result` that the source wants. Raises `InvalidResponse` where it isn't there or is too long."""
    wanted = select(result, plan.select)
    if plan.key is None:
        return within(wanted, event_bytes)
    found = keyed_items(wanted, items=plan.items, key=plan.key)
    return {key: within(item, event_bytes) for key, item in found.items()}
