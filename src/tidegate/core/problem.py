"""Errors as HTTP bodies: problem details (RFC 9457)."""

import http

import msgspec

MEDIA_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True):
    """The body of every HTTP error. `detail` says what was expected and what came."""

    status: int
    title: str
    detail: str
    type: str = "about:blank"


def problem(status: int, detail: str) -> bytes:
    """The body for `status`, as JSON."""
    return msgspec.json.encode(Problem(status, http.HTTPStatus(status).phrase, detail))
