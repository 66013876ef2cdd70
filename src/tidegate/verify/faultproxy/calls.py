"""The log of calls: when each came, how it ended, and how many were in flight. Times are arguments."""

import collections
import enum
import itertools
from collections.abc import Iterator
from typing import Final

import msgspec

KEPT_CALLS: Final = 100_000


class How(enum.StrEnum):
    """How a call ended."""

    ANSWERED = "answered"
    """The whole answer was passed to the kernel, or the stream ended."""
    RESET = "reset"
    """A fault reset the connection."""
    CLOSED = "closed"
    """A fault closed the connection without an answer."""
    CLIENT_LEFT = "client_left"
    """The client closed the connection before the answer was complete."""
    UPSTREAM_FAILED = "upstream_failed"
    """Upstream could not be reached, or its connection failed. The client's connection was reset."""
    STOPPED = "stopped"
    """The fault `down` was switched on, or the proxy was closed."""


class CallRecord(msgspec.Struct, kw_only=True):
    """One HTTP request. While it is in flight, `ended_mono` and `how` are None.

    `path` excludes the query, which may contain a token. `methods` are the JSON-RPC methods, several for a batch.
    `status` is the HTTP status that was sent to the client. `faults` are the names of the faults that hit the call.
    Times are in seconds: `came_mono` and `ended_mono` are monotonic, `came_wall` is Unix time.
    """

    number: int
    http_method: str
    path: str
    methods: tuple[str, ...]
    came_mono: float
    came_wall: float
    ended_mono: float | None = None
    how: How | None = None
    status: int | None = None
    faults: tuple[str, ...] = ()


class CallLog:
    """The newest 100,000 calls in the order in which they came, and counts of all calls."""

    __slots__ = ("_concurrent", "_max_concurrent", "_numbers", "_records", "_total")

    def __init__(self) -> None:
        self._records: collections.deque[CallRecord] = collections.deque(maxlen=KEPT_CALLS)
        self._numbers = itertools.count(1)
        self._total = self._concurrent = self._max_concurrent = 0

    @property
    def total(self) -> int:
        """How many calls came since the log was made or cleared."""
        return self._total

    @property
    def concurrent(self) -> int:
        """How many calls are in flight."""
        return self._concurrent

    @property
    def max_concurrent(self) -> int:
        """The most calls that were in flight at once since the log was made or cleared."""
        return self._max_concurrent

    @property
    def records(self) -> list[CallRecord]:
        """The calls that are kept, oldest first."""
        return list(self._records)

    def __iter__(self) -> Iterator[CallRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self._records)

    def clear(self) -> None:
        """Clear the log. Calls in flight still count in `concurrent`. Numbers are never used twice."""
        self._records.clear()
        self._total = 0
        self._max_concurrent = self._concurrent

    def begin(self, *, http_method: str, path: str, methods: tuple[str, ...], mono: float, wall: float) -> CallRecord:
        """Record a call that came at the monotonic time `mono` and the Unix time `wall`. `end` must follow."""
        record = CallRecord(
            number=next(self._numbers),
            http_method=http_method,
            path=path,
            methods=methods,
            came_mono=mono,
            came_wall=wall,
        )
        self._records.append(record)
        self._total += 1
        self._concurrent += 1
        self._max_concurrent = max(self._max_concurrent, self._concurrent)
        return record

    def end(self, record: CallRecord, *, how: How, mono: float) -> None:
        """Record how the call of `record` ended. Call it once for each `begin`."""
        record.how = how
        record.ended_mono = mono
        self._concurrent -= 1
