"""`POST /api/v1/backends/{name}/poll` while the breaker is open: always 202, and a backend is not flooded by it."""

import aiohttp
import pytest

from tidegate.errors import BackendError, Disconnected, HttpStatus
from tidegate.testing import RunningGateway, ScriptedBackend, gateway

CONFIG = {
    "backends": {"engine": {"breaker": {"failure_threshold": 1, "open_s": 60.0, "open_max_s": 60.0}}},
    "sources": {"system.status": {"backend": "engine", "method": "status", "interval_s": 60.0}},
}
POKES = 20


async def poked(running: RunningGateway) -> list[tuple[int, object]]:
    """Ask for a poll `POKES` times. Return the status and the body of each answer."""
    async with aiohttp.ClientSession() as http:
        answers = []
        for _ in range(POKES):
            async with http.post(f"{running.url}/api/v1/backends/engine/poll") as answer:
                answers.append((answer.status, await answer.json()))
        return answers


ACCEPTED = [(202, {"backend": "engine"})] * POKES


async def test_one_of_many_pokes_asks_a_backend_that_is_down() -> None:
    backend = ScriptedBackend({"status": 1})
    async with gateway(CONFIG, backends={"engine": backend}) as running, running.follow("circuit_breaker.*") as events:
        backend.fail(Disconnected("the cable is out"))
        await running.poll("engine")
        while (await events.next()).data["state"] != "open":
            pass
        before = len(backend.exchanges)
        assert await poked(running) == ACCEPTED
        assert len(backend.exchanges) <= before + 1


async def test_no_poke_asks_behind_a_breaker_that_is_forced_open() -> None:
    backend = ScriptedBackend({"status": 1})
    async with gateway(CONFIG, backends={"engine": backend}) as running:
        await running.command("engine", "force-open")
        before = len(backend.exchanges)
        assert await poked(running) == ACCEPTED
        assert len(backend.exchanges) == before
        [breaker] = running.app.supervisor.breakers()
        assert (breaker.state, breaker.forced, len(breaker.history)) == ("open", True, 2)


@pytest.mark.parametrize(
    "failure", [HttpStatus(429, "slow down", retry_after_s=60.0), HttpStatus(503, "slow down", retry_after_s=60.0)]
)
async def test_no_poke_asks_a_backend_that_asked_for_a_pause(failure: BackendError) -> None:
    backend = ScriptedBackend({"status": 1})
    async with gateway(CONFIG, backends={"engine": backend}) as running, running.follow("circuit_breaker.*") as events:
        backend.fail(failure)
        await running.poll("engine")
        while (await events.next()).data["state"] != "open":
            pass
        before = len(backend.exchanges)
        assert await poked(running) == ACCEPTED
        assert len(backend.exchanges) == before
