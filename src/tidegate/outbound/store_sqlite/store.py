"""Keeps values in SQLite, written by a thread of its own so that the event loop never waits for the disk.

There are two kinds: last good values of sources, and what publishers had retained. They are merged by type and key,
and written in one transaction every `WRITE_EVERY_S`. The directory is locked, so that two gateways cannot share it.
`tidegate.database` opens the file, keeps it private, and sets a bad one aside.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import structlog

from tidegate import files
from tidegate.core.measurements import LogLineSuppressed, StoreWritten
from tidegate.database import Database, SetAside, opened
from tidegate.errors import StoreError, Unstorable
from tidegate.outbound.store_sqlite.report import OnWrite, WriteReport
from tidegate.outbound.store_sqlite.tables import (
    FILE,
    LAST_GOOD_ROWS,
    LAYOUT,
    LOCK,
    NAMES,
    PUBLISHED_ROWS,
    Batch,
    Malformed,
    Name,
    Table,
    changes,
    names,
    published_value,
    saved_value,
    synchronous,
)
from tidegate.ports import PublishedValue, Reading, SavedValue

WRITE_EVERY_S = 0.25
"""The pause between two transactions. The port allows 1 second until a value is on disk."""

RETRY_S = 1.0
"""The delay before a failed write is retried, together with the values saved since."""

_Value = TypeVar("_Value", SavedValue, PublishedValue)

log = structlog.get_logger("tidegate.store")


class SqliteStore:
    """Implements `tidegate.ports.Store` and `KeepsPublished`.

    Made by `open`; `aclose` ends its thread and releases the directory.
    """

    def __init__(self, database: Database, on_write: OnWrite = lambda _: None) -> None:
        self._database = database
        self._waiting: Batch = {}
        self._being_written: Batch = {}
        self._on_disk = set(names(database.read(NAMES)))
        self._changed = threading.Condition()
        self._closing = False
        self._report = WriteReport(database.directory, on_write)
        self._written_at = time.time()
        self._bytes = database.size_bytes()
        self._writer = threading.Thread(target=self._write_on, name="tidegate-store", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, directory: Path, *, observe: OnWrite | None = None) -> Self:
        """Lock `directory`, which is created if missing, and open the store in it.

        `observe` is called on the event loop after each write. Raises `StoreError` if another gateway uses the
        directory, or if it cannot be created or written. If cancelled, it waits for the disk and leaves nothing open.
        """
        loop = asyncio.get_running_loop()

        def on_write(measured: StoreWritten | LogLineSuppressed) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody looks any more
                if observe is not None:
                    loop.call_soon_threadsafe(observe, measured)

        opening = asyncio.ensure_future(asyncio.to_thread(cls._open, directory, on_write))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with contextlib.suppress(StoreError):
                await (await opening).aclose()
            raise

    async def load(self) -> Sequence[SavedValue]:
        """Return all last good values on disk. Call this before the first `save`."""
        return await asyncio.to_thread(self._load, LAST_GOOD_ROWS, saved_value)

    async def load_published(self) -> Sequence[PublishedValue]:
        """Return all published values on disk, as they were written. Call this before the first `save_published`."""
        return await asyncio.to_thread(self._load, PUBLISHED_ROWS, published_value)

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        """See `tidegate.ports.Store`. Returns immediately."""
        self._save("last_good", values, gone)

    def save_published(self, values: Iterable[PublishedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        """See `tidegate.ports.KeepsPublished`. Returns immediately."""
        self._save("published", values, gone)

    async def aclose(self) -> None:
        """Write everything that is queued, then release the directory."""
        await asyncio.to_thread(self._close)

    def readings(self) -> Iterable[Reading]:
        """Return what the metrics show: what waits for the disk, the last success, and the size of the files."""
        with self._changed:
            waiting = len(self._being_written.keys() | self._waiting.keys())
        yield Reading("tidegate_store_waiting_values", waiting)
        yield Reading("tidegate_store_last_success_timestamp_seconds", self._written_at)
        yield Reading("tidegate_store_bytes", self._bytes)

    @classmethod
    def _open(cls, directory: Path, on_write: OnWrite) -> Self:
        database = opened(directory, LAYOUT, set_aside=_tell)
        try:
            return cls(database, on_write)
        except BaseException:  # the names could not be read, or the thread not be started
            database.close()
            raise

    def _load(self, statement: str, value_of: Callable[..., _Value | Malformed]) -> list[_Value]:
        """Return the rows as values, without those that are malformed: they stay on disk as they are."""
        rows = self._database.read(statement)
        rows.reverse()
        values: list[_Value] = []
        malformed: list[Malformed] = []
        while rows:  # each row is let go once its value is made: together they may take much memory
            value = value_of(*rows.pop())
            if isinstance(value, Malformed):
                malformed.append(value)
            else:
                values.append(value)
        if malformed:
            first = malformed[0]
            log.warning(
                "values on disk left out, they are malformed",
                count=len(malformed),
                first=f"{first.type} {first.key}".rstrip(),
                reason=first.reason,
            )
        return values

    def _save(
        self, table: Table, values: Iterable[SavedValue | PublishedValue], gone: Iterable[tuple[str, str]]
    ) -> None:
        with self._changed:
            waiting = self._waiting
            was_idle = not waiting
            for value in values:
                waiting[table, value.type, value.key] = value
            for event_type, key in gone:
                name: Name = (table, event_type, key)
                if name in self._on_disk or name in self._being_written:
                    waiting[name] = None
                else:
                    waiting.pop(name, None)
            if was_idle and waiting:
                self._changed.notify()

    def _close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._writer.join()
        self._database.close()

    def _write_on(self) -> None:
        """The writer thread: writes until closed, and then once more what is left."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                closing = self._closing
                self._being_written, self._waiting = self._waiting, {}
            is_written = not self._being_written or self._write(self._being_written)
            with self._changed:
                self._conclude(is_written)
            if closing:
                if not is_written:
                    log.error("values lost, they could not be written before the end", values=len(self._waiting))
                return
            time.sleep(WRITE_EVERY_S if is_written else RETRY_S)

    def _conclude(self, is_written: bool) -> None:
        """The write has ended. What is not on disk waits for the next, under what has changed meanwhile."""
        batch, self._being_written = self._being_written, {}
        self._bytes = self._database.size_bytes()
        if is_written:
            self._written_at = time.time() if batch else self._written_at
            self._note(batch)
            return
        merged = batch | self._waiting
        # What is not on disk need not be deleted there. So the deletions that wait are never more than the rows.
        self._waiting = {name: each for name, each in merged.items() if each is not None or name in self._on_disk}

    def _note(self, written: Batch) -> None:
        self._on_disk |= {name for name, value in written.items() if value is not None}
        self._on_disk -= {name for name, value in written.items() if value is None}

    def _write(self, batch: Batch) -> bool:
        """Write `batch`. Returns False if it should be retried.

        A value that can never be stored is dropped with a warning, since no retry would help.
        """
        try:
            self._database.write(*changes(batch), synchronous=synchronous(batch))
        except Unstorable:
            return self._write_one_by_one(batch)
        except StoreError as error:
            self._report.failed(error, unwritten=len(batch))
            return False
        self._report.written()
        return True

    def _write_one_by_one(self, batch: Batch) -> bool:
        """Write each change separately, so that one that cannot be stored does not block all others."""
        failure: StoreError | None = None
        for name in list(batch):
            try:
                one = {name: batch[name]}
                self._database.write(*changes(one), synchronous=synchronous(batch))
                self._note(one)
            except Unstorable as error:
                del batch[name]  # do not retry it with the others
                log.warning("value left out, it cannot be stored", type=name[1], key=name[2], error=str(error))
            except StoreError as error:
                failure = error
        if failure is not None:
            self._report.failed(failure, unwritten=len(batch))
            return False
        self._report.written()
        return True


def obstacle(directory: Path) -> str | None:
    """Return why `SqliteStore.open` would refuse `directory`, or None. Changes nothing.

    Does not check whether another gateway uses the directory.
    """
    try:
        nearest = next(path for path in (directory, *directory.parents) if path.exists() or path.is_symlink())
    except OSError as error:
        return f"{directory} ({error.strerror})"
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return f"{directory} cannot be written ({nearest})"
    for name in (LOCK, FILE):
        if found := files.database_obstacle(directory / name):
            return f"{directory} with {found}"
    return None


def _tell(aside: SetAside) -> None:
    log.warning("state file set aside", file=str(aside.file), kept_as=str(aside.kept_as), reason=aside.reason)
