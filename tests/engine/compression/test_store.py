import os
import sqlite3
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tidegate.engine.compression.jobs import Record, State
from tidegate.engine.compression.store import FILE, opened
from tidegate.errors import StoreError


def record(job: str, *, number: int = 1, state: State = State.QUEUED) -> Record:
    return Record(id=job, number=number, source=b"/s\xff", destination=b"/d", level=3, submitted_at=1.5, state=state)


async def saved(directory: Path) -> dict[str, Record]:
    async with opened(directory) as jobs:
        return {job.id: job for job in await jobs.load()}


async def test_jobs_are_there_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "new" / "state") as jobs:
        assert await jobs.load() == []
        await jobs.save(record("a"), record("b"))
        await jobs.save(record("a", state=State.DONE))
        await jobs.forget(["b", "none"])
    assert await saved(tmp_path / "new" / "state") == {"a": record("a", state=State.DONE)}


async def test_without_a_directory_they_live_as_long_as_the_engine() -> None:
    async with opened(None) as jobs:
        await jobs.save(record("a"))
        assert await jobs.load() == [record("a")]
    async with opened(None) as jobs:
        assert await jobs.load() == []


async def test_a_directory_belongs_to_one_engine(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(StoreError, match=f"another engine uses {tmp_path}"):
            await saved(tmp_path)
    await saved(tmp_path)


async def test_only_the_engines_user_may_read_its_jobs(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    before = os.umask(0)
    try:
        async with opened(directory) as jobs:
            await jobs.save(record("a"))
            modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys([FILE, f"{FILE}-wal", f"{FILE}-shm", "engine.lock"], 0o600)
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's link")
async def test_a_link_of_another_user_to_a_directory_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "link").symlink_to("ours")
    os.lchown(tmp_path / "link", 1234, 1234)
    with pytest.raises(StoreError, match="which is another's"):
        await saved(tmp_path / "link")
    assert not list((tmp_path / "ours").iterdir())


@pytest.mark.parametrize("name", ["engine.lock", FILE, f"{FILE}-wal"])
async def test_a_link_in_place_of_a_file_is_refused_and_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / name).symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError, match=rf"got .*{name} \(a symbolic link, which is not followed\)"):
        await saved(tmp_path / "state")
    assert (tmp_path / "theirs").read_text() == "theirs"


async def test_what_is_no_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="expected a directory that can be written"):
        await saved(tmp_path / "file" / "state")


async def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 12345678)
    with pytest.raises(StoreError, match="another's"):
        await saved(tmp_path)


async def test_a_file_of_another_program_is_set_aside(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with capture_logs() as lines:
        assert await saved(tmp_path) == {}
    assert "set aside" in lines[0]["event"]
    [aside] = tmp_path.glob(f"{FILE}.unreadable-*")
    connection = sqlite3.connect(aside)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    connection.close()


@pytest.mark.parametrize("damage", [b"nonsense" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FILE).write_bytes(damage)
    with capture_logs():
        assert await saved(tmp_path) == {}
    [aside] = tmp_path.glob(f"{FILE}.unreadable-*")
    assert aside.read_bytes() == damage
    async with opened(tmp_path) as jobs:
        await jobs.save(record("a"))
    assert list(await saved(tmp_path)) == ["a"]


async def test_a_job_that_nobody_can_read_does_not_hide_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as jobs:
        await jobs.save(record("a"), record("b"))
    connection = sqlite3.connect(tmp_path / FILE)
    with connection:
        connection.execute("UPDATE jobs SET record = ? WHERE id = 'a'", (b'{"id":"a","state":"from the future"}',))
    connection.close()
    with capture_logs() as lines:
        assert list(await saved(tmp_path)) == ["b"]
    assert lines[0]["event"].startswith("job a left out")


async def test_a_failing_disk_is_an_error(tmp_path: Path) -> None:
    async with opened(tmp_path) as jobs:
        jobs._database.connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match="jobs cannot be kept"):
            await jobs.save(record("a"))
