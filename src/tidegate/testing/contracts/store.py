"""The contract of `tidegate.ports.Store`."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

from tidegate.ports import SavedValue, Store

STATUS = SavedValue("system.status", "", b'{"n":1.10}', 1_795_000_000.25)
AGENT = SavedValue("agent.status", "a-1", '{"id":"ä\\n"}'.encode(), 1_795_000_001.5)


class StoreContract(ABC):
    """Tests for a store. Within one test, `opened` must open the same store each time; it is empty at first."""

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[Store]:
        """Open the store of this test, and close it when the context ends."""

    async def test_a_new_store_is_empty(self) -> None:
        async with self.opened() as store:
            assert list(await store.load()) == []

    async def test_what_was_saved_is_there_after_a_restart(self) -> None:
        async with self.opened() as store:
            assert list(await store.load()) == []
            store.save([STATUS, AGENT])
        async with self.opened() as store:
            assert sorted(await store.load(), key=_name) == [AGENT, STATUS]

    async def test_what_was_saved_stays_through_a_run_that_saves_nothing(self) -> None:
        async with self.opened() as store:
            store.save([STATUS])
        async with self.opened() as store:
            store.save([])
        async with self.opened() as store:
            assert list(await store.load()) == [STATUS]

    async def test_the_newest_value_of_a_key_counts_and_what_is_gone_is_forgotten(self) -> None:
        newer = SavedValue(STATUS.type, STATUS.key, b"2", STATUS.as_of + 1)
        async with self.opened() as store:
            store.save([STATUS, AGENT])
            store.save([newer], gone=[(AGENT.type, AGENT.key), ("never", "there")])
        async with self.opened() as store:
            assert list(await store.load()) == [newer]

    async def test_a_value_that_comes_back_after_it_was_gone_is_there(self) -> None:
        async with self.opened() as store:
            store.save([STATUS])
            store.save([], gone=[(STATUS.type, STATUS.key)])
            store.save([STATUS])
        async with self.opened() as store:
            assert list(await store.load()) == [STATUS]

    async def test_a_key_is_not_its_type_alone(self) -> None:
        other = SavedValue(AGENT.type, "a-2", b"{}", 0.0)
        async with self.opened() as store:
            store.save([AGENT, other])
            store.save([], gone=[(AGENT.type, AGENT.key)])
        async with self.opened() as store:
            assert list(await store.load()) == [other]


def _name(value: SavedValue) -> tuple[str, str]:
    return value.type, value.key
