"""A tap on what the gateway does to a backend: its calls, what each came to, and its knocks.

Together with what the backend gave these are the truth that clients' messages are held against. Nothing here asks the
gateway what it thinks of a call.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from simulation.network import noted
from tidegate.core.instant import Instant
from tidegate.errors import BackendError, NoCredentials
from tidegate.outbound.backends import JsonRpcBackend
from tidegate.ports import Ask, Call


class Exchange:
    """One call of the poller's to its backend. `results` is None while it runs, and after it was given up.

    `ended` is monotonic. `started_as` and `ended_as` number the starts and ends of what the gateway does to a backend
    in the order in which they came. `stood` is whether there was a connection, as the network saw it; `secret` what
    the call was made with.
    """

    __slots__ = ("backend", "ended", "ended_as", "methods", "results", "secret", "sent", "started_as", "stood")

    def __init__(self, number: int, backend: str, methods: Sequence[str], sent: Instant, secret: bytes | None) -> None:
        self.started_as = number
        self.ended_as = 0
        self.backend = backend
        self.methods = methods
        self.sent = sent
        self.secret = secret
        self.ended: float | None = None
        self.results: Sequence[bytes | BackendError] | None = None
        self.stood = True


class Knock:
    """One look whether the backend can be reached: whether a connection `stood`, and whether that was `reached`."""

    __slots__ = ("began", "ended", "ended_as", "reached", "started_as", "stood")

    def __init__(self, number: int, began: float) -> None:
        self.started_as = number
        self.ended_as = 0
        self.began = began
        self.ended: float | None = None
        self.reached = False
        self.stood = False


class Tap:
    """A `Backend` that notes every exchange and every knock of the real one behind it.

    `secret` is what our own token for it says, None while it cannot be read. It is looked for when a call is prepared;
    a call without one decides nothing about the backend.
    """

    def __init__(
        self,
        name: str,
        backend: JsonRpcBackend,
        now: Callable[[], Instant],
        *,
        secret: Callable[[], bytes | None],
    ) -> None:
        self.exchanges: list[Exchange] = []
        self.knocks: list[Knock] = []
        self.reads: list[tuple[float, bytes | None]] = []
        """When a secret was read, and which."""
        self._secret = secret
        self._name = name
        self._backend = backend
        self._now = now
        self._numbered = 0

    async def prepare(self) -> "_Prepared":
        secret = self._secret()
        self.reads.append((self._now().mono, secret))
        return _Prepared(self, await self._backend.prepare(), secret)

    async def call(self, calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        return await (await self.prepare())(calls)

    async def knock(self) -> None:
        knock = Knock(self._next(), self._now().mono)
        self.knocks.append(knock)
        try:
            with noted(knock):
                await self._backend.knock()
            knock.reached = True
        finally:
            knock.ended = self._now().mono
            knock.ended_as = self._next()

    async def aclose(self) -> None:
        await self._backend.aclose()

    async def exchange(
        self, ask: Ask, calls: Sequence[Call], secret: bytes | None
    ) -> Sequence[msgspec.Raw | BackendError]:
        """Make one call, and note it."""
        exchange = Exchange(self._next(), self._name, [call.method for call in calls], self._now(), secret)
        self.exchanges.append(exchange)
        try:
            if secret is None:
                raise NoCredentials("the token file is not there")
            with noted(exchange):
                answers = await ask(calls)
            exchange.results = [answer if isinstance(answer, BackendError) else bytes(answer) for answer in answers]
        except BackendError as error:
            exchange.results = [error] * len(calls)
            raise
        finally:
            exchange.ended = self._now().mono
            exchange.ended_as = self._next()
        return answers

    def _next(self) -> int:
        self._numbered += 1
        return self._numbered


class _Prepared:
    """What a prepared call is: `tidegate.ports.Prepares`. `connected` is what the real one says of its own call."""

    def __init__(self, tap: Tap, ask: Ask, secret: bytes | None) -> None:
        self.secret = secret
        self._tap = tap
        self._ask: Any = ask

    @property
    def connected(self) -> bool:
        return bool(getattr(self._ask, "connected", True))

    async def __call__(self, calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        return await self._tap.exchange(self._ask, calls, self.secret)
