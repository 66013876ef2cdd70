"""Every command and every block of the README does what it says, in the order of the page, as a newcomer would run it.

It happens in a folder that looks like a clone after the installation. Only ports differ, which others may have, and
where state is kept.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from browser import chromium, needs_browser, said
from programs import PATIENCE_S, Program, tidegate, until
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser
from websockets.sync.client import connect as open_websocket

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"

GATEWAY = "127.0.0.1:12080"
BACKEND = "127.0.0.1:9000"


class Block(NamedTuple):
    line: int
    language: str
    text: str


class Shows(NamedTuple):
    """What commands must show, as patterns, and how they end: by themselves, or by Ctrl-C when they have shown it."""

    patterns: tuple[str, ...]
    code: int = 0
    is_interrupted: bool = False


COMMANDS: Mapping[str, Shows] = {
    "make demo": Shows(
        ("^Web page: http://", '"type":"system.status".*"stale":false', '"type":"storage.update".*"stale":false'),
        code=-signal.SIGINT,  # which is make's; that of the program is tested in tests/cli
        is_interrupted=True,
    ),
    ". .venv/bin/activate\ntidegate serve": Shows(('"event": "listening"',), is_interrupted=True),
    "tidegate watch --types 'system.*' --json --count 3": Shows(
        (r'\A({"type":"system.status",.*"data":{"hostname":.*"cpu_percent":.*}\n){3}\Z',)
    ),
    f"python -m websockets ws://{GATEWAY}/ws": Shows(
        ('"type":"system.status"', '"type":"storage.update"', '"type":"heartbeat"'), is_interrupted=True
    ),
    f"curl -N 'http://{GATEWAY}/api/v1/events?types=system.*'": Shows(
        ("^event: system.status$", '^data: {"type":"system.status"'), code=-signal.SIGINT, is_interrupted=True
    ),
    "tidegate publish lab.door '{\"open\": true}' --retain": Shows((r"\A\w+:\d+\n\Z",)),
    "tidegate engine submit ./some-folder": Shows((r"\A\w+ queued .*/some-folder -> .*/some-folder\.tar\.zst\n\Z",)),
    "tidegate watch --types 'compression.*,agent.*'": Shows(
        ('"type":"compression.update".*"state":"done"', '"type":"agent.status"'), is_interrupted=True
    ),
    "tidegate doctor\ntidegate serve": Shows(
        ("^ok    backend nas: 1 of 1 source", '"event": "listening"'), is_interrupted=True
    ),
    "tidegate config check": Shows((r"\Atidegate\.toml: 1 backend\(s\), 1 source\(s\), no problem\n\Z",)),
    "tidegate config init": Shows((r"\Atidegate\.toml written",)),
    "tidegate config recipes": Shows((r"^aria2 +aria2: ", r"^truenas +TrueNAS: ")),
    "tidegate config init --for transmission transmission.toml": Shows((r"\Atransmission\.toml written",)),
    "tidegate call nas system.status": Shows((r"^{.*}$",)),
}
NOT_RUN_HERE = {"make check"}


def blocks() -> list[Block]:
    parsers = [CodeBlockParser(language) for language in ("text", "sh", "json", "toml", "html", "js")]
    examples = Sybil(parsers).parse(README).examples()
    return [Block(it.line, it.region.lexemes["arguments"], str(it.parsed).rstrip("\n")) for it in examples]


BLOCKS = blocks()
INLINE = re.findall(r"`((?:tidegate|make|python|curl) [^`]+)`", README.read_text(encoding="utf-8"))


def of(language: str) -> pytest.MarkDecorator:
    found = [block for block in BLOCKS if block.language == language and block.text not in NOT_RUN_HERE]
    return pytest.mark.parametrize("block", found, ids=lambda block: f"line {block.line}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it all happens, with a folder in it."""
    folder = tmp_path_factory.mktemp("tidegate")
    (folder / "some-folder").mkdir()
    return folder


@pytest.fixture(scope="module")
def clone(folder: Path, addresses: Mapping[str, str]) -> Path:
    """What is there after the installation, which `make` takes for new enough, and the configuration of the page."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".stamps").mkdir()
    (folder / ".stamps/program").touch()
    [toml] = [block.text for block in BLOCKS if block.language == "toml"]
    (folder / "tidegate.toml").write_text(replaced(toml, addresses))
    return folder


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Program]:
    with tidegate("serve", "--port", "0", folder=folder, TIDEGATE_SERVER__HEARTBEAT_INTERVAL_S="0.5") as program:
        yield program


@pytest.fixture(scope="module")
def addresses(gateway: Program) -> Iterator[Mapping[str, str]]:
    """Where the gateway and the backend of the page really are."""
    with backend() as address:
        yield {GATEWAY: gateway.url.removeprefix("http://"), BACKEND: address}


@pytest.fixture
def environment(gateway: Program, tmp_path: Path) -> dict[str, str]:
    """A newcomer's, with a port that is free and a program that is found."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "TIDE"))}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return inherited | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "XDG_STATE_HOME": str(tmp_path),
        "TIDEGATE_URL": gateway.url,
        "TIDEGATE_ENGINE_URL": until(lambda: _engine_url(gateway)),
        "TIDEGATE_SERVER__PORT": str(port),
        "TIDEGATE_SERVER__DRAIN_S": "0.2",
    }


def _engine_url(gateway: Program) -> str | None:
    said = "engine listening on "
    return next((line["event"].removeprefix(said) for line in gateway.log if line["event"].startswith(said)), None)


def test_the_page_says_all_that_a_newcomer_needs() -> None:
    text = README.read_text(encoding="utf-8")
    sentences = re.findall(r"\.(?=\s|$)", text.split("\n\n")[1])
    assert len(sentences) == 3
    assert [block.language for block in BLOCKS].count("toml") == 1
    assert text.count("```") == 2 * len(BLOCKS)
    assert {block.text for block in BLOCKS if block.language == "sh"} <= COMMANDS.keys() | NOT_RUN_HERE
    assert len(re.findall(r"^\d+\. ", text, flags=re.MULTILINE)) == 10


@of("sh")
def test_commands(block: Block, clone: Path, addresses: Mapping[str, str], environment: Mapping[str, str]) -> None:
    run(block.text, clone, addresses, environment)
    if block.text.startswith("tidegate publish"):
        with urllib.request.urlopen(f"http://{addresses[GATEWAY]}/api/v1/snapshot/lab.door", timeout=30) as answer:
            assert [event["data"] for event in json.load(answer)["events"]] == [{"open": True}]


@pytest.mark.parametrize("command", sorted({*INLINE} - {block.text for block in BLOCKS} - NOT_RUN_HERE))
def test_commands_within_the_text(
    command: str, clone: Path, addresses: Mapping[str, str], environment: Mapping[str, str], tmp_path: Path
) -> None:
    if not command.endswith(" init"):
        shutil.copy(clone / "tidegate.toml", tmp_path)
    run(command, tmp_path, addresses, environment)


@of("json")
def test_events(block: Block, gateway: Program) -> None:
    """The first is a good one, the other what comes when the engine was killed."""
    shown = json.loads(block.text)
    with open_websocket(gateway.url.replace("http", "ws") + "/ws?types=system.status") as client:

        def next_event(*, stale: bool) -> dict[str, Any]:
            while True:
                event: dict[str, Any] = json.loads(client.recv(timeout=PATIENCE_S))
                if event.get("stale") == stale and "snapshot" not in event:
                    return event

        real = next_event(stale=False)
        if shown["stale"]:
            os.kill(until(lambda: gateway.engine), signal.SIGKILL)
            real = next_event(stale=True)
            assert real["error_code"] == shown["error_code"]
            assert not next_event(stale=False)["stale"]
    assert_shape(shown, real | {"data": {name: real["data"].get(name) for name in shown["data"]}})


@needs_browser
async def test_pages(addresses: Mapping[str, str]) -> None:
    """What stands in a page of the gateway's own origin: a value is shown as fresh, and a script gets its events."""
    [html], [script] = ([block.text for block in BLOCKS if block.language == language] for language in ("html", "js"))
    page_text = replaced(f'{html}<script type="module">{script}</script>', addresses)
    # A page that no server has sent is no page of this machine, for which Chromium would ask the user.
    async with chromium("--disable-features=LocalNetworkAccessChecks") as browser:
        page = await browser.new_page()
        lines = said(page)
        await page.route("**/page.html", lambda asked: asked.fulfill(body=page_text, content_type="text/html"))
        await page.goto(f"http://{addresses[GATEWAY]}/page.html")
        await page.locator("tidegate-value[state=fresh]").get_by_text(re.compile(r"\d %")).wait_for()
        await page.wait_for_event(
            "console", lambda line: re.fullmatch(r"log: [\d.]+ false", f"log: {line.text}") is not None
        )
    assert not [line for line in lines if not line.startswith("log: ")]


def assert_shape(shown: Any, real: Any) -> None:
    """Equal but for numbers and texts."""
    assert type(shown) is type(real)
    if isinstance(shown, bool):
        assert shown == real
    if isinstance(shown, dict):
        assert shown.keys() == real.keys()
        for name in shown:
            assert_shape(shown[name], real[name])


def run(commands: str, folder: Path, addresses: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Run them in `folder` as in a terminal, and see that they show what they must."""
    assert commands in COMMANDS, "say in COMMANDS what it must show"
    shows = COMMANDS[commands]
    output, code = shown_by(replaced(commands, addresses), shows, folder, environment)
    assert "Traceback" not in output
    assert "warning" not in output.lower()
    assert all(re.search(pattern, output, re.MULTILINE) for pattern in shows.patterns), output
    assert code == shows.code, output


def shown_by(script: str, shows: Shows, folder: Path, environment: Mapping[str, str]) -> tuple[str, int]:
    process = subprocess.Popen(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))  # type: ignore[union-attr]
    reader.start()
    try:
        if shows.is_interrupted:
            until(lambda: all(re.search(it, "".join(lines), re.MULTILINE) for it in shows.patterns), what=lines)
            os.killpg(process.pid, signal.SIGINT)
        code = process.wait(PATIENCE_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        reader.join(PATIENCE_S)
        process.communicate()
    return "".join(lines), code


def replaced(text: str, addresses: Mapping[str, str]) -> str:
    for shown, real in addresses.items():
        text = text.replace(shown, real)
    return text


@contextmanager
def backend() -> Iterator[str]:
    """The address of a JSON-RPC server that answers every call."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"method": asked["method"]}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
