"""What is known of a backend and its sources before the first call: how they are asked, how often, by which rules.

Values that are made from the configuration and never change. Nothing here knows what came of a call.
"""

from collections.abc import Iterable, Sequence

import msgspec

from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.call import Call
from tidegate.core.polling.outcome import ClassifyPolicy
from tidegate.core.polling.source_values import SourceSpec
from tidegate.core.shaping import Shape


class SourcePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How one source is polled, and what is made of the answers. It is keyed if `shape` has items, and only then.

    `breaker` is the name of the breaker that it stands behind. With `idle_interval_s` it is asked at that interval
    while nobody is subscribed to it. It is asked at once when the backend hints at one of `refresh_on`.
    """

    spec: SourceSpec
    call: Call
    breaker: str
    shape: Shape = Shape()
    idle_interval_s: float | None = None
    refresh_on: tuple[str, ...] = ()

    def is_other_value_than(self, before: "SourcePlan") -> bool:
        """Whether what was answered as `before` asked says nothing of what is asked for here."""
        shapes = [msgspec.structs.replace(each.shape, ignore=()) for each in (self, before)]
        return self.call != before.call or shapes[0] != shapes[1]


def call_timeout_s(sources: Iterable[SourcePlan]) -> float:
    """Return within how many seconds a call for all `sources` must be answered: as long as any of them may take."""
    return max(source.spec.timeout_s for source in sources)


class BackendPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How one backend is polled. At most `connections` calls are under way at once.

    Getting ready for a call, by reading credentials, say, may take `timeout_s`; a call may take `call_timeout_s`.
    With `batch`, sources that are due together are asked in one exchange. A failed poll is repeated after `retry_s`
    seconds, doubled with each failure in a row; 0 waits for the next tick.
    """

    name: str
    timeout_s: float
    batch: bool
    connections: int
    breaker: BreakerRules
    policy: ClassifyPolicy
    event_bytes: int
    rpc_error_interval_s: float
    retry_s: float = 1.0
    sources: Sequence[SourcePlan]

    @property
    def normal_rate_per_s(self) -> float:
        """How many calls a second the backend gets in good times."""
        intervals = [source.spec.interval_s for source in self.sources]
        return sum(1 / interval_s for interval_s in (set(intervals) if self.batch else intervals))
