"""Where keys come from: files that change, and an issuer that rotates them, dies and comes back."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, Key, OctKey, RSAKey
from scripted_http import Peer, ScriptedServer, http_response, scripted
from signing import ec_key, jwks, rsa_key

from tidegate.errors import ConfigError, MessageError
from tidegate.outbound.auth import JwksKeys, files, public_key_file, secret_file
from tidegate.outbound.auth.keys import BODY_BYTES
from tidegate.outbound.http_client.answer import FRAME_BYTES, INTERIM_ANSWERS
from tidegate.runtime.limited_log import LoggedFault


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def finds(keys: Any, algorithm: str, kid: str | None) -> bool:
    try:
        keys.key_for(algorithm, kid)
    except MessageError:
        return False
    return True


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_public_key_serves_its_own_algorithm_only(tmp_path: Path) -> None:
    rsa = public_key_file(written(tmp_path / "rsa", rsa_key().as_pem(private=False)), setting="auth.jwt.key_file")
    ec = public_key_file(written(tmp_path / "ec", ec_key().as_pem(private=False)), setting="auth.jwt.key_file")
    assert isinstance(rsa.key_for("RS256", "any"), RSAKey)
    assert isinstance(ec.key_for("ES256", None), ECKey)
    assert not finds(rsa, "HS256", None)
    assert not finds(rsa, "ES256", None)
    assert not finds(ec, "RS256", None)
    assert not finds(rsa, "none", None)


@pytest.mark.parametrize(
    "content",
    [b"junk", b"\xff\x00", rsa_key().as_pem(private=True), ec_key().as_pem(private=True), b"",
     ECKey.generate_key("P-384").as_pem(private=False)],
)  # fmt: skip
def test_what_is_no_public_key_is_named(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "key", content)
    with pytest.raises(ConfigError) as refused:
        public_key_file(path, setting="auth.jwt.key_file")
    [problem] = refused.value.problems
    assert problem.path == "auth.jwt.key_file"
    assert str(path) in problem.got


@pytest.mark.parametrize("url", ["http://a%3As3cr3t:pw@h/", "http://xn--a/", "http:///keys"])
def test_an_issuers_address_that_cannot_be_asked_is_named_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        JwksKeys(url, setting="auth.jwt.jwks_url")
    assert str(refused.value).startswith("auth.jwt.jwks_url: expected an address")
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.timeout(10)
def test_a_pipe_in_place_of_a_key_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key")
    for make in (public_key_file, secret_file):
        with pytest.raises(ConfigError, match=r"x: expected .* got .*key \(a named pipe, not a regular file\)"):
            make(tmp_path / "key", setting="x")


def test_a_weak_rsa_key_is_refused(tmp_path: Path) -> None:
    with pytest.warns(match="2048"):
        weak = RSAKey.generate_key(1024)
    with pytest.raises(ConfigError, match="2048"):
        public_key_file(written(tmp_path / "key", weak.as_pem(private=False)), setting="x")


def test_a_secret_serves_hs256_only(tmp_path: Path) -> None:
    keys = secret_file(written(tmp_path / "secret", b"s" * 32 + b"\n"), setting="auth.jwt.secret_file")
    assert keys.key_for("HS256", None).raw_value == b"s" * 32
    assert not finds(keys, "RS256", None)


@pytest.mark.parametrize(
    ("content", "got"),
    [(b"s" * 31, "31 bytes"), (b"short", "5 bytes"), (rsa_key().as_pem(private=False), "a public key")],
)
def test_a_secret_that_protects_nothing_is_named_and_not_shown(tmp_path: Path, content: bytes, got: str) -> None:
    with pytest.raises(ConfigError) as refused:
        secret_file(written(tmp_path / "secret", content), setting="auth.jwt.secret_file")
    [problem] = refused.value.problems
    assert problem.got.endswith(f"with {got}")


async def test_a_key_file_that_changes_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "REREAD_S", 0.0)
    path = written(tmp_path / "key", rsa_key().as_pem(private=False))
    keys = public_key_file(path, setting="x")
    running = asyncio.create_task(keys.run())
    path.write_bytes(b"not yet whole")
    path.write_bytes(ec_key().as_pem(private=False))
    await eventually(lambda: finds(keys, "ES256", None))
    assert not finds(keys, "RS256", None)
    running.cancel()


class Issuer:
    """What the JWKS server answers next, and what it was asked."""

    def __init__(self, *keys: Key) -> None:
        self.answer = http_response(jwks(*keys))
        self.asked = 0

    def publish(self, *keys: Key, **changes: Any) -> None:
        self.answer = http_response(jwks(*keys, **changes))

    async def script(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            self.asked += 1
            assert request.headers["accept-encoding"] == "identity"
            await peer.send(self.answer)


@contextlib.asynccontextmanager
async def fetching(
    issuer: Issuer, *, refresh_s: float = 0.0, pause_s: float = 0.0
) -> AsyncIterator[tuple[JwksKeys, ScriptedServer]]:
    async with scripted(issuer.script) as server:
        keys = JwksKeys(server.url, "jwks_url", refresh_s=refresh_s, pause_s=pause_s)
        running = asyncio.create_task(keys.run())
        try:
            yield keys, server
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_before_the_first_keys_are_there_trying_again_helps() -> None:
    keys = JwksKeys("http://127.0.0.1:1/")
    with pytest.raises(MessageError) as refused:
        keys.key_for("RS256", "one")
    assert refused.value.retryable


async def test_published_keys_are_found_by_id_and_kind() -> None:
    async with fetching(Issuer(rsa_key("a"), rsa_key("b"), ec_key("c"))) as (keys, _):
        await eventually(lambda: finds(keys, "RS256", "a"))
        assert keys.key_for("RS256", "b").kid == "b"
        assert keys.key_for("ES256", "c").kid == "c"
        assert keys.key_for("ES256", None).kid == "c", "the only one of its kind"
        assert not finds(keys, "RS256", None), "which of the two?"
        assert not finds(keys, "RS256", "c")
        assert not finds(keys, "HS256", "a")
        with pytest.raises(MessageError) as refused:
            keys.key_for("RS256", "unknown")
        assert not refused.value.retryable


async def test_rotation_a_new_key_comes_and_the_old_one_goes() -> None:
    issuer = Issuer(rsa_key("old"))
    async with fetching(issuer) as (keys, _):
        await eventually(lambda: finds(keys, "RS256", "old"))
        issuer.publish(rsa_key("old"), rsa_key("new"))
        await eventually(lambda: finds(keys, "RS256", "new"))
        assert finds(keys, "RS256", "old")
        issuer.publish(rsa_key("new"))
        await eventually(lambda: not finds(keys, "RS256", "old"))
        assert finds(keys, "RS256", "new")


async def test_an_unknown_key_id_has_the_keys_fetched_at_once() -> None:
    issuer = Issuer(rsa_key("old"))
    async with fetching(issuer, refresh_s=3600.0) as (keys, _):
        await eventually(lambda: finds(keys, "RS256", "old"))
        issuer.publish(rsa_key("new"))
        assert not finds(keys, "RS256", "new")
        await eventually(lambda: finds(keys, "RS256", "new"))
        assert issuer.asked == 2


async def test_unknown_key_ids_cannot_make_the_issuer_be_asked_without_end() -> None:
    issuer = Issuer(rsa_key("old"))
    async with fetching(issuer, refresh_s=3600.0, pause_s=3600.0) as (keys, _):
        await eventually(lambda: finds(keys, "RS256", "old"))
        for n in range(100):
            finds(keys, "RS256", f"junk {n}")
            await asyncio.sleep(0)
        assert issuer.asked == 1


async def test_known_key_ids_ask_for_nothing() -> None:
    issuer = Issuer(rsa_key("old"))
    async with fetching(issuer, refresh_s=3600.0) as (keys, _):
        await eventually(lambda: finds(keys, "RS256", "old"))
        for _ in range(100):
            finds(keys, "RS256", "old")
            finds(keys, "ES256", None)
            await asyncio.sleep(0)
        assert issuer.asked == 1


@pytest.mark.parametrize(
    "answer",
    [
        http_response(b"oops", status="500 Internal Server Error"),
        http_response(b"<html>"),
        http_response(b"[]"),
        http_response(b"{}"),
        http_response(b'{"keys":{}}'),
        http_response(b'{"keys":' + b"[" * 100_000),
        http_response(b'{"keys":["\xff"]}'),
        http_response(b'{"keys":[' + b" " * BODY_BYTES + b"]}"),
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\nhalf",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * (INTERIM_ANSWERS + 1) + http_response(b'{"keys":[]}'),
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n" + b"Link: y\r\n" * FRAME_BYTES,
    ],
    ids=[
        "500", "html", "list", "no keys", "keys no list", "deep", "not UTF-8", "large", "no http", "half",
        "interim answers", "head",
    ],
)  # fmt: skip
async def test_an_issuer_that_does_not_answer_well_changes_nothing(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[dict[str, Any]] = []
    monkeypatch.setattr(LoggedFault, "occurred", lambda _, **fields: warned.append(fields))
    issuer = Issuer(rsa_key("old"))

    async def script(peer: Peer) -> None:
        await peer.request()
        issuer.asked += 1
        await peer.send(issuer.answer)

    async with scripted(script) as server:
        keys = JwksKeys(server.url, refresh_s=0.0, pause_s=0.0)
        running = asyncio.create_task(keys.run())
        await eventually(lambda: finds(keys, "RS256", "old"))
        issuer.answer = answer
        await eventually(lambda: len(warned) >= 2)
        assert finds(keys, "RS256", "old")
        assert "http" not in str(warned), "an address may hold a password"
        issuer.publish(rsa_key("new"))
        await eventually(lambda: finds(keys, "RS256", "new"))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_nobody_is_led_to_keys_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[dict[str, Any]] = []
    monkeypatch.setattr(LoggedFault, "occurred", lambda _, **fields: warned.append(fields))

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            moved = http_response(b"", status="302 Found", headers="Location: /elsewhere\r\n")
            await peer.send(http_response(jwks(rsa_key("evil"))) if "/elsewhere" in request.line else moved)

    async with scripted(script) as server:
        keys = JwksKeys(server.url, refresh_s=0.0, pause_s=0.0)
        running = asyncio.create_task(keys.run())
        await eventually(lambda: len(warned) >= 2)
        assert not finds(keys, "RS256", "evil")
        assert warned[0]["reason"] == "expected status 200, got 302"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_dead_issuer_leaves_the_keys_that_are_there() -> None:
    issuer = Issuer(rsa_key("old"))
    async with fetching(issuer) as (keys, server):
        await eventually(lambda: finds(keys, "RS256", "old"))
        keys._client.url = keys._client.url.with_port(1)
        await asyncio.sleep(0.05)
        assert finds(keys, "RS256", "old")
        keys._client.url = keys._client.url.with_port(server.port)
        issuer.publish(rsa_key("new"))
        await eventually(lambda: finds(keys, "RS256", "new"))


async def test_an_issuer_that_publishes_nothing_has_withdrawn_its_keys() -> None:
    issuer = Issuer(rsa_key("old"))
    async with fetching(issuer) as (keys, _):
        await eventually(lambda: finds(keys, "RS256", "old"))
        issuer.publish()
        await eventually(lambda: not finds(keys, "RS256", "old"))


async def test_published_keys_that_cannot_be_used_are_left_out() -> None:
    """RFC 7517 section 5: what is not understood is ignored; secrets and weak or foreign keys are of no use here."""
    with pytest.warns(match="2048"):
        weak = RSAKey.generate_key(1024, parameters={"kid": "weak"})
    wrong = [
        weak.as_dict(private=False),
        ECKey.generate_key("P-384", parameters={"kid": "p384"}).as_dict(private=False),
        OctKey.import_key("s" * 32, {"kid": "secret"}).as_dict(private=True),
        {"kty": "AKP", "kid": "quantum"},
        {"kty": "RSA", "kid": "torn"},
        {"kty": "RSA", "kid": "odd", "n": 5, "e": "AQAB"},
        {"kty": []},
        "text",
        None,
        {**rsa_key("for-encryption").as_dict(private=False), "use": "enc"},
        {**rsa_key("other-algorithm").as_dict(private=False), "alg": "RS512"},
    ]
    issuer = Issuer()
    issuer.answer = http_response(json.dumps({"keys": [*wrong, rsa_key("good").as_dict(private=False)]}).encode())
    async with fetching(issuer) as (keys, _):
        await eventually(lambda: finds(keys, "RS256", "good"))
        assert keys.key_for("RS256", None).kid == "good"
        for kid in ("weak", "torn", "odd", "for-encryption", "other-algorithm"):
            assert not finds(keys, "RS256", kid)
        assert not finds(keys, "HS256", "secret")
        assert not finds(keys, "ES256", "p384")


async def test_whoever_waits_for_the_first_keys_is_told_when_they_are_there() -> None:
    async with fetching(Issuer(rsa_key("a"))) as (keys, _):
        await keys.fetched()
        assert finds(keys, "RS256", "a")
        await keys.fetched()


async def test_whoever_waits_for_keys_that_do_not_come_is_told_why() -> None:
    issuer = Issuer()
    issuer.answer = http_response(b"no keys")
    async with fetching(issuer, pause_s=60.0) as (keys, _):
        with pytest.raises(ConfigError) as refused:
            await keys.fetched()
    assert [problem.path for problem in refused.value.problems] == ["jwks_url"]


async def test_the_key_in_a_file_is_there_at_once(tmp_path: Path) -> None:
    await public_key_file(written(tmp_path / "key", rsa_key().as_pem(private=False)), setting="x").fetched()
