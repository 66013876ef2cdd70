import ssl

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.frames import Close

from tidegate.client.credentials import Credentials
from tidegate.client.refusals import (
    Lost,
    answer_text,
    error_text,
    judge_close,
    judge_handshake,
    judge_reconnect,
    retry_after_s,
)
from tidegate.errors import AccessRefused, StreamClosed

RCVD, SENT = Close(1012, "draining"), Close(1009, "too big")


@pytest.mark.parametrize(
    ("closed", "expected"),
    [
        (ConnectionClosedError(RCVD, None), Lost(reason="draining", code=1012)),
        (ConnectionClosedError(RCVD, Close(1012, ""), True), Lost(reason="draining", code=1012)),
        (
            ConnectionClosedError(None, Close(1001, "")),
            Lost(reason="the connection was closed with code 1001", code=1001),
        ),
        (ConnectionClosedError(None, None), Lost(reason="the connection broke off")),
    ],
)
def test_the_side_that_closed_first_had_the_reason(closed: ConnectionClosed, expected: Lost) -> None:
    assert judge_close(closed, said=None) == expected


@pytest.mark.parametrize("rcvd", [None, RCVD])
def test_our_own_close_counts_if_it_came_first(rcvd: Close | None) -> None:
    verdict = judge_close(ConnectionClosedError(rcvd, SENT, None if rcvd is None else False), said=None)
    assert isinstance(verdict, StreamClosed)
    assert (verdict.code, str(verdict)) == (1009, "too big")


def test_what_the_server_said_explains_more_than_the_close_frame() -> None:
    assert judge_close(ConnectionClosedError(RCVD, None), said="in words") == Lost(reason="in words", code=1012)


def test_certificates_and_silence_are_named() -> None:
    certificate = ssl.SSLCertVerificationError()
    certificate.verify_message = "self-signed certificate"
    assert judge_handshake(certificate) == Lost(reason="the server's certificate was refused: self-signed certificate")
    assert judge_handshake(TimeoutError("x")) == Lost(reason="no answer in time")


def test_system_errors_are_told_in_the_systems_words() -> None:
    assert error_text(OSError(111, "Connect call failed ('127.0.0.1', 1)")) == "connection refused"
    assert error_text(OSError(-2, "Name or service not known")) == "Name or service not known"
    assert error_text(OSError("Multiple exceptions")) == "Multiple exceptions"
    assert error_text(OSError()) == "OSError"


def test_of_tls_it_is_said_what_was_wrong() -> None:
    client, server = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(server, client, server_hostname="h")
    server.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ssl.SSLError) as caught:
        tls.do_handshake()
    assert error_text(caught.value) == "no TLS there: WRONG_VERSION_NUMBER"
    assert judge_handshake(caught.value) == Lost(reason="no TLS there: WRONG_VERSION_NUMBER")


@pytest.mark.parametrize(
    ("status", "location", "text"),
    [
        (200, None, "HTTP 200 Words"),
        (200, "/elsewhere", "HTTP 200 Words"),
        (302, None, "HTTP 302 Words"),
        (302, "/login?next=%2Fws%3Ftoken%3DS", "HTTP 302 Words, a redirect to /login that is not followed"),
        (
            307,
            "https://u:S@sso.example/a#S",
            "HTTP 307 Words, a redirect to https://sso.example/a that is not followed",
        ),
        (301, "http://[", "HTTP 301 Words, a redirect to http://[ that is not followed"),
    ],
)
def test_an_answer_that_is_no_gateways_is_a_line_without_secrets(status: int, location: str | None, text: str) -> None:
    assert answer_text(status, "Words", location=location) == text


PASSING = [200, 302, 400, 404, 410, 421, 426]
FIXED, ASKED = "t", lambda: "t"


@pytest.mark.parametrize("status", PASSING)
def test_other_answers_pass_once_the_stream_was_let_in(status: int) -> None:
    verdict = AccessRefused(status, "words", retry_after_s=7)
    assert judge_reconnect(verdict, Credentials(FIXED)) == Lost(reason="words", at_least_s=7.0)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_final_unless_another_one_can_be_asked_for_once(status: int) -> None:
    verdict = AccessRefused(status, "words")
    assert judge_reconnect(verdict, Credentials(FIXED)) is verdict
    credentials = Credentials(ASKED)
    assert judge_reconnect(verdict, credentials) == Lost(reason="words")
    assert judge_reconnect(verdict, credentials) is verdict
    credentials.accepted()
    assert judge_reconnect(verdict, credentials) == Lost(reason="words")


@pytest.mark.parametrize("code", [4401, 4403])
def test_a_token_that_ended_in_use_is_shown_or_asked_for_again(code: int) -> None:
    ended, refused = StreamClosed(code, "words"), AccessRefused(401, "no")
    for token in (FIXED, ASKED):
        credentials = Credentials(token)
        assert judge_reconnect(ended, credentials) == Lost(reason="words", code=code)
        assert judge_reconnect(refused, credentials) is refused


def test_what_time_cannot_mend_stays_final() -> None:
    too_big = StreamClosed(1009, "words")
    assert judge_reconnect(too_big, Credentials(ASKED)) is too_big
    lost = Lost(reason="words")
    assert judge_reconnect(lost, Credentials(FIXED)) is lost


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3), (None, None), ("", None), ("Fri, 31 Dec 1999", None), ("-1", None), ("9" * 5000, None), ("٣", None)],
)
def test_only_seconds_are_waited(header: str | None, seconds: int | None) -> None:
    assert retry_after_s(header) == seconds
