import asyncio
import json
from typing import Any

import pytest

from tidegate.engine.compression.refusals import Code, Refused
from tidegate.engine.rpc import MAX_BATCH, REFUSED, Endpoint

CALL: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "answer"}
NOTE: dict[str, Any] = {"jsonrpc": "2.0", "method": "answer"}


class Methods:
    """Counts its calls; `meet` ends when it was called twice at the same time."""

    def __init__(self) -> None:
        self.called = 0
        self._both = asyncio.Barrier(2)

    async def answer(self) -> dict[str, int]:
        self.called += 1
        return {"answer": 42}

    async def meet(self) -> None:
        await self._both.wait()

    async def tell(self, count: int, note: str = "-") -> list[int | str]:
        return [count, note]

    async def refuse(self) -> None:
        raise Refused(Code.NOT_ALLOWED, "not today")

    async def fail(self) -> None:
        raise KeyError("secret")


@pytest.fixture
def methods() -> Methods:
    return Methods()


@pytest.fixture
def endpoint(methods: Methods) -> Endpoint:
    names = ("answer", "meet", "tell", "refuse", "fail")
    return Endpoint({name: getattr(methods, name) for name in names})


async def ask(endpoint: Endpoint, request: object) -> Any:
    answer = await endpoint.answer(request if isinstance(request, bytes) else json.dumps(request).encode())
    return None if answer is None else json.loads(answer)


@pytest.mark.parametrize("id_", [1, 0, -5, "x", "", 2**70])
async def test_a_call_is_answered_under_its_id(endpoint: Endpoint, id_: object) -> None:
    assert await ask(endpoint, CALL | {"id": id_}) == {"jsonrpc": "2.0", "id": id_, "result": {"answer": 42}}


@pytest.mark.parametrize("params", [{}, []])
async def test_empty_parameters_are_no_parameters(endpoint: Endpoint, params: object) -> None:
    assert (await ask(endpoint, CALL | {"params": params}))["result"] == {"answer": 42}


async def test_a_notification_runs_and_is_not_answered(endpoint: Endpoint, methods: Methods) -> None:
    assert await ask(endpoint, NOTE) is None
    assert await ask(endpoint, NOTE | {"method": "nope"}) is None
    assert methods.called == 1


async def test_a_batch_answers_each_call_and_no_notification(endpoint: Endpoint, methods: Methods) -> None:
    answers = await ask(endpoint, [CALL, NOTE, 3, CALL | {"id": 2, "method": "nope"}])
    assert [(answer["id"], answer.get("error", {}).get("code")) for answer in answers] == [
        (1, None),
        (None, -32600),
        (2, -32601),
    ]
    assert methods.called == 2


async def test_a_batch_of_notifications_is_not_answered(endpoint: Endpoint, methods: Methods) -> None:
    assert await ask(endpoint, [NOTE, NOTE]) is None
    assert methods.called == 2


async def test_the_calls_of_a_batch_run_side_by_side(endpoint: Endpoint) -> None:
    meeting = [CALL | {"id": number, "method": "meet"} for number in (1, 2)]
    async with asyncio.timeout(60):
        assert [answer["id"] for answer in await ask(endpoint, meeting)] == [1, 2]


async def test_the_size_of_a_batch_is_limited(endpoint: Endpoint, methods: Methods) -> None:
    assert len(await ask(endpoint, [CALL] * MAX_BATCH)) == MAX_BATCH
    for size in (0, MAX_BATCH + 1):
        answer = await ask(endpoint, [CALL] * size)
        assert (answer["id"], answer["error"]["code"]) == (None, -32600)
        assert f"expected a batch of 1 to {MAX_BATCH} calls, got {size}" in answer["error"]["message"]
    assert methods.called == MAX_BATCH


@pytest.mark.parametrize(
    "call",
    [
        3,
        "text",
        None,
        {},
        NOTE | {"method": 1, "params": "bar"},
        CALL | {"jsonrpc": "1.0"},
        {"id": 1, "method": "answer"},
        {"jsonrpc": "2.0", "id": 1},
        CALL | {"params": None},
        CALL | {"params": "text"},
        CALL | {"id": None},
        CALL | {"id": True},
        CALL | {"id": 1.5},
        CALL | {"id": []},
    ],
)
async def test_what_is_no_request_object_is_refused(endpoint: Endpoint, methods: Methods, call: object) -> None:
    for answer in (await ask(endpoint, call), (await ask(endpoint, [call]))[0]):
        assert (answer["id"], answer["error"]["code"]) == (None, -32600)
        assert answer["error"]["message"].startswith("Invalid Request: ")
    assert methods.called == 0


@pytest.mark.parametrize(
    "body", [b"", b"nope", b'{"jsonrpc": "2.0", "method"', b"{} {}", b'"\xff"', b'{"id": NaN}', b"[1,]", b'"\\ud800"']
)
async def test_what_is_no_json_is_refused(endpoint: Endpoint, body: bytes) -> None:
    answer = await ask(endpoint, body)
    assert (answer["id"], answer["error"]["code"]) == (None, -32700)


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        (b"[", b"]"),
        (b'{"a":', b"}"),
        (b'{"jsonrpc":"2.0","id":1,"method":"answer","params":', b"}"),
        (b'[{"jsonrpc":"2.0","id":1,"method":"answer","params":', b"}]"),
    ],
)
async def test_deep_nesting_is_refused(endpoint: Endpoint, opening: bytes, closing: bytes) -> None:
    answer = await ask(endpoint, opening * 10_000 + b"1" + closing * 10_000)
    assert answer["error"]["code"] == -32700


async def test_there_is_no_depth_between_accepted_and_refused(endpoint: Endpoint) -> None:
    for depth in range(700, 1010):
        params = b"[" * depth + b"]" * depth
        call = b'{"jsonrpc":"2.0","id":1,"method":"answer","params":' + params + b"}"
        alone, batch = await ask(endpoint, call), await ask(endpoint, b"[" + call + b"]")
        assert alone["error"]["code"] in {-32602, -32700}
        assert (batch[0] if isinstance(batch, list) else batch)["error"]["code"] in {-32602, -32700}


async def test_an_unknown_method_is_named(endpoint: Endpoint) -> None:
    error = (await ask(endpoint, CALL | {"method": "agent.list"}))["error"]
    assert (error["code"], error["data"]) == (-32601, "method 'agent.list' not found")


@pytest.mark.parametrize(("params", "shown"), [({"b": 1, "a": 2}, "['a', 'b']"), ([1, 2], "2 by position")])
async def test_unknown_parameters_are_named(endpoint: Endpoint, methods: Methods, params: object, shown: str) -> None:
    error = (await ask(endpoint, CALL | {"params": params}))["error"]
    assert (error["code"], error["message"]) == (-32602, f"Invalid params: expected no parameters, got {shown}")
    assert methods.called == 0


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"x": 1, "note": ""}, "expected count, note, got ['x']"),
        ([1, "a", 2], "expected count, note, got 3 by position"),
        ({}, "Object missing required field `count`"),
        ({"count": "1"}, "Expected `int`, got `str` - at `$.count`"),
        ([True], "Expected `int`, got `bool` - at `$.count`"),
    ],
)
async def test_wrong_parameters_are_named(endpoint: Endpoint, params: object, message: str) -> None:
    error = (await ask(endpoint, CALL | {"method": "tell", "params": params}))["error"]
    assert (error["code"], error["message"]) == (-32602, f"Invalid params: {message}")


@pytest.mark.parametrize(
    ("params", "told"),
    [({"count": 2}, [2, "-"]), ([2], [2, "-"]), ([2, "a"], [2, "a"]), ({"note": "b", "count": 1}, [1, "b"])],
)
async def test_parameters_come_by_name_or_position(endpoint: Endpoint, params: object, told: object) -> None:
    assert (await ask(endpoint, CALL | {"method": "tell", "params": params}))["result"] == told


async def test_a_refusal_says_why(endpoint: Endpoint) -> None:
    assert (await ask(endpoint, CALL | {"method": "refuse"}))["error"] == {
        "code": REFUSED,
        "message": "not today",
        "data": {"code": "NOT_ALLOWED"},
    }


async def test_a_method_s_own_fault_is_a_server_error_without_details(endpoint: Endpoint) -> None:
    error = (await ask(endpoint, CALL | {"method": "fail"}))["error"]
    assert error == {"code": -32000, "message": "Server error"}
