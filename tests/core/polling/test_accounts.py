"""When sources whose account was refused are asked before their wait is over (rule 3)."""

from polling import backend_plan, call_ended, polled, raw, source_plan

from tidegate.core.instant import Instant
from tidegate.core.polling.accounts import Accounts
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.outcome import Answer, Fault, Outcome, Verdict
from tidegate.core.polling.source import Source
from tidegate.errors import ErrorCode

REFUSED = Fault(ErrorCode.RPC_AUTH, "who are you", Verdict.ALIVE)
DOWN = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE)
WELL = Answer(raw(0))


def at(seconds: float) -> Instant:
    return Instant(seconds, 1_795_000_000.0 + seconds)


class House:
    """The accounts of the sources a.x, b.x, c.x and d.x, of which the first `refused` are refused at 1, 2 ... s."""

    def __init__(self, refused: int = 3, *, times: int = 6) -> None:
        plan = backend_plan(*(source_plan(name, 60.0) for name in ("a.x", "b.x", "c.x", "d.x")), rules=BreakerRules())
        self.sources = polled(plan)
        self.barred: set[str] = set()
        self.accounts = Accounts(self.sources.values(), is_barred=lambda source: source.type in self.barred)
        for seconds, name in enumerate(list(self.sources)[:refused], 1):
            for _ in range(times):
                self.ends(name, REFUSED, float(seconds))

    def ends(self, name: str, outcome: Outcome, seconds: float, *, secret: bytes = b"old") -> list[str]:
        """A call of a source ends. Returns who follows."""
        source = self.sources[name]
        call_ended(source, outcome, at(seconds), secret=secret)
        return types(self.accounts.ended(source, answered=isinstance(outcome, Answer), now=at(seconds)))

    def waiting(self, seconds: float) -> list[str]:
        return [name for name, source in self.sources.items() if source.calls.waits(at(seconds))]

    def poke(self, seconds: float, *names: str) -> str | None:
        trial = self.accounts.poke([self.sources[name] for name in names or self.sources], at(seconds))
        return None if trial is None else trial.type

    def read(self, secret: bytes, seconds: float) -> str | None:
        trial = self.accounts.read(secret, at(seconds))
        return None if trial is None else trial.type


def types(sources: list[Source]) -> list[str]:
    return [source.type for source in sources]


# the secret


def test_the_secret_is_read_once_a_second_while_somebody_waits_and_not_otherwise() -> None:
    house = House(0)
    assert house.accounts.read_at is None
    house.ends("a.x", REFUSED, 10.0)  # for 2.5 s
    read_at: list[float | None] = []
    for now in (10.0, 11.0, 12.0):
        assert house.accounts.read_at is not None
        assert house.accounts.read_at <= now
        house.accounts.reading(at(now))
        read_at.append(house.accounts.read_at)
    assert read_at == [11.0, 12.0, None], "at 13 s nobody waits any more"


def test_a_source_whose_breaker_is_forced_open_is_not_the_one_that_tries() -> None:
    house = House()
    house.barred = {"a.x"}
    assert house.read(b"new", 10.0) == "b.x"
    house.barred = {"a.x", "b.x"}
    assert house.read(b"new", 11.0) == "c.x", "b.x was to try, and cannot any more"
    house.barred = {"a.x", "b.x", "c.x"}
    assert house.read(b"new", 12.0) is None


def test_the_same_bytes_end_no_wait_however_often_they_are_written() -> None:
    house = House()
    assert [house.read(b"old", 10.0 + n) for n in range(100)] == [None] * 100
    assert house.waiting(10.0) == ["a.x", "b.x", "c.x"]


def test_with_another_secret_one_source_tries_it_who_was_asked_longest_ago() -> None:
    house = House()
    house.ends("a.x", REFUSED, 4.0)
    assert house.read(b"new", 10.0) == "b.x"
    assert house.waiting(10.0) == ["a.x", "c.x"]
    assert house.read(b"newer", 11.0) is None, "one at a time"


def test_the_others_follow_when_it_was_answered() -> None:
    house = House()
    house.read(b"new", 10.0)
    assert house.ends("d.x", WELL, 10.5) == [], "another source says nothing about this account"
    assert house.ends("a.x", WELL, 11.0, secret=b"new") == ["b.x", "c.x"]
    assert (house.waiting(11.0), house.accounts.read_at) == ([], None)


def test_if_it_is_refused_again_nobody_follows_or_tries_that_secret_and_it_waits_longer() -> None:
    house = House()
    before = house.sources["a.x"].calls.refusals
    house.read(b"new", 5.0)
    assert house.ends("a.x", REFUSED, 5.1, secret=b"new") == []
    assert (house.waiting(5.1), house.sources["a.x"].calls.refusals) == (["a.x", "b.x", "c.x"], before + 1)
    assert [house.read(b"new", 6.0 + n) for n in range(20)] == [None] * 20
    assert house.read(b"newer", 30.0) == "b.x"


def test_a_trial_that_fails_otherwise_is_no_answer_yet() -> None:
    house = House()
    house.read(b"new", 10.0)
    assert house.ends("a.x", DOWN, 10.5) == []
    assert house.read(b"newer", 11.0) is None, "it tries again at its next tick"
    assert house.ends("a.x", WELL, 20.0) == ["b.x", "c.x"]


# a poke


def test_a_poke_ends_a_wait_at_most_once_in_a_minute() -> None:
    house = House(times=9)
    assert house.poke(10.0) == "a.x"
    house.ends("a.x", REFUSED, 10.1)
    assert [house.poke(10.0 + n) for n in range(1, 60)] == [None] * 59
    assert house.poke(70.0) == "b.x"


def test_a_poke_while_nobody_covered_waits_counts_for_nothing() -> None:
    house = House()
    assert (house.poke(10.0, "d.x"), house.poke(10.1, "c.x", "d.x")) == (None, "c.x")


def test_after_a_poke_the_others_follow_too() -> None:
    house = House()
    house.poke(10.0, "c.x")
    assert house.ends("c.x", WELL, 10.1) == ["a.x", "b.x"]


# no end of a wait


def test_an_answer_of_a_source_that_was_no_trial_ends_no_wait() -> None:
    """A recovery, a probe or the end of a hold."""
    house = House()
    assert [house.ends("d.x", outcome, 10.0) for outcome in (WELL, DOWN, WELL)] == [[], [], []]
    assert house.waiting(10.0) == ["a.x", "b.x", "c.x"]


def test_those_who_waited_where_it_was_carried_from_wait_on() -> None:
    """Rule 10. Secrets are not carried: the first one that is read counts as refused, and another one is tried."""
    house = House()
    resumed = Accounts(house.sources.values(), is_barred=lambda _: False)
    for source in house.sources.values():
        source.calls.refused_secret, source.calls.knows_secret = None, False
    assert resumed.read_at is not None
    assert resumed.read(b"old", at(10.0)) is None
    assert house.waiting(10.0) == ["a.x", "b.x", "c.x"]
    assert resumed.read(b"new", at(11.0)) is house.sources["a.x"]
