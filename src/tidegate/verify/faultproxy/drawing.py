"""Decides which of the active faults hit a call, or a piece of a stream."""

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
        """Return the fault of this kind, if one was drawn."""
        return next((fault for fault in self.faults if isinstance(fault, kind)), None)


class FaultSet:
    """The faults that are switched on, at most one of each name. `rng` is the only source of randomness."""

    __slots__ = ("_active", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._active: dict[str, AnyFault] = {}

    @property
    def active(self) -> tuple[AnyFault, ...]:
        """The active faults, oldest first, each with its remaining `count`."""
        return tuple(self._active.values())

    def set(self, fault: AnyFault) -> None:
        """Switch `fault` on. It replaces an earlier fault of the same name. Raises `msgspec.ValidationError`."""
        msgspec.convert(msgspec.to_builtins(fault), type=type(fault))
        self._active.pop(name_of(fault), None)
        self._active[name_of(fault)] = fault

    def clear(self, name: str | None = None) -> None:
        """Switch off the fault called `name`, or all. Raises `UnknownName`, but not for a fault that is off."""
        if name is None:
            self._active.clear()
        else:
            fault_kind(name)
            self._active.pop(name, None)

    def draw(self, among: Collection[type[AnyFault]], *, called: Collection[str] = ()) -> Plan:
        """Draw the faults, of the kinds `among`, that hit a call of the methods `called`. Count them down."""
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
