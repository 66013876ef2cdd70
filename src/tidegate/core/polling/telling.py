"""What was told of one backend, what is on its way to the bus, and what is still owed.

Every decision about a backend leaves through `completed`, and comes back through `taken` or `refused` once the bus has
answered. Three things can go wrong with what was said, and each is made good by the next decision, or by the next tick
after `owed_due_at`:

- The bus refuses it. Then it was never said, and all that was decided after it is refused too.
- The backend was taken over from another process, which could not publish everything.
- Another epoch begins: nobody who connects now has heard anything, unless the bus publishes in it what was on its way.

Then everything that differs from what was told is said again, the moves of breakers first and without a hole.
"""

from collections import Counter
from collections.abc import Collection, Iterable

from tidegate.core.events import Draft
from tidegate.core.instant import Instant
from tidegate.core.polling.backend_parts import BackendParts
from tidegate.core.polling.breaker_values import BreakerGone, Transition
from tidegate.core.polling.decision import Decision
from tidegate.core.polling.drafts import gone_breaker, move_draft
from tidegate.core.polling.leaving import Leaving
from tidegate.core.polling.source import Source
from tidegate.core.polling.source_values import NOTHING_TOLD

PUBLISH_OWED_S = 0.5
"""How long after a refusal it is said again, unless something else is said before: a bus in trouble is not flooded."""


class Telling:
    """What subscribers know of one backend and its `parts`."""

    def __init__(self, parts: BackendParts) -> None:
        self.owed_due_at: float | None = None
        """Monotonic time at which what is owed is said, unless something else is said before; None if nothing is."""
        self._parts = parts
        self._sources = parts.sources
        self._epoch = 0
        self._is_unsure = False  # whether the bus may yet publish, in this epoch, what was decided in the one before
        self._moves_under_way: list[Transition | BreakerGone] = []
        self._moves_owed: list[Transition | BreakerGone] = []
        self._leaving: dict[str, Leaving] = {}
        self._ends_under_way: Counter[str] = Counter()  # how often it is on its way that a source is gone, by its type

    @property
    def untold(self) -> list[Transition]:
        """The moves of breakers that the bus has not published yet, oldest first."""
        return [move for move in self._untold if isinstance(move, Transition) and move.breaker in self._parts.breakers]

    @property
    def _untold(self) -> list[Transition | BreakerGone]:
        """These moves, and the ends of breakers."""
        return [*self._moves_owed, *self._moves_under_way]

    @property
    def is_over(self) -> bool:
        """Whether everything is told of those that are gone. Not, if a breaker is not."""
        return not self._leaving and not self._untold

    def leaves(self, leaving: Collection[Leaving], into: Decision) -> None:
        """Sources are polled no longer: say so."""
        for each in leaving:
            self._leaving[each.type] = each
        self._say_gone(into)
        self._forget_gone(each.type for each in leaving)

    def returns(self, event_type: str) -> Leaving | None:
        """Return the source of that type that is `leaving`; None if none is. It is forgotten here."""
        return self._leaving.pop(event_type, None)

    def end_breaker(self, gone: BreakerGone, into: Decision) -> None:
        """There is no such breaker any more."""
        if any(move.breaker == gone.breaker for move in self._moves_owed):
            self._moves_owed = self._to_tell([*self._moves_owed, gone])
        else:
            into.moves.append(gone)

    def resume(self, untold: Collection[Transition], now: Instant) -> None:
        """Another process has told of this backend before, except the moves in `untold`."""
        self._moves_owed += untold
        self.owed_due_at = now.mono

    def begin(self, firsts: Iterable[Transition], now: Instant) -> None:
        """Nothing was told yet: everything is owed, the `firsts` of the breakers before all else."""
        gone = [move for move in self._untold if isinstance(move, BreakerGone)]
        self._moves_under_way.clear()
        self._moves_owed = [*gone, *firsts]
        tellers: list[Source | Leaving] = [*self._sources.values(), *self._leaving.values()]
        for teller in tellers:
            teller.forget_told()
        self.owed_due_at = now.mono

    def epoch_changed(self, firsts: Iterable[Transition], now: Instant) -> None:
        """Another sequence of events begins, in which nothing was told. Otherwise as `begin`."""
        # What is on its way to the bus was decided for the epoch before, and may yet be published in this one. Whether
        # taken or refused, all that it says is owed again, so no move and no verdict of it counts as told. But items
        # that it publishes here have to be removed if they are gone. This number tells it from later decisions.
        self._epoch += 1
        self._is_unsure = True
        self.begin(firsts, now)

    def owe(self, now: Instant) -> None:
        """Somebody who was about to say something will not: say it soon."""
        if self.owed_due_at is None:
            self.owed_due_at = now.mono

    def completed(self, out: Decision, now: Instant) -> Decision:
        """Complete a decision: add what is owed, and put the moves of breakers before what they mean."""
        if self.owed_due_at is not None and (out.drafts or out.moves or now.mono >= self.owed_due_at):
            out.moves[:0] = self._moves_owed
            self._moves_owed.clear()
            sources = self._sources.values()
            waits = [source.publish_owed(now, self._parts.seen_by(source, now), out) for source in sources]
            self.owed_due_at = min((until for until in waits if until is not None), default=None)
            self._parts.ages.all_changed()
            self._say_gone(out)
        if out.told:
            self._parts.ages.changed(out.told)
        if out.refreshed:
            self._parts.ages.changed(out.refreshed)
        if out.moves:
            self._moves_under_way += out.moves
            # A client that hears of stale data must have heard before that the breaker is open.
            out.drafts[:0] = [self._draft_of(move) for move in out.moves]
        out.epoch = self._epoch
        return out

    def taken(self, decision: Decision) -> None:
        """The bus has published the drafts of `decision`: what they say counts as told from now on."""
        if decision.epoch == self._epoch:
            self._is_unsure = False
            del self._moves_under_way[: len(decision.moves)]
        for name, told in decision.told.items():
            if (teller := self._teller(name)) is not None:
                teller.taken(told if decision.epoch == self._epoch else told.in_another_epoch())
        self._answered(decision.left)

    def refused(self, decision: Decision, now: Instant) -> None:
        """The bus has not published the drafts of `decision` and will not, nor any that were decided after it.

        All those decisions are given to this one after the other, with nothing else in between.
        """
        for name, report in decision.reports:
            if (source := self._sources.get(name)) is not None:
                source.report_refused(report)
        for name in {**decision.told, **decision.refreshed}:
            if (teller := self._teller(name)) is not None:
                teller.refused()
        self._answered(decision.left)
        if decision.epoch != self._epoch and not decision.left:
            return
        # Those that were decided after it are refused too.
        self._moves_owed = self._to_tell([*self._moves_owed, *self._moves_under_way])
        self._moves_under_way.clear()
        self.owed_due_at = now.mono + PUBLISH_OWED_S

    def _teller(self, event_type: str) -> Source | Leaving | None:
        """Who tells of `event_type`; None if it is polled at another backend now."""
        return self._sources.get(event_type) or self._leaving.get(event_type)

    def _say_gone(self, into: Decision) -> None:
        """Say of the sources that leave that they are gone, unless that is on its way to the bus."""
        for leaving in self._leaving.values():
            if leaving.is_owed:
                into.drafts += leaving.say()
                into.told[leaving.type] = NOTHING_TOLD
                into.left.append(leaving.type)
                self._ends_under_way[leaving.type] += 1

    def _answered(self, left: Collection[str]) -> None:
        """The bus has answered to a decision that says that these sources are gone."""
        if left:
            self._ends_under_way.subtract(left)
            self._forget_gone(left)

    def _forget_gone(self, event_types: Iterable[str]) -> None:
        """Forget those that nothing is left to say of, and that nothing is on its way of."""
        for event_type in event_types:
            if not self._ends_under_way[event_type]:
                del self._ends_under_way[event_type]
                leaving = self._leaving.get(event_type)
                if leaving is not None and not leaving.is_owed:
                    del self._leaving[event_type]

    def _draft_of(self, move: Transition | BreakerGone) -> Draft:
        if isinstance(move, BreakerGone):
            return gone_breaker(move.breaker, move.about)
        return move_draft(move, self._parts.serves[move.breaker])

    def _to_tell(self, owed: Iterable[Transition | BreakerGone]) -> list[Transition | BreakerGone]:
        """Return what has to be told of `owed`: of a breaker that is gone only that, if it was ever told of."""
        kept: list[Transition | BreakerGone] = []
        for move in owed:
            if isinstance(move, BreakerGone):
                before = [each for each in kept if each.breaker == move.breaker and isinstance(each, Transition)]
                kept = [each for each in kept if each not in before]
                if before and before[0].from_state is None and not self._is_unsure:
                    continue
            kept.append(move)
        return kept
