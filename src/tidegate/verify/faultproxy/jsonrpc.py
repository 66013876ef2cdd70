"""The effects of faults on JSON-RPC 2.0 bodies. Pure functions from bytes to bytes.

Members that a fault does not change keep their exact text, including the digits of numbers. Faults that change members
leave a body unchanged if it is not a JSON-RPC answer.
"""

from collections.abc import Callable

import msgspec
from msgspec import Raw

from tidegate.verify.faultproxy.faults import (
    Nan,
    NoResultNoError,
    PartialBatch,
    ResultAndError,
    SpoilFault,
    TruncatedJson,
    WrongId,
)

_ERROR = Raw(b'{"code":-32000,"message":"made up by the fault proxy"}')
_UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError)

_Answer = dict[str, Raw]


class Asked(msgspec.Struct, frozen=True):
    """The content of a request body: methods and ids (as JSON text), one per call, and whether it was a batch.

    `methods` and `ids` are empty if the body is not a JSON-RPC request.
    """

    methods: tuple[str, ...] = ()
    ids: tuple[bytes, ...] = ()
    batch: bool = False


class _Call(msgspec.Struct, frozen=True):
    method: str
    id: Raw = Raw(b"null")


_requests = msgspec.json.Decoder(_Call | list[_Call])
_answers = msgspec.json.Decoder(_Answer | list[_Answer])


def asked(body: bytes) -> Asked:
    """Read a request body; never raises."""
    try:
        found = _requests.decode(body)
    except _UNREADABLE:
        return Asked()
    calls = found if isinstance(found, list) else [found]
    return Asked(tuple(c.method for c in calls), tuple(bytes(c.id) for c in calls), isinstance(found, list))


def around_result(request: Asked) -> tuple[bytes, bytes]:
    """Return the text before and after the first result of a valid answer to `request`. Further results are null.

    Both are empty if the request was not JSON-RPC: then the result is the whole body.
    """
    if not request.ids:
        return b"", b""
    first, *others = (b'{"jsonrpc":"2.0","id":%b,"result":' % call_id for call_id in request.ids)
    rest = b"}" + b"".join(b",%bnull}" % other for other in others)
    return (b"[" + first, rest + b"]") if request.batch else (first, rest)


def error_answer(request: Asked, *, code: int, message: str) -> bytes:
    """Return a JSON-RPC error for every call of `request`, with id null if the request was not JSON-RPC."""
    error = {"code": code, "message": message}
    errors = [{"jsonrpc": "2.0", "id": Raw(i), "error": error} for i in request.ids or (b"null",)]
    return msgspec.json.encode(errors if request.batch else errors[0])


def spoiled(fault: SpoilFault, body: bytes) -> bytes:
    """Return `body`, an answer of upstream, as changed by `fault`."""
    match fault:
        case TruncatedJson():
            return _truncated(body)
        case WrongId():
            return _each(body, _wrong_id)
        case ResultAndError():
            return _each(body, lambda answer: {"result": Raw(b"null"), "error": _ERROR, **answer})
        case NoResultNoError():
            return _each(body, lambda answer: {k: v for k, v in answer.items() if k not in {"result", "error"}})
        case PartialBatch():
            return _partial(body, fault.drop)
        case Nan():
            return _each(body, _nan) if _is_rpc(body) else b"NaN"
        case _:
            raise AssertionError(f"{fault} has no effect on a body")


def _truncated(body: bytes) -> bytes:
    """Return half of `body`, which is never valid JSON. Half of a bare number could be valid: then return nothing."""
    text = body.strip()
    return text[: len(text) // 2] if text[:1] in {b"{", b"[", b'"'} else b""


def _wrong_id(answer: _Answer) -> _Answer:
    wrong: int | str
    match msgspec.json.decode(answer.get("id", Raw(b"null"))):
        case int(number):
            wrong = number + 1_000_003
        case text:
            wrong = f"not {text}"
    return {**answer, "id": Raw(msgspec.json.encode(wrong))}


def _nan(answer: _Answer) -> _Answer:
    return {**{k: v for k, v in answer.items() if k != "error"}, "result": Raw(b"NaN")}


def _partial(body: bytes, drop: int) -> bytes:
    found = _read(body)
    return msgspec.json.encode(found[drop:]) if isinstance(found, list) else body


def _each(body: bytes, change: Callable[[_Answer], _Answer]) -> bytes:
    match _read(body):
        case None:
            return body
        case list(answers):
            return msgspec.json.encode([change(answer) for answer in answers])
        case answer:
            return msgspec.json.encode(change(answer))


def _is_rpc(body: bytes) -> bool:
    return _read(body) is not None


def _read(body: bytes) -> _Answer | list[_Answer] | None:
    """Return the answer or answers in `body`; None if it is not a JSON-RPC answer."""
    try:
        found = _answers.decode(body)
    except _UNREADABLE:
        return None
    answers = found if isinstance(found, list) else [found]
    return found if answers and all("jsonrpc" in answer for answer in answers) else None
