"""The session with one backend over HTTP: when a login is needed, and who makes it.

Knows nothing of requests: `Logins` makes a login, and the backend's protocol makes the calls.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from yarl import URL

from tidegate.errors import ApplicationError, BackendError, HttpStatus, LoginRefused
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.prepared_call import Answers
from tidegate.outbound.backends.refused_login import RefusedLogin, Rest
from tidegate.outbound.backends.rpc_messages import asks_for_login
from tidegate.outbound.backends.sessions.grant import LoginGrant, header_in
from tidegate.outbound.backends.sessions.logging_in import Logins
from tidegate.outbound.backends.sessions.options import HttpSession
from tidegate.outbound.http_client import Attempt
from tidegate.ports import Call

Asked = Callable[[Sequence[Call], Credentials, Attempt], Awaitable[Answers]]


class LoginSession:
    """Adds to each exchange with the backend at `url` what the session needs. `logins` is None without a login.

    All calls share one grant. Whoever needs a login while somebody else logs in gets that grant, or that error: a wrong
    password is not tried once per source. A grant that is refused is renewed once within the same exchange. A call
    that is refused right after a login does not cause more logins than a wrong password would.

    For use in one event loop.
    """

    def __init__(self, options: HttpSession, url: URL, logins: Logins | None) -> None:
        self._options = options
        self._url = url
        self._logins = logins
        self._grant: LoginGrant | None = None
        self._logging_in = asyncio.Lock()
        self._ended = 0  # how many logins have ended, but not by a cancellation
        self._failure: BackendError | None = None  # of the last one
        self._refused = RefusedLogin()
        self._unhelped: dict[object, Rest] = {}  # calls that were refused right after a login

    def check(self, credentials: Credentials) -> None:
        """Raise `NoCredentials` while a login with these `credentials` must not be repeated."""
        self._refused.check(credentials.key)

    async def exchange(self, ask: Asked, calls: Sequence[Call], credentials: Credentials, attempt: Attempt) -> Answers:
        """Make `calls` with `ask`, after a login if one is needed. Raises what `ask` and the login raise."""
        grant, is_new = await self._granted(credentials, attempt)
        answers = await self._asked(ask, calls, credentials, attempt, grant)
        refused = self._refused_of(calls, answers)
        if refused and not is_new and (other := await self._renewed(grant, refused, credentials, attempt)) is not None:
            answers = await self._asked(ask, calls, credentials, attempt, other)
            refused, is_new = self._refused_of(calls, answers), True
        if refused and (is_new or self._logins is not None):
            return self._given_up(answers, refused)
        return _raised(answers)

    async def aclose(self) -> None:
        """Close the connections that only logins used."""
        if self._logins is not None:
            await self._logins.aclose()

    async def _asked(
        self, ask: Asked, calls: Sequence[Call], credentials: Credentials, attempt: Attempt, grant: LoginGrant | None
    ) -> Answers | BackendError:
        attempt.fields = {}
        sent = credentials if grant is None else grant.added_to(credentials, self._url)
        try:
            return await ask(calls, sent, attempt)
        except BackendError as error:
            return error
        finally:
            if grant is not None:
                grant.follow(self._url, attempt.fields)

    def _refused_of(self, calls: Sequence[Call], answers: Answers | BackendError) -> list[Call]:
        """Return those of `calls` that ask for a login."""
        each = [answers] * len(calls) if isinstance(answers, BackendError) else answers
        refused = [call for call, answer in zip(calls, each, strict=False) if self._asks_for_login(answer)]
        for call in calls:
            if call not in refused:
                self._unhelped.pop(_name(call), None)
        return refused

    def _asks_for_login(self, answer: msgspec.Raw | BackendError) -> bool:
        if isinstance(answer, HttpStatus | ApplicationError) and answer.status in self._options.on_status:
            return True
        return asks_for_login(answer, self._options.on_code)

    async def _granted(self, credentials: Credentials, attempt: Attempt) -> tuple[LoginGrant | None, bool]:
        """Return the grant to begin with, None if there is none without a refusal; and whether it is a new one."""
        grant = self._usable(credentials)
        if grant is not None or self._logins is None:
            return grant, False
        return await self._logged_in(self._logins, None, credentials, attempt)

    async def _renewed(
        self, old: LoginGrant | None, refused: Sequence[Call], credentials: Credentials, attempt: Attempt
    ) -> LoginGrant | None:
        """Return another grant than the `old` one, for `refused` calls; None if none is to be had."""
        header = None if self._options.header is None else header_in(attempt.fields, self._options.header)
        if header is not None:
            self._grant = LoginGrant(key=credentials.key, header=header) if old is None else old.with_header(header)
            return self._grant
        rests = (self._unhelped.get(_name(call)) for call in refused)
        if self._logins is None or all(rest is not None and not rest.is_over for rest in rests):
            return None
        grant, _ = await self._logged_in(self._logins, old, credentials, attempt)
        return grant

    def _given_up(self, answers: Answers | BackendError, refused: Sequence[Call]) -> Answers:
        """Return `answers`, of which some are still refused, as what that means."""
        for call in refused:
            rest = self._unhelped.setdefault(_name(call), Rest())
            if rest.is_over:
                rest.begin()
        if isinstance(answers, BackendError):
            raise _after_login(answers)
        return [
            _after_login(each) if isinstance(each, BackendError) and self._asks_for_login(each) else each
            for each in answers
        ]

    def _usable(self, credentials: Credentials) -> LoginGrant | None:
        grant = self._grant
        return grant if grant is not None and grant.key == credentials.key and _now() < grant.ends_at else None

    async def _logged_in(
        self, logins: Logins, refused: LoginGrant | None, credentials: Credentials, attempt: Attempt
    ) -> tuple[LoginGrant, bool]:
        """Return a grant other than the `refused` one, and whether this exchange has logged in for it."""
        ended = self._ended
        async with self._logging_in:
            grant = self._usable(credentials)
            if grant is not None and grant is not refused:
                return grant, False
            if self._ended > ended and self._failure is not None:
                raise self._failure.with_traceback(None)
            self.check(credentials)
            try:
                self._grant = grant = await logins.log_in(credentials, attempt)
            except BackendError as error:
                self._failed(error, credentials)
                raise
            self._ended += 1
            self._failure = None
            self._refused.end()
            return grant, True

    def _failed(self, error: BackendError, credentials: Credentials) -> None:
        self._grant = None
        self._ended += 1
        self._failure = error
        if isinstance(error, LoginRefused):
            self._refused.begin(error, credentials.key)


def _raised(answers: Answers | BackendError) -> Answers:
    if isinstance(answers, BackendError):
        raise answers
    return answers


def _after_login(refusal: BackendError) -> LoginRefused:
    return LoginRefused(f"expected an answer after the login, got {refusal}")


def _name(call: Call) -> object:
    return call.method, bytes(call.params), None if call.http is None else call.http.body


def _now() -> float:
    return asyncio.get_running_loop().time()
