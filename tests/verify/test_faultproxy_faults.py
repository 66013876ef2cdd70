import random

import msgspec
import pytest

from tidegate.errors import UnknownName
from tidegate.verify.faultproxy.drawing import FaultSet
from tidegate.verify.faultproxy.faults import (
    CALL_FAULTS,
    FAULTS,
    PIECE_FAULTS,
    REUSED_CALL_FAULTS,
    AnyFault,
    Fault,
    Latency,
    Reset,
    fault_from,
    name_of,
)


def fault_set(*faults: AnyFault, seed: int = 0) -> FaultSet:
    made = FaultSet(random.Random(seed))
    for fault in faults:
        made.set(fault)
    return made


def test_every_fault_has_its_name_and_defaults() -> None:
    assert len(FAULTS) == 25
    for name, kind in FAULTS.items():
        assert name_of(kind()) == name
        assert kind.__doc__
        assert fault_from(name, {}) == kind()
        assert fault_from(name, msgspec.to_builtins(kind())) == kind()


def test_parameters() -> None:
    assert fault_from("latency", {"delay_s": 1, "probability": 0.5}) == Fault.latency(delay_s=1.0, probability=0.5)
    assert fault_from("status", {"code": 503, "count": 3}) == Fault.status(503, count=3)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("latency", {"delay_s": -1}, r"`float` >= 0.0 - at `\$.delay_s`"),
        ("latency", {"delay_s": "1"}, r"Expected `float`, got `str`"),
        ("latency", {"delay": 1}, r"unknown field `delay`"),
        ("status", {"code": 200}, r">= 400"),
        ("html", {"probability": 0}, r"`float` > 0.0"),
        ("html", {"probability": 1.5}, r"<= 1.0"),
        ("html", {"count": 0}, r">= 1"),
        ("html", {"name": "reset"}, r"'reset'"),
        ("down", {"probability": 0.5}, r"unknown field `probability`"),
        ("unanswered", {"count": 1}, r"unknown field `count`"),
    ],
)
def test_parameters_that_do_not_fit(name: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        fault_from(name, parameters)


def test_a_fault_made_out_of_range_is_refused_when_it_is_set() -> None:
    faults = fault_set()
    with pytest.raises(msgspec.ValidationError, match="400"):
        faults.set(Fault.status(7))
    assert list(faults.active) == []


def test_unknown_names() -> None:
    for attempt in (lambda: fault_from("fire", {}), lambda: fault_set().clear("fire")):
        with pytest.raises(UnknownName, match=r"expected a fault \(bandwidth, .*\), got 'fire'"):
            attempt()


def test_one_fault_of_each_name() -> None:
    faults = fault_set(Fault.status(500), Fault.html(), Fault.status(503))
    assert list(faults.active) == [Fault.html(), Fault.status(503)]
    faults.clear("html")
    faults.clear("html")
    assert list(faults.active) == [Fault.status(503)]
    faults.clear()
    assert list(faults.active) == []


def test_the_answer_is_the_newest_and_deliveries_add_up() -> None:
    faults = fault_set(Fault.latency(), Fault.html(), Fault.status(503), Fault.reset(), Fault.down())
    plan = faults.draw(CALL_FAULTS)
    assert plan.answer == Fault.status(503)
    assert set(plan.names) == {"latency", "status", "reset"}
    assert plan.get(Latency) == Fault.latency()
    faults.clear("reset")
    assert faults.draw(CALL_FAULTS).get(Reset) is None


def test_only_what_may_hit_is_drawn() -> None:
    faults = fault_set(Fault.status(), Fault.late(), Fault.black_hole(), Fault.dead_keep_alive())
    assert faults.draw(REUSED_CALL_FAULTS).answer == Fault.dead_keep_alive()
    assert faults.draw(CALL_FAULTS).answer == Fault.black_hole()
    assert faults.draw(PIECE_FAULTS).names == ("black_hole",)


def test_count_is_used_up_by_hits_alone() -> None:
    faults = fault_set(Fault.html(), Fault.status(count=2))
    faults.draw(PIECE_FAULTS)
    assert [faults.draw(CALL_FAULTS).names for _ in range(3)] == [("status",), ("status",), ("html",)]
    assert list(faults.active) == [Fault.html()]
    faults.set(Fault.html(count=3))
    faults.draw(CALL_FAULTS)
    assert list(faults.active) == [Fault.html(count=2)]


def test_an_answer_that_was_not_chosen_keeps_its_count() -> None:
    faults = fault_set(Fault.html(count=1), Fault.status(count=1))
    assert [faults.draw(CALL_FAULTS).names for _ in range(3)] == [("status",), ("html",), ()]


def test_a_fault_of_some_methods_hits_no_other_and_is_not_used_up_by_it() -> None:
    faults = fault_set(Fault.html(count=1, methods=("a.b", "/path")))
    assert faults.draw(CALL_FAULTS, called=("c",)).names == ()
    assert faults.draw(CALL_FAULTS).names == ()
    assert faults.draw(CALL_FAULTS, called=("c", "a.b")).names == ("html",)
    assert faults.draw(CALL_FAULTS, called=("a.b",)).names == ()


def test_probability_is_drawn_from_the_seed() -> None:
    drawn = [fault_set(Fault.html(probability=0.3), seed=seed).draw(CALL_FAULTS).names for seed in range(500)]
    assert 100 < drawn.count(("html",)) < 200
    assert drawn == [("html",) if random.Random(seed).random() < 0.3 else () for seed in range(500)]
