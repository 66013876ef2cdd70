import pytest

from tidegate.outbound.metrics.family import BACKEND, BREAKER, EVENT, SOURCE, Label, counter
from tidegate.outbound.metrics.known import INVENTED_TYPES, ConfiguredNames, KnownNames

POLLS = counter("polls_total", "?", SOURCE, BACKEND, Label("outcome", ("ok", "bad")))
EVENTS = counter("events_total", "?", EVENT)
MOVES = counter("moves_total", "?", BREAKER)


@pytest.fixture
def known() -> KnownNames:
    return KnownNames(named(("a.x", "one"), ("b.x", "two")))


def named(*sources: tuple[str, str]) -> ConfiguredNames:
    backends = tuple(dict.fromkeys(backend for _, backend in sources))
    return ConfiguredNames(sources=sources, backends=backends, breakers=backends)


def test_a_source_has_series_with_its_own_backend_only(known: KnownNames) -> None:
    assert list(known.initial(POLLS)) == [
        ("a.x", "one", "ok"),
        ("a.x", "one", "bad"),
        ("b.x", "two", "ok"),
        ("b.x", "two", "bad"),
    ]


def test_built_in_types_are_there_from_the_start(known: KnownNames) -> None:
    assert {("a.x",), ("b.x",), ("heartbeat",), ("source.freshness",)} <= set(known.initial(EVENTS))


def test_what_is_no_value_of_an_enumeration_is_other(known: KnownNames) -> None:
    assert known.label_values(POLLS, ("a.x", "one", "ugly")) == ("a.x", "one", "other")


@pytest.mark.parametrize("values", [("z.x", "one", "ok"), ("a.x", "three", "ok")])
def test_names_that_are_not_configured_get_no_series(known: KnownNames, values: tuple[str, ...]) -> None:
    assert known.label_values(POLLS, values) is None


def test_a_limited_number_of_invented_types_is_told_apart(known: KnownNames) -> None:
    shown = {known.label_values(EVENTS, (f"app.t{n}",)) for n in range(INVENTED_TYPES + 10)}
    assert len(shown) == INVENTED_TYPES + 1
    assert ("other",) in shown
    assert known.label_values(EVENTS, ("app.t0",)) == ("app.t0",)
    assert known.label_values(EVENTS, ("a.x",)) == ("a.x",)
    assert known.label_values(EVENTS, ("other",)) == ("other",)


def test_a_type_that_was_removed_is_not_taken_for_an_invented_one(known: KnownNames) -> None:
    known.follow(named(("b.x", "two")))
    assert known.label_values(EVENTS, ("a.x",)) is None
    known.follow(named(("b.x", "two"), ("c.x", "two")))
    assert known.label_values(EVENTS, ("a.x",)) is None
    known.follow(named(("a.x", "two")))
    assert known.label_values(EVENTS, ("a.x",)) == ("a.x",)


def test_an_invented_type_that_becomes_a_source_makes_room_for_another(known: KnownNames) -> None:
    for n in range(INVENTED_TYPES):
        known.label_values(EVENTS, (f"app.t{n}",))
    known.follow(named(("app.t0", "one")))
    assert known.label_values(EVENTS, ("app.new",)) == ("app.new",)
    assert known.label_values(EVENTS, ("app.newer",)) == ("other",)
