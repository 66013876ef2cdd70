"""Signed tokens: who is let in, and every known way around a signature."""

import random
from typing import Any

import pytest
import signing
from joserfc.jwk import Key
from signing import NOW, ec_key, forged, rsa_key, signed

from tidegate.core.access.grant import Role
from tidegate.errors import MessageError, MessageErrorCode
from tidegate.outbound.auth import JwtAuthenticator, JwtOptions
from tidegate.outbound.auth.keys import _chosen


class OneKey:
    revision = 0

    def __init__(self, key: Key) -> None:
        self.key = key

    def key_for(self, algorithm: str, kid: str | None) -> Key:
        return _chosen([self.key], algorithm, None)

    async def run(self) -> None:
        raise NotImplementedError

    async def fetched(self) -> None:
        raise NotImplementedError


def authenticator(key: Key | None = None, *algorithms: str, **options: Any) -> JwtAuthenticator:
    accepted = JwtOptions(algorithms=algorithms or ("RS256",), **options)
    return JwtAuthenticator(OneKey(key or rsa_key()), accepted, wall_clock=lambda: NOW + 0.9)


def refusal(token: str, checker: JwtAuthenticator | None = None) -> str:
    with pytest.raises(MessageError) as refused:
        (checker or authenticator()).verify(token)
    assert refused.value.code is MessageErrorCode.UNAUTHENTICATED
    assert not refused.value.retryable
    assert not token or token not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", rsa_key()), ("ES256", ec_key()), ("HS256", signing.secret())])
def test_each_algorithm_lets_its_bearers_in(algorithm: str, key: Key) -> None:
    token = signed({"sub": "alice"}, key, algorithm)
    assert authenticator(key, algorithm).verify(token).name == "alice"


def test_claims_become_a_grant() -> None:
    claims = {"sub": "bob", "roles": ["admin", "publisher"], "types": ["system.*", "a.b"], "exp": NOW + 60}
    grant = authenticator().verify(signed(claims, rsa_key()))
    assert (grant.name, grant.roles) == ("bob", frozenset({Role.ADMIN, Role.PUBLISHER}))
    assert grant.allowed.sorted() == ["a.b", "system.*"]
    assert grant.expires_at == NOW + 90, "the leeway counts here too, or the connection would end at once"


def test_a_token_that_says_nothing_makes_a_subscriber_to_everything() -> None:
    grant = authenticator().verify(signed({}, rsa_key()))
    assert grant.roles == {Role.SUBSCRIBER}
    assert grant.allowed.sorted() == ["*"]
    assert grant.expires_at is None


def test_roles_of_other_services_are_ignored_and_give_nothing() -> None:
    assert authenticator().verify(signed({"roles": ["root", "Admin", "publisher"]}, rsa_key())).roles == {
        Role.PUBLISHER
    }
    assert authenticator().verify(signed({"roles": []}, rsa_key())).roles == frozenset()


def test_no_types_are_no_types() -> None:
    assert authenticator().verify(signed({"types": []}, rsa_key())).allowed.sorted() == []


def test_a_long_subject_is_cut() -> None:
    assert len(authenticator().verify(signed({"sub": "x" * 5000}, rsa_key())).name) == 128


@pytest.mark.parametrize(
    "claims",
    [{"roles": "admin"}, {"roles": [1]}, {"roles": None}, {"types": "a.*"}, {"types": ["A"]}, {"types": ["a.*.b"]},
     {"types": None}, {"sub": 5}, {"exp": "soon"}, {"exp": True}, {"nbf": "x"}],
)  # fmt: skip
def test_claims_of_another_shape_are_refused(claims: dict[str, Any]) -> None:
    assert "claims" in refusal(signed(claims, rsa_key()))


@pytest.mark.parametrize(("claim", "ok"), [("exp", NOW - 29), ("nbf", NOW + 30), ("iat", NOW + 30)])
def test_clocks_may_differ_by_the_leeway(claim: str, ok: int) -> None:
    authenticator().verify(signed({claim: ok}, rsa_key()))
    refusal(signed({claim: ok - 1 if claim == "exp" else ok + 1}, rsa_key()))


def test_an_expired_token_is_called_so() -> None:
    assert refusal(signed({"exp": NOW - 3600}, rsa_key())) == "expected a token that has not expired"


def test_times_beyond_all_numbers_neither_pass_nor_crash() -> None:
    authenticator().verify(signed({"exp": 10**400}, rsa_key()))
    refusal(signed({"exp": -(10**400)}, rsa_key()))
    for text in ("1e999", "NaN", "Infinity"):
        refusal(forged_with_signature(f'{{"exp":{text}}}'.encode()))


def forged_with_signature(payload: bytes) -> str:
    from joserfc import jws

    return jws.serialize_compact({"alg": "RS256"}, payload, rsa_key())


@pytest.mark.parametrize(("claim", "option"), [("aud", "audience"), ("iss", "issuer")])
def test_audience_and_issuer_are_asked_for_where_configured(claim: str, option: str) -> None:
    options: dict[str, Any] = {option: "us"}
    checker = authenticator(**options)
    checker.verify(signed({claim: "us"}, rsa_key()))
    for claims in ({}, {claim: "them"}, {claim: ""}, {claim: None}):
        refusal(signed(claims, rsa_key()), checker)
    authenticator().verify(signed({claim: "them"}, rsa_key()))


def test_one_of_several_audiences_is_enough() -> None:
    authenticator(audience="us").verify(signed({"aud": ["them", "us"]}, rsa_key()))


def test_the_public_key_is_never_a_shared_secret() -> None:
    """CVE-2015-9235 and its many sisters: HS256 signed with the public RSA key as the secret."""
    from joserfc._rfc7515.compact import sign_compact
    from joserfc._rfc7515.model import CompactSignature
    from joserfc._rfc7518.jws_algs import HMACAlgorithm
    from joserfc.jwk import OctKey

    for form in (rsa_key().as_pem(private=False), rsa_key().as_der(private=False)):
        key = OctKey(form, form)
        token = sign_compact(CompactSignature({"alg": "HS256"}, b"{}"), HMACAlgorithm(256), key).decode()
        refusal(token)
        refusal(token, authenticator(None, "HS256"))
        refusal(token, authenticator(None, "RS256", "HS256"))


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
def test_a_token_without_a_signature_is_none(name: str) -> None:
    refusal(forged({"alg": name}, {"roles": ["admin"]}))


def test_only_configured_algorithms_are_accepted() -> None:
    refusal(signed({}, ec_key(), "ES256"), authenticator(ec_key()))
    refusal(signed({}, rsa_key(), "RS512"))
    refusal(signed({}, rsa_key(), "PS256"))


def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    own = rsa_key("attacker")
    refusal(signed({}, own, jwk=own.as_dict(private=False)))
    refusal(signed({}, own, jku="http://127.0.0.1:1/keys", kid="one"))


def test_another_issuers_signature_and_a_changed_payload_are_refused() -> None:
    refusal(signed({}, rsa_key("other")))
    head, payload, signature = signed({"roles": ["subscriber"]}, rsa_key()).split(".")
    refusal(f"{head}.{forged({}, {'roles': ['admin']}).split('.')[1]}.{signature}")
    refusal(f"{head}.{payload}.")
    refusal(f"{head}.{payload}")


def test_headers_that_are_not_known_are_ignored_unless_critical() -> None:
    authenticator().verify(_with_header({"alg": "RS256", "nonce": "x"}))
    refusal(forged({"alg": "RS256", "crit": ["nonce"], "nonce": "x"}, {}, b"x"))


def _with_header(header: dict[str, Any]) -> str:
    from joserfc import jws

    return jws.serialize_compact(header, b"{}", rsa_key(), registry=jws.JWSRegistry(strict_check_header=False))


JUNK = ["", ".", "..", "...", "a.b.c", "é.é.é", "\udcff.a.b", "x" * 200_000, forged([], {}), forged("alg", {}),
    forged(["alg"], {}), forged({"alg": []}, {}), forged({"alg": {}}, {}), forged({"alg": None}, {}),
    forged({"alg": "RS256", "kid": []}, {}), forged({"alg": "RS256", "crit": 5}, {}), forged(b"[" * 300, {}),
    forged(b'{"alg":"RS256","x":' + b"1" * 400 + b"}", {}), forged({"alg": "RS256"}, b"[" * 90_000)]  # fmt: skip


@pytest.mark.parametrize("token", JUNK, ids=range(len(JUNK)))
def test_junk_is_refused(token: str) -> None:
    refusal(token)


@pytest.mark.parametrize("payload", [b"[1]", b"5", b"[" * 50_000, b"\xff", b'{"a":' + b"1" * 5000 + b"}", b""])
def test_junk_with_a_good_signature_is_refused(payload: bytes) -> None:
    refusal(forged_with_signature(payload))


def test_random_damage_never_gets_in_and_never_crashes() -> None:
    rng = random.Random(7)
    checker = authenticator()
    seeds = [signed({"roles": ["admin"]}, rsa_key()), *JUNK]
    for _ in range(2000):
        text = list(rng.choice(seeds)[:800])
        for _ in range(rng.randint(1, 4)):
            if text:
                text[rng.randrange(len(text))] = chr(rng.randrange(300))
        damaged = "".join(text)
        try:
            checker.verify(damaged)
        except MessageError:
            continue
        # Base64 has spare bits in its last character: another spelling of the same token is no forgery.
        assert damaged.rpartition(".")[0] == seeds[0].rpartition(".")[0]
