import msgspec
import pytest
from msgspec import Raw

from tidegate.errors import ApplicationError, InvalidResponse
from tidegate.outbound.backends.rpc_messages import (
    MESSAGE_CHARACTERS,
    RpcResponse,
    Version,
    asks_for_login,
    outcome,
    refuses,
    request,
)
from tidegate.ports import Call


@pytest.mark.parametrize(
    ("version", "params", "expected"),
    [
        ("2.0", b"{}", b'{"jsonrpc":"2.0","id":7,"method":"m","params":{}}'),
        ("2.0", b"[1.10]", b'{"jsonrpc":"2.0","id":7,"method":"m","params":[1.10]}'),
        ("1.0", b"{}", b'{"id":7,"method":"m","params":[]}'),
        ("1.0", b"[1.10]", b'{"id":7,"method":"m","params":[1.10]}'),
        ("1.0", b'{"a":1}', b'{"id":7,"method":"m","params":{"a":1}}'),
    ],
)
def test_a_request_is_written_as_its_version_says(version: Version, params: bytes, expected: bytes) -> None:
    assert msgspec.json.encode(request(Call("m", Raw(params)), 7, version)) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('"the pool is gone"', "Method call error: the pool is gone (-32001)"),
        ('{"error":207,"reason":"[ENOTAUTHENTICATED] Not authenticated"}', "[ENOTAUTHENTICATED] Not authenticated"),
        ('{"message":"no such app"}', "Method call error: no such app (-32001)"),
        ('{"reason":"Method call"}', "Method call error (-32001)"),  # the message says so already
        ('{"reason":17}', "Method call error (-32001)"),
        ("[1]", "Method call error (-32001)"),
        ("null", "Method call error (-32001)"),
    ],
)
def test_the_words_in_an_errors_data_are_told_too(data: str, expected: str) -> None:
    error = outcome(_with_error(f'{{"code":-32001,"message":"Method call error","data":{data}}}'))
    assert isinstance(error, ApplicationError)
    assert expected in str(error)


def test_an_error_with_a_long_reason_stays_within_its_limit() -> None:
    reason = "x" * 10_000
    error = outcome(_with_error(f'{{"code":1,"message":"refused","data":{{"reason":"{reason}"}}}}'))
    assert len(str(error)) == MESSAGE_CHARACTERS + len(" (1)")


def test_an_error_asks_for_a_login_by_its_code_or_by_a_text() -> None:
    error = ApplicationError(-32001, "Method call error: [ENOTAUTHENTICATED] Not authenticated")
    assert asks_for_login(error, [1, -32001])
    assert asks_for_login(error, ["ENOTAUTHENTICATED"])
    assert not asks_for_login(error, [1, "EBUSY"])
    assert not asks_for_login(error, [])
    assert not asks_for_login(InvalidResponse("1"), [1, "1"])
    assert not asks_for_login(Raw(b"1"), [1, "1"])


def test_a_login_is_refused_with_an_error_or_with_false() -> None:
    assert refuses(ApplicationError(1, "no"))
    assert refuses(Raw(b"false"))
    assert not any(refuses(each) for each in (Raw(b"true"), Raw(b"null"), Raw(b'"token"'), InvalidResponse("what?")))


def _with_error(error: str) -> RpcResponse:
    return msgspec.json.decode(f'{{"jsonrpc":"2.0","id":1,"error":{error}}}', type=RpcResponse)
