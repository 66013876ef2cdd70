"""One run of one scenario: the tools that it uses, and the list of its checks."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar

from tidegate.verify import audit
from tidegate.verify.deployment import Deployment
from tidegate.verify.endpoints import POLL_S
from tidegate.verify.frames import Frame, Move, Name, clock, is_move, read_move
from tidegate.verify.moves import missteps
from tidegate.verify.observer import NotSeen, Observer, StreamEnded, observing
from tidegate.verify.obstacles import CheckFailed
from tidegate.verify.report import Check, Figure, Outcome, ScenarioResult
from tidegate.verify.stream_position import StreamPosition

OPEN_PERIODS = 8
"""How long the next two open periods and their probes take at most, in multiples of the last open period."""

SHOWN = 3
"""How many violations are listed in one check. The others are only counted."""

Good = Mapping[Name, Frame]
"""The last good event of each value, by name."""

T = TypeVar("T")


class Progress(Protocol):
    """Receives the progress of a verification."""

    def preparing(self, what: str) -> None: ...

    def began(self, title: str, promise: str) -> None: ...

    def checked(self, check: Check) -> None: ...

    def ended(self, result: ScenarioResult) -> None: ...


class Trial:
    """The interface of a scenario to the deployment. It waits for events, and records each checked claim as `Check`."""

    def __init__(self, deployment: Deployment, progress: Progress) -> None:
        self.deployment = deployment
        self.gateway = deployment.gateway
        self.proxy = deployment.proxy
        self.breaker = deployment.backend
        self.sources = deployment.sources
        self.settings = deployment.settings
        self.checks: list[Check] = []
        self._progress = progress
        self._began = time.monotonic()
        self._open_s = 0.0

    def at(self, deployment: Deployment) -> "Trial":
        """Return a trial of another deployment. Its checks are recorded here."""
        other = Trial(deployment, self._progress)
        other.checks, other._began = self.checks, self._began
        return other

    @property
    def patience_s(self) -> float:
        """The timeout for expected events. It allows for a probe and, if that fails, for the next one."""
        return self.deployment.patience_s + OPEN_PERIODS * self._open_s

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def resident_bytes(self) -> int | None:
        """Return the current resident memory of the gateway; None unless it is a child of this process."""
        programs = self.deployment.programs
        return None if programs is None else programs.gateway.resident_bytes()

    def peak_bytes(self) -> int | None:
        """Return the peak resident memory of the gateway; None unless it is a child of this process."""
        programs = self.deployment.programs
        return None if programs is None else programs.gateway.peak_bytes()

    def check(self, claim: str, holds: bool, saw: str) -> None:
        """Record whether `claim` holds, and what was seen."""
        self._note(claim, Outcome.PASSED if holds else Outcome.FAILED, saw)

    def require(self, claim: str, holds: bool, saw: str) -> None:
        """Like `check`, but raise `CheckFailed` if `claim` does not hold: the rest of the scenario depends on it."""
        self.check(claim, holds, saw)
        if not holds:
            raise CheckFailed(claim)

    def check_none(self, claim: str, wrong: list[str], saw: str) -> None:
        """Like `check`, for a list of violations, which should be empty."""
        more = f" (and {len(wrong) - SHOWN} more)" if len(wrong) > SHOWN else ""
        self.check(claim, not wrong, "; ".join(wrong[:SHOWN]) + more if wrong else saw)

    def measure(self, claim: str, figure: Figure, *, saw: str, tolerance: float = 0.0) -> None:
        """Check that what was measured is within its bound, and at most `tolerance` beyond it."""
        holds = figure.measured is not None and figure.measured <= figure.bound + tolerance
        self._note(claim, Outcome.PASSED if holds else Outcome.FAILED, f"{figure}; {saw}", figure)

    def skip(self, claim: str, why: str) -> None:
        """Record that `claim` cannot be checked here."""
        self._note(claim, Outcome.SKIPPED, why)

    async def see(
        self,
        claim: str,
        observer: Observer,
        condition: Callable[[], T | None],
        *,
        say: Callable[[T], str],
    ) -> T:
        """Wait until `condition` is true for `observer`, and return its value. Raises `CheckFailed` on a timeout."""
        try:
            found = await observer.when(condition, within_s=self.patience_s)
        except NotSeen as error:
            self.check(claim, False, str(error))
        except StreamEnded as error:
            self.check(claim, False, f"the connection of {observer.label} was lost: {error}")
        else:
            self.check(claim, True, say(found))
            return found
        raise CheckFailed(claim)

    async def see_move(self, claim: str, observer: Observer, state: str, *, after: int) -> tuple[Frame, Move]:
        """Wait for the next move of the breaker into `state`."""
        frame = await self.see(
            claim,
            observer,
            lambda: next((f for f in observer.frames[after:] if is_move(f, self.breaker, state)), None),
            say=lambda frame: shown_move(frame, read_move(frame)),
        )
        move = read_move(frame)
        if move.retry_at is not None:
            self._open_s = max(0.0, move.period_s)  # after a knock an old `retry_at` may have passed
        return frame, move

    async def see_probe_fail(self, observer: Observer, opening: Frame) -> Frame:
        """Wait for the next opening after `opening`. Only then are all calls over that the closed breaker admitted."""
        claim = "a probe fails, and the breaker opens again"
        frame, _ = await self.see_move(claim, observer, "open", after=observer.after(opening))
        return frame

    async def see_fresh(self, claim: str, observer: Observer, *, after: int) -> dict[str, Frame]:
        """Wait until every source has published a fresh event."""

        def found() -> dict[str, Frame] | None:
            values = observer.values(self.sources, after=after)
            fresh = {f.type: f for f in reversed(values) if f.stale is False}
            return fresh if len(fresh) == len(self.sources) else None

        return await self.see(claim, observer, found, say=shown_times)

    async def see_stale(self, claim: str, observer: Observer, *, after: int) -> dict[str, Frame]:
        """Wait until every source has published a stale event. Return the first of each."""

        def found() -> dict[str, Frame] | None:
            stale = {f.type: f for f in reversed(observer.values(self.sources, after=after)) if f.stale}
            return stale if len(stale) == len(self.sources) else None

        return await self.see(claim, observer, found, say=shown_times)

    async def see_held(self, count: int) -> None:
        """Wait until the proxy holds `count` answers. Raises `CheckFailed` on a timeout."""
        held = await self.proxy.until(lambda state: state.held >= count, within_s=self.patience_s)
        self.require("the backend is asked, and the answer held", held, "yes" if held else "no call came")

    async def until_probed(self, *, after: int) -> None:
        """Wait until the probe, a call with a number above `after`, has reached the proxy.

        This is needed because the move to half-open is published before the call is made. Stop when the breaker is no
        longer half-open: the probe may have come before `after` was read.
        """
        deadline = time.monotonic() + self.patience_s
        while await self.proxy.last_call() <= after and (await self.gateway.breaker(self.breaker)).state == "half_open":
            self.require("the probe is sent", time.monotonic() < deadline, "no call came")
            await asyncio.sleep(POLL_S)

    def last_good(self, observer: Observer) -> Good:
        """Return the newest fresh event of each value that `observer` received, live or as a snapshot.

        Raises `CheckFailed` if there is none of a source.
        """
        good = {f.name: f for f in observer.frames if f.type in self.sources and f.stale is False}
        unknown = [event_type for event_type in self.sources if event_type not in {name for name, _ in good}]
        saw = f"{len(good)} values" if not unknown else f"nothing of {', '.join(unknown)}"
        self.require(f"{observer.label} knows the last good data of every source", not unknown, saw)
        return good

    def falsehoods(self, frames: Iterable[Frame], good: Good) -> list[str]:
        """Check that all events of a failing backend are stale repeats of `good`. Return the violations.

        In a running deployment, a source may publish only changes (`on_change`). Then `as_of` may be newer than in the
        last event that was published.
        """
        wrong = []
        for frame in frames:
            last = good.get(frame.name)
            if last is None:
                continue
            where = f"{' '.join(frame.name).strip()} of {clock(frame.at)}"
            as_of, known = frame.as_of or "", last.as_of or ""
            if frame.stale is not True or frame.error_code is None:
                wrong.append(f"{where}: stale is {frame.stale}, error_code {frame.error_code}")
            if frame.value != last.value:
                wrong.append(f"{where}: the data changed from {last.value[:80]!r} to {frame.value[:80]!r}")
            if as_of < known or (self.deployment.is_local and as_of != known):
                wrong.append(f"{where}: as_of is {as_of or None}, not {known}")
        return wrong

    async def agree(self, move: Move) -> None:
        """Check that REST shows the same state of the breaker as `move`, which must be its latest move."""
        rest = await self.gateway.breaker(self.breaker)
        told = (move.state, move.forced, move.failure_count, move.open_count, move.retry_at)
        shown = (rest.state, rest.forced, rest.failure_count, rest.open_count, rest.retry_at)
        saw = f"{rest.failure_count} failures, {rest.open_count} openings, retry_at {rest.retry_at}"
        self.check(
            f"REST says {move.state} as the event did", told == shown, saw if told == shown else f"{told}, {shown}"
        )

    @asynccontextmanager
    async def watching(self, label: str, *, types: Iterable[str] | None = ("*",)) -> AsyncIterator[Observer]:
        """Connect a client. At the end, check its whole stream, and that the connection is still open."""
        async with self.visiting(label, types=types) as observer:
            try:
                yield observer
            finally:
                await self._judge(observer)

    def visiting(
        self, label: str, *, types: Iterable[str] | None = ("*",), since: str | None = None
    ) -> AbstractAsyncContextManager[Observer]:
        """Connect a client whose stream is not checked."""
        return observing(self.gateway.url, label=label, types=types, since=since, token=self.deployment.token)

    async def _judge(self, observer: Observer) -> None:
        try:
            await observer.ping(within_s=self.patience_s)
        except (NotSeen, StreamEnded) as error:
            self.check(f"the connection of {observer.label} is still open", False, str(error))
        seen = f"{len(observer.frames)} messages"
        wrong = audit.gaps(observer.frames, welcome=observer.welcome, everything=observer.everything)
        self.check_none(f"{observer.label} got every event once, in order", [*observer.malformed, *wrong], seen)
        self.check_none(
            f"{observer.label} was told when all had been handed over", audit.handovers(observer.frames), seen
        )
        if observer.ended is None:
            await self._check_resume(observer)
        wrong = missteps(
            observer.frames, types=self.sources, breaker=self.breaker, open_max_s=self.deployment.rules.open_max_s
        )
        self.check_none(f"{observer.label} was told of no move that a breaker may not make", wrong, seen)
        wrong = audit.lies(observer.frames, types=self.sources, breaker=self.breaker)
        self.check_none(f"{observer.label} was told nothing that cannot be true", wrong, seen)

    async def _check_resume(self, observer: Observer) -> None:
        """Check that a client with the position of `observer` could resume without missing an event."""
        claim = f"{observer.label} could come back to where it is"
        position = StreamPosition(None)
        for frame in list(observer.frames):
            position.take(frame)
        types, since, _ = position.opening
        if since is None:
            self.check(claim, False, "it is nowhere: there was no synced")
            return
        async with self.visiting(f"{observer.label} once more", types=types, since=since) as again:
            wrong = audit.gaps(again.frames, welcome=again.welcome, everything=again.everything)
            saw = "resumed" if again.welcome.resumed else f"not resumed from {since}"
            self.check(claim, again.welcome.resumed and not wrong, "; ".join([saw, *wrong]))

    def _note(self, claim: str, outcome: Outcome, saw: str, figure: Figure | None = None) -> None:
        check = Check(claim=claim, outcome=outcome, saw=saw, at_s=self.elapsed_s, figure=figure)
        self.checks.append(check)
        self._progress.checked(check)


def shown_move(frame: Frame, move: Move) -> str:
    """Describe a move of a breaker for the report."""
    text = f"{clock(frame.at)} {move.from_state} → {move.state} ({move.reason}), {move.failure_count} failures"
    return text + (f", open for {move.period_s:.3f} s" if move.retry_at is not None else "")


def shown_times(frames: dict[str, Frame]) -> str:
    """List when each event was published, and why it is stale."""
    parts = [
        f"{name} {clock(frame.at)}{f' {frame.error_code}' if frame.error_code else ''}"
        for name, frame in frames.items()
    ]
    return ", ".join(sorted(parts))
