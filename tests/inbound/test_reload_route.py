"""`POST /api/v1/reload`, and what `/api/v1/status` says of the configuration."""

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from records import HASH, PROBLEMS, FakeReloads
from serving import GRANTS, WALL, serving

from tidegate.core.access.grant import Grant
from tidegate.core.instant import Instant
from tidegate.core.reloads import ReloadAttempt
from tidegate.core.topics import PatternSet
from tidegate.errors import ConfigError, NothingToReload, ReloadUnderWay

NARROW_ADMIN = Grant(name="narrow", allowed=PatternSet(["system.*"]))


async def test_the_answer_says_what_changed() -> None:
    reloads = FakeReloads()
    async with serving(reloads=reloads) as gate:
        answer = await gate.ask("POST", "/api/v1/reload")
    assert answer.status == 200
    assert answer.json == {
        "changed": {"added": ['sources."a.b"'], "removed": ["backends.old"], "changed": ["limits.patterns"]},
        "unchanged": 7,
        "needs_restart": ["server.port"],
        "config_hash": HASH,
    }
    assert len(reloads.asked) == 1


async def test_a_refused_file_is_answered_with_all_its_problems() -> None:
    async with serving(reloads=FakeReloads(ConfigError(PROBLEMS))) as gate:
        answer = await gate.ask("POST", "/api/v1/reload")
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json["status"] == 422
    assert "2 problems" in answer.json["detail"]
    assert answer.json["errors"] == [
        {"path": "server.port", "expected": "a number", "got": '"x"'},
        {"path": "nope", "expected": "a known key", "got": "an unknown one"},
    ]


@pytest.mark.parametrize(
    ("reloads", "said", "again"),
    [
        (FakeReloads(ReloadUnderWay("being reloaded already")), "being reloaded already", True),
        (FakeReloads(NothingToReload("no file")), "no file", False),
        (None, "--config", False),
    ],
)
async def test_nothing_is_reloaded_now(reloads: FakeReloads | None, said: str, *, again: bool) -> None:
    async with serving(reloads=reloads) as gate:
        answer = await gate.ask("POST", "/api/v1/reload")
    assert (answer.status, answer.headers["content-type"]) == (409, "application/problem+json")
    assert said in answer.json["detail"]
    assert ("retry-after" in answer.headers) == again


async def test_what_nobody_foresaw_is_500() -> None:
    async with serving(reloads=FakeReloads(RuntimeError("boo"))) as gate:
        answer = await gate.ask("POST", "/api/v1/reload")
    assert answer.status == 500
    assert b"boo" not in answer.body


@pytest.mark.parametrize("body", [b"[server]\nport = 1\n", b"{}", b" "])
async def test_no_configuration_is_taken_from_a_request(body: bytes) -> None:
    reloads = FakeReloads()
    async with serving(reloads=reloads) as gate:
        answer = await gate.ask("POST", "/api/v1/reload", body)
        chunked = await gate.ask("POST", "/api/v1/reload", Transfer_Encoding="chunked")
    assert answer.status == 400
    assert "takes no configuration" in answer.json["detail"]
    assert reloads.asked == []
    assert chunked.status == 400


async def test_an_empty_body_is_none() -> None:
    async with serving(reloads=FakeReloads()) as gate:
        assert (await gate.ask("POST", "/api/v1/reload", Content_Length="0")).status == 200


async def test_only_an_admin_of_everything_may() -> None:
    reloads = FakeReloads()
    async with serving(grants={**GRANTS, "narrow": NARROW_ADMIN}, reloads=reloads) as gate:
        for token, status in {"narrow": 403, "sub": 403, "pub": 403, "nobody": 401}.items():
            answer = await gate.ask("POST", "/api/v1/reload", Authorization=f"Bearer {token}")
            assert answer.status == status
        assert reloads.asked == []
        assert (await gate.ask("POST", "/api/v1/reload", Authorization="Bearer all")).status == 200


async def test_a_page_of_another_origin_may_not() -> None:
    reloads = FakeReloads()
    async with serving(reloads=reloads) as gate:
        assert (await gate.ask("POST", "/api/v1/reload", Origin="https://evil.example")).status == 403
        assert (await gate.ask("POST", "/api/v1/reload", Host="evil.example")).status == 421
        assert (await gate.ask("GET", "/api/v1/reload")).status == 405
    assert reloads.asked == []


async def test_a_gateway_that_drains_reloads_nothing() -> None:
    reloads = FakeReloads()
    async with serving(reloads=reloads) as gate:
        gate.house.gateway.clients.draining = True
        answer = await gate.ask("POST", "/api/v1/reload")
    assert (answer.status, reloads.asked) == (409, [])
    assert "draining" in answer.json["detail"]


async def test_answers_are_what_the_document_says() -> None:
    async with serving(reloads=FakeReloads()) as gate:
        document = (await gate.ask("GET", "/openapi.json")).json
        done = await gate.ask("POST", "/api/v1/reload")
    described = document["paths"]["/api/v1/reload"]["post"]
    assert "requestBody" not in described
    content = described["responses"]["200"]["content"]["application/json"]
    jsonschema.validate(done.json, {**content["schema"], "components": document["components"]})
    async with serving(reloads=FakeReloads(ConfigError(PROBLEMS))) as gate:
        refused = await gate.ask("POST", "/api/v1/reload")
    content = described["responses"]["422"]["content"]["application/problem+json"]
    schema = {**content["schema"], "components": document["components"]}
    jsonschema.validate(refused.json, schema)
    assert "errors" in json.dumps(document["components"]["schemas"]["RefusedConfiguration"])


async def shown(reloads: FakeReloads, **headers: str) -> Any:
    async with serving(grants=GRANTS, reloads=reloads) as gate:
        return (await gate.ask("GET", "/api/v1/status", **headers)).json


class TestStatus:
    LAST = ReloadAttempt(began=Instant(0.0, WALL), ended=Instant(1.0, WALL), outcome="refused", problems=PROBLEMS)

    async def test_before_any_reload(self) -> None:
        config = (await shown(FakeReloads(), Authorization="Bearer sub"))["config"]
        assert config.keys() == {"hash", "loaded_at", "last_reload", "needs_restart"}
        assert (config["hash"], config["last_reload"], config["needs_restart"]) == (HASH, None, [])

    async def test_after_one_that_was_refused(self) -> None:
        reloads = replace(FakeReloads(), last=self.LAST, needs_restart=("server.port",))
        config = (await shown(reloads, Authorization="Bearer sub"))["config"]
        assert config["needs_restart"] == ["server.port"]
        assert config["last_reload"].keys() == {"at", "outcome", "problems"}
        assert (config["last_reload"]["outcome"], config["last_reload"]["problems"]) == ("refused", 2)

    async def test_a_token_that_is_limited_to_some_types_sees_none_of_it(self) -> None:
        assert "config" not in await shown(FakeReloads(), Authorization="Bearer system")
