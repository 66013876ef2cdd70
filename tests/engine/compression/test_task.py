"""One job: what is under the final name is whole, verified and new; whatever goes wrong leaves nothing behind."""

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tidegate.engine.compression import task
from tidegate.engine.compression.archive import Piece, temporary_name
from tidegate.engine.compression.messages import Counts, Identity, Run, Verified
from tidegate.engine.compression.refusals import Code, Refused
from tidegate.engine.compression.roots import Roots
from tidegate.engine.compression.task import Cancelled, Progress, carry_out, discard, rename_new


def order(source: Path, **changes: Any) -> Run:
    parts: dict[str, Any] = {
        "job": "j1",
        "attempt": 1,
        "source": os.fsencode(source),
        "destination": os.fsencode(source.parent / "out.zst"),
        "level": 3,
        "roots": [os.fsencode(source.parent)],
    }
    return Run(**(parts | changes))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"tide " * 500_000)
    return file


def done(run: Run) -> tuple[Verified, Counts]:
    """Carry out and publish; what was verified, and the counts in the end."""
    heard: list[Verified] = []
    progress = Progress()

    def yes(verified: Verified) -> bool:
        heard.append(verified)
        return True

    carry_out(run, progress, yes)
    [verified] = heard
    return verified, progress.counts


def refused(run: Run) -> Refused:
    with pytest.raises(Refused) as caught:
        done(run)
    return caught.value


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_compressed_and_left_as_it_was(source: Path) -> None:
    source.chmod(0o640)
    before, contents = source.stat(), source.read_bytes()
    verified, counts = done(order(source))
    result = source.parent / "out.zst"
    assert zstandard.ZstdDecompressor().decompress(result.read_bytes()) == contents
    frame = zstandard.get_frame_parameters(result.read_bytes())
    assert (frame.has_checksum, frame.content_size) == (True, len(contents))
    assert stat.S_IMODE(result.stat().st_mode) == 0o640
    info = result.stat()
    assert verified.identity == Identity(info.st_dev, info.st_ino, info.st_size)
    assert verified.counts == counts
    size = len(contents)
    assert counts == Counts(
        bytes_total=size, bytes_read=size, bytes_written=info.st_size, bytes_verified=size, stream_bytes=size, files=1
    )
    after = source.stat()
    assert (after.st_mtime_ns, after.st_mode, after.st_size) == (before.st_mtime_ns, before.st_mode, before.st_size)
    assert names(source.parent) == {"file", "out.zst"}


def test_an_empty_file(source: Path) -> None:
    source.write_bytes(b"")
    _, counts = done(order(source))
    assert zstandard.ZstdDecompressor().decompress((source.parent / "out.zst").read_bytes()) == b""
    assert (counts.bytes_total, counts.bytes_read, counts.files) == (0, 0, 1)


def test_ten_thousand_tiny_files(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for folder in range(100):
        (top / str(folder)).mkdir(parents=True)
        for file in range(100):
            (top / str(folder) / str(file)).write_text(str(file))
    _, counts = done(order(top))
    assert (counts.files, counts.bytes_total, counts.bytes_read) == (10_000, 19_000, 19_000)
    assert stat.S_IMODE((tmp_path / "out.zst").stat().st_mode) == 0o600


def test_a_result_within_its_own_source_is_not_in_itself(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "file").write_text("x")
    _, counts = done(order(top, destination=os.fsencode(top / "out.zst")))
    assert counts.files == 1


def test_what_has_the_final_name_is_never_overwritten(source: Path) -> None:
    (source.parent / "out.zst").write_text("mine")
    assert refused(order(source)).code is Code.DESTINATION_EXISTS
    assert (source.parent / "out.zst").read_text() == "mine"


def test_what_gets_the_final_name_meanwhile_is_never_overwritten(source: Path) -> None:
    def meanwhile(_: Verified) -> bool:
        (source.parent / "out.zst").write_text("mine")
        return True

    with pytest.raises(Refused) as caught:
        carry_out(order(source), Progress(), meanwhile)
    assert caught.value.code is Code.DESTINATION_EXISTS
    assert (source.parent / "out.zst").read_text() == "mine"
    assert names(source.parent) == {"file", "out.zst"}


@pytest.mark.parametrize("known", [True, False])
def test_renaming_replaces_nothing(tmp_path: Path, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not known:
        monkeypatch.setattr(task, "_NO_SUCH_CALL", {errno.EEXIST, errno.ENOENT, 0})
        monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: type("libc", (), {})())
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(FileExistsError):
        rename_new(b"a", b"b", folder)
    rename_new(b"a", b"c", folder)
    with pytest.raises(FileNotFoundError):
        rename_new(b"a", b"d", folder)
    os.close(folder)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b": "b", "c": "a"}


def test_nothing_is_published_that_nobody_wants(source: Path) -> None:
    with pytest.raises(Cancelled):
        carry_out(order(source), Progress(), lambda _: False)
    assert names(source.parent) == {"file"}


def test_a_cancelled_job_leaves_nothing(source: Path) -> None:
    progress = Progress()
    progress.cancelled = True
    with pytest.raises(Cancelled):
        carry_out(order(source), progress, lambda _: True)
    assert names(source.parent) == {"file"}


def test_what_earlier_attempts_left_is_removed(source: Path) -> None:
    for attempt in (1, 2):
        (source.parent / temporary_name("j1", attempt).decode()).write_text("half")
    (source.parent / temporary_name("j2", 1).decode()).write_text("another's")
    done(order(source, attempt=3))
    assert names(source.parent) == {"file", "out.zst", temporary_name("j2", 1).decode()}


def test_what_an_earlier_attempt_published_is_the_result(source: Path) -> None:
    verified, _ = done(order(source))
    source.unlink()
    carry_out(order(source, attempt=2, published=verified.identity), Progress(), lambda _: False)


def test_what_an_earlier_attempt_verified_but_did_not_publish_is_made_again(source: Path) -> None:
    verified, _ = done(order(source, destination=os.fsencode(source.parent / "other")))
    done(order(source, attempt=2, published=verified.identity))
    assert "out.zst" in names(source.parent)


def test_another_file_is_not_taken_for_the_result(source: Path) -> None:
    verified, _ = done(order(source, destination=os.fsencode(source.parent / "other")))
    (source.parent / "out.zst").write_text("mine")
    assert refused(order(source, attempt=2, published=verified.identity)).code is Code.DESTINATION_EXISTS


def test_a_full_disk_leaves_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def full(file: int, data: memoryview) -> int:
        if len(data) < 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: len(data) // 2])

    monkeypatch.setattr("os.write", full)
    error = refused(order(source))
    assert (error.code, str(error)) == (Code.DISK_FULL, f"no room for {source.parent}/out.zst: No space left on device")
    assert names(source.parent) == {"file"}


@pytest.mark.parametrize("call", ["os.fsync", "tidegate.engine.compression.task.rename_new"])
def test_a_disk_that_turns_out_to_be_full_in_the_end_leaves_nothing(
    source: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(call, full)
    assert refused(order(source)).code is Code.DISK_FULL
    assert names(source.parent) == {"file"}


def test_writes_that_take_only_a_part_are_continued(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("os.write", lambda file, data: write(file, data[:7]))
    done(order(source))


def test_a_file_that_was_not_written_as_it_should_be_is_found_out(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.write_bytes(os.urandom(100_000))
    write = os.write
    monkeypatch.setattr("os.write", lambda file, data: write(file, bytes(data[:-9]) + b"damaged!!"))
    error = refused(order(source))
    assert error.code is Code.NOT_VERIFIED
    assert names(source.parent) == {"file"}


@pytest.mark.parametrize("lost", [1, 4])
def test_a_checksum_that_was_not_written_is_found_out(source: Path, lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def loses(file: int) -> None:
        sync(file)
        os.ftruncate(file, os.fstat(file).st_size - lost)

    monkeypatch.setattr("os.fsync", loses)
    assert refused(order(source)).code is Code.NOT_VERIFIED


def test_a_good_file_of_something_else_is_found_out(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.write_bytes(os.urandom(1000))
    write = os.write
    other = zstandard.ZstdCompressor(write_checksum=True).compress(os.urandom(1000))
    monkeypatch.setattr("os.write", lambda file, data: write(file, other[: len(data)]))
    error = refused(order(source))
    assert (error.code, str(error)) == (Code.NOT_VERIFIED, f"{source.parent}/out.zst does not hold what was read")


def test_a_source_that_vanished_before_its_turn(source: Path) -> None:
    run = order(source)
    source.unlink()
    assert refused(run).code is Code.SOURCE_CHANGED


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert refused(order(tmp_path / "socket")).code is Code.NOT_SUPPORTED


def test_what_leads_out_of_the_roots_is_refused(source: Path, tmp_path: Path) -> None:
    assert refused(order(Path("/etc/passwd"), roots=[os.fsencode(tmp_path)])).code is Code.NOT_ALLOWED
    assert refused(order(source, destination=b"/etc/out.zst")).code is Code.NOT_ALLOWED


def test_a_folder_that_is_gone_cannot_be_written(source: Path) -> None:
    error = refused(order(source, destination=os.fsencode(source.parent / "none" / "out.zst")))
    assert (error.code, "cannot be written" in str(error)) == (Code.IO_ERROR, True)


def test_what_killed_attempts_left_can_be_discarded(source: Path) -> None:
    roots = Roots([source.parent])
    for attempt in (1, 2, 3):
        (source.parent / temporary_name("j1", attempt).decode()).write_text("half")
    discard(roots, os.fsencode(source.parent / "out.zst"), "j1", 2)
    assert names(source.parent) == {"file", temporary_name("j1", 3).decode()}
    discard(roots, b"/etc/out.zst", "j1", 2)
    discard(roots, os.fsencode(source.parent / "none" / "out.zst"), "j1", 2)


def test_more_files_than_were_counted_are_not_more_than_all() -> None:
    progress = Progress()
    progress.set(total=10)
    progress.set(piece=Piece(b"x" * 12, contents=12))
    assert (progress.counts.bytes_read, progress.counts.bytes_total) == (12, 12)


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from tidegate.engine.compression.messages import Run
from tidegate.engine.compression.refusals import Refused
from tidegate.engine.compression.task import Progress, carry_out
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
source = Path(sys.argv[1])
folder = str(source.parent).encode()
run = Run(job="j", attempt=1, source=bytes(source), destination=folder + b"/out", level=3, roots=[folder])
try:
    carry_out(run, Progress(), lambda _: True)
except Refused as refused:
    print(refused.code, refused)
"""


@pytest.mark.real
@pytest.mark.parametrize(
    "hide", [lambda top: top.chmod(0), lambda top: (top / "secret").chmod(0), lambda top: (top / "inner").chmod(0)]
)
def test_what_cannot_be_read_is_named(open_folder: Path, hide: Callable[[Path], None]) -> None:
    top = open_folder / "top"
    (top / "inner").mkdir(parents=True)
    (top / "secret").touch()
    hide(top)
    said = subprocess.run([sys.executable, "-c", UNPRIVILEGED, top], capture_output=True, text=True, check=False)
    assert said.stdout.startswith(f"UNREADABLE {top}"), said
    assert "cannot be read: Permission denied" in said.stdout
    assert names(open_folder) == {"top"}


KILLED = """
import itertools, os, sys
from pathlib import Path
import msgspec, zstandard
from tidegate.engine.compression import task
from tidegate.engine.compression.messages import Identity, Run
from tidegate.engine.compression.task import Progress, carry_out

source = Path(sys.argv[1])
result, noted = source.parent / "out.zst", source.parent / "noted"
calls = itertools.count()

def order(attempt, published=None):
    paths = dict(source=bytes(source), destination=bytes(result), roots=[bytes(source.parent)])
    return Run(job="j", attempt=attempt, level=3, published=published, **paths)

def publish(verified):
    noted.write_bytes(msgspec.json.encode(verified.identity))  # as the engine does before it allows it
    return True

def deadly(call, point):
    def called(*args, **kwargs):
        if next(calls) == point:
            os._exit(9)
        done = call(*args, **kwargs)
        if next(calls) == point:
            os._exit(9)
        return done
    return called

def killed_at(point):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    for name in ("open", "write", "fchmod", "fsync", "lseek", "unlink"):
        setattr(os, name, deadly(getattr(os, name), point))
    task.rename_new = deadly(task.rename_new, point)
    carry_out(order(1), Progress(), publish)
    os._exit(0)

def is_whole():
    return zstandard.ZstdDecompressor().decompress(result.read_bytes()) == source.read_bytes()

before = source.stat()
for point in itertools.count():
    was_killed = killed_at(point)
    assert not result.exists() or is_whole(), point
    published = msgspec.json.decode(noted.read_bytes(), type=Identity) if noted.exists() else None
    carry_out(order(2, published), Progress(), publish)
    assert is_whole(), point
    noted.unlink(missing_ok=True)
    assert set(os.listdir(source.parent)) == {source.name, result.name}, point
    result.unlink()
    if not was_killed:
        break
after = source.stat()
assert (after.st_mtime_ns, after.st_size, after.st_ino) == (before.st_mtime_ns, before.st_size, before.st_ino)
print(point)
"""


@pytest.mark.real
def test_a_kill_at_any_point_leaves_no_half_file_and_nothing_after_the_next_attempt(source: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, source], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 20


@pytest.mark.real
def test_a_disk_that_is_full_in_truth(small_disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(os.urandom(3_000_000))
    destination = os.fsencode(small_disk / "out.zst")
    error = refused(order(source, destination=destination, roots=[os.fsencode(tmp_path), os.fsencode(small_disk)]))
    assert (error.code, "No space left on device" in str(error)) == (Code.DISK_FULL, True)
    assert names(small_disk) == set()
