"""The part of ``doctor`` about backends: asks each source by itself, and tells what came, or what went wrong and why.

All sources are asked side by side, within the limits of their backends, so a slow one delays no other. The findings
come in the order of the configuration.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from tidegate.checks import backend_problems
from tidegate.cli.asking import CLOCK, Reply, asked
from tidegate.cli.certificates import certified_names, speaks_tls
from tidegate.cli.findings import Finding, Level
from tidegate.cli.outline import preview, size
from tidegate.cli.remedies import Subject, certificate_error, remedy, subject_of
from tidegate.cli.whereabouts import whereabouts
from tidegate.config import Config
from tidegate.core.polling.backend_plan import BackendPlan, SourcePlan
from tidegate.core.polling.outcome import Fault
from tidegate.core.polling.source_values import Value
from tidegate.errors import ErrorCode, HttpStatus
from tidegate.outbound.backends.opening import opened
from tidegate.plan import PlannedBackend
from tidegate.ports import Backend
from tidegate.runtime.exchange import exchange, prepare

SIDE_BY_SIDE = 32
"""How many sources are asked at once, of all backends together."""

KEYS = 5
"""How many keys of items are shown."""

_OF_ALL = frozenset({ErrorCode.RPC_DISCONNECT, ErrorCode.RPC_AUTH})
"""Faults that are said once, if several sources of a backend have the same."""

_OTHER_NAME = frozenset({62, 64})
"""OpenSSL's codes for a certificate that is for another name or address."""


async def examined_backends(config: Config, wanted: Sequence[PlannedBackend]) -> AsyncIterator[Finding]:
    """Ask every source of the backends `wanted`, and yield the findings in their order."""
    limit = asyncio.Semaphore(SIDE_BY_SIDE)
    tasks = [asyncio.ensure_future(_examined(config, backend, limit)) for backend in wanted]
    try:
        for task in tasks:
            for finding in await task:
                yield finding
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _examined(config: Config, wanted: PlannedBackend, limit: asyncio.Semaphore) -> list[Finding]:
    what, plan = f"backend {wanted.name}", wanted.polling
    if problems := backend_problems(wanted):
        remedy_ = f"correct it in [backends.{wanted.name}]"
        return [Finding(Level.FAIL, what, str(problem), remedy_) for problem in problems]
    if not plan.sources:
        return [
            Finding(Level.WARN, what, "no source asks it anything", "name it as `backend` of a source, or remove it")
        ]
    async with opened(wanted.endpoint, CLOCK) as backend:
        replies = await _replies(backend, plan, limit)
        findings = [await _found(config, wanted, sources, reply) for sources, reply in _grouped(plan.sources, replies)]
        good = sum(reply.fault is None for reply in replies)
        if plan.batch and good == len(plan.sources) > 1:
            findings += await _in_a_batch(backend, plan, what)
    if good:
        slowest_s = max(reply.elapsed_s for reply in replies if reply.fault is None)
        total = f"{good} of {len(plan.sources)} source(s) answered well, within {slowest_s:.3f} s"
        findings.append(Finding(Level.OK, what, total))
    return findings


async def _replies(backend: Backend, plan: BackendPlan, limit: asyncio.Semaphore) -> list[Reply]:
    own_limit = asyncio.Semaphore(plan.connections)

    async def reply(source: SourcePlan) -> Reply:
        async with own_limit, limit:
            return await asked(backend, plan, source)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(reply(source)) for source in plan.sources]
    return [task.result() for task in tasks]


def _grouped(sources: Sequence[SourcePlan], replies: Sequence[Reply]) -> list[tuple[list[SourcePlan], Reply]]:
    """Return each reply with its source, or with all sources to which the same thing happened before they got through.

    Where nothing listens, it is enough to say so once.
    """
    groups: list[tuple[list[SourcePlan], Reply]] = []
    first: dict[tuple[str, str], list[SourcePlan]] = {}
    for source, reply in zip(sources, replies, strict=True):
        fault = reply.fault
        same = None if fault is None or fault.code not in _OF_ALL else (fault.code, fault.message)
        if same in first:
            first[same].append(source)
            continue
        groups.append(([source], reply))
        if same is not None:
            first[same] = groups[-1][0]
    return groups


async def _found(config: Config, wanted: PlannedBackend, sources: Sequence[SourcePlan], reply: Reply) -> Finding:
    what, names = f"backend {wanted.name}", ", ".join(source.spec.type for source in sources)
    if reply.fault is None:
        lines = tuple(map(reply.scrubbed, published(reply.value)))
        return Finding(Level.OK, what, f"{names}: {came(reply)}", details=lines)
    subject = subject_of(config.backends[wanted.name], wanted.name, sources[0])
    found = f"{names}: {reply.fault.code}, {reply.fault.message}"
    details, advice = await explained(subject, reply)
    return Finding(Level.FAIL, what, found, reply.scrubbed(advice), tuple(map(reply.scrubbed, details)))


def came(reply: Reply) -> str:
    """Return in words how large an answer was, and how long it took."""
    assert reply.answer is not None, "the caller has looked"
    return f"{size(reply.answer)} in {reply.elapsed_s:.3f} s"


def published(value: Value | None) -> list[str]:
    """Return what a source would publish of its answer, in a line or two."""
    if not isinstance(value, Mapping):
        return [] if value is None else [f"publishes {preview(value)}"]
    if not value:
        return ["publishes nothing: there is no item now"]
    keys = ", ".join(list(value)[:KEYS]) + ", …" * (len(value) > KEYS)
    first, raw = next(iter(value.items()))
    return [f"publishes {len(value)} item(s): {keys}", f"{first}: {preview(raw)}"]


async def explained(subject: Subject, reply: Reply) -> tuple[list[str], str]:
    """Return what else can be found out about a fault, such as what is in the answer, and what to do about it."""
    advice, url = remedy(subject, reply), subject.backend.address
    if reply.answer is not None:
        return [f"the answer: {came(reply)}", *whereabouts(reply.answer, subject.shape)], advice
    if subject.backend.socket is not None or subject.backend.proxy is not None:
        return [], advice  # a look takes the direct way
    refused = certificate_error(reply)
    if refused is not None and refused.verify_code in _OTHER_NAME:
        names = await certified_names(url, subject.backend.ca_file)
        return [f"its certificate is for {', '.join(names)}"] if names else [], advice
    if url.startswith("http://") and _may_want_tls(reply) and await speaks_tls(url):
        return [], f"it speaks TLS on this port: write https:// in {subject.backend_key}.url"
    return [], advice


def _may_want_tls(reply: Reply) -> bool:
    """Whether that is how servers answer to bare HTTP where they expect TLS."""
    if isinstance(reply.error, HttpStatus):
        return reply.error.status == 400
    fault = reply.fault
    return (
        fault is not None
        and not fault.unreachable
        and fault.code in {ErrorCode.RPC_DISCONNECT, ErrorCode.RPC_INVALID_RESPONSE}
    )


async def _in_a_batch(backend: Backend, plan: BackendPlan, what: str) -> list[Finding]:
    """Poll all sources in one batch. Return the faults that occur only in a batch."""
    prepared = await prepare(backend, plan, CLOCK)
    if isinstance(prepared, Fault):
        return [Finding(Level.FAIL, what, f"in a batch: {prepared.code}, {prepared.message}", "run it again")]
    outcomes = await exchange(prepared, plan, plan.sources, CLOCK)
    advice = f"set backends.{plan.name}.batch = false: alone, each source is answered well"
    return [
        Finding(Level.FAIL, what, f"{source.spec.type}, in a batch: {outcome.code}, {outcome.message}", advice)
        for source, (outcome, _) in zip(plan.sources, outcomes, strict=True)
        if isinstance(outcome, Fault)
    ]
