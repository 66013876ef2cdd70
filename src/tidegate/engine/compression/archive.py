"""Reads the source of a job as a stream of bytes: a file's content, or a folder as a tar archive.

Links are stored, never followed. Sockets, pipes and devices are left out and counted. Unfinished files of other jobs
are left out. A file must not change between opening and its last byte; otherwise the job fails, so that no archive
contains a mixture of old and new data.
"""

import os
import re
import stat
import sys
import tarfile
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TypeVar

import msgspec

from tidegate.engine.compression.refusals import Code, Refused, of_reading, shown

PIECE_BYTES = 512 * 1024
"""The size of reads and of the pieces of a stream: large enough that the work per piece does not matter."""

OPEN_SOURCE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags for opening a source. O_NONBLOCK: opening a pipe must not wait for a writer."""

_RECORD_BYTES = tarfile.RECORDSIZE
_BLOCK_BYTES = tarfile.BLOCKSIZE
_UNFINISHED = re.compile(r"\.tidegate-[0-9a-z]+-[0-9]+\.partial")
_ENCODING = sys.getfilesystemencoding()

T = TypeVar("T")


class Piece(msgspec.Struct, frozen=True):
    """A part of the stream, and what it adds to the counts. `contents` is the bytes in it that are file content."""

    data: bytes
    contents: int = 0
    files: int = 0
    skipped: int = 0


class _Entry(msgspec.Struct, frozen=True):
    """An entry of a folder: its name, the folder's descriptor, its path, and its `lstat`."""

    name: str
    folder: int
    path: str
    info: os.stat_result


def sizes(source: int, path: bytes) -> Iterator[int]:
    """Yield the current size of each file that the stream of `source` will contain."""
    info = os.fstat(source)
    if not stat.S_ISDIR(info.st_mode):
        yield info.st_size
        return
    for entry in _walk(source, os.fsdecode(path)):
        if stat.S_ISREG(entry.info.st_mode):
            yield entry.info.st_size


def temporary_name(job: str, attempt: int) -> bytes:
    """Return the name of the unfinished file of a job. Each attempt has a different name."""
    return f".tidegate-{job}-{attempt}.partial".encode()


def stream(source: int, path: bytes) -> Iterator[Piece]:
    """Yield the stream of the open file or folder `source`, in pieces of about `PIECE_BYTES`.

    `path` is used for names in the archive and in messages. Raises `Refused` if something cannot be read, changes while
    it is read, or is neither a file nor a folder.
    """
    info = os.fstat(source)
    if stat.S_ISREG(info.st_mode):
        pieces = _file(source, info, os.fsdecode(path))
    elif stat.S_ISDIR(info.st_mode):
        pieces = _tar(source, os.fsdecode(path))
    else:
        raise Refused(Code.NOT_SUPPORTED, f"expected a file or a folder, but {shown(path)} is neither")
    return _gathered(pieces)


def _file(source: int, info: os.stat_result, path: str) -> Iterator[Piece]:
    yield from _contents(source, info, path)
    yield Piece(b"", files=1)


def _tar(source: int, path: str) -> Iterator[Piece]:
    size = 0
    for piece in _members(source, path):
        size += len(piece.data)
        yield piece
    end = 2 * _BLOCK_BYTES
    yield Piece(bytes(end + -(size + end) % _RECORD_BYTES))


def _members(source: int, path: str) -> Iterator[Piece]:
    above, _, name = path.rpartition("/")
    yield Piece(_header(name or ".", os.fstat(source), tarfile.DIRTYPE))
    for entry in _walk(source, path):
        yield from _member(entry, entry.path[len(above) + 1 :])


def _member(entry: _Entry, name: str) -> Iterator[Piece]:
    mode = entry.info.st_mode
    if stat.S_ISDIR(mode):
        yield Piece(_header(name, entry.info, tarfile.DIRTYPE))
    elif stat.S_ISLNK(mode):
        yield Piece(_header(name, entry.info, tarfile.SYMTYPE, target=_reading(os.readlink, entry)))
    elif stat.S_ISREG(mode):
        yield from _file_member(entry, name)
    else:
        yield Piece(b"", skipped=1)


def _file_member(entry: _Entry, name: str) -> Iterator[Piece]:
    source = _reading(partial(os.open, flags=OPEN_SOURCE), entry)
    try:
        info = os.fstat(source)
        if not stat.S_ISREG(info.st_mode):
            raise Refused(Code.SOURCE_CHANGED, f"{shown(entry.path)} was replaced while its folder was read")
        yield Piece(_header(name, info, tarfile.REGTYPE, size=info.st_size))
        yield from _contents(source, info, entry.path)
        yield Piece(bytes(-info.st_size % _BLOCK_BYTES), files=1)
    finally:
        os.close(source)


def _header(name: str, info: os.stat_result, kind: bytes, *, size: int = 0, target: str = "") -> bytes:
    """Return a tar header. In GNU format, unlike pax, names may be any bytes, as they are on disk."""
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, size, target
    member.mode, member.mtime = stat.S_IMODE(info.st_mode), int(info.st_mtime)
    member.uid, member.gid = info.st_uid, info.st_gid
    return member.tobuf(tarfile.GNU_FORMAT, _ENCODING, "surrogateescape")


def _contents(source: int, info: os.stat_result, path: str) -> Iterator[Piece]:
    """Yield as many bytes as the file had when `info` was read. Raises `Refused` if the file has changed since."""
    left = info.st_size
    while left:
        try:
            data = os.read(source, min(PIECE_BYTES, left))
        except OSError as error:
            raise of_reading(error, path) from error
        if not data:
            raise _changed(path, info.st_size, f"it ended after {info.st_size - left}")
        left -= len(data)
        yield Piece(data, contents=len(data))
    now = os.fstat(source)
    if now.st_size != info.st_size:
        raise _changed(path, info.st_size, f"it has {now.st_size} now")
    if now.st_mtime_ns != info.st_mtime_ns:
        raise _changed(path, info.st_size, "others were written over them")
    if not info.st_size and os.read(source, 1):
        raise _changed(path, 0, "it has more than it says")  # such as files in /proc


def _changed(path: str, size: int, what: str) -> Refused:
    return Refused(
        Code.SOURCE_CHANGED, f"{shown(path)} changed while it was read: expected its {size} bytes, but {what}"
    )


def _walk(top: int, path: str) -> Iterator[_Entry]:
    """Yield everything below the open folder `top`, sorted by name, each folder before its content."""
    levels = [_listed(os.dup(top), path)]
    try:
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
                continue
            yield entry
            if stat.S_ISDIR(entry.info.st_mode):
                folder = _reading(partial(os.open, flags=OPEN_SOURCE | os.O_DIRECTORY), entry)
                levels.append(_listed(folder, entry.path))
    finally:
        for level in levels:
            level.close()


def _listed(folder: int, path: str) -> Generator[_Entry, None, None]:
    """Yield the entries of the open `folder`, and close it at the end."""
    try:
        try:
            names = sorted(name for name in os.listdir(folder) if not _UNFINISHED.fullmatch(name))
        except OSError as error:
            raise of_reading(error, path) from error
        for name in names:
            inner = f"{path}/{name}" if path != "/" else f"/{name}"
            try:
                info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError as error:
                raise of_reading(error, inner) from error
            yield _Entry(name, folder, inner, info)
    finally:
        os.close(folder)


def _reading(read: Callable[..., T], entry: _Entry) -> T:
    """Return the result of `read` for an entry of a folder. Raises `Refused` instead of `OSError`."""
    try:
        return read(entry.name, dir_fd=entry.folder)
    except OSError as error:
        raise of_reading(error, entry.path) from error


def _gathered(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Combine small pieces, for example of many small files: the work per piece would cost more than the bytes."""
    waiting: list[Piece] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece.data)
        if size >= PIECE_BYTES:
            yield _joined(waiting)
            waiting, size = [], 0
    yield _joined(waiting)


def _joined(pieces: list[Piece]) -> Piece:
    return Piece(
        b"".join(piece.data for piece in pieces),
        contents=sum(piece.contents for piece in pieces),
        files=sum(piece.files for piece in pieces),
        skipped=sum(piece.skipped for piece in pieces),
    )
