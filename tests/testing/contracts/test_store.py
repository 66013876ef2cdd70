from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tidegate.outbound.store_sqlite import SqliteStore
from tidegate.ports import Store
from tidegate.testing import MemoryStore
from tidegate.testing.contracts import StoreContract


class TestSqliteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _in_a_directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        store = await SqliteStore.open(self.directory)
        try:
            yield store
        finally:
            await store.aclose()


class TestMemoryStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _in_memory(self) -> None:
        self.store = MemoryStore()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        yield self.store
        await self.store.aclose()
