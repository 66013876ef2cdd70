"""Decides which paths a job reads and writes, when it is submitted."""

import os
import stat
from pathlib import Path

from tidegate.engine.compression.refusals import Code, Refused, of_writing, shown
from tidegate.engine.compression.roots import Roots, path_from_text


def located(roots: Roots, path: str, destination: str | None) -> tuple[bytes, bytes]:
    """Return source and destination as resolved paths. Raises `Refused`. Changes nothing."""
    source = _resolved(roots, path)
    try:
        mode = source.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise Refused(Code.NOT_SUPPORTED, f"expected a file or a folder, but {shown(str(source))} is neither")
        name = source.name + (".tar.zst" if stat.S_ISDIR(mode) else ".zst")
        target = _target(roots, source, name, destination)
    except OSError as error:
        code = Code.NOT_FOUND if isinstance(error, FileNotFoundError) else Code.UNREADABLE
        raise Refused(code, f"{shown(str(source))}: {error.strerror}") from error
    return os.fsencode(source), os.fsencode(target)


def _target(roots: Roots, source: Path, name: str, destination: str | None) -> Path:
    target = _resolved(roots, os.fsencode(source.parent / name) if destination is None else destination)
    try:
        if destination is not None and target.is_dir():
            target = _resolved(roots, os.fsencode(target / name))
        if not target.parent.is_dir():
            raise Refused(Code.NOT_FOUND, f"expected an existing folder, got {shown(str(target.parent))}")
        target.lstat()
    except FileNotFoundError:
        return target
    except OSError as error:  # such as a name that is too long
        raise of_writing(error, str(target)) from error
    raise Refused(Code.DESTINATION_EXISTS, f"expected a new name, but {shown(str(target))} already exists")


def _resolved(roots: Roots, path: str | bytes) -> Path:
    return Path(os.fsdecode(roots.resolve(path_from_text(path) if isinstance(path, str) else path)))
