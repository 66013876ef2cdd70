"""Generates the OpenRPC 1.3 document that ``rpc.discover`` returns, from the annotations of the methods."""

import inspect
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, get_type_hints

import msgspec

from tidegate.engine.rpc import REFUSED, Method, parameters_of

OPENRPC_VERSION = "1.3.2"
ENGINE_VERSION = version("tidegate")

_REF = "#/components/schemas/{name}"
_REFUSED_ERROR = {
    "code": REFUSED,
    "message": "Refused: why, in words",
    "data": {"code": "why, as one of the job codes"},
}


def document(methods: Mapping[str, Method]) -> dict[str, Any]:
    """Describe `methods`. Summaries are the first lines of the docstrings; schemas come from the annotations."""
    results = [get_type_hints(method)["return"] for method in methods.values()]
    schemas, components = msgspec.json.schema_components(results, ref_template=_REF)
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {"title": "Tidegate reference engine", "version": ENGINE_VERSION},
        "methods": [
            _method(name, method, schema) for (name, method), schema in zip(methods.items(), schemas, strict=True)
        ],
        "components": {
            "schemas": {name: _tidied(schema) for name, schema in components.items()},
            "errors": {"Refused": _REFUSED_ERROR},
        },
    }


def discoverable(methods: Mapping[str, Method]) -> dict[str, Method]:
    """Return `methods` and ``rpc.discover``, which describes them but, as OpenRPC says, not itself."""
    described = document(methods)

    async def discover() -> dict[str, Any]:
        return described

    return {**methods, "rpc.discover": discover}


def _method(name: str, method: Method, result: dict[str, Any]) -> dict[str, Any]:
    parameters = parameters_of(method)
    _, components = msgspec.json.schema_components([parameters], ref_template=_REF)
    params = components[parameters.__name__]
    described = {
        "name": name,
        "summary": (inspect.getdoc(method) or "").partition("\n")[0],
        "params": [
            _parameter(parameter, schema, required=parameter in params.get("required", []))
            for parameter, schema in params["properties"].items()
        ],
        "result": {"name": "result", "schema": result},
    }
    return described | ({"errors": [{"$ref": "#/components/errors/Refused"}]} if described["params"] else {})


def _parameter(name: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {"name": name, "required": required, "schema": schema}


def _tidied(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "description": inspect.cleandoc(schema["description"])} if "description" in schema else schema
