"""A canary in every secret of backends that refuse and repeat what they are sent: it is found nowhere afterwards."""

import base64
import json
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from programs import Program, tidegate

from tidegate.cli import environment

pytestmark = pytest.mark.real

CANARY = "c4n4ry"
SHOWN_IN_BASIC = base64.b64encode(f"user:{CANARY}".encode()).decode()[:14]
SECRETS = {
    name: f'{CANARY}-{name}/"&=%é'
    for name in ("user", "header", "query", "param", "path", "body", "form", "login", "source-header")
}

CONFIG = """
[server]
port = 0

[backends.rpc]
url = "http://user:{user}@127.0.0.1:PORT/error?q={query}"
headers = { X-Key = "{header}", X-Literal = "c4n4ry-literal" }
[backends.rpc.secrets]
SECRETS
[sources."rpc.error"]
backend = "rpc"
method = "m"
params = { key = ["{param}"], literal = "c4n4ry-literal" }
interval_s = 0.3

[backends.http]
url = "http://127.0.0.1:PORT"
protocol = "http"
bearer_token_file = "bearer"
[backends.http.secrets]
SECRETS
[sources."http.refused"]
backend = "http"
path = "refused/{path}"
body = { key = "{body}" }
headers = { X-Source = "{source-header}" }
interval_s = 0.3
[sources."http.shape"]
backend = "http"
path = "names?q={query}"
select = "/missing"
interval_s = 0.3
[sources."http.junk"]
backend = "http"
path = "junk/{path}"
interval_s = 0.3
[sources."http.moved"]
backend = "http"
path = "moved/{path}"
interval_s = 0.3

[backends.session]
url = "http://127.0.0.1:PORT/session"
[backends.session.secrets]
SECRETS
[backends.session.session]
method = "login"
params = ["{login}"]
token = "/token"
keep = "cookies"
header = "X-Csrf"
[sources."session.error"]
backend = "session"
method = "m"
params = ["{token}"]
interval_s = 0.3

[backends.refused]
url = "http://127.0.0.1:PORT"
protocol = "http"
[backends.refused.secrets]
SECRETS
[backends.refused.session]
path = "repeated"
form = { password = "{form}" }
keep = "cookies"
[sources."refused.login"]
backend = "refused"
path = "never"
interval_s = 0.3
"""
SOURCES = ("rpc.error", "http.refused", "http.shape", "http.junk", "http.moved", "session.error", "refused.login")


class Echo(BaseHTTPRequestHandler):
    """Repeats what it is sent, in as many ways as it can."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        seen = f"{body} {self.path} {dict(self.headers)} {body!r}"
        match self.path.split("/")[1].partition("?")[0]:
            case "error":
                self.answer(200, {"id": 1, "jsonrpc": "2.0", "error": {"code": 1, "message": seen}})
            case "session" if '"login"' in body:
                fields = {"Set-Cookie": f"sid={CANARY}-cookie", "X-Csrf": f"{CANARY}-csrf"}
                result = {"id": json.loads(body)["id"], "result": {"token": f"{CANARY}-token"}}
                self.answer(200, result, **fields)
            case "session":
                self.answer(200, {"id": json.loads(body)["id"], "error": {"code": 2, "message": seen}})
            case "refused":
                self.answer(401, seen)
            case "names":
                self.answer(200, {urllib.parse.unquote(self.path): 1, self.headers["Authorization"]: 2})
            case "junk":
                self.wfile.write(f"HTTP/1.1 2000 {self.path}\r\n{self.path}\r\n\r\n".encode())
                self.close_connection = True
            case "moved":
                self.answer(302, "", Location=f"http://elsewhere{self.path}?q={self.path}")
            case _:
                self.answer(200, seen)

    do_POST = do_GET  # noqa: N815 - what the library calls

    def answer(self, status: int, body: object, **fields: str) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **fields}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        for name, text in SECRETS.items():
            (tmp_path / name).write_text(text)
        (tmp_path / "bearer").write_text(f"{CANARY}-bearer")
        places = "\n".join(f'{name}_file = "{name}"' for name in SECRETS)
        config = CONFIG.replace("PORT", str(server.server_port)).replace("SECRETS", places)
        (tmp_path / "tidegate.toml").write_text(config)
        yield tmp_path
        server.shutdown()


def test_a_canary_in_every_secret_is_found_nowhere(folder: Path) -> None:
    with tidegate("serve", "--config", "tidegate.toml", folder=folder, **{environment.LOG_LEVEL: "debug"}) as gateway:
        shown = {"command line": Path(f"/proc/{gateway.pid}/cmdline").read_text()}
        shown["events"] = events_of(gateway)
        for path in ("/api/v1/status", "/metrics", "/api/v1/snapshot"):
            shown[path] = got(gateway.url + path)
        gateway.process.terminate()
        gateway.wait()
        shown["log"] = "\n".join((*gateway.out, *gateway.err))
    for command in (("config", "show"), ("config", "check"), ("doctor",)):
        shown[" ".join(command)] = said(*command, folder=folder)
    for where, text in shown.items():
        assert len(text) > 20, where
        lines = [line for line in text.splitlines() if CANARY in line or SHOWN_IN_BASIC in line]
        assert not lines, (where, lines[:2])
    assert 'X-Key = "{header}"' in shown["config show"]
    assert shown["events"].count("***") > len(SOURCES), "messages were repeated, but for the secrets in them"


def events_of(gateway: Program) -> str:
    """What a client hears until each source has said what is wrong with it."""
    heard: list[str] = []
    with urllib.request.urlopen(f"{gateway.url}/api/v1/events?types=*,rpc_error", timeout=60) as stream:
        while not all(any("rpc_error" in line and source in line for line in heard) for source in SOURCES):
            heard.append(stream.readline().decode())
    return "".join(heard)


def got(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        text: str = answer.read().decode()
        return text


def said(*command: str, folder: Path) -> str:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "tidegate",
            *command,
            *(("--config", "tidegate.toml") if command == ("doctor",) else ()),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ended.stdout + ended.stderr
