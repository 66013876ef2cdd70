"""Each promise of a contract can be broken, and is then found: by these tests of it, and by no others."""

import inspect
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tidegate.ports import SavedValue, Store
from tidegate.testing import MemoryStore
from tidegate.testing.contracts import StoreContract


async def broken(contract: type[Any]) -> set[str]:
    """The names of the contract's tests that fail."""
    found = set()
    for name, _ in inspect.getmembers(contract, inspect.iscoroutinefunction):
        if name.startswith("test_"):
            try:
                await getattr(contract(), name)()
            except AssertionError:
                found.add(name.removeprefix("test_"))
    return found


class Forgetful(MemoryStore):
    async def aclose(self) -> None:
        self.values.clear()


class Immortal(MemoryStore):
    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        super().save(values)


class FirstCounts(MemoryStore):
    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        super().save([value for value in values if (value.type, value.key) not in self.values], gone=gone)


class WithoutKeys(MemoryStore):
    async def load(self) -> Sequence[SavedValue]:
        return list({value.type: value for value in await super().load()}.values())

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        types = {event_type for event_type, _ in gone}
        super().save(values, gone=[name for name in self.values if name[0] in types])


class Buried(MemoryStore):
    """What was gone once does not come back."""

    def __init__(self) -> None:
        super().__init__()
        self.graves: set[tuple[str, str]] = set()

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        self.graves |= set(gone)
        super().save(values, gone=self.graves)


class Wiping(MemoryStore):
    """Keeps what its last `save` was given, and no more."""

    def save(self, values: Iterable[SavedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
        self.values.clear()
        super().save(values, gone=gone)


class Haunted(MemoryStore):
    def __init__(self) -> None:
        super().__init__([SavedValue("a.ghost", "", b"1", 0.0)])


NEWEST = "the_newest_value_of_a_key_counts_and_what_is_gone_is_forgotten"
RESTART = "what_was_saved_is_there_after_a_restart"
RETURN = "a_value_that_comes_back_after_it_was_gone_is_there"
QUIET = "what_was_saved_stays_through_a_run_that_saves_nothing"
KEYS = "a_key_is_not_its_type_alone"
EMPTY = "a_new_store_is_empty"


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (MemoryStore, set()),
        (Forgetful, {RESTART, NEWEST, RETURN, QUIET, KEYS}),
        (Immortal, {NEWEST, KEYS}),
        (FirstCounts, {NEWEST}),
        (WithoutKeys, {KEYS}),
        (Buried, {RETURN}),
        (Wiping, {QUIET, KEYS}),
        (Haunted, {RESTART, NEWEST, RETURN, QUIET, KEYS, EMPTY}),
    ],
)
async def test_stores(make: type[MemoryStore], found: set[str]) -> None:
    class Contract(StoreContract):
        def __init__(self) -> None:
            self.store = make()

        @asynccontextmanager
        async def opened(self) -> AsyncIterator[Store]:
            yield self.store
            await self.store.aclose()

    assert await broken(Contract) == found
