"""Carries out what is decided about one backend: publishes it, logs it, measures it, saves it.

Drafts are published through a lane, which keeps the order of the decisions. What the bus took or refused goes back to
`tidegate.core.polling.backend_state`, which decided it.
"""

from collections.abc import Callable
from functools import partial

import structlog

from tidegate.core.polling.backend_state import BackendState
from tidegate.core.polling.decision import Decision
from tidegate.errors import BusError
from tidegate.ports import Clock, Metrics, Store
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.lanes import Lane

log = structlog.get_logger("tidegate.poller")


class CarryingOut:
    """Carries out the decisions of `state`. `wake` is called when there may be something to do next."""

    def __init__(
        self,
        state: BackendState,
        lane: Lane,
        gateway: Gateway,
        clock: Clock,
        metrics: Metrics,
        store: Store | None,
        *,
        wake: Callable[[], None],
    ) -> None:
        self.lane = lane
        self._state = state
        self._gateway = gateway
        self._clock = clock
        self._metrics = metrics
        self._store = store
        self._wake = wake
        self._found_stuck = False  # turns that are due wait until the bus has answered

    def find_stuck(self) -> bool:
        """Return whether the lane is stuck. If so, `wake` is called when it goes on."""
        self._found_stuck = self.lane.is_stuck(self._clock.now())
        return self._found_stuck

    def carry_out(self, decision: Decision) -> None:
        """Carry out `decision`. Call it in the same step in which that was decided."""
        # A newer `as_of` goes through the lane too, even alone: it must not overtake the value that it belongs to.
        if decision.drafts or decision.refreshed:
            taken, refused = partial(self._taken, decision), partial(self._refused, decision)
            self.lane.submit(decision.drafts, taken=taken, refused=refused)
        for note in decision.notes:
            getattr(log, note.level)(note.event, **note.fields)
        for measurement in decision.measurements:
            self._metrics.observe(measurement)
        if self._store is not None:
            for save in decision.saves:
                self._store.save(save.values, gone=save.gone)
        if decision.moves:  # a breaker that has moved changes when there is something to do next
            self._wake()

    def _taken(self, decision: Decision) -> None:
        self._state.taken(decision)
        if self._found_stuck or decision.left:  # only then: waking for each publish would cost
            self._found_stuck = False
            self._wake()
        for event_type, as_of in decision.refreshed.items():
            self._gateway.refresh(event_type, as_of)

    def _refused(self, decision: Decision, _: BusError) -> None:
        self._state.refused(decision, self._clock.now())
        self._wake()
