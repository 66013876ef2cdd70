"""Which of the faults that are switched on hit a call, or a piece of a stream."""

import random
from collections.abc import Collection
from typing import TypeVar

import msgspec

from tidegate.verify.faultproxy.faults import AnswerFault, AnyFault, Drawn, fault_kind, name_of

_Kind = TypeVar("_Kind", bound=Drawn)


class Plan(msgspec.Struct, frozen=True):
    """The faults that hit one call, or one piece of a stream."""

    faults: tuple[Drawn, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(name_of, self.faults))

    @property
    def answer(self) -> AnswerFault | None:
        return self.get(AnswerFault)

    def get(self, kind: type[_Kind]) -> _Kind | None:
        """The fault of that kind, if one was drawn."""
        return next((fault for fault in self.faults if isinstance(fault, kind)), None)


class FaultSet:
    """The faults that are switched on, at most one of each name. Chance comes from `rng` alone."""

    __slots__ = ("_active", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._active: dict[str, AnyFault] = {}

    @property
    def active(self) -> tuple[AnyFault, ...]:
        """What is switched on, oldest first, each with the `count` that is left to it."""
        return tuple(self._active.values())

    def set(self, fault: AnyFault) -> None:
        """Switch `fault` on, in place of an earlier one of its name. Raises `msgspec.ValidationError`."""
        msgspec.convert(msgspec.to_builtins(fault), type=type(fault))
        self._active.pop(name_of(fault), None)
        self._active[name_of(fault)] = fault

    def clear(self, name: str | None = None) -> None:
        """Switch the fault called `name` off, or all. Raises `UnknownName`; one that is not on is no error."""
        if name is None:
            self._active.clear()
        else:
            fault_kind(name)
            self._active.pop(name, None)

    def draw(self, among: Collection[type[AnyFault]], *, called: Collection[str] = ()) -> Plan:
        """Decide which faults of the kinds `among` hit the call at hand, of the methods `called`, and count them."""
        plan: list[Drawn] = []
        for fault in reversed(self.active):
            if not isinstance(fault, Drawn) or type(fault) not in among or not fault.concerns(called):
                continue
            if isinstance(fault, AnswerFault) and any(isinstance(other, AnswerFault) for other in plan):
                continue
            if self._rng.random() < fault.probability:
                plan.append(fault)
                self._count_down(fault)
        return Plan(tuple(plan))

    def _count_down(self, fault: Drawn) -> None:
        if fault.count is None:
            return
        if fault.count == 1:
            del self._active[name_of(fault)]
        else:
            self._active[name_of(fault)] = msgspec.structs.replace(fault, count=fault.count - 1)
