"""Publishing one event over HTTP."""

import io
from typing import Any

import aiohttp
import msgspec

from tidegate.client.addresses import DEFAULT_URL, api_url
from tidegate.client.refusals import answer_text, problem_detail, reaching, retry_after_s
from tidegate.errors import AccessRefused, Unreachable

TIMEOUT_S = 10.0


async def publish(
    event_type: str,
    data: Any,
    *,
    url: str = DEFAULT_URL,
    key: str | None = None,
    retain: bool = False,
    ttl_s: float | None = None,
    token: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> str:
    """Publish one event through the gateway at `url`; its position as ``EPOCH:SEQ``.

    `data` is anything that msgspec encodes, `msgspec.Raw` for JSON as it is. Raises `AccessRefused` with the
    gateway's reason, `Unreachable` where none answers within `timeout_s`, `ValueError` for a malformed `url`.
    """
    draft = _Draft(type=event_type, data=data, key=key, retain=retain, ttl_s=ttl_s)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    with reaching(url, timeout_s=timeout_s):
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.post(
                api_url(url, "/api/v1/events"), data=io.BytesIO(msgspec.json.encode(draft)), allow_redirects=False
            ) as response,
        ):
            return _position(response, await response.read())


class _Draft(msgspec.Struct, omit_defaults=True):
    type: str
    data: Any
    key: str | None = None
    retain: bool = False
    ttl_s: float | None = None


class _Accepted(msgspec.Struct):
    epoch: str
    seq: int


def _position(response: aiohttp.ClientResponse, body: bytes) -> str:
    if response.status != 202:
        reason = problem_detail(body) or answer_text(
            response.status, response.reason or "", location=response.headers.get("Location")
        )
        wait_s = retry_after_s(response.headers.get("Retry-After"))
        raise AccessRefused(response.status, reason, retry_after_s=wait_s)
    try:
        accepted = msgspec.json.decode(body, type=_Accepted)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreachable(f"no gateway answers there, but something else: {error}") from error
    return f"{accepted.epoch}:{accepted.seq}"
