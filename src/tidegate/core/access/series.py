"""Which series of a metric a token may see that is limited to some types.

A series is a metric with one value for each of its labels. One label of it decides; a metric without such a label is
hidden, unless it was declared to be for everybody. Knows nothing of how metrics are counted or shown.
"""

from tidegate.core.access.grant import Coverage

OTHER = "other"
"""The label value of everything beyond a limit."""

DECIDING = ("type", "breaker", "backend")
"""The labels that decide who may see a series. If it has several of them, the first in this order decides."""


def may_see_series(coverage: Coverage, label: str, value: str) -> bool:
    """Whether a token with `coverage` may see a series whose `label`, one of `DECIDING`, is `value`.

    An event type has to be covered. `OTHER` never is: it stands for types of which some may not be covered. A breaker
    needs one covered source, a backend all.
    """
    match label:
        case "type":
            return value != OTHER and coverage.types.matches(value)
        case "breaker":
            return value in coverage.breakers
        case _:
            return value in coverage.backends
