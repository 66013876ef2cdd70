"""The step before a call: our own token is read, once, and nothing is sent without it."""

import asyncio
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from scripted_http import answering, http_response, scripted

from tidegate import secret_place
from tidegate.errors import ApplicationError, NoCredentials, Problem
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend
from tidegate.ports import Call
from tidegate.secret import Secret
from tidegate.secret_place import SecretPlace


@pytest.mark.parametrize("kind", [HttpJsonBackend, JsonRpcBackend])
async def test_the_token_is_read_once_for_each_call_and_before_anything_is_sent(
    kind: type[HttpJsonBackend] | type[JsonRpcBackend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[SecretPlace] = []
    read = secret_place.read

    def counted(place: SecretPlace, environ: Mapping[str, str]) -> Secret | Problem:
        reads.append(place)
        return read(place, environ)

    monkeypatch.setattr(secret_place, "read", counted)
    token = tmp_path / "token"
    async with scripted(answering(http_response(b"{}"))) as server:
        backend = kind(HttpOptions(url=server.url, bearer_token_file=token))
        with pytest.raises(NoCredentials, match="No such file"):
            await backend.prepare()
        assert (len(server.peers), len(reads)) == (0, 1)
        token.write_text("one")
        ask = await backend.prepare()
        token.write_text("two")
        await asyncio.gather(ask([Call("x")]), return_exceptions=True)
        assert len(reads) == 2
        await asyncio.gather(backend.call([Call("x")]), return_exceptions=True)
        assert len(reads) == 3
        await backend.aclose()
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer one", "Bearer two"]


async def test_secrets_are_filled_in_wherever_they_may_stand(tmp_path: Path) -> None:
    secret = 'a&b "c" é'
    (tmp_path / "key").write_text(secret)
    secrets = {"key": SecretPlace(setting="secrets.key_file", file=tmp_path / "key")}
    async with scripted(answering(http_response(b'{"jsonrpc":"2.0","id":1,"result":1}'))) as server:
        url = f"{server.url}/{{key}}?a={{key}}&b={{other}}".replace("://", "://u:{key}@")
        options = HttpOptions(url=url, secrets=secrets, headers={"X-Key": "{key}"})
        rpc, plain = JsonRpcBackend(options), HttpJsonBackend(options)
        await rpc.call([Call("{key}", msgspec.Raw(b'{"n":1.10,"k":["{key}","{other}"]}'))])
        await plain.call([Call("status/{key}?c={key}")])
        for backend in (rpc, plain):
            await backend.aclose()
    posted, got = server.requests
    escaped = quote(secret, safe="")
    for request in (posted, got):
        assert request.headers["x-key"] == secret
        assert request.headers["authorization"] == "Basic " + base64.b64encode(f"u:{secret}".encode()).decode()
        assert f"/{escaped}" in request.line
        assert f"?a={escaped}&b=%7Bother%7D" in request.line
    assert f"/status/{escaped}?" in got.line
    assert f"&c={escaped} HTTP" in got.line
    assert b'"params":{"n":1.10,' in posted.body
    body = json.loads(posted.body)
    assert body["method"] == secret
    assert body["params"]["k"] == [secret, "{other}"]


@pytest.mark.parametrize("status", ["200 OK", "500 Broken"])
async def test_an_error_that_repeats_a_secret_is_scrubbed(status: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("c4n4ry-long")
    secrets = {"key": SecretPlace(setting="secrets.key_file", file=tmp_path / "key")}
    echo = b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no c4n4ry-long, and no Basic dTpwYXNzd29yZA=="}}'
    async with scripted(answering(http_response(echo, status=status))) as server:
        url = server.url.replace("://", "://u:password@")
        backend = JsonRpcBackend(HttpOptions(url=url, secrets=secrets, headers={"X-Key": "{key}"}))
        ask = await backend.prepare()
        [error] = await ask([Call("m")])
        assert isinstance(error, ApplicationError)
        assert str(error) == "no ***, and no Basic *** (1)"
        assert ask.scrubbed("a c4n4ry-long b") == "a *** b"  # type: ignore[attr-defined]
        await backend.aclose()


async def test_the_core_sees_that_a_secret_has_changed_and_not_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("c4n4ry-1")
    secrets = {"key": SecretPlace(setting="secrets.key_file", file=tmp_path / "key")}
    backend = HttpJsonBackend(HttpOptions(url="http://h/", secrets=secrets))
    seen = [(await backend.prepare()).secret, (await backend.prepare()).secret]  # type: ignore[attr-defined]
    (tmp_path / "key").write_text("c4n4ry-2")
    seen.append((await backend.prepare()).secret)  # type: ignore[attr-defined]
    assert seen[0] == seen[1] != seen[2]
    assert b"c4n4ry" not in seen[0]
    await backend.aclose()
