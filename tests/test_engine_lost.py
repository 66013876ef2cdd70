"""The engine is killed, stopped, or not there yet; gateway, connection and page go on, and say so. All of it real.

How soon each thing is noticed is held to the bounds of the contract in virtual time (`tests/simulation`); here nothing
is measured but what comes, and in which order.
"""

import json
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from programs import PATIENCE_S, Program, tidegate, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as open_websocket

from tidegate.cli.engine_process import free_port

pytestmark = pytest.mark.real

SOURCES = {"system.status", "storage.update"}
CONFIG = """
[server]
port = 0

[backends.engine]
url = "http://127.0.0.1:%d/rpc"
timeout_s = 0.6

[backends.engine.breaker]
open_s = 0.5
open_max_s = 1.0

[sources."system.status"]
backend = "engine"
method = "system.status"
interval_s = 0.8

[sources."storage.update"]
backend = "engine"
method = "storage.status"
interval_s = 0.8
"""

READY = (200, {"status": "ready"})
DEGRADED = (200, {"status": "degraded", "stale": 2})

Frame = dict[str, Any]


class Scene:
    """A gateway, the engine that it polls on a port of its own, and a client of everything since before all else."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._port = free_port(preferred=0)
        self._config = folder / "tidegate.toml"
        self._config.write_text(CONFIG % self._port)
        self.frames: list[Frame] = []

    def start_engine(self) -> Program:
        engine = self._stack.enter_context(tidegate("engine", "--port", str(self._port), "--state-dir", ""))
        until(lambda: any("engine listening" in line["event"] for line in engine.log), what=engine.err)
        return engine

    def start_gateway(self) -> Program:
        self.gateway = self._stack.enter_context(tidegate("serve", "--config", str(self._config)))
        self._stack.enter_context(self._listening())
        return self.gateway

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body."""
        try:
            with urllib.request.urlopen(self.gateway.url + path, timeout=PATIENCE_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)

    def of(self, event_type: str, *, since: int = 0) -> list[Frame]:
        """Live events of a type, from the frame of that number on."""
        return [it for it in list(self.frames)[since:] if it["type"] == event_type and "snapshot" not in it]

    def breaker_states(self, *, since: int = 0) -> list[str]:
        return [event["data"]["state"] for event in self.of("circuit_breaker.state", since=since)]

    def until_fresh(self, *, since: int) -> None:
        """Every source has had a fresh event."""
        until(
            lambda: {it["type"] for it in list(self.frames)[since:] if it.get("stale") is False} >= SOURCES,
            what=self.gateway.err,
        )

    @contextmanager
    def _listening(self) -> Iterator[None]:
        with open_websocket(self.gateway.url.replace("http", "ws", 1) + "/ws?types=*") as client:

            def listen() -> None:
                try:
                    for text in client:
                        self.frames.append(json.loads(text))
                except ConnectionClosed:
                    pass

            thread = threading.Thread(target=listen)
            thread.start()
            try:
                yield
            finally:
                client.close()
                thread.join()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, tmp_path)


def kill(scene: Scene, engine: Program) -> Callable[[], object]:
    engine.signal(signal.SIGKILL)
    engine.wait()
    return scene.start_engine


def stop(scene: Scene, engine: Program) -> Callable[[], object]:
    del scene
    engine.signal(signal.SIGSTOP)
    return lambda: engine.signal(signal.SIGCONT)


@pytest.mark.parametrize(("hurt", "code"), [(kill, "RPC_DISCONNECT"), (stop, "RPC_TIMEOUT")])
def test_an_engine_that_was_hurt_and_healed(
    scene: Scene, hurt: Callable[[Scene, Program], Callable[[], object]], code: str
) -> None:
    engine = scene.start_engine()
    gateway = scene.start_gateway()
    scene.until_fresh(since=0)
    assert scene.get("/readyz") == READY

    heal = hurt(scene, engine)
    until(lambda: "open" in scene.breaker_states(), what=gateway.err)
    until(lambda: {it["type"] for it in scene.frames if it.get("error_code") == "CIRCUIT_BREAKER_OPEN"} == SOURCES)
    assert_told(scene, code)
    assert scene.get("/readyz") == DEGRADED
    until(lambda: agrees(scene), what=scene.frames[-3:])

    healed_at = len(scene.frames)
    heal()
    until(lambda: scene.breaker_states()[-1:] == ["closed"], what=gateway.err)
    scene.until_fresh(since=healed_at)
    until(lambda: scene.get("/readyz") == READY)
    assert agrees(scene)
    states = scene.breaker_states()
    assert states[0] == "open"
    assert states[1:-1] == ["half_open", "open"] * ((len(states) - 3) // 2) + ["half_open"]
    assert len(scene.of("rpc_error")) == len(SOURCES)
    seqs = [frame["seq"] for frame in scene.frames if "seq" in frame and "snapshot" not in frame]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert gateway.process.poll() is None


def assert_told(scene: Scene, code: str) -> None:
    """Once per source why, then the last good data again and again, and the breaker after five failures."""
    errors = scene.of("rpc_error")
    assert {error["data"]["source"] for error in errors} == SOURCES
    assert [(it["data"]["error_code"], it["data"]["consecutive_failures"]) for it in errors] == [(code, 1)] * 2
    for event_type in SOURCES:
        events = scene.of(event_type)
        first = next(number for number, event in enumerate(events) if event["stale"])
        last_good = events[first - 1]
        # On a busy machine a value may be overdue just before its renewal times out.
        stale = [event for event in events[first:] if event["error_code"] != "OVERDUE"]
        assert stale[0]["error_code"] == code
        assert {event["error_code"] for event in stale} == {code, "CIRCUIT_BREAKER_OPEN"}
        assert all((event["data"], event["as_of"]) == (last_good["data"], last_good["as_of"]) for event in stale)
        while_open = [event for event in stale if event["error_code"] == "CIRCUIT_BREAKER_OPEN"]
        assert {event["cause"] for event in while_open} == {code}
    opened = scene.of("circuit_breaker.state")[0]["data"]
    assert (opened["from"], opened["reason"], opened["failure_count"]) == ("closed", "failure_threshold", 5)


def agrees(scene: Scene) -> bool:
    """Whether REST says of the breaker what the newest event says."""
    before = scene.of("circuit_breaker.state")[-1]["data"]
    [shown] = scene.get("/api/v1/status/circuit-breaker")[1]["breakers"]
    names = ("state", "forced", "failure_count", "open_count", "retry_at")
    return all(shown[name] == before[name] for name in names)


def test_an_engine_that_is_not_there_yet(scene: Scene) -> None:
    gateway = scene.start_gateway()
    until(lambda: scene.get("/readyz") == DEGRADED)
    until(lambda: scene.breaker_states()[:1] == ["open"], what=gateway.err)
    told: dict[str, list[str]] = {event_type: [] for event_type in SOURCES}

    def codes() -> list[list[str]]:
        for codes in told.values():
            codes.clear()
        for it in (frame["data"] for frame in scene.frames if frame["type"] == "source.freshness"):
            assert (it["stale"], it["as_of"]) == (True, None)
            told[it["type"]].append(it["error_code"])
        return list(told.values())

    until(lambda: codes() == [["RPC_DISCONNECT", "CIRCUIT_BREAKER_OPEN"]] * len(SOURCES), what=gateway.err)
    assert not SOURCES & {frame["type"] for frame in scene.frames}
    scene.start_engine()
    scene.until_fresh(since=0)
    until(lambda: scene.get("/readyz") == READY)
    assert gateway.process.poll() is None
