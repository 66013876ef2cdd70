"""One connection to upsd: lines of text, of which the first word says what it is (RFC 9271).

Every error that leaves this module is a `tidegate.errors.BackendError`.
"""

import asyncio
import shlex
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, Self

import msgspec

from tidegate.backends import Secret
from tidegate.errors import ApplicationError, Disconnected, InvalidResponse, LoginRefused

_REFUSALS = frozenset(
    {"ACCESS-DENIED", "INVALID-PASSWORD", "INVALID-USERNAME", "PASSWORD-REQUIRED", "USERNAME-REQUIRED"}
)


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where upsd is. `tls` is None for a connection without it. `answer_bytes` limits one answer."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    username: str | None
    password: Secret | None
    answer_bytes: int


class Connection:
    """A connection that stands. After an error or a cancellation nobody knows what comes next on it: abort it."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer

    @classmethod
    async def made(cls, server: Server) -> Self:
        """Connect, and no more: no TLS, no login."""
        with _told(server):
            reader, writer = await asyncio.open_connection(server.host, server.port, limit=server.answer_bytes)
        return cls(server, reader, writer)

    async def log_in(self) -> None:
        """Begin TLS and tell who we are, if the options ask for it."""
        server = self._server
        if server.tls is not None:
            await self._agreed("STARTTLS")
            with _told(server):
                await self._writer.start_tls(server.tls, server_hostname=server.host)
        if server.username is not None and server.password is not None:
            await self._agreed(f"USERNAME {_quoted(server.username)}")
            await self._agreed(f"PASSWORD {_quoted(server.password.reveal())}")

    async def listed(self, what: str) -> list[tuple[str, str]]:
        """Ask for a list, such as ``UPS`` or ``VAR rack``. Return the two last words of each of its lines."""
        await self._send(f"LIST {what}")
        begin = await self._words()
        asked = _words(what)
        if begin != ["BEGIN", "LIST", *asked]:
            _refuse(begin)
        rows, size = [], 0
        while (words := await self._words()) != ["END", "LIST", *asked]:
            size += sum(map(len, words))
            if size > self._server.answer_bytes:
                raise InvalidResponse(f"expected at most {self._server.answer_bytes} bytes for LIST {what}, got more")
            match words[len(asked) :]:
                case [name, value] if words[: len(asked)] == asked:
                    rows.append((name, value))
                case _:
                    raise InvalidResponse(f"expected a line of LIST {what}, got {' '.join(words)[:100]!r}")
        return rows

    def abort(self) -> None:
        """Close it at once."""
        self._writer.transport.abort()

    @property
    def is_usable(self) -> bool:
        """Whether the server has not closed it, as far as is known."""
        return not (self._reader.at_eof() or self._writer.is_closing())

    async def _agreed(self, command: str) -> None:
        await self._send(command)
        words = await self._words()
        if words[:1] != ["OK"]:
            _refuse(words)

    async def _send(self, line: str) -> None:
        with _told(self._server):
            self._writer.write(f"{line}\n".encode())
            await self._writer.drain()

    async def _words(self) -> list[str]:
        """Read a line."""
        with _told(self._server):
            line = await self._reader.readuntil(b"\n")
        try:
            return _words(line.decode())
        except ValueError:
            raise InvalidResponse(f"expected a line of text, got {line[:100]!r}") from None


@contextmanager
def _told(server: Server) -> Iterator[None]:
    """Turn what the network does wrong into errors that Tidegate knows."""
    try:
        yield
    except asyncio.LimitOverrunError:
        raise InvalidResponse(f"expected lines of at most {server.answer_bytes} bytes, got a longer one") from None
    except asyncio.IncompleteReadError:
        raise Disconnected(f"{server.host}:{server.port} closed the connection") from None
    except OSError as error:  # ssl.SSLError too
        raise Disconnected(f"{server.host}:{server.port}: {error.strerror or error}") from error


def _refuse(words: list[str]) -> NoReturn:
    match words:
        case ["ERR", reason, *_] if reason in _REFUSALS:
            raise LoginRefused(f"upsd says {reason}")
        case ["ERR", reason, *_]:
            raise ApplicationError(None, f"upsd says {reason}")
    raise InvalidResponse(f"expected an answer of upsd, got {' '.join(words)[:100]!r}")


def _words(line: str) -> list[str]:
    """Split a line. A word with spaces is in double quotes; a backslash takes the next character as it is."""
    return shlex.split(line)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
