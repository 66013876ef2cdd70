"""The few assertions that the contracts would otherwise need a test framework for."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 20.0
"""How long to wait for a condition: generous, so that a test does not fail because the machine is busy."""

CHECK_EVERY_S = 0.005


@contextmanager
def raises(expected: type[BaseException]) -> Iterator[None]:
    """Raise `AssertionError` unless the block raises `expected`. Any other exception is passed on."""
    try:
        yield
    except expected:
        return
    raise AssertionError(f"expected {expected.__name__}, got no exception")


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds. Raises `TimeoutError` if it does not within `PATIENCE_S`."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(CHECK_EVERY_S)
