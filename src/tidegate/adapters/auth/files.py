"""Small files that hold a token, a secret or a key, read again while the gateway runs."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from tidegate.errors import ConfigError, Problem

REREAD_S = 5.0
"""How long a changed file may go unnoticed."""

FILE_BYTES = 65_536

T = TypeVar("T")

log = structlog.get_logger("tidegate.auth")


def read(path: Path, *, setting: str, expected: str) -> bytes:
    """What `path` holds, without white space around it. Raises `ConfigError` naming `setting`."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES + 1).strip()
    except OSError as error:
        raise ConfigError([Problem(setting, expected, f"{path} ({error.strerror})")]) from error
    if not content or len(content) > FILE_BYTES:
        got = f"more than {FILE_BYTES} bytes" if content else "nothing"
        raise ConfigError([Problem(setting, expected, f"{path} with {got}")])
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
