"""Commands as `main` runs them, in this process."""

import asyncio
import json
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import structlog
import structlog.testing

from tidegate import __version__
from tidegate.cli import configuring, main, serving
from tidegate.cli.environment import LOG_LEVEL, TOKEN, URL
from tidegate.cli.following import Following
from tidegate.config import EXAMPLE
from tidegate.config.recipes import recipe, recipes
from tidegate.errors import ConfigError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory and no settings from the environment."""
    monkeypatch.chdir(tmp_path)
    for name in (URL, TOKEN, LOG_LEVEL):
        monkeypatch.delenv(name, raising=False)


class Recorder(HTTPServer):
    """A gateway that takes whatever is posted; `posts` are token and body."""

    def __init__(self) -> None:
        self.posts: list[tuple[str | None, bytes]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Recorder)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.headers["Authorization"], body))
        refused = b'"polled"' in body
        if b'"tricky"' in body:
            self.send_response(403)
            self.end_headers()
            self.wfile.write('{"detail":"no\\u001b[2J\u202e\\nok"}'.encode())
            return
        self.send_response(403 if refused else 202)
        self.end_headers()
        self.wfile.write(b'{"detail":"it is polled"}' if refused else b'{"epoch":"e1","seq":9}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tidegate {__version__}\n" * 2


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    commands = "serve reload demo engine watch publish faultproxy verify config token doctor version"
    for name in commands.split():
        assert f" {name} " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], 'Unknown command "nonsense"'),
        (["serve", "--nonsense"], "nonsense"),
        (["serve", "--port", "http"], "port"),
        (["serve", "--port", "70000"], "port"),
        (["serve", "--workers", "2"], "--workers"),
        (["serve", "--config", "none.toml", "--demo"], "--demo: expected no --config beside it, got none.toml"),
        (["doctor", "--config", "none.toml", "--demo"], "--demo: expected no --config beside it, got none.toml"),
        (["serve", "--log-level", "loud"], "log-level"),
        (["serve", "--host", "0.0.0.0"], "auth"),
        (["serve", "--config", "none.toml"], "none.toml: expected a configuration file, got no such file"),
        (["serve", "--config", "none.toml", "--engine-port", "5"], "--engine-port"),
        (["watch", "nonsense://"], "address of a gateway"),
        (["watch", "--count", "0"], "count"),
        (["publish", "a.b"], "json"),
        (["publish", "a.b", "{nonsense}"], "JSON: expected the event's data as JSON"),
        (["config", "check"], "tidegate.toml: expected a configuration file, got no such file"),
        (["verify", "--url", "http://h:1"], "--fault-url: expected"),
        (["verify", "--url", "nonsense://", "--fault-url", "http://h:1"], "address of a gateway"),
        (["verify", "--report", "r.txt"], "--report: expected a file name that ends in one of .md, .json, .xml"),
        (["faultproxy", "--listen", "x", "--upstream", "http://h:1", "--control", "127.0.0.1:0"], "HOST:PORT"),
    ],
)
def test_a_usage_error_is_a_readable_line_and_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.cli.logs.configure", lambda level: None)
    with structlog.testing.capture_logs():  # what `serve` says there is another test's
        assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("command", ["serve", "doctor"])
@pytest.mark.parametrize(
    ("is_there", "arguments", "file"),
    [
        (True, [], "tidegate.toml"),
        (True, ["--demo"], None),
        (True, ["--config", "other.toml"], "other.toml"),
        (False, [], None),
        (False, ["--demo"], None),
    ],
)
def test_tidegate_toml_is_read_where_nothing_else_is_said(
    command: str,
    is_there: bool,
    arguments: list[str],
    file: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Path | None] = []

    async def noted(*_: object, config_file: Path | None, **__: object) -> int:
        given.append(config_file)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tidegate.cli.logs.configure", lambda level: None)
    monkeypatch.setattr("tidegate.cli.serving.serve", noted)
    monkeypatch.setattr("tidegate.cli.examining.examine", noted)
    if is_there:
        Path("tidegate.toml").touch()
    with structlog.testing.capture_logs() as logs:
        assert main([command, *arguments]) == 0
    assert given == [None if file is None else Path(file)]
    chosen_by_us = command == "serve" and is_there and not arguments
    assert [entry["file"] for entry in logs] == (["tidegate.toml"] if chosen_by_us else [])


def test_config_init_writes_a_file_that_check_likes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "init"]) == 0
    assert Path("tidegate.toml").read_text() == EXAMPLE
    assert main(["config", "check"]) == 0
    assert "tidegate.toml: 1 backend(s), 1 source(s), no problem" in capsys.readouterr().out


def test_config_init_overwrites_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text("mine")
    assert main(["config", "init", "mine.toml"]) == 1
    assert Path("mine.toml").read_text() == "mine"
    assert "mine.toml already exists" in capsys.readouterr().err


def test_every_problem_of_a_configuration_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tidegate.toml").write_text('[server]\nport = "x"\nnonsense = 1\n')
    assert main(["config", "check"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tidegate: the configuration is not usable:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["server.nonsense", "server.port", "sources"]


@pytest.mark.parametrize("command", ["serve", "config check", "doctor"])
@pytest.mark.parametrize("text", ["", '[server]\nport = 0\n[backends.b]\nurl = "http://127.0.0.1:9"\n'])
def test_a_file_without_a_source_is_refused_naming_the_setting(
    command: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tidegate.cli.logs.configure", lambda level: None)
    Path("c.toml").write_text(text)
    assert main([*command.split(), "--config", "c.toml"]) == (1 if command == "doctor" else 2)
    said = "".join(capsys.readouterr())
    assert "sources: expected at least one table" in said
    assert "server.allow_no_sources = true" in said


def test_config_show_masks_secrets_and_fills_in_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.toml").write_text('[auth]\nmode = "token"\n[[auth.tokens]]\ntoken = "abcdefghijklmnopqrstuvwxyz"\n')
    assert main(["config", "show", "c.toml"]) == 0
    shown = tomllib.loads(capsys.readouterr().out)
    assert shown["auth"]["tokens"][0]["token"] == "***"
    assert shown["server"]["port"] == 12080


def test_config_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "tidegate.toml"


def test_the_command_lines_own_variables_are_no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("c.toml").write_text(EXAMPLE)
    for name in (URL, TOKEN, LOG_LEVEL):
        monkeypatch.setenv(name, "info")
    assert configuring.check(Path("c.toml")) == 0
    monkeypatch.setenv("TIDEGATE_NONSENSE", "x")
    with pytest.raises(ConfigError, match="TIDEGATE_NONSENSE"):
        configuring.check(Path("c.toml"))


def test_publish_posts_the_data_as_it_is_and_prints_the_position(
    recorder: Recorder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "secret")
    assert main(["publish", "a.b", '{"x": 1.10}', "--key", "k", "--retain", "--url", recorder.url]) == 0
    assert capsys.readouterr().out == "e1:9\n"
    assert recorder.posts == [("Bearer secret", b'{"type":"a.b","data":{"x": 1.10},"key":"k","retain":true}')]


def test_the_url_comes_from_the_environment(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, recorder.url)
    assert main(["publish", "a.b", "-1"]) == 0
    assert recorder.posts == [(None, b'{"type":"a.b","data":-1}')]


def test_a_refused_event_is_a_readable_line_and_code_1(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "polled", "1", "--url", recorder.url]) == 1
    assert capsys.readouterr().err == "tidegate: the gateway refused: it is polled (HTTP 403)\n"


def test_a_refusal_cannot_steer_the_terminal(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "tricky", "1", "--url", recorder.url]) == 1
    assert capsys.readouterr().err == "tidegate: the gateway refused: no\\x1b[2J\\u202e\\nok (HTTP 403)\n"


@pytest.mark.parametrize("command", [["publish", "a", "1", "--url"], ["watch"]])
def test_no_gateway_is_a_readable_line_and_code_1(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with Recorder() as server:
        url = server.url
    assert main([*command, url]) == 1
    assert capsys.readouterr().err == f"tidegate: no gateway answers at {url}: connection refused\n"


def test_without_a_file_the_demo_configuration_is_served_with_an_engine() -> None:
    config, port = serving.configured(None, {"server.port": 0}, None)
    assert config.backends["engine"].url == f"http://127.0.0.1:{port}/rpc"
    assert config.backends["engine"].batch
    assert config.server.port == 0


@pytest.mark.parametrize(
    ("file", "url"),
    [
        ("", "http://127.0.0.1:12080/api/v1/backends/engine/poll"),
        ('[server]\nhost = "::1"\nport = 5', "http://[::1]:5/api/v1/backends/engine/poll"),
        ("[server]\nport = 0", None),
        ('[auth]\nmode = "token"\n[[auth.tokens]]\ntoken = "abcdefghijklmnopqrstuvwxyz"', None),
    ],
)
def test_an_engine_of_ours_is_told_where_its_hints_go_if_they_can_be_heard(file: str, url: str | None) -> None:
    Path("c.toml").write_text(file)
    overrides = {"server.allow_no_sources": True}
    assert serving.hint_url(serving.configured(Path("c.toml"), overrides, None)[0]) == url


def test_a_file_brings_its_own_backends() -> None:
    Path("c.toml").write_text(EXAMPLE)
    config, port = serving.configured(Path("c.toml"), {"server.port": 1234}, None)
    assert (config.server.port, port) == (1234, None)


def test_an_engine_port_that_is_taken_is_refused() -> None:
    with Recorder() as server, pytest.raises(serving.CannotListen, match=f"port {server.server_port} is taken"):
        serving.configured(None, {}, server.server_port)


def test_a_demo_that_loses_the_port_of_its_engine_names_no_option_that_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def demonstrate() -> None:
        await serving.demo(asyncio.Event(), Following(json=True))

    with Recorder() as server:
        monkeypatch.setattr(serving, "free_port", lambda **_: server.server_port)
        with pytest.raises(serving.CannotListen, match=f"port {server.server_port}, which was free") as caught:
            asyncio.run(demonstrate())
    assert "run the command again" in str(caught.value)
    assert "--" not in str(caught.value)


def test_a_port_that_is_taken_is_named() -> None:
    with Recorder() as server:
        Path("c.toml").write_text(EXAMPLE)
        config, _ = serving.configured(Path("c.toml"), {"server.port": server.server_port}, None)

        async def enter() -> None:
            async with serving.gateway(config, engine_port=None):
                pass

        with pytest.raises(serving.CannotListen, match=f"port {server.server_port}: Address already in use"):
            asyncio.run(enter())


class TestRecipes:
    def test_one_is_written_as_it_is_and_the_next_steps_are_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["config", "init", "--for", "aria2"]) == 0
        assert Path("tidegate.toml").read_text() == recipe("aria2")
        first, *steps = capsys.readouterr().out.splitlines()
        assert first.startswith("tidegate.toml written. aria2: ")
        assert [step.partition(".")[0] for step in steps] == ["1", "2", "3", "4"]
        assert "http://127.0.0.1:6800/jsonrpc" in steps[0]
        assert "umask 077" in steps[1]
        assert "`tidegate doctor --config tidegate.toml`" in steps[2]

    def test_the_secret_is_to_be_written_beside_the_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("a b").mkdir()
        secret = next(iter(tomllib.loads(recipe("aria2"))["backends"]["aria2"]["secrets"].values()))
        assert main(["config", "init", "a b/c.toml", "--for", "aria2"]) == 0
        assert f"cat >'a b/{secret}'" in capsys.readouterr().out

    def test_no_file_is_overwritten(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("tidegate.toml").write_text("mine")
        assert main(["config", "init", "--for", "aria2"]) == 1
        assert "already exists" in capsys.readouterr().err
        assert Path("tidegate.toml").read_text() == "mine"

    @pytest.mark.parametrize(
        ("name", "guess"), [("ariaa2", "'aria2'"), ("Prometeus", "'prometheus'"), ("../aria2", "'aria2'"), ("zzz", "")]
    )
    def test_an_unknown_one_is_refused_with_the_nearest_and_all(
        self, name: str, guess: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["config", "init", "--for", name]) == 2
        error = capsys.readouterr().err
        assert (f"did you mean {guess}?" in error) == bool(guess)
        assert ", ".join(recipes()) in error
        assert not Path("tidegate.toml").exists()

    def test_all_are_listed_with_what_they_are_for(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["config", "recipes"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == list(recipes())
        assert lines[0].split(None, 1)[1] == recipes()["aria2"]

    def test_a_missing_secret_is_told_with_how_to_make_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["config", "init", "--for", "aria2"]) == 0
        assert main(["config", "check"]) == 2
        error = capsys.readouterr().err
        assert "backends.aria2.secrets." in error
        assert "expected a file that exists, with the secret (`umask 077; cat >FILE`" in error
        assert f"(looked at {Path.cwd()}/" in error or "(looked at aria2." in error
