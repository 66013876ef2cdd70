"""Publishing one event over HTTP."""

from typing import Any

import msgspec

from tidegate.client.addresses import DEFAULT_URL, api_url
from tidegate.client.asking import Answer, ask, reaching
from tidegate.client.refusals import answer_text, problem_detail, retry_after_s
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
    """Publish one event through the gateway at `url` and return its position as ``EPOCH:SEQ``.

    `data` is anything that msgspec can encode; wrap ready-made JSON in `msgspec.Raw`. `key` names the item that the
    event is about. With `retain` the gateway keeps the event for new subscribers, for `ttl_s` seconds if that is given.
    Raises `AccessRefused` with the gateway's reason, `Unreachable` if no gateway answers within `timeout_s`, and
    `ValueError` for a malformed `url`. After `Unreachable` or cancellation, the event may have been published or not.
    """
    draft = _Draft(type=event_type, data=data, key=key, retain=retain, ttl_s=ttl_s)
    body = msgspec.json.encode(draft)
    with reaching(url, timeout_s=timeout_s):
        answer = await ask("POST", api_url(url, "/api/v1/events"), timeout_s=timeout_s, token=token, body=body)
    return _position(answer)


class _Draft(msgspec.Struct, omit_defaults=True):
    type: str
    data: Any
    key: str | None = None
    retain: bool = False
    ttl_s: float | None = None


class _Accepted(msgspec.Struct):
    epoch: str
    seq: int


def _position(answer: Answer) -> str:
    if answer.status != 202:
        reason = problem_detail(answer.body) or answer_text(
            answer.status, answer.phrase, location=answer.headers.get("location")
        )
        wait_s = retry_after_s(answer.headers.get("retry-after"))
        raise AccessRefused(answer.status, reason, retry_after_s=wait_s)
    try:
        accepted = msgspec.json.decode(answer.body, type=_Accepted)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreachable(f"no gateway answers there, but something else: {error}") from error
    return f"{accepted.epoch}:{accepted.seq}"
