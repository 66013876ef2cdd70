"""How long a backend was out, from the first failed call to the last source that is fresh again.

Times are monotonic.
"""

from tidegate.core.instant import Instant


class Outage:
    """The outage of one backend, if there is one."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._answered_at: float

    @property
    def is_on(self) -> bool:
        """Whether there is an outage that has not ended."""
        return self._began is not None

    def begin(self, failing_since: float) -> None:
        """A breaker has opened after failures since then. If there is an outage already, it goes on."""
        if self._began is None:
            self._began = self._answered_at = failing_since

    def answered(self, now: Instant) -> None:
        """A call was answered now."""
        self._answered_at = now.mono

    def end(self) -> float:
        """Everybody was asked again. Return how many seconds the outage lasted. Call it only if there is one."""
        assert self._began is not None, "there is an outage"
        began, self._began = self._began, None
        return max(0.0, self._answered_at - began)
