"""How many requests were answered, by route and class of status. A route is a path of ours, never the client's."""

from collections.abc import Iterable, Iterator

from tidegate.core.readings import Reading

OTHER_ROUTE = "other"
"""Stands for every path that is none of ours, and for requests that were refused before their path was looked at."""

CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


class RequestCounts:
    """The counts of one gateway. A head that could not be read is no request here: only refusals count it."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self.know([OTHER_ROUTE])

    def know(self, routes: Iterable[str]) -> None:
        """Begin to count the requests of `routes`."""
        for route in routes:
            self._counts.setdefault(route, [0] * len(CLASSES))

    def note(self, route: str, status: int) -> None:
        """Count a request that is answered with `status`. `route` must be known."""
        self._counts[route][status // 100 - 1] += 1

    def readings(self) -> Iterator[Reading]:
        """Yield the counts. The classes that are usual are there from the start."""
        for route, counts in self._counts.items():
            for status_class, count in zip(CLASSES, counts, strict=True):
                if count or status_class in ("2xx", "4xx", "5xx"):
                    yield Reading("tidegate_requests_total", count, (route, status_class))
