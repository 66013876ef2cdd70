"""The stream of a file is its contents; that of a folder is what ordinary tar reads."""

import io
import os
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidegate.engine.compression import archive
from tidegate.engine.compression.archive import OPEN_SOURCE, Piece, sizes, stream
from tidegate.engine.compression.refusals import Code, Refused


def pieces(path: Path | bytes) -> Iterator[Piece]:
    source = os.open(path, OPEN_SOURCE)
    try:
        yield from stream(source, os.fsencode(path))
    finally:
        os.close(source)


def streamed(path: Path | bytes) -> bytes:
    return b"".join(piece.data for piece in pieces(path))


def untarred(path: Path) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(streamed(path)), errors="surrogateescape")


def total(path: Path) -> int:
    source = os.open(path, OPEN_SOURCE)
    try:
        return sum(sizes(source, os.fsencode(path)))
    finally:
        os.close(source)


@pytest.mark.parametrize("size", [0, 1, archive.PIECE_BYTES, 3 * archive.PIECE_BYTES + 7])
def test_a_file_is_its_contents(tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(size))
    assert streamed(file) == file.read_bytes()
    assert total(file) == sum(piece.contents for piece in pieces(file)) == size
    assert sum(piece.files for piece in pieces(file)) == 1


def test_a_folder_is_a_tar_archive(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "sub" / "file").write_bytes(b"x" * 1000)
    (top / "zero").touch()
    (top / "zero").chmod(0o640)
    os.utime(top / "zero", (1e9, 1e9))
    (top / "link").symlink_to("/etc/passwd")
    (top / "links").symlink_to(top)
    with untarred(top) as tar:
        members = {member.name: member for member in tar}
        assert list(members) == ["top", "top/link", "top/links", "top/sub", "top/sub/empty", "top/sub/file", "top/zero"]
        assert members["top/link"].issym()
        assert members["top/link"].linkname == "/etc/passwd"
        assert members["top/sub/empty"].isdir()
        assert (members["top/zero"].mode, members["top/zero"].mtime) == (0o640, 1e9)
        contents = tar.extractfile("top/sub/file")
        assert contents is not None
        assert contents.read() == b"x" * 1000
    assert len(streamed(top)) % tarfile.RECORDSIZE == 0
    assert total(top) == sum(piece.contents for piece in pieces(top)) == 1000
    assert sum(piece.files for piece in pieces(top)) == 2


@pytest.mark.parametrize("count", range(17, 23))
def test_the_archive_fills_whole_records(tmp_path: Path, count: int) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for number in range(count):
        (top / str(number)).touch()
    archived = streamed(top)
    assert len(archived) % tarfile.RECORDSIZE == 0
    assert archived.endswith(bytes(2 * tarfile.BLOCKSIZE))
    with untarred(top) as tar:
        assert len(tar.getnames()) == count + 1


def test_long_and_strange_names(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    names = [b"\xff\xfe", b"n\nl", b"x" * 255, "\u00e9".encode(), b"back\\slash", b" "]
    for name in names:
        Path(os.fsdecode(os.fsencode(top) + b"/" + name)).write_bytes(name)
    deep = Path(top, *["d" * 100] * 5)
    deep.mkdir(parents=True)
    with untarred(top) as tar:
        found = {os.fsencode(member.name): member for member in tar}
        for name in names:
            contents = tar.extractfile(found[b"top/" + name])
            assert contents is not None
            assert contents.read() == name
        assert os.fsencode(deep.relative_to(tmp_path)) in found


def test_what_is_no_file_is_left_out_and_counted(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "socket"))
        assert sum(piece.skipped for piece in pieces(top)) == 2
        with untarred(top) as tar:
            assert tar.getnames() == ["top"]


def test_what_jobs_are_writing_is_left_out(tmp_path: Path) -> None:
    names = {os.fsdecode(archive.temporary_name("0a1b2c3d", 12)), "other", ".tidegate-x.partial"}
    for name in names:
        (tmp_path / name).write_text("x")
    with untarred(tmp_path) as tar:
        top = tmp_path.name
        assert tar.getnames() == [top, f"{top}/.tidegate-x.partial", f"{top}/other"]
    assert total(tmp_path) == 2


def test_a_pipe_is_refused_and_hangs_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused) as refused:
        streamed(tmp_path / "pipe")
    assert refused.value.code is Code.NOT_SUPPORTED


def appended(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"more")


def shortened(file: Path) -> None:
    os.truncate(file, archive.PIECE_BYTES + 1)


def overwritten(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"other")
    os.utime(file, (1e9, 1e9))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (appended, "it has {grown} now"),
        (shortened, "it ended after {short}"),
        (overwritten, "others were written over them"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, change: Callable[[Path], None], what: str, alone: bool
) -> None:
    file = tmp_path / "top" / "file"
    file.parent.mkdir()
    size = 3 * archive.PIECE_BYTES
    file.write_bytes(bytes(size))
    reading = pieces(file if alone else file.parent)
    next(reading)
    change(file)
    expected = what.format(grown=size + 4, short=archive.PIECE_BYTES + 1)
    with pytest.raises(
        Refused, match=f"file changed while it was read: expected its {size} bytes, but {expected}"
    ) as refused:
        list(reading)
    assert refused.value.code is Code.SOURCE_CHANGED


def test_a_file_that_is_removed_while_it_is_read_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    contents = os.urandom(3 * archive.PIECE_BYTES)
    file.write_bytes(contents)
    reading = pieces(file)
    first = next(reading).data
    file.unlink()
    assert first + b"".join(piece.data for piece in reading) == contents


@pytest.mark.parametrize("folder", [True, False])
def test_what_vanishes_before_its_turn_is_an_error(tmp_path: Path, folder: bool) -> None:
    (tmp_path / "a").write_bytes(bytes(2 * archive.PIECE_BYTES))
    last = tmp_path / "b"
    last.mkdir() if folder else last.touch()
    reading = pieces(tmp_path)
    next(reading)
    last.rmdir() if folder else last.unlink()
    with pytest.raises(Refused, match=r"/b vanished or was replaced while it was read") as refused:
        list(reading)
    assert refused.value.code is Code.SOURCE_CHANGED


def test_a_file_that_claims_to_be_empty_is_not_believed() -> None:
    with pytest.raises(Refused, match="more than it says"):
        streamed(b"/proc/self/status")


def test_nothing_stays_open(tmp_path: Path) -> None:
    def opened() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    for number in range(5):
        deep = tmp_path / "top" / str(number) / "deep"
        deep.mkdir(parents=True)
        (deep / "file").write_bytes(bytes(archive.PIECE_BYTES))
    before = opened()
    streamed(tmp_path / "top")
    total(tmp_path / "top")
    reading = pieces(tmp_path / "top")
    next(reading)
    next(reading)
    assert opened() > before
    reading.close()  # type: ignore[attr-defined]
    assert opened() == before
