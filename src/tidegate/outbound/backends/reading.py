"""The body of a backend's answer, read as leniently as can be done without guessing."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from tidegate.core.payload import HalfSurrogatePair, mended, without_bom

_T = TypeVar("_T")


async def read_leniently(body: bytearray, read: Callable[[bytes | bytearray], _T]) -> _T:
    """`read(body)`, without a byte order mark in front of it, and with U+FFFD for each half of a surrogate pair.

    `read` is called again where it raised `HalfSurrogatePair`; `body` is changed then, in steps between which others
    have their turn. Raises what else `read` raises.
    """
    try:
        return read(without_bom(body))
    except HalfSurrogatePair:
        pass
    for _ in mended(body):
        await asyncio.sleep(0)
    return read(without_bom(body))
