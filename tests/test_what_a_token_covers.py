"""What a token with `types` sees, and may do, of what it does not cover: nothing, on any route and in any stream."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct
from serving import Answer, RawClient, read_answer, request
from websockets.asyncio.client import connect

from tidegate.errors import ApplicationError, BackendError, Disconnected
from tidegate.ports import Call
from tidegate.testing import RunningGateway, gateway

PATIENCE_S = 20.0
ROLES = ["subscriber", "publisher", "admin"]


class Moody:
    """A backend each of whose methods answers, fails, or takes the whole exchange with it."""

    def __init__(self, moods: dict[str, str]) -> None:
        self.moods = moods
        self.asked: list[str] = []

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        self.asked += [call.method for call in calls]
        if down := [call.method for call in calls if self.moods.get(call.method) == "down"]:
            raise Disconnected(f"cut-{down[0][:4].upper()}")
        return [self._answer(call.method) for call in calls]

    async def aclose(self) -> None:
        pass

    def _answer(self, method: str) -> Raw | BackendError:
        return ApplicationError(1, f"bad-{method}") if self.moods.get(method) == "bad" else Raw(b'{"ok":true}')


async def ask(running: RunningGateway, method: str, path: str, body: Any = None, token: str = "narrow") -> Answer:
    client = await RawClient.open(int(running.url.rpartition(":")[2]))
    try:
        data = b"" if body is None else json.dumps(body).encode()
        fields = {"Authorization": f"Bearer {token}", "X-Request-ID": "the-same"}  # of two answers that are compared
        client.writer.write(request(method, path, data, host="127.0.0.1", **fields))
        return read_answer(await client.rest())
    finally:
        await client.close()


def tokens(types: Sequence[str]) -> dict[str, Any]:
    narrow = {"token": "narrow", "roles": ROLES, "types": list(types)}
    return {"mode": "token", "tokens": [{"token": "all", "roles": ROLES}, narrow]}


CONFIG = {
    "backends": {
        "engine": {"breaker": {"failure_threshold": 1}},
        "disks": {},
        "vault": {"breaker": {"failure_threshold": 1}},
    },
    "sources": {
        "system.status": {"backend": "engine", "method": "system.status", "interval_s": 3600.0},
        "secret.load": {"backend": "engine", "method": "secret.load", "interval_s": 3600.0},
        "secret.own": {"backend": "engine", "method": "secret.own", "interval_s": 3600.0, "breaker": "own"},
        "system.disk": {"backend": "disks", "method": "system.disk", "interval_s": 3600.0},
        "secret.key": {"backend": "vault", "method": "secret.key", "interval_s": 3600.0},
    },
    "auth": tokens(["system.*", "app.*"]),
}


@contextlib.asynccontextmanager
async def house(moods: dict[str, str] | None = None) -> AsyncIterator[tuple[RunningGateway, dict[str, Moody]]]:
    backends = {name: Moody(moods or {}) for name in ("engine", "disks", "vault")}
    async with gateway(CONFIG, backends=backends) as running:
        for backend in backends.values():
            backend.asked.clear()
        yield running, backends


def check_problem(answer: Answer, status: int, *says: str) -> None:
    assert answer.status == status
    for part in says:
        assert part in answer.json["detail"]
    assert "secret" not in answer.json["detail"].replace("'secret.key'", "")


class TestStatus:
    async def test_names_covered_sources_and_the_breakers_before_them(self) -> None:
        async with house() as (running, _):
            status = (await ask(running, "GET", "/api/v1/status")).json
            assert [source["type"] for source in status["sources"]] == ["system.status", "system.disk"]
            assert [breaker["name"] for breaker in status["breakers"]] == ["engine", "disks"]
            everything = (await ask(running, "GET", "/api/v1/status", token="all")).json
            assert [breaker["name"] for breaker in everything["breakers"]] == [
                "engine",
                "engine/secret.own",
                "disks",
                "vault",
            ]

    async def test_tells_how_a_breaker_came_to_its_state(self) -> None:
        async with house({"system.status": "bad"}) as (running, _):
            engine = (await ask(running, "GET", "/api/v1/status")).json["breakers"][0]
            assert [(move["from"], move["to"], move["reason"]) for move in engine["history"]] == [
                (None, "closed", "start"),
                ("closed", "open", "failure_threshold"),
            ]
            assert engine["history"][-1]["at"] == engine["since"]

    @pytest.mark.parametrize(("failing", "shown"), [("system.status", "bad-system.status (1)"), ("secret.load", None)])
    async def test_shows_an_error_to_who_may_see_its_source(self, failing: str, shown: str | None) -> None:
        async with house({failing: "bad"}) as (running, _):
            for path in ("/api/v1/status/circuit-breaker/engine", "/api/v1/status/circuit-breaker", "/api/v1/status"):
                answer = (await ask(running, "GET", path)).json
                error = answer.get("breakers", [answer])[0]["last_error"]
                assert (error and error["message"]) == shown
                everything = (await ask(running, "GET", path, token="all")).json
                assert everything.get("breakers", [everything])[0]["last_error"]["message"] == f"bad-{failing} (1)"

    @pytest.mark.parametrize("name", ["vault", "engine/secret.own", "nope"])
    async def test_a_breaker_that_is_not_covered_is_as_unknown_as_any_other(self, name: str) -> None:
        async with house() as (running, _):
            answer = await ask(running, "GET", f"/api/v1/status/circuit-breaker/{name}")
            assert answer.status == 404
            assert answer.json["detail"] == f"expected the name of a breaker (engine, disks), got {name!r}"


class TestCommands:
    async def test_need_every_source_of_the_breaker(self) -> None:
        async with house() as (running, _):
            assert (await ask(running, "POST", "/api/v1/circuit-breaker/disks/force-open")).json["state"] == "open"
            refused = await ask(running, "POST", "/api/v1/circuit-breaker/engine/force-open")
            check_problem(refused, 403, "every source of the breaker 'engine'")
            states = {view.name: view.state.value for view in running.app.supervisor.breakers()}
            assert states == {"engine": "closed", "engine/secret.own": "closed", "disks": "open", "vault": "closed"}

    @pytest.mark.parametrize("name", ["vault", "engine/secret.own", "nope"])
    @pytest.mark.parametrize("action", ["reset", "explode"])
    async def test_one_that_is_not_visible_is_not_there(self, name: str, action: str) -> None:
        async with house() as (running, _):
            answer = await ask(running, "POST", f"/api/v1/circuit-breaker/{name}/{action}")
            assert answer.status == 404
            assert answer.json["detail"] == f"expected the name of a breaker (engine, disks), got {name!r}"


class TestPoll:
    async def test_asks_for_what_is_covered_alone(self) -> None:
        async with house() as (running, backends):
            assert (await ask(running, "POST", "/api/v1/backends/engine/poll")).status == 202
            async with asyncio.timeout(PATIENCE_S):
                while not backends["engine"].asked:
                    await asyncio.sleep(0)
            assert backends["engine"].asked == ["system.status"]
            await ask(running, "POST", "/api/v1/backends/engine/poll", token="all")
            async with asyncio.timeout(PATIENCE_S):
                while len(backends["engine"].asked) < 4:
                    await asyncio.sleep(0)
            assert sorted(backends["engine"].asked[1:]) == ["secret.load", "secret.own", "system.status"]

    async def test_asks_for_one_source_if_it_is_covered(self) -> None:
        async with house() as (running, backends):
            path = "/api/v1/backends/engine/poll?source="
            for name in ("secret.load", "nope", "system.status&source=secret.own"):
                answer = await ask(running, "POST", path + name)
                assert answer.status == 404
                wanted = name.rpartition("=")[2]
                assert answer.json["detail"] == f"expected a source of 'engine' (system.status), got {wanted!r}"
            assert backends["engine"].asked == []
            assert (await ask(running, "POST", f"{path}secret.load", token="all")).status == 202
            async with asyncio.timeout(PATIENCE_S):
                while not backends["engine"].asked:
                    await asyncio.sleep(0)
            assert (await ask(running, "POST", f"{path}system.status")).status == 202
            async with asyncio.timeout(PATIENCE_S):
                while len(backends["engine"].asked) < 2:
                    await asyncio.sleep(0)
            assert backends["engine"].asked == ["secret.load", "system.status"]

    @pytest.mark.parametrize("name", ["vault", "nope"])
    async def test_without_a_covered_source_there_is_no_such_backend(self, name: str) -> None:
        async with house() as (running, backends):
            answer = await ask(running, "POST", f"/api/v1/backends/{name}/poll")
            assert answer.status == 404
            assert answer.json["detail"] == f"expected the name of a backend (disks, engine), got {name!r}"
            assert backends["vault"].asked == []


class TestPublishing:
    @pytest.mark.parametrize("uncovered", ["app", "other.x", "secret.key", "nope"])
    async def test_an_array_with_one_type_that_is_not_covered_is_refused_whole(self, uncovered: str) -> None:
        async with house() as (running, _):
            events = [{"type": "app.news", "data": 1, "retain": True}, {"type": uncovered, "data": 2}]
            answer = await ask(running, "POST", "/api/v1/events", events)
            assert (answer.status, answer.json["detail"]) == (403, f"the token does not cover {uncovered}")
            assert running.app.gateway.retained.get("app.news") is None  # polls move the position meanwhile
            assert (await ask(running, "POST", "/api/v1/events", events[:1])).status == 202
            assert running.app.gateway.retained.get("app.news") is not None

    async def test_malformed_comes_before_not_covered_and_that_before_polled(self) -> None:
        async with house() as (running, _):
            for types, status in ((["secret.key", "Bad"], 400), (["system.status", "nope"], 403)):
                events = [{"type": event_type, "data": 1} for event_type in types]
                answer = await ask(running, "POST", "/api/v1/events", events)
                assert answer.status == status
            assert answer.json["detail"] == "the token does not cover nope"
            polled = await ask(running, "POST", "/api/v1/events", {"type": "system.status", "data": 1})
            check_problem(polled, 403, "polled from a backend")

    async def test_what_is_not_covered_is_not_forgotten(self) -> None:
        async with house() as (running, _):
            await running.publish("other.x", 1, retain=True)
            await running.publish("app.x", 1, retain=True)
            for event_type in ("other.x", "secret.key", "nope.x"):
                answer = await ask(running, "DELETE", f"/api/v1/snapshot/{event_type}")
                assert (answer.status, answer.json["detail"]) == (403, f"the token does not cover {event_type}")
            assert running.app.gateway.retained.get("other.x") is not None
            assert (await ask(running, "DELETE", "/api/v1/snapshot/app.x")).status == 200
            assert (await ask(running, "DELETE", "/api/v1/snapshot/other.x", token="all")).status == 200


class TestClients:
    async def test_are_shown_to_who_sees_everything(self) -> None:
        async with house() as (running, _):
            check_problem(await ask(running, "GET", "/api/v1/clients"), 403, "a token without types")
            assert (await ask(running, "GET", "/api/v1/clients", token="all")).json == {"clients": []}


class Scenario(Struct, frozen=True):
    """A gateway, and how its backends are; `covered` are sources and published types that the token covers."""

    sources: tuple[tuple[str, str, bool, str], ...]
    """Type, backend, whether it has a breaker of its own, and its mood."""
    batched: frozenset[str]
    covered: frozenset[str]
    built_in: tuple[str, ...]
    threshold: int
    forced: frozenset[str]


BACKENDS = ("alfa-b", "bravo-b", "charlie-b")
PUBLISHED = ("quebec-p.x", "romeo-p.x")
SOURCES = ("golf-s.x", "hotel-s.x", "india-s.x", "juliett-s.x", "kilo-s.x")
MOODS = ("good", "bad", "down")


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    names = draw(st.lists(st.sampled_from(SOURCES), min_size=1, unique=True))
    sources = tuple(
        (name, draw(st.sampled_from(BACKENDS)), draw(st.booleans()), draw(st.sampled_from(MOODS))) for name in names
    )
    return Scenario(
        sources=sources,
        batched=draw(st.frozensets(st.sampled_from(BACKENDS))),
        covered=draw(st.frozensets(st.sampled_from([*names, *PUBLISHED]))),
        built_in=tuple(draw(st.lists(st.sampled_from(["circuit_breaker.*", "source.freshness", "rpc_error"])))),
        threshold=draw(st.integers(1, 2)),
        forced=draw(st.frozensets(st.sampled_from(BACKENDS))),
    )


def secrets(scenario: Scenario) -> set[bytes]:
    """What the token may nowhere see: names, and the texts of errors, as bytes to look for."""
    hidden = {name for name in (*SOURCES, *PUBLISHED) if name not in scenario.covered}
    seen_backends = {backend for name, backend, _, _ in scenario.sources if name in scenario.covered}
    words = {*hidden, *(backend for backend in BACKENDS if backend not in seen_backends)}
    for name, backend, own, _ in scenario.sources:
        alike = {other for other, where, alone, _ in scenario.sources if where == backend and not alone and not own}
        asked_together = alike if backend in scenario.batched else set[str]()
        if not {name, *asked_together} & scenario.covered:
            words.add(f"cut-{name[:4].upper()}")
    return {word.encode() for word in words}


def paths(scenario: Scenario, *, named: str) -> Iterator[tuple[str, str, Any]]:
    """Every route, with whatever name a route takes."""
    plain = ["/", "/healthz", "/readyz", "/openapi.json", "/asyncapi.json", "/metrics", "/ws", "/api/v1/session"]
    plain += ["/api/v1/status", "/api/v1/status/circuit-breaker", "/api/v1/snapshot", "/api/v1/clients", "/nowhere"]
    yield from (("GET", path, None) for path in plain)
    yield from asked_by_name(named)
    for name, backend, own, _ in scenario.sources:
        if name in scenario.covered:
            yield "GET", f"/api/v1/snapshot/{name}", None
            yield from asked_by_name(f"{backend}/{name}" if own else backend)


def asked_by_name(name: str) -> Iterator[tuple[str, str, Any]]:
    """Every route that takes a name."""
    yield "GET", f"/api/v1/status/circuit-breaker/{name}", None
    yield "GET", f"/api/v1/snapshot/{name.replace('/', '.')}", None
    yield "DELETE", f"/api/v1/snapshot/{name.replace('/', '.')}", None
    yield "POST", f"/api/v1/circuit-breaker/{name}/explode", None
    yield "POST", f"/api/v1/circuit-breaker/{name}/reset", None
    yield "POST", f"/api/v1/backends/{name}/poll", None
    yield "POST", "/api/v1/events", [{"type": name.replace("/", "."), "data": 1, "retain": True}]
    yield "GET", f"/api/v1/events?types={name.replace('/', '.')}", None


async def followed(running: RunningGateway, query: str) -> bytes:
    """What a WebSocket of the narrow token brings, until a notification says that this was all."""
    came: list[bytes] = []
    url = f"{running.url.replace('http', 'ws', 1)}/ws{query}"
    headers = {"Authorization": "Bearer narrow"}
    async with connect(url, additional_headers=headers, proxy=None) as client, asyncio.timeout(PATIENCE_S):
        await client.send('{"type":"subscribe","types":["*"]}')
        await client.send('{"type":"subscribe","types":["circuit_breaker.*","rpc_error","source.freshness"]}')
        await client.send('{"type":"ping","id":"the-end"}')
        while not came or b"the-end" not in came[-1]:
            message = await client.recv()
            came.append(message.encode() if isinstance(message, str) else message)
    return b"\n".join(came)


async def streamed(running: RunningGateway, query: str) -> bytes:
    """The same of an event stream, from its beginning up to a heartbeat."""
    client = await RawClient.open(int(running.url.rpartition(":")[2]))
    try:
        fields = {"Authorization": "Bearer narrow"}
        client.writer.write(request("GET", f"/api/v1/events{query}", b"", host="127.0.0.1", **fields))
        return await client.until(b'"type":"heartbeat"')
    finally:
        await client.close()


def config_of(scenario: Scenario) -> dict[str, Any]:
    return {
        "server": {"heartbeat_interval_s": 0.05},
        "backends": {
            name: {"batch": name in scenario.batched, "breaker": {"failure_threshold": scenario.threshold}}
            for name in {backend for _, backend, _, _ in scenario.sources}
        },
        "sources": {
            name: {"backend": backend, "method": name, "interval_s": 3600.0, **({"breaker": "own"} if own else {})}
            for name, backend, own, _ in scenario.sources
        },
        "auth": tokens([*scenario.covered, *scenario.built_in, "heartbeat"]),
    }


async def tell_everything(scenario: Scenario) -> None:
    moods = {name: mood for name, _, _, mood in scenario.sources}
    config = config_of(scenario)
    async with gateway(config, backends={name: Moody(moods) for name in config["backends"]}) as running:
        for event_type in PUBLISHED:
            await running.publish(event_type, {"n": 1}, retain=True)
        for view in running.app.supervisor.breakers():
            if view.name in scenario.forced:
                await running.command(view.name, "force-open")
        hidden = secrets(scenario)
        since = f"?since={running.app.gateway.position.epoch}:0"
        came = [await followed(running, query) for query in ("", since)]
        came += [await streamed(running, query) for query in ("", since)]
        for method, path, body in paths(scenario, named="zulu"):
            answer = await ask(running, method, path, body)
            came.append(json.dumps(answer.headers).encode() + answer.body)
        for each, word in itertools.product(came, hidden):
            assert word not in each, f"{word!r} is in {each!r}"
        await ask_for_the_hidden(running, {word.decode() for word in hidden if b"cut-" not in word})


async def ask_for_the_hidden(running: RunningGateway, names: set[str]) -> None:
    """Who asks for what is hidden by its name is answered as for what is not there."""
    for name in names:
        for there, nowhere in zip(asked_by_name(name), asked_by_name("zulu.q"), strict=True):
            answer, expected = await ask(running, *there), await ask(running, *nowhere)
            assert answer.status == expected.status in {403, 404}, there
            assert answer.body.replace(name.encode(), b"zulu.q") == expected.body


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(scenarios())
@example(
    Scenario(
        sources=(
            ("golf-s.x", "alfa-b", False, "bad"),
            ("hotel-s.x", "alfa-b", False, "good"),
            ("india-s.x", "alfa-b", True, "down"),
            ("juliett-s.x", "bravo-b", False, "down"),
            ("kilo-s.x", "bravo-b", False, "bad"),
        ),
        batched=frozenset(),
        covered=frozenset({"hotel-s.x", "quebec-p.x"}),
        built_in=("circuit_breaker.*", "rpc_error", "source.freshness"),
        threshold=1,
        forced=frozenset(),
    )
)
@example(
    Scenario(
        sources=(("golf-s.x", "alfa-b", False, "bad"), ("hotel-s.x", "alfa-b", False, "bad")),
        batched=frozenset({"alfa-b"}),
        covered=frozenset({"hotel-s.x"}),
        built_in=(),
        threshold=2,
        forced=frozenset({"alfa-b"}),
    )
)
def test_nothing_that_a_token_does_not_cover_is_anywhere_to_be_seen(scenario: Scenario) -> None:
    asyncio.run(tell_everything(scenario))
