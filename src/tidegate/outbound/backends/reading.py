"""Parses the body of a backend's answer as leniently as possible without guessing."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from tidegate.core.payload import HalfSurrogatePair, mend_surrogates, without_bom

_T = TypeVar("_T")


async def read_leniently(body: bytearray, read: Callable[[bytes | bytearray], _T]) -> _T:
    """Return `read(body)`, but ignore a byte order mark, and replace half surrogate pairs by U+FFFD.

    If `read` raises `HalfSurrogatePair`, `body` is repaired in place, yielding to the event loop between steps, and
    `read` is called again. Any other error of `read` is passed on.
    """
    try:
        return read(without_bom(body))
    except HalfSurrogatePair:
        pass
    for _ in mend_surrogates(body):
        await asyncio.sleep(0)
    return read(without_bom(body))
