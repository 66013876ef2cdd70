"""``token create``: what it prints is what the gateway then believes."""

import stat
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from signing import ec_key, rsa_key

from tidegate.cli import main, tokens
from tidegate.config import from_document
from tidegate.core.access.grant import EVERYTHING, Grant, Role
from tidegate.core.topics import PatternSet
from tidegate.errors import MessageError
from tidegate.outbound.auth import opening
from tidegate.outbound.auth.jwt import LEEWAY_S
from tidegate.plan import plan

SECRET = "s" * 32


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def grant(auth: Mapping[str, object], token: str) -> Grant:
    """What a gateway with this `[auth]` lets the bearer of `token` do."""
    return opening.made(plan(from_document({"auth": auth}, environ={})).authentication).verify(token)


def created(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["token", "create", *arguments]) == 0
    return capsys.readouterr().out


def listed(printed: str) -> dict[str, Any]:
    """What is printed, pasted below a table of one's own."""
    auth: dict[str, Any] = tomllib.loads(f'[auth]\nmode = "token"\n{printed}')["auth"]
    return auth


class TestListed:
    def test_is_a_table_to_paste(self, capsys: pytest.CaptureFixture[str]) -> None:
        auth = listed(created(capsys))
        (table,) = auth["tokens"]
        assert table == {"token": table["token"], "roles": ["subscriber"]}
        assert grant(auth, table["token"]) == Grant(name="token 0", roles=frozenset({Role.SUBSCRIBER}))

    def test_carries_roles_and_patterns(self, capsys: pytest.CaptureFixture[str]) -> None:
        auth = listed(created(capsys, "--role", "publisher", "--role", "admin", "--types", "b.*, a"))
        (table,) = auth["tokens"]
        found = grant(auth, table["token"])
        assert found.roles == {Role.PUBLISHER, Role.ADMIN}
        assert found.allowed == PatternSet(["a", "b.*"])

    def test_is_another_one_each_time_and_long(self, capsys: pytest.CaptureFixture[str]) -> None:
        found = {listed(created(capsys))["tokens"][0]["token"] for _ in range(20)}
        assert len(found) == 20
        assert all(token.startswith(tokens.PREFIX) and len(token) >= 46 for token in found)

    def test_in_a_file_for_its_owner_alone(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        printed = created(capsys, "--file", "token")
        path = Path("token").absolute()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        token = path.read_text().strip()
        assert token not in printed
        auth = listed(printed)
        assert auth["tokens"][0]["token_file"] == str(path)
        monkeypatch.chdir("/")
        assert grant(auth, token).allowed == EVERYTHING


class TestSigned:
    @pytest.mark.parametrize(("algorithm", "key"), [("RS256", rsa_key()), ("ES256", ec_key())])
    def test_with_a_private_key(self, algorithm: str, key: Any, capsys: pytest.CaptureFixture[str]) -> None:
        Path("private.pem").write_bytes(key.as_pem(private=True))
        Path("public.pem").write_bytes(key.as_pem(private=False))
        auth = {"mode": "jwt", "jwt": {"algorithms": [algorithm], "key_file": str(Path("public.pem").absolute())}}
        given = ["--sub", "dashboard", "--types", "system.*", "--role", "publisher", "--expires-s", "60"]
        token = created(capsys, "--key-file", "private.pem", *given)
        assert token.count("\n") == 1
        found = grant(auth, token.strip())
        assert (found.name, found.allowed) == ("dashboard", PatternSet(["system.*"]))
        assert found.roles == {Role.PUBLISHER}

    def test_with_a_shared_secret_for_an_audience(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("secret").write_text(f"{SECRET}\n")
        jwt = {"algorithms": ["HS256"], "secret_file": str(Path("secret").absolute()), "audience": "us", "issuer": "me"}
        auth = {"mode": "jwt", "jwt": jwt}
        token = created(capsys, "--secret-file", "secret", "--audience", "us", "--issuer", "me").strip()
        assert grant(auth, token).roles == {Role.SUBSCRIBER}
        with pytest.raises(MessageError, match="claims"):
            grant(auth, created(capsys, "--secret-file", "secret", "--audience", "others").strip())

    @pytest.mark.parametrize(("given", "seconds"), [([], tokens.EXPIRES_S), (["--expires-s", "5"], 5)])
    def test_is_good_for_as_long_as_it_says(
        self, given: list[str], seconds: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("secret").write_text(SECRET)
        jwt = {"algorithms": ["HS256"], "secret_file": str(Path("secret").absolute())}
        before = int(time.time())
        token = created(capsys, "--secret-file", "secret", *given).strip()
        expires_at = grant({"mode": "jwt", "jwt": jwt}, token).expires_at
        assert expires_at is not None
        assert before <= expires_at - LEEWAY_S - seconds <= time.time()

    def test_into_a_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("secret").write_text(SECRET)
        assert created(capsys, "--secret-file", "secret", "--file", "bearer") == ""
        assert Path("bearer").read_text().count(".") == 2
        assert stat.S_IMODE(Path("bearer").stat().st_mode) == 0o600


class TestRefused:
    def test_nothing_is_overwritten(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("mine").write_text("mine")
        Path("link").symlink_to("nowhere")
        for name in ("mine", "link"):
            assert main(["token", "create", "--file", name]) == 1
            assert f"{name} already exists" in capsys.readouterr().err
        assert Path("mine").read_text() == "mine"
        assert not Path("nowhere").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--role", "king"], "subscriber"),
            (["--types", "A"], "--types: expected patterns separated by commas, got 'A'"),
            (["--sub", "me"], "--sub: expected --key-file or --secret-file beside it"),
            (["--expires-s", "60"], "--expires-s: expected --key-file or --secret-file beside it"),
            (["--expires-s", "0", "--secret-file", "secret"], "expires-s"),
            (["--key-file", "private.pem", "--secret-file", "secret"], "--secret-file: expected no --key-file"),
            (["--key-file", "none"], "--key-file: expected a PEM file with an unencrypted private key"),
            (["--key-file", "public.pem"], "public.pem with something else"),
            (["--key-file", "other.pem"], "EC on P-256, got other.pem with something else"),
            (["--key-file", "locked.pem"], "locked.pem with something else"),
            (["--secret-file", "short"], "--secret-file: expected a file with a secret of at least 32 bytes"),
        ],
    )
    def test_what_cannot_be_used_is_named(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("private.pem").write_bytes(ec_key().as_pem(private=True))
        Path("public.pem").write_bytes(ec_key().as_pem(private=False))
        Path("other.pem").write_bytes(ECKey.generate_key("P-384").as_pem(private=True))
        Path("locked.pem").write_bytes(ec_key().as_pem(private=True, password="p"))
        Path("secret").write_text(SECRET)
        Path("short").write_text("short")
        assert main(["token", "create", *arguments, "--file", "made"]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.out == ""
        assert not Path("made").exists()
