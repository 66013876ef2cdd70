"""The adapter against a server with TrueNAS' manners."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec import Raw
from rpc_server import RpcServer, rpc_backend
from truenas import LOGINS_PER_MINUTE, TrueNas

from tidegate.errors import ApplicationError, Disconnected, LoginRefused
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.persistent.backend import RpcBackend
from tidegate.outbound.backends.persistent.options import RpcSession
from tidegate.ports import Call
from tidegate.secret import Secret

SESSION = RpcSession(
    login=Call("auth.login_with_api_key", Raw(b'["{key}"]')),
    on_connect=(Call("core.subscribe", Raw(b'["app.query"]')),),
    on_code=("ENOTAUTHENTICATED",),
)
APPS = Call("app.query", Raw(b"[]"))


@contextlib.asynccontextmanager
async def appliance(*, key: str = "1-k3y", session: RpcSession = SESSION) -> AsyncIterator[tuple[TrueNas, RpcBackend]]:
    nas = TrueNas("1-k3y")
    await nas.change("plex")
    async with (
        nas.serving(),
        rpc_backend(
            RpcServer(nas.url), session=session, credentials=lambda: Credentials({"key": Secret(key)})
        ) as backend,
    ):
        yield nas, backend


async def ids(backend: RpcBackend) -> bytes:
    [answer] = await backend.call([APPS])
    assert isinstance(answer, Raw), answer
    return bytes(answer)


async def test_its_apps_are_read_after_the_login() -> None:
    async with appliance() as (nas, backend):
        [app] = msgspec.json.decode(await ids(backend))
        assert (app["id"], app["state"]) == ("plex", "RUNNING")
        await ids(backend)
        assert nas.called == ["auth.login_with_api_key", "core.subscribe", "app.query", "app.query"]


async def test_a_change_is_a_hint_of_the_collection() -> None:
    async with appliance() as (nas, backend):
        await ids(backend)
        await nas.change("plex", state="STOPPED")
        hints = backend.hints()
        assert [await anext(hints), await anext(hints)] == ["collection_update", "app.query"]
        assert b"STOPPED" in await ids(backend)


async def test_a_session_that_has_expired_is_renewed_within_the_call_and_listens_again() -> None:
    async with appliance() as (nas, backend):
        await ids(backend)
        nas.expire_sessions()
        await asyncio.gather(*(ids(backend) for _ in range(3)))
        assert len(nas.logins) == 2
        await nas.change("plex", state="STOPPED")
        hints = backend.hints()
        assert [await anext(hints) for _ in range(1)] == [None]
        while await anext(hints) != "app.query":
            pass


async def test_a_wrong_key_is_a_refused_login() -> None:
    async with appliance(key="wrong") as (nas, backend):
        with pytest.raises(LoginRefused, match="expected the login to be accepted, got false"):
            await ids(backend)
        assert nas.called == ["auth.login_with_api_key"]


async def test_too_many_logins_are_a_refused_login_that_says_so() -> None:
    async with appliance() as (nas, backend):
        nas.logins += [asyncio.get_running_loop().time()] * LOGINS_PER_MINUTE
        with pytest.raises(LoginRefused, match=r"got Method call error: \[EBUSY\] Rate Limit Exceeded \(-32001\)"):
            await ids(backend)


async def test_without_a_login_the_error_says_what_is_missing() -> None:
    async with appliance(session=RpcSession()) as (_, backend):
        [answer] = await backend.call([APPS])
        assert isinstance(answer, ApplicationError)
        assert str(answer) == "Method call error: [ENOTAUTHENTICATED] Not authenticated (-32001)"


async def test_a_restart_is_a_lost_connection_and_the_next_call_logs_in_anew() -> None:
    async with appliance() as (nas, backend):
        await ids(backend)
        for session in list(nas.sessions):
            session.connection.transport.abort()
        assert await anext(backend.hints()) is None
        await ids(backend)
        assert len(nas.logins) == 2


async def test_a_call_under_way_when_it_goes_away_is_a_disconnect() -> None:
    async with appliance() as (nas, backend):
        await ids(backend)
        nas.delay_s = 60
        calls = [asyncio.create_task(ids(backend)) for _ in range(2)]
        while nas.called.count("app.query") < 3:
            await asyncio.sleep(0.01)
        for session in list(nas.sessions):
            session.connection.transport.abort()
        for call in calls:
            with pytest.raises(Disconnected):
                await call
