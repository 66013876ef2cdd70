"""The contract of `tidegate.ports.Store`, and of `KeepsPublished`."""

import unittest
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

from msgspec import Raw

from tidegate.ports import KeepsPublished, PublishedValue, SavedValue, Store

STATUS = SavedValue("system.status", "", b'{"n":1.10}', 1_795_000_000.25)
AGENT = SavedValue("agent.status", "a-1", '{"id":"ä\\n"}'.encode(), 1_795_000_001.5)

DOOR = PublishedValue("lab.door", "", Raw(b'{"open":1.10}'), 1_795_000_002.25)
JOB = PublishedValue("lab.job", "j-1", Raw('"ä"'.encode()), 1_795_000_003.5, ttl_s=60.0, ends_at=1_795_000_063.5)


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

    async def test_what_was_published_is_there_after_a_restart_and_a_run_that_saves_nothing(self) -> None:
        async with self.opened() as store:
            published = _keeping_published(store)
            assert list(await published.load_published()) == []
            published.save_published([DOOR, JOB])
        async with self.opened() as store:
            _keeping_published(store).save_published([])
        async with self.opened() as store:
            assert sorted(await _keeping_published(store).load_published(), key=_name) == [DOOR, JOB]

    async def test_the_newest_published_value_counts_and_what_is_gone_is_forgotten(self) -> None:
        other = PublishedValue(JOB.type, "j-2", Raw(b"2"), 0.0)
        newer = PublishedValue(JOB.type, JOB.key, Raw(b"3"), JOB.timestamp + 1)
        async with self.opened() as store:
            published = _keeping_published(store)
            published.save_published([JOB, other, DOOR])
            published.save_published([newer], gone=[(DOOR.type, DOOR.key), ("never", "there")])
        async with self.opened() as store:
            published = _keeping_published(store)
            assert sorted(await published.load_published(), key=_name) == [newer, other]
            published.save_published([DOOR], gone=[(other.type, other.key)])
        async with self.opened() as store:
            assert sorted(await _keeping_published(store).load_published(), key=_name) == [DOOR, newer]

    async def test_published_and_last_good_values_of_one_name_are_apart(self) -> None:
        namesake = PublishedValue(AGENT.type, AGENT.key, Raw(b"1"), 0.0)
        async with self.opened() as store:
            store.save([AGENT, STATUS])
            _keeping_published(store).save_published([namesake, DOOR])
        async with self.opened() as store:
            assert sorted(await store.load(), key=_name) == [AGENT, STATUS]
            assert sorted(await _keeping_published(store).load_published(), key=_name) == [namesake, DOOR]
            store.save([], gone=[(AGENT.type, AGENT.key)])
            _keeping_published(store).save_published([], gone=[(DOOR.type, DOOR.key)])
        async with self.opened() as store:
            assert list(await store.load()) == [STATUS]
            assert list(await _keeping_published(store).load_published()) == [namesake]


def _keeping_published(store: Store) -> KeepsPublished:
    if not isinstance(store, KeepsPublished):
        raise unittest.SkipTest("the store does not keep published values")
    return store


def _name(value: SavedValue | PublishedValue) -> tuple[str, str]:
    return value.type, value.key
