"""Names in the environment and dotted paths on the command line."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.config import Config, TokenConfig, from_document
from tidegate.core.access.grant import RoleName

Problems = Callable[..., dict[str, str]]
ALL_ROLES: tuple[RoleName, ...] = ("subscriber", "publisher", "admin")


def loaded(text: str = "", **environ: str) -> Config:
    return from_document(tomllib.loads(text), environ=environ)


def test_scalars_of_every_section() -> None:
    config = loaded(
        "[backends.engine]",
        TIDEGATE_SERVER__HOST="::1",
        TIDEGATE_LIMITS__MESSAGES_PER_S="0.5",
        TIDEGATE_HISTORY__BYTES="0",
        TIDEGATE_AUTH__MODE="none",
        TIDEGATE_BACKENDS__ENGINE__URL="http://h",
        TIDEGATE_BACKENDS__ENGINE__BATCH="true",
        TIDEGATE_BACKENDS__ENGINE__BREAKER__OPEN_S="1.5",
    )
    assert (config.server.host, config.limits.messages_per_s, config.history.bytes) == ("::1", 0.5, 0)
    engine = config.backends["engine"]
    assert (engine.url, engine.batch, engine.breaker.open_s) == ("http://h", True, 1.5)


def test_values_go_into_what_the_file_has() -> None:
    config = loaded('[backends.b]\nurl = "http://h"\ntimeout_s = 9.0', TIDEGATE_BACKENDS__B__URL="http://other")
    assert (config.backends["b"].url, config.backends["b"].timeout_s) == ("http://other", 9.0)


def test_a_backend_name_with_dashes_is_found() -> None:
    config = loaded('[backends.my-own_engine]\nurl = "http://h"', TIDEGATE_BACKENDS__MY_OWN_ENGINE__TIMEOUT_S="9")
    assert {name: backend.timeout_s for name, backend in config.backends.items()} == {"my-own_engine": 9.0}


def test_text_stays_text() -> None:
    assert loaded(TIDEGATE_SERVER__HOST="localhost", TIDEGATE_SERVER__ROOT_PATH="/1").server.root_path == "/1"


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("TIDEGATE_SERVER__PROT", "server.prot", "did you mean 'port'?"),
        ("TIDEGATE_SERVER__PROT", "server.prot", "got an unknown one from TIDEGATE_SERVER__PROT"),
        ("TIDEGATE_SERVER__PORT__X", "server.port", "expected a whole number"),
        ("TIDEGATE_SERVER", "server", 'expected a table, got "1" from TIDEGATE_SERVER'),
        ("TIDEGATE_SERVER_PORT", "TIDEGATE_SERVER_PORT", "such as TIDEGATE_SERVER__PORT"),
        ("TIDEGATE_SOURCES__X__METHOD", "TIDEGATE_SOURCES__X__METHOD", "an unknown name in the environment"),
        ("TIDEGATE_", "TIDEGATE_", "an unknown name in the environment"),
        ("TIDEGATE_SERVER__ALLOWED_HOSTS", "server.allowed_hosts", "expected a list of text"),
        ("TIDEGATE_BACKENDS__ENGINE", "backends.engine", "expected a table"),
        ("TIDEGATE_AUTH__JWT", "auth.jwt", "expected a table"),
    ],
)
def test_names_that_set_nothing_are_refused(problems: Problems, name: str, path: str, message: str) -> None:
    document = {"server": {"port": "x"}} if name.endswith("__X") else {}
    assert message in problems(document, environ={name: "1"})[path]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "BACKENDS__B__HEADERS__X_API_KEY",
            "expected a key with one value: backends.b.headers can only be set as a whole",
        ),
        ("BACKENDS__B__HEADERS__A__B", "got backends.b.headers.a.b"),
        ("BACKENDS__B__BREAKER__OPEN_S__X", "backends.b.breaker.open_s can only be set as a whole"),
        ("BACKENDS__B__BREAKER__IGNORED_CODES__0", "backends.b.breaker.ignored_codes can only be set as a whole"),
        (
            "BACKENDS__TYPO__TIMEOUT_S",
            "expected the name of a configured backend (b, my-own), got backends.typo.timeout_s",
        ),
        ("BACKENDS__TYPO__URL", "expected the name of a configured backend (b, my-own)"),
        ("SERVER__PORT__X", "server.port can only be set as a whole"),
        ("SERVER__ALLOWED_HOSTS__0", "server.allowed_hosts can only be set as a whole"),
        ("AUTH__TOKENS__0__TOKEN", "auth.tokens can only be set as a whole"),
        ("AUTH__JWT__ALGORITHMS__0", "auth.jwt.algorithms can only be set as a whole"),
    ],
)
def test_only_single_values_of_known_tables_can_be_set(problems: Problems, name: str, message: str) -> None:
    backends = {"b": {"url": "http://h", "headers": {"X-Api-Key": "file"}}, "my-own": {"url": "http://h"}}
    document = {"server": {"port": 8080}, "backends": backends}
    found = problems(document, environ={f"TIDEGATE_{name}": "1"})
    assert list(found) == [f"TIDEGATE_{name}"]
    assert message in found[f"TIDEGATE_{name}"]


def test_of_jwt_too(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    config = loaded('[auth]\nmode = "jwt"', TIDEGATE_AUTH__JWT__KEY_FILE=str(tmp_path / "key"))
    assert config.auth.jwt is not None
    assert config.auth.jwt.key_file == str(tmp_path / "key")


def test_other_names_are_left_alone() -> None:
    config = loaded(
        HOME="/h",
        XTIDEGATE_SERVER__PORT="1",
        TIDEGATE_SERVICE_HOST="10.0.0.1",
        TIDEGATE_SERVICE_PORT="80",
        TIDEGATE_SERVICE_PORT_HTTP="80",
        TIDEGATE_PORT="tcp://10.0.0.1:80",
        TIDEGATE_PORT_80_TCP="tcp://10.0.0.1:80",
        TIDEGATE_PORT_80_TCP_ADDR="10.0.0.1",
    )
    assert config.server.port == 12080


class TestTokenFile:
    @pytest.fixture
    def token_file(self, tmp_path: Path) -> str:
        path = tmp_path / "token"
        path.write_text("secret")
        return str(path)

    def test_one_token_with_every_role(self, token_file: str) -> None:
        auth = loaded(TIDEGATE_AUTH__TOKEN_FILE=token_file).auth
        assert auth.mode == "token"
        assert auth.tokens == (TokenConfig(token_file=token_file, roles=ALL_ROLES),)

    def test_beside_those_of_the_file(self, token_file: str) -> None:
        auth = loaded('[auth]\nmode = "token"\ntokens = [{ token = "a" }]', TIDEGATE_AUTH__TOKEN_FILE=token_file).auth
        assert [token.token or token.token_file for token in auth.tokens] == ["a", token_file]

    def test_allows_every_address(self, token_file: str) -> None:
        config = loaded(TIDEGATE_AUTH__TOKEN_FILE=token_file, TIDEGATE_SERVER__HOST="0.0.0.0")
        assert config.server.host == "0.0.0.0"

    def test_not_with_mode_none(self, problems: Problems, token_file: str) -> None:
        environ = {"TIDEGATE_AUTH__TOKEN_FILE": token_file, "TIDEGATE_AUTH__MODE": "none"}
        assert "because of tokens" in problems(environ=environ)["auth.mode"]

    def test_relative_paths_begin_in_the_working_directory(
        self, token_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        environ = {"TIDEGATE_AUTH__TOKEN_FILE": "token"}
        config = from_document({}, environ=environ, directory=Path("/elsewhere"))
        assert config.auth.tokens[0].token_file == token_file

    def test_missing(self, problems: Problems) -> None:
        found = problems(environ={"TIDEGATE_AUTH__TOKEN_FILE": "/none"})
        assert found == {
            "auth.tokens[0].token_file": "expected a file that exists and can be read, "
            'got "/none" from TIDEGATE_AUTH__TOKEN_FILE (looked at /none)'
        }

    @pytest.mark.parametrize("document", [{"auth": 3}, {"auth": {"tokens": 3}}])
    def test_what_is_no_table_stays_wrong(
        self, problems: Problems, token_file: str, document: dict[str, object]
    ) -> None:
        found = problems(document, environ={"TIDEGATE_AUTH__TOKEN_FILE": token_file})
        assert set(found) <= {"auth", "auth.tokens"}


class TestOverrides:
    def test_dotted_paths_with_quotes(self) -> None:
        document = {
            "backends": {"b": {"url": "http://h"}},
            "sources": {"system.status": {"backend": "b", "method": "m"}},
        }
        overrides = {'sources."system.status".interval_s': 1, "server.allowed_hosts": ["a"], "server.port": "8080"}
        config = from_document(document, environ={}, overrides=overrides)
        assert config.sources["system.status"].interval_s == 1.0
        assert config.server.allowed_hosts == ("a",)
        assert config.server.port == 8080

    def test_unknown_ones_are_refused(self, problems: Problems) -> None:
        assert "from the command line" in problems(overrides={"server.prot": 1})["server.prot"]

    def test_the_document_is_left_as_it_was(self) -> None:
        document = {"server": {"port": 1}}
        from_document(document, environ={"TIDEGATE_SERVER__PORT": "2"}, overrides={"server.port": 3})
        assert document == {"server": {"port": 1}}
