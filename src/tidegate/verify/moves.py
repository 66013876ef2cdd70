"""Checks the moves of one breaker, as a stream tells them, against the rules. Pure.

A breaker that is open probes at `retry_at`. Only two things bring the probe forward: a connection that could be made
while the newest failure was that there was none (``reachable``), and somebody who asks for it (``poke``).
"""

from collections.abc import Iterable, Mapping
from typing import Final

from tidegate.verify.audit import RESOLUTION_S
from tidegate.verify.frames import Frame, Move, clock, is_move, read_move, seconds

REASONS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("closed", "open"): frozenset({"failure_threshold", "failure_rate"}),
    ("open", "half_open"): frozenset({"retry_due", "reachable", "poke"}),
    ("half_open", "open"): frozenset({"probe_failed"}),
    ("half_open", "closed"): frozenset({"probe_succeeded"}),
}
"""Why a breaker that nobody forces may move."""

OVERRIDES: Final[Mapping[str, str]] = {"force_open": "open", "force_closed": "closed", "reset": "closed"}
"""What an admin can do, in any state, and the state that follows."""

POKE_EVERY_S: Final = 10.0
"""How often a poke may bring a probe forward."""

LEAST_JITTER: Final = 0.5
"""A wait with jitter takes at least this share of its longest time."""

UNREACHABLE: Final = frozenset({"RPC_DISCONNECT", "RPC_TIMEOUT"})
"""The error codes of calls without a connection. Other failures have them too; but with another, there was one."""


def missteps(frames: Iterable[Frame], *, types: Iterable[str], breaker: str, open_max_s: float) -> list[str]:
    """Check the moves of `breaker` in the order of one stream. `types` are the event types that it guards.

    `open_max_s` is its longest open period. Assumes that nobody sets the gateway's clock.
    """
    auditor = _Auditor(open_max_s)
    guarded = frozenset(types)
    wrong: list[str] = []
    for frame in frames:
        if frame.type == "circuit_breaker.state" and frame.key == breaker and frame.snapshot:
            auditor = _Auditor(open_max_s, read_move(frame))
        elif any(is_move(frame, breaker, state) for state in ("closed", "open", "half_open")):
            wrong += [f"{clock(frame.at)} {breaker}: {what}" for what in auditor.moved(read_move(frame), frame.at)]
        elif frame.type in guarded and frame.error_code == "CIRCUIT_BREAKER_OPEN" and frame.cause is not None:
            wrong += [f"{clock(frame.at)} {breaker}: {what}" for what in auditor.caused(frame.cause)]
    return wrong


def flapping_s(opening: int, *, open_max_s: float) -> float:
    """Return the longest time that the probe of a backend that can be reached waits for, since the breaker opened.

    `opening` counts the openings of a closed breaker, from 1, since it was last closed for so long that its next open
    period was the first one again.
    """
    return 0.0 if opening == 1 else min(2.0 ** min(opening - 2, 30), open_max_s)


class _Auditor:
    """What the moves so far allow. `before` is the newest one, None before the first."""

    def __init__(self, open_max_s: float, before: Move | None = None) -> None:
        self._open_max_s = open_max_s
        self._before = before
        self._tripped: Move | None = None  # the opening of a closed breaker
        self._nth: int | None = None  # which one it was; None if that is unknown
        self._opening = before if before is not None and before.state == "open" else None
        self._cause: str | None = None  # of `_opening`
        self._poked_at = float("-inf")
        self._kept_period = False

    def moved(self, move: Move, at: float) -> Iterable[str]:
        before, self._before = self._before, move
        if before is not None and move.from_state is not None:
            yield from self._misplaced(before, move)
            match move.state:
                case "half_open" if self._opening is not None:
                    yield from self._too_early(self._opening, move, at)
                case "open" if not move.forced:
                    yield from self._miscounted(before, move)
        if move.state == "open":
            self._opening, self._cause = move, None
            if move.from_state == "closed":
                self._tripped = move
                self._nth = 1 if move.open_count == 1 else None if self._nth is None else self._nth + 1

    def caused(self, cause: str) -> Iterable[str]:
        """Take what opened it, as stale events tell it."""
        if self._before is None or self._before.state != "open" or self._cause == cause:
            return
        self._cause = cause
        if self._kept_period and cause not in UNREACHABLE:
            yield f"it kept its retry_at after a probe that ended with {cause}: there was a connection"

    def _misplaced(self, before: Move, move: Move) -> Iterable[str]:
        told = f"{move.from_state} → {move.state} ({move.reason})"
        if move.from_state != before.state:
            yield f"{told}, but it was {before.state}"
        elif move.reason in OVERRIDES:
            if move.state != OVERRIDES[move.reason] or move.forced == (move.reason == "reset"):
                yield f"{told}, forced: {move.forced}"
        elif move.reason == "reload":
            if (move.state, move.forced) != ((before.state, True) if before.forced else ("closed", False)):
                yield f"{told}, forced: {move.forced}"
        elif before.forced or move.forced:
            yield f"{told}, although an admin had forced it {before.state}"
        elif move.reason not in REASONS.get((before.state, move.state), frozenset()):
            yield f"{told} is no move of a breaker"

    def _too_early(self, opening: Move, move: Move, at: float) -> Iterable[str]:
        match move.reason:
            case "retry_due" if opening.retry_at is None or at < seconds(opening.retry_at) - RESOLUTION_S:
                yield f"half-open before its retry_at, {opening.retry_at}"
            case "reachable" if self._cause is not None and self._cause not in UNREACHABLE:
                yield f"half-open because it can be reached, after {self._cause}: that it could before, too"
            case "reachable" if self._tripped is not None and self._nth is not None:
                opened_at = self._tripped.opened_at
                least_s = LEAST_JITTER * flapping_s(self._nth, open_max_s=self._open_max_s)
                if opened_at is not None and at < seconds(opened_at) + least_s - RESOLUTION_S:
                    after_s = at - seconds(opened_at)
                    yield f"half-open because it can be reached, {after_s:.3f} s after opening {self._nth}"
            case "poke":
                if at < self._poked_at + POKE_EVERY_S - RESOLUTION_S:
                    yield f"poked twice within {at - self._poked_at:.3f} s"
                self._poked_at = at

    def _miscounted(self, before: Move, move: Move) -> Iterable[str]:
        """Check the count and the period of an opening."""
        opening, self._kept_period = self._opening, False
        if before.state == "closed":
            if move.open_count not in {1, before.open_count + 1}:
                yield f"open_count {move.open_count} after {before.open_count}"
        elif opening is not None and move.retry_at == opening.retry_at:
            self._kept_period = True
            if before.reason != "reachable" or move.open_count != opening.open_count:
                yield (
                    f"opened until the same retry_at after half-open ({before.reason}),"
                    f" open_count {move.open_count} after {opening.open_count}"
                )
            return
        elif opening is not None and move.open_count != opening.open_count + 1:
            yield f"open_count {move.open_count} after {opening.open_count}, with another retry_at"
        if move.retry_at is None or move.opened_at is None or move.period_s <= 0:
            yield f"open from {move.opened_at} to {move.retry_at}"
