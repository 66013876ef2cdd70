"""When the page tries a lost gateway again: its rule, run under Node. Times are in milliseconds."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tidegate.backoff import Backoff

SCRIPT = Path(__file__).parents[1] / "support/run-reconnect.mjs"
ALMOST_1 = 1 - 2**-53

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("node") is None, reason="no Node: see tools/install-check-tools"),
]


def due(*calls: tuple[Any, ...]) -> list[float | None]:
    """Return when the next attempt is due after each call; None while none is."""
    run = subprocess.run(["node", SCRIPT, json.dumps(calls)], check=True, capture_output=True, timeout=30)
    result: list[float | None] = json.loads(run.stdout)
    return result


def failing(n: int, *, random: float, at: float = 0.0) -> list[tuple[Any, ...]]:
    """`n` attempts that fail at once."""
    return [("tries", at), ("lost", at, random)] * n


@pytest.mark.parametrize("random", [0.0, 0.5, ALMOST_1])
def test_the_page_waits_as_the_python_client_does(random: float) -> None:
    waits_ms = due(*failing(7, random=random))[1::2]
    assert waits_ms == pytest.approx([1000 * Backoff().delay_s(n, jitter=random) for n in range(1, 8)])


@pytest.mark.parametrize(("lived_ms", "wait_ms"), [(4_999, 8_000), (5_000, 1_000)])
def test_a_connection_that_lived_makes_the_wait_short_again(lived_ms: float, wait_ms: float) -> None:
    ended = 100 + lived_ms
    calls = [*failing(5, random=1.0), ("tries", 90), ("welcomed", 100), ("lost", ended, 1.0)]
    assert due(*calls)[-1] == ended + wait_ms


def test_while_connected_nothing_is_due_whatever_the_browser_tells() -> None:
    calls = [("tries", 0), ("welcomed", 10), ("hears", "shown", 60_000, 0.0), ("hears", "online", 60_000, 0.0)]
    assert due(*calls) == [None] * 4


@pytest.mark.parametrize(("told", "random", "at"), [("shown", 0.9, 100), ("online", 0.0, 100), ("online", 0.9, 1900)])
def test_a_shown_tab_tries_at_once_and_a_network_that_returns_within_2_s(told: str, random: float, at: float) -> None:
    assert due(*failing(5, random=1.0), ("hears", told, 100, random))[-1] == at


def test_an_attempt_that_is_due_before_stays() -> None:
    assert due(*failing(1, random=0.0), ("hears", "online", 100, 0.9))[-1] == 500


def test_each_of_them_counts_at_most_once_in_5_s() -> None:
    fail = failing(1, random=1.0, at=100)
    again = failing(1, random=1.0, at=2000)
    calls = [*failing(5, random=1.0), ("hears", "shown", 100, 0.0), *fail, ("hears", "shown", 5_099, 0.0)]
    assert due(*calls)[-1] == 8_100
    assert due(*calls, ("hears", "shown", 5_100, 0.0))[-1] == 5_100
    assert due(*calls, ("hears", "online", 2000, 0.0), *again)[-3::2] == [2000, 10_000]


def test_what_the_browser_tells_does_not_make_the_wait_short_again() -> None:
    calls = [*failing(5, random=1.0), ("hears", "shown", 100, 0.0), ("tries", 100), ("lost", 100, 0.0)]
    assert due(*calls)[-1] == 4_100


def test_nothing_is_tried_before_the_time_that_the_gateway_named() -> None:
    drained = [("tries", 0), ("welcomed", 0), ("notWithin", 30_000, 6_000), ("lost", 7_000, 0.0)]
    refused = [("tries", 0), ("lost", 0, 0.0), ("putOff", 36_000, 0, 0.0)]
    for calls in (drained, refused):
        assert due(*calls)[-1] == 36_500, "and then the back-off"
        for told in ("shown", "online"):
            assert due(*calls, ("hears", told, 8_000, 0.0))[-1] == 36_000


def test_an_attempt_that_was_found_stuck_and_is_refused_after_all_names_such_a_time_too() -> None:
    stuck = [("tries", 0), ("hears", "online", 3_000, 0.9)]
    assert due(*stuck, ("notWithin", 30_000, 3_500), ("lost", 3_500, 0.5))[-1] == 33_500


def test_a_time_that_has_passed_or_an_admission_ends_that() -> None:
    assert due(("notWithin", 100, 0), ("tries", 0), ("lost", 200, 0.0))[-1] == 700
    assert due(("notWithin", 30_000, 0), ("tries", 0), ("welcomed", 0), ("lost", 200, 0.0))[-1] == 700


def test_after_a_final_refusal_nothing_is_tried() -> None:
    calls = [("tries", 0), ("lost", 0, 0.0), ("stop",), ("hears", "shown", 9, 0.0), ("putOff", 1000, 0, 0.0)]
    assert due(*calls)[-3:] == [None] * 3
    assert due(("tries", 0), ("stop",), ("hears", "online", 60_000, 0.0))[-1] is None
    assert due(("tries", 0), ("stop",), *failing(1, random=0.0, at=5))[-1] == 505, "with another token it tries again"


def test_an_attempt_that_hangs_is_replaced_and_a_young_one_is_not() -> None:
    assert due(("tries", 0), ("hears", "shown", 1_999, 0.0))[-1] is None
    assert due(("tries", 0), ("hears", "online", 2_000, 0.5))[-1] == 3_000
    assert due(("tries", 0), ("hears", "online", 2_000, 0.5), ("lost", 2_500, 1.0))[-1] == 3_000
    assert due(("tries", 0), ("hears", "online", 2_000, 0.5), ("welcomed", 2_500))[-1] is None
