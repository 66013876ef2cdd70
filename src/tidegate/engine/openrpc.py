"""The description of the methods that ``rpc.discover`` returns: OpenRPC 1.3, made from their annotations."""

import inspect
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, get_type_hints

import msgspec

from tidegate.engine.rpc import Method

OPENRPC_VERSION = "1.3.2"
ENGINE_VERSION = version("tidegate")


def document(methods: Mapping[str, Method]) -> dict[str, Any]:
    """Describe `methods`: the first line of a docstring is the summary, the annotated result gives the schema."""
    results = [get_type_hints(method)["return"] for method in methods.values()]
    schemas, components = msgspec.json.schema_components(results, ref_template="#/components/schemas/{name}")
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {"title": "Tidegate reference engine", "version": ENGINE_VERSION},
        "methods": [
            _method(name, method, schema) for (name, method), schema in zip(methods.items(), schemas, strict=True)
        ],
        "components": {"schemas": {name: _tidied(schema) for name, schema in components.items()}},
    }


def discoverable(methods: Mapping[str, Method]) -> dict[str, Method]:
    """`methods`, and ``rpc.discover`` which describes them; a system extension does not describe itself."""
    described = document(methods)

    async def discover() -> dict[str, Any]:
        return described

    return {**methods, "rpc.discover": discover}


def _method(name: str, method: Method, result_schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "summary": (inspect.getdoc(method) or "").partition("\n")[0],
        "params": [],
        "result": {"name": "result", "schema": result_schema},
    }


def _tidied(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "description": inspect.cleandoc(schema["description"])}
