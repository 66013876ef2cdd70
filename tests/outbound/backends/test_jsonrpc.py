import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from scripted_http import Peer, ScriptedServer, answering, hanging, http_response, scripted

from tidegate.core.payload import HalfSurrogatePair
from tidegate.core.polling.outcome import ClassifyPolicy, Fault, classify, is_too_many
from tidegate.errors import ApplicationError, BackendError, Disconnected, ErrorCode, HttpStatus, InvalidResponse
from tidegate.outbound.backends import jsonrpc
from tidegate.outbound.backends.jsonrpc import JsonRpcBackend
from tidegate.outbound.backends.rpc_messages import MESSAGE_CHARACTERS
from tidegate.outbound.http_client.options import HttpOptions
from tidegate.ports import Backend, Call

Reply = Callable[[Any], bytes]


@contextlib.asynccontextmanager
async def backend(reply: Reply) -> AsyncIterator[tuple[JsonRpcBackend, ScriptedServer]]:
    """A backend whose server answers a request, as Python objects, with the body that `reply` makes of it."""

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            await peer.send(http_response(reply(json.loads(request.body))))

    async with scripted(script) as server:
        rpc = JsonRpcBackend(HttpOptions(url=server.url, response_bytes=1_000_000))
        try:
            yield rpc, server
        finally:
            await rpc.aclose()


async def outcomes(reply: Reply, count: int = 1) -> Sequence[Raw | BackendError]:
    async with backend(reply) as (rpc, _):
        return await rpc.call([Call(f"m{index}") for index in range(count)])


def result(request: Any, value: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": value}


def error(request_id: object, code: object = -32000, message: object = "no") -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}


def dumped(value: object) -> bytes:
    return json.dumps(value).encode()


def shown(outcome: Raw | BackendError) -> object:
    """A result as Python objects, an error as its code and message."""
    if isinstance(outcome, BackendError):
        return f"{type(outcome).__name__}: {outcome}"
    return json.loads(bytes(outcome))


class TestASingleCall:
    async def test_is_what_the_specification_asks_for(self) -> None:
        async with backend(lambda request: dumped(result(request, 1))) as (rpc, server):
            contract: Backend = rpc
            await contract.call([Call("system.status")])
            await contract.call([Call("agents.list", Raw(b'{"n":1.10}'))])
        assert [request.body for request in server.requests] == [
            b'{"jsonrpc":"2.0","id":1,"method":"system.status","params":{}}',
            b'{"jsonrpc":"2.0","id":2,"method":"agents.list","params":{"n":1.10}}',
        ]
        assert {request.line for request in server.requests} == {"POST /rpc HTTP/1.1"}
        assert len(server.peers) == 1

    async def test_brings_the_result_compact_with_its_digits(self) -> None:
        (outcome,) = await outcomes(lambda _: b'{"id": 1, "result" : {"a" : [1.10, 1E5, 2e400]} , "jsonrpc": "2.0"}\n')
        assert isinstance(outcome, Raw)
        assert bytes(outcome) == b'{"a":[1.10,1E5,2e400]}'

    async def test_may_bring_null(self) -> None:
        (outcome,) = await outcomes(lambda request: dumped(result(request, None)))
        assert isinstance(outcome, Raw)
        assert bytes(outcome) == b"null"

    async def test_brings_an_error_object_as_such(self) -> None:
        (outcome,) = await outcomes(lambda request: dumped(error(request["id"], -32601, "no such method")))
        assert isinstance(outcome, ApplicationError)
        assert (outcome.rpc_code, str(outcome)) == (-32601, "no such method (-32601)")
        assert outcome.code is ErrorCode.RPC_APPLICATION_ERROR

    async def test_keeps_only_the_beginning_of_a_long_message(self) -> None:
        (outcome,) = await outcomes(lambda request: dumped(error(request["id"], 1, "x" * 10_000)))
        assert str(outcome) == "x" * MESSAGE_CHARACTERS + " (1)"

    async def test_believes_an_error_without_an_id(self) -> None:
        (outcome,) = await outcomes(lambda _: dumped(error(None, -32700, "Parse error")))
        assert shown(outcome) == "ApplicationError: Parse error (-32700)"

    @pytest.mark.parametrize(
        ("members", "expected"),
        [
            ({"result": 1, "error": None}, 1),
            ({"result": None, "error": None}, None),
            ({"result": None, "error": {"code": 5, "message": "m"}}, "ApplicationError: m (5)"),
        ],
    )
    async def test_takes_null_beside_its_opposite_as_absent(self, members: dict[str, object], expected: object) -> None:
        (outcome,) = await outcomes(lambda request: dumped({"jsonrpc": "2.0", "id": request["id"], **members}))
        assert shown(outcome) == expected

    @pytest.mark.parametrize(
        "body",
        [
            b'{"result":1,"error":null,"id":1}',
            b'{"result":1,"id":1}',
            b'{"jsonrpc":null,"result":1,"id":1}',
            b'{"jsonrpc":"2.0","result":1,"id":"1"}',
            b'{"jsonrpc":"2.0","result":1,"id":"\\u0031"}',
            b'{"jsonrpc":"2.0","result":1,"id":1.0}',
            b'{"jsonrpc":"2.0","result":1,"id":1e0}',
            b'\xef\xbb\xbf{"jsonrpc":"2.0","result":1,"id":1}',
        ],
    )
    async def test_takes_what_leaves_no_doubt(self, body: bytes) -> None:
        (outcome,) = await outcomes(lambda _: body)
        assert shown(outcome) == 1

    async def test_has_the_replacement_character_for_half_a_surrogate_pair_and_the_rest_as_it_came(self) -> None:
        body = b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"result":{"name":"a\\ud83d","v":[1.10,"\\ud83d\\ude00"]}}'
        (outcome,) = await outcomes(lambda _: body)
        assert isinstance(outcome, Raw)
        assert bytes(outcome) == b'{"name":"a\\ufffd","v":[1.10,"\\ud83d\\ude00"]}'

    @pytest.mark.parametrize(
        ("error_member", "rpc_code", "words"),
        [
            ('"no such method"', None, "no such method"),
            ('{"code":"-32601","message":"no such method"}', -32601, "no such method (-32601)"),
            ('{"code":-32601.0,"message":"no such method"}', -32601, "no such method (-32601)"),
            ('{"code":"ENOENT","message":"no such file"}', None, "no such file (ENOENT)"),
            ('{"code":1}', 1, '{"code":1} (1)'),
            ('{"code":null,"message":"m"}', None, "m"),
            ('{"message":{"text":"m"}}', None, '{"text":"m"}'),
            ('{"code":5,"message":""}', 5, '{"code":5,"message":""} (5)'),
            ('{"faultString" : "f"}', None, '{"faultString":"f"}'),
            ("17", None, "17"),
            ('["a", "b"]', None, '["a","b"]'),
            ('"half\\ud83d"', None, "half\ufffd"),
        ],
    )
    async def test_keeps_the_words_of_an_error_of_any_shape(
        self, error_member: str, rpc_code: int | None, words: str
    ) -> None:
        (outcome,) = await outcomes(lambda _: f'{{"id":1,"result":null,"error":{error_member}}}'.encode())
        assert isinstance(outcome, ApplicationError)
        assert (outcome.rpc_code, str(outcome)) == (rpc_code, words)

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b'{"jsonrpc":"2.0","id":2,"result":1}', r"expected an answer with id 1, got id b'2'"),
            (b'{"jsonrpc":"2.0","id":"2","result":1}', r"got id b'\"2\"'"),
            (b'{"jsonrpc":"2.0","id":"01","result":1}', r"got id b'\"01\"'"),
            (b'{"jsonrpc":"2.0","id":1.5,"result":1}', r"got id b'1.5'"),
            (b'{"jsonrpc":"2.0","id":true,"result":1}', r"got id b'true'"),
            (b'{"jsonrpc":"2.0","id":[1],"result":1}', r"got id b'\[1\]'"),
            (b'{"jsonrpc":"2.0","id":null,"result":1}', r"got id b'null'"),
            (b'{"jsonrpc":"2.0","result":1}', r"got no id"),
            (b'{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":""}}', r"got id b'2'"),
            (b'{"jsonrpc":"1.0","id":1,"result":1}', r"expected jsonrpc to be \"2.0\", got b'\"1.0\"'"),
            (
                b'{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":""}}',
                r"expected either a result or an error, got both",
            ),
            (b'{"jsonrpc":"2.0","id":1}', r"expected either a result or an error, got neither"),
            (b'{"jsonrpc":"2.0","id":1,"error":null}', r"got neither"),
            (b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"\xff"}}', r"expected JSON in UTF-8"),
            (b'{"jsonrpc":"2.0","id":1,"result":"\xff"}', r"expected JSON in UTF-8, got b'\\xff' at byte 1"),
            (b'{"jsonrpc":"2.0","id":1,"result":NaN}', r"expected JSON, got .*NaN"),
            (b'{"jsonrpc":"2.0","id":1,"result":[1', r"expected JSON, got .* which ends at byte 35"),
            (b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 100_000, r"nested too deep"),
            (b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 5_000 + b"]" * 5_000 + b"}", r"nested too deep"),
            (b"[]", r"Expected `object`, got `array`"),
            (b"1", r"Expected `object`, got `int`"),
            (b"", r"expected JSON, got nothing at all"),
            (b"<html><body>Sign in</body></html>", r"expected JSON, got b'<html><body>Sign' \(.*byte 0\)"),
            (b" " * 1_000_001, r"expected an answer of at most 1000000 bytes, got 1000001"),
        ],
    )
    async def test_refuses_what_the_specification_does_not_allow(self, body: bytes, message: str) -> None:
        try:
            (outcome,) = await outcomes(lambda _: body)
        except InvalidResponse as exc:
            outcome = exc
        assert isinstance(outcome, InvalidResponse)
        assert re.search(message, str(outcome))


class TestABatch:
    async def test_is_one_request_with_all_calls(self) -> None:
        async with backend(lambda batch: dumped([result(one, one["method"]) for one in batch])) as (rpc, server):
            await rpc.call([Call("a"), Call("b", Raw(b"[1]"))])
            await rpc.call([Call("c"), Call("d")])
        first, second = [json.loads(request.body) for request in server.requests]
        assert first == [
            {"jsonrpc": "2.0", "id": 1, "method": "a", "params": {}},
            {"jsonrpc": "2.0", "id": 2, "method": "b", "params": [1]},
        ]
        assert [one["id"] for one in second] == [3, 4]

    async def test_may_be_answered_with_ids_of_another_type(self) -> None:
        def reply(batch: Any) -> bytes:
            return dumped([{"id": str(batch[0]["id"]), "result": "a"}, {"id": float(batch[1]["id"]), "result": "b"}])

        assert [shown(outcome) for outcome in await outcomes(reply, 2)] == ["a", "b"]

    async def test_may_be_answered_in_any_order(self) -> None:
        found = await outcomes(lambda batch: dumped([result(one, one["method"]) for one in reversed(batch)]), 3)
        assert [shown(outcome) for outcome in found] == ["m0", "m1", "m2"]

    async def test_has_an_outcome_for_each_call(self) -> None:
        def reply(batch: Any) -> bytes:
            return dumped(
                [
                    error(batch[1]["id"], 7, "seven"),
                    {"jsonrpc": "2.0", "id": batch[2]["id"]},
                    {**result(batch[3], 3), "jsonrpc": "1.0"},
                    result(batch[0], 0),
                ]
            )

        assert [shown(outcome) for outcome in await outcomes(reply, 5)] == [
            0,
            "ApplicationError: seven (7)",
            "InvalidResponse: expected either a result or an error, got neither",
            'InvalidResponse: expected jsonrpc to be "2.0", got b\'"1.0"\'',
            "InvalidResponse: expected an answer with id 5 in the batch, got none",
        ]

    async def test_one_bad_text_spoils_no_other(self) -> None:
        body = b'[{"jsonrpc":"2.0","id":1,"result":"\xff"},{"jsonrpc":"2.0","id":2,"result":2}]'
        first, second = await outcomes(lambda _: body, 2)
        assert isinstance(first, InvalidResponse)
        assert shown(second) == 2

    async def test_an_error_without_an_id_goes_to_calls_without_an_answer(self) -> None:
        found = await outcomes(lambda batch: dumped([error(None, -32600, "bad"), result(batch[1], 1)]), 3)
        assert [shown(outcome) for outcome in found] == [
            "ApplicationError: bad (-32600)",
            1,
            "ApplicationError: bad (-32600)",
        ]

    async def test_answered_with_one_error_has_it_for_each_call(self) -> None:
        first, second = await outcomes(lambda _: dumped(error(None, -32600, "no batches")), 2)
        assert shown(first) == shown(second) == "ApplicationError: no batches (-32600)"
        assert first is not second

    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            (lambda batch: result(batch[0], 1), "expected a list of 2 answers, got an object"),
            (lambda batch: error(batch[0]["id"]), "expected a list of 2 answers, got an object"),
            (lambda _: 1, r"Expected `object \| array`, got `int`"),
            (lambda _: [1], "Expected `object`, got `int`"),
            (lambda batch: [result(one, 1) for one in batch] + [result({"id": 9}, 1)], "the ids 1, 2; got id b'9'"),
            (lambda batch: [result(one, 1) for one in batch] + [result({"id": None}, 1)], "got id b'null'"),
            (lambda batch: [result(one, 1) for one in batch] + [{}], "the ids 1, 2; got no id"),
            (lambda batch: [result(batch[0], 1), result(batch[0], 2)], "one answer for each id, got id b'1' again"),
            (lambda batch: [result(batch[0], 1), result({"id": "1"}, 2)], "one answer for each id, got .* again"),
        ],
    )
    async def test_whose_answers_cannot_be_told_apart_is_refused(
        self, reply: Callable[[Any], object], message: str
    ) -> None:
        with pytest.raises(InvalidResponse, match=message):
            await outcomes(lambda batch: dumped(reply(batch)), 2)

    async def test_of_nothing_asks_nothing(self) -> None:
        async with backend(lambda _: b"") as (rpc, server):
            assert await rpc.call([]) == []
        assert not server.requests

    async def test_a_fault_is_one_for_all(self) -> None:
        with pytest.raises(HttpStatus) as caught:
            await refused("503 Busy", b"busy", count=2, headers="Retry-After: 9\r\n")
        assert caught.value.retry_after_s == 9.0


async def refused(status: str, body: bytes, *, count: int = 1, headers: str = "") -> Sequence[Raw | BackendError]:
    """What becomes of calls that are answered with a status that is no success."""
    async with scripted(answering(http_response(body, status=status, headers=headers))) as server:
        rpc = JsonRpcBackend(HttpOptions(url=server.url))
        try:
            return await rpc.call([Call(f"m{index}") for index in range(count)])
        finally:
            await rpc.aclose()


async def refused_one(status: str, body: bytes, *, headers: str = "") -> Raw | BackendError:
    try:
        (outcome,) = await refused(status, body, headers=headers)
    except HttpStatus as exc:
        return exc
    return outcome


ARIA2 = b'{"id":1,"jsonrpc":"2.0","error":{"code":1,"message":"Unauthorized"}}'


class TestAStatusThatIsNoSuccess:
    @pytest.mark.parametrize(
        ("status", "body", "expected"),
        [
            ("400 Bad Request", ARIA2, "ApplicationError: Unauthorized (1)"),
            ("500 Error", dumped(error(1, -32602, "params")), "ApplicationError: params (-32602)"),
            ("500 Error", dumped(error(None, -32700, "parse")), "ApplicationError: parse (-32700)"),
            ("400 Bad", dumped(error("server-error", -32600, "m")), "ApplicationError: m (-32600)"),
            ("500 Error", b'{"result":null,"error":{"code":-28,"message":"Loading"},"id":1}', "ApplicationError: Load"),
            ("500 Error", b'{"error":"broken","id":"1"}', "ApplicationError: broken"),
            ("302 Found", ARIA2, "ApplicationError: Unauthorized (1)"),
            ("500 Error", b'\xef\xbb\xbf{"error":"half\\ud83d","id":1}', "ApplicationError: half\ufffd"),
            ("404 Not Found", dumped(error(1)), "ApplicationError: no (-32000)"),
        ],
    )
    async def test_brings_the_error_of_the_response_that_came_with_it(
        self, status: str, body: bytes, expected: str
    ) -> None:
        assert str(shown(await refused_one(status, body))).startswith(expected)

    async def test_may_bring_a_result(self) -> None:
        assert shown(await refused_one("500 Error", b'{"id":1,"result":7}')) == 7

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b'{"error":"Not Found"}',
            b'{"error":"no","id":2}',
            b'{"error":"no","id":null}',
            b'{"jsonrpc":"2.0","id":2,"result":1}',
            b'{"jsonrpc":"2.0","id":1}',
            b'{"jsonrpc":"2.0","id":1,"result":1,"error":{}}',
            b'{"jsonrpc":"3.0","id":1,"error":"x"}',
            b'[{"jsonrpc":"2.0","id":1,"error":"x"}]',
            b'"\\ud83d',
            b"\xff",
            ARIA2 + b" " * 70_000,
        ],
    )
    async def test_is_the_error_itself_where_no_response_came_with_it(self, body: bytes) -> None:
        outcome = await refused_one("500 Internal Server Error", body)
        assert isinstance(outcome, HttpStatus)
        assert str(outcome).endswith("expected an HTTP success, got 500 Internal Server Error")

    @pytest.mark.parametrize(("status", "phrase"), [(401, "Unauthorized"), (403, "Forbidden")])
    @pytest.mark.parametrize("count", [1, 2])
    async def test_of_authentication_stays_one_and_tells_the_words_of_the_error(
        self, status: int, phrase: str, count: int
    ) -> None:
        body = error(1, 8, "bad secret")
        try:
            (outcome,) = await refused(f"{status} No", dumped(body if count == 1 else [body]), count=count)
        except HttpStatus as exc:
            outcome = exc
        assert isinstance(outcome, HttpStatus)
        assert (outcome.status, outcome.code) == (status, ErrorCode.RPC_AUTH)
        assert str(outcome).endswith(f"got {status} {phrase}: bad secret (8)")

    async def test_of_authentication_is_believed_more_than_a_result(self) -> None:
        assert isinstance(await refused_one("401 No", b'{"id":1,"result":7}'), HttpStatus)

    @pytest.mark.parametrize("status", ["429 Too Many", "503 Busy"])
    async def test_that_asks_for_patience_is_heeded_beside_the_error(self, status: str) -> None:
        outcome = await refused_one(status, dumped(error(1, 5, "busy")), headers="Retry-After: 20\r\n")
        assert isinstance(outcome, ApplicationError)
        assert (str(outcome), outcome.retry_after_s) == ("busy (5)", 20.0)
        fault = classify(outcome, elapsed_s=0.0, policy=ClassifyPolicy())
        assert isinstance(fault, Fault)
        assert fault.retry_after_s == 20.0

    async def test_that_asks_for_patience_is_heeded_before_a_result(self) -> None:
        outcome = await refused_one("503 Busy", b'{"id":1,"result":7}', headers="Retry-After: 20\r\n")
        assert isinstance(outcome, HttpStatus)
        assert outcome.retry_after_s == 20.0
        assert shown(await refused_one("503 Busy", b'{"id":1,"result":7}')) == 7

    @pytest.mark.parametrize("headers", ["", "Retry-After: 0\r\n", "Retry-After: soon\r\n"])
    async def test_that_there_are_too_many_requests_is_heeded_without_a_time(self, headers: str) -> None:
        single = [await refused_one("429 Too Many", dumped(error(1, -32601, "slower")), headers=headers)]
        batch = await refused("429 Too Many", dumped([error(1), {"id": 2, "result": 7}]), count=2, headers=headers)
        beside_a_result = [await refused_one("429 Too Many", b'{"id":1,"result":7}', headers=headers)]
        assert [type(each) for each in batch] == [ApplicationError, HttpStatus]
        for found in (*single, *batch, *beside_a_result):
            assert isinstance(found, BackendError)
            assert is_too_many([classify(found, elapsed_s=0.0, policy=ClassifyPolicy())])

    async def test_of_another_kind_asks_for_no_patience(self) -> None:
        outcome = await refused_one("500 Error", dumped(error(1)), headers="Retry-After: 20\r\n")
        assert isinstance(outcome, ApplicationError)
        assert outcome.retry_after_s is None

    async def test_says_the_same_of_calls_in_a_batch(self) -> None:
        body = dumped([error("1", -32602, "params"), {"id": 2, "result": 7}])
        first, second = await refused("400 Bad Request", body, count=2)
        assert shown(first) == "ApplicationError: params (-32602)"
        assert shown(second) == 7

    async def test_says_it_of_each_call_of_a_batch_that_got_one_error(self) -> None:
        found = await refused("500 Error", dumped(error(None, -32600, "no batches")), count=2)
        assert [shown(one) for one in found] == ["ApplicationError: no batches (-32600)"] * 2

    async def test_is_what_a_call_has_whose_answer_is_not_in_the_batch(self) -> None:
        first, second = await refused("500 Internal Server Error", dumped([error(1)]), count=2)
        assert shown(first) == "ApplicationError: no (-32000)"
        assert isinstance(second, HttpStatus)

    async def test_is_told_although_its_body_never_ends(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\nContent-Length: 99\r\n\r\n{")
            await peer.until_closed()

        async with scripted(script) as server:
            rpc = JsonRpcBackend(HttpOptions(url=server.url))
            with pytest.raises(HttpStatus) as caught:
                await rpc.call([Call("m")])
            assert caught.value.retry_after_s == 9.0
            await rpc.aclose()


@pytest.mark.parametrize(
    ("params", "sent"), [(b"{}", b"[]"), (b"[]", b"[]"), (b"[1.50]", b"[1.50]"), (b'{"a":1}', b'{"a":1}')]
)
async def test_requests_of_version_1_have_no_version_and_a_list_for_no_params(params: bytes, sent: bytes) -> None:
    async with scripted(answering(http_response(b'{"result":1,"error":null,"id":1}'))) as server:
        rpc = JsonRpcBackend(HttpOptions(url=server.url), version="1.0")
        assert await rpc.call([Call("m", Raw(params))]) == [Raw(b"1")]
        await rpc.aclose()
    assert server.requests[0].body == b'{"id":1,"method":"m","params":' + sent + b"}"


async def test_a_server_may_answer_version_1_with_version_2() -> None:
    answers = [b'{"jsonrpc":"2.0","result":1,"id":1}', b'{"jsonrpc":"2.0","error":{"code":-5,"message":"no"},"id":2}']
    async with scripted(answering(*map(http_response, answers))) as server:
        rpc = JsonRpcBackend(HttpOptions(url=server.url), version="1.0")
        assert await rpc.call([Call("m")]) == [Raw(b"1")]
        assert list(map(shown, await rpc.call([Call("m")]))) == ["ApplicationError: no (-5)"]
        await rpc.aclose()


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (
            "400 Bad",
            b'{"id":1,"jsonrpc":"2.0","error":{"code":1,"message":"Unauthorized"}}',
            1,
            "Unauthorized",
        ),  # aria2
        (
            "500 Bad",
            b'{"result":null,"error":{"code":-8,"message":"Block height"},"id":1}',
            -8,
            "Block height",
        ),  # bitcoind
        ("404 Bad", b'{"result":null,"error":{"code":-32601,"message":"Method not"},"id":1}', -32601, "Method not"),
    ],
)
async def test_an_error_of_json_rpc_wins_over_the_status(status: str, body: bytes, code: int, message: str) -> None:
    async with scripted(answering(http_response(body, status=status))) as server:
        rpc = JsonRpcBackend(HttpOptions(url=server.url), version="1.0")
        assert list(map(shown, await rpc.call([Call("m")]))) == [f"ApplicationError: {message} ({code})"]
        await rpc.aclose()


async def test_closing_ends_later_calls() -> None:
    async with scripted(hanging) as server:
        rpc = JsonRpcBackend(HttpOptions(url=server.url))
        await rpc.aclose()
        with pytest.raises(Disconnected):
            await rpc.call([Call("a")])


MEMBERS: st.SearchStrategy[dict[str, object]] = st.dictionaries(
    st.sampled_from(["jsonrpc", "id", "result", "error", "x"]),
    st.sampled_from(["2.0", 1, 2, None, {"code": 1, "message": "m"}, {"code": "x"}, [], 1.5, "1"]),
)
ANSWERS = (MEMBERS | st.lists(MEMBERS | st.integers(), max_size=4)).map(dumped) | st.binary(max_size=40)


@given(ANSWERS)
def test_no_answer_whatever_raises_anything_but_invalid_response(body: bytes) -> None:
    for found in _read(body):
        for outcome in found:
            assert isinstance(outcome, Raw | ApplicationError | InvalidResponse | HttpStatus)
            if isinstance(outcome, Raw):
                json.loads(bytes(outcome))


def _read(body: bytes) -> Iterator[Sequence[Raw | BackendError]]:
    with contextlib.suppress(InvalidResponse):
        yield [jsonrpc._of_single(bytearray(body), 1)]
    with contextlib.suppress(InvalidResponse):
        yield jsonrpc._of_batch(bytearray(body), [1, 2])
    for status in (401, 500, 503):
        refusal = HttpStatus(status, "m", retry_after_s=1.0)
        with contextlib.suppress(HalfSurrogatePair, HttpStatus):
            yield [jsonrpc._of_single(bytearray(body), 1, refusal)]
        with contextlib.suppress(HalfSurrogatePair, HttpStatus):
            yield jsonrpc._of_batch(bytearray(body), [1, 2], refusal)
