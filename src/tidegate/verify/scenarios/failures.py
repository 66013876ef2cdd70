"""Scenario 2: all the ways in which a call can fail, one after the other."""

import asyncio
from typing import Final

import msgspec

from tidegate.verify import audit
from tidegate.verify.faultproxy import AnyFault, Fault
from tidegate.verify.frames import Frame, ReportedError, read_error, read_move
from tidegate.verify.observer import Observer
from tidegate.verify.trial import Trial

GROWTH_BYTES: Final = 64 * 1024 * 1024
"""Limit on the extra memory of the gateway, whatever the backend sends."""

WRONG_REQUEST: Final = -32601
"""A JSON-RPC error code that does not count as a failure of the backend: it proves that the backend is alive."""

RETRY_AFTER_S: Final = 1
REPORTS: Final = 3
"""How many `rpc_error` events of one episode to wait for, to see the rate limit take effect."""


class Failure(msgspec.Struct, frozen=True):
    """A fault, its name in the report, and the error code that must result."""

    name: str
    fault: AnyFault
    code: str


FAILURES: Final = (
    Failure("refused", Fault.down(), "RPC_DISCONNECT"),
    Failure("reset in mid-body", Fault.reset(), "RPC_DISCONNECT"),
    Failure("hang", Fault.black_hole(), "RPC_TIMEOUT"),
    Failure("stalled headers", Fault.stalled_headers(), "RPC_TIMEOUT"),
    Failure("HTTP 500", Fault.status(code=500), "RPC_HTTP_STATUS"),
    Failure("HTTP 401", Fault.unauthorized(), "RPC_AUTH"),
    Failure("HTML with 200", Fault.html(), "RPC_INVALID_RESPONSE"),
    Failure("wrong id", Fault.wrong_id(), "RPC_INVALID_RESPONSE"),
    Failure("truncated JSON", Fault.truncated_json(), "RPC_INVALID_RESPONSE"),
    Failure("result and error", Fault.result_and_error(), "RPC_INVALID_RESPONSE"),
    Failure("neither result nor error", Fault.no_result_no_error(), "RPC_INVALID_RESPONSE"),
    Failure("NaN", Fault.nan(), "RPC_INVALID_RESPONSE"),
    Failure("deeply nested JSON", Fault.deep_json(), "RPC_INVALID_RESPONSE"),
    Failure("100 MB body", Fault.huge_body(), "RPC_INVALID_RESPONSE"),
    Failure("endless body", Fault.endless_body(), "RPC_INVALID_RESPONSE"),
    Failure("application error", Fault.rpc_error(), "RPC_APPLICATION_ERROR"),
)


async def play(trial: Trial) -> None:
    async with (
        trial.watching("a client of everything") as watcher,
        trial.watching("a client of the defaults", types=None),
    ):
        begun = watcher.mark
        resident = trial.resident_bytes()
        for failure in FAILURES:
            await _fails_and_recovers(trial, watcher, failure)
        await _is_told_when_to_come_back(trial, watcher)
        await _a_connection_that_died_idle_is_no_failure(trial, watcher)
        await _speaks_up_at_a_bounded_rate(trial, watcher)
        interval_s = trial.settings.rpc_error_interval_s if trial.settings else None
        trial.check_none(
            "rpc_error: the first failure of an episode at once, then within the limit, and no failure uncounted",
            audit.misreports(watcher.frames[begun:], types=trial.sources, interval_s=interval_s),
            f"{sum(frame.type == 'rpc_error' for frame in watcher.frames[begun:])} events",
        )
        _check_memory(trial, resident)


async def _fails_and_recovers(trial: Trial, watcher: Observer, failure: Failure) -> None:
    """Check that every source reports this failure, and that everything is fresh after the fault is switched off."""
    mark = watcher.mark
    await trial.proxy.set(failure.fault)

    def told() -> tuple[list[ReportedError]] | None:
        events = watcher.values(trial.sources, after=mark)
        stale = {frame.type for frame in events if frame.stale and _is_because(frame, failure.code)}
        errors = [error for error in _errors(trial, watcher, mark) if error.consecutive_failures == 1]
        is_reported = errors or trial.settings is None  # in a deployment, the episode before may go on
        return (errors,) if is_reported and len(stale) == len(trial.sources) else None

    reported = "and an rpc_error says so" if trial.settings else "whether or not an rpc_error is due"
    (errors,) = await trial.see(
        f"{failure.name}: every source is stale for {failure.code}, {reported}",
        watcher,
        told,
        say=lambda told: f"{len(told[0])} rpc_error, the first: {told[0][0].message if told[0] else 'none yet'}",
    )
    odd = [f"rpc_error of {error.source}: {error.error_code}" for error in errors if error.error_code != failure.code]
    odd += [
        f"{frame.type}: {frame.error_code}, cause {frame.cause}"
        for frame in watcher.values(trial.sources, after=mark)
        if frame.stale and not _is_because(frame, failure.code)
    ]
    trial.check_none(f"{failure.name}: no other code is told", odd, f"{failure.code} in {len(errors)} rpc_error")
    mark = watcher.mark
    await trial.deployment.recover_fully()
    await trial.see_fresh(f"{failure.name} is over: every source is fresh", watcher, after=mark)


async def _is_told_when_to_come_back(trial: Trial, watcher: Observer) -> None:
    """Check that 429 counts as a failure, and that the open period is at least its Retry-After."""
    mark = watcher.mark
    await trial.proxy.set(Fault.too_many_requests(retry_after_s=RETRY_AFTER_S))
    _, move = await trial.see_move("HTTP 429 opens the breaker", watcher, "open", after=mark)
    codes = {error.error_code for error in _errors(trial, watcher, mark)}
    claim = "HTTP 429: the code is RPC_HTTP_STATUS"
    if codes or trial.settings:
        trial.check(claim, codes == {"RPC_HTTP_STATUS"}, ", ".join(codes) or "none")
    else:
        trial.skip(claim, "no rpc_error was due: the episode before goes on")
    saw = f"Retry-After {RETRY_AFTER_S} s, open for {move.period_s:.3f} s"
    trial.check("HTTP 429: not before Retry-After", move.period_s >= RETRY_AFTER_S - audit.RESOLUTION_S, saw)
    mark = watcher.mark
    await trial.deployment.recover_fully()
    await trial.see_fresh("HTTP 429 is over: every source is fresh", watcher, after=mark)


async def _a_connection_that_died_idle_is_no_failure(trial: Trial, watcher: Observer) -> None:
    mark = watcher.mark
    await trial.proxy.set(Fault.dead_keep_alive(count=len(trial.sources)))
    met = await trial.proxy.until(lambda state: not state.faults, within_s=trial.patience_s)
    claim = "a connection that died while idle is nobody's failure: the call is sent again"
    if not met:
        trial.skip(claim, "no connection was used a second time")
        return
    await asyncio.sleep(trial.deployment.interval_s)
    stale = [frame.type for frame in watcher.values(trial.sources, after=mark) if frame.stale]
    trial.check(claim, not stale, f"stale: {', '.join(stale) or 'none'}")


async def _speaks_up_at_a_bounded_rate(trial: Trial, watcher: Observer) -> None:
    """Check that an error caused by the caller is reported at every tick and never opens the breaker."""
    claim = f"JSON-RPC error {WRONG_REQUEST} is reported again and again, and never opens the breaker"
    if trial.settings is None:
        trial.skip(claim, "the limit of a deployment is not public, and may be long")
        return
    mark = watcher.mark
    await trial.proxy.set(Fault.rpc_error(code=WRONG_REQUEST))

    def told() -> list[ReportedError] | None:
        first = [e for e in _errors(trial, watcher, mark) if e.source == trial.sources[0]]
        return first if len(first) >= REPORTS else None

    await trial.see(
        f"{REPORTS} reports of one episode",
        watcher,
        told,
        say=lambda errors: "failures in a row: " + ", ".join(str(error.consecutive_failures) for error in errors),
    )
    moves = [read_move(frame).state for frame in watcher.moves(trial.breaker, after=mark)]
    rest = await trial.gateway.breaker(trial.breaker)
    saw = f"moves: {', '.join(moves) or 'none'}; failure_count {rest.failure_count}"
    trial.check(claim, not moves and rest.failure_count == 0, saw)


def _check_memory(trial: Trial, before: int | None) -> None:
    claim = "the gateway needs no more memory for all that"
    peak = trial.peak_bytes()
    if before is None or peak is None:
        trial.skip(claim, "the gateway's process is not ours to look at")
        return
    saw = f"{before >> 20} MiB before, {peak >> 20} MiB at the most"
    trial.check(claim, peak - before <= GROWTH_BYTES, saw)


def _errors(trial: Trial, watcher: Observer, mark: int) -> list[ReportedError]:
    errors = [read_error(frame) for frame in watcher.frames[mark:] if frame.type == "rpc_error"]
    return [error for error in errors if error.source in trial.sources]


def _is_because(frame: Frame, code: str) -> bool:
    """Return whether an event is stale because of the failure `code`, directly or through the opened breaker.

    A value may also become overdue shortly before its poll times out.
    """
    match frame.error_code:
        case "CIRCUIT_BREAKER_OPEN":
            return frame.cause == code
        case "OVERDUE":
            return code == "RPC_TIMEOUT"
        case told:
            return told == code
