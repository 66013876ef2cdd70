"""The arithmetic of the bounds, with the figures of the default settings."""

import pytest

from tidegate.verify.bounds import CallLatency, Outage, Rules, busiest_calls, catching_up_s, first_fresh_s

DEFAULTS = Rules(open_max_s=15.0, timeout_s=2.0)
REFUSED, UNANSWERED, SICK = Outage.REFUSED, Outage.UNANSWERED, Outage.SICK


@pytest.mark.parametrize(
    ("outage", "open_for_s", "opening", "bound_s"),
    [
        (REFUSED, 50, 1, 1.3),
        (REFUSED, 60, 1, 1.3),
        (REFUSED, 61, 1, 6.1),
        (REFUSED, 600, 1, 6.1),
        (UNANSWERED, 50, 1, 3.3),
        (UNANSWERED, 61, 1, 8.1),
        (SICK, 50, 1, 17.1),
        (SICK, 600, 1, 17.1),
        # a backend that comes and goes: when the episode began is not known, and knocks wait since the opening
        (REFUSED, 20, 4, 6.1),
        (REFUSED, 1, 4, 9.1),
        (REFUSED, 1, 9, 20.1),
        (UNANSWERED, 0, 2, 9.1),
        (SICK, 1, 9, 17.1),
    ],
)
def test_first_fresh(outage: Outage, open_for_s: float, opening: int, bound_s: float) -> None:
    found_s = first_fresh_s(outage, DEFAULTS, latency=CallLatency(0.1, 0.01), opening=opening, open_for_s=open_for_s)
    assert found_s == pytest.approx(bound_s)


@pytest.mark.parametrize(("outage", "bound_s"), [(REFUSED, 1.5), (UNANSWERED, 6.5), (SICK, 305.3)])
def test_it_follows_the_settings(outage: Outage, bound_s: float) -> None:
    rules = Rules(open_max_s=300.0, timeout_s=5.0, half_open_successes=3)
    assert first_fresh_s(outage, rules, latency=CallLatency(0.1)) == pytest.approx(bound_s)


@pytest.mark.parametrize(
    ("sources", "intervals_s", "latency", "bound_s"),
    [
        (0, [1.0], CallLatency(0.1), 0.0),
        (1, [1.0], CallLatency(), 0.05),
        (20, [1.0] * 20, CallLatency(), 1.0),  # they may be one batch: then the normal rate is 1, and the cap 20
        (5000, [60.0] * 5000, CallLatency(0.01, 0.005), 250.0 + 0.01 * 13.2877),
        (60, [0.1, 0.2] * 30, CallLatency(), 1.0),  # 15 calls a second, so the cap is 60
        (8, [5.0] * 8, CallLatency(0.5, 0.4), 8 * 0.4 + 0.5 * 4),  # one connection
    ],
)
def test_catching_up(sources: int, intervals_s: list[float], latency: CallLatency, bound_s: float) -> None:
    assert catching_up_s(sources, intervals_s, latency=latency) == pytest.approx(bound_s, rel=1e-4)


@pytest.mark.parametrize(
    ("stale_s", "others_s", "successes", "most"),
    [
        ([60.0] * 5, [], 1, 21),
        ([60.0] * 5, [60.0] * 7, 1, 28),  # those that were fresh all the time have their ticks
        ([1.0] * 20, [], 1, 80 + 40 + 1),
        ([2.0] * 5, [], 3, 23),
        ([0.3] * 3, [], 1, 40 + 12 + 1),
    ],
)
def test_the_busiest_second(stale_s: list[float], others_s: list[float], successes: int, most: int) -> None:
    assert busiest_calls(stale_s, others_s, half_open_successes=successes) == most
