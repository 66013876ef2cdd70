"""Calls to a reference engine: JSON-RPC 2.0 over HTTP, one at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from tidegate.client.refusals import answer_text, client_error_text
from tidegate.errors import TidegateError, Unreachable

T = TypeVar("T")

TIMEOUT_S = 10.0


class EngineRefused(TidegateError):
    """The engine's own reason why it does not do what it was asked for."""


class Engine:
    """An engine at `url`; made by `engine_at`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def call(self, method: str, result: type[T], **params: object) -> T:
        """What `method` gives. Raises `EngineRefused`, and `Unreachable` where no engine answers."""
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            async with self._session.post(self._url, json=call, allow_redirects=False) as response:
                if location := response.headers.get("Location"):
                    found = answer_text(response.status, response.reason or "", location=location)
                    raise Unreachable(f"no engine answers at {self._url}, but something else: {found}")
                answer = msgspec.json.decode(await response.read(), type=_Answer)
            if answer.error is not None:
                raise EngineRefused(answer.error.message)
            return msgspec.convert(answer.result, result)
        except TimeoutError:
            raise Unreachable(f"no answer from {self._url} within {TIMEOUT_S:g} s") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"no engine answers at {self._url}, but something else: {error}") from error
        except (aiohttp.ClientError, ValueError) as error:
            reason = client_error_text(error) if isinstance(error, aiohttp.ClientError) else str(error)
            raise Unreachable(f"no engine answers at {self._url}: {reason}") from error


@asynccontextmanager
async def engine_at(url: str) -> AsyncIterator[Engine]:
    """The engine at `url`, which is connected to by the first call."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        yield Engine(session, url)


class _Error(msgspec.Struct):
    message: str


class _Answer(msgspec.Struct):
    result: Any = None
    error: _Error | None = None
