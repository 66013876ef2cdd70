"""A server of TrueNAS' API for tests: JSON-RPC 2.0 over WebSocket, as https://api.truenas.com/v26.0/jsonrpc.html says.

It has few methods and no storage, but their manners: nothing works before the login; every error of a method has the
code -32001 and tells in `data` what it is; a login is answered with true or false, and 20 may be tried in a minute.
What it tells of a changed collection goes to those who subscribed to it. Checked by hand with TrueNAS' own client.
"""

import asyncio
import contextlib
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

ENOTAUTHENTICATED = (207, "ENOTAUTHENTICATED", "Not authenticated")
EBUSY = (16, "EBUSY", "Rate Limit Exceeded")
LOGINS_PER_MINUTE = 20
CONCURRENT_CALLS = 20

APP = {"state": "RUNNING", "version": "1.2.3", "upgrade_available": False}
POOL = {"id": 1, "name": "tank", "status": "ONLINE", "healthy": True, "warning": False, "size": 4000, "free": 1000}
ALERT = {
    "uuid": "5d4c",
    "klass": "ZpoolCapacityWarning",
    "level": "WARNING",
    "formatted": "75% used",
    "dismissed": False,
}
RESULTS = {
    "system.info": {"version": "26.04", "hostname": "truenas"},
    "pool.query": [POOL],
    "alert.list": [ALERT],
}


class Refused(Exception):
    """Answers a call with an error."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        self.error = {"code": code, "message": message} | ({} if data is None else {"data": data})
        super().__init__(message)


def call_error(number: int, name: str, reason: str) -> Refused:
    """What a method that fails is answered with."""
    data = {"error": number, "errname": name, "reason": f"[{name}] {reason}", "trace": None, "extra": None}
    return Refused(-32001, "Method call error", data)


class Session:
    """One connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.authenticated = False
        self.subscriptions: set[str] = set()
        self.calls = 0

    async def send(self, message: dict[str, object]) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self.connection.send(json.dumps({"jsonrpc": "2.0", **message}))


class TrueNas:
    """The whole appliance. `apps` are those that ``app.query`` lists."""

    def __init__(self, *keys: str) -> None:
        self.keys = set(keys)
        self.apps: dict[str, dict[str, Any]] = {}
        self.sessions: set[Session] = set()
        self.logins: list[float] = []  # when each was tried
        self.called: list[str] = []
        self.port = 0
        self.delay_s = 0.0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/current"

    async def change(self, name: str, **fields: object) -> None:
        """Change an app, or add one, and tell it to those who subscribed."""
        message = "changed" if name in self.apps else "added"
        self.apps[name] = self.apps.get(name, {"id": name, "name": name} | APP) | fields
        params = {"msg": message, "collection": "app.query", "id": name, "fields": self.apps[name]}
        for session in list(self.sessions):
            if session.subscriptions & {"app.query", "*"}:
                await session.send({"method": "collection_update", "params": params})

    def expire_sessions(self) -> None:
        """Log everybody out. The connections stay."""
        for session in self.sessions:
            session.authenticated = False

    @contextlib.asynccontextmanager
    async def serving(self, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
        """Serve on `port`, or on a free one the first time. At the end, connections are cut."""
        server: Server
        async with serve(
            self._talk, "127.0.0.1", self.port, ssl=tls, compression=None, close_timeout=0.1, ping_interval=None
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield
            for session in list(self.sessions):
                session.connection.transport.abort()

    async def _talk(self, connection: ServerConnection) -> None:
        session = Session(connection)
        self.sessions.add(session)
        try:
            under_way: set[asyncio.Task[None]] = set()
            async with asyncio.TaskGroup() as calls:
                with contextlib.suppress(ConnectionClosed):
                    async for text in connection:
                        under_way.add(calls.create_task(self._receive(session, text)))
                for call in under_way:
                    call.cancel()
        finally:
            self.sessions.discard(session)

    async def _receive(self, session: Session, text: str | bytes) -> None:
        try:
            message = json.loads(text)
        except ValueError as exc:
            await session.send({"id": None, "error": {"code": -32700, "message": str(exc)}})
            return
        if not _is_request(message):
            await session.send({"id": None, "error": {"code": -32600, "message": "is not valid under the schema"}})
            return
        session.calls += 1
        try:
            if session.calls > CONCURRENT_CALLS:
                raise Refused(-32000, "Maximum number of concurrent calls (20) has exceeded")
            answer: dict[str, object] = {
                "result": await self._call(session, message["method"], message.get("params", []))
            }
        except Refused as refused:
            answer = {"error": refused.error}
        finally:
            session.calls -= 1
        await session.send({**answer, "id": message.get("id")})

    async def _call(self, session: Session, method: str, params: list[Any]) -> object:
        self.called.append(method)
        await asyncio.sleep(self.delay_s)
        if method == "auth.login_with_api_key":
            return self._log_in(session, params)
        if method not in {"core.subscribe", "core.ping", "app.query", *RESULTS}:
            raise Refused(-32601, "Method does not exist")
        if method == "core.ping":
            return "pong"
        if not session.authenticated:
            raise call_error(*ENOTAUTHENTICATED)
        if method == "core.subscribe":
            session.subscriptions.add(params[0])
            return str(uuid.uuid4())
        return list(self.apps.values()) if method == "app.query" else RESULTS[method]

    def _log_in(self, session: Session, params: list[Any]) -> bool:
        now = time.monotonic()
        self.logins.append(now)
        if sum(at > now - 60 for at in self.logins) > LOGINS_PER_MINUTE:
            raise call_error(*EBUSY)
        session.authenticated = params[0] in self.keys
        return session.authenticated


def _is_request(message: object) -> bool:
    return (
        isinstance(message, dict)
        and set(message) <= {"jsonrpc", "method", "params", "id"}
        and message.get("jsonrpc") == "2.0"
        and isinstance(message.get("method"), str)
        and isinstance(message.get("params", []), list)
    )
