"""Checks that every stream and every call log must pass in all scenarios. Pure. Most return a list of violations."""

import itertools
from collections.abc import Collection, Iterable, Sequence

from tidegate.verify.faultproxy import CallRecord
from tidegate.verify.frames import Frame, Name, ReportedError, Welcome, clock, read_error, read_move, read_place

HANDS_OVER = frozenset({"welcome", "subscribed", "authenticated"})
"""The messages after which current values follow, and then `synced`."""

RESOLUTION_S = 0.002
"""Tolerance when comparing times: two times on the wire are each truncated to milliseconds."""


def gaps(frames: Sequence[Frame], *, welcome: Welcome, everything: bool) -> list[str]:
    """Check that positions increase from that of `welcome`, and without a hole if the client sees `everything`."""
    wrong = [f"a gap was announced: {frame.value.decode()}" for frame in frames if frame.type == "gap"]
    newest = welcome.seq
    for frame in frames:
        if frame.seq is None or frame.snapshot:
            continue
        if frame.seq <= newest:
            wrong.append(f"position {frame.seq} ({frame.type}) came after {newest}")
        elif everything and frame.seq != newest + 1:
            missing = f"{newest + 1} to {frame.seq - 1}" if frame.seq > newest + 2 else str(newest + 1)
            wrong.append(f"position {missing} is missing before {frame.seq} ({frame.type})")
        newest = max(newest, frame.seq)
    return wrong


def handovers(frames: Sequence[Frame]) -> list[str]:
    """Check that one `synced` follows each message of `HANDS_OVER`, after all snapshots and events up to its `seq`."""
    wrong: list[str] = []
    is_due = False
    newest = 0
    for frame in frames:
        if frame.type in HANDS_OVER:
            is_due = True
        elif frame.type == "synced":
            if not is_due:
                wrong.append("synced came although nothing had been handed over")
            is_due = False
            if (seq := read_place(frame).seq) < newest:
                wrong.append(f"synced says {seq} after {newest}")
        elif frame.snapshot and not is_due:
            wrong.append(f"the snapshot of {frame.type} came after synced")
        elif frame.seq is not None and not frame.snapshot:
            newest = max(newest, frame.seq)
    return [*wrong, "synced did not come"] if is_due else wrong


def lies(frames: Iterable[Frame], *, types: Collection[str], breaker: str) -> list[str]:
    """Check the data events of `types`, which `breaker` guards, in the order of one stream, for contradictions.

    Each event says whether it is stale, and as of when. A stale event says why. `as_of` never goes back (this assumes
    that nobody sets the gateway's clock). While `as_of` is unchanged, so is the data. Events are fresh only while the
    breaker is closed.
    """
    wrong: list[str] = []
    state: str | None = None
    before: dict[Name, Frame] = {}
    for frame in frames:
        if frame.type == "circuit_breaker.state" and frame.key == breaker:
            state = read_move(frame).state
        if frame.type not in types or frame.gone:
            continue
        wrong += [f"{clock(frame.at)} {frame.type}: {what}" for what in _contradictions(frame, state)]
        if (previous := before.get(frame.name)) is not None:
            wrong += [f"{clock(frame.at)} {frame.type}: {what}" for what in _regressions(previous, frame)]
        before[frame.name] = frame
    return wrong


def _contradictions(frame: Frame, state: str | None) -> Iterable[str]:
    if frame.stale is None:
        yield "says neither stale nor fresh"
    if frame.as_of is None or frame.source is None:
        yield "has no as_of or no source"
    if frame.stale and frame.error_code is None:
        yield "is stale and has no error_code"
    if frame.stale is False and frame.error_code is not None:
        yield f"is fresh and has the error_code {frame.error_code}"
    if frame.stale is False and state not in {None, "closed"}:
        yield f"is fresh while the breaker is {state}"
    if frame.error_code == "CIRCUIT_BREAKER_OPEN" and state == "open" and frame.retry_at is None:
        yield "has no retry_at although the breaker is open"


def _regressions(previous: Frame, frame: Frame) -> Iterable[str]:
    if previous.as_of is None or frame.as_of is None:
        return
    if frame.as_of < previous.as_of:
        yield f"as_of went back from {previous.as_of} to {frame.as_of}"
    unchanged = frame.as_of == previous.as_of and not (frame.expired or previous.expired)
    if unchanged and frame.value != previous.value:
        yield f"the data of {frame.as_of} changed to {frame.value[:120]!r}"


def misreports(frames: Iterable[Frame], *, types: Collection[str], interval_s: float | None) -> list[str]:
    """Check the `rpc_error` events of `types`.

    Their counts of failures must be right. Within an episode, that is a run of failures, the next event must not come
    sooner than `interval_s` after the last. With None the limit is unknown and not checked.
    """
    wrong: list[str] = []
    before: dict[str, tuple[Frame, ReportedError]] = {}
    for frame in frames:
        if frame.type != "rpc_error" or (error := read_error(frame)).source not in types:
            continue
        previous = before.get(error.source)
        before[error.source] = frame, error
        if error.consecutive_failures > 1 and previous is not None:
            wrong += [f"{error.source}: {what}" for what in _miscounts(previous, (frame, error), interval_s)]
    return wrong


def _miscounts(
    previous: tuple[Frame, ReportedError], this: tuple[Frame, ReportedError], interval_s: float | None
) -> Iterable[str]:
    apart_s = this[0].at - previous[0].at
    if interval_s is not None and apart_s < interval_s - RESOLUTION_S:
        yield f"two rpc_error in one episode, {apart_s:.3f} s apart"
    told = this[1].consecutive_failures - previous[1].consecutive_failures
    # An episode goes on if the source was well only for a moment. Then all failures since were not reported.
    is_next_run = this[1].suppressed + 1 >= this[1].consecutive_failures
    if told != this[1].suppressed + 1 and not is_next_run:
        yield f"{told} failures since the last rpc_error, but suppressed is {this[1].suppressed}"


def most_at_once(calls: Iterable[CallRecord], *, methods: tuple[str, ...] | None = None) -> int:
    """Return the largest number of calls (of `methods`, if given) that were in flight at the same time."""
    chosen = [call for call in calls if methods is None or call.methods == methods]
    moments = [(call.came_mono, 1) for call in chosen]
    moments += [(call.ended_mono, -1) for call in chosen if call.ended_mono is not None]
    return max(itertools.accumulate(step for _, step in sorted(moments)), default=0)
