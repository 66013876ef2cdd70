import random
from contextlib import suppress

import pytest
from fanout import draft

from tidegate.core.delivery.retained import Retained
from tidegate.core.delivery.retained_quota import EMPTY_TYPES, RetainedQuota
from tidegate.core.events import Draft, Event
from tidegate.core.instant import Instant
from tidegate.errors import PublishError


class Held:
    """Retained values as the gateway keeps them."""

    def __init__(self, *, max_keys: int = 10, max_bytes: int = 100) -> None:
        self.retained = Retained(["polled"])
        self.quota = RetainedQuota(self.retained, ours=["polled"], max_keys=max_keys, max_bytes=max_bytes)

    def publish(self, *drafts: Draft) -> None:
        self.quota.check(drafts)
        for each in drafts:
            if each.retain or each.gone:
                self.quota.note(each)
                self.retained.apply(Event(each, 1, 0.0, b"{}"), Instant(0.0, 0.0))
                self.quota.forget_empty_types(each)

    @property
    def counts(self) -> tuple[int, int]:
        return self.quota.keys, self.quota.bytes


def value(name: str, size: int, key: str | None = None, *, retain: bool = True) -> Draft:
    """A draft with `size` bytes of data."""
    return draft(name, "x" * (size - 2), key=key, retain=retain)


def gone(name: str, key: str | None = None) -> Draft:
    return draft(name, key=key, retain=True, gone=True)


def refused(held: Held, *drafts: Draft) -> str:
    with pytest.raises(PublishError) as caught:
        held.publish(*drafts)
    assert caught.value.status == 507
    return str(caught.value)


def test_one_value_more_than_there_may_be_is_refused_and_named() -> None:
    held = Held(max_keys=2)
    held.publish(value("a", 4, "1"), value("a", 4, "2"))
    assert "limits.retained_keys" in refused(held, value("b", 4))
    held.publish(value("b", 4, retain=False))
    held.publish(value("a", 5, "2"))
    held.publish(gone("a", "1"))
    held.publish(value("b", 4))
    assert held.counts == (2, 9)


def test_replacing_counts_its_difference() -> None:
    held = Held(max_bytes=100)
    held.publish(value("a", 90))
    held.publish(value("a", 100))
    assert "limits.retained_bytes" in refused(held, value("a", 101))
    assert "limits.retained_bytes" in refused(held, value("b", 3))
    held.publish(value("a", 50))
    held.publish(value("b", 50))
    assert held.counts == (2, 100)


def test_an_array_is_judged_by_what_is_kept_after_all_of_it() -> None:
    held = Held(max_keys=2, max_bytes=100)
    held.publish(value("a", 90), value("a", 80), value("a", 10), value("b", 90))
    assert held.counts == (2, 100)
    held.publish(value("a", 20), value("b", 20))
    refused(held, value("a", 10), value("c", 10))
    assert held.counts == (2, 40)


def test_what_is_polled_does_not_count() -> None:
    held = Held(max_keys=1, max_bytes=10)
    for n in range(5):
        held.quota.note(value("polled", 50, str(n)))
    assert held.counts == (0, 0)
    held.publish(value("a", 10))


def test_types_without_a_value_stay_known_up_to_a_number() -> None:
    held = Held()
    for n in range(EMPTY_TYPES + 5):
        held.publish(value(f"t{n}", 4))
        held.publish(gone(f"t{n}"))
    assert [f"t{n}" in held.retained for n in (0, 4, 5, EMPTY_TYPES + 4)] == [False, False, True, True]
    held.publish(gone("never"))
    assert "polled" in held.retained
    assert held.counts == (0, 0)


def test_a_type_that_has_a_value_again_is_not_forgotten() -> None:
    held = Held()
    held.publish(value("a", 4))
    held.publish(gone("a"))
    held.publish(value("a", 4))
    for n in range(EMPTY_TYPES + 5):
        held.publish(gone(f"t{n}"))
    assert "a" in held.retained


def test_the_counts_are_those_of_what_is_retained() -> None:
    rng = random.Random(4)
    held = Held(max_keys=8, max_bytes=200)
    for _ in range(3000):
        name, key = rng.choice("abc"), rng.choice([None, "1", "2", "3"])
        with suppress(PublishError):
            held.publish(gone(name, key) if rng.random() < 0.3 else value(name, rng.randrange(2, 60), key))
        kept = list(held.retained.events())
        assert held.counts == (len(kept), sum(len(each.draft.data) for each in kept))
        assert held.quota.keys <= 8
        assert held.quota.bytes <= 200
