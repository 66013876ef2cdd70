import random

from tidegate.core.rate import NOTHING_OWED, Allowances, Rate


def admitted(rate: Rate, moments: list[float]) -> list[float]:
    """Those of `moments` at which one more was within the rate; what was not is not counted."""
    owed_until, found = NOTHING_OWED, []
    for now in moments:
        if not rate.is_over(more := rate.charged(owed_until, now), now):
            owed_until = more
            found.append(now)
    return found


def test_a_burst_comes_at_once_and_then_as_many_as_time_allows() -> None:
    assert admitted(Rate(2.0, 3), [10.0] * 5) == [10.0] * 3
    assert admitted(Rate(2.0, 3), [10.0] * 4 + [10.4] * 2 + [10.5] * 2) == [10.0, 10.0, 10.0, 10.5]
    assert admitted(Rate(0.5, 1), [0.0, 1.9, 2.0, 2.1]) == [0.0, 2.0]


def test_a_long_silence_earns_no_more_than_a_burst() -> None:
    assert len(admitted(Rate(2.0, 3), [0.0] * 3 + [1e6] * 9)) == 6


def test_fractions_that_floats_cannot_hold_cost_nobody_a_message() -> None:
    assert len(admitted(Rate(50.0, 100), [1234.5678] * 200)) == 100
    assert len(admitted(Rate(50.0, 185), [801826.3669964835] * 400)) == 185
    assert len(admitted(Rate(3.0, 7), [1e5 + n / 3 for n in range(1000)])) == 1000


def test_several_at_once_count_as_many_and_may_be_owed() -> None:
    rate = Rate(10.0, 5)
    owed_until = rate.charged(NOTHING_OWED, 0.0, count=25)
    assert owed_until == 2.0
    assert rate.is_over(owed_until, 1.9)
    assert not rate.is_over(owed_until, 2.0)


def test_no_window_ever_holds_more_than_the_rate() -> None:
    rng = random.Random(5)
    rate = Rate(20.0, 10)
    moments = sorted(rng.uniform(0, 20) for _ in range(2000))
    let_in = admitted(rate, moments)
    for n, first in enumerate(let_in):
        for m in range(n, len(let_in)):
            assert m - n + 1 <= rate.burst + rate.per_s * (let_in[m] - first) + 1e-3


def test_each_name_has_an_allowance_of_its_own_and_what_is_over_is_not_counted() -> None:
    allowances = Allowances(Rate(2.0, 10))
    assert allowances.charge("a", 0.0, 10) == 0
    assert allowances.charge("a", 0.0, 1) == 0.5
    assert allowances.charge("a", 0.0, 4) == 2.0
    assert allowances.charge("b", 0.0, 10) == 0
    assert allowances.charge("a", 0.5, 1) == 0


def test_what_is_refunded_was_never_counted() -> None:
    allowances = Allowances(Rate(2.0, 10))
    for now in (0.0, 1.0, 50.0):
        for _ in range(5):
            assert allowances.charge("a", now, 2) == 0
            assert allowances.charge("a", now, 8) == 0
            allowances.refund("a", 2)
            allowances.refund("a", 8)
    allowances.charge("a", 50.0, 10)
    allowances.refund("a", 3)
    assert allowances.charge("a", 50.0, 4) == 0.5
    assert allowances.charge("a", 50.0, 3) == 0


def test_a_refund_to_a_name_that_is_forgotten_earns_nothing() -> None:
    allowances = Allowances(Rate(2.0, 10))
    allowances.charge("a", 0.0, 4)
    allowances.forget_idle(2.0)
    allowances.refund("a", 4)
    assert allowances.charge("a", 2.0, 10) == 0
    assert allowances.charge("a", 2.0, 1) == 0.5


def test_after_the_wait_all_of_them_are_within_the_rate() -> None:
    rng = random.Random(6)
    allowances, now = Allowances(Rate(3.0, 50)), 100.0
    for _ in range(2000):
        count = rng.randrange(1, 51)
        if wait_s := allowances.charge("a", now, count):
            assert wait_s < 50 / 3 + 1e-3
            assert allowances.charge("a", now + wait_s * 0.9, count) > 0
            now += wait_s
            assert allowances.charge("a", now, count) == 0
        now += rng.choice([0.0, 0.1, 7.0])


def test_who_owes_nothing_is_forgotten() -> None:
    allowances = Allowances(Rate(2.0, 10))
    for n in range(100):
        allowances.charge(str(n), 0.0, 1 + n % 2)
    allowances.forget_idle(0.5)
    assert len(allowances) == 50
    allowances.forget_idle(1.0)
    assert len(allowances) == 0
    assert allowances.charge("0", 1.0, 10) == 0
