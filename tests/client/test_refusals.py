import ssl

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.frames import Close

from tidegate.client.refusals import Lost, error_text, judge_close, judge_handshake, retry_after_s
from tidegate.errors import StreamClosed

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
    ("header", "seconds"), [("3", 3), (None, None), ("", None), ("Fri, 31 Dec 1999", None), ("-1", None)]
)
def test_only_seconds_are_waited(header: str | None, seconds: int | None) -> None:
    assert retry_after_s(header) == seconds
