"""What `serve` refuses, `config check` and `doctor` say; what protects less than it seems, all three warn of."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reachable import reachable_directory
from structlog.testing import capture_logs

from tidegate.cli import main, preflight, serving
from tidegate.cli.environment import LOG_LEVEL, TOKEN, URL
from tidegate.cli.preflight import Caution
from tidegate.config import load
from tidegate.plan import plan

LONG = "abcdefghijklmnop"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty directory that every user may enter, and no settings from the environment."""
    home = Path.cwd()
    with reachable_directory() as directory:
        monkeypatch.chdir(directory)
        monkeypatch.setenv("XDG_STATE_HOME", str(directory / "xdg"))
        monkeypatch.setattr("tidegate.cli.logs.configure", lambda level: None)
        for name in (URL, TOKEN, LOG_LEVEL):
            monkeypatch.delenv(name, raising=False)
        before = os.umask(0o022)
        yield
        os.umask(before)
        os.chdir(home)


def written(text: str) -> Path:
    path = Path("tidegate.toml")
    path.write_text(f"[server]\nport = 0\nallow_no_sources = true\n{text}")
    return path


KEYED = '[backends.b]\nsecrets = { k_env = "HOME" }\n'
BACKEND = '[backends.b]\nurl = "https://127.0.0.1:1"\n'
REFUSED = {
    "backends.b.ca_file": BACKEND + 'ca_file = "empty"',
    "backends.b.client_cert_file": BACKEND + 'client_cert_file = "empty"\nclient_key_file = "empty"',
    "backends.b.bearer_token_file": BACKEND + 'bearer_token_file = "empty"',
    "backends.b.secrets.k_file": BACKEND + 'secrets = { k_file = "empty" }',
    "backends.b.secrets.k_env": BACKEND + 'secrets = { k_env = "NO_SUCH_VARIABLE" }',
    "backends.b.url": '[backends.b]\nurl = "http://a%3Ab:pw@h"',
    "server.tls_cert_file": 'tls_cert_file = "empty"\ntls_key_file = "empty"',
    "auth.tokens[0].token_file": '[auth]\nmode = "token"\n[[auth.tokens]]\ntoken_file = "empty"',
    "auth.jwt.key_file": '[auth]\nmode = "jwt"\n[auth.jwt]\nkey_file = "empty"',
    "auth.jwt.secret_file": '[auth]\nmode = "jwt"\n[auth.jwt]\nalgorithms = ["HS256"]\nsecret_file = "empty"',
    "auth.jwt.jwks_url": '[auth]\nmode = "jwt"\n[auth.jwt]\njwks_url = "http://xn--a/"',
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_serve_refuses_because_of_a_file_the_check_and_the_doctor_say(
    setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").touch()
    path = str(written(REFUSED[setting]))
    said = []
    for command in (["serve"], ["config", "check"]):
        assert main([*command, "--config", path]) == 2
        first, *lines = capsys.readouterr().err.splitlines()
        assert first == "tidegate: the configuration is not usable:"
        assert [line.split(": expected")[0].strip() for line in lines] == [setting]
        said.append(lines)
    assert said[0] == said[1]
    assert main(["doctor", "--config", path]) == 1
    failures = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fail")]
    assert failures[0].endswith(said[0][0].strip())


def test_everything_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").touch()
    written(
        'state_dir = "empty/state"\n'
        + BACKEND
        + 'ca_file = "empty"\n[backends.c]\nurl = "https://h"\nca_file = "empty"\n'
        + '[auth]\nmode = "token"\n[[auth.tokens]]\ntoken_file = "empty"\n[[auth.tokens]]\ntoken_file = "empty"'
    )
    assert main(["config", "check"]) == 2
    assert [line.split(": expected")[0].strip() for line in capsys.readouterr().err.splitlines()[1:]] == [
        "auth.tokens[0].token_file",
        "auth.tokens[1].token_file",
        "backends.b.ca_file",
        "backends.c.ca_file",
        "server.state_dir",
    ]


@pytest.mark.parametrize("name", ["lock", "values.sqlite3", "values.sqlite3-wal"])
def test_a_link_among_the_state_files_is_a_problem(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("state").mkdir()
    Path("state", name).symlink_to("/etc/hostname")
    path = str(written('state_dir = "state"'))
    assert main(["config", "check", path]) == 2
    assert f"with {name}, which is a symbolic link" in capsys.readouterr().err
    assert main(["doctor", "--config", path]) == 1
    assert f"with {name}, which is a symbolic link" in capsys.readouterr().out
    assert main(["serve", "--config", path]) == 1
    assert "a symbolic link, which is not followed" in capsys.readouterr().err


def test_the_check_makes_nothing_and_minds_no_running_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    written('state_dir = "state/below"')
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().err == ""
    assert not Path("state").exists()


def secret(name: str, text: str = LONG, mode: int = 0o600) -> str:
    Path(name).write_text(text)
    Path(name).chmod(mode)
    return name


def cautions(text: str, mode: int = 0o600) -> list[Caution]:
    path = written(text)
    path.chmod(mode)
    config = load(path, environ=dict(os.environ))
    return preflight.cautions(config, plan(config), path)


TOKENS = '[auth]\nmode = "token"\n[[auth.tokens]]\n'


@pytest.mark.parametrize("length", [1, 15])
def test_short_tokens_are_warned_of(length: int) -> None:
    [inline] = cautions(f'{TOKENS}token = "{"t" * length}"')
    secret("t", "t" * length + "\n")
    [filed] = cautions(f'{TOKENS}token_file = "t"')
    assert (inline.setting, filed.setting) == ("auth.tokens[0].token", "auth.tokens[0].token_file")
    for caution in (inline, filed):
        assert caution.found == f"a token of {length} characters may be guessed"
        assert "token create" in caution.remedy


def test_long_tokens_in_private_files_are_not_warned_of() -> None:
    secret("t")
    assert cautions(f'{TOKENS}token_file = "t"\n[[auth.tokens]]\ntoken = "{LONG}"') == []


@pytest.mark.parametrize("mode", [0o644, 0o602, 0o640, 0o660])
def test_files_that_others_may_read_are_warned_of(mode: int) -> None:
    secret("t", mode=mode)
    secret("s", "s" * 32, mode=mode)
    exposed = bool(mode & 0o006)
    for text, setting in {
        TOKENS + 'token_file = "t"': "auth.tokens[0].token_file",
        BACKEND + 'bearer_token_file = "t"': "backends.b.bearer_token_file",
        BACKEND + 'secrets = { k_file = "t" }': "backends.b.secrets.k_file",
        BACKEND + 'client_cert_file = "t"\nclient_key_file = "t"': "backends.b.client_key_file",
        'tls_cert_file = "t"\ntls_key_file = "t"': "server.tls_key_file",
        '[auth]\nmode = "jwt"\n[auth.jwt]\nalgorithms = ["HS256"]\nsecret_file = "s"': "auth.jwt.secret_file",
    }.items():
        assert [caution.setting for caution in cautions(text)] == [setting] * exposed


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        (f'{TOKENS}token = "{LONG}"', True),
        ('[backends.b]\nurl = "http://u:p@h"', True),
        ('[backends.b]\nurl = "http://h"\nheaders = { X-Api-Key = "k" }', True),
        ('[backends.b]\nurl = "http://h"\nheaders = { Accept = "a" }', False),
        ('[backends.b]\nurl = "http://token@h"', True),
        ('[backends.b]\nurl = "http://h"\nproxy = "http://u:p@x:1"', True),
        (KEYED + 'url = "http://h"\nproxy = "http://u:{k}@x:1"', False),
        (KEYED + 'url = "http://u:{k}@h/?api_key={k}"\nheaders = { X-Api-Key = "Token {k}" }', False),
        (KEYED + 'url = "http://u:x{k}@h"', True),
        (KEYED + 'url = "http://h"\nheaders = { X-Api-Key = "abc{k}" }', True),
        ("", False),
    ],
)
def test_a_configuration_that_holds_secrets_itself_is_such_a_file(text: str, warned: bool) -> None:
    assert [caution.setting for caution in cautions(text, mode=0o644)] == ["tidegate.toml"] * warned
    assert cautions(text, mode=0o600) == []


def test_names_in_braces_that_are_no_secrets_are_warned_of() -> None:
    text = KEYED + 'url = "http://h/{x}"\n[sources."s.t"]\nbackend = "b"\nmethod = "m{k}"\nparams = { a = ["{y}"] }'
    found = cautions(text)
    assert [caution.setting for caution in found] == ["backends.b.url", 'sources."s.t".params']
    assert [caution.found for caution in found] == ["{x} is sent as it is", "{y} is sent as it is"]
    assert cautions(text.replace(KEYED, "[backends.b]\n")) == []


SOURCE = '[sources.s]\nbackend = "b"\nmethod = "m"\n'


def test_a_breaker_that_may_be_open_for_over_a_minute_is_warned_of_with_what_it_costs() -> None:
    [set_] = cautions(BACKEND + "timeout_s = 3\nbreaker.open_max_s = 300")
    assert set_.setting == "backends.b.breaker.open_max_s"
    assert set_.found == "after an outage, data may stay stale for up to 303 s after the backend is back"
    assert "at most 60 s" in set_.remedy
    [first] = cautions(BACKEND + "breaker.open_s = 90")
    assert (first.setting, "92 s" in first.found) == ("backends.b.breaker.open_s", True)
    assert cautions(BACKEND + "breaker.open_max_s = 60") == []


def test_a_source_that_is_polled_rarely_may_wait_longer() -> None:
    hourly = f"{SOURCE}interval_s = 3600"
    assert cautions(f"{BACKEND}\n{hourly}") == []
    assert cautions(f"{BACKEND}breaker.open_max_s = 300\n{hourly}") == []
    [longer] = cautions(f"{BACKEND}breaker.open_max_s = 400\n{hourly}")
    assert "402 s" in longer.found


def test_the_longest_call_of_the_sources_counts() -> None:
    [longer] = cautions(f"{BACKEND}breaker.open_max_s = 100\n{SOURCE}timeout_s = 11\ninterval_s = 60")
    assert "111 s" in longer.found


def test_a_batch_that_waits_for_a_slow_source_is_warned_of() -> None:
    slow = '[sources."slow.x"]\nbackend = "b"\nmethod = "m"\ntimeout_s = 20\n'
    [caution] = cautions(f"{BACKEND}batch = true\n{SOURCE}{slow}")
    assert caution.setting == 'sources."slow.x".timeout_s'
    assert "may take 20 s too" in caution.found
    assert cautions(f"{BACKEND}batch = true\n{SOURCE}timeout_s = 20\n{slow}") == []
    assert cautions(f"{BACKEND}{SOURCE}{slow}") == []


def test_publishers_without_a_state_directory_are_warned_of() -> None:
    listed = f'state_dir = ""\n{TOKENS}token = "{LONG}"\n[[auth.tokens]]\ntoken = "{LONG}2"\nroles = ["ROLE"]'
    [caution] = cautions(listed.replace("ROLE", "publisher"))
    assert caution.setting == "server.state_dir"
    assert caution.found == "auth.tokens[1] may publish, but what is published with `retain` is gone after a restart"
    assert cautions(listed.replace("ROLE", "admin")) == []
    assert cautions(listed.replace("ROLE", "publisher").replace('state_dir = ""', 'state_dir = "state"')) == []
    assert cautions('state_dir = ""') == [], "everybody may publish, but hardly anybody does"


async def test_check_start_and_doctor_all_warn(capsys: pytest.CaptureFixture[str]) -> None:
    path = written(f'state_dir = ""\n{TOKENS}token_file = "t"')
    secret("t", "short", mode=0o644)
    config = load(path, environ=dict(os.environ))
    with capture_logs() as lines:
        serving._check_files(config, path)
    assert [(line["log_level"], line["setting"]) for line in lines] == [("warning", "auth.tokens[0].token_file")] * 2
    found = {str(line["found"]) for line in lines}
    assert any("5 characters" in text for text in found)
    assert any("other users" in text for text in found)
    assert any(f"chmod o= {Path('t').absolute()}" in line["remedy"] for line in lines)


def test_check_and_doctor_print_the_warnings_and_succeed(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(f'state_dir = ""\n{TOKENS}token_file = "t"'))
    secret("t", "short", mode=0o644)
    assert main(["config", "check", path]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("tidegate: warning: auth.tokens[0].token_file: ") == 2
    assert "no problem" in captured.out
    assert main(["doctor", "--config", path]) == 0
    assert capsys.readouterr().out.count("warn  tokens and certificates: auth.tokens[0].token_file") == 2


def test_check_start_and_doctor_warn_of_what_has_a_price(capsys: pytest.CaptureFixture[str]) -> None:
    secret("t")
    path = written(f'state_dir = ""\n{TOKENS}token_file = "t"\nroles = ["publisher"]')
    config = load(path, environ=dict(os.environ))
    with capture_logs() as lines:
        serving._check_files(config, path)
    assert [(line["log_level"], line["setting"]) for line in lines] == [("warning", "server.state_dir")]
    assert main(["config", "check", str(path)]) == 0
    assert "tidegate: warning: server.state_dir: auth.tokens[0] may publish" in capsys.readouterr().err
    assert main(["doctor", "--config", str(path)]) == 0
    assert "warn  configuration: server.state_dir: auth.tokens[0] may publish" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["c.toml"], ["--config", "c.toml"], ["--config=c.toml"]])
@pytest.mark.parametrize("command", ["check", "show"])
def test_a_file_is_named_with_and_without_the_option(
    command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.toml").write_text('[server]\nstate_dir = ""\nport = 4711\nallow_no_sources = true')
    assert main(["config", command, *arguments]) == 0
    assert ("c.toml: 0 backend(s)" if command == "check" else "port = 4711") in capsys.readouterr().out
    assert main(["config", command, "a.toml", "--config", "b.toml"]) == 2
    assert "--config: expected no other file beside it, got a.toml" in capsys.readouterr().err


def test_what_a_file_says_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tricky: dict[str, Any] = {"a\u202e\x9b": 1}
    Path("c.toml").write_text(f'[server]\nhost = "\\u001b[2J\\u009b\\u202e"\n"{next(iter(tricky))}" = 1\n')
    assert main(["config", "check", "c.toml"]) == 2
    text = capsys.readouterr().err
    assert all(line.isprintable() for line in text.splitlines())
    Path("c.toml").write_text('[server]\nstate_dir = "/tmp/\\u009b\\u202e\\U000e0041"')
    assert main(["config", "show", "c.toml"]) == 0
    shown = capsys.readouterr().out
    assert 'state_dir = "/tmp/\\u009b\\u202e\\U000e0041"' in shown
    assert all(line.isprintable() for line in shown.splitlines())
