"""A turn at a backend: the sources that are asked together, and why they are asked now. A knock asks nothing.

Values that several parts of the line-up share. They decide nothing.
"""

import enum
from collections.abc import Collection, Mapping, Sequence

from tidegate.core.instant import Instant
from tidegate.core.polling.backend_plan import call_timeout_s
from tidegate.core.polling.breaker import Breaker
from tidegate.core.polling.permit import Permit
from tidegate.core.polling.source import Source


class Why(enum.Enum):
    """Why a turn is taken."""

    TICK = enum.auto()
    PROBE = enum.auto()
    ASKED_FOR = enum.auto()
    REPETITION = enum.auto()
    CATCHING_UP = enum.auto()


class Turn:
    """Sources that are asked together, from waiting for a connection to the end of their call.

    `ticks` are those of its sources whose tick this is. `reached` says that a knock has just found that a connection
    can be made. `began` is when it got its connection. `sent` and `permit` are set once the breaker has admitted it,
    and `secret` is what it authenticates with. `answered` is whether the call was answered in time, once it has ended.
    `is_outdated`: since it was lined up, one of its sources was removed, became another value, or changed its breaker.
    """

    __slots__ = (
        "answered",
        "began",
        "breaker",
        "group",
        "has_place",
        "is_outdated",
        "is_over",
        "permit",
        "reached",
        "secret",
        "sent",
        "ticks",
        "why",
    )

    began: Instant  # set together with `has_place`
    sent: Instant  # set together with `permit`

    def __init__(
        self,
        group: Sequence[Source],
        breaker: Breaker,
        why: Why,
        *,
        ticks: Collection[Source] = (),
        reached: bool = False,
    ) -> None:
        self.group = group
        self.breaker = breaker
        self.why = why
        self.ticks = ticks
        self.reached = reached
        self.has_place = False
        self.is_over = False
        self.is_outdated = False
        self.permit: Permit | None = None
        self.secret: bytes | None = None
        self.answered: bool | None = None

    @property
    def timeout_s(self) -> float:
        """After how many seconds its call is cancelled."""
        return call_timeout_s(source.plan for source in self.group)


class Knock:
    """A connection that is made only to see whether that is possible. It holds one of the backend's places.

    `generations` are those of the breakers that it is made for, by name. It is over when it has ended or was dropped;
    then nothing that it finds counts.
    """

    __slots__ = ("generations", "is_over")

    def __init__(self, generations: Mapping[str, int]) -> None:
        self.generations = generations
        self.is_over = False
