"""A client of the reference engine: JSON-RPC 2.0 over HTTP, one call at a time."""

from typing import Any, TypeVar

import msgspec

from tidegate.client.asking import NoAnswer, ask
from tidegate.client.refusals import answer_text
from tidegate.errors import TidegateError, Unreachable

T = TypeVar("T")

TIMEOUT_S = 10.0


class EngineRefused(TidegateError):
    """The engine refused a call. The message is the engine's own."""


class Engine:
    """A client of the engine at `url`. Each call opens a new connection."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def call(self, method: str, result: type[T], **params: object) -> T:
        """Call `method` and return its result. Raises `EngineRefused`, or `Unreachable` if no engine answers."""
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = await ask("POST", self._url, timeout_s=TIMEOUT_S, body=msgspec.json.encode(call))
            if location := answer.headers.get("location"):
                found = answer_text(answer.status, answer.phrase, location=location)
                raise Unreachable(f"no engine answers at {self._url}, but something else: {found}")
            said = msgspec.json.decode(answer.body, type=_Answer)
            if said.error is not None:
                raise EngineRefused(said.error.message)
            return msgspec.convert(said.result, result)
        except TimeoutError:
            raise Unreachable(f"no answer from {self._url} within {TIMEOUT_S:g} s") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"no engine answers at {self._url}, but something else: {error}") from error
        except (NoAnswer, ValueError) as error:
            raise Unreachable(f"no engine answers at {self._url}: {error}") from error


class _Error(msgspec.Struct):
    message: str


class _Answer(msgspec.Struct):
    result: Any = None
    error: _Error | None = None
