"""`tidegate call` against backends on real sockets: what it prints, where, and how it ends."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from scripted_http import answering, hanging, http_response, scripted

from tidegate.cli import main
from tidegate.cli.calling import Wanted, call
from tidegate.cli.examining import examined
from tidegate.errors import ConfigError

TEXT = b'{"list":[{"id":"a","n":1.10},{"id":"b","n":12345678901234567890123}],"n":1}'
GOOD = http_response(TEXT)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tidegate.cli.logs.configure", lambda level: None)


def written(url: str, sources: str = "", *, protocol: str = "http", backend: str = "") -> Path:
    path = Path("tidegate.toml")
    path.write_text(f'[backends.b]\nurl = "{url}"\nprotocol = "{protocol}"\n{backend}\n{sources}')
    return path


def source(lines: str, name: str = "s.t") -> str:
    return f'[sources."{name}"]\nbackend = "b"\nmethod = "x"\n{lines}\n'


async def called(path: Path, **wanted: object) -> int:
    return await call(asyncio.Event(), msgspec.convert(wanted, Wanted), path)


async def test_the_answer_goes_to_stdout_as_it_is_and_the_rest_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted(answering(GOOD)) as backend:
        assert await called(written(backend.url), backend="b", method="x/y?z=1") == 0
    out, err = capsys.readouterr()
    assert out == TEXT.decode() + "\n"
    assert err.startswith(f"{len(TEXT)} bytes in 0.")
    assert backend.requests[0].line == "GET /rpc/x/y?z=1 HTTP/1.1"


async def test_on_a_terminal_it_is_indented_and_steers_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    async with scripted(answering(http_response('{"a":1.10,"b":"\u202e"}'.encode()))) as backend:
        assert await called(written(backend.url), backend="b", method="") == 0
    assert capsys.readouterr().out == '{\n  "a": 1.10,\n  "b": "\\u202e"\n}\n'


async def test_a_json_rpc_method_gets_its_params() -> None:
    answer = http_response(b'{"jsonrpc":"2.0","id":1,"result":7}')
    async with scripted(answering(answer)) as backend:
        path = written(backend.url, protocol="jsonrpc")
        assert await called(path, backend="b", method="add", options={"params": [1, {"a": 2}]}) == 0
    asked = msgspec.json.decode(backend.requests[0].body)
    assert (asked["method"], asked["params"]) == ("add", [1, {"a": 2}])


async def test_an_http_backend_gets_verb_headers_and_body() -> None:
    options = {"verb": "PUT", "headers": {"X-A": "b"}, "body": {"c": 1}, "success_statuses": [404]}
    async with scripted(answering(http_response(b"1", status="404 No"))) as backend:
        assert await called(written(backend.url), backend="b", method="x", options=options) == 0
    request = backend.requests[0]
    assert (request.line, request.headers["x-a"], request.body) == ("PUT /rpc/x HTTP/1.1", "b", b'{"c":1}')


async def test_an_answer_may_be_written_in_another_way(capsys: pytest.CaptureFixture[str]) -> None:
    options = {"format": "text", "pattern": r"n: (?P<n>\d+)"}
    async with scripted(answering(http_response(b"n: 5"))) as backend:
        assert await called(written(backend.url), backend="b", method="x", options=options) == 0
    assert capsys.readouterr().out == '{"n":5}\n'


async def test_the_answer_may_be_larger_than_an_event() -> None:
    async with scripted(answering(GOOD)) as backend:
        path = written(backend.url, "[limits]\nevent_bytes = 20")
        assert await called(path, backend="b", method="x") == 0


async def test_as_a_source_it_prints_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted(answering(GOOD)) as backend:
        path = written(backend.url, source('items = "/list"\nkey = "id"\nfields = { m = "/n" }') + source("", "whole"))
        assert await called(path, source="s.t") == 0
        assert capsys.readouterr().out == (
            '{"type":"s.t","key":"a","data":{"m":1.10}}\n{"type":"s.t","key":"b","data":{"m":12345678901234567890123}}\n'
        )
        assert await called(path, source="whole") == 0
    assert capsys.readouterr().out == f'{{"type":"whole","data":{TEXT.decode()}}}\n'


async def test_what_a_source_does_not_find_is_told_as_doctor_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted(answering(GOOD)) as backend:
        assert await called(written(backend.url, source('select = "/m"')), source="s.t") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tidegate: RPC_INVALID_RESPONSE, ")
    assert "in the answer there is an object with 'list' (a list of 2), 'n' (a number)" in err
    assert err.endswith('→ correct select, items, key or fields of [sources."s.t"]\n')


async def test_a_failure_is_told_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert await called(written("http://me:sesame@127.0.0.1:1"), backend="b", method="x") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "tidegate: RPC_DISCONNECT, 127.0.0.1:1: Connection refused",
        "      → start b, or correct host and port in backends.b.url: nothing listens there",
    ]


async def test_it_waits_no_longer_than_it_was_told(capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted(hanging) as backend:
        assert await called(written(backend.url), backend="b", method="x", timeout_s=0.1) == 1
    assert "expected an answer within 0.1 s" in capsys.readouterr().err


async def test_a_source_that_is_given_more_time_waits_no_longer_either(capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted(hanging) as backend:
        path = written(backend.url, source("timeout_s = 60"))
        assert await called(path, source="s.t", timeout_s=0.1) == 1
    assert "expected an answer within 0.1 s" in capsys.readouterr().err


async def test_a_source_has_its_own_time_whose_key_the_remedy_names(capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted(hanging) as backend:
        assert await called(written(backend.url, source("timeout_s = 0.1")), source="s.t") == 1
    err = capsys.readouterr().err
    assert "expected an answer within 0.1 s" in err
    assert err.endswith('or raise timeout_s of [sources."s.t"]\n')


async def test_ctrl_c_ends_it() -> None:
    stopped = asyncio.Event()
    stopped.set()
    async with scripted(hanging) as backend:
        assert await call(stopped, Wanted(backend="b", method="x"), written(backend.url)) == 1


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"backend": "bb", "method": "x"}, "BACKEND: expected the name of a backend (did you mean 'b'? there are b)"),
        ({"source": "s.u"}, "--source: expected the name of a source (did you mean 's.t'? there are s.t)"),
        (
            {"backend": "b", "method": "x", "options": {"params": [1]}},
            'PARAMS: expected none, because backend "b" has protocol = "http"',
        ),
        ({"backend": "b", "method": "x", "options": {"verb": "A B"}}, "--verb: expected an HTTP method"),
        ({"backend": "b", "method": "x", "options": {"format": "text"}}, "--pattern: expected"),
    ],
)
async def test_what_cannot_be_asked_is_refused_in_the_words_of_the_command(
    wanted: dict[str, object], problem: str
) -> None:
    path = written("http://127.0.0.1:1", source(""))
    with pytest.raises(ConfigError) as error:
        await called(path, **wanted)
    assert problem in str(error.value)


async def test_files_that_serve_would_refuse_are_refused() -> None:
    Path("empty").touch()
    path = written("http://127.0.0.1:1", backend='bearer_token_file = "empty"')
    with pytest.raises(ConfigError, match=r"backends\.b\.bearer_token_file"):
        await called(path, backend="b", method="x")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "BACKEND and METHOD_OR_PATH"),
        (["b"], "got no METHOD_OR_PATH"),
        (["b", "x", "{"], "PARAMS: expected JSON"),
        (["b", "x", "1"], "PARAMS: expected a JSON list or object"),
        (["b", "x", "--header", "secret"], "--header: expected NAME: VALUE, got a text without a colon"),
        (["b", "--source", "s.t"], "--source: expected no BACKEND beside it"),
        (["--source", "s.t", "--verb", "PUT"], "--source: expected no options of a call beside it, got verb"),
    ],
)
def test_arguments_that_make_no_call(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    written("http://127.0.0.1:1", source(""))
    assert main(["call", *arguments]) == 2
    assert problem in capsys.readouterr().err


def test_the_options_reach_the_call(capsys: pytest.CaptureFixture[str]) -> None:
    written("http://127.0.0.1:1", source(""))
    text = ["--verb", "PUT", "--header", "X-A: b", "--body", "[1]", "--status", "404", "--timeout", "1"]
    assert main(["call", "b", "x", *text, "--format", "csv", "--delimiter", ";"]) == 1
    assert "Connection refused" in capsys.readouterr().err
    assert main(["call", "--source", "s.t", "--config", "tidegate.toml"]) == 1


async def test_secrets_that_a_backend_repeats_are_shown_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    Path("key").write_text("open-sesame-now")
    Path("token").write_text("bearer-sesame-now")
    answer = http_response(b'{"got":"open-sesame-now","also":"Bearer bearer-sesame-now"}')
    backend_keys = 'bearer_token_file = "token"\nheaders = { X-Key = "{key}" }\n[backends.b.secrets]\nkey_file = "key"'
    async with scripted(answering(answer)) as backend:
        path = written(backend.url, source("") + source('select = "/nope"', "s.u"), backend=backend_keys)
        assert await called(path, backend="b", method="x") == 0
        assert await called(path, source="s.t") == 0
        assert await called(path, source="s.u") == 1
        async for finding in examined(path, None):
            print(finding)
    assert backend.requests[0].headers["x-key"] == "open-sesame-now"
    out, err = capsys.readouterr()
    assert "sesame" not in out + err
    assert '{"got":"***","also":"Bearer ***"}' in out
