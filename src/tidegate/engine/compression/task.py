"""Executes one job, from its source to a verified file under its final name. Blocking, for a process of its own.

The file is written under a temporary name beside the final one, synced, read back from the disk and compared. Then it
is renamed, unless the final name exists, and its folder is synced. If the job ends before the rename, the temporary
file is removed; temporary files of earlier attempts that were killed are removed first. A compressed file gets the
permissions of its source. The archive of a folder is readable only by its owner.
"""

import contextlib
import ctypes
import errno
import hashlib
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import zstandard

from tidegate.engine.compression import archive
from tidegate.engine.compression.archive import Piece, temporary_name
from tidegate.engine.compression.messages import Counts, Identity, Run, Verified
from tidegate.engine.compression.readahead import ReadAhead
from tidegate.engine.compression.refusals import Code, Refused, of_reading, of_writing, shown
from tidegate.engine.compression.roots import Roots

MIN_LEVEL, DEFAULT_LEVEL, MAX_LEVEL = 1, 3, 19

_READ_BYTES = 1024 * 1024
_RENAME_NOREPLACE = 1
_NO_SUCH_CALL = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


class Cancelled(Exception):
    """The job was cancelled."""


class Progress:
    """The progress of a job, read by other threads, and a flag with which they cancel it."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.cancelled = False

    def set(
        self,
        *,
        total: int | None = None,
        piece: Piece | None = None,
        written: int = 0,
        verified: int = 0,
    ) -> None:
        """Add to the counts. Raises `Cancelled` if the job was cancelled."""
        if self.cancelled:
            raise Cancelled
        old, piece = self.counts, piece or Piece(b"")
        read = old.bytes_read + piece.contents
        known = old.bytes_total if total is None else total
        self.counts = Counts(
            # Files may have been added to the folder since its bytes were counted.
            bytes_total=None if known is None else max(known, read),
            bytes_read=read,
            bytes_written=old.bytes_written + written,
            bytes_verified=old.bytes_verified + verified,
            stream_bytes=old.stream_bytes + len(piece.data),
            files=old.files + piece.files,
            skipped=old.skipped + piece.skipped,
        )


def carry_out(order: Run, progress: Progress, may_publish: Callable[[Verified], bool]) -> None:
    """Execute the job. `may_publish` is called between verifying and renaming; False cancels the job.

    Raises `Refused` if the job fails, and `Cancelled`.
    """
    roots = Roots(order.roots)
    folder_path, _, name = order.destination.rpartition(b"/")
    with _opened_folder(roots, folder_path or b"/", order.destination) as folder:
        for attempt in range(1, order.attempt):
            _remove(temporary_name(order.job, attempt), folder)
        if order.published is None or _identity(name, folder) != order.published:
            _expect_new(name, folder, order.destination)
            with _opened_source(roots, order.source) as source, _temporary(order, folder) as (temporary, file):
                verified = _verified(order, source, file, progress)
                if not may_publish(verified):
                    raise Cancelled
                with _writing(order.destination):
                    rename_new(temporary, name, folder)
        with _writing(order.destination):
            os.fsync(folder)


def discard(roots: Roots, destination: bytes, job: str, attempts: int) -> None:
    """Remove the temporary files of a job whose attempts were killed. Errors are ignored."""
    with contextlib.suppress(OSError, Refused):
        folder = roots.open(destination.rpartition(b"/")[0] or b"/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            for attempt in range(1, attempts + 1):
                _remove(temporary_name(job, attempt), folder)
        finally:
            os.close(folder)


def rename_new(old: bytes, new: bytes, folder: int) -> None:
    """Rename within `folder`. Raises `FileExistsError` if `new` exists.

    If the file system cannot do this atomically (renameat2(2)), a file that appears between the check and the rename
    is replaced.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is not None:
        if rename(folder, old, folder, new, _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in _NO_SUCH_CALL:
            raise OSError(number, os.strerror(number))
    if _identity(new, folder) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)


def _verified(order: Run, source: int, file: int, progress: Progress) -> Verified:
    """Fill `file` from `source`, sync it and read it back."""
    info = os.fstat(source)
    if stat.S_ISREG(info.st_mode):
        os.fchmod(file, stat.S_IMODE(info.st_mode) & 0o666)
    progress.set(total=_total(source, order.source, progress))
    sha256 = _compress(order, source, file, progress)
    with _writing(order.destination):
        os.fsync(file)
    _read_back(file, sha256, progress, order.destination)
    return Verified(job=order.job, counts=progress.counts, sha256=sha256, identity=_identity_of(os.fstat(file)))


def _total(source: int, path: bytes, progress: Progress) -> int:
    total = 0
    for size in archive.sizes(source, path):
        total += size
        progress.set()
    return total


def _compress(order: Run, source: int, file: int, progress: Progress) -> str:
    """Write the compressed stream of `source` to `file`. Return the SHA-256 of the uncompressed stream."""
    info = os.fstat(source)
    size = info.st_size if stat.S_ISREG(info.st_mode) else -1
    compressor = zstandard.ZstdCompressor(level=order.level, write_checksum=True).compressobj(size=size)
    digest = hashlib.sha256()

    def hashed() -> Iterator[Piece]:
        for piece in archive.stream(source, order.source):
            digest.update(piece.data)
            yield piece

    with ReadAhead(hashed()) as pieces:
        for piece in pieces:
            compressed = compressor.compress(piece.data)
            _write(file, compressed, order.destination)
            progress.set(piece=piece, written=len(compressed))
    rest = compressor.flush()
    _write(file, rest, order.destination)
    progress.set(written=len(rest))
    return digest.hexdigest()


def _read_back(file: int, sha256: str, progress: Progress, destination: bytes) -> None:
    """Decompress `file` and compare its hash. The kernel is asked to drop its cache, so that the disk is read."""
    size, written = os.fstat(file).st_size, progress.counts.bytes_written
    # The zstandard reader accepts a file that was cut before its checksum, so compare the size first.
    if size != written:
        raise Refused(Code.NOT_VERIFIED, f"{shown(destination)} has {size} bytes, but {written} were written")
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(file, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    try:
        with (
            io.FileIO(file, closefd=False) as raw,
            zstandard.ZstdDecompressor().stream_reader(raw, read_size=_READ_BYTES, closefd=False) as reader,
        ):
            while data := reader.read(_READ_BYTES):
                digest.update(data)
                progress.set(verified=len(data))
    except (zstandard.ZstdError, OSError) as error:
        raise Refused(Code.NOT_VERIFIED, f"{shown(destination)} cannot be read back: {error}") from error
    if digest.hexdigest() != sha256:
        raise Refused(Code.NOT_VERIFIED, f"{shown(destination)} does not hold what was read")


@contextmanager
def _opened_source(roots: Roots, path: bytes) -> Iterator[int]:
    try:
        source = roots.open(path, archive.OPEN_SOURCE)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise Refused(Code.NOT_SUPPORTED, f"expected a file or a folder, but {shown(path)} is neither") from error
        raise of_reading(error, path) from error
    try:
        yield source
    finally:
        os.close(source)


@contextmanager
def _opened_folder(roots: Roots, path: bytes, destination: bytes) -> Iterator[int]:
    with _writing(destination):
        folder = roots.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _temporary(order: Run, folder: int) -> Iterator[tuple[bytes, int]]:
    """Create a file under its temporary name. At the end, remove that name unless the file has been renamed."""
    name = temporary_name(order.job, order.attempt)
    with _writing(order.destination):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        yield name, file
    finally:
        os.close(file)
        _remove(name, folder)


@contextmanager
def _writing(path: bytes) -> Iterator[None]:
    """Turn an `OSError` inside the context into the `Refused` of writing `path`."""
    try:
        yield
    except OSError as error:
        raise of_writing(error, path) from error


def _write(file: int, data: bytes, destination: bytes) -> None:
    left = memoryview(data)
    with _writing(destination):
        while left:
            left = left[os.write(file, left) :]


def _expect_new(name: bytes, folder: int, destination: bytes) -> None:
    if _identity(name, folder) is not None:
        raise of_writing(FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)), destination)


def _identity(name: bytes, folder: int) -> Identity | None:
    try:
        return _identity_of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return None


def _identity_of(info: os.stat_result) -> Identity:
    return Identity(info.st_dev, info.st_ino, info.st_size)


def _remove(name: bytes, folder: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
