"""What a breaker answers to whoever wants to make a call: a permit, or none.

Values only. `tidegate.core.polling.breaker` gives permits and takes them back.
"""

import msgspec

from tidegate.core.polling.breaker_values import Transition


class Permit:
    """The right to make one call. Give it to `Breaker.record` once, however the call ends.

    `transition` is set on the probe that moved the breaker to half-open.
    """

    __slots__ = ("generation", "recorded", "transition")

    def __init__(self, generation: int, transition: Transition | None = None) -> None:
        self.generation = generation
        self.recorded = False
        self.transition = transition


class NoPermit(msgspec.Struct, frozen=True):
    """No call now. `retry_at` is in Unix seconds, and not before the end of a hold.

    None while a probe is out or the breaker is forced open.
    """

    retry_at: float | None
