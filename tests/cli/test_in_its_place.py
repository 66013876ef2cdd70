"""Whatever answers in a gateway's place: commands end with one readable line, never with a traceback."""

import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import Certificates, written_to

from tidegate.cli import main
from tidegate.cli.environment import LOG_LEVEL, TOKEN, URL

HTML = b"<html>please log in</html>"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory, a token, and no other settings from the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TOKEN, "s3cr3t-token")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("tidegate.cli.logs.configure", lambda level: None)
    for name in (URL, LOG_LEVEL):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return written_to(tmp_path_factory.mktemp("certificates"))


class Server(socketserver.ThreadingTCPServer):
    """Answers the first bytes of each connection with `answer`, and closes it."""

    daemon_threads = True

    def __init__(self, answer: bytes, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: object) -> None:
        pass


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Server)
        self.request.settimeout(10)
        if self.request.recv(65536):
            self.request.sendall(self.server.answer)


@contextmanager
def answering(answer: bytes, context: ssl.SSLContext | None = None) -> Iterator[int]:
    with Server(answer, context) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def http(status: str, *fields: str, body: bytes = HTML) -> bytes:
    head = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


ANSWERS = {
    "a login page elsewhere": (http("302 Found", "Location: http://sso.example/login?t=S"), "http://sso.example/login"),
    "a login page here": (http("302 Found", "Location: /login?next=%2Fws"), "a redirect to /login that"),
    "another scheme": (http("301 Moved", "Location: https://127.0.0.1/"), "https://127.0.0.1/"),
    "two places": (http("302 Found", "Location: /a", "Location: /b"), "HTTP 302 Found"),
    "a redirect to nowhere": (http("302 Found"), "HTTP 302 Found"),
    "a malformed redirect": (http("302 Found", "Location: http://["), "HTTP 302 Found"),
    "a page": (http("200 OK", "Content-Type: text/html"), "HTTP 200 OK"),
    "a page that is not found": (http("404 Not Found"), "HTTP 404 Not Found"),
    "a proxy that asks for a password": (http("401 No", 'WWW-Authenticate: Basic realm="x"'), "HTTP 401 No"),
    "words that steer": (http("404 \x1b[2J\x9b"), ""),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", ""),
    "bytes": (bytes(range(256)) * 10, ""),
    "an endless line": (b"HTTP/1.1 200 " + b"x" * 100_000, ""),
    "nothing": (b"", ""),
    "an upgrade to something else": (
        http("101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: bm8="),
        "",
    ),
    "JSON that is no gateway's": (http("202 Accepted", body=b'{"epoch":"\xff"}'), ""),
}
COMMANDS = {"watch": ["watch"], "publish": ["publish", "a", "1", "--url"]}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_it_is_named_in_one_line(answer: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, text = ANSWERS[answer]
    with answering(data) as port:
        assert main([*COMMANDS[command], f"http://127.0.0.1:{port}"]) == 1
    captured = capsys.readouterr()
    [line] = captured.err.splitlines()
    assert line.startswith("tidegate: no gateway answers ")
    assert text in line
    assert "t=S" not in line
    assert "s3cr3t" not in line
    assert line.isprintable()
    assert captured.out == ""


@pytest.mark.parametrize("answer", ANSWERS)
def test_in_an_engines_place_too(answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, text = ANSWERS[answer]
    with answering(data) as port:
        assert main(["engine", "jobs", "--url", f"http://127.0.0.1:{port}"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tidegate: no engine answers at ")
    assert line.isprintable()
    assert text in line or "login page" not in answer


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tls_on_a_plain_port_and_the_reverse(
    scheme: str, command: str, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    context = certificates.server_side() if scheme == "http" else None
    with answering(http("400 Bad Request"), context) as port:
        assert main([*COMMANDS[command], f"{scheme}://127.0.0.1:{port}"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tidegate: no gateway answers ")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("url", ["http://a..b", "http://\u2603.invalid", f"http://{'a' * 80}.invalid"])
def test_a_name_that_cannot_be_one(command: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMANDS[command], url]) == 1
    assert capsys.readouterr().err.startswith("tidegate: no gateway answers ")


@pytest.mark.parametrize("answer", ["a login page elsewhere", "a page", "bytes", "nothing", "words that steer"])
def test_the_doctor_names_it_too(answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, text = ANSWERS[answer]
    with answering(data) as port:
        assert main(["doctor", "--url", f"http://127.0.0.1:{port}"]) == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fail")]
    assert line.startswith("fail  gateway: no gateway answers ")
    assert text.removesuffix(" OK") in line
    assert line.isprintable()
