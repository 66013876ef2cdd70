import pytest

from tidegate.errors import AccessRefused
from tidegate.inbound.websocket.handshake import acceptance, check_version, refusal

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def test_the_answer_of_the_rfc() -> None:
    # RFC 6455, section 1.3
    head, _, rest = acceptance("GET", {"sec-websocket-key": KEY}, request_id="r1").partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"X-Request-ID: r1",
    ]
    assert rest == b""


@pytest.mark.parametrize("key", [None, "", "AAAA", KEY[:-1], f"{KEY}, {KEY}", "not base64, not at all!!", "\xe4" * 24])
def test_a_key_that_is_none_is_refused(key: str | None) -> None:
    with pytest.raises(AccessRefused, match="16 bytes in base64") as caught:
        acceptance("GET", {} if key is None else {"sec-websocket-key": key}, request_id="r1")
    assert caught.value.status == 400


def test_only_get_opens_a_websocket() -> None:
    with pytest.raises(AccessRefused, match="expected GET, got POST") as caught:
        acceptance("POST", {"sec-websocket-key": KEY}, request_id="r1")
    assert b"Allow: GET\r\n" in refusal(caught.value).closing(request_id="r1")


@pytest.mark.parametrize("fields", [{"content-length": "5"}, {"transfer-encoding": "chunked"}])
def test_a_body_would_be_read_as_frames(fields: dict[str, str]) -> None:
    with pytest.raises(AccessRefused, match="no body") as caught:
        acceptance("GET", {"sec-websocket-key": KEY, **fields}, request_id="r1")
    assert caught.value.status == 400
    assert acceptance("GET", {"sec-websocket-key": KEY, "content-length": "0"}, request_id="r1")


@pytest.mark.parametrize("headers", [{}, {"sec-websocket-version": "8"}, {"sec-websocket-version": "13, 8"}])
def test_another_version_is_told_ours(headers: dict[str, str]) -> None:
    with pytest.raises(AccessRefused) as caught:
        check_version(headers)
    answer = refusal(caught.value).closing(request_id="r1")
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"Sec-WebSocket-Version: 13\r\n" in answer


def test_a_refusal_says_when_to_come_back() -> None:
    answer = refusal(AccessRefused(503, "full", retry_after_s=7)).closing(request_id="r1")
    assert b"Retry-After: 7\r\n" in answer
    assert answer.endswith(b'"detail":"full","type":"about:blank","request_id":"r1"}')
    assert b"X-Request-ID: r1\r\n" in answer
