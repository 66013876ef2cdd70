import json

import pytest

from tidegate.core.problem import RefusingError, refusal
from tidegate.errors import AccessRefused, PublishError, RefusalReason, UnknownName


@pytest.mark.parametrize(
    ("error", "status", "fields", "reason"),
    [
        (AccessRefused(401, "x", reason=RefusalReason.BAD_TOKEN), 401, {"WWW-Authenticate": "Bearer"}, "bad_token"),
        (AccessRefused(426, "x"), 426, {"Upgrade": "websocket"}, None),
        (AccessRefused(503, "x", retry_after_s=3), 503, {"Retry-After": "3"}, None),
        (PublishError("x", status=415), 415, {"Accept-Encoding": "identity"}, "malformed"),
        (PublishError("x", status=429, retry_after_s=2), 429, {"Retry-After": "2"}, "publishes_rate"),
        (PublishError("x", status=400), 400, {}, "malformed"),
        (PublishError("x", status=403), 403, {}, "pattern"),
        (PublishError("x", status=413), 413, {}, "too_large"),
        (PublishError("x", status=507), 507, {}, "too_large"),
        (PublishError("x", status=503, retry_after_s=1), 503, {"Retry-After": "1"}, None),
        (UnknownName("x"), 404, {}, None),
    ],
)
def test_what_refuses_a_request_says_so_with_the_fields_of_its_status(
    error: RefusingError, status: int, fields: dict[str, str], reason: str | None
) -> None:
    answer = refusal(error)
    assert (answer.status, answer.detail, answer.fields, answer.reason) == (status, "x", fields, reason)


def test_a_whole_answer_ends_its_connection() -> None:
    answer = refusal(AccessRefused(405, "expected GET"), {"Allow": "GET"})
    head, _, body = answer.closing(b"server: tidegate\r\n", request_id="r1").partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 405 Method Not Allowed",
        b"server: tidegate",
        b"Content-Type: application/problem+json",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        b"Cache-Control: no-store",
        b"X-Request-ID: r1",
        b"Allow: GET",
    ]
    assert json.loads(body) == {
        "status": 405,
        "title": "Method Not Allowed",
        "detail": "expected GET",
        "type": "about:blank",
        "request_id": "r1",
    }
