"""Reads one answer in the format that its source says, a little in each turn of the event loop.

Each format is a module with one generator. It yields now and then, and returns the JSON.
"""

import asyncio
from collections.abc import Generator

import msgspec

from tidegate.outbound.backends.formats import prometheus, table, text
from tidegate.outbound.backends.formats.written import Written
from tidegate.ports import AsCsv, AsPrometheus, AsText

__all__ = ["Written", "read"]


async def read(written: Written, reading: AsPrometheus | AsCsv | AsText) -> msgspec.Raw:
    """Return what is `written`, as JSON. Raises `InvalidResponse` and `MappingFailed`. Cancelling leaves nothing."""
    steps = _steps(written, reading)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: msgspec.Raw = end.value
            return result
        await asyncio.sleep(0)


def _steps(written: Written, reading: AsPrometheus | AsCsv | AsText) -> Generator[None, None, msgspec.Raw]:
    match reading:
        case AsPrometheus(match=match):
            return prometheus.samples(written, match)
        case AsCsv(delimiter=delimiter):
            return table.rows(written, delimiter)
        case AsText(pattern=pattern):
            return text.groups(written, pattern)
