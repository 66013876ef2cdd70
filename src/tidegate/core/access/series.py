"""Which series of a metric a token may see that is limited to some types.

A series is a metric with one value for each of its labels. Each metric has one of these rules; it is chosen where the
metric is declared. Knows nothing of how metrics are counted or shown.
"""

from collections.abc import Callable, Mapping

from tidegate.core.access.grant import Coverage

OTHER = "other"
"""The label value of everything beyond a limit."""

Seen = Callable[[Coverage, Mapping[str, str]], bool]
"""Whether a token may see the series with these labels. Only called for tokens that are limited to some types."""


def by_nobody(_: Coverage, __: Mapping[str, str]) -> bool:
    """The default: no limited token may see the metric."""
    return False


def by_everybody(_: Coverage, __: Mapping[str, str]) -> bool:
    """For metrics that reveal nothing about what is polled or published."""
    return True


def by_type(label: str) -> Seen:
    """Visible if the event type in `label` is covered. `OTHER` is not: it counts types of which some may not be."""
    return lambda coverage, labels: labels[label] != OTHER and coverage.types.matches(labels[label])


def by_breaker(label: str) -> Seen:
    """Visible if the breaker in `label` is covered."""
    return lambda coverage, labels: labels[label] in coverage.breakers


def by_backend(label: str) -> Seen:
    """Visible if the backend in `label` is covered, which means all its sources are."""
    return lambda coverage, labels: labels[label] in coverage.backends
