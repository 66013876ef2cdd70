"""Who is next where a backend takes only so many calls at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.polling.places import Places


def waiting(count: int, *line: tuple[str, float, bool]) -> Places[str]:
    places: Places[str] = Places(count)
    for who, asked_at, probes in line:
        places.wait(who, asked_at=asked_at, probes=probes)
    return places


def everyone(places: Places[str]) -> list[str]:
    """Who is asked, one after the other."""
    order = []
    while (who := places.next()) is not None:
        order.append(who)
        places.leave()
    return order


def test_there_are_so_many_places_and_no_more() -> None:
    places = waiting(2, ("a", 1.0, False), ("b", 2.0, False), ("c", 3.0, False))
    assert [places.next() for _ in range(4)] == ["a", "b", None, None]
    places.leave()
    assert [places.next() for _ in range(2)] == ["c", None]
    for who in "defg":
        places.wait(who, asked_at=4.0, probes=False)
    places.leave()
    places.leave()
    assert [places.next() for _ in range(3)] == ["d", "e", None]


def test_a_probe_is_first_then_who_was_asked_longest_ago_then_who_came_first() -> None:
    never = float("-inf")
    line = [("late", 9.0, False), ("early", 2.0, False), ("new", never, False), ("newer", never, False)]
    assert everyone(waiting(1, *line, ("probe", 10.0, True))) == ["probe", "new", "newer", "early", "late"]


def test_who_leaves_the_line_takes_no_place_and_the_others_keep_theirs() -> None:
    places = waiting(1, ("a", 3.0, False), ("b", 1.0, False), ("c", 2.0, False), ("d", 4.0, False))
    assert places.withdraw(lambda who: who in "bd") == ["b", "d"]
    assert everyone(places) == ["c", "a"]


def test_nobody_waits_at_first() -> None:
    assert Places[str](1).next() is None
    assert Places[str](1).withdraw(lambda who: True) == []


@given(
    count=st.integers(1, 4),
    steps=st.lists(st.sampled_from("wnld"), max_size=60),
    asked_at=st.lists(st.floats(0, 10), min_size=60, max_size=60),
)
def test_no_place_is_lost_or_given_twice(count: int, steps: list[str], asked_at: list[float]) -> None:
    places: Places[int] = Places(count)
    line: list[int] = []
    inside: list[int] = []
    for number, step in enumerate(steps):
        match step:
            case "w":
                places.wait(number, asked_at=asked_at[number], probes=False)
                line.append(number)
            case "n":
                who = places.next()
                assert (who is not None) == (len(inside) < count and bool(line))
                if who is not None:
                    assert asked_at[who] == min(asked_at[other] for other in line)
                    line.remove(who)
                    inside.append(who)
            case "l" if inside:
                inside.pop()
                places.leave()
            case "d":
                gone = places.withdraw(lambda who: who % 2 == 0)
                assert sorted(gone) == [who for who in line if who % 2 == 0]
                line = [who for who in line if who % 2]


@pytest.mark.parametrize("count", [1, 3])
def test_each_is_served_in_turn_though_all_come_back_at_once(count: int) -> None:
    """Three sources of a device that serves one at a time, each due again as soon as it was asked."""
    places = waiting(count, *((name, float("-inf"), False) for name in "abc"))
    served = []
    for now in range(9):
        who = places.next()
        assert who is not None
        served.append(who)
        places.wait(who, asked_at=float(now), probes=False)
        places.leave()
    assert served == list("abcabcabc")
