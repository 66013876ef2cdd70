"""A bus that is slow or fails: what is published is in the order of decisions, and nothing that matters is lost.

`judge` reads what was published as a client would, and knows nothing of how it came about.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from fanout import snapshots_of
from house import INTERVAL_S, TIMEOUT_S, HardBus, House, source, times, virtual
from structlog.testing import capture_logs

from tidegate.core.events import Draft
from tidegate.core.instant import from_rfc3339
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.shaping import Shape
from tidegate.errors import BusError, BusRefused, BusUnknown, Disconnected, HttpStatus
from tidegate.runtime.lanes import RETRY_S
from tidegate.runtime.poller import BackendPoller
from tidegate.runtime.supervisor import Supervisor

RULES = BreakerRules(failure_threshold=2, open_s=1.0, open_max_s=4.0, half_open_successes=2)
BREAKERS = {"a.x": "engine", "b.x": "engine", "c.x": "engine/c.x", "d.x": "engine"}
ITEM = {"id": "1", "v": 0}

Fails = Callable[[], BusError | None]


def judge(house: House) -> None:
    """No hole in a breaker's trail, nothing fresh behind one that isn't closed, no news twice, and the end is true."""
    states: dict[str, str | None] = dict.fromkeys(BREAKERS.values())
    told: dict[tuple[str, str | None], object] = {}
    held: dict[tuple[str, str | None], msgspec.Raw | None] = {}
    for at, draft in house.published:
        match draft.type:
            case "circuit_breaker.state":
                move = msgspec.json.decode(draft.data)
                assert move["from"] == states[move["breaker"]], f"{at}: a hole in the trail: {move}"
                states[move["breaker"]] = move["state"]
            case "source.freshness":
                known = msgspec.json.decode(draft.data)
                said: object = known["stale"], known["as_of"] is None, known["error_code"]
                assert told.get((draft.type, draft.key)) != said, f"{at}: said twice: {known}"
                told[draft.type, draft.key] = said
            case "a.x" | "b.x" | "c.x" | "d.x":
                assert draft.stale or states[BREAKERS[draft.type]] == "closed", f"{at}: fresh behind an open breaker"
                said = draft.stale, draft.error_code, draft.cause, draft.as_of
                name = draft.type, draft.key
                assert not draft.stale or told.get(name) != said, f"{at}: stale twice: {said}"
                told[name] = said
                held[name] = None if draft.gone else draft.data
    for breaker in house.supervisor.breakers():
        assert states[breaker.name] == breaker.state.value
    for view in house.supervisor.sources():
        newest = house.of(view.type)[-1]
        assert newest.stale is view.stale
        assert house.freshness(view.type)["stale"] is view.stale
        snapshots = shown(house, view.type)
        assert [msgspec.json.decode(data) for (name, _), data in held.items() if data and name == view.type] == [
            snapshot["data"] for snapshot in snapshots
        ]
        assert [snapshot["data"] for snapshot in snapshots] == ([ITEM] if view.type == "d.x" else [1])
        for snapshot in snapshots:
            assert view.as_of is not None
            assert 0.0 <= view.as_of - from_rfc3339(snapshot["as_of"]) + 0.001 < 2.0, "of one of the last answers"


def shown(house: House, event_type: str) -> list[dict[str, Any]]:
    """What a new client is given of a type."""
    return [msgspec.json.decode(each) for each in snapshots_of(house.gateway, event_type)]


async def ups_and_downs(house: House, seed: int, *, minutes: float) -> None:
    """A backend of which each source fails now and then, some by themselves and some with the others."""
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    ends = loop.time() + 60 * minutes
    while loop.time() < ends:
        broken = rng.choice([(), (), ("a.x",), ("c.x",), ("a.x", "b.x"), ("a.x", "b.x", "c.x", "d.x")])
        error = rng.choice([Disconnected("refused"), HttpStatus(500, "500"), HttpStatus(401, "401")])
        house.backend.script = lambda call, broken=broken, error=error: (
            error if call.method in broken else answer(call.method, rng)
        )
        house.backend.delay_s = rng.choice([0.001, 0.02, 0.1, TIMEOUT_S + 1.0])
        await asyncio.sleep(rng.uniform(0.5, 6.0))
    house.backend.delay_s = 0.1
    house.backend.script = lambda call: [ITEM] if call.method == "d.x" else 1


def answer(method: str, rng: random.Random) -> object:
    """Numbers that are new each time or mostly not; and items that come and go."""
    match method:
        case "b.x":
            return rng.choice([1, 1, 1, 2])
        case "d.x":
            return [ITEM, *({"id": key, "v": rng.randint(1, 2)} for key in "KLM" if rng.random() < 0.5)]
        case _:
            return rng.random()


MINUTES = 1.5
WELL_AFTER_S = 25.0
"""How long after the last trouble of the backend the bus has its last."""


def live(
    bus: Callable[[list[tuple[float, Draft]]], HardBus], *, batch: bool, seed: int, minutes: float = MINUTES
) -> House:
    plans = [
        source(
            name,
            interval_s=interval_s,
            breaker=breaker,
            stale_repeat=False,
            on_change=name == "b.x",
            shape=Shape(items=("",), key=(("id",),)) if name == "d.x" else None,
        )
        for (name, breaker), interval_s in zip(BREAKERS.items(), (0.5, 1.0, 0.7, 0.9), strict=True)
    ]
    houses = []

    @virtual
    async def run() -> None:
        house = House(*plans, batch=batch, breaker=RULES, bus=bus)
        houses.append(house)
        with capture_logs():  # thousands of lines that nobody reads
            async with house.supervisor.running():
                await ups_and_downs(house, seed, minutes=minutes)
                await asyncio.sleep(30.0)
                judge(house)
                assert all(view.is_closed for view in house.supervisor.breakers())
                assert not any(view.stale for view in house.supervisor.sources())

    run()
    return houses[0]


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_bus_that_takes_up_to_50_ms_changes_nothing_but_when(seed: int, batch: bool) -> None:
    rng = random.Random(f"bus {seed}")
    house = live(lambda to: HardBus(to, delay_s=lambda: rng.uniform(0.0, 0.05)), batch=batch, seed=seed)
    assert len(house.states()) > 6


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("kind", [BusRefused, BusUnknown])
@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_a_bus_that_fails_now_and_then_loses_nothing(
    kind: type[BusError], seed: int, *, batch: bool, slow: bool
) -> None:
    rng = random.Random(f"bus {seed}")

    def fails() -> BusError | None:
        # Not in the end, so that what is held then is of one of the last answers however the dice fall.
        is_over = asyncio.get_running_loop().time() > 60 * MINUTES + WELL_AFTER_S
        return kind("now and then") if rng.random() < 0.3 and not is_over else None

    def delay_s() -> float:
        return rng.uniform(0.0, 0.05) if slow else 0.0

    house = live(
        lambda to: HardBus(to, delay_s=delay_s, fails=fails, stores=rng.random() < 0.5), batch=batch, seed=seed
    )
    assert len(house.states()) > 6


def once(error: BusError, number: int) -> Fails:
    """The publish of this `number`, from 0, fails with `error`."""
    left = [*(None for _ in range(number)), error]
    return lambda: left.pop(0) if left else None


@pytest.mark.parametrize("number", range(1, 12))
@pytest.mark.parametrize("delay_s", [0.0, 0.03])
def test_a_publish_that_is_refused_once_leaves_no_hole_and_loses_no_stale_event(number: int, delay_s: float) -> None:
    @virtual
    async def run() -> None:
        plans = [source(name, interval_s=1.0, stale_repeat=False) for name in ("a.x", "b.x")]
        house = House(
            *plans,
            breaker=RULES,
            bus=lambda to: HardBus(to, delay_s=lambda: delay_s, fails=once(BusRefused("full"), number)),
        )
        async with house.supervisor.running():
            await asyncio.sleep(1.2)
            house.backend.fail(Disconnected("refused"))
            await asyncio.sleep(1.9)
            house.backend.recover()
            await asyncio.sleep(12.0)
            judge_pair(house)

    def judge_pair(house: House) -> None:
        assert (house.states()[0], house.states()[1], house.states()[-1]) == ("closed", "open", "closed")
        for name in ("a.x", "b.x"):
            stale = [(draft.error_code, draft.cause, draft.as_of) for draft in house.of(name) if draft.stale]
            assert len(stale) == len(set(stale)), "each reason once for each answer"
            assert ("CIRCUIT_BREAKER_OPEN", "RPC_DISCONNECT") in house.stale(name)
            assert house.of(name)[-1].stale is False
        moves = [msgspec.json.decode(draft.data) for draft in house.of("circuit_breaker.state")]
        assert [move["from"] for move in moves] == [None, *(move["state"] for move in moves[:-1])]

    run()


@virtual
async def test_what_is_refused_is_said_half_a_second_later_though_nothing_else_happens() -> None:
    refusals = [BusRefused("full")]
    house = House(
        source("a.x", interval_s=3600.0),
        source("b.x", interval_s=3600.0),
        bus=lambda to: HardBus(to, fails=lambda: refusals.pop() if refusals and failing else None),
    )
    failing = False
    async with house.supervisor.running():
        await asyncio.sleep(2.0)
        failing = True
        began = asyncio.get_running_loop().time()
        await house.supervisor.command("engine", "force-open", by="ops")
        assert house.states() == ["closed"]
        await asyncio.sleep(1.0)
    said = [(at, draft.type) for at, draft in house.published if at > began]
    assert [event_type for _, event_type in said[:2]] == ["circuit_breaker.state", "a.x"]
    assert [at for at, _ in said] == pytest.approx([began + 0.5] * len(said), abs=0.001)
    assert house.of("b.x")[-1].stale


@virtual
async def test_a_bus_that_is_gone_for_ten_seconds_is_told_the_truth_as_it_is_then() -> None:
    """The answers of that time are lost, and so are the moves that clients never heard of: but not in their trail."""
    gone = False
    house = House(
        source("a.x", interval_s=1.0, stale_repeat=False),
        breaker=RULES,
        bus=lambda to: HardBus(to, fails=lambda: BusRefused("gone") if gone else None),
    )
    async with house.supervisor.running():
        await asyncio.sleep(2.0)
        gone = True
        house.backend.fail(Disconnected("refused"))
        heard = len(house.published)
        await asyncio.sleep(10.0)
        assert len(house.published) == heard
        gone = False
        await asyncio.sleep(1.0)
        assert house.states()[:2] == ["closed", "open"]
        assert house.of("a.x")[-1].error_code == "CIRCUIT_BREAKER_OPEN"
        await asyncio.sleep(5.0)
        house.backend.recover()
        await asyncio.sleep(20.0)
    moves = [msgspec.json.decode(draft.data) for draft in house.of("circuit_breaker.state")]
    assert [move["from"] for move in moves] == [None, *(move["state"] for move in moves[:-1])]
    assert moves[-1]["state"] == "closed"
    assert house.of("a.x")[-1].stale is False
    errors = [msgspec.json.decode(draft.data) for draft in house.of("rpc_error")]
    assert errors, "that it fails is told as soon as it can be"
    assert errors[0]["suppressed"] == errors[0]["consecutive_failures"] - 1


@virtual
async def test_while_the_bus_is_stuck_nobody_is_polled_and_nothing_is_repeated() -> None:
    silent = False
    house = House(
        source("a.x", interval_s=1.0),
        source("b.x", interval_s=INTERVAL_S),
        breaker=RULES,
        bus=lambda to: HardBus(to, fails=lambda: BusUnknown("no answer") if silent else None, stores=True),
    )
    async with house.supervisor.running():
        await asyncio.sleep(2.0)
        silent = True
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(60.0)
        asked = [at - began for at in times(house.backend) if at > began]
        assert 3 <= len(asked) <= 8, "until the time-out of a publish, 5 s, has passed"
        assert max(asked) < 7.0
        missed = house.supervisor.sources()[0].missed_ticks
        assert missed > 40
        told = len(house.published)
        silent = False
        await asyncio.sleep(3.0)
        said = house.published[told:]
        assert [draft.error_code for _, draft in said if draft.type == "b.x"][:1] == ["OVERDUE"]
        assert len([draft for _, draft in said if draft.type == "a.x"]) <= 12
        assert len(times(house.backend)) > len(asked) + 2
    assert house.of("a.x")[-1].stale is False


class Silence:
    """A bus on which every outcome is unknown while it is `on`, and nothing is published."""

    def __init__(self, *, on: bool = False) -> None:
        self.on = on

    def bus(self, published: list[tuple[float, Draft]]) -> HardBus:
        return HardBus(published, fails=lambda: BusUnknown("no answer") if self.on else None)


@virtual
async def test_a_probe_that_waited_for_a_stuck_bus_goes_out_when_the_bus_is_back() -> None:
    silence = Silence()
    rules = BreakerRules(failure_threshold=1, open_s=10.0, open_max_s=10.0)
    house = House(source("a.x", interval_s=300.0), breaker=rules, bus=silence.bus)
    loop = asyncio.get_running_loop()
    async with house.supervisor.running():
        await asyncio.sleep(3.0)
        silence.on = True
        house.backend.fail(Disconnected("refused"))
        house.poller.poll_now(["a.x"])
        await asyncio.sleep(1.0)
        house.backend.recover()
        house.backend.exchanges.clear()
        await asyncio.sleep(15.0)
        assert not house.backend.exchanges
        silence.on = False
        back = loop.time()
        await asyncio.sleep(2.0)
        assert [at - back <= RETRY_S + 0.001 for at in times(house.backend)[:1]] == [True]
    assert house.states() == ["closed", "open", "half_open", "closed"]


@pytest.mark.parametrize("refused", [False, True])
def test_turns_that_waited_for_a_stuck_bus_begin_at_its_first_answer(refused: bool) -> None:
    @virtual
    async def run() -> None:
        await turns_begin_at_the_first_answer(refused=refused)

    run()


async def turns_begin_at_the_first_answer(*, refused: bool) -> None:
    answer: list[BusError | None] = []
    silent = False
    house = House(
        source("a.x", interval_s=600.0),
        source("b.x", interval_s=590.0),
        bus=lambda to: HardBus(to, fails=lambda: BusUnknown("x") if silent else answer.pop() if answer else None),
    )
    async with house.supervisor.running():
        await asyncio.sleep(3.0)
        silent = True
        house.poller.poll_now(["a.x"])
        await asyncio.sleep(8.0)
        house.poller.poll_now(["a.x", "b.x"])
        await asyncio.sleep(1.0)
        house.backend.exchanges.clear()
        if refused:
            answer.append(BusRefused("full"))
        silent = False
        await asyncio.sleep(2.0)
        assert sorted(method for exchange in house.backend.exchanges for method in exchange.methods) == ["a.x", "b.x"]


@virtual
async def test_a_bus_that_answers_does_not_wake_the_poller_for_each_publish() -> None:
    house = House(source("a.x", interval_s=1.0), bus=lambda to: HardBus(to, delay_s=lambda: 0.3))
    async with house.supervisor.running():
        await asyncio.sleep(2.0)
        ticks = 0
        tick = house.poller._state.tick

        def counted(*given: Any, **named: Any) -> Any:
            nonlocal ticks
            ticks += 1
            return tick(*given, **named)

        house.poller._state.tick = counted  # type: ignore[method-assign]
        await asyncio.sleep(10.0)
    assert ticks == 20, "when it is due, and when the call has ended"


@virtual
async def test_a_command_on_a_silent_bus_takes_effect_and_is_answered_in_time() -> None:
    silence = Silence()
    house = House(source("a.x", interval_s=1.0), bus=silence.bus)
    loop = asyncio.get_running_loop()
    async with house.supervisor.running():
        await asyncio.sleep(3.0)
        silence.on = True
        began = loop.time()
        with capture_logs() as lines:
            async with asyncio.timeout(60.0):
                view = await house.supervisor.command("engine", "force-open", by="ops")
        assert loop.time() - began == pytest.approx(house.gateway.options.publish_timeout_s)
        assert (view.state.value, view.forced) == ("open", True)
        assert [line["what"] for line in lines if line["event"] == "bus does not answer: published later"] == [
            "force-open"
        ]
        assert house.states() == ["closed"]
        silence.on = False
        await asyncio.sleep(1.0)
        assert house.states() == ["closed", "open"]


@virtual
async def test_a_silent_bus_does_not_keep_the_gateway_from_starting_however_many_backends_there_are() -> None:
    silence = Silence(on=True)
    house = House(source("a.x", interval_s=1.0), bus=silence.bus)
    others = [
        BackendPoller(
            msgspec.structs.replace(house.poller._plan, name=name, sources=[source(f"{name}.x", breaker=name)]),
            backend=house.backend,
            gateway=house.gateway,
            clock=house.clock,
            metrics=house.metrics,
            store=None,
            rng=random.Random(7),
        )
        for name in ("b", "c")
    ]
    supervisor = Supervisor(house.gateway, [house.poller, *others], store=None)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(60.0), supervisor.running():
        assert loop.time() - began == pytest.approx(house.gateway.options.publish_timeout_s)
        await asyncio.sleep(10.0)
        silence.on = False
        await asyncio.sleep(3.0)
        assert house.states() == ["closed"] * 3
        assert all(house.of(f"{name}.x")[-1].stale is False for name in "abc")


@virtual
async def test_while_the_bus_is_silent_snapshots_say_what_age_has_made_stale() -> None:
    silent = False
    house = House(
        source("a.x", interval_s=1.0),
        bus=lambda to: HardBus(to, fails=lambda: BusUnknown("no answer") if silent else None),
    )
    async with house.supervisor.running():
        await asyncio.sleep(3.0)
        silent = True
        await asyncio.sleep(60.0)
        (known,) = shown(house, "a.x")
        (verdict,) = shown(house, "source.freshness")
    assert (known["stale"], known["error_code"]) == (True, "OVERDUE")
    assert verdict["data"]["stale"] is True


@virtual
async def test_a_value_that_was_refused_is_not_lost_to_a_tick_before_its_repetition() -> None:
    """A call takes longer than the interval: there is a tick between the refusal and the next answer."""
    refusals: list[BusError] = []
    house = House(
        source("a.x", interval_s=0.3, on_change=True),
        source("j.x", interval_s=0.3, shape=Shape(items=("",), key=(("id",),))),
        bus=lambda to: HardBus(to, fails=lambda: refusals.pop() if refusals else None),
    )
    held: dict[str, object] = {"a.x": 1, "j.x": [{"id": "1"}, {"id": "K"}]}
    house.backend.script = lambda call: held[call.method]
    house.backend.delay_s = 0.45
    async with house.supervisor.running():
        await asyncio.sleep(3.0)
        held |= {"a.x": 2, "j.x": [{"id": "1"}]}
        refusals += [BusRefused("full"), BusRefused("full")]
        await asyncio.sleep(10.0)
        assert not refusals
        assert [event["data"] for event in shown(house, "a.x")] == [2]
        assert [event["data"] for event in shown(house, "j.x")] == [{"id": "1"}]
