from tidegate.core.readings import Distribution


def test_a_value_falls_into_the_first_bucket_that_it_does_not_exceed() -> None:
    distribution = Distribution([1.0, 2.5])
    for value in (0.2, 1.0, 1.1, 2.5, 2.6):
        distribution.note(value)
    assert distribution.counts == [2, 2, 1]
    assert distribution.sum == 7.4


def test_a_weight_is_as_many_values() -> None:
    distribution = Distribution([1.0])
    distribution.note(0.5, weight=1000)
    assert distribution.counts == [1000, 0]
    assert distribution.sum == 500.0
