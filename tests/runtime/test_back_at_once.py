"""How soon everything is true again after an outage, and what that may cost the backend: a poller in virtual time."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from house import HardBus, House, source, stall, times, virtual

from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.errors import BackendError, Disconnected, HttpStatus, InvalidResponse
from tidegate.ports import Ask, Call
from tidegate.testing import ScriptedBackend
from tidegate.testing.backend import Exchange

DEFAULT = BreakerRules()
L = 0.1
"""How long a call takes."""


class Listener(ScriptedBackend):
    """A backend that can be knocked at. Unless it is `up`, no connection can be made, which takes `connect_s`."""

    def __init__(self) -> None:
        super().__init__(lambda call: {"ok": True}, delay_s=L)
        self.up = True
        self.refuses_calls = False
        self.connect_s = 0.0
        self.secret = b"first"
        self.prepare_s = 0.0
        self.preparing = 0
        self.knocks: list[float] = []

    async def prepare(self) -> Ask:
        self.preparing += 1
        await asyncio.sleep(self.prepare_s)
        self.preparing -= 1
        return Prepared(self)

    async def knock(self) -> None:
        self.knocks.append(now())
        await asyncio.sleep(self.connect_s)
        if not self.up:
            raise Disconnected("refused")


class Prepared:
    """A call that says whether it had a connection, and what it authenticates with."""

    def __init__(self, backend: Listener) -> None:
        self.connected = True
        self.secret = backend.secret
        self._backend = backend

    async def __call__(self, calls: Sequence[Call]) -> list[msgspec.Raw | BackendError]:
        backend = self._backend
        self.connected = backend.up and not backend.refuses_calls
        if not self.connected:
            backend.exchanges.append(Exchange(now(), calls))
            raise Disconnected("refused")
        return await backend.call(calls)


def now() -> float:
    return asyncio.get_running_loop().time()


def house_of(*sources: Any, **settings: Any) -> tuple[House, Listener]:
    backend = Listener()
    chosen: dict[str, Any] = {"breaker": DEFAULT, "retry_s": 1.0, **settings}
    return House(*sources, backend=backend, **chosen), backend


def fresh_after(house: House, returned: float) -> list[float]:
    """When each source was fresh with data from after `returned`, in seconds after that; only those that were."""
    first: dict[str, float] = {}
    for at, draft in house.published:
        if draft.source and not draft.stale and draft.as_of and draft.as_of >= 1_795_000_000.0 + returned:
            first.setdefault(draft.type, at - returned)
    return sorted(first.values())


def busiest_second(came: Sequence[float], *, of_first: int | None = None) -> int:
    """How many calls came within the second that begins with one of them, or with one `of_first`."""
    return max(sum(at <= other < at + 1.0 for other in came) for at in came[:of_first])


def reasons(house: House) -> list[str]:
    return [msgspec.json.decode(draft.data)["reason"] for draft in house.of("circuit_breaker.state")]


def moves(house: House) -> list[dict[str, Any]]:
    return [msgspec.json.decode(draft.data) for draft in house.of("circuit_breaker.state")]


def measured(house: House, tag: str) -> list[Any]:
    return house.metrics.named(tag)


# an outage in which no connection can be made


@pytest.mark.parametrize("interval_s", [1.0, 60.0])
@pytest.mark.parametrize(("out_s", "found_s"), [(5.0, 1.2), (50.0, 1.2), (90.0, 6.0), (600.0, 6.0)])
@virtual
async def test_whoever_can_be_reached_again_is_found_by_a_knock(
    interval_s: float, out_s: float, found_s: float
) -> None:
    house, backend = house_of(*(source(f"s{n}.x", interval_s=interval_s) for n in range(20)))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.up = False
        await house.supervisor.poll("engine")
        await asyncio.sleep(out_s)
        backend.up = True
        returned = now()
        await asyncio.sleep(10.0)
    fresh = fresh_after(house, returned)
    assert fresh[0] <= found_s + L
    assert len(fresh) == 20 or interval_s > out_s, "data that is not too old, and whose tick was not refused, is true"
    assert fresh[-1] <= found_s + L + 20 / min(16 / L, 20.0) + 6 * L
    assert "reachable" in reasons(house) or "retry_due" in reasons(house)
    (outage,) = measured(house, "outage_ended")
    assert outage[1] == pytest.approx(out_s + fresh[-1], abs=1.5)


@virtual
async def test_while_it_is_out_there_is_one_probe_or_knock_at_a_time_and_their_pace_is_that_of_the_rule() -> None:
    house, backend = house_of(*(source(f"s{n}.x", interval_s=1.0) for n in range(5)))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.up = False
        await asyncio.sleep(3.0)
        backend.exchanges.clear()
        backend.knocks.clear()
        began = now()
        await asyncio.sleep(180.0)
    early = [at for at in backend.knocks if at < began + 55]
    late = [at for at in backend.knocks if at > began + 65]
    # The probe at the end of an open period takes the place of a knock, and the next knock comes a gap after it.
    assert 30 <= len(early) <= 70
    assert 15 <= len(late) <= 30
    for before, after in itertools.pairwise(sorted([*early, *(at for at in times(backend) if at < began + 55)])):
        assert after - before <= 1.2001
    for before, after in itertools.pairwise(sorted([*late, *(at for at in times(backend) if at > began + 65)])):
        assert after - before <= 6.0001
    assert set(measured(house, "knock_ended")) == {("engine", "unreachable")}


@virtual
async def test_a_knock_that_gets_no_answer_is_dropped_when_the_probe_is_due() -> None:
    house, backend = house_of(source(interval_s=1.0), connections=1, breaker=BreakerRules(open_s=3.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.up, backend.connect_s = False, 1e6
        while not backend.knocks:
            await asyncio.sleep(0.01)
        retry_at = moves(house)[-1]["retry_at"]
        await asyncio.sleep(4.0)
    due = [move for move in moves(house) if move["reason"] == "retry_due"]
    assert due, "it held the only place"
    assert ("engine", "dropped") in measured(house, "knock_ended")
    assert retry_at is not None


@virtual
async def test_nobody_knocks_while_a_probe_is_being_prepared() -> None:
    house, backend = house_of(source("a.x", interval_s=1.0), source("b.x", interval_s=1.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.up = False
        await asyncio.sleep(5.0)
        backend.prepare_s = 1.9
        for _ in range(6000):
            await asyncio.sleep(0.01)
            assert not (backend.preparing and backend.knocks[-1] > now() - 0.01)
    assert len(backend.knocks) > 30


@virtual
async def test_a_sick_backend_is_not_knocked_at() -> None:
    house, backend = house_of(source(interval_s=1.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.fail(HttpStatus(500, "oops"))
        await asyncio.sleep(120.0)
        calls = len([at for at in times(backend) if at > now() - 60.0])
        backend.recover()
        returned = now()
        await asyncio.sleep(20.0)
    assert backend.knocks == []
    assert 4 <= calls <= 9, "calls a minute, whatever it is asked in good times"
    assert fresh_after(house, returned)[0] <= 15.0 + 2.0 + L


@virtual
async def test_a_listener_that_comes_and_goes_does_not_make_the_breaker_close_all_the_time() -> None:
    house, backend = house_of(*(source(f"s{n}.x", interval_s=1.0) for n in range(5)))

    async def flap() -> None:
        while True:
            backend.up = not backend.up
            await asyncio.sleep(0.3)

    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        flapping = asyncio.create_task(flap())
        await asyncio.sleep(600.0)
        flapping.cancel()
    closed = [move for move in moves(house) if move["reason"] == "probe_succeeded"]
    assert len(closed) / 10 < 8, "times a minute"


@virtual
async def test_where_knocks_succeed_and_probes_find_no_connection_nothing_counts_and_knocks_become_rare() -> None:
    house, backend = house_of(source(interval_s=1.0), breaker=BreakerRules(open_s=300.0, open_max_s=300.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.refuses_calls = True
        await asyncio.sleep(110.0)
    opened = [move for move in moves(house) if move["state"] == "open"]
    assert {move["open_count"] for move in opened} == {1}
    assert len({move["retry_at"] for move in opened}) == 1
    gaps = [b - a for a, b in itertools.pairwise(backend.knocks)]
    assert len(gaps) >= 4
    assert all(0.8 * 2 ** (n + 1) <= gap <= 1.2 * 2 ** (n + 1) + 0.01 for n, gap in enumerate(gaps[:4]))


@virtual
async def test_a_knock_that_ends_while_the_bus_does_not_answer_leads_to_no_call() -> None:
    delays = [0.0]
    rules = BreakerRules(failure_threshold=1, open_s=600.0, open_max_s=600.0)
    sources = source("a.x", interval_s=1.0, breaker="a"), source("b.x", interval_s=60.0, breaker="b")
    house, backend = house_of(*sources, breaker=rules, bus=lambda told: HardBus(told, delay_s=lambda: delays[0]))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.up, backend.connect_s = False, 1.5
        await asyncio.sleep(3.0)
        delays[0] = 20.0
        commanded = asyncio.create_task(house.supervisor.command("b", "force-open", by="ops"))
        began = now()
        while not (now() > began + 3.6 and backend.knocks[-1] > now() - 0.1):
            await asyncio.sleep(0.01)
        assert began + 3.5 < backend.knocks[-1] < began + 5.0 < backend.knocks[-1] + backend.connect_s
        backend.up = True
        backend.exchanges.clear()
        await asyncio.sleep(began + 19.9 - now())
        assert times(backend) == []
        delays[0] = 0.0
        await asyncio.sleep(3.0)
        assert times(backend) != []
        await commanded


OWN = BreakerRules(failure_threshold=1, open_s=300.0, open_max_s=300.0)


@virtual
async def test_the_probes_of_many_breakers_that_one_knock_brings_forward_stay_under_the_limit_of_catching_up() -> None:
    house, backend = house_of(*(source(f"s{n}.x", breaker=f"b{n}", interval_s=60.0) for n in range(100)), breaker=OWN)
    backend.delay_s = 0.002
    async with house.supervisor.running():
        await asyncio.sleep(3.0)
        backend.up = False
        await house.supervisor.poll("engine")
        await asyncio.sleep(20.0)
        backend.up = True
        returned = now()
        backend.exchanges.clear()
        await asyncio.sleep(10.0)
    came = sorted(times(backend))
    assert busiest_second(came) <= 20
    assert len(fresh_after(house, returned)) == 100
    assert fresh_after(house, returned)[-1] <= 1.2 + 100 / (20 / 1.02) + 0.1


@virtual
async def test_once_one_of_these_probes_has_failed_the_others_wait_for_the_next_knock() -> None:
    house, backend = house_of(*(source(f"s{n}.x", breaker=f"b{n}", interval_s=60.0) for n in range(100)), breaker=OWN)
    async with house.supervisor.running():
        await asyncio.sleep(3.0)
        backend.up = False
        await house.supervisor.poll("engine")
        await asyncio.sleep(3.0)
        backend.refuses_calls = backend.up = True
        backend.exchanges.clear()
        backend.knocks.clear()
        await asyncio.sleep(5.0)
    assert 3 <= len(backend.knocks) == len(backend.exchanges)


@virtual
async def test_nobody_knocks_while_the_backend_is_held_or_the_breaker_is_forced() -> None:
    house, backend = house_of(source("a.x", interval_s=1.0), source("b.x", interval_s=1.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.up = False
        while not backend.knocks:
            await asyncio.sleep(0.01)
        await house.supervisor.command("engine", "force-open", by="ops")
        backend.knocks.clear()
        await asyncio.sleep(30.0)
        assert backend.knocks == []
        assert measured(house, "knock_ended").count(("engine", "dropped")) <= 1


# a failed call is repeated


@virtual
async def test_one_lost_packet_costs_a_second_and_not_an_interval() -> None:
    house, backend = house_of(source("a.x", interval_s=60.0), source("b.x", interval_s=60.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.fail(Disconnected("lost"))
        await house.supervisor.poll("engine")
        await asyncio.sleep(0.2)
        backend.recover()
        failed = now()
        await asyncio.sleep(2.0)
        assert fresh_after(house, failed)[0] <= 1.2 + L
    assert ("engine", "answered") in measured(house, "repetition_ended")


@virtual
async def test_repetitions_come_less_and_less_often_and_never_as_seldom_as_ticks() -> None:
    house, backend = house_of(source("a.x", interval_s=20.0), source("b.x", interval_s=0.9), breaker=BreakerRules())
    backend.script = lambda call: InvalidResponse("rubbish") if call.method == "a.x" else {}
    async with house.supervisor.running():
        await asyncio.sleep(40.0)
    came = [exchange.at for exchange in backend.exchanges if exchange.methods == ["a.x"]]
    gaps = [b - a for a, b in itertools.pairwise(came)]
    for n, gap in enumerate(gaps[:4]):
        assert 0.8 * 2**n <= gap - L <= 1.2 * 2**n + 0.01
    assert house.states() == ["closed"], "one broken source is no broken backend"


@virtual
async def test_without_retry_s_a_failed_call_waits_for_its_tick() -> None:
    house, backend = house_of(source("a.x", interval_s=10.0), retry_s=0.0)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.fail(Disconnected("lost"))
        backend.exchanges.clear()
        await asyncio.sleep(29.0)
    assert all(b - a == pytest.approx(10.0) for a, b in itertools.pairwise(times(backend)))


@virtual
async def test_a_repetition_says_only_what_has_changed() -> None:
    house, backend = house_of(source("a.x", interval_s=30.0), source("b.x", interval_s=0.5))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.script = lambda call: InvalidResponse("rubbish") if call.method == "a.x" else {}
        await asyncio.sleep(32.0)
        before = len(house.of("a.x"))
        calls = len([1 for exchange in backend.exchanges if exchange.methods == ["a.x"]])
        await asyncio.sleep(12.0)
        assert len([1 for exchange in backend.exchanges if exchange.methods == ["a.x"]]) >= calls + 3
        assert len(house.of("a.x")) == before
        backend.script = lambda call: HttpStatus(500, "oops") if call.method == "a.x" else {}
        await asyncio.sleep(16.0)
    assert house.of("a.x")[before].error_code == "RPC_HTTP_STATUS"
    assert house.freshness("a.x")["error_code"] == "RPC_HTTP_STATUS"


@virtual
async def test_if_one_source_fails_alone_another_one_says_whether_the_backend_is_well() -> None:
    house, backend = house_of(source("a.x", interval_s=60.0), source("b.x", interval_s=3600.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.fail(Disconnected("lost"))
        house.poller.poll_now(["a.x"])
        await asyncio.sleep(8.0)
    asked = [exchange.methods[0] for exchange in backend.exchanges]
    assert asked[2:6] == ["a.x", "a.x", "a.x", "b.x"]
    assert house.states()[:2] == ["closed", "open"], "with the failure of the other one, all of the run counts"


# catching up


@virtual
async def test_catching_up_begins_with_one_call_and_stays_under_its_limit() -> None:
    house, backend = house_of(*(source(f"s{n}.x", interval_s=60.0) for n in range(200)))
    async with house.supervisor.running():
        await asyncio.sleep(3.0)
        backend.up = False
        await asyncio.sleep(120.0)
        backend.up = True
        returned = now()
        backend.exchanges.clear()
        await asyncio.sleep(15.0)
    came = sorted(times(backend))
    assert busiest_second(came) <= 20
    assert len(fresh_after(house, returned)) == 200
    assert fresh_after(house, returned)[-1] <= 6.0 + 200 / (20 / 1.02) + 2.0


@virtual
async def test_a_failure_takes_catching_up_back_to_one_call() -> None:
    house, backend = house_of(
        *(source(f"s{n}.x", interval_s=60.0) for n in range(60)),
        retry_s=0.0,
        breaker=BreakerRules(failure_threshold=50),
    )
    async with house.supervisor.running():
        await asyncio.sleep(3.0)
        backend.up = False
        await asyncio.sleep(61.0)
        backend.up, backend.delay_s = True, 1.0
        while house.states()[-1] != "closed" or len(house.states()) < 4:
            await asyncio.sleep(0.01)
        backend.exchanges.clear()
        backend.most_in_flight = 0
        failing = itertools.count()
        backend.script = lambda call: InvalidResponse("rubbish") if next(failing) % 3 == 2 else {}
        await asyncio.sleep(10.0)
    assert 1 <= backend.most_in_flight <= 4


@virtual
async def test_the_sources_of_a_machine_that_slept_are_asked_as_after_a_recovery() -> None:
    house, backend = house_of(*(source(f"s{n}.x", interval_s=10.0) for n in range(40)))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.exchanges.clear()
        stall(3600.0)
        await asyncio.sleep(5.0)
    assert backend.most_in_flight <= 40
    came = sorted(times(backend))
    assert len(came) >= 40
    assert busiest_second(came, of_first=20) <= 20


@virtual
async def test_a_tick_soon_after_another_call_makes_none_but_says_what_is_stale() -> None:
    house, backend = house_of(source("a.x", interval_s=10.0), retry_s=0.0)
    async with house.supervisor.running():
        await asyncio.sleep(9.0)
        first = times(backend)[0]
        backend.fail(HttpStatus(500, "oops"))
        await house.supervisor.poll("engine")
        await asyncio.sleep(0.5)
        backend.exchanges.clear()
        told = len(house.of("a.x"))
        await asyncio.sleep(first + 10.1 - now())
        assert times(backend) == []
        assert len(house.of("a.x")) == told + 1
        await asyncio.sleep(10.0)
    assert times(backend) == [pytest.approx(first + 20.0)]
    assert house.poller.sources()[0].missed_ticks == 0


# pokes, accounts, and backends that are busy


@virtual
async def test_a_poke_lets_the_probe_go_now_but_not_more_often_than_once_in_ten_seconds() -> None:
    house, backend = house_of(source("a.x", interval_s=1.0), breaker=BreakerRules(open_s=100.0, open_max_s=100.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.fail(HttpStatus(500, "oops"))
        while house.states()[-1] != "open":
            await asyncio.sleep(0.01)
        backend.exchanges.clear()
        for _ in range(30):
            await house.supervisor.poll("engine")
            await asyncio.sleep(1.0)
        assert len(backend.exchanges) == 3
        assert reasons(house).count("poke") == 3
        backend.recover()
        await asyncio.sleep(10.0)
        await house.supervisor.poll("engine")
        await asyncio.sleep(L + 0.01)
        assert house.states()[-1] == "closed"


@virtual
async def test_an_account_that_is_refused_tries_again_with_another_secret_and_the_others_follow() -> None:
    house, backend = house_of(*(source(f"s{n}.x", interval_s=5.0) for n in range(5)))
    backend.script = lambda call: HttpStatus(401, "who are you?") if backend.secret == b"first" else {}
    async with house.supervisor.running():
        await asyncio.sleep(100.0)
        backend.exchanges.clear()
        backend.secret = b"second"
        await asyncio.sleep(3.0)
        assert not any(view.stale for view in house.supervisor.sources())
    assert len(backend.exchanges) == 5
    assert times(backend)[1] >= times(backend)[0] + L, "one tries first"


@virtual
async def test_a_refused_account_is_not_tried_more_often_by_pokes_recoveries_or_the_same_secret() -> None:
    house, backend = house_of(source("a.x", interval_s=1.0), source("b.x", interval_s=1.0))
    backend.script = lambda call: HttpStatus(401, "who are you?")
    async with house.supervisor.running():
        await asyncio.sleep(600.0)
        backend.exchanges.clear()
        for _ in range(600):
            await house.supervisor.poll("engine")
            await asyncio.sleep(1.0)
    assert len(backend.exchanges) <= 10 + 2 * 4, "ten pokes that count, and a few waits that are over"


@virtual
async def test_a_429_without_a_time_holds_longer_each_time_and_the_source_is_asked_when_it_is_over() -> None:
    house, backend = house_of(source("a.x", interval_s=60.0), breaker=BreakerRules(failure_threshold=100))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        backend.fail(HttpStatus(429, "slow down"))
        await house.supervisor.poll("engine")
        backend.exchanges.clear()
        await asyncio.sleep(36.0)
    gaps = [b - a - L for a, b in itertools.pairwise(times(backend))]
    assert gaps == pytest.approx([5.0, 10.0, 20.0], abs=0.01)
