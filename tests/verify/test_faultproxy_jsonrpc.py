import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.verify.faultproxy.faults import Fault, SpoilFault
from tidegate.verify.faultproxy.jsonrpc import Asked, around_result, asked, error_answer, spoiled

ERROR = b'{"code":-32000,"message":"made up by the fault proxy"}'
GOOD = b'{"jsonrpc":"2.0","id":1,"result":{"n":1.10}}'
BAD = b'{"jsonrpc":"2.0","id":1,"error":{"code":5}}'
BATCH = b'[{"jsonrpc":"2.0","id":1,"result":1},{"jsonrpc":"2.0","id":"b","result":1152921504606846977}]'

SPOILT = [
    (Fault.wrong_id(), GOOD, b'{"jsonrpc":"2.0","id":1000004,"result":{"n":1.10}}'),
    (
        Fault.wrong_id(),
        BATCH,
        b'[{"jsonrpc":"2.0","id":1000004,"result":1},{"jsonrpc":"2.0","id":"not b","result":1152921504606846977}]',
    ),
    (Fault.wrong_id(), b'{"jsonrpc":"2.0"}', b'{"jsonrpc":"2.0","id":"not None"}'),
    (Fault.result_and_error(), GOOD, b'{"result":{"n":1.10},"error":' + ERROR + b',"jsonrpc":"2.0","id":1}'),
    (Fault.result_and_error(), BAD, b'{"result":null,"error":{"code":5},"jsonrpc":"2.0","id":1}'),
    (Fault.no_result_no_error(), GOOD, b'{"jsonrpc":"2.0","id":1}'),
    (Fault.no_result_no_error(), BAD, b'{"jsonrpc":"2.0","id":1}'),
    (Fault.no_result_no_error(), BATCH, b'[{"jsonrpc":"2.0","id":1},{"jsonrpc":"2.0","id":"b"}]'),
    (Fault.partial_batch(), BATCH, b'[{"jsonrpc":"2.0","id":"b","result":1152921504606846977}]'),
    (Fault.partial_batch(2), BATCH, b"[]"),
    (Fault.partial_batch(), GOOD, GOOD),
    (Fault.nan(), GOOD, b'{"jsonrpc":"2.0","id":1,"result":NaN}'),
    (Fault.nan(), BAD, b'{"jsonrpc":"2.0","id":1,"result":NaN}'),
    (Fault.nan(), b'{"hostname":"nas"}', b"NaN"),
    (Fault.truncated_json(), b' {"a":1}\n', b'{"a'),
    (Fault.truncated_json(), b"1234", b""),
]

NOT_RPC = [b"", b"<html>", b'{"hostname":"nas"}', b"[]", b"[1]", b"12", b'"text"', b"[" * 100_000]


@pytest.mark.parametrize(("fault", "body", "after"), SPOILT)
def test_spoiled(fault: SpoilFault, body: bytes, after: bytes) -> None:
    assert spoiled(fault, body) == after


@pytest.mark.parametrize("body", NOT_RPC, ids=lambda body: body[:20].decode())
@pytest.mark.parametrize(
    "fault", [Fault.wrong_id(), Fault.result_and_error(), Fault.no_result_no_error(), Fault.partial_batch()]
)
def test_what_is_no_answer_passes_unchanged(fault: SpoilFault, body: bytes) -> None:
    assert spoiled(fault, body) == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.text(" \n", max_size=9))
def test_truncated_json_is_never_json(value: object, space: str) -> None:
    body = (space + json.dumps(value) + space).encode()
    half = spoiled(Fault.truncated_json(), body)
    assert len(half) <= len(body) / 2
    with pytest.raises(json.JSONDecodeError):
        json.loads(half)


def test_nan_is_not_json_to_anyone_strict() -> None:
    assert math.isnan(json.loads(spoiled(Fault.nan(), GOOD))["result"])


def test_an_unknown_spoiler_is_a_defect() -> None:
    with pytest.raises(AssertionError, match="no effect on a body"):
        spoiled(SpoilFault(), GOOD)


ASKED = [
    (b'{"jsonrpc":"2.0","id":"a","method":"x"}', Asked(("x",), (b'"a"',), False)),
    (b'{"jsonrpc":"2.0","method":"x"}', Asked(("x",), (b"null",), False)),
    (b'[{"method":"x","id":1},{"method":"y","id":2}]', Asked(("x", "y"), (b"1", b"2"), True)),
    (b"", Asked()),
    (b"not json", Asked()),
    (b'{"type":"system.status"}', Asked()),
    (b'[{"method":"x"},1]', Asked()),
    (b'{"method":"\xff"}', Asked()),
    (b"[" * 100_000, Asked()),
]


@pytest.mark.parametrize(("body", "found"), ASKED, ids=lambda value: repr(value)[:30])
def test_asked(body: bytes, found: Asked) -> None:
    assert asked(body) == found


def test_around_result() -> None:
    assert around_result(Asked()) == (b"", b"")
    before, after = around_result(Asked(("m",), (b"7",)))
    assert json.loads(before + b"[]" + after) == {"jsonrpc": "2.0", "id": 7, "result": []}
    before, after = around_result(Asked(("m", "n"), (b"7", b'"b"'), True))
    assert json.loads(before + b"[]" + after) == [
        {"jsonrpc": "2.0", "id": 7, "result": []},
        {"jsonrpc": "2.0", "id": "b", "result": None},
    ]


def test_error_answer() -> None:
    error = {"code": -1, "message": "no"}
    one = error_answer(Asked(("m",), (b"7",)), code=-1, message="no")
    assert json.loads(one) == {"jsonrpc": "2.0", "id": 7, "error": error}
    two = error_answer(Asked(("m", "n"), (b"7", b"8"), True), code=-1, message="no")
    assert [answer["id"] for answer in json.loads(two)] == [7, 8]
    assert json.loads(error_answer(Asked(), code=-1, message="no"))["id"] is None
