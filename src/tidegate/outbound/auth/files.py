"""Small files that hold a token, a secret or a key, read again while the gateway runs."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from tidegate import files
from tidegate.errors import ConfigError, Problem

REREAD_S = 5.0
"""How long a changed file may go unnoticed."""

FILE_BYTES = 65_536

T = TypeVar("T")

log = structlog.get_logger("tidegate.auth")


def read(path: Path, *, setting: str, expected: str) -> bytes:
    """What `path` holds, without white space around it. Raises `ConfigError` naming `setting`."""
    try:
        content = files.read(path, limit=FILE_BYTES).strip()
    except OSError as error:
        raise ConfigError([Problem(setting, expected, f"{path} ({error.strerror})")]) from error
    if not content:
        raise ConfigError([Problem(setting, expected, f"{path} with nothing")])
    return content


async def keep_reading(read: Callable[[], T], keep: Callable[[T], None]) -> None:
    """Hand what `read`, in a thread, finds to `keep` every `REREAD_S` seconds, until cancelled.

    Where either raises `ConfigError`, what was read before stays: a file that is just being replaced, or a mistake,
    locks nobody out.
    """
    known: str | None = None
    while True:
        await asyncio.sleep(REREAD_S)
        try:
            keep(await asyncio.to_thread(read))
            known = None
        except ConfigError as error:
            if str(error) != known:
                known = str(error)
                log.warning("what was read before stays", problem=known)
