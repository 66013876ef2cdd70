"""Another arrangement of backends and sources, which the pollers take on within one turn of the event loop."""

from collections.abc import Mapping

import msgspec

from tidegate.core.polling.backend_plan import BackendPlan
from tidegate.core.polling.held_source import HeldSource
from tidegate.ports import Backend
from tidegate.runtime.poller import BackendPoller


class NewBackend(msgspec.Struct, frozen=True):
    """What a poller asks from now on. `is_other_service`: what is known of the one before says nothing of this one."""

    backend: Backend
    is_other_service: bool


class Rearrangement(msgspec.Struct, frozen=True, kw_only=True):
    """What changes for the pollers.

    `plans` are those of all backends from now on, by name and in their order. `unchanged` are the names of those whose
    plan is equal to the one that they have. `backends` are new ones for pollers that go on, by name. `added` are new
    pollers, which have not begun. A poller that is not in `plans` ends.
    """

    plans: Mapping[str, BackendPlan]
    unchanged: frozenset[str]
    backends: Mapping[str, NewBackend]
    added: Mapping[str, BackendPoller]


def rearrange(pollers: Mapping[str, BackendPoller], to: Rearrangement) -> dict[str, BackendPoller]:
    """Carry out a rearrangement of `pollers`, and return those that go on or have begun. Awaits nothing.

    A source that moves to another backend is handed over: nobody is told that it is gone.
    """
    homes = {source.spec.type: name for name, plan in to.plans.items() for source in plan.sources}
    held: dict[str, HeldSource] = {}
    losing = []
    for name, poller in pollers.items():
        leaving = [event_type for event_type in poller.event_types if homes.get(event_type, name) != name]
        if leaving:
            held |= poller.release(leaving)
            losing.append(name)
    for name, poller in pollers.items():
        if name not in to.plans:
            poller.retire()
    going_on = [name for name in pollers if name in to.plans]
    # Those that lose sources first: what the next one says of a source comes after all that its last one has said.
    for name in sorted(going_on, key=lambda name: name not in losing):
        _replan(pollers[name], to, _adopted(to.plans[name], held))
    for name, poller in to.added.items():
        poller.begin(adopted=_adopted(to.plans[name], held))
    return {name: to.added.get(name) or pollers[name] for name in to.plans}


def _replan(poller: BackendPoller, to: Rearrangement, adopted: Mapping[str, HeldSource]) -> None:
    new = to.backends.get(poller.name)
    if poller.name in to.unchanged and new is None:
        return
    poller.replan(
        to.plans[poller.name],
        backend=None if new is None else new.backend,
        is_other_service=new is not None and new.is_other_service,
        adopted=adopted,
    )


def _adopted(plan: BackendPlan, held: Mapping[str, HeldSource]) -> dict[str, HeldSource]:
    return {source.spec.type: held[source.spec.type] for source in plan.sources if source.spec.type in held}
