"""Whether a gateway is ready."""

from typing import Literal

import aiohttp
import msgspec

from tidegate.client.addresses import DEFAULT_URL, api_url
from tidegate.client.refusals import answer_text, problem_detail, reaching
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
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    with reaching(url, timeout_s=timeout_s):
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(api_url(url, "/readyz"), ssl=check_certificate, allow_redirects=False) as response:
                text = answer_text(response.status, "", location=response.headers.get("Location"))
                found = _readiness(response.status, await response.read(), text)
            async with session.get(
                api_url(url, "/api/v1/session"), ssl=check_certificate, allow_redirects=False
            ) as response:
                if response.status == MISDIRECTED:
                    raise AccessRefused(response.status, problem_detail(await response.read()) or response.reason or "")
            return found


def _readiness(status: int, body: bytes, found: str) -> Readiness:
    if reason := problem_detail(body):
        raise AccessRefused(status, reason)
    try:
        return msgspec.json.decode(body, type=Readiness)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unreachable(f"no gateway answers there, but something else ({found})") from None
