import ssl
import time

import pytest

from tidegate.errors import Disconnected, ErrorCode
from tidegate.outbound.http_client.failures import Lost, mapped, retry_after_s, status_error

# Mon, 06 Sep 2027 10:00:00 GMT
WALL = 1_820_224_800.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Mon, 06 Sep 2027 10:00:30 GMT", 30.0),
        ("Monday, 06-Sep-27 10:01:00 GMT", 60.0),
        ("Mon Sep  6 10:00:30 2027", 30.0),
        ("Mon, 06 Sep 2027 09:59:00 GMT", 0.0),
        ("-1", None),
        ("1.5", None),
        ("9" * 5000, None),
        ("\u0661", None),
        ("", None),
        ("soon", None),
        ("Mon, 06 Sep 2027 10:00:30 +" + "9" * 20, None),
        ("Mon, 99 Sep 2027 10:00:30 GMT", None),
        ("Mon, 06 Sep 99999 10:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_in_each_form_of_the_rfc(text: str, seconds: float | None) -> None:
    assert retry_after_s(text, wall=WALL) == seconds


def test_an_http_date_without_a_zone_is_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ+7")
    time.tzset()
    try:
        assert retry_after_s("Mon Sep  6 10:00:30 2027", wall=WALL) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (301, ErrorCode.RPC_HTTP_STATUS, "h:1: expected an HTTP success, got 301 Moved Permanently"),
        (401, ErrorCode.RPC_AUTH, "h:1: expected an HTTP success, got 401 Unauthorized"),
        (403, ErrorCode.RPC_AUTH, "h:1: expected an HTTP success, got 403 Forbidden"),
        (599, ErrorCode.RPC_HTTP_STATUS, "h:1: expected an HTTP success, got 599"),
    ],
)
def test_a_status_is_told_in_words(status: int, code: ErrorCode, words: str) -> None:
    error = status_error("h:1", status, None, wall=WALL)
    assert (error.status, error.code, str(error), error.retry_after_s) == (status, code, words, None)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(113, "x"), "No route to host"),
        (ssl.SSLError(1, "[SSL: X] x"), "TLS failed (no reason given)"),
        (caused(Lost(answer_begun=False), ssl.SSLError(1, "[SSL: X] x")), "TLS failed (no reason given)"),
        (caused(Lost(answer_begun=False), ConnectionResetError(104, "x")), "Connection reset by peer"),
        (OSError(-2, "x"), "the connection failed (OSError)"),
        (ConnectionAbortedError("secret"), "the connection failed (ConnectionAbortedError)"),
        (ConnectionResetError(), "Connection reset by peer"),
        (Lost(answer_begun=True), "it closed the connection before it answered"),
        (Lost(answer_begun=True, in_body=True), "the connection ended in the middle of the answer"),
    ],
)
def test_an_error_is_told_in_words(error: Exception, words: str) -> None:
    with pytest.raises(Disconnected) as caught, mapped("h:1"):
        raise error
    assert str(caught.value) == f"h:1: {words}"
    assert caught.value.__cause__ is error
