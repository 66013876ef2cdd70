"""Stores jobs on disk: SQLite, one row per job, in a directory that only one engine at a time may use.

Completed writes survive a kill of the engine and a power failure. `tidegate.database` opens the file, keeps it private
and sets a damaged one aside.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from tidegate import database
from tidegate.database import Change, Database, Layout, SetAside
from tidegate.engine.compression.jobs import Record
from tidegate.engine.threads import in_thread
from tidegate.errors import StoreError

T = TypeVar("T")

FILE = "jobs.sqlite3"
LAYOUT = Layout(
    file=FILE,
    lock="engine.lock",
    application_id=0x54454E47,  # "TENG" in ASCII
    migrations=("CREATE TABLE jobs (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;",),
    synchronous="FULL",
    user="engine",
    setting="--state-dir",
    # The default may be in the temporary directory, where other users could place a link to a directory of this user.
    own_directory=True,
)
_UPSERT = "INSERT OR REPLACE INTO jobs (id, record) VALUES (?, ?)"

log = structlog.get_logger("tidegate.engine")


class JobStore:
    """The stored jobs of one engine. Calls are executed one after the other, in order, outside the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = asyncio.Lock()

    async def load(self) -> Sequence[Record]:
        """Return all jobs. Jobs that cannot be read, such as those of a newer engine, are left out with a warning."""
        return await self._do(self._load)

    async def save(self, *records: Record) -> None:
        """Write all jobs, or none. Raises `StoreError`."""
        rows = [(record.id, msgspec.json.encode(record)) for record in records]
        await self._do(partial(self._write, (_UPSERT, rows)))

    async def forget(self, jobs: Iterable[str]) -> None:
        """Remove jobs. Raises `StoreError`."""
        await self._do(partial(self._write, ("DELETE FROM jobs WHERE id = ?", [(job,) for job in jobs])))

    async def aclose(self) -> None:
        """Finish pending writes, then release the directory. Cancellation does not stop this."""
        await asyncio.shield(self._do(self._database.close))

    async def _do(self, work: Callable[[], T]) -> T:
        async with self._turn:
            return await in_thread(work)

    def _load(self) -> list[Record]:
        records = []
        for job, raw in self._database.read("SELECT id, record FROM jobs"):
            try:
                records.append(msgspec.json.decode(raw, type=Record))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                log.warning(f"job {job} left out, it cannot be read: {error}")
        return records

    def _write(self, change: Change) -> None:
        try:
            self._database.write(change)
        except StoreError as error:
            raise StoreError(f"jobs cannot be kept: {error}") from error


@asynccontextmanager
async def opened(directory: Path | None) -> AsyncIterator[JobStore]:
    """Open the store in `directory`, which is made if necessary, and locked. With None, jobs are kept in memory only.

    Raises `StoreError` if another engine uses the directory, or if it cannot be made or written.
    """
    store = JobStore(await in_thread(partial(_open, directory)))
    try:
        yield store
    finally:
        await store.aclose()


def _open(directory: Path | None) -> Database:
    return database.in_memory(LAYOUT) if directory is None else database.opened(directory, LAYOUT, set_aside=_tell)


def _tell(aside: SetAside) -> None:
    log.warning(f"{aside.file} set aside as {aside.kept_as.name}: {aside.reason}")
