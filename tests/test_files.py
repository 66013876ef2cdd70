"""Files in our way: pipes, devices, links, huge ones, and ones that others may read."""

import errno
import os
from pathlib import Path

import pytest
from reachable import reachable_directory

from tidegate import files


def test_a_small_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    assert files.read(tmp_path / "link", limit=1) == b"x"
    files.check(tmp_path / "link")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("make", "text"), [(pipe, "a named pipe"), (device, "a device"), (Path.mkdir, "a directory")], ids=str
)
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, make: object, text: str) -> None:
    assert callable(make)
    path = tmp_path / "it"
    make(path)
    for look in (files.check, lambda it: files.read(it, limit=10)):
        with pytest.raises(OSError, match=f"{text}, not a regular file"):
            look(path)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="more than 100 bytes"):
        files.read(path, limit=100)


@pytest.mark.parametrize(
    ("directory_mode", "mode", "exposed"),
    [(0o755, 0o644, True), (0o755, 0o602, True), (0o755, 0o640, False), (0o755, 0o600, False), (0o700, 0o644, False)],
)
def test_exposed_is_what_others_can_reach(directory_mode: int, mode: int, exposed: bool) -> None:
    with reachable_directory() as directory:
        (directory / "file").write_text("")
        (directory / "file").chmod(mode)
        directory.chmod(directory_mode)
        assert files.is_exposed(directory / "file") is exposed
        assert not files.is_exposed(directory / "none")


def test_directories_that_are_missing_are_made_for_us_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.make_directory(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o700, 0o700]
    tmp_path.joinpath("a").chmod(0o755)
    files.make_directory(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("suffix", files.DATABASE_COMPANIONS)
def test_no_link_is_followed_to_or_beside_a_database(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "theirs").chmod(0o644)
    (tmp_path / f"db{suffix}").symlink_to("theirs")
    assert files.database_obstacle(tmp_path / "db") == f"db{suffix}, which is a symbolic link"
    with pytest.raises(OSError, match="a symbolic link, which is not followed"):
        files.make_database_private(tmp_path / "db")
    assert (tmp_path / "theirs").stat().st_mode & 0o777 == 0o644


def test_a_database_and_what_belongs_to_it_are_ours_alone(tmp_path: Path) -> None:
    names = [f"db{suffix}" for suffix in files.DATABASE_COMPANIONS] + ["db.unreadable-1"]
    for name in names:
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o666)
    assert files.database_obstacle(tmp_path / "db") is None
    files.make_database_private(tmp_path / "db")
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in names} == {0o600}
    assert [(tmp_path / name).read_text() for name in names] == names


@pytest.mark.parametrize("suffix", files.DATABASE_COMPANIONS)
def test_another_users_file_of_a_database_is_told_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    (tmp_path / f"db{suffix}").write_text("theirs")
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert files.database_obstacle(tmp_path / "db") == f"db{suffix}, which belongs to another user"


def test_a_file_of_a_database_that_cannot_be_used_is_told_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "db").write_text("ours")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert files.database_obstacle(tmp_path / "db") == "db, which cannot be read and written"


def test_the_error_of_a_file_that_cannot_be_made_private_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(descriptor: int, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    (tmp_path / "db").write_text("theirs")
    monkeypatch.setattr(os, "fchmod", refused)
    with pytest.raises(PermissionError) as caught:
        files.make_database_private(tmp_path / "db")
    assert caught.value.filename == str(tmp_path / "db")
