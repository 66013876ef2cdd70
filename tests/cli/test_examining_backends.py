"""What `tidegate doctor` finds out about backends, with real sockets."""

import errno
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from certificates import Certificates, written_to
from scripted_http import Peer, ScriptedServer, answering, hanging, http_response, scripted

from tidegate.cli import examining_backends, remedies
from tidegate.cli.asking import Reply
from tidegate.cli.findings import Finding, Level
from tidegate.config import BackendConfig, from_document
from tidegate.core.polling.backend_plan import SourcePlan
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.core.shaping import Shape
from tidegate.errors import Disconnected, ErrorCode
from tidegate.plan import plan

GOOD = http_response(b'{"list":[{"id":"a"}],"n":1}')


def rpc(**members: object) -> bytes:
    return http_response(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, **members}))


async def found(url: str, *sources: dict[str, object], **backend: object) -> list[Finding]:
    """The findings about a backend `b` at `url` and sources of it."""
    tables = {f"s{number}": {"backend": "b", "method": "x", **source} for number, source in enumerate(sources)}
    backend = {"url": url, "protocol": "http", **backend}
    config = from_document({"backends": {"b": backend}, "sources": tables}, environ={})
    return [finding async for finding in examining_backends.examined_backends(config, plan(config).backends)]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ({}, ['publishes {"list":[{"id":"a"}],"n":1}']),
        ({"items": "/list", "key": "id"}, ["publishes 1 item(s): a", 'a: {"id":"a"}']),
        ({"select": "/n"}, ["publishes 1"]),
    ],
)
async def test_it_is_told_what_came_and_what_becomes_of_it(source: dict[str, object], lines: list[str]) -> None:
    async with scripted(answering(GOOD)) as backend:
        one, total = await found(backend.url, source)
    assert (one.level, total.level) == (Level.OK, Level.OK)
    assert one.found.startswith("s0: 27 bytes in 0.")
    assert list(one.details) == lines
    assert total.found.startswith("1 of 1 source(s) answered well, within 0.")


async def test_no_items_are_told_too() -> None:
    async with scripted(answering(http_response(b"[]"))) as backend:
        one, _ = await found(backend.url, {"items": "", "key": "id"})
    assert one.details == ("publishes nothing: there is no item now",)


STATUS = {
    "401 No": ("backends.b.bearer_token_file for a token", "RPC_AUTH"),
    "403 No": ("backends.b.bearer_token_file for a token", "RPC_AUTH"),
    "404 No": ("nothing is there: http://127.0.0.1:{port}/rpc/x", "RPC_HTTP_STATUS"),
    "405 No": ("does not take this verb at http://127.0.0.1:{port}/rpc/x", "RPC_HTTP_STATUS"),
    "409 No": ("[backends.b.session]", "RPC_HTTP_STATUS"),
    "400 No": ("http or https?", "RPC_HTTP_STATUS"),
    "415 No": ("backends.b.headers", "RPC_HTTP_STATUS"),
    "429 No": ("raise interval_s", "RPC_HTTP_STATUS"),
    "500 No": ("look into the log of b", "RPC_HTTP_STATUS"),
}


@pytest.mark.parametrize("status", STATUS)
async def test_the_remedy_is_right_for_the_status(status: str) -> None:
    remedy, code = STATUS[status]
    async with scripted(answering(http_response(b"", status=status))) as backend:
        [bad] = await found(backend.url, {})
    assert bad.level is Level.FAIL
    assert bad.found.startswith(f"s0: {code}, ")
    assert remedy.format(port=backend.port) in bad.remedy


@pytest.mark.parametrize(
    ("location", "remedy"),
    [
        ("https://nas.local/rpc/x", 'backends.b.url = "https://nas.local/rpc"'),
        ("/v2/rpc/x?token=abc", 'backends.b.url = "http://127.0.0.1:{port}/v2/rpc"'),
        ("/other", "write that in backends.b.url"),
        ("/web/login?next=x", "it sends you to its login"),
    ],
)
async def test_a_redirect_is_told_with_the_url_to_write(location: str, remedy: str) -> None:
    answer = http_response(b"", status="302 Found", headers=f"Location: {location}\r\n")
    async with scripted(answering(answer)) as backend:
        [bad] = await found(backend.url, {})
    assert remedy.format(port=backend.port) in bad.remedy
    assert "abc" not in str(bad)


async def test_credentials_that_are_there_are_the_ones_to_correct() -> None:
    async with scripted(answering(http_response(b"", status="401 No"))) as backend:
        url = backend.url.replace("://", "://me:sesame@")
        [bad] = await found(url, {}, headers={"X-API-Key": "sesame"})
    assert bad.remedy.endswith("correct backends.b.headers or user and password in backends.b.url")
    assert "sesame" not in str(bad)


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (http_response(b"<!doctype html><p>"), "that is a web page"),
        (http_response(b"# HELP up\nup 1\n"), '= "prometheus"'),
        (http_response(b"Active connections: 1"), '= "text"'),
        (http_response(b"{", headers="Content-Encoding: gzip\r\n"), "turn off compression"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "speaks no HTTP"),
        (http_response(b'{"a":}'), "backends.b.protocol"),
    ],
)
async def test_the_remedy_is_right_for_what_is_no_json(answer: bytes, remedy: str) -> None:
    async with scripted(answering(answer)) as backend:
        [bad] = await found(backend.url, {})
    assert "RPC_INVALID_RESPONSE" in bad.found
    assert remedy in bad.remedy


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ({"select": "/m"}, ["in the answer there is an object with 'list' (a list of 1), 'n' (a number)"]),
        (
            {"select": "/lists"},
            [
                "in the answer there is an object with 'list' (a list of 1), 'n' (a number)",
                'did you mean select "/list"?',
            ],
        ),
        (
            {"items": "/n", "key": "id"},
            ['at "/n" in the answer there is a number', 'did you mean items "/list" (1 items)?'],
        ),
        (
            {"items": "/list", "key": "ID"},
            ["in item 0 there is an object with 'id' (a text)", 'did you mean key "id"?'],
        ),
        ({"fields": {"a": "/x/id"}}, [..., 'did you mean fields "/list/0/id"?']),
        ({"items": "/list"}, [..., "items of a list need a `key`: the name of what tells them apart"]),
    ],
)
async def test_where_nothing_was_found_it_is_told_what_is_there(source: dict[str, object], lines: list[object]) -> None:
    async with scripted(answering(GOOD)) as backend:
        [bad] = await found(backend.url, source)
    came, *details = bad.details
    assert came.startswith("the answer: 27 bytes in 0.")
    assert [line if line is not ... else detail for line, detail in zip(lines, details, strict=True)] == details
    assert '[sources."s0"]' in bad.remedy


@pytest.mark.parametrize(
    ("error", "found_", "remedy"),
    [
        ({"code": -32601, "message": "no such method"}, "no such method (-32601)", "it has no method 'x'"),
        ({"code": 1, "message": "No such method: x"}, "No such method: x (1)", "it has no method 'x'"),
        ({"code": -32602, "message": "params"}, "params (-32602)", 'correct params of [sources."s0"]'),
        ({"code": 1, "message": "Unauthorized"}, "Unauthorized (1)", "backends.b.bearer_token_file"),
        ({"code": -32600, "message": "what?"}, "what? (-32600)", "backends.b.url"),
        ({"code": 7, "message": "broken"}, "broken (7)", "method"),
    ],
)
async def test_the_remedy_is_right_for_an_error_object(error: object, found_: str, remedy: str) -> None:
    async with scripted(answering(rpc(error=error))) as backend:
        [bad] = await found(backend.url, {}, protocol="jsonrpc")
    assert bad.found == f"s0: RPC_APPLICATION_ERROR, {found_}"
    assert remedy in bad.remedy


async def test_an_error_with_a_status_of_its_own_is_told_as_the_gateway_tells_it() -> None:
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "Unauthorized"}}
    answer = http_response(msgspec.json.encode(error), status="400 Bad Request")
    for batch in (False, True):
        async with scripted(answering(answer)) as backend:
            [bad] = await found(backend.url, {}, protocol="jsonrpc", batch=batch)
        assert bad.found == "s0: RPC_APPLICATION_ERROR, Unauthorized (1)"


async def test_one_that_can_take_no_batches_although_the_gateway_would_send_some() -> None:
    async def alone(peer: Peer) -> None:
        while True:
            asked = msgspec.json.decode((await peer.request()).body)
            answer = {"id": asked["id"], "result": 1} if isinstance(asked, dict) else {"error": "no batches"}
            await peer.send(http_response(msgspec.json.encode(answer)))

    async with scripted(alone) as backend:
        findings = await found(backend.url, {}, {}, protocol="jsonrpc", batch=True)
    assert [finding.level for finding in findings] == [Level.OK, Level.OK, Level.FAIL, Level.FAIL, Level.OK]
    assert findings[2].found == "s0, in a batch: RPC_APPLICATION_ERROR, no batches"
    assert findings[2].remedy.startswith("set backends.b.batch = false")


async def test_one_whose_words_would_steer_the_terminal() -> None:
    message = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egood\nok    gateway: fine"
    async with scripted(answering(rpc(error={"code": -32601, "message": message}))) as backend:
        [bad] = await found(backend.url, {}, protocol="jsonrpc")
    first, remedy = str(bad).splitlines()
    assert r"\x1b[2J\x1b]0;owned\x07\x9b31m\u202egood\nok    gateway: fine" in first
    assert first.isprintable()
    assert remedy.startswith("      → ")


async def test_what_several_sources_have_in_common_is_said_once() -> None:
    [bad] = await found("http://127.0.0.1:1", {}, {})
    assert bad.found == "s0, s1: RPC_DISCONNECT, 127.0.0.1:1: Connection refused"
    assert bad.remedy == "start b, or correct host and port in backends.b.url: nothing listens there"


async def test_it_is_said_once_too_if_one_waited_for_the_attempt_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(backend: object, plan: object, source: SourcePlan) -> Reply:
        is_first = source.spec.type == "s0"
        fault = Fault(ErrorCode.RPC_DISCONNECT, "refused", Verdict.FAILURE, unreachable=is_first)
        return Reply(0.1, fault=fault)

    monkeypatch.setattr(examining_backends, "asked", refused)
    [bad] = await found("http://127.0.0.1:1", {}, {})
    assert bad.found == "s0, s1: RPC_DISCONNECT, refused"


async def test_with_a_socket_the_socket_is_what_to_correct(tmp_path: Path) -> None:
    [bad] = await found("http://nas.local/x", {}, socket=str(tmp_path / "nosuch"))
    assert bad.remedy == "start b: it makes the socket; or correct the path of the socket"


async def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(host: str, port: int) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("tidegate.outbound.http_client.connecting.looked_up", unknown)
    [bad] = await found("http://me:sesame@nas.invalid:80/x", {})
    assert bad.remedy.endswith("know no such name as in 'nas.invalid:80'")


async def test_a_slow_source_hides_no_other() -> None:
    async def by_path(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if "slow" in request.line:
                await hanging(peer)
            await peer.send(GOOD)

    slow: dict[str, object] = {"method": "slow"}
    async with scripted(by_path) as backend:
        findings = await found(backend.url, slow, {}, slow, {}, timeout_s=0.2, connections=2)
    assert [finding.found.split(":")[0] for finding in findings[:4]] == ["s0", "s1", "s2", "s3"]
    assert [finding.level for finding in findings] == [Level.FAIL, Level.OK, Level.FAIL, Level.OK, Level.OK]
    assert findings[0].found == "s0: RPC_TIMEOUT, expected an answer within 0.2 s"
    assert "raise backends.b.timeout_s" in findings[0].remedy


async def test_one_that_nobody_polls() -> None:
    [finding] = await found("http://127.0.0.1:1")
    assert finding.level is Level.WARN


async def test_one_whose_files_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    [finding] = await found("https://127.0.0.1:1", {}, ca_file=str(tmp_path / "empty"))
    assert finding.level is Level.FAIL
    assert "ca_file" in finding.found


class TestTls:
    @pytest.fixture
    def certificates(self, tmp_path: Path) -> Certificates:
        return written_to(tmp_path)

    @pytest.fixture
    async def server(self, certificates: Certificates) -> AsyncIterator[ScriptedServer]:
        async with scripted(answering(GOOD), tls=certificates.server_side()) as server:
            yield server

    async def test_an_authority_that_is_unknown(self, server: ScriptedServer) -> None:
        [bad] = await found(server.url, {})
        assert "its certificate is not trusted" in bad.found
        assert "as backends.b.ca_file" in bad.remedy

    async def test_another_name(self, server: ScriptedServer, certificates: Certificates) -> None:
        url = server.url.replace("127.0.0.1", "localhost")
        [bad] = await found(url, {}, ca_file=str(certificates.ca))
        assert bad.details == ("its certificate is for 127.0.0.1",)
        assert "backends.b.tls_name" in bad.remedy

    async def test_http_where_it_speaks_tls(self, server: ScriptedServer) -> None:
        [bad] = await found(server.url.replace("https", "http"), {})
        assert bad.remedy == "it speaks TLS on this port: write https:// in backends.b.url"

    async def test_https_where_it_speaks_none(self) -> None:
        async def refuse(peer: Peer) -> None:
            await peer.read()
            await peer.send(http_response(b"", status="400 No"))

        async with scripted(refuse) as server:
            [bad] = await found(server.url.replace("http", "https"), {})
        assert "write http:// in backends.b.url" in bad.remedy

    @pytest.mark.parametrize(
        ("code", "remedy"),
        [(10, "renew the certificate"), (9, "set the clock"), (18, "openssl s_client -connect nas.local:443 ")],
    )
    def test_the_remedy_is_right_for_what_is_wrong_with_a_certificate(self, code: int, remedy: str) -> None:
        error = ssl.SSLCertVerificationError()
        error.verify_code = code
        assert remedy in remedy_of(error)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (PermissionError(13, "Permission denied"), "the right to use it"),
        (FileNotFoundError(2, "No such file"), "start b: it makes the socket"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "whether the machine is on"),
        (OSError("[Errno 111] a [Errno 111] Connection refused"), "start b, or correct host and port"),
        (ConnectionResetError(), "look into the log of b"),
    ],
)
def test_the_remedy_is_right_for_an_error_of_the_connection(error: OSError, remedy: str) -> None:
    assert remedy in remedy_of(error)


async def test_a_proxy_that_is_not_there_is_the_one_to_start() -> None:
    [bad] = await found("http://nas.local/x", {}, proxy="http://127.0.0.1:1")
    assert "backends.b.proxy" in bad.remedy


@pytest.mark.parametrize(("scheme", "status"), [("http", 407), ("https", 407), ("https", 401)])
async def test_a_proxy_that_wants_a_login_gets_it(scheme: str, status: int) -> None:
    answer = http_response(b"", status=f"{status} No")
    async with scripted(answering(answer)) as proxy:
        [bad] = await found(f"{scheme}://nas.local/x", {}, proxy=f"http://127.0.0.1:{proxy.port}")
    assert "backends.b.proxy" in bad.remedy


@pytest.mark.parametrize(
    ("answer", "source", "key"),
    [
        (b"n: x", {"format": "text", "pattern": "m: (?P<m>.*)"}, "pattern"),
        (b"{}", {"format": "prometheus"}, "format"),
        (b"", {"format": "csv"}, "format"),
    ],
)
async def test_what_is_written_in_another_way_is_told_with_the_key(
    answer: bytes, source: dict[str, object], key: str
) -> None:
    async with scripted(answering(http_response(answer))) as backend:
        [bad] = await found(backend.url, source)
    assert bad.remedy.startswith(f'correct {key} of [sources."s0"]')


def test_a_host_that_does_not_answer_at_all_is_not_slow() -> None:
    fault = Fault(ErrorCode.RPC_TIMEOUT, "late", Verdict.FAILURE, unreachable=True)
    assert "firewall" in remedies.remedy(SUBJECT, Reply(1.0, fault=fault))


SUBJECT = remedies.Subject("b", BackendConfig(url="https://nas.local/x"), "y", Shape(), '[sources."s"]', 2.0)


def remedy_of(cause: OSError) -> str:
    error = Disconnected("nas.local:443: it failed")
    error.__cause__ = cause
    fault = Fault(ErrorCode.RPC_DISCONNECT, str(error), Verdict.FAILURE)
    return remedies.remedy(SUBJECT, Reply(0.1, fault=fault, error=error))
