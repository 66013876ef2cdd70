"""Tells the log and the metrics how the writes of a store go. Called from its thread."""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tidegate.core.log_events import LimitedEvent
from tidegate.core.measurements import LogLineSuppressed, StoreWritten
from tidegate.errors import StoreError
from tidegate.runtime.limited_log import LoggedFault

OnWrite = Callable[[StoreWritten | LogLineSuppressed], None]


class WriteReport:
    """How the writes of one store in `directory` go. A failure is logged as any `LoggedFault`."""

    def __init__(self, directory: Path | None, on_write: OnWrite) -> None:
        self._directory = directory
        self._on_write = on_write
        self._fault = LoggedFault(
            "tidegate.store",
            LimitedEvent.VALUES_NOT_WRITTEN,
            over="values are written again",
            now=time.monotonic,
            observe=self._suppressed,
        )

    def failed(self, error: StoreError, *, unwritten: int) -> None:
        """A write failed with `error`; so many values wait for the next try."""
        place = {"path": str(self._directory), "free_bytes": self._free_bytes()}
        self._fault.occurred(error=str(error), waiting=unwritten, **place)
        self._on_write(StoreWritten(unwritten))

    def written(self) -> None:
        """A write succeeded."""
        self._fault.fine(path=str(self._directory))
        self._on_write(StoreWritten(0))

    def _free_bytes(self) -> int | None:
        if self._directory is not None:
            with suppress(OSError):
                return shutil.disk_usage(self._directory).free
        return None

    def _suppressed(self, measured: object) -> None:
        if isinstance(measured, LogLineSuppressed):
            self._on_write(measured)
