from typing import Any

import msgspec
from jsonschema import Draft7Validator

from tidegate.engine.openrpc import OPENRPC_VERSION, discoverable
from tidegate.engine.server import build_methods


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


async def test_every_result_of_the_engine_is_as_the_document_says() -> None:
    methods = build_methods()
    document = await document_of(methods)
    assert [method["name"] for method in document["methods"]] == list(methods)
    for method in document["methods"]:
        validator = result_validator(document, method)
        assert not validator.is_valid({})
        for _ in range(2):
            result = msgspec.to_builtins(await methods[method["name"]]())
            validator.validate(result)
            assert not validator.is_valid(result | {"surprise": 1})
