"""Another plan for a poller that runs: calls under way, another session, and the end."""

import asyncio

import msgspec
from house import TIMEOUT_S, House, source, virtual

from tidegate.core.polling.call import Call
from tidegate.errors import Disconnected


@virtual
async def test_a_source_that_is_asked_otherwise_is_stale_until_the_answer_to_the_new_question() -> None:
    house = House(source("a.x"), source("b.x"))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.delay_s = 0.5
        plan = house.poller._plan
        first, second = plan.sources
        other = msgspec.structs.replace(first, call=Call("other"))
        house.poller.replan(msgspec.structs.replace(plan, sources=(other, second)))
        assert [(draft.stale, draft.error_code) for draft in house.of("a.x")[1:]] == [(True, "RELOADED")]
        await asyncio.sleep(0.6)
        assert house.backend.exchanges[-1].methods == ["other"]
        assert [draft.stale for draft in house.of("a.x")[2:]] == [False]
        assert len(house.of("b.x")) == 1, "nothing happens to the other"


@virtual
async def test_in_another_session_calls_under_way_are_given_up_and_everybody_is_asked_anew() -> None:
    house = House(source("a.x"), source("b.x"), connections=1)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        await asyncio.sleep(30.0)
        assert house.states()[-1] != "closed"
        house.backend.recover()
        house.backend.delay_s = TIMEOUT_S - 0.1
        house.poller.poll_now(["a.x", "b.x"])
        await asyncio.sleep(0.1)
        house.backend.delay_s = 0.0
        house.poller.replan(house.poller._plan, backend=house.backend)
        assert house.states()[-1] == "closed"
        await asyncio.sleep(1.0)
        assert not any(view.stale for view in house.supervisor.sources()), "the connection is free at once"


@virtual
async def test_a_retired_poller_tells_that_everything_is_gone_and_ends() -> None:
    house = House(source("a.x"), source("b.x"))
    running = None
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.poller.retire()
        gone = {(draft.type, draft.key) for name in ("a.x", "b.x") for draft in house.of(name) if draft.gone}
        gone |= {(draft.type, draft.key) for draft in house.of("source.freshness") if draft.gone}
        gone |= {(draft.type, draft.key) for draft in house.of("circuit_breaker.state") if draft.gone}
        assert gone == {
            ("a.x", None),
            ("b.x", None),
            ("source.freshness", "a.x"),
            ("source.freshness", "b.x"),
            ("circuit_breaker.state", "engine"),
        }
        running = asyncio.create_task(house.poller.run())
        await asyncio.sleep(1.0)
        assert running.done()
