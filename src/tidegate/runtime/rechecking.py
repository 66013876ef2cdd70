"""Verifies the tokens of open connections again, after a reload or when a file with tokens or keys has changed.

Verifying a signature and closing a connection take a while, and there may be thousands of connections. So they are
checked in pieces, with a turn of the event loop after each. The first piece is checked at once.
"""

import asyncio
from collections import deque
from collections.abc import Iterable

import structlog

from tidegate.core.access.grant import Grant
from tidegate.errors import CloseCode, MessageError
from tidegate.ports import Clock
from tidegate.runtime.authentication import CurrentAuthenticator
from tidegate.runtime.connection import Connection
from tidegate.secret import Secret

CHANGED_AT_ONCE = 25
"""How many tokens are verified, or connections changed or closed, in one turn of the event loop: a few milliseconds."""

LOOKED_AT_ONCE = 1000
"""How many connections are looked at in one turn, most of which have a token that was verified for others already."""

UNDECIDED_S = 10.0
"""For how long a connection stays open whose token cannot be checked, because the issuer's keys are not there yet."""

log = structlog.get_logger("tidegate.access")


class Rechecks:
    """Checks the tokens of connections again, by what `authentication` accepts now.

    A connection whose token is not accepted is closed with 4401; one whose token lost the role subscriber, with 4403.
    For what else changes see `Connection.regrant`.
    """

    def __init__(self, authentication: CurrentAuthenticator, clock: Clock) -> None:
        self._authentication = authentication
        self._clock = clock
        self._revision = authentication.revision
        self._waiting: deque[Connection] = deque()
        self._verified: dict[Secret, Grant | MessageError] = {}
        """What tokens grant, while connections are being checked: many clients may have the same token."""
        self._undecided: dict[Connection, float] = {}
        """Connections whose tokens cannot be checked yet, with the monotonic time until when they may stay open."""
        self._changed = 0
        self._checked = self._closed = 0

    @property
    def is_due(self) -> bool:
        """Whether other tokens are accepted now than when `begin` was called last."""
        return self._revision != self._authentication.revision

    def begin(self, connections: Iterable[Connection]) -> None:
        """Check all `connections`, the first ones at once. Starts from the beginning if it is still busy."""
        is_busy = bool(self._waiting)
        self._revision = self._authentication.revision
        self._waiting = deque(connections)
        self._checked, self._closed = len(self._waiting), 0
        self._verified.clear()
        if not is_busy:
            self._check_some()

    def check(self, connection: Connection) -> None:
        """Check one connection at once. Never raises."""
        try:
            self._check(connection)
        except Exception as error:  # noqa: BLE001 - an authenticator may be other people's code; `fail` logs it
            connection.fail(error)

    def review(self) -> None:
        """Check those again whose tokens could not be checked, and close them if that lasts. Call once a second."""
        if self._undecided and not self._waiting:
            self._waiting.extend(self._undecided)
            self._check_some()

    def _check_some(self) -> None:
        looked_at = self._changed = 0
        while self._waiting and looked_at < LOOKED_AT_ONCE and self._changed < CHANGED_AT_ONCE:
            looked_at += 1
            self.check(self._waiting.popleft())
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._check_some)
            return
        self._verified.clear()
        if self._checked:
            # One line for all: there may be thousands.
            log.info("tokens checked again", connections=self._checked, closed=self._closed)
            self._checked = 0

    def _check(self, connection: Connection) -> None:
        if connection.is_closed:
            self._undecided.pop(connection, None)
            return
        found = self._verified.get(connection.token)
        if found is None:
            self._changed += 1
            found = self._verified[connection.token] = self._verify(connection.token)
        if isinstance(found, Grant):
            self._undecided.pop(connection, None)
            self._changed += connection.regrant(found)
            self._closed += connection.is_closed
        elif found.retryable:
            now = self._clock.now().mono
            if now >= self._undecided.setdefault(connection, now + UNDECIDED_S):
                del self._undecided[connection]
                # Not for a fault of the client: it may come back, and is let in once tokens can be checked.
                connection.close(CloseCode.DRAINING, "tokens cannot be checked now: connect again")
        else:
            self._undecided.pop(connection, None)
            self._changed += 1
            self._closed += 1
            log.debug("token is not accepted any more", client_id=connection.id, name=connection.grant.name)
            connection.close(CloseCode.UNAUTHENTICATED, f"the token is not accepted any more: {found}")

    def _verify(self, token: Secret) -> Grant | MessageError:
        try:
            return self._authentication.verify(token.reveal())
        except MessageError as error:
            return error
