"""What holds for JSON-RPC over every persistent connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from msgspec import Raw
from rpc_server import KINDS, RpcPeer, RpcServer, rpc_backend

from tidegate.errors import ApplicationError, Disconnected, InvalidResponse, LoginRefused, NoCredentials
from tidegate.outbound.backends import refused_login
from tidegate.outbound.backends.credentials import Credentials
from tidegate.outbound.backends.persistent import backend as backend_module
from tidegate.outbound.backends.persistent import keepalive
from tidegate.outbound.backends.persistent.backend import LOSSES, LOSSES_WITHIN_S, RpcBackend
from tidegate.outbound.backends.persistent.hints import HINTS
from tidegate.outbound.backends.persistent.options import RpcSession
from tidegate.ports import Call
from tidegate.secret import Secret
from tidegate.testing.contracts.expectations import until

pytestmark = pytest.mark.parametrize("kind", KINDS)

LOGIN = RpcSession(login=Call("login", Raw(b'["{key}"]')), on_code=(207, "log in first"))


@contextlib.asynccontextmanager
async def serving(
    kind: str, script: Callable[[RpcPeer], Any], **settings: Any
) -> AsyncIterator[tuple[RpcServer, RpcBackend]]:
    async with KINDS[kind](script) as server, rpc_backend(server, **settings) as backend:
        yield server, backend


def with_key(text: str = "k3y") -> Credentials:
    return Credentials({"key": Secret(text)})


async def one(backend: RpcBackend, method: str = "m") -> object:
    [answer] = await backend.call([Call(method)])
    return bytes(answer) if isinstance(answer, Raw) else answer


async def echoing(peer: RpcPeer) -> None:
    """Answers each call with its method. "false" is answered so, and "207" with that error."""
    while True:
        call = await peer.message()
        answer: dict[str, object] = {"result": False if call["method"] == "false" else call["method"]}
        if call["method"] == "207":
            answer = {"error": {"code": 207, "message": "no"}}
        await peer.send({"id": call["id"], **answer})


# calls and answers


async def test_calls_overlap_and_are_matched_by_id(kind: str) -> None:
    async def backwards(peer: RpcPeer) -> None:
        calls = [await peer.message() for _ in range(3)]
        for call in reversed(calls):
            await peer.send({"id": str(call["id"]), "result": call["method"]})
        await peer.until_closed()

    async with serving(kind, backwards) as (server, backend):
        answers = await asyncio.gather(*(one(backend, name) for name in "abc"))
        assert answers == [b'"a"', b'"b"', b'"c"']
        assert len(server.peers) == 1


async def test_several_calls_of_one_exchange_are_single_requests_sent_at_once(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        calls = [await peer.message() for _ in range(3)]
        await peer.send([{"id": call["id"], "result": call["params"]} for call in calls])  # a list may come back
        await peer.until_closed()

    async with serving(kind, script) as (_, backend):
        answers = await backend.call([Call("m", Raw(b"[%d.10]" % each)) for each in range(3)])
        assert [bytes(each) for each in answers if isinstance(each, Raw)] == [b"[0.1]", b"[1.1]", b"[2.1]"]
        assert await backend.call([]) == []


async def test_requests_of_version_1_have_no_version_and_a_list_of_params(kind: str) -> None:
    async with serving(kind, echoing, version="1.0") as (server, backend):
        await one(backend)
        assert server.received == [{"id": 1, "method": "m", "params": []}]


async def test_an_answer_right_before_the_end_of_the_connection_counts(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.answer("well")

    async with serving(kind, script) as (server, backend):
        assert [await one(backend) for _ in range(3)] == [b'"well"'] * 3
        assert len(server.peers) == 3


async def test_half_surrogates_are_replaced(kind: str) -> None:
    text = b"x" * 200_000 + rb"\ud83d"

    async def script(peer: RpcPeer) -> None:
        call = await peer.message()
        await peer.send(b'{"id":%d,"result":"%s"}' % (call["id"], text))
        await peer.until_closed()

    async with serving(kind, script) as (_, backend):
        assert await one(backend) == b'"' + b"x" * 200_000 + rb'\ufffd"'


@pytest.mark.parametrize(
    ("sent", "error", "said"),
    [
        (b'{"id":1,"result":NaN}', InvalidResponse, "expected JSON"),
        (b"{]", InvalidResponse, "expected JSON"),
        (b'{"id":99,"result":1}', InvalidResponse, "expected only answers with the ids 1; got id b'99'"),
        (b'{"result":1}', InvalidResponse, "got no id"),
        (b'{"id":1,"method":7}', InvalidResponse, "str"),
    ],
)
async def test_what_cannot_be_read_fails_the_calls_under_way_and_the_connection_stays(
    kind: str, sent: bytes, error: type[Exception], said: str
) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.message()
        await peer.send(sent)
        await echoing(peer)

    async with serving(kind, script) as (server, backend):
        with pytest.raises(error, match=said):
            await one(backend)
        assert await one(backend) == b'"m"'
        assert len(server.peers) == 1


async def test_an_error_about_a_request_that_the_server_could_not_read_is_the_answer(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.message()
        await peer.send({"id": None, "error": {"code": -32600, "message": "what?"}})
        await echoing(peer)

    async with serving(kind, script) as (server, backend):
        assert str(await one(backend)) == "what? (-32600)"
        assert await one(backend) == b'"m"'
        assert len(server.peers) == 1


async def test_a_second_answer_and_one_to_a_call_that_was_cancelled_are_ignored(kind: str) -> None:
    release = asyncio.Event()

    async def script(peer: RpcPeer) -> None:
        slow = await peer.message()
        quick = await peer.message()
        for _ in range(2):
            await peer.send({"id": quick["id"], "result": "quick"})
        await release.wait()
        await peer.send({"id": slow["id"], "result": "late"})
        await echoing(peer)

    async with serving(kind, script) as (server, backend):
        slow = asyncio.create_task(one(backend, "slow"))
        await until(lambda: len(server.received) == 1)
        assert await one(backend, "quick") == b'"quick"'
        slow.cancel()
        await asyncio.wait([slow])
        release.set()
        assert await one(backend, "next") == b'"next"'
        assert len(server.peers) == 1
        assert backend._link is not None
        assert backend._link._dialogue.is_idle


async def test_an_answer_that_is_too_long_is_refused_and_the_next_call_has_a_new_connection(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        call = await peer.message()
        size = 2000 if peer.number == 0 else 1
        with contextlib.suppress(OSError):
            await peer.send({"id": call["id"], "result": "x" * size})
        await peer.until_closed()

    async with serving(kind, script, response_bytes=1000) as (server, backend):
        with pytest.raises(InvalidResponse, match="expected an answer of at most 1000 bytes, got more"):
            await one(backend)
        assert await one(backend) == b'"x"'
        assert len(server.peers) == 2


# the end of a connection


async def test_calls_in_flight_fail_at_once_when_the_connection_is_lost(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.message()
        await peer.message()
        peer.reset()

    async with serving(kind, script) as (_, backend):
        calls = [asyncio.create_task(one(backend)) for _ in range(2)]
        await until(lambda: all(call.done() for call in calls))
        for call in calls:
            with pytest.raises(Disconnected, match=r"^(127\.0\.0\.1:\d+|/.*/s): "):
                call.result()


async def test_a_call_that_meets_the_end_of_an_idle_connection_is_made_again_on_a_new_one(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.answer("well")
        if peer.number == 0:
            await peer.message()
            return
        await echoing(peer)

    async with serving(kind, script) as (server, backend):
        assert [await one(backend) for _ in range(3)] == [b'"well"', b'"well"', b'"m"']
        assert len(server.peers) == 2


async def test_a_call_on_a_new_connection_that_ends_is_not_repeated(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.message()

    async with serving(kind, script) as (server, backend):
        with pytest.raises(Disconnected):
            await one(backend)
        assert len(server.peers) == 1


async def test_a_call_is_not_repeated_if_the_connection_ends_in_the_middle_of_its_answer(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.answer(1)
        await peer.message()
        await peer.notify("a sign of life")
        await asyncio.sleep(0.01)
        peer.reset()

    async with serving(kind, script) as (server, backend):
        await one(backend)
        with pytest.raises(Disconnected):
            await one(backend)
        assert len(server.peers) == 1


async def test_a_lost_connection_is_a_hint_and_the_next_call_makes_another(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.answer(1)
        peer.reset()

    async with serving(kind, script) as (server, backend):
        await one(backend)
        assert await anext(backend.hints()) is None
        assert len(server.peers) == 1
        await one(backend)
        assert len(server.peers) == 2


async def test_a_server_that_closes_after_each_answer_is_not_called_for_that_again_and_again(kind: str) -> None:
    async with serving(kind, RpcPeer.answer) as (_, backend):
        for loss in range(LOSSES + 2):
            await one(backend)
            await until(lambda: backend._link is None)
            assert list(backend._hints._names) == ([None] if loss < LOSSES else [])
            backend._hints._names.clear()
        backend._losses[0] -= LOSSES_WITHIN_S
        await one(backend)
        await until(lambda: list(backend._hints._names) == [None])


async def test_a_loss_too_many_is_told_later_of_a_server_that_tells_of_changes(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "LOSSES_WITHIN_S", 1.0)

    async def script(peer: RpcPeer) -> None:
        await peer.send({"method": "changed"})
        await peer.answer(1)

    async with serving(kind, script) as (server, backend):
        for _ in range(LOSSES + 1):
            backend._hints._names.clear()
            await one(backend)
            await until(lambda: backend._link is None)
        await until(lambda: list(backend._hints._names) == [None])
        assert len(server.peers) == LOSSES + 1  # without any further call
        assert backend._late is None


async def test_a_server_that_is_back_after_it_was_away_is_a_hint(kind: str) -> None:
    away = True

    async def script(peer: RpcPeer) -> None:
        if not away:
            await echoing(peer)

    async with serving(kind, script, session=LOGIN, credentials=with_key) as (_, backend):
        with pytest.raises(Disconnected):
            await one(backend)
        assert not backend._hints._names
        away = False
        await one(backend)
        assert await anext(backend.hints()) is None
        await one(backend)
        assert not backend._hints._names


async def test_a_ping_that_is_not_answered_is_a_lost_connection(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was stopped: its machine goes on to confirm whatever is sent."""
    monkeypatch.setattr(keepalive, "ALIVE_S", 0.05)
    quiet = asyncio.Event()

    async def script(peer: RpcPeer) -> None:
        await peer.answer()
        if kind == "websocket":
            peer.connection.transport.pause_reading()  # type: ignore[attr-defined]
        await quiet.wait()

    async with serving(kind, script) as (_, backend):
        await one(backend)
        if kind == "websocket":
            assert await anext(backend.hints()) is None
            assert backend._link is None
        else:  # nothing can be asked there that every server answers
            assert backend._link is not None
            assert not backend._link._ping()
        quiet.set()


async def test_a_call_without_a_word_from_the_server_leads_to_a_new_connection(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.answer("well")
        await (peer.until_closed() if peer.number == 0 else peer.answer("well"))
        await peer.until_closed()

    async with serving(kind, script) as (server, backend):
        await one(backend)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await one(backend)
        assert await one(backend) == b'"well"'
        assert len(server.peers) == 2


async def test_closing_it_says_why_to_calls_in_flight_and_to_all_later_ones(kind: str) -> None:
    async with serving(kind, RpcPeer.until_closed) as (server, backend):
        call = asyncio.create_task(one(backend))
        await until(lambda: bool(server.received))
        await backend.aclose()
        with pytest.raises(Disconnected, match="the gateway closed the connection"):
            await call
        with pytest.raises(Disconnected, match="the gateway closed the connection"):
            await one(backend)
        assert [hint async for hint in backend.hints()] == []


async def test_closing_it_ends_a_call_that_is_still_logging_in(kind: str) -> None:
    async with serving(kind, RpcPeer.until_closed, session=LOGIN, credentials=with_key) as (server, backend):
        call = asyncio.create_task(one(backend))
        await until(lambda: bool(server.received))
        await backend.aclose()
        with pytest.raises(Disconnected, match="the gateway closed the connection"):
            await call


async def test_a_knock_makes_the_connection_of_the_next_call(kind: str) -> None:
    async with serving(kind, echoing) as (server, backend):
        await backend.knock()
        await one(backend)
        assert len(server.peers) == 1
        await backend.knock()  # there is a connection
        await one(backend)
        assert len(server.peers) == 1


# logins


async def test_the_login_is_made_once_per_connection_before_everything_else(kind: str) -> None:
    session = RpcSession(login=LOGIN.login, on_connect=(Call("subscribe", Raw(b'["{key}"]')),))
    async with serving(kind, echoing, session=session, credentials=with_key) as (server, backend):
        await asyncio.gather(*(one(backend) for _ in range(3)))
        calls = [(call["method"], call["params"]) for call in server.received]
        assert calls == [("login", ["k3y"]), ("subscribe", ["k3y"]), ("m", {}), ("m", {}), ("m", {})]
        assert len(server.peers) == 1


@pytest.mark.parametrize(("login", "said"), [("false", "got false"), ("207", r"got no \(207\)")])
async def test_a_refused_login_is_tried_once_for_all_who_wait_for_it(kind: str, login: str, said: str) -> None:
    async with serving(kind, echoing, session=RpcSession(login=Call(login))) as (server, backend):
        ends = await asyncio.gather(*(one(backend) for _ in range(3)), return_exceptions=True)
        assert [type(end) for end in ends] == [LoginRefused] * 3
        with pytest.raises(NoCredentials, match=said):
            await one(backend)
        assert len(server.received) == 1


async def test_a_refused_login_rests_until_there_is_another_secret(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: RpcPeer) -> None:
        while True:
            call = await peer.message()
            await peer.send({"id": call["id"], "result": call["params"] != ["wrong"]})

    now, key = 1000.0, "wrong"
    monkeypatch.setattr(refused_login, "_now", lambda: now)
    async with serving(kind, script, session=LOGIN, credentials=lambda: with_key(key)) as (server, backend):
        for logins in range(1, 4):
            with pytest.raises(LoginRefused):
                await one(backend)
            now += refused_login.REST_S * 2 ** (logins - 1) - 0.1
            with pytest.raises(NoCredentials, match=r"another secret is tried at once"):
                await backend.prepare()
            assert len(server.received) == logins
            now += 0.2
        key = "other"
        assert await one(backend) == b"true"


async def test_a_connection_that_ends_during_the_login_is_a_disconnect(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.message()

    async with serving(kind, script, session=LOGIN, credentials=with_key) as (_, backend):
        with pytest.raises(Disconnected):
            await one(backend)
        assert backend._hints.were_named is False  # nothing was known through it


async def test_a_call_that_is_cancelled_during_the_login_lets_another_one_go_on(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await (peer.until_closed() if peer.number == 0 else echoing(peer))

    async with serving(kind, script, session=LOGIN, credentials=with_key) as (server, backend):
        first = asyncio.create_task(one(backend, "first"))
        await until(lambda: bool(server.received))
        second = asyncio.create_task(one(backend, "second"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b'"second"'
        assert len(server.peers) == 2


async def test_an_error_of_on_connect_is_that_of_the_call(kind: str) -> None:
    async with serving(kind, echoing, session=RpcSession(on_connect=(Call("207"),))) as (_, backend):
        with pytest.raises(ApplicationError, match=r"no \(207\)"):
            await one(backend)


def forgetful(error: Mapping[str, object], *, times: int) -> Callable[[RpcPeer], Any]:
    """A server that forgets who has logged in with each second call, on its first `times` connections."""

    async def script(peer: RpcPeer) -> None:
        while True:
            await peer.answer(True)  # the login
            await peer.answer("well")
            if peer.number >= times:
                await echoing(peer)
            call = await peer.message()
            await peer.send({"id": call["id"], "error": error})
            await peer.until_closed()

    return script


@pytest.mark.parametrize("error", [{"code": 207, "message": "no"}, {"code": -1, "message": "please log in first"}])
async def test_a_login_that_was_forgotten_is_made_again_within_the_same_call(
    kind: str, error: Mapping[str, object]
) -> None:
    script = forgetful(error, times=1)
    async with serving(kind, script, session=LOGIN, credentials=with_key) as (server, backend):
        assert [await one(backend) for _ in range(3)] == [b'"well"', b'"well"', b'"m"']
        assert [call["method"] for call in server.peers[1].received] == ["login", "m", "m"]


async def test_a_call_that_is_refused_right_after_the_login_is_not_repeated(kind: str) -> None:
    session = RpcSession(login=Call("login"), on_code=(207,))
    async with serving(kind, echoing, session=session) as (server, backend):
        assert isinstance(await one(backend, "207"), LoginRefused)
        assert [call["method"] for call in server.received] == ["login", "207"]
        await one(backend)
        assert isinstance(await one(backend, "207"), LoginRefused)
        methods = [call["method"] for call in server.received]
        assert methods == ["login", "207", "login", "m", "207", "login", "207"]


async def test_another_secret_is_used_on_another_connection_and_calls_on_the_old_one_end(kind: str) -> None:
    current = ["old"]
    held = asyncio.Event()

    async def script(peer: RpcPeer) -> None:
        await peer.answer(True)
        call = await peer.message()
        if peer.number == 0:
            await held.wait()
        await peer.send({"id": call["id"], "result": peer.number})
        await peer.until_closed()

    async with serving(kind, script, session=LOGIN, credentials=lambda: with_key(current[0])) as (server, backend):
        first = asyncio.create_task(one(backend))
        await until(lambda: len(server.received) == 2)
        current[0] = "new"
        assert await one(backend) == b"1"
        held.set()
        assert await first == b"0"
        assert [peer.received[0]["params"] for peer in server.peers] == [["old"], ["new"]]


# what the server asks and tells


async def test_requests_of_the_server_are_answered(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        call = await peer.message()
        await peer.send({"id": "e", "method": "echo", "params": [1, {"a": None}]})
        await peer.send({"id": "f", "method": "steal", "params": []})
        await peer.message()
        await peer.message()
        await peer.send({"id": call["id"], "result": 1})
        await peer.until_closed()

    async with serving(kind, script) as (server, backend):
        await one(backend)
        echo, other = server.received[1:]
        assert echo == {"jsonrpc": "2.0", "id": "e", "result": [1, {"a": None}]}
        assert (other["id"], other["error"]["code"]) == ("f", -32601)


async def test_requests_of_a_server_of_version_1_are_answered_in_kind(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        call = await peer.message()
        await peer.send({"id": "echo", "method": "echo", "params": []})
        await peer.send({"id": call["id"], "result": await peer.message(), "error": None})
        await peer.until_closed()

    async with serving(kind, script, version="1.0") as (_, backend):
        assert await one(backend) == b'{"id":"echo","result":[],"error":null}'


async def test_who_asks_without_reading_the_answers_is_left(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.message()
        with contextlib.suppress(OSError, EOFError):
            while True:
                await peer.send({"id": 1, "method": "echo", "params": ["x" * 100_000]})

    async with serving(kind, script) as (_, backend):
        with pytest.raises(Disconnected, match="it asks, but does not read our answers"):
            async with asyncio.timeout(10):
                await one(backend)


async def test_a_notification_is_a_hint_of_its_method_and_of_what_it_is_about(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        await peer.answer(1)
        await peer.notify("collection_update", {"msg": "changed", "collection": "app.query"})
        await peer.notify("update", ["bridges", {}])
        await peer.notify("update", ["bridges", {}])
        await peer.notify("plain", {"collection": 7})
        await peer.notify("x" * 500, None)
        await peer.send({"id": None, "method": "of version 1", "params": [[]]})
        await echoing(peer)

    async with serving(kind, script) as (_, backend):
        await one(backend)
        await one(backend)
        hints = backend.hints()
        names = [await anext(hints) for _ in range(6)]
        assert names == ["collection_update", "app.query", "update", "bridges", "plain", "of version 1"]


async def test_a_flood_of_notifications_is_kept_as_one_hint_and_calls_go_on(kind: str) -> None:
    async def script(peer: RpcPeer) -> None:
        call = await peer.message()
        for number in range(HINTS + 500):
            await peer.notify(f"n{number}")
        await peer.send({"id": call["id"], "result": 1})
        await echoing(peer)

    async with serving(kind, script) as (_, backend):
        assert await one(backend) == b"1"
        assert list(backend._hints._names) == [None]
        hints = backend.hints()
        assert await anext(hints) is None
        await one(backend)


async def test_a_connection_that_is_given_up_is_a_hint_if_somebody_listened_to_it(kind: str) -> None:
    session = RpcSession(on_connect=(Call("subscribe"),), on_code=(207,))
    async with serving(kind, echoing, session=session) as (server, backend):
        await one(backend)
        await one(backend, "207")
        assert await anext(backend.hints()) is None
        assert len(server.peers) == 2
