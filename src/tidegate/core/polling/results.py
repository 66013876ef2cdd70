"""Takes in how a call ended: for the breaker, for the backend as a whole, for its sources, and for what is asked next.

The order matters: a hold is noted before the breaker counts the call, and the breaker counts it before a source says
what it means for its data. What a move of the breaker means for other sources is decided in `moves`.
"""

from collections.abc import Callable, Sequence

from tidegate.backoff import Backoff
from tidegate.core.instant import Instant
from tidegate.core.measurements import RepetitionEnded
from tidegate.core.polling.accounts import Accounts
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.lineup import Lineup
from tidegate.core.polling.moves import Moves
from tidegate.core.polling.outcome import Answer, Fault, Outcome, Verdict, batch_verdict, hold_s, is_too_many
from tidegate.core.polling.source_values import Value
from tidegate.core.polling.turn import Turn, Why
from tidegate.errors import ErrorCode

FIRST_HOLD_S = 5.0
"""The hold after a first 429 that does not say how long to wait, in seconds. It doubles with each further one."""

Ends = Sequence[tuple[Outcome, Value | None]]
"""How the call of a turn ended, for each of its sources: an outcome, and the value of an answer."""


class Results:
    """Takes in the ends of the calls of one backend. `busy` is how many 429s in a row did not say how long to wait."""

    def __init__(
        self,
        plan: BackendPlan,
        *,
        parts: BackendParts,
        lineup: Lineup,
        moves: Moves,
        accounts: Accounts,
        draw: Callable[[], float],
    ) -> None:
        self.busy = 0
        self._parts = parts
        self._lineup = lineup
        self._moves = moves
        self._incidents = moves.incidents
        self._accounts = accounts
        self._draw = draw
        self.follow(plan)

    def follow(self, plan: BackendPlan) -> None:
        """Judge by another `plan` from now on."""
        self._plan = plan
        self._hold_s = Backoff(first_s=FIRST_HOLD_S, max_s=plan.policy.retry_after_max_s, least=1.0)

    def take_in(self, turn: Turn, ends: Ends, now: Instant, into: Decision) -> None:
        """The call of `turn` has ended."""
        assert turn.permit is not None, "no call without a permit"
        judged = self._judged(turn, ends)
        verdict, fault = batch_verdict(outcome for _, outcome in judged)
        has_failed = any(isinstance(outcome, Fault) for outcome, _ in ends)
        if has_failed:
            self._hold([outcome for outcome, _ in ends], now, into)
        else:
            self.busy = 0
        repeats = turn.why is Why.REPETITION
        transition = turn.breaker.record(
            turn.permit,
            verdict,
            now=now,
            jitter=self._draw(),
            fault=fault,
            came_from=frozenset(name for name, outcome in judged if outcome == fault),
            failed=frozenset(name for name, outcome in judged if outcome.verdict is Verdict.FAILURE),
            repeats=repeats and len(self._parts.behind.get(turn.breaker.name, ())) > 1,
        )
        if verdict is not Verdict.IGNORED:
            turn.answered = verdict is not Verdict.FAILURE
        if repeats and turn.answered is not None:
            into.measurements.append(RepetitionEnded(self._plan.name, "answered" if turn.answered else "failed"))
        self._lineup.line.end(turn)
        self.tell_sources(turn, ends, turn.sent, now, into)
        if has_failed and judged:
            self._ask_next(turn, ends, now)
        if transition is not None:
            self._moves.take_in(transition, now, into, spoken=turn.group)
        self._moves.call_ended(turn, now, into)

    def tell_sources(self, turn: Turn, ends: Ends, sent: Instant, now: Instant, into: Decision) -> None:
        """Tell each source of `turn` how its call, begun at `sent`, ended."""
        for source, (outcome, value) in zip(turn.group, ends, strict=True):
            if turn.is_outdated and not self._parts.has(source):
                continue  # the answer is to another question than is asked now
            breaker = self._parts.seen_by(source, now)
            source.ended(
                outcome,
                value,
                sent=sent,
                now=now,
                breaker=breaker,
                draw=self._draw,
                into=into,
                at_tick=source in turn.ticks,
                secret=turn.secret,
            )
            source.note_verdict(now, breaker)
            self._incidents.ended(source.type, outcome, now, into)
            if following := self._accounts.ended(source, answered=_is_let_in(outcome), now=now):
                self._lineup.follow(following, now)

    def _judged(self, turn: Turn, ends: Ends) -> Sequence[tuple[str, Outcome]]:
        """The outcomes that the breaker judges, by source: all but those of sources that it serves no longer."""
        outcomes = [(source.type, outcome) for source, (outcome, _) in zip(turn.group, ends, strict=True)]
        if not turn.is_outdated:
            return outcomes
        breaker = turn.breaker
        served = self._parts.serves[breaker.name] if self._parts.breakers.get(breaker.name) is breaker else ()
        return [(name, outcome) for name, outcome in outcomes if name in served]

    def _hold(self, outcomes: Sequence[Outcome], now: Instant, into: Decision) -> None:
        """If the backend asks to be left alone, tell each of its breakers.

        Those who wait for a connection need no word: the call that brought this gives its connection back, so their
        turn comes at once, and the breaker refuses it.
        """
        wish_s = hold_s(outcomes)
        if is_too_many(outcomes):
            # Calls that were under way together are refused together: that is one refusal.
            self.busy += not self.busy or not self._parts.is_held(now)
            wish_s = max(wish_s, self._hold_s.delay_s(self.busy, jitter=0.0))
        elif any(isinstance(outcome, Answer) for outcome in outcomes):  # to a part of a batch
            self.busy = 0
        if wish_s:
            until = Instant(now.mono + wish_s, now.wall + wish_s)
            self._parts.hold(until)
            self._lineup.hold()
            self._incidents.held(until, now, into)

    def _ask_next(self, turn: Turn, ends: Ends, now: Instant) -> None:
        """A failed call is repeated, after a hold if there is one. If one source fails alone, ask another one, too."""
        breaker = turn.breaker
        if not breaker.is_closed:
            return
        failed = [source for source, (outcome, _) in zip(turn.group, ends, strict=True) if _is_repeated(outcome)]
        if turn.is_outdated:
            failed = [source for source in failed if source in self._parts.behind[breaker.name]]
        if breaker.refusal(now) is not None:
            self._lineup.refused(failed if self._plan.retry_s else [], breaker, now)
            return
        unreachable = any(isinstance(outcome, Fault) and outcome.unreachable for outcome, _ in ends)
        self._lineup.repeat(failed, unreachable=unreachable, now=now)
        if turn.answered is False and breaker.wants_witness:  # once, when the failure comes, not at each other call
            others = [
                source
                for source in self._parts.behind[breaker.name]
                if source.type not in breaker.run.came_from and source.calls.may_begin(now)
            ]
            if others:
                self._lineup.ask([min(others, key=lambda source: source.calls.last_sent)])


def _is_let_in(outcome: Outcome) -> bool:
    """Whether the backend has answered somebody whose account it accepts."""
    if isinstance(outcome, Fault):
        return outcome.verdict is Verdict.ALIVE and outcome.code is not ErrorCode.RPC_AUTH
    return True


def _is_repeated(outcome: Outcome) -> bool:
    """Whether a call that ended so is repeated. A refused account is not tried again so soon."""
    if not isinstance(outcome, Fault) or outcome.code is ErrorCode.RPC_AUTH:
        return False
    return outcome.verdict is not Verdict.IGNORED
