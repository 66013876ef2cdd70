import pytest

from tidegate.client import Backoff

BACKOFF = Backoff(first_s=1.0, max_s=30.0)


@pytest.mark.parametrize(("failures", "limit_s"), [(1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (10_000, 30.0)])
def test_the_wait_doubles_up_to_its_maximum(failures: int, limit_s: float) -> None:
    assert BACKOFF.delay_s(failures, jitter=0.0) == 0.0
    assert BACKOFF.delay_s(failures, jitter=0.5) == limit_s / 2


def test_what_the_server_asks_for_is_the_least() -> None:
    assert BACKOFF.delay_s(1, jitter=0.25, at_least_s=40.0) == 40.25
