"""From files, environment and command line to a `Config`, or to every problem at once."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.config import Config, ServerConfig, TokenConfig, from_document, load
from tidegate.config.loading import server_table
from tidegate.config.section import Section
from tidegate.errors import ConfigError

Problems = Callable[..., dict[str, str]]

CONTRACT = """
[server]
host = "127.0.0.1"
port = 12080
allowed_hosts = []
allowed_origins = []
trusted_proxies = []
root_path = ""
default_types = []
heartbeat_interval_s = 10.0
drain_s = 5.0
max_clients = 10000

[limits]
message_bytes = 65536
publish_bytes = 1048576
event_bytes = 1048576
messages_per_s = 50.0
messages_burst = 100
patterns = 128
connects_per_s = 1000.0
connects_burst = 5000
send_buffer_soft_bytes = 262144
send_buffer_hard_bytes = 4194304
slow_grace_s = 10.0
handshake_s = 10.0
rpc_error_interval_s = 30.0

[history]
events = 10000
bytes = 67108864

[backends.engine]
url = "http://127.0.0.1:12081/rpc"
protocol = "jsonrpc"
timeout_s = 2.0
response_bytes = 8388608
batch = false
headers = {}

[backends.engine.breaker]
failure_threshold = 5
open_s = 2.0
open_max_s = 300.0
half_open_successes = 1
heal_s = 30.0

[sources."system.status"]
backend = "engine"
method = "system.status"
params = {}
interval_s = 5.0
on_change = false
select = ""
stale_repeat = true

[sources."agent.status"]
backend = "engine"
method = "agents.list"
items = "/agents"
key = "id"
interval_s = 2.0

[auth]
mode = "token"
[[auth.tokens]]
token = "…"
roles = ["subscriber"]
types = ["system.*"]
[auth.jwt]
algorithms = ["RS256"]
key_file = "jwt.pub"
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_documented_file_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "jwt.pub").touch()
    config = load(written(tmp_path / "tidegate.toml", CONTRACT), environ={})
    assert config.server == Config(server=config.server).server
    assert (config.limits, config.history) == (Config().limits, Config().history)
    assert config.backends["engine"].breaker.open_max_s == 300.0
    assert config.sources["agent.status"].items == "/agents"
    assert config.auth.tokens == (TokenConfig(token="…", roles=("subscriber",), types=("system.*",)),)
    assert config.auth.jwt is not None
    assert config.auth.jwt.key_file == str(tmp_path / "jwt.pub")


def test_no_file_is_the_environment_alone() -> None:
    assert load(None, environ={"TIDEGATE_SERVER__PORT": "8080"}).server.port == 8080


class TestAFileWithoutASource:
    EXPECTED = (
        'expected at least one table [sources."TYPE"], unless server.allow_no_sources = true (for publishers only)'
    )

    @staticmethod
    def problems(path: Path, **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(path, environ=environ, needs_sources=True)
        return [str(problem) for problem in caught.value.problems]

    @pytest.mark.parametrize("text", ["", "# nothing yet\n", "\n\n"])
    def test_an_empty_one_is_refused(self, tmp_path: Path, text: str) -> None:
        path = written(tmp_path / "t.toml", text)
        assert self.problems(path, TIDEGATE_SERVER__PORT="1") == [f"sources: {self.EXPECTED}, got an empty file"]

    def test_the_beginning_of_one_is_refused(self, tmp_path: Path) -> None:
        beginning, _, _ = CONTRACT.partition('[sources."')
        path = written(tmp_path / "t.toml", beginning)
        assert self.problems(path) == [f"sources: {self.EXPECTED}, got none"]

    def test_it_is_refused_together_with_all_else(self, tmp_path: Path) -> None:
        problems = self.problems(written(tmp_path / "t.toml", "[server]\nport = -1"))
        assert [problem.split(":")[0] for problem in problems] == ["server.port", "sources"]

    def test_what_is_wrong_with_sources_is_enough(self, tmp_path: Path) -> None:
        [problem] = self.problems(written(tmp_path / "t.toml", "sources = 5"))
        assert "expected a table" in problem

    def test_a_gateway_for_publishers_says_so(self, tmp_path: Path) -> None:
        path = written(tmp_path / "t.toml", "[server]\nallow_no_sources = true")
        assert load(path, environ={}, needs_sources=True).sources == {}
        environ = {"TIDEGATE_SERVER__ALLOW_NO_SOURCES": "true"}
        assert load(written(path, ""), environ=environ, needs_sources=True).sources == {}

    def test_only_who_needs_sources_asks_for_them(self, tmp_path: Path) -> None:
        assert load(written(tmp_path / "t.toml", ""), environ={}) == Config(server=load(None, environ={}).server)


def test_command_line_over_environment_over_file(tmp_path: Path) -> None:
    path = written(tmp_path / "t.toml", "[server]\nport = 1\ndrain_s = 1\nmax_clients = 1")
    environ = {"TIDEGATE_SERVER__PORT": "2", "TIDEGATE_SERVER__DRAIN_S": "2"}
    config = load(path, environ=environ, overrides={"server.port": 3, "server.host": None})
    assert (config.server.port, config.server.drain_s, config.server.max_clients) == (3, 2.0, 1)
    assert config.server.host == "127.0.0.1"


def test_every_problem_comes_at_once(problems: Problems) -> None:
    found = problems(
        """
        nope = 1
        [server]
        port = 65536
        prot = 8080
        [limits]
        event_bytes = "many"
        [sources."system.status"]
        method = "status"
        interval_s = -1
        """,
        environ={"TIDEGATE_HISTORY__EVENTS": "few"},
        overrides={"server.drain_s": "soon"},
    )
    assert found == {
        "nope": "expected a known key (server, limits, history, backends, sources, auth), got an unknown one",
        "server.port": "expected a whole number from 0 to 65535, got 65536",
        "server.prot": "expected a known key (did you mean 'port'?), got an unknown one",
        "server.drain_s": 'expected a number of seconds from 0 to 31536000, got "soon" from the command line',
        "limits.event_bytes": 'expected a whole number of bytes from 1 to 1099511627776, got "many"',
        "history.events": 'expected a whole number from 0 to 2147483647, got "few" from TIDEGATE_HISTORY__EVENTS',
        'sources."system.status".backend': "expected text that is not empty, got nothing",
        'sources."system.status".interval_s': "expected a number of seconds above 0 and up to 31536000, got -1",
    }


def test_the_message_has_one_line_per_problem() -> None:
    with pytest.raises(ConfigError, match=r"^server\.port: expected .*\nlimits\.patterns: expected .*$"):
        from_document({"server": {"port": "x"}, "limits": {"patterns": 0}}, environ={})


class TestFiles:
    @staticmethod
    def problem(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load(path, environ={})
        (problem,) = caught.value.problems
        return str(problem)

    def test_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "none.toml"
        assert self.problem(path) == f"{path}: expected a configuration file, got no such file"

    def test_directory(self, tmp_path: Path) -> None:
        assert "that can be read, got a directory, not a regular file" in self.problem(tmp_path)

    def test_a_pipe_that_nobody_writes_to_is_not_waited_for(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe.toml"
        os.mkfifo(path)
        assert "that can be read, got a named pipe, not a regular file" in self.problem(path)
        assert server_table(path, environ={}).port == ServerConfig().port

    def test_a_device_and_a_file_without_an_end_are_not_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "got a device, not a regular file" in self.problem(Path("/dev/zero"))
        monkeypatch.setattr("tidegate.config.loading.FILE_BYTES", 20)
        path = tmp_path / "long.toml"
        path.write_text("# 18 characters   \n", encoding="utf-8")
        load(path, environ={})
        path.write_text("# 20 characters more\n", encoding="utf-8")
        assert "that can be read, got more than 20 bytes" in self.problem(path)

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("a = 1\n[server\nport = 1", "line 2, column 8"),
            ("a = 1\nbc =", "line 2, column 5"),
            ("a = 1\nbc = 'x", "line 2, column 8"),
            ("a = 1\nbc = 1 2\nd = 3", "line 2, column 8"),
        ],
    )
    def test_syntax_errors_have_a_place(self, tmp_path: Path, text: str, place: str) -> None:
        path = written(tmp_path / "t.toml", text)
        message = self.problem(path)
        assert message.startswith(f"{path}, {place}: expected TOML, got a syntax error: ")
        assert "(at" not in message

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "t.toml"
        path.write_bytes(b"a = 1\nb = '\xff'")
        assert self.problem(path) == f"{path}, line 2, column 6: expected text in UTF-8, got other bytes"

    def test_nested_too_deep(self, tmp_path: Path) -> None:
        assert "too deep" in self.problem(written(tmp_path / "t.toml", "a = " + "[" * 10_000))

    def test_integer_of_thousands_of_digits(self, tmp_path: Path) -> None:
        assert "expected TOML, got " in self.problem(written(tmp_path / "t.toml", "a = " + "9" * 10_000))

    def test_relative_paths_begin_beside_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "ca.pem").touch()
        path = written(
            tmp_path / "t.toml",
            "[server]\nstate_dir = 'state'\n[backends.b]\nurl='http://h'\nca_file='ca.pem'\nsocket='s'",
        )
        config = load(path, environ={})
        assert config.backends["b"].ca_file == str(tmp_path / "ca.pem")
        assert config.backends["b"].socket == str(tmp_path / "s")
        assert config.server.state_dir == str(tmp_path / "state")
        monkeypatch.chdir(tmp_path)
        assert load(Path("t.toml"), environ={}) == config


class TestStateDir:
    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "HOME": "/home/u"}, "/var/lib/a"),
            ({"XDG_STATE_HOME": "/xdg", "HOME": "/home/u"}, "/xdg/tidegate"),
            ({"XDG_STATE_HOME": "not/absolute", "HOME": "/home/u"}, "/home/u/.local/state/tidegate"),
            ({"HOME": "/home/u"}, "/home/u/.local/state/tidegate"),
            ({}, ""),
        ],
    )
    def test_default(self, environ: dict[str, str], expected: str) -> None:
        assert from_document({}, environ=environ).server.state_dir == expected

    def test_empty_turns_it_off(self) -> None:
        environ = {"HOME": "/home/u"}
        assert from_document({"server": {"state_dir": ""}}, environ=environ).server.state_dir == ""
        assert from_document({}, environ={**environ, "TIDEGATE_SERVER__STATE_DIR": ""}).server.state_dir == ""

    def test_home_is_expanded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/u")
        assert from_document({"server": {"state_dir": "~/s"}}, environ={}).server.state_dir == "/home/u/s"

    def test_home_of_nobody_is_a_name_like_others(self) -> None:
        config = from_document({"server": {"state_dir": "~no-such-user/s"}}, environ={}, directory=Path("/d"))
        assert config.server.state_dir == "/d/~no-such-user/s"


KEYS = sorted({name for section in Section.__subclasses__() for name in section.__struct_fields__})
NAMES = st.sampled_from([*KEYS, "engine", "system.status", "X", ""]) | st.text(max_size=5)
TEXTS = st.sampled_from(
    ["token", "jwt", "none", "http", "http://h", "http://[", "/a", "*", "system.*", "\0", "~nobody/x"]
)
VALUES: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**70)
    | st.floats()
    | st.text(max_size=10)
    | TEXTS
    | st.dates()
    | st.times()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
SHAPED = st.fixed_dictionaries(
    {},
    optional={
        "server": st.dictionaries(NAMES, VALUES, max_size=4) | VALUES,
        "backends": st.dictionaries(NAMES, st.fixed_dictionaries({"url": TEXTS | VALUES}) | VALUES, max_size=2),
        "sources": st.dictionaries(
            NAMES, st.fixed_dictionaries({"backend": NAMES, "method": NAMES, "params": VALUES}) | VALUES, max_size=2
        ),
        "auth": st.fixed_dictionaries({}, optional={"mode": TEXTS, "tokens": st.lists(VALUES), "jwt": VALUES}),
    },
)
ENVIRON = st.dictionaries(
    st.lists(st.sampled_from([*KEYS, "engine", "x", "sources", ""]), max_size=4).map(
        lambda names: "TIDEGATE_" + "__".join(names).upper()
    ),
    st.text(max_size=5) | TEXTS,
    max_size=3,
)


@given(document=SHAPED | st.dictionaries(NAMES, VALUES), environ=ENVIRON)
def test_whatever_comes_only_config_errors_are_raised(document: dict[str, object], environ: dict[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(from_document(document, environ=environ), Config)


def test_params_of_any_depth_are_refused_not_followed(problems: Problems) -> None:
    deep: dict[str, object] = {}
    for _ in range(50_000):
        deep = {"a": deep}
    document = {
        "backends": {"b": {"url": "http://h"}},
        "sources": {"s": {"backend": "b", "method": "m", "params": deep}},
    }
    assert "at most 64 deep" in problems(document)["sources.s.params"]
