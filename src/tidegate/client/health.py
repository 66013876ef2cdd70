"""Whether a gateway is ready."""

from typing import Literal

import msgspec

from tidegate.client.addresses import DEFAULT_URL, api_url
from tidegate.client.asking import Answer, ask, reaching
from tidegate.client.refusals import answer_text, problem_detail
from tidegate.errors import AccessRefused, Unreachable

TIMEOUT_S = 5.0

MISDIRECTED = 421
"""The status for a Host header that the gateway does not accept. (An old gateway without sessions answers 404.)"""


class Readiness(msgspec.Struct, frozen=True):
    """The state of a gateway. `stale` is the number of sources whose data is not known to be current."""

    status: Literal["ready", "degraded", "starting", "stalled", "draining"]
    stale: int = 0


async def readiness(
    url: str = DEFAULT_URL, *, timeout_s: float = TIMEOUT_S, check_certificate: bool = True
) -> Readiness:
    """Return the readiness that the gateway at `url` reports. No token is needed.

    Raises `AccessRefused` with the gateway's reason if it does not accept the host name in `url`, `Unreachable` if no
    gateway answers within `timeout_s` or something else answers, and `ValueError` for a malformed `url`.
    """
    with reaching(url, timeout_s=timeout_s):
        ready = await ask("GET", api_url(url, "/readyz"), timeout_s=timeout_s, check_certificate=check_certificate)
        found = _readiness(ready)
        # `/readyz` answers under every host name. A second request shows whether clients may use this one.
        session = await ask(
            "GET", api_url(url, "/api/v1/session"), timeout_s=timeout_s, check_certificate=check_certificate
        )
    if session.status == MISDIRECTED:
        raise AccessRefused(session.status, problem_detail(session.body) or session.phrase)
    return found


def _readiness(answer: Answer) -> Readiness:
    if reason := problem_detail(answer.body):
        raise AccessRefused(answer.status, reason)
    try:
        return msgspec.json.decode(answer.body, type=Readiness)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = answer_text(answer.status, "", location=answer.headers.get("location"))
        raise Unreachable(f"no gateway answers there, but something else ({found})") from None
