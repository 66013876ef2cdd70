import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tidegate.engine.compression.refusals import Code
from tidegate.engine.openrpc import OPENRPC_VERSION, discoverable
from tidegate.engine.rpc import REFUSED, Endpoint
from tidegate.engine.server import Options, build_methods, compression_of


class Reply(msgspec.Struct):
    """A reply.

    With more to say.
    """

    count: int | None


async def greet() -> Reply:
    """Says hello.

    And nothing else.
    """
    return Reply(1)


async def document_of(methods: dict[str, Any]) -> dict[str, Any]:
    document = await discoverable(methods)["rpc.discover"]()
    assert isinstance(document, dict)
    return document


def result_validator(document: dict[str, Any], method: dict[str, Any]) -> Draft7Validator:
    """Checks results of `method`, and besides that they have no field that the document leaves out."""
    closed = {
        name: schema | {"additionalProperties": False} for name, schema in document["components"]["schemas"].items()
    }
    schema = method["result"]["schema"] | {"components": {"schemas": closed}}
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema | {"allOf": [{"$ref": schema.pop("$ref")}]})


async def test_a_method_is_described_by_its_docstring_and_its_result() -> None:
    document = await document_of({"greet": greet})
    assert document["openrpc"] == OPENRPC_VERSION
    assert document["info"].keys() == {"title", "version"}
    assert document["methods"] == [
        {
            "name": "greet",
            "summary": "Says hello.",
            "params": [],
            "result": {"name": "result", "schema": {"$ref": "#/components/schemas/Reply"}},
        }
    ]
    assert document["components"]["schemas"]["Reply"]["description"] == "A reply.\n\nWith more to say."


async def test_what_is_discoverable_can_be_called() -> None:
    assert discoverable({"greet": greet})["greet"] is greet


async def test_parameters_are_described_by_their_annotations() -> None:
    async def weigh(name: Annotated[str, msgspec.Meta(min_length=1, description="Whose.")], times: int = 1) -> Reply:
        return Reply(times)

    [method] = (await document_of({"weigh": weigh}))["methods"]
    assert method["params"] == [
        {
            "name": "name",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "description": "Whose."},
        },
        {"name": "times", "required": False, "schema": {"type": "integer", "default": 1}},
    ]
    assert method["errors"] == [{"$ref": "#/components/errors/Refused"}]


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """The engine's methods; it has one job, "known", which nobody carries out."""
    (tmp_path / "known").touch()
    async with compression_of(Options(roots=(tmp_path,), agents=2)) as compression:
        compression._queue.submit("known", source=b"/s", destination=b"/d", level=3, now=1.0)
        yield build_methods(compression)


async def test_every_result_of_the_engine_is_as_the_document_says(methods: dict[str, Any], tmp_path: Path) -> None:
    good = {
        "compression.submit": {"path": str(tmp_path / "known")},
        "compression.get": {"id": "known"},
        "compression.cancel": {"id": "known"},
    }
    document = await document_of(methods)
    assert [method["name"] for method in document["methods"]] == list(methods)
    for method in document["methods"]:
        validator = result_validator(document, method)
        assert not validator.is_valid({})
        params = good.get(method["name"], {})
        assert params.keys() == {param["name"] for param in method["params"] if param["required"]}
        result = msgspec.to_builtins(await methods[method["name"]](**params))
        validator.validate(result)
        assert not validator.is_valid(result | {"surprise": 1})


def inputs(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Whatever `schema` allows, and now and then what the engine knows."""
    if "anyOf" in schema:
        return st.one_of(*map(inputs, schema["anyOf"]))
    match schema["type"]:
        case "null":
            return st.none()
        case "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case "string":
            text = st.text(
                st.characters(codec="utf-8"), min_size=schema.get("minLength", 0), max_size=schema.get("maxLength")
            )
            return text | st.sampled_from(["known", "/", "/tmp", "file:///%ff", "file:/.."])
    raise AssertionError(f"expected a type that is known here, got {schema}")


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


async def call(endpoint: Endpoint, method: str, params: object) -> dict[str, Any]:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = await endpoint.answer(json.dumps(request).encode())
    assert answer is not None
    decoded = json.loads(answer)
    assert isinstance(decoded, dict)
    return decoded


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
async def test_every_method_takes_what_the_document_allows_and_nothing_else(
    data: st.DataObject, methods: dict[str, Any]
) -> None:
    endpoint = Endpoint(methods)
    document = await document_of(methods)
    for method in document["methods"]:
        given_params = {
            param["name"]: data.draw(inputs(param["schema"]))
            for param in method["params"]
            if param["required"] or data.draw(st.booleans())
        }
        answer = await call(endpoint, method["name"], given_params)
        if "result" in answer:
            result_validator(document, method).validate(answer["result"])
        else:
            assert method["errors"], answer
            assert answer["error"]["code"] == document["components"]["errors"]["Refused"]["code"] == REFUSED, answer
            assert answer["error"]["data"]["code"] in set(Code)
        for param in method["params"]:
            value = data.draw(ANYTHING)
            if not Draft7Validator(param["schema"]).is_valid(value):
                answer = await call(endpoint, method["name"], given_params | {param["name"]: value})
                assert answer["error"]["code"] == -32602, answer
        answer = await call(endpoint, method["name"], given_params | {"surprise": 1})
        assert answer["error"]["code"] == -32602
        by_position = [1] * (len(method["params"]) + 1)
        assert (await call(endpoint, method["name"], by_position))["error"]["code"] == -32602


async def test_parameters_may_come_by_position(methods: dict[str, Any]) -> None:
    assert (await call(Endpoint(methods), "compression.get", ["known"]))["result"]["id"] == "known"
