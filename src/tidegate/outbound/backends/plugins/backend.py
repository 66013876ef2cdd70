"""A backend that a plug-in makes: opens it, reads its secrets before each exchange, and keeps its mistakes apart.

What a plug-in does wrong is logged with its name, once for each kind, and becomes an error of the exchange. The shapes
of answers are `runtime.exchange`'s to check; all of them are checked, whatever the plug-in says of itself.
"""

import asyncio
import inspect
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import structlog

from tidegate.backends.contract import BackendContext
from tidegate.backends.installed import Plugin, reason, told
from tidegate.backends.options import SecretOption, converted
from tidegate.core.masking import Masked, mask_options
from tidegate.errors import BackendError, ConfigError, InvalidResponse
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.plugins.driven import Driven
from tidegate.outbound.backends.secrets import SecretReader
from tidegate.ports import Ask, Backend, Call, Clock
from tidegate.secret import Secret
from tidegate.secret_place import SecretPlace

log = structlog.get_logger("tidegate.plugin")

TOLD_KINDS = 100
"""How many kinds of mistakes of one plug-in are logged: a message may have something new in it each time."""

TRACE_FRAMES = 8
"""How many of the innermost places of a traceback are logged."""

Answers = Sequence[msgspec.Raw | BackendError]


class PluginOptions(Masked, msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the configuration says of a backend that a plug-in makes. `options` are complete, with absolute paths."""

    timeout_s: float
    response_bytes: int
    options: dict[str, Any] = {}
    secrets: Mapping[str, SecretPlace] = {}
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None

    def public(self) -> dict[str, object]:
        return super().public() | {"options": mask_options(self.options)}


class PluginBackend:
    """Implements `tidegate.ports.Backend`, `Prepares`, `Knocks` and `Hints` with what `plugin` opens.

    Raises `ConfigError` if `BackendPlugin.open` does. After any other error of it, `open` is called again for each
    exchange, which fails with `InvalidResponse` until it succeeds.
    """

    def __init__(
        self, name: str, plugin: Plugin, options: PluginOptions, *, clock: Clock, tls: Callable[[], ssl.SSLContext]
    ) -> None:
        self._plugin = plugin
        self._options = options
        self._reader = SecretReader(options.secrets)
        self._known: Mapping[str, Secret] = {}
        self._credentials = Credentials()
        self._mistakes = Mistakes(name, plugin.label)
        self._is_closed = False
        self._context = BackendContext(
            name=name,
            timeout_s=options.timeout_s,
            response_bytes=options.response_bytes,
            secrets={each: SecretOption(f"{{{each}}}", self._value) for each in options.secrets},
            clock=clock,
            log=log.bind(backend=name, plugin=plugin.label),
            tls=tls,
        )
        self._backend: Backend | None = None
        with suppress(InvalidResponse):  # it is logged, and tried again by each exchange
            self._backend = self._opened()

    async def call(self, calls: Sequence[Call]) -> Answers:
        """See `tidegate.ports.Backend.call`."""
        return await (await self.prepare())(calls)

    async def prepare(self) -> Ask:
        """See `tidegate.ports.Prepares`. Raises `NoCredentials` if a secret cannot be read, or as the plug-in does."""
        await self._read_secrets()
        get_ready = getattr(self._backend, "prepare", None)
        inner = None if get_ready is None else await self._driven(get_ready)
        return PluginExchange(inner, self._asked, credentials=self._credentials, made_by=self._plugin.label)

    @property
    def knock(self) -> Callable[[], Awaitable[None]] | None:
        """See `tidegate.ports.Knocks`; None if the plug-in's backend does not knock."""
        return self._knock if callable(getattr(self._backend, "knock", None)) else None

    @property
    def hints(self) -> Callable[[], AsyncIterator[str | None]] | None:
        """See `tidegate.ports.Hints`; None if the plug-in's backend has none."""
        return self._hints if callable(getattr(self._backend, "hints", None)) else None

    async def aclose(self) -> None:
        """See `tidegate.ports.Backend.aclose`."""
        self._is_closed = True
        if self._backend is not None:
            await self._driven(self._backend.aclose)

    async def _hints(self) -> AsyncIterator[str | None]:
        """Pass on what the plug-in yields, whatever it is. Raises `InvalidResponse` for what it raises."""
        await self._read_secrets()
        backend: Any = self._backend
        hints: Any = None
        try:
            hints = backend.hints()
            while True:
                try:
                    hint = await self._run(_next, hints)
                except StopAsyncIteration:
                    return
                yield hint
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a plug-in raises
            self._fail("the hints of a plug-in failed", "failed to give hints", error)
        finally:
            was_left_behind = getattr(hints, "ag_running", False)  # then it cannot be closed
            if (close := getattr(hints, "aclose", None)) is not None and not was_left_behind:
                await self._driven(_closed, close)

    async def _read_secrets(self) -> None:
        if self._options.secrets:
            self._known = await self._reader.read()
            self._credentials = Credentials(self._known)

    async def _knock(self) -> None:
        backend: Any = self._backend
        await self._driven(backend.knock)

    async def _asked(self, inner: Ask | None, calls: Sequence[Call]) -> Answers:
        if self._backend is None and not self._is_closed:
            self._backend = self._opened()
        if inner is None:
            if self._backend is None:
                raise InvalidResponse(f"expected {self._plugin.label} to be open, got a backend that is closed")
            inner = self._backend.call
        answers: Answers = await self._driven(inner, calls)
        return answers

    async def _driven(self, act: Callable[..., Any], *arguments: object) -> Any:
        """Await what `act` of the plug-in returns. What it raises by mistake is logged, and raised as our own error."""
        try:
            return await self._run(act, *arguments)
        except BackendError as error:
            error.args = (self._credentials.scrubbed(str(error)),)
            raise
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a plug-in raises
            self._fail("a plug-in failed", "failed", error)

    async def _run(self, act: Callable[..., Any], *arguments: object) -> Any:
        """Await what `act` of the plug-in returns, step by step. Raises whatever it raises."""
        work = act(*arguments)
        if not inspect.isawaitable(work):
            raise TypeError(f"expected {_name(act)} to be async, got {type(work).__name__} at once")
        if not isinstance(work, Coroutine):
            return await work
        return await Driven(work, dropped=self._mistakes.dropped, blocked=self._mistakes.blocked)

    def _opened(self) -> Backend:
        """Open the backend. Raises `ConfigError` as the plug-in does, and `InvalidResponse` for all else."""
        plugin, known = self._plugin, self._options.secrets
        try:
            options = converted(plugin.options, self._options.options, secrets=known, value_of=self._value)
            found = plugin.maker.open(options, self._context)
            missing = [name for name in ("call", "aclose") if not callable(getattr(found, name, None))]
            if missing:
                raise TypeError(f"expected open() to return a backend with {' and '.join(missing)}, got {type(found)}")
        except (ConfigError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a plug-in raises
            self._fail("a plug-in could not open a backend", "could not open the backend", error)
        backend: Backend = found
        return backend

    def _fail(self, event: str, what: str, error: BaseException) -> NoReturn:
        """Log `error` of the plug-in, unless that was done before, and raise an `InvalidResponse` that tells it."""
        self._mistakes.tell(event, self._credentials.scrubbed(reason(error)), trace=_trace(error))
        message = f"{self._plugin.label} {what}: {self._credentials.scrubbed(told(error))}"
        raise InvalidResponse(message) from None  # what it says may have a secret in it

    def _value(self, name: str) -> str:
        found = self._known.get(name)
        if found is None:
            raise RuntimeError(f"expected the secret {name!r} to be needed in a call only: it is read for each one")
        return found.reveal()


class PluginExchange:
    """The function that makes one exchange; see `tidegate.ports.Prepares`. `inner` is the plug-in's own, if any.

    `made_by` names the plug-in, for messages about the shape of its answers.
    """

    def __init__(
        self,
        inner: Ask | None,
        ask: Callable[[Ask | None, Sequence[Call]], Awaitable[Answers]],
        *,
        credentials: Credentials,
        made_by: str,
    ) -> None:
        self.made_by = made_by
        self._inner = inner
        self._ask = ask
        self._credentials = credentials

    async def __call__(self, calls: Sequence[Call]) -> Answers:
        return await self._ask(self._inner, calls)

    @property
    def connected(self) -> object:
        return getattr(self._inner, "connected", None)

    @property
    def secret(self) -> bytes | None:
        own = getattr(self._inner, "secret", None)
        return self._credentials.key + own if isinstance(own, bytes) else self._credentials.key or None

    def scrubbed(self, text: str) -> str:
        return self._credentials.scrubbed(text)


class Mistakes:
    """Logs what the plug-in `label` does wrong for the backend `name`: each kind once, and at most `TOLD_KINDS`."""

    def __init__(self, name: str, label: str) -> None:
        self._log = log.bind(backend=name, plugin=label)
        self._told: set[tuple[str, str]] = set()

    def tell(self, event: str, kind: str = "", **more: object) -> None:
        if (event, kind) not in self._told and len(self._told) < TOLD_KINDS:
            self._told.add((event, kind))
            self._log.error(event, **({"reason": kind} if kind else {}), **more)

    def dropped(self) -> None:
        self.tell("a plug-in went on after it was cancelled, and was left behind")

    def blocked(self, took_s: float) -> None:
        self.tell("a plug-in blocked the whole gateway", seconds=round(took_s, 3))


async def _next(hints: Any) -> Any:
    """Return the next hint, in a coroutine of our own, which can be left behind. Raises `StopAsyncIteration`."""
    return await anext(hints)


async def _closed(close: Callable[[], Awaitable[object]]) -> None:
    await close()


def _name(act: object) -> str:
    return getattr(act, "__qualname__", type(act).__name__)


def _trace(error: BaseException) -> list[str]:
    """Return where `error` came from, the innermost place last. Without its text, which may have a secret in it."""
    frames = traceback.extract_tb(error.__traceback__)[-TRACE_FRAMES:]
    return [f"{frame.filename}, line {frame.lineno}, in {frame.name}" for frame in frames]
