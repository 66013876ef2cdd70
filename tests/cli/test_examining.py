"""What `tidegate doctor` finds, against real sockets, files and locks."""

import asyncio
import fcntl
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from scripted_http import answering, hanging, http_response, scripted

from tidegate.cli import examining, main
from tidegate.cli.environment import LOG_LEVEL, URL
from tidegate.cli.examining import examine, examined
from tidegate.cli.findings import Finding, Level

GOOD = http_response(b'{"list":[{"id":"a"}],"n":1}')


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory, a state directory within, and no settings from the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("tidegate.cli.logs.configure", lambda level: None)
    for name in (URL, LOG_LEVEL):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
    return port


def written(text: str, *, port: int) -> Path:
    path = Path("tidegate.toml")
    path.write_text(f"[server]\nport = {port}\nallow_no_sources = true\n{text}")
    return path


def polled(url: str, *sources: str, backend: str = "") -> str:
    """A plain HTTP backend `b` and sources of it, each as the lines of its table."""
    tables = [f'[sources.s{n}]\nbackend = "b"\nmethod = "x"\n{lines}' for n, lines in enumerate(sources)]
    return "\n".join([f'[backends.b]\nurl = "{url}"\nprotocol = "http"\n{backend}', *tables])


async def found(config_file: Path | None, url: str | None = None) -> dict[str, list[Finding]]:
    """All findings, by what they are about."""
    findings: dict[str, list[Finding]] = {}
    async for finding in examined(config_file, url):
        findings.setdefault(finding.what, []).append(finding)
    return findings


@asynccontextmanager
async def ready(status: int, body: Any) -> AsyncIterator[BaseTestServer]:
    """What answers `body` to every GET."""

    async def answer(request: web.Request) -> web.Response:
        del request
        return web.json_response(body, status=status)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    async with TestServer(application) as server:
        yield server


def test_a_fan_out_that_is_not_compiled_is_told() -> None:
    assert examining._fan_out(compiled=True).level is Level.OK
    finding = examining._fan_out(compiled=False)
    assert (finding.level, "C compiler" in finding.remedy) == (Level.WARN, True)


async def test_where_nothing_is_missing_all_is_well(free_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted(answering(GOOD)) as backend:
        path = written(polled(backend.url, "", 'items = "/list"\nkey = "id"'), port=free_port)
        findings = await found(path)
        assert await examine(asyncio.Event(), config_file=path, url=None) == 0
    assert {finding.level for each in findings.values() for finding in each} == {Level.OK}
    assert "reached as" not in findings
    assert findings["address"][0].found == f"127.0.0.1, port {free_port} is free, no gateway runs there"
    assert findings["backend b"][-1].found.startswith("2 of 2 source(s) answered well, within 0.")
    assert not Path("state").exists()
    assert all(line.startswith(("ok    ", "      ")) for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ('["gw.example", "10.0.0.1"]', "localhost, each address of this machine, and gw.example, 10.0.0.1"),
        ("[]", "localhost, each address of this machine, and no name beside"),
    ],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]"])
async def test_a_gateway_on_every_address_is_told_by_which_names_it_is_reached(
    host: str, hosts: str, expected: str, free_port: int
) -> None:
    text = f'host = "{host}"\nallowed_hosts = {hosts}\n[auth]\nmode = "token"\n[[auth.tokens]]\ntoken = "{"t" * 32}"'
    [finding] = (await found(written(text, port=free_port)))["reached as"]
    assert (finding.level, finding.found) == (Level.OK, expected)
    assert "server.allowed_hosts" in finding.remedy


async def test_without_a_file_it_is_about_this_machine(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("TIDEGATE_SERVER__PORT", str(free_port))
    findings = await found(None)
    assert findings["configuration"][0].found.startswith("none given, this machine is shown by the reference engine")
    assert findings["backend engine"] == [Finding(Level.OK, "backend engine", "started beside the gateway")]


async def test_every_problem_of_a_configuration_is_a_failure_and_ends_it() -> None:
    findings = await found(written("nonsense = 1\nhost = 5", port=1))
    assert list(findings) == ["configuration"]
    assert [finding.level for finding in findings["configuration"]] == [Level.FAIL] * 2
    assert [finding.remedy for finding in findings["configuration"]] == ["", ""]


async def test_without_the_file_it_is_told_how_to_get_one() -> None:
    [finding] = (await found(Path("nosuch.toml")))["configuration"]
    assert "`tidegate config init --for NAME`" in finding.remedy


async def test_files_that_serve_would_refuse(free_port: int) -> None:
    Path("empty").touch()
    text = 'tls_cert_file = "empty"\ntls_key_file = "empty"\n[auth]\nmode = "jwt"\n[auth.jwt]\nkey_file = "empty"'
    texts = [finding.found for finding in (await found(written(text, port=free_port)))["tokens and certificates"]]
    assert len(texts) == 2
    assert "auth.jwt.key_file" in texts[0]
    assert "server.tls_cert_file: expected a PEM file" in texts[1]


@pytest.mark.parametrize(
    ("limit", "level"), [(200, Level.OK), (199, Level.WARN), (resource.RLIM_INFINITY, Level.OK)], ids=str
)
def test_as_many_files_as_clients_and_some_more(limit: int, level: Level) -> None:
    finding = examining._descriptors(100, limit=limit)
    assert finding.level is level
    assert ("ulimit -n 200" in finding.remedy) == (level is Level.WARN)


class TestGateway:
    @pytest.mark.parametrize(
        ("status", "body", "level", "text"),
        [
            (200, {"status": "ready"}, Level.OK, "is ready"),
            (200, {"status": "degraded", "stale": 3}, Level.WARN, "3 source(s) stale"),
            (503, {"status": "starting"}, Level.WARN, "is starting"),
            (421, {"status": 421, "title": "t", "detail": "see server.allowed_hosts"}, Level.FAIL, "allowed_hosts"),
        ],
    )
    async def test_one_that_runs_says_how_it_is(self, status: int, body: Any, level: Level, text: str) -> None:
        async with ready(status, body) as server:
            by_url = (await found(None, str(server.make_url("/"))))["gateway"]
            by_config = (await found(written("", port=server.port or 0)))["gateway"]
        for [finding] in (by_url, by_config):
            assert finding.level is level
            assert text in finding.found

    async def test_one_that_is_asked_for_must_run(self, free_port: int) -> None:
        [finding] = (await found(None, f"http://127.0.0.1:{free_port}"))["gateway"]
        assert finding.level is Level.FAIL
        assert "connection refused" in finding.found
        assert "tidegate serve" in finding.remedy

    @pytest.mark.parametrize("body", [{"status": "fine"}, [1], "text"])
    async def test_an_address_that_something_else_has(self, body: Any) -> None:
        async with ready(200, body) as server:
            findings = await found(written("", port=server.port or 0))
        [finding] = findings["address"]
        assert finding.level is Level.FAIL
        assert "Address already in use" in finding.found
        assert "something else (HTTP 200)" in finding.found
        assert "server.port" in finding.remedy

    def test_the_exit_code_and_the_variable(self, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
        monkeypatch.setenv(URL, f"http://127.0.0.1:{free_port}")
        assert main(["doctor"]) == 1
        monkeypatch.setenv(URL, "nonsense://")
        assert main(["doctor"]) == 2

    async def test_an_examination_that_was_interrupted_proves_nothing(self) -> None:
        stopped = asyncio.Event()
        stopped.set()
        async with scripted(hanging) as server:
            assert await examine(stopped, config_file=None, url=server.url) == 1


class TestStateDirectory:
    @staticmethod
    async def of(text: str, port: int) -> Finding:
        [finding] = (await found(written(text, port=port)))["state directory"]
        return finding

    async def test_none(self, free_port: int) -> None:
        assert (await self.of('state_dir = ""', free_port)).level is Level.OK

    async def test_one_that_cannot_be_made(self, free_port: int) -> None:
        Path("file").touch()
        finding = await self.of('state_dir = "file/within"', free_port)
        assert finding.level is Level.FAIL
        assert "cannot be written" in finding.found

    async def test_one_that_another_gateway_has(self, free_port: int) -> None:
        Path("mine").mkdir()
        with Path("mine/lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            finding = await self.of('state_dir = "mine"', free_port)
            assert finding.level is Level.FAIL
            assert "is in use" in finding.found
            async with ready(200, {"status": "ready"}) as server:
                assert (await self.of('state_dir = "mine"', server.port or 0)).level is Level.OK
        assert (await self.of('state_dir = "mine"', free_port)).level is Level.OK

    async def test_little_room(self, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(examining, "LOW_DISK_BYTES", 2**60)
        assert (await self.of("", free_port)).level is Level.WARN


async def test_backends_are_examined_too(free_port: int) -> None:
    findings = await found(written(polled("http://127.0.0.1:1", ""), port=free_port))
    assert findings["backend b"][0].found == "s0: RPC_DISCONNECT, 127.0.0.1:1: Connection refused"
