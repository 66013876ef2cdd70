"""Reads small files with a token, a secret or a key, and rereads them while the gateway runs."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from tidegate import files
from tidegate.core.log_events import LimitedEvent
from tidegate.errors import ConfigError, Problem
from tidegate.runtime.limited_log import LoggedFault, Observe

REREAD_S = 5.0
"""How often files are reread: a changed file is noticed within this time."""

FILE_BYTES = 65_536
"""The largest file that is read. Tokens and keys are much smaller; this limits the damage of a wrong path."""

T = TypeVar("T")

log = structlog.get_logger("tidegate.auth")


def read(path: Path, *, setting: str, expected: str) -> bytes:
    """Return the content of `path` without surrounding white space. Raises `ConfigError`, which names `setting`."""
    try:
        content = files.read(path, limit=FILE_BYTES).strip()
    except OSError as error:
        raise ConfigError([Problem(setting, expected, f"{path} ({error.strerror})")]) from error
    if not content:
        raise ConfigError([Problem(setting, expected, f"{path} with nothing")])
    return content


async def keep_reading(read: Callable[[], T], keep: Callable[[T], None], *, observe: Observe) -> None:
    """Every `REREAD_S` seconds, call `read` in a thread and `keep` with its result, until cancelled.

    If either raises `ConfigError`, the earlier content stays in use, so that a mistake, or a file that is just being
    replaced, does not lock out all clients. The error is logged as any `LoggedFault`.
    """
    failing = LoggedFault(
        "tidegate.auth",
        LimitedEvent.FILE_NOT_RELOADED,
        over="the content is used again",
        now=time.monotonic,
        observe=observe,
    )
    while True:
        await asyncio.sleep(REREAD_S)
        try:
            keep(await asyncio.to_thread(read))
            failing.fine()
        except ConfigError as error:
            failing.occurred(problem=str(error))
