"""What the contracts need of a test framework, so that they need none."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 20.0
"""How long something may take that must happen: a busy machine is no failure."""

LOOK_AGAIN_S = 0.005


@contextmanager
def raises(expected: type[BaseException]) -> Iterator[None]:
    """Fail with `AssertionError` unless the block raises `expected`. Any other exception goes on."""
    try:
        yield
    except expected:
        return
    raise AssertionError(f"expected {expected.__name__}, got no exception")


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds. Raises `TimeoutError` if it does not within `PATIENCE_S`."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(LOOK_AGAIN_S)
