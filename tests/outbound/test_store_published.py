"""Published values in the store: rows that somebody edited, and a disk that cannot be written for a while."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from small_disk import small_disk
from structlog.testing import capture_logs

from tidegate.errors import StoreError
from tidegate.outbound.store_sqlite import FILE, SqliteStore, report
from tidegate.outbound.store_sqlite import store as writing
from tidegate.ports import PublishedValue, SavedValue

DOOR = PublishedValue("lab.door", "", Raw(b'{"open":true}'), 1_795_000_002.5)
JOB = PublishedValue("lab.job", "j-1", Raw(b"[1.10]"), 1_795_000_003.25, 60.0, 1_795_000_063.25)
STATUS = SavedValue("system.status", "", b"1", 1_795_000_000.25)
PATIENCE_S = 30.0


@asynccontextmanager
async def opened(directory: Path, observe: Callable[[Any], None] | None = None) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(directory, observe=observe)
    try:
        yield store
    finally:
        await store.aclose()


async def longer_than(found: list[Any], count: int) -> None:
    await until(lambda: len(found) > count)


async def published_in(directory: Path) -> list[PublishedValue]:
    async with opened(directory) as store:
        return sorted(await store.load_published(), key=lambda value: (value.type, value.key))


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def edit(directory: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(directory / FILE)) as connection, connection:
        connection.execute(statement, parameters)


def rows(directory: Path) -> set[str]:
    """The keys of the rows of `lab.job`, read beside the store."""
    with closing(sqlite3.connect(directory / FILE)) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM published WHERE type = 'lab.job'")}


INSERT = "INSERT INTO published (type, key, data, timestamp) VALUES (?, ?, ?, ?)"
MALFORMED = {
    "no JSON": ("lab.door", "k", b"{open}", 1.0),
    "JSON that was cut off": ("lab.door", "k", b'{"open":tr', 1.0),
    "nothing": ("lab.door", "k", b"", 1.0),
    "data that is not UTF-8": ("lab.door", "k", b'"\xff"', 1.0),
    "a time that is no number": ("lab.door", "k", b"1", "yesterday"),
    "a time after the year 9999": ("lab.door", "k", b"1", 253_402_300_800.0),
    "a time before the year 1": ("lab.door", "k", b"1", -62_135_596_801.0),
    "a time that is infinite": ("lab.door", "k", b"1", float("inf")),
}


@pytest.mark.parametrize("row", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_row_is_left_out_with_a_warning_and_stays(tmp_path: Path, row: tuple[object, ...]) -> None:
    async with opened(tmp_path) as store:
        store.save_published([DOOR])
    edit(tmp_path, INSERT, *row)
    for _ in range(2):
        with capture_logs() as lines:
            assert await published_in(tmp_path) == [DOOR]
        (line,) = lines
        assert (line["log_level"], line["count"], line["first"]) == ("warning", 1, "lab.door k")
    async with opened(tmp_path) as store:
        good = PublishedValue("lab.door", "k", Raw(b"2"), 3.0)
        store.save_published([good])
    assert await published_in(tmp_path) == [DOOR, good]


async def test_a_name_that_is_not_text_hides_no_other_row(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.save([STATUS])
        store.save_published([DOOR])
    for table, columns in (("published", "timestamp"), ("last_good", "as_of")):
        edit(
            tmp_path, f"INSERT INTO {table} (type, key, data, {columns}) VALUES (CAST(x'ff' AS TEXT), x'fe', x'31', 1)"
        )
    with capture_logs() as lines:
        async with opened(tmp_path) as store:
            assert await store.load() == [STATUS]
            assert await store.load_published() == [DOOR]
    assert [line["count"] for line in lines] == [1, 1]


async def test_a_last_good_value_that_is_no_json_is_left_out(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.save([STATUS])
    edit(tmp_path, "INSERT INTO last_good VALUES ('agent.status', 'a', 'rubbish', 1.0)")
    with capture_logs() as lines:
        async with opened(tmp_path) as store:
            assert await store.load() == [STATUS]
    assert [line["first"] for line in lines] == ["agent.status a"]


@pytest.mark.parametrize("as_of", [-1e300, -1e11, 1e12, float("inf")])
async def test_a_last_good_value_of_a_time_that_no_event_can_show_is_left_out(tmp_path: Path, as_of: float) -> None:
    async with opened(tmp_path) as store:
        store.save([STATUS])
    edit(tmp_path, "INSERT INTO last_good VALUES ('agent.status', 'a', '1', ?)", as_of)
    async with opened(tmp_path) as store:
        assert await store.load() == [STATUS]


async def test_values_of_one_moment_are_read_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    jobs = [PublishedValue("lab.job", key, Raw(b"1"), 1.0) for key in ("b", "c", "a")]
    async with opened(tmp_path) as store:
        store.save_published(jobs)
    async with opened(tmp_path) as store:
        assert await store.load_published() == jobs
        store.save_published([jobs[0]])
    async with opened(tmp_path) as store:
        assert await store.load_published() == [*jobs[1:], jobs[0]]


async def test_json_that_somebody_edited_by_hand_is_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.save_published([DOOR, JOB])
    edit(tmp_path, "UPDATE published SET data = '{ \"open\": false }', timestamp = 5 WHERE key = ''")
    edit(tmp_path, "UPDATE published SET ends_at = 7 WHERE key = 'j-1'")
    assert await published_in(tmp_path) == [
        PublishedValue("lab.door", "", Raw(b'{"open":false}'), 5.0),
        PublishedValue("lab.job", "j-1", JOB.data, JOB.timestamp, 60.0, 7.0),
    ]


async def test_published_values_are_synced_to_the_disk_and_polled_ones_need_not_be(tmp_path: Path) -> None:
    settings: list[int] = []
    async with opened(tmp_path) as store:
        write = store._database.write

        def noting(*changes: Any, synchronous: Any) -> None:
            write(*changes, synchronous=synchronous)
            settings.append(store._database.connection.execute("PRAGMA synchronous").fetchone()[0])

        store._database.write = noting  # type: ignore[method-assign, assignment]
        for number in range(4):
            if number % 2:
                store.save_published([DOOR])
            else:
                store.save([STATUS])
            await longer_than(settings, number)
    assert settings == [1, 2, 1, 2]


@contextmanager
def full(store: SqliteStore) -> Iterator[None]:
    """In the context, the file cannot grow: SQLite finds the disk full."""
    connection = store._database.connection
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    yield
    connection.execute("PRAGMA max_page_count = 1000000")


@contextmanager
def read_only(store: SqliteStore) -> Iterator[None]:
    store._database.connection.execute("PRAGMA query_only = 1")
    yield
    store._database.connection.execute("PRAGMA query_only = 0")


def job(key: str, data: bytes = b"1") -> PublishedValue:
    return PublishedValue("lab.job", key, Raw(data), 1.0)


@pytest.mark.parametrize("trouble", [full, read_only])
async def test_what_could_not_be_written_is_told_and_is_there_once_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Any
) -> None:
    monkeypatch.setattr(writing, "RETRY_S", 0.01)
    measured: list[Any] = []
    big = b'"' + b"x" * 100_000 + b'"'
    with capture_logs() as lines:
        async with opened(tmp_path, measured.append) as store:
            store.save_published([job("kept"), job("deleted"), job("replaced")])
            await until(lambda: rows(tmp_path) == {"kept", "deleted", "replaced"})
            with trouble(store):
                store.save_published([job("big", big), job("replaced", big)])
                store.save_published([job("brief", big)], gone=[("lab.job", "deleted")])
                await until(lambda: measured and measured[-1].unwritten >= 4)
                store.save_published([job("replaced", b"2")], gone=[("lab.job", "brief")])
                await longer_than(measured, len(measured) + 2)
                assert rows(tmp_path) == {"kept", "deleted", "replaced"}
            await until(lambda: measured[-1].unwritten == 0)
    assert await published_in(tmp_path) == [job("big", big), job("kept"), job("replaced", b"2")]
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("values could not be written", "warning"),
        ("values are written again", "info"),
    ]


def shown(store: SqliteStore) -> dict[str, float]:
    """What the metrics show of `store`, by the name without what all have in common."""
    found = {}
    for reading in store.readings():
        assert isinstance(reading.value, (int, float))
        found[reading.name.removeprefix("tidegate_store_")] = reading.value
    return found


async def test_what_waits_for_the_disk_is_shown_with_the_last_success_and_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RETRY_S", 0.01)
    async with opened(tmp_path) as store:
        begun = shown(store)
        assert begun["waiting_values"] == 0
        assert 0 <= time.time() - begun["last_success_timestamp_seconds"] < PATIENCE_S
        store.save_published([job("kept")])
        await until(lambda: rows(tmp_path) == {"kept"})
        await until(lambda: shown(store)["last_success_timestamp_seconds"] > begun["last_success_timestamp_seconds"])
        with full(store):
            before = shown(store)
            store.save_published([job("big", b'"' + b"x" * 100_000 + b'"'), job("other")])
            await until(lambda: shown(store)["waiting_values"] == 2)
            store.save_published([job("other", b"2"), job("third")])
            assert shown(store)["waiting_values"] == 3
            assert shown(store)["last_success_timestamp_seconds"] == before["last_success_timestamp_seconds"]
        await until(lambda: not shown(store)["waiting_values"])
        assert shown(store)["last_success_timestamp_seconds"] > before["last_success_timestamp_seconds"]
        assert shown(store)["bytes"] > begun["bytes"] + 100_000
        files = sum(each.stat().st_size for each in tmp_path.glob(f"{FILE}*"))
        assert shown(store)["bytes"] == files


async def test_what_cannot_be_written_before_the_end_is_lost_and_told(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with opened(tmp_path) as store:
            store._database.connection.execute("PRAGMA query_only = 1")
            store.save_published([DOOR, JOB])
    assert (lines[-1]["log_level"], lines[-1]["values"]) == ("error", 2)


async def test_deletions_that_wait_for_the_disk_are_never_more_than_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else values that come and go would fill the memory, for as long as the disk is full."""
    monkeypatch.setattr(writing, "RETRY_S", 0.01)
    async with opened(tmp_path) as store:
        store.save_published([job("old")])
    async with opened(tmp_path) as store:
        write, writes, may_end = store._write, threading.Event(), threading.Event()

        def fail(batch: dict[Any, Any]) -> bool:
            writes.set()
            may_end.wait(PATIENCE_S)
            monkeypatch.setattr(store, "_write", write)
            return False

        monkeypatch.setattr(store, "_write", fail)
        with read_only(store):
            store.save_published([job("in flight")])
            await asyncio.to_thread(writes.wait)
            store.save_published([job("brief")])
            gone = [("lab.job", key) for key in ("in flight", "brief", "old", "never")]
            store.save_published([], gone=gone)
            assert {key for _, _, key in store._waiting} == {"in flight", "old"}
            may_end.set()
            await until(lambda: {key for _, _, key in (*store._waiting, *store._being_written)} == {"old"})
    assert await published_in(tmp_path) == []


async def test_a_failure_that_goes_on_is_told_now_and_then_with_where_and_how_much_room_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 1000.0
    monkeypatch.setattr("tidegate.outbound.store_sqlite.report.time.monotonic", lambda: now)
    told = report.WriteReport(tmp_path, lambda _: None)
    with capture_logs() as lines:
        for seconds, error in [(0, "full"), (1, "full"), (59, "full"), (60, "full"), (61, "I/O"), (62, "I/O")]:
            now = 1000.0 + seconds
            told.failed(StoreError(error), unwritten=3)
        told.written()
        told.written()
    assert [(line["event"], line.get("error", line.get("after_s"))) for line in lines] == [
        ("values could not be written", "full"),
        ("values could not be written", "full"),
        ("values are written again", 62.0),
    ]
    assert (lines[0]["path"], lines[0]["waiting"]) == (str(tmp_path), 3)
    assert lines[0]["free_bytes"] > 0
    assert lines[-1]["path"] == str(tmp_path)


@pytest.mark.real
async def test_a_real_disk_that_is_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "RETRY_S", 0.05)
    measured: list[Any] = []
    disk = tmp_path / "disk"
    big = b'"' + b"x" * 50_000 + b'"'
    with small_disk(disk, size="512k"):
        async with opened(disk, measured.append) as store:
            store.save_published([job("a"), job("b")])
            await until(lambda: measured)
            (disk / "ballast").write_bytes(b"x" * (os.statvfs(disk).f_bavail * 4096))
            store.save_published([job("a", big), job("c", big)], gone=[("lab.job", "b")])
            await until(lambda: measured[-1].unwritten == 3)
            assert store._database.read("SELECT count(*) FROM published") == [(2,)]
            (disk / "ballast").unlink()
            await until(lambda: measured[-1].unwritten == 0)
        assert await published_in(disk) == [job("a", big), job("c", big)]
