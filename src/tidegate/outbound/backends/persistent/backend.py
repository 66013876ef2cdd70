"""Backends that are called with JSON-RPC over one persistent connection: a WebSocket, TCP or a Unix socket.

Decides when a connection is made, when it is used no longer, and what a lost one means. Knows no bytes.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from tidegate.errors import BackendError, Disconnected, LoginRefused
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.persistent.dialer import Dialer, filled
from tidegate.outbound.backends.persistent.hints import KeptHints
from tidegate.outbound.backends.persistent.link import Answers, Link, Unheard
from tidegate.outbound.backends.persistent.options import RpcOptions
from tidegate.outbound.backends.prepared_call import PreparedCall
from tidegate.outbound.backends.refused_login import RefusedLogin
from tidegate.outbound.backends.rpc_messages import asks_for_login
from tidegate.outbound.http_client import Attempt, Connect, connected, mapped
from tidegate.ports import Ask, Call

_T = TypeVar("_T")

LOSSES, LOSSES_WITHIN_S = 3, 60.0
"""So many lost connections are hints within so many seconds. There are servers that close one after each answer, and
each hint leads to calls. Of a server that tells of changes, a further loss is told when the time is over: without a
connection it tells nothing. Of others it is found out by the next poll."""


class RpcBackend:
    """Implements `tidegate.ports.Backend`, `Prepares`, `Knocks`, `Checked` and `Hints`.

    There is at most one connection for new calls. It is made by the first call that needs one, and kept until it is
    lost. Calls overlap on it, and are matched by id; several calls of one exchange are sent at once, as single
    requests, because few servers take JSON-RPC batches on a connection. Another secret, an `on_code`, or a call that
    was cancelled while the server said nothing at all lead to a new connection for the next call; the old one is
    closed when its calls have ended.

    `credentials` reads the secrets, and raises `NoCredentials`. Raises `ConfigError` for options that cannot be used.
    """

    answers_are_compact = True

    def __init__(
        self,
        options: RpcOptions,
        credentials: Callable[[], Awaitable[Credentials]],
        *,
        wall_clock: Callable[[], float] = time.time,
        connect: Connect = connected,
    ) -> None:
        self._session = options.session
        self._credentials = credentials
        self._hints = KeptHints()
        self._dialer = Dialer(options, connect=connect, wall_clock=wall_clock, notice=self._hints.add)
        self._link: Link | None = None
        self._retired: list[Link] = []
        self._dialing = asyncio.Lock()
        self._dialed = 0  # how many times dialing has ended, but not by a cancellation
        self._failure: Exception | None = None  # of the last time
        self._refused = RefusedLogin()
        self._in_flight: set[asyncio.Timeout] = set()
        self._losses: deque[float] = deque(maxlen=LOSSES)  # when hints told of one
        self._late: asyncio.TimerHandle | None = None  # tells of a loss that came too soon after others
        self._closed = False

    async def prepare(self) -> Ask:
        """See `tidegate.ports.Prepares`: reads the secrets. Raises `NoCredentials` while a refused login rests."""
        credentials = await self._credentials()
        self._refused.check(credentials.key)
        return PreparedCall(self._ask, credentials)

    async def call(self, calls: Sequence[Call]) -> Sequence[msgspec.Raw | BackendError]:
        """See `tidegate.ports.Backend.call`."""
        return await (await self.prepare())(calls)

    async def knock(self) -> None:
        """See `tidegate.ports.Knocks`. If there is a connection, that is the answer."""
        self._check_open()
        if self._link is None or not self._link.is_usable:
            await self._until_closed(self._dialer.knock())
        if self._closed:
            self._dialer.forget_knocked()
            self._check_open()

    async def hints(self) -> AsyncIterator[str | None]:
        """See `tidegate.ports.Hints`: names of notifications and their topics; None when a connection is lost."""
        async for name in self._hints.taken():
            yield name

    async def aclose(self) -> None:
        """See `tidegate.ports.Backend.aclose`."""
        self._closed = True
        self._hints.end()
        if self._late is not None:
            self._late.cancel()
        self._dialer.forget_knocked()
        for timeout in self._in_flight:
            timeout.reschedule(0.0)  # ends those that are still connecting
        await asyncio.gather(
            *(link.close(self._goodbye()) for link in (self._link, *self._retired) if link is not None)
        )

    async def _ask(self, calls: Sequence[Call], credentials: Credentials, attempt: Attempt) -> Answers:
        self._check_open()
        if not calls:
            return []
        sent = [filled(call, credentials) for call in calls]
        return await self._until_closed(self._exchange(sent, credentials, attempt))

    async def _exchange(self, calls: Sequence[Call], credentials: Credentials, attempt: Attempt) -> Answers:
        """Make `calls`, and once more over a new connection if an older one, or its login, is no longer good.

        Servers close connections that were idle, just when a call is on its way. Repeating is safe, because polls only
        read, and belongs to the same call: one permit, one timeout, one verdict.
        """
        link, is_new = await self._linked(credentials, attempt)
        answers = await self._asked(link, calls, again=not is_new)
        if answers is None or (self._is_refused(answers) and not is_new):
            self._retire(link)
            link, _ = await self._linked(credentials, attempt)
            answers = await self._asked(link, calls, again=False) or []
        if self._is_refused(answers):
            self._retire(link)
        return [_after_login(answer, self._session.on_code) for answer in answers]

    async def _asked(self, link: Link, calls: Sequence[Call], *, again: bool) -> Answers | None:
        """Make `calls` over `link`. Return None if they should be made `again`, over another one."""
        try:
            return await link.ask(calls)
        except Unheard as unheard:
            if again:
                return None
            raise unheard.end from unheard.end.__cause__
        except asyncio.CancelledError:
            if not link.is_usable:
                self._retire(link)
            raise

    def _is_refused(self, answers: Answers) -> bool:
        return any(asks_for_login(answer, self._session.on_code) for answer in answers)

    async def _linked(self, credentials: Credentials, attempt: Attempt) -> tuple[Link, bool]:
        """Return the link for new calls, and whether it was made for this one.

        Who waits while somebody else dials gets that link, or the error: a wrong password is not tried once per source.
        """
        if (link := self._usable(credentials)) is not None:
            attempt.connected = True
            return link, False
        dialed = self._dialed
        attempt.connected = False
        try:
            async with self._dialing:
                if (link := self._usable(credentials)) is not None:
                    return link, False
                if self._dialed > dialed and self._failure is not None:
                    raise self._failure.with_traceback(None)
                return await self._dial(credentials), True
        finally:
            attempt.connected = self._dialer.has_stood

    def _usable(self, credentials: Credentials) -> Link | None:
        link = self._link
        return link if link is not None and link.is_usable and link.key == credentials.key else None

    async def _dial(self, credentials: Credentials) -> Link:
        try:
            link = await self._dialer.dial(credentials, self._lost)
        except Exception as error:
            self._failure = error
            self._dialed += 1
            if isinstance(error, LoginRefused):
                self._refused.begin(error, credentials.key)
            raise
        self._refused.end()
        if self._failure is not None:  # its sources may have been asked in vain meanwhile, and changes were not told
            self._hints.add(None)
        self._failure = None
        self._dialed += 1
        if self._link is not None:
            self._retire(self._link)
        self._link = link
        return link

    def _retire(self, link: Link) -> None:
        """Make no new calls over `link`. What the server would have told until the next one is not told."""
        link.retire()
        self._retired = [each for each in {*self._retired, link} if not each.is_closed]
        if link is self._link:
            self._link = None
            if self._tells:
                self._tell_of_loss()

    def _lost(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            self._tell_of_loss()

    def _tell_of_loss(self) -> None:
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        due = self._losses[0] + LOSSES_WITHIN_S if len(self._losses) == LOSSES else 0.0
        if due <= loop.time():
            self._losses.append(loop.time())
            self._hints.add(None)
        elif self._tells and self._late is None:
            self._late = loop.call_at(due, self._tell_late)

    def _tell_late(self) -> None:
        self._late = None
        self._tell_of_loss()

    @property
    def _tells(self) -> bool:
        """Whether the server tells of changes, as far as is known."""
        return bool(self._session.on_connect) or self._hints.were_named

    async def _until_closed(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do `work` and map its errors. When the backend is closed, end it with `Disconnected`."""
        timeout = asyncio.timeout(None)  # never expires by itself: `aclose` makes it expire
        try:
            with mapped(self._dialer.peer):
                async with timeout:
                    self._in_flight.add(timeout)
                    return await work
        except Disconnected as exc:
            if self._closed:
                raise self._goodbye() from exc
            raise
        finally:
            self._in_flight.discard(timeout)

    def _check_open(self) -> None:
        if self._closed:
            raise self._goodbye()

    def _goodbye(self) -> Disconnected:
        return Disconnected(f"{self._dialer.peer}: the gateway closed the connection")


def _after_login(answer: msgspec.Raw | BackendError, marks: Sequence[int | str]) -> msgspec.Raw | BackendError:
    """Return `answer`, or what it means if it asks for a login that has just been made."""
    if isinstance(answer, BackendError) and asks_for_login(answer, marks):
        return LoginRefused(f"expected an answer after the login, got {answer}")
    return answer
