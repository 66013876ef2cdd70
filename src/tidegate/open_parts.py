"""The parts of a gateway that have to be closed again, and that a reload may replace while the gateway runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Self, TypeVar

import structlog

END_S = 10.0
"""How long the end of the program waits for parts that were replaced to be closed. Then it cancels that."""

T = TypeVar("T")

log = structlog.get_logger("tidegate.reload")


class OpenParts:
    """Context managers that have been entered, by name. It is a context manager itself, and leaves all at its end."""

    def __init__(self) -> None:
        self._stacks: dict[str, AsyncExitStack] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        del exc_info
        for stack in self._stacks.values():
            self._close_soon(stack)
        if self._closing:
            _, running = await asyncio.wait(self._closing, timeout=END_S)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def open(self, name: str, part: AbstractAsyncContextManager[T]) -> T:
        """Enter `part`, and return what it yields."""
        self._stacks[name] = stack = AsyncExitStack()
        return await stack.enter_async_context(part)

    @asynccontextmanager
    async def beside(self) -> AsyncIterator["OpenParts"]:
        """Yield others, for new parts beside those of the same names. They are left unless `take_over` got them."""
        new = OpenParts()
        try:
            yield new
        finally:
            await new.__aexit__()

    def take_over(
        self, new: "OpenParts", *, dropped: Iterable[str] = (), after: Mapping[str, Awaitable[object]] = {}
    ) -> None:
        """Keep the parts of `new` instead of those of the same names, and none of the names in `dropped`.

        What is replaced or dropped is left in the background: at once, or when what `after` has for its name is done.
        """
        fresh = new._handed_over()  # noqa: SLF001 - of the same class
        for name in [*fresh, *dropped]:
            old = self._stacks.pop(name, None)
            if old is not None:
                self._close_soon(old, after=after.get(name))
        self._stacks |= fresh

    def keep_beside(self, new: "OpenParts") -> None:
        """Keep the parts of `new` until the end, as well as those of the same names. Do that once at most."""
        self._stacks |= {f"new {name}": stack for name, stack in new._handed_over().items()}  # noqa: SLF001 - as above

    def _handed_over(self) -> dict[str, AsyncExitStack]:
        stacks, self._stacks = self._stacks, {}
        return stacks

    def _close_soon(self, stack: AsyncExitStack, after: Awaitable[object] | None = None) -> None:
        task = asyncio.get_running_loop().create_task(_close(stack, after))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close(stack: AsyncExitStack, after: Awaitable[object] | None) -> None:
    try:
        if after is not None:
            await asyncio.wait([asyncio.ensure_future(after)])
        await stack.aclose()
    except Exception:
        log.exception("a part that was replaced could not be closed")
