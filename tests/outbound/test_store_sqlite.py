"""Last good values on disk: what was saved is there again, whatever happened in between."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tidegate import database
from tidegate.errors import StoreError
from tidegate.outbound import store_sqlite
from tidegate.outbound.store_sqlite import FILE, SqliteStore, tables
from tidegate.outbound.store_sqlite import store as writing
from tidegate.ports import SavedValue

FIXTURES = Path(__file__).parent.parent / "fixtures"

STATUS = SavedValue("system.status", "", b'{"n":1.10}', 1_795_000_000.25)
AGENT = SavedValue("agent.status", "a-1", b'{"id":"a-1"}', 1_795_000_001.5)


async def saved_in(directory: Path) -> list[SavedValue]:
    store = await SqliteStore.open(directory)
    try:
        return sorted(await store.load(), key=lambda value: value.type)
    finally:
        await store.aclose()


async def test_a_directory_that_is_not_there_is_made(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "new" / "state")
    store.save([STATUS, AGENT])
    await store.aclose()
    assert await saved_in(tmp_path / "new" / "state") == [AGENT, STATUS]


async def test_values_are_on_disk_within_a_second_without_closing(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    store.save([STATUS])
    reader = sqlite3.connect(tmp_path / FILE)
    deadline = time.monotonic() + 30
    while not (rows := reader.execute("SELECT * FROM last_good").fetchall()) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    reader.close()
    await store.aclose()
    assert rows == [("system.status", "", b'{"n":1.10}', STATUS.as_of)]


async def test_a_second_gateway_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    with pytest.raises(StoreError, match=r"another gateway uses .*server\.state_dir"):
        await SqliteStore.open(tmp_path)
    await store.aclose()
    await (await SqliteStore.open(tmp_path)).aclose()


def foreign(path: Path) -> None:
    with connected(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")


def newer(path: Path) -> None:
    with connected(path) as connection:
        connection.execute(f"PRAGMA application_id = {tables.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE last_good (x)")


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def torn(path: Path) -> None:
    with connected(path) as connection:
        connection.execute(f"PRAGMA application_id = {tables.APPLICATION_ID}")
        connection.execute("CREATE TABLE last_good (type, key, data, as_of)")
        connection.executemany("INSERT INTO last_good VALUES (?, '', ?, 0)", [(n, "x" * 500) for n in range(200)])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    with connection:
        yield connection
    connection.close()


@pytest.mark.parametrize("spoil", [foreign, newer, garbage, torn])
async def test_a_file_that_is_not_ours_or_not_sound_is_set_aside_and_kept(tmp_path: Path, spoil: object) -> None:
    assert callable(spoil)
    spoil(tmp_path / FILE)
    before = (tmp_path / FILE).read_bytes()
    with capture_logs() as lines:
        store = await SqliteStore.open(tmp_path)
        assert await store.load() == []
        store.save([STATUS])
        await store.aclose()
    (line,) = [line for line in lines if line["event"] == "state file set aside"]
    assert Path(line["kept_as"]).read_bytes() == before
    assert await saved_in(tmp_path) == [STATUS]


@contextmanager
def masked_by(umask: int) -> Iterator[None]:
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
async def test_only_the_gateways_user_may_read_its_state(tmp_path: Path, umask: int) -> None:
    directory = tmp_path / "state"
    with masked_by(umask):
        store = await SqliteStore.open(directory)
        store.save([STATUS])
        while not (directory / f"{FILE}-wal").stat().st_size:
            await asyncio.sleep(0.02)
        modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
        await store.aclose()
    assert modes == dict.fromkeys([FILE, f"{FILE}-wal", f"{FILE}-shm", "lock"], 0o600)
    assert directory.stat().st_mode & 0o777 == 0o700


async def test_state_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    garbage(tmp_path / FILE)
    (tmp_path / "lock").touch()
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    with masked_by(0), capture_logs():
        await (await SqliteStore.open(tmp_path)).aclose()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert len(list(tmp_path.glob(f"{FILE}.unreadable-*"))) == 1


@pytest.mark.parametrize("name", ["lock", FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal"])
async def test_a_link_in_place_of_a_state_file_is_refused_and_not_followed(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    theirs.chmod(0o644)
    state = tmp_path / "state"
    state.mkdir()
    (state / name).symlink_to(theirs)
    with pytest.raises(StoreError, match=rf"got .*{name} \(a symbolic link, which is not followed\)"):
        await SqliteStore.open(state)
    assert (theirs.read_text(), theirs.stat().st_mode & 0o777) == ("theirs", 0o644)
    assert name in (store_sqlite.obstacle(state) or "")
    (state / name).unlink()
    assert await saved_in(state) == []


async def test_a_state_directory_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "state").symlink_to("private")
    assert await saved_in(tmp_path / "state") == []
    assert store_sqlite.obstacle(tmp_path / "state") is None


def test_everything_of_a_database_is_set_aside_with_it(tmp_path: Path) -> None:
    suffixes = ("", "-wal", "-shm", "-journal")
    for suffix in suffixes:
        (tmp_path / f"{FILE}{suffix}").write_text(suffix)
    aside = database._set_aside(tmp_path / FILE)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{aside.name}{suffix}" for suffix in suffixes)


async def test_an_opening_that_is_cancelled_leaves_the_directory_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, go = threading.Event(), threading.Event()
    connected = database._connected

    def slow(*arguments: Any) -> sqlite3.Connection:
        opening.set()
        go.wait()
        return connected(*arguments)

    monkeypatch.setattr(database, "_connected", slow)
    task = asyncio.create_task(SqliteStore.open(tmp_path))
    await asyncio.to_thread(opening.wait)
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await saved_in(tmp_path) == []


async def test_a_thread_that_cannot_be_started_leaves_the_directory_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteStore, "__init__", refuse)
        with pytest.raises(RuntimeError, match="thread"):
            await SqliteStore.open(tmp_path)
    assert await saved_in(tmp_path) == []


async def test_a_place_that_is_no_directory_is_refused_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"server\.state_dir"):
        await SqliteStore.open(tmp_path / "file")


async def test_a_failed_write_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "RETRY_S", 0.01)
    store = await SqliteStore.open(tmp_path)
    blocker = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    store._database.connection.execute("PRAGMA busy_timeout = 1")
    blocker.execute("BEGIN IMMEDIATE")
    with capture_logs() as lines:
        store.save([STATUS])
        while not lines:
            await asyncio.sleep(0.01)
        blocker.execute("ROLLBACK")
        blocker.close()
        await store.aclose()
    assert lines[0]["event"] == "values could not be written"
    assert await saved_in(tmp_path) == [STATUS]


@pytest.mark.parametrize("newer_is", ["a value", "gone"])
async def test_a_value_whose_write_failed_does_not_come_back_over_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newer_is: str
) -> None:
    monkeypatch.setattr(writing, "RETRY_S", 0.01)
    newer = SavedValue(STATUS.type, STATUS.key, b"2", STATUS.as_of + 1)
    store = await SqliteStore.open(tmp_path)
    write = store._write
    written = threading.Event()

    def once_more(batch: tables.Batch) -> bool:
        good = write(batch)
        written.set()
        return good

    def fail(batch: tables.Batch) -> bool:
        assert batch == {("last_good", STATUS.type, STATUS.key): STATUS}
        monkeypatch.setattr(store, "_write", once_more)
        if newer_is == "gone":
            store.save([], gone=[(STATUS.type, STATUS.key)])
        else:
            store.save([newer])
        store.save([AGENT])
        return False

    monkeypatch.setattr(store, "_write", fail)
    store.save([STATUS])
    assert await asyncio.to_thread(written.wait, 30)
    await store.aclose()
    assert await saved_in(tmp_path) == ([AGENT] if newer_is == "gone" else [AGENT, newer])


UNSTORABLE = {
    "a lone surrogate": SavedValue("rack.status", "\ud800", b"1", 1.0),
    "an integer of 65 bits": SavedValue("rack.status", "", b"1", 2**64),
    "no data": SavedValue("rack.status", "", None, 1.0),  # type: ignore[arg-type]
    "data of no type that SQLite knows": SavedValue("rack.status", "", object(), 1.0),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE)
async def test_a_value_that_cannot_be_stored_holds_up_no_other(tmp_path: Path, value: SavedValue) -> None:
    store = await SqliteStore.open(tmp_path)
    with capture_logs() as lines:
        store.save([STATUS, value], gone=[(value.type, "gone")])
        while not lines:
            await asyncio.sleep(0.01)
        store.save([AGENT])
        await store.aclose()
    assert [(line["event"], line["type"]) for line in lines] == [("value left out, it cannot be stored", "rack.status")]
    assert await saved_in(tmp_path) == [AGENT, STATUS]


async def test_what_cannot_be_stored_is_not_tried_again_with_a_write_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RETRY_S", 0.01)
    store = await SqliteStore.open(tmp_path)
    write = store._database.write
    refusals = iter([StoreError("disk I/O error")])

    def failing_once(*changes: database.Change, synchronous: database.Synchronous) -> None:
        write(*changes, synchronous=synchronous)
        if any(values == [(STATUS.type, STATUS.key, STATUS.data, STATUS.as_of)] for _, values in changes):
            for refusal in refusals:
                raise refusal

    monkeypatch.setattr(store._database, "write", failing_once)
    with capture_logs() as lines:
        store.save([STATUS, UNSTORABLE["no data"]])
        while len(lines) < 2:
            await asyncio.sleep(0.01)
        await store.aclose()
    assert [line["event"] for line in lines] == [
        "value left out, it cannot be stored",
        "values could not be written",
        "values are written again",
    ]
    assert await saved_in(tmp_path) == [STATUS]


@pytest.mark.parametrize("fixture", sorted(FIXTURES.glob("values-v*.sqlite3")), ids=lambda path: path.stem)
async def test_every_schema_version_is_still_read(tmp_path: Path, fixture: Path) -> None:
    (tmp_path / FILE).write_bytes(fixture.read_bytes())
    with capture_logs() as lines:
        assert await saved_in(tmp_path) == [AGENT, STATUS]
    assert not lines


def test_each_schema_version_has_its_fixture() -> None:
    versions = {int(path.stem.removeprefix("values-v")) for path in FIXTURES.glob("values-v*.sqlite3")}
    assert versions == set(range(1, len(tables.MIGRATIONS) + 1))
