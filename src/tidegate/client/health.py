"""Whether a gateway is ready."""

from typing import Literal

import msgspec

from tidegate.client.addresses import DEFAULT_URL, api_url
from tidegate.client.asking import Answer, ask, reaching
from tidegate.client.refusals import answer_text, problem_detail
from tidegate.errors import AccessRefused, Unreachable

TIMEOUT_S = 5.0

MISDIRECTED = 421
"""The status for whoever is let in by another name only. A gateway that knows no sessions answers 404."""


class Readiness(msgspec.Struct, frozen=True):
    """`stale` counts the sources whose data is not known to be current."""

    status: Literal["ready", "degraded", "starting", "draining"]
    stale: int = 0


async def readiness(
    url: str = DEFAULT_URL, *, timeout_s: float = TIMEOUT_S, check_certificate: bool = True
) -> Readiness:
    """What the gateway at `url` says of itself; it asks for no token.

    It answers that by whatever name it is asked, so it is asked too whether it would let anybody in by this one.
    Raises `AccessRefused` with the gateway's reason if not, `Unreachable` where none answers within `timeout_s` and
    where something else does, `ValueError` for a malformed `url`.
    """
    with reaching(url, timeout_s=timeout_s):
        ready = await ask("GET", api_url(url, "/readyz"), timeout_s=timeout_s, check_certificate=check_certificate)
        found = _readiness(ready)
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
