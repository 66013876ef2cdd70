"""A directory that every user of this machine may enter, which pytest's own are not."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """A new one, while the context is open. Skips the test where the system's temporary directory is closed."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name).resolve()
        if not all(parent.stat().st_mode & 0o001 for parent in directory.parents):
            pytest.skip("other users cannot reach the temporary directory")
        directory.chmod(0o755)
        yield directory
