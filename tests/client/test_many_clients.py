"""Ten thousand clients whose gateway crashed: how many attempts a second that is, and when all of them are back.

Simulated with the client's own back-off and the gateway's own limits. docs/design/reconnecting.md has the figures.
"""

import heapq
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tidegate.backoff import Backoff
from tidegate.client import StreamOptions
from tidegate.config import from_document
from tidegate.core.rate import NOTHING_OWED, Rate
from tidegate.runtime.clients import RETRY_SPREAD_S

CLIENTS = 10_000
LIMITS = from_document({}, environ={}).limits
CONNECTS = Rate(LIMITS.connects_per_s, LIMITS.connects_burst)


def attempts(
    backoff: Backoff, *, down_s: float, connections: int = 1, seed: int = 1
) -> Iterator[tuple[float, bool | None]]:
    """Each attempt in order: when, and whether the gateway admitted it; None while it is down.

    All connections are lost at time 0. The gateway admits `CONNECTS`, and refuses the others with a Retry-After of 1 to
    5 s in turn. Each client needs so many `connections`, one after the other: two if it names no types, since the
    gateway's defaults may have changed.
    """
    rng = random.Random(seed)
    due = [(backoff.delay_s(1, jitter=rng.random()), 1, connections) for _ in range(CLIENTS)]
    heapq.heapify(due)
    owed_until, turned_away = NOTHING_OWED, 0
    while due:
        at, failures, needed = heapq.heappop(due)
        at_least_s = 0.0
        if at < down_s:
            yield at, None
        elif CONNECTS.is_over(CONNECTS.charged(owed_until, at), at):
            turned_away += 1
            at_least_s = 1 + turned_away % RETRY_SPREAD_S
            yield at, False
        else:
            owed_until = CONNECTS.charged(owed_until, at)
            yield at, True
            if needed > 1:
                heapq.heappush(due, (at, failures, needed - 1))
            continue
        delay_s = backoff.delay_s(failures + 1, jitter=rng.random(), at_least_s=at_least_s)
        heapq.heappush(due, (at + delay_s, failures + 1, needed))


def test_a_gateway_that_stays_down_gets_1700_attempts_a_second() -> None:
    seconds = Counter(int(at) for at, _ in attempts(StreamOptions().backoff, down_s=300.0) if 60.0 <= at < 300.0)
    assert sum(seconds.values()) / len(seconds) == pytest.approx(CLIENTS / 6, rel=0.01)
    assert max(seconds.values()) < 1800


@pytest.mark.parametrize(
    ("down_s", "busiest", "back_s"),
    [(0.5, 10_000, 9), (1.0, 7600, 12), (2.0, 7600, 12), (5.0, 5000, 8), (20.0, 2000, 8), (60.0, 1800, 8)],
)
def test_all_of_them_are_back_soon_and_not_at_once(down_s: float, busiest: int, back_s: float) -> None:
    up = [(at - down_s, admitted) for at, admitted in attempts(StreamOptions().backoff, down_s=down_s) if at >= down_s]
    assert max(Counter(int(at) for at, _ in up).values()) <= busiest
    assert max(at for at, admitted in up if admitted) <= back_s
    assert sum(bool(admitted) for _, admitted in up) == CLIENTS


@pytest.mark.parametrize(("down_s", "back_s"), [(0.5, 26), (2.0, 23), (60.0, 20)])
def test_those_that_connect_twice_are_back_a_few_seconds_after_the_gateway_could_admit_them(
    down_s: float, back_s: float
) -> None:
    every = attempts(StreamOptions().backoff, down_s=down_s, connections=2)
    admitted_at = [at - down_s for at, admitted in every if admitted]
    assert len(admitted_at) == 2 * CLIENTS
    assert (2 * CLIENTS - CONNECTS.burst) / CONNECTS.per_s <= max(admitted_at) <= back_s
