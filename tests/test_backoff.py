import pytest

from tidegate.backoff import Backoff

BACKOFF = Backoff(first_s=1.0, max_s=30.0, least=0.0)


@pytest.mark.parametrize(("failures", "limit_s"), [(1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (10_000, 30.0)])
def test_the_wait_doubles_up_to_its_maximum(failures: int, limit_s: float) -> None:
    assert BACKOFF.delay_s(failures, jitter=0.0) == 0.0
    assert BACKOFF.delay_s(failures, jitter=0.5) == limit_s / 2


def test_what_the_server_asks_for_is_the_least() -> None:
    assert BACKOFF.delay_s(1, jitter=0.25, at_least_s=40.0) == 40.25


@pytest.mark.parametrize(("jitter", "delay_s"), [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)])
def test_the_jitter_is_spread_between_the_least_and_the_most(jitter: float, delay_s: float) -> None:
    assert Backoff(first_s=1.0, max_s=30.0, least=0.5, most=1.0).delay_s(2, jitter=jitter) == delay_s


@pytest.mark.parametrize(("lived_s", "failures"), [(None, 4), (0.0, 4), (4.9, 4), (5.0, 1), (60.0, 1)])
def test_what_lived_long_enough_starts_the_count_anew(lived_s: float | None, failures: int) -> None:
    assert Backoff(heal_s=5.0).failures(3, lived_s=lived_s) == failures


@pytest.mark.parametrize(("failures", "bound_s"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 8.0), (10_000, 8.0)])
def test_a_client_waits_between_half_and_all_of_at_most_8_s(failures: int, bound_s: float) -> None:
    assert Backoff().delay_s(failures, jitter=0.0) == bound_s / 2
    assert Backoff().delay_s(failures, jitter=1.0) == bound_s
    assert Backoff().delay_s(failures, jitter=0.0, at_least_s=30.0) == 30.0 + bound_s / 2
