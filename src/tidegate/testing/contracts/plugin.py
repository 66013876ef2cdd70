"""The contract of `tidegate.backends.BackendPlugin`, and of the backends that it opens."""

import asyncio
import os
import unittest
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, ClassVar

import msgspec

from tidegate.backends import BackendPlugin, installed
from tidegate.backends.options import as_table, converted
from tidegate.ports import Backend, Call
from tidegate.testing.contracts.backend import IN_FLIGHT_S, BackendContract
from tidegate.testing.contracts.expectations import raises, until
from tidegate.testing.plugin import opened_plugin

CANCELLED = 5
"""How many calls are cancelled one after the other, to see what they leave behind."""


class PluginContract(BackendContract):
    """Tests for a plug-in, and a service for the backends that it opens.

    `plugin` is what the entry point names. `secrets` has the texts of what the options name in braces. The other
    attributes are those of `BackendContract`, all of whose tests are made too. Needs Linux, to count sockets.
    """

    plugin: ClassVar[BackendPlugin | type[BackendPlugin]]
    secrets: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def served(self) -> AbstractAsyncContextManager[Mapping[str, Any]]:
        """Start the service, and give the options under which it is reached. End it when the context ends."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Backend]:
        async with self.served() as options, opened_plugin(self.plugin, options, secrets=self.secrets) as backend:
            yield backend

    async def test_options_can_be_written_down_and_read_again(self) -> None:
        found = installed.of(self.plugin, name="plugin")
        async with self.served() as given:
            options = converted(found.options, dict(given), secrets=self.secrets)
        table = as_table(options)
        assert as_table(converted(found.options, table, secrets=self.secrets)) == table

    async def test_an_option_that_nobody_knows_is_refused(self) -> None:
        found = installed.of(self.plugin, name="plugin")
        async with self.served() as given:
            options = {**given, "no-such-option": 1}
            with raises(msgspec.ValidationError):
                converted(found.options, options, secrets=self.secrets)

    async def test_a_backend_connects_nothing_before_it_is_called(self) -> None:
        async with self.served() as options:
            before, tasks = _sockets(), asyncio.all_tasks()
            async with opened_plugin(self.plugin, options, secrets=self.secrets):
                await asyncio.sleep(0)
                assert (_sockets(), asyncio.all_tasks()) == (before, tasks)

    async def test_a_backend_that_is_closed_leaves_neither_sockets_nor_tasks(self) -> None:
        answered = next(iter(self.answers))
        async with self.served() as options:
            before, tasks = _sockets(), asyncio.all_tasks()
            async with opened_plugin(self.plugin, options, secrets=self.secrets) as backend:
                await backend.call([Call(answered)])
            await until(lambda: _sockets() <= before and asyncio.all_tasks() <= tasks)

    async def test_calls_that_are_cancelled_leave_no_socket_each(self) -> None:
        if self.hangs is None:
            raise unittest.SkipTest("no method of this service is never answered")
        async with self.served() as options, opened_plugin(self.plugin, options, secrets=self.secrets) as backend:
            after_one = 0
            for number in range(CANCELLED):
                with suppress(TimeoutError):
                    async with asyncio.timeout(IN_FLIGHT_S):
                        await backend.call([Call(self.hangs)])
                if number == 0:
                    await asyncio.sleep(IN_FLIGHT_S)
                    after_one = _sockets()
            await until(lambda: _sockets() <= after_one)


def _sockets() -> int:
    """Return how many sockets this process has open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - only the names, and they are gone soon
        with suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")  # noqa: PTH115 - no file to a socket
    return count
