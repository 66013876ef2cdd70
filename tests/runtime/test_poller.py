"""The poller and the supervisor in virtual time, with a backend that does what the test says."""

import asyncio
import gc
import itertools

import msgspec
import pytest
from fanout import snapshots_of
from house import BREAKER, INTERVAL_S, TIMEOUT_S, House, source, stall, times, virtual
from msgspec import Raw
from structlog.testing import capture_logs

from tidegate.core.instant import from_rfc3339, rfc3339
from tidegate.core.shaping import Shape
from tidegate.errors import ApplicationError, Disconnected, HttpStatus, UnknownName
from tidegate.ports import Call, SavedValue
from tidegate.testing import MemoryStore


@virtual
async def test_the_first_poll_comes_within_a_second_and_the_cadence_does_not_drift() -> None:
    house = House(source())
    async with house.supervisor.running():
        await asyncio.sleep(10 * INTERVAL_S + 1)
    came = times(house.backend)
    assert came[0] <= 1.0
    assert came == pytest.approx([came[0] + n * INTERVAL_S for n in range(len(came))], abs=1e-6)
    assert len(house.of("a.status")) == len(came)
    assert not any(draft.stale for draft in house.of("a.status"))


@virtual
async def test_neither_slow_answers_nor_a_slow_process_make_the_cadence_drift() -> None:
    house = House(source())
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        first = times(house.backend)[0]
        for tick in range(1, 21):
            house.backend.delay_s = 0.09 * tick
            await asyncio.sleep(first + tick * INTERVAL_S - 0.5 - asyncio.get_running_loop().time())
            stall(0.4 + 0.2 * tick)
            await asyncio.sleep(2.0)
    late = [at - first - n * INTERVAL_S for n, at in enumerate(times(house.backend))]
    assert late == pytest.approx([0.0, *(max(0.0, 0.2 * tick - 0.1) for tick in range(1, 21))], abs=0.01)
    assert house.supervisor.sources()[0].missed_ticks == 0


@virtual
async def test_sources_with_one_interval_share_their_phase_and_one_batch() -> None:
    house = House(source("a.status"), source("b.status"), batch=True)
    async with house.supervisor.running():
        await asyncio.sleep(2.5 * INTERVAL_S)
    assert [sorted(exchange.methods) for exchange in house.backend.exchanges] == [["a.status", "b.status"]] * 3


@virtual
async def test_without_batching_each_source_has_its_own_call() -> None:
    house = House(source("a.status"), source("b.status"))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
    assert sorted(exchange.methods[0] for exchange in house.backend.exchanges) == ["a.status", "b.status"]
    assert house.backend.most_in_flight == 2


@virtual
async def test_a_failure_is_said_at_once_with_the_last_good_data() -> None:
    house = House(source())
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        await asyncio.sleep(INTERVAL_S)
    fresh, stale = house.of("a.status")
    assert (fresh.stale, stale.stale) == (False, True)
    assert (stale.data, stale.as_of, stale.error_code) == (fresh.data, fresh.as_of, "RPC_DISCONNECT")
    (error,) = house.of("rpc_error")
    assert msgspec.json.decode(error.data)["consecutive_failures"] == 1
    assert error.about == frozenset({"a.status"})


@virtual
async def test_an_open_breaker_lets_through_single_probes_at_the_announced_times() -> None:
    house = House(source("a.status"), source("b.status"), source("c.status"))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        await asyncio.sleep(INTERVAL_S)
        assert house.states() == ["closed", "open"], "three sources fail in one tick: the threshold"
        house.backend.exchanges.clear()
        await asyncio.sleep(300.0)
    announced = [draft.retry_at for draft in house.of("a.status") if draft.retry_at is not None and draft.stale]
    assert house.backend.exchanges
    assert house.backend.most_in_flight <= 3
    for exchange in house.backend.exchanges:
        assert len(exchange.calls) == 1
        assert any(abs(1_795_000_000.0 + exchange.at - retry_at) < 0.01 for retry_at in announced)


@virtual
async def test_recovery_is_noticed_at_the_probe_and_the_others_are_asked_spread_out() -> None:
    types = [f"s{n}.status" for n in range(10)]
    house = House(*map(source, types))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        await asyncio.sleep(INTERVAL_S)
        house.backend.recover()
        house.backend.exchanges.clear()
        while house.states()[-1] != "closed":
            await asyncio.sleep(0.01)
        back = asyncio.get_running_loop().time()
        await asyncio.sleep(INTERVAL_S)
    assert house.states().count("closed") == 2, "at the start, and once after the recovery"
    probe, *others = times(house.backend)
    assert len({exchange.methods[0] for exchange in house.backend.exchanges}) == 10
    assert all(at <= back + INTERVAL_S + 0.01 for at in others)
    assert min(b - a for a, b in itertools.pairwise([probe, *others])) > 0, "no two at once"
    last = {draft.type: draft for _, draft in house.published}
    assert all(last[event_type].stale is False for event_type in types)


@virtual
async def test_when_the_breaker_moves_every_other_source_of_it_says_what_that_means() -> None:
    house = House(source("a.status"), source("b.status", interval_s=7.0), source("c.status", interval_s=3600.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        while house.states()[-1] != "open":
            await asyncio.sleep(0.01)
        opened_by = house.backend.exchanges[-1].methods
        assert opened_by != ["c.status"]
        last = house.of("c.status")[-1]
        assert (last.stale, last.error_code) == (True, "CIRCUIT_BREAKER_OPEN")


@virtual
async def test_a_hang_is_a_timeout_and_ticks_meanwhile_are_missed_not_piled_up() -> None:
    house = House(source(interval_s=0.5))
    async with house.supervisor.running():
        await asyncio.sleep(1.4)
        house.backend.delay_s = 3600.0
        await asyncio.sleep(TIMEOUT_S + 1.0)
        (view,) = house.supervisor.sources()
    assert house.backend.most_in_flight == 1
    assert view.missed_ticks >= 3
    assert house.metrics.named("ticks_missed") == [("a.status", 1)] * view.missed_ticks
    assert any(draft.error_code == "RPC_TIMEOUT" for draft in house.of("a.status"))


@virtual
async def test_ticks_that_passed_while_the_process_stood_still_are_missed_too() -> None:
    house = House(source())
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.exchanges.clear()
        stall(4.5 * INTERVAL_S)
        await asyncio.sleep(2.0)
        (view,) = house.supervisor.sources()
    assert len(house.backend.exchanges) == 1, "what was missed is not made up for"
    assert view.missed_ticks == 3
    assert house.metrics.named("ticks_missed") == [("a.status", 3)]
    assert [draft.error_code for draft in house.of("a.status")] == [None, "OVERDUE", None]


@virtual
async def test_what_a_held_up_process_hands_over_before_it_can_publish_is_true_already() -> None:
    house = House(source("a.status"), source("b.status", interval_s=3600.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        told = list(house.published)
        stall(3 * INTERVAL_S)
        handed = [msgspec.json.decode(json) for json in snapshots_of(house.gateway, None)]
        assert house.published == told, "nothing had a chance to run"
        await asyncio.sleep(0.01)
        overdue = house.of("a.status")[1]
    snapshots = {(event["type"], event.get("key")): event for event in handed}
    stale = snapshots["a.status", None]
    assert (stale["stale"], stale["error_code"], stale["data"]) == (True, "OVERDUE", {"ok": True})
    assert snapshots["source.freshness", "a.status"]["data"]["error_code"] == "OVERDUE"
    assert snapshots["b.status", None]["stale"] is False
    assert snapshots["circuit_breaker.state", "engine"]["data"]["state"] == "closed"
    assert (overdue.error_code, rfc3339(overdue.as_of or 0.0)) == ("OVERDUE", stale["as_of"])


@virtual
async def test_a_backend_that_comes_and_goes_keeps_its_back_off() -> None:
    house = House(*(source(f"s{n}.status") for n in range(3)))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        for _ in range(6):
            house.backend.fail(Disconnected("refused"))
            while house.states()[-1] != "open":
                await asyncio.sleep(0.01)
            house.backend.recover()
            while house.states()[-1] != "closed":
                await asyncio.sleep(0.01)
    moves = [msgspec.json.decode(draft.data) for draft in house.of("circuit_breaker.state")]
    opened = [move for move in moves if move["state"] == "open"]
    assert [move["open_count"] for move in opened] == [1, 2, 3, 4, 5, 6]
    periods = [from_rfc3339(move["retry_at"]) - from_rfc3339(move["opened_at"]) for move in opened]
    longest = [20.0, 40.0, 80.0, 80.0, 80.0, 80.0]
    assert all(most / 2 - 0.01 <= period <= most + 0.01 for period, most in zip(periods, longest, strict=True))


@virtual
async def test_a_breaker_of_its_own_does_not_open_that_of_the_backend() -> None:
    house = House(source("a.status"), source("b.status", breaker="engine/b.status"))
    house.backend.script = lambda call: Disconnected("no") if call.method == "b.status" else 1
    async with house.supervisor.running():
        await asyncio.sleep(4 * INTERVAL_S)
        states = {view.name: view.state.value for view in house.supervisor.breakers()}
    assert states == {"engine": "closed", "engine/b.status": "open"}
    assert not any(draft.stale for draft in house.of("a.status"))


@virtual
async def test_one_success_in_a_batch_is_a_success_and_each_element_decides_its_own_freshness() -> None:
    house = House(source("a.status"), source("b.status"), batch=True)
    house.backend.script = lambda call: ApplicationError(1, "no") if call.method == "b.status" else 1
    async with house.supervisor.running():
        await asyncio.sleep(6 * INTERVAL_S)
        states = [view.state.value for view in house.supervisor.breakers()]
    assert states == ["closed"]
    assert not any(draft.stale for draft in house.of("a.status"))
    assert not house.of("b.status"), "never answered well: no data event"
    assert house.of("source.freshness")


@virtual
async def test_a_breaker_knows_whose_call_its_last_error_ended() -> None:
    house = House(source("a.status"), source("b.status"), source("c.status", breaker="engine/c.status"), batch=True)
    house.backend.script = lambda call: ApplicationError(1, f"no {call.method}") if call.method != "a.status" else 1
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        errors = {view.name: view.last_error for view in house.supervisor.breakers()}
        assert errors["engine"] is None, "one success in a batch is a success"
        own = errors["engine/c.status"]
        assert own is not None
        assert own.came_from == {"c.status"}
        house.backend.script = lambda call: ApplicationError(1, f"no {call.method}")
        await asyncio.sleep(INTERVAL_S)
        of_one = {view.name: view.last_error for view in house.supervisor.breakers()}["engine"]
        assert of_one is not None
        assert of_one.came_from == {"a.status"}, "of several errors in a batch the first is shown"
        house.backend.fail(Disconnected("refused"))
        await asyncio.sleep(INTERVAL_S)
        of_all = {view.name: view.last_error for view in house.supervisor.breakers()}["engine"]
        assert of_all is not None
        assert of_all.came_from == {"a.status", "b.status"}, "the exchange of both failed as a whole"


@virtual
async def test_a_breakers_events_speak_of_the_sources_behind_it() -> None:
    house = House(source("a.status"), source("b.status"), source("c.status", breaker="engine/c.status"))
    async with house.supervisor.running():
        await house.supervisor.command("engine", "force-open", by="test")
    about = [(draft.key, draft.about) for draft in house.of("circuit_breaker.state")]
    shared, own = ("engine", frozenset({"a.status", "b.status"})), ("engine/c.status", frozenset({"c.status"}))
    assert about == [shared, own, shared]


@virtual
async def test_a_source_tells_the_age_at_which_it_is_stale_at_its_pace_now() -> None:
    house = House(source(idle_interval_s=100.0), source("b.status", on_change=True))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        idle, plain = house.supervisor.sources()
        assert (idle.interval_s, idle.max_age_s, idle.on_change) == (100.0, 200.0, False)
        assert (plain.interval_s, plain.max_age_s, plain.on_change) == (INTERVAL_S, 2 * INTERVAL_S, True)


@virtual
async def test_an_account_that_is_refused_is_asked_less_and_less_without_opening_the_breaker() -> None:
    house = House(source(interval_s=1.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(HttpStatus(401, "who are you"))
        await asyncio.sleep(1.0)
        house.backend.exchanges.clear()
        await asyncio.sleep(200.0)
        states = [view.state.value for view in house.supervisor.breakers()]
    assert states == ["closed"]
    gaps = [b - a for a, b in itertools.pairwise(times(house.backend))]
    assert len(house.backend.exchanges) < 10
    assert all(gap >= wait_s / 2 for gap, wait_s in zip(gaps, (10.0, 20.0, 40.0), strict=False))
    repeats = [draft for draft in house.of("a.status") if draft.error_code == "RPC_AUTH"]
    assert len(repeats) > 150, "the stale event is said again at each due tick"


@virtual
async def test_an_account_that_was_let_in_again_starts_over_with_a_short_back_off() -> None:
    house = House(source(interval_s=1.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(HttpStatus(401, "who are you"))
        while len(house.backend.exchanges) < 6:
            await asyncio.sleep(1.0)
        house.backend.recover()
        while house.of("a.status")[-1].stale:
            await asyncio.sleep(0.1)
        house.backend.fail(HttpStatus(401, "who are you"))
        house.backend.exchanges.clear()
        while len(house.backend.exchanges) < 2:
            await asyncio.sleep(0.1)
    first, second = times(house.backend)
    assert second - first <= BREAKER.open_s + 1.0


@virtual
async def test_after_a_recovery_a_batch_stays_one_call() -> None:
    types = ["a.status", "b.status", "c.status"]
    house = House(*map(source, types), batch=True)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        while house.states()[-1] != "open":
            await asyncio.sleep(1.0)
        house.backend.recover()
        while house.states()[-1] != "closed":
            await asyncio.sleep(0.1)
        house.backend.exchanges.clear()
        await asyncio.sleep(3 * INTERVAL_S)
    assert [sorted(exchange.methods) for exchange in house.backend.exchanges] == [types] * 3


@virtual
async def test_nobody_subscribed_slows_polling_and_the_first_subscriber_quickens_it_at_once() -> None:
    house = House(source(idle_interval_s=100.0))
    async with house.supervisor.running():
        await asyncio.sleep(250.0)
        assert len(house.backend.exchanges) <= 4
        house.gateway.is_wanted = lambda event_type: True  # type: ignore[method-assign]
        house.backend.exchanges.clear()
        house.gateway.on_interest()
        await asyncio.sleep(INTERVAL_S * 3)
    assert len(house.backend.exchanges) >= 3
    assert not any(draft.stale for draft in house.of("a.status")), "slower is not stale"


@virtual
async def test_of_ten_thousand_keys_of_which_one_changes_per_tick_one_is_published_per_tick() -> None:
    house = House(source(shape=Shape(items=("/jobs",), key=(("id",),)), on_change=True))
    items = [{"id": f"job-{number}", "bytes": 0} for number in range(10_000)]
    house.backend.script = lambda call: {"jobs": items}
    async with house.supervisor.running():
        await asyncio.sleep(INTERVAL_S)
        assert len(house.of("a.status")) == 10_000
        for tick in range(1, 4):
            items[tick * 1000]["bytes"] = tick
            await asyncio.sleep(INTERVAL_S)
            [draft] = house.of("a.status")[9_999 + tick :]
            assert (draft.key, draft.data) == (f"job-{tick * 1000}", Raw(msgspec.json.encode(items[tick * 1000])))
        await asyncio.sleep(INTERVAL_S)
        assert len(house.of("a.status")) == 10_003
        assert len(snapshots_of(house.gateway, "a.status")) == 10_000


@virtual
async def test_a_keyed_source_publishes_only_what_changed_and_what_went() -> None:
    house = House(source(shape=Shape(items=("/agents",), key=(("id",),))))
    items = {f"k{n}": 0 for n in range(100)}
    house.backend.script = lambda call: {"agents": [{"id": key, "n": n} for key, n in items.items()]}
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        assert len(house.of("a.status")) == 100
        house.published.clear()
        items["k7"] = 1
        del items["k9"]
        await asyncio.sleep(INTERVAL_S)
    assert [(draft.key, draft.gone) for draft in house.of("a.status")] == [("k7", False), ("k9", True)]


@virtual
async def test_a_result_that_is_not_of_the_wanted_shape_is_an_invalid_response() -> None:
    house = House(source(shape=Shape(select="/a/b")))
    house.backend.script = lambda call: {"a": {"b": 3}}
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.script = lambda call: {"a": []}
        await asyncio.sleep(INTERVAL_S)
        house.backend.script = lambda call: {"a": {"b": "x" * 1001}}
        await asyncio.sleep(INTERVAL_S)
    first, *others = house.of("a.status")
    assert first.data == Raw(b"3")
    assert [draft.error_code for draft in others] == ["RPC_INVALID_RESPONSE"] * 2


@virtual
async def test_a_result_that_cannot_even_be_looked_at_is_an_invalid_response() -> None:
    house = House(source("a.status", shape=Shape(select="no pointer")), source("b.status"))
    async with house.supervisor.running():
        await asyncio.sleep(3.5 * INTERVAL_S)
    assert [msgspec.json.decode(draft.data)["error_code"] for draft in house.of("rpc_error")] == [
        "RPC_INVALID_RESPONSE"
    ]
    assert len(house.of("b.status")) == 4, "and no other source of the backend is the worse for it"


@virtual
async def test_no_error_outlives_its_exchange_with_the_answer_that_its_traceback_holds() -> None:
    def raising(call: Call) -> Raw:
        raise Disconnected("in mid-body")

    house = House(source("a.status", shape=Shape(select="/no/such")), source("b.status", interval_s=2 * INTERVAL_S))
    gc.collect()
    gc.disable()
    try:
        async with house.supervisor.running():
            await asyncio.sleep(1.5)
            house.backend.script = raising
            await asyncio.sleep(2.5 * INTERVAL_S)
            house.backend.delay_s = 2 * TIMEOUT_S
            await asyncio.sleep(4.5 * INTERVAL_S)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kept = [thing for thing in gc.garbage if isinstance(thing, Exception)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    ended = {code for _, _, code, _ in house.metrics.named("poll_ended")}
    assert ended == {None, "RPC_INVALID_RESPONSE", "RPC_DISCONNECT", "RPC_TIMEOUT"}
    assert kept == []


@virtual
async def test_values_from_disk_are_published_as_restored_until_the_backend_answers() -> None:
    saved = SavedValue("a.status", "", b'{"n":1}', 1_794_999_000.0)
    store = MemoryStore([saved])
    house = House(source(), store=store)
    house.backend.fail(Disconnected("refused"))
    async with house.supervisor.running():
        assert [(d.data, d.stale, d.error_code, d.as_of) for d in house.of("a.status")] == [
            (Raw(b'{"n":1}'), True, "RESTORED", saved.as_of)
        ]
        await asyncio.sleep(1.5)
        assert store.values["a.status", ""] == saved, "an error never replaces a value"
        house.backend.script = lambda call: {"n": 2}
        house.backend.recover()
        await asyncio.sleep(INTERVAL_S)
    assert house.of("a.status")[-1].stale is False
    assert store.values["a.status", ""].data == b'{"n":2}'


@virtual
async def test_readiness_waits_for_every_first_attempt_and_tells_a_dead_backend_as_degraded() -> None:
    house = House(source("a.status"), source("b.status", interval_s=60.0))
    house.backend.fail(Disconnected("refused"))
    async with house.supervisor.running():
        assert house.supervisor.readiness().status == "starting"
        await asyncio.sleep(1.5)
        readiness = house.supervisor.readiness()
        assert (readiness.status, readiness.stale) == ("degraded", 2)
        house.backend.recover()
        await asyncio.sleep(61.0)
        assert house.supervisor.readiness().status == "ready"
        house.gateway.clients.draining = True
        assert house.supervisor.readiness().status == "draining"


@virtual
async def test_an_operator_forces_a_breaker_open_and_resets_it() -> None:
    house = House(source())
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        forced = await house.supervisor.command("engine", "force-open", by="ops")
        assert (forced.state.value, forced.forced) == ("open", True)
        house.backend.exchanges.clear()
        await asyncio.sleep(100.0)
        assert not house.backend.exchanges
        stale = house.of("a.status")[-1]
        assert (stale.stale, stale.error_code) == (True, "CIRCUIT_BREAKER_OPEN")
        reset = await house.supervisor.command("engine", "reset", by="ops")
        assert (reset.state.value, reset.forced) == ("closed", False)
        await asyncio.sleep(INTERVAL_S + 1)
    assert house.of("a.status")[-1].stale is False
    assert house.states() == ["closed", "open", "closed"]


@virtual
async def test_a_command_reaches_a_breaker_whatever_its_name() -> None:
    house = House(source("a.status", breaker="any/name at all"))
    async with house.supervisor.running():
        forced = await house.supervisor.command("any/name at all", "force-open", by="ops")
    assert (forced.name, forced.state.value) == ("any/name at all", "open")


@virtual
async def test_what_an_operator_does_is_in_the_audit_log_and_told_to_everybody() -> None:
    house = House(source())
    house.backend.fail(Disconnected("refused"))
    with capture_logs() as lines:
        async with house.supervisor.running():
            await asyncio.sleep(1.5)
            for action in ("force-open", "force-closed", "force-closed", "reset"):
                await house.supervisor.command("engine", action, by="ops at 192.0.2.7")
            await house.supervisor.command("engine", "force-closed", by="ops at 192.0.2.7")
            await asyncio.sleep(10 * INTERVAL_S)
    audit = [(line["action"], line["breaker"], line["by"]) for line in lines if line["event"] == "operator command"]
    actions = ["force-open", "force-closed", "force-closed", "reset", "force-closed"]
    assert audit == [(action, "engine", "ops at 192.0.2.7") for action in actions]
    moves = [msgspec.json.decode(draft.data) for draft in house.of("circuit_breaker.state")]
    assert [(move["state"], move["from"], move["reason"], move["forced"]) for move in moves] == [
        ("closed", None, "start", False),
        ("open", "closed", "force_open", True),
        ("closed", "open", "force_closed", True),
        ("closed", "closed", "reset", False),
        ("closed", "closed", "force_closed", True),
    ]
    assert len(house.backend.exchanges) > 10, "held closed, it is asked at every tick, whatever becomes of it"


@virtual
async def test_names_that_nobody_has_are_told_with_those_that_there_are() -> None:
    house = House(source())
    with pytest.raises(UnknownName, match=r"\(engine\), got 'x'"):
        house.supervisor.breaker("x")
    with pytest.raises(UnknownName, match="force-open, force-closed, reset"):
        await house.supervisor.command("engine", "explode", by="ops")
    with pytest.raises(UnknownName, match="backend"):
        await house.supervisor.poll("x")


@virtual
async def test_a_hint_polls_at_once() -> None:
    house = House(source(interval_s=3600.0))
    async with house.supervisor.running():
        await asyncio.sleep(2.0)
        house.backend.exchanges.clear()
        await house.supervisor.poll("engine")
        await asyncio.sleep(0.01)
        assert len(house.backend.exchanges) == 1


@virtual
async def test_any_number_of_hints_during_a_call_lead_to_one_more_after_it() -> None:
    """The answer that is under way may be older than the change."""
    house = House(source(interval_s=3600.0))
    async with house.supervisor.running():
        await asyncio.sleep(2.0)
        house.backend.exchanges.clear()
        house.backend.delay_s = 1.0
        await house.supervisor.poll("engine")
        await asyncio.sleep(0.5)
        for _ in range(1000):
            await house.supervisor.poll("engine", only=["a.status"])
        assert len(house.backend.exchanges) == 1
        await asyncio.sleep(10.0)
    first, second = times(house.backend)
    assert second - first == pytest.approx(1.0, abs=0.01)


@virtual
async def test_hints_before_a_call_is_sent_lead_to_no_more() -> None:
    house = House(source("a.status", interval_s=3600.0), source("b.status", interval_s=3600.0), connections=1)
    async with house.supervisor.running():
        await asyncio.sleep(2.0)
        house.backend.exchanges.clear()
        house.backend.delay_s = 1.0
        await house.supervisor.poll("engine", only=["a.status"])
        await asyncio.sleep(0.5)
        for _ in range(3):  # it waits for the one connection
            await house.supervisor.poll("engine", only=["b.status"])
            await asyncio.sleep(0.1)
        await asyncio.sleep(10.0)
    assert [exchange.methods for exchange in house.backend.exchanges] == [["a.status"], ["b.status"]]


@virtual
async def test_a_hint_for_one_source_asks_no_other() -> None:
    house = House(source("a.status", interval_s=3600.0), source("b.status", interval_s=3600.0))
    async with house.supervisor.running():
        await asyncio.sleep(2.0)
        house.backend.exchanges.clear()
        await house.supervisor.poll("engine", only=["b.status", "b.status"])
        with pytest.raises(UnknownName, match=r"a source of 'engine' \(a.status, b.status\), got 'c.status'"):
            await house.supervisor.poll("engine", only=["a.status", "c.status"])
        await asyncio.sleep(1.0)
    assert [exchange.methods for exchange in house.backend.exchanges] == [["b.status"]]


@virtual
async def test_time_alone_makes_a_value_too_old_to_show() -> None:
    house = House(source(interval_s=100.0, max_stale_s=130.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        await asyncio.sleep(150.0)
    (when, expired), *rest = [(at, draft) for at, draft in house.published if draft.expired]
    assert not rest
    assert (expired.data, expired.stale) == (Raw(b"null"), True)
    assert when == pytest.approx(times(house.backend)[0] + 130.0, abs=0.01)


@virtual
async def test_after_a_reset_the_sources_with_old_data_are_asked_evenly_spaced_without_waiting_for_their_ticks() -> (
    None
):
    house = House(*(source(f"s{n}.status", interval_s=1000.0) for n in range(4)))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("gone"))
        await house.supervisor.poll("engine")
        await asyncio.sleep(0.2)
        house.backend.recover()
        await house.supervisor.command("engine", "force-open", by="ops")
        house.backend.exchanges.clear()
        await asyncio.sleep(1.0)
        await house.supervisor.command("engine", "reset", by="ops")
        await asyncio.sleep(990.0)
    came = times(house.backend)
    assert len(came) == 4
    # One call at first: the second waits for the first answer, which takes 0.1 s. Then 20 a second.
    assert [b - a for a, b in itertools.pairwise(came)] == pytest.approx([0.1, 0.051, 0.051], abs=0.01)


@virtual
async def test_snapshots_of_an_unchanged_value_carry_the_newer_as_of() -> None:
    house = House(source(on_change=True))
    async with house.supervisor.running():
        await asyncio.sleep(3 * INTERVAL_S)
        (snapshot,) = snapshots_of(house.gateway, "a.status")
    (event,) = house.of("a.status")
    assert event.as_of is not None
    shown = from_rfc3339(msgspec.json.decode(snapshot)["as_of"])
    assert shown == pytest.approx(event.as_of + 2 * INTERVAL_S, abs=0.01)


@virtual
async def test_the_probe_is_not_spent_on_a_source_whose_account_is_refused() -> None:
    house = House(source("a.status"), source("b.status", interval_s=4.0))
    house.backend.script = lambda call: HttpStatus(401, "who") if call.method == "a.status" else Disconnected("no")
    async with house.supervisor.running():
        while "half_open" not in house.states():
            await asyncio.sleep(1.0)
        house.backend.script = lambda call: 1
        await asyncio.sleep(100.0)
    assert house.states()[-1] == "closed"


@virtual
async def test_one_line_says_that_a_source_fails_and_one_that_it_is_back() -> None:
    house = House(source())
    with capture_logs() as lines:
        async with house.supervisor.running():
            await asyncio.sleep(1.5)
            house.backend.fail(Disconnected("refused"))
            await asyncio.sleep(2 * INTERVAL_S)
            house.backend.recover()
            await asyncio.sleep(2 * INTERVAL_S)
    failing = [line for line in lines if line["event"] == "source failing"]
    recovered = [line for line in lines if line["event"] == "source recovered"]
    assert [(line["type"], line["error_code"]) for line in failing] == [("a.status", "RPC_DISCONNECT")]
    assert [(line["type"], line["failures"]) for line in recovered] == [("a.status", 2)]
