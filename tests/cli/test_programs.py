"""The programs as people run them: real processes, sockets and signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from programs import Program, is_running, tidegate, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def gateway() -> Iterator[Program]:
    """A gateway that no test harms."""
    with tidegate("serve", "--port", "0") as program:
        yield program


def assert_clean(program: Program) -> None:
    """Nothing but log lines, none of them a warning."""
    assert [line for line in program.err if not line.startswith("{")] == []
    assert [line for line in program.log if line["level"] not in {"debug", "info"}] == []


def websocket_url(program: Program) -> str:
    return program.url.replace("http", "ws", 1) + "/ws"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_clients_go_and_ends_well(number: signal.Signals) -> None:
    with tidegate("serve", "--port", "0", TIDEGATE_SERVER__DRAIN_S="0.5") as program:
        with open_websocket(websocket_url(program)) as client:
            engine = until(lambda: program.engine)
            assert json.loads(client.recv())["type"] == "welcome"
            program.signal(number)
            messages = [json.loads(text) for text in _rest(client)]
            assert client.close_code == 1012
        assert messages[-1]["data"]["code"] == "DRAINING"
        assert program.wait() == 0
        assert not is_running(engine)
        assert_clean(program)


def _rest(client: ClientConnection) -> Iterator[str | bytes]:
    try:
        while True:
            yield client.recv(timeout=30)
    except ConnectionClosed:
        return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    with ExitStack() as stack:
        program = stack.enter_context(tidegate("serve", "--port", "0", TIDEGATE_SERVER__DRAIN_S="3600"))
        for _ in range(3):
            stack.enter_context(open_websocket(websocket_url(program)))
        engine = until(lambda: program.engine)
        program.signal(number)
        until(lambda: any(line["event"] == "draining" for line in program.log))
        program.signal(number)
        assert program.wait() == 128 + number
        until(lambda: not is_running(engine))


def test_clients_are_let_go_one_by_one_also_if_all_had_left_once_before() -> None:
    with (
        tidegate("serve", "--port", "0", TIDEGATE_LOG_LEVEL="debug", TIDEGATE_SERVER__DRAIN_S="3600") as program,
        ExitStack() as stack,
    ):
        with open_websocket(websocket_url(program)):
            pass
        until(lambda: any(line["event"] == "client left" for line in program.log))
        first, *others = [stack.enter_context(open_websocket(websocket_url(program))) for _ in range(3)]
        program.signal(signal.SIGTERM)
        assert "notification" in [json.loads(text)["type"] for text in _rest(first)]
        assert first.close_code == 1012
        for other in others:
            other.send('{"type":"ping"}')
            assert "pong" in (json.loads(text)["type"] for text in _rest(other))
        program.signal(signal.SIGTERM)
        assert program.wait() == 128 + signal.SIGTERM


def test_a_killed_gateway_leaves_no_engine() -> None:
    with tidegate("serve", "--port", "0") as program:
        engine = until(lambda: program.engine)
        program.signal(signal.SIGKILL)
        until(lambda: not is_running(engine))


def test_the_stream_tells_that_the_engine_was_killed_and_that_it_is_back() -> None:
    with (
        tidegate("serve", "--port", "0") as gateway,
        tidegate("watch", gateway.url, "--json", "--types", "system.status") as watcher,
    ):
        until(lambda: _staleness(watcher)[-1:] == [False])
        os.kill(until(lambda: gateway.engine), signal.SIGKILL)
        until(lambda: True in _staleness(watcher), what=gateway.err)
        until(lambda: _staleness(watcher)[-1:] == [False], what=gateway.err)
        stale = next(event for event in map(json.loads, watcher.out) if event["stale"])
        assert stale["error_code"] == "RPC_DISCONNECT"
        assert stale["data"]["hostname"] == os.uname().nodename
        watcher.signal(signal.SIGINT)
        assert watcher.wait() == 0
        assert watcher.err == []
        ended = [line for line in gateway.log if line["event"].startswith("engine ended")]
        assert [line["reason"] for line in ended] == ["signal 9"]


def _staleness(watcher: Program) -> list[bool]:
    return [json.loads(line)["stale"] for line in list(watcher.out)]


def test_watch_counts_and_publish_is_seen(gateway: Program) -> None:
    with tidegate("publish", "a.b", '{"x":1.10}', "--key", "k", "--retain", "--url", gateway.url) as publish:
        assert publish.wait() == 0
        epoch, _, seq = publish.out[0].partition(":")
        assert (bool(epoch), seq.isdecimal()) == (True, True)
    with tidegate("watch", "--types", "a.*", "--count", "1", TIDEGATE_URL=gateway.url) as watch:
        assert watch.wait() == 0
        [line] = watch.out
        assert '"data":{"x":1.10}' in line
        assert watch.err == []


def test_a_polled_type_cannot_be_published(gateway: Program) -> None:
    with tidegate("publish", "system.status", "1", "--url", gateway.url) as publish:
        assert publish.wait() == 1
        assert "HTTP 403" in publish.err[0]


def test_bad_messages_are_answered_and_harm_nobody() -> None:
    deep = "[" * 10_000 + "]" * 10_000
    asked: list[tuple[str | bytes, str]] = [
        ("hello", "INVALID_JSON"),
        ('{"type":"subscribe","types":' + deep + "}", "INVALID_JSON"),
        (deep, "INVALID_MESSAGE"),
        (b"\x00\x01", "INVALID_MESSAGE"),
        ('{"type":"publish"}', "UNKNOWN_MESSAGE_TYPE"),
        ('{"type":"subscribe","types":["No Pattern"]}', "INVALID_PATTERN"),
    ]
    with tidegate("serve", "--port", "0", TIDEGATE_SERVER__DRAIN_S="0") as gateway:
        url = websocket_url(gateway)
        with open_websocket(f"{url}?types=") as client, open_websocket(f"{url}?types=") as other:
            for each in (client, other):
                assert [json.loads(each.recv(timeout=30))["type"] for _ in range(2)] == ["welcome", "synced"]
            for message, code in asked:
                client.send(message)
                answer = json.loads(client.recv(timeout=30))
                assert (answer["type"], answer["data"]["code"]) == ("error", code)
            other.send('{"type":"ping","id":"' + "x" * 100_000 + '"}')
            with pytest.raises(ConnectionClosed):
                other.recv(timeout=30)
            assert other.close_code == 1009
            client.send('{"type":"subscribe","id":1,"types":["system.status"]}')
            assert json.loads(client.recv(timeout=30))["type"] == "subscribed"
            # Its first value comes as a snapshot or, if it was not polled yet, after that.
            assert {json.loads(client.recv(timeout=30))["type"] for _ in range(2)} == {"synced", "system.status"}
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0
        assert_clean(gateway)


def test_an_invalid_configuration_is_refused_with_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('[server]\nport = "x"\nnonsense = 1\n[sources.a]\nbackend = "none"\n')
    with tidegate("serve", "--config", "tidegate.toml", folder=tmp_path) as program:
        assert program.wait() == 2
        _, first, *lines = program.err
        assert first == "tidegate: the configuration is not usable:"
        paths = [line.split(":")[0].strip() for line in lines]
        assert paths == ["server.nonsense", "server.port", "sources.a", "sources.a.backend"]
        [logged] = program.log
        assert logged["event"] == "failed"
        assert [problem["path"] for problem in logged["problems"]] == paths


def test_a_reader_that_goes_away_ends_watch_quietly(gateway: Program) -> None:
    command = f"{sys.executable} -m tidegate watch {gateway.url} --json | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_a_port_that_is_taken_is_a_readable_line(gateway: Program) -> None:
    port = gateway.url.rpartition(":")[2]
    with tidegate("serve", "--port", port) as second:
        assert second.wait() == 1
        said = f"cannot listen on 127.0.0.1, port {port}: Address already in use"
        assert second.err[1:] == [f"tidegate: {said}"]
        assert [line["error"] for line in second.log] == [said]


def test_a_state_directory_that_is_taken_is_a_readable_line(tmp_path: Path) -> None:
    with tidegate("serve", "--port", "0", XDG_STATE_HOME=str(tmp_path)) as first:
        assert first.url
        with tidegate("serve", "--port", "0", XDG_STATE_HOME=str(tmp_path)) as second:
            assert second.wait() == 1
            taken = tmp_path / "tidegate"
            assert second.err[1:] == [f"tidegate: another gateway uses {taken}: give each its own server.state_dir"]


def test_demo_gets_in_the_way_of_nobody(tmp_path: Path) -> None:
    """Of no gateway that runs already, and of no other demo."""
    with tidegate("serve", "--port", "0", XDG_STATE_HOME=str(tmp_path)) as gateway:
        assert gateway.url
        with tidegate("demo", XDG_STATE_HOME=str(tmp_path)) as program:
            until(lambda: any('"stale":false' in line for line in list(program.out)))
            assert [line for line in program.err if not line.startswith("Web page: ")] == []
        assert_clean(gateway)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_demo_shows_this_machine_and_ends_well(number: signal.Signals) -> None:
    with tidegate("demo") as program:
        assert program.url
        until(lambda: {"system.status", "storage.update"} <= {json.loads(line)["type"] for line in list(program.out)})
        engine = until(lambda: program.engine)
        program.signal(number)
        assert program.wait() == 0
        assert [line for line in program.err if not line.startswith("Web page: ")] == []
        assert not is_running(engine)


def test_the_engine_alone() -> None:
    with tidegate("engine", "--port", "0") as program:
        until(lambda: any("engine listening" in line["event"] for line in program.log), what=program.err)
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
        assert_clean(program)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_the_start_brings_no_traceback(number: signal.Signals) -> None:
    """Wherever it hits once our code runs: it just ends the process, or ends it in good order."""
    for delay_s in (0.0, 0.2, 0.6):
        with tidegate("serve", "--port", "0", TIDEGATE_SERVER__DRAIN_S="0.2") as program:
            until(lambda: "msgspec" in Path(f"/proc/{program.pid}/maps").read_text())
            time.sleep(delay_s)
            program.signal(number)
            assert program.wait() in {0, -number}
            assert_clean(program)


def test_help_and_version_import_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tidegate", "version"], check=True, capture_output=True, text=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported.isdisjoint({"asyncio", "aiohttp", "litestar", "uvicorn", "websockets", "rich", "structlog"})
