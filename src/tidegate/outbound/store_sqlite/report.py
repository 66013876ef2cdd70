"""Tells the log and the metrics how the writes of a store go. Called from its thread."""

import time
from collections.abc import Callable

import structlog

from tidegate.core.measurements import StoreWritten
from tidegate.errors import StoreError

TELL_EVERY_S = 60.0
"""A failure that goes on is logged once in so many seconds, and at once if the error is another one."""

log = structlog.get_logger("tidegate.store")


class WriteReport:
    """How the writes of one store go: a failure is told when it begins, then now and then, and its end."""

    def __init__(self, on_write: Callable[[StoreWritten], None]) -> None:
        self._on_write = on_write
        self._failing_since: float | None = None
        self._told_at = 0.0
        self._told = ""

    def failed(self, error: StoreError, *, unwritten: int) -> None:
        """A write failed with `error`; so many values wait for the next try."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if str(error) != self._told or now - self._told_at >= TELL_EVERY_S:
            self._told, self._told_at = str(error), now
            log.warning("values could not be written", values=unwritten, error=str(error))
        self._on_write(StoreWritten(unwritten))

    def written(self) -> None:
        """A write succeeded."""
        if self._failing_since is not None:
            log.info("values are written again", after_s=round(time.monotonic() - self._failing_since, 3))
            self._failing_since, self._told = None, ""
        self._on_write(StoreWritten(0))
