"""Generates the OpenAPI 3.1 document from the declarations of the routes."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler

from tidegate.core.problem import MEDIA_TYPE, ProblemDetails
from tidegate.inbound.http_api.operation import OPERATION, Content, Operation, Parameter

EVERYWHERE = {
    403: "The Origin is not allowed",
    421: "The Host is not allowed",
    500: "The request failed; the server's log says why",
}

SCHEMA_REF = "#/components/schemas/{name}"

PROBLEM = "Problem"
"""The schema of `ProblemDetails`. Generated clients know it by this name, so it does not follow the struct's."""

Json = dict[str, Any]


def openapi_document(
    handlers: Iterable[HTTPRouteHandler], *, version: str, root_path: str, auth_required: bool
) -> bytes:
    """Make the document, as JSON. Handlers without an operation are left out.

    `auth_required` says whether tokens are needed.
    """
    described = [(handler, operation) for handler in handlers if (operation := handler.opt.get(OPERATION))]
    types = _types(operation for _, operation in described)
    schemas, components = msgspec.json.schema_components(types, schema_hook=_schema_of, ref_template=SCHEMA_REF)
    assert PROBLEM not in components, "no other struct has that name"
    by_type = dict(zip(map(repr, types), schemas, strict=True))
    by_type[repr(ProblemDetails)] = {"$ref": SCHEMA_REF.format(name=PROBLEM)}
    components = {PROBLEM: {**components.pop(ProblemDetails.__name__), "title": PROBLEM}, **components}
    paths: dict[str, Json] = {}
    for handler, operation in described:
        for path in handler.paths:
            item = paths.setdefault(operation.path or _plain(path), {})
            for method in handler.http_methods:
                item[method.lower()] = _operation(operation, by_type, auth_required=auth_required)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Tidegate",
                "version": version,
                "summary": "Live streams from backends that can only be asked",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": root_path or "/"}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _schema_of(kind: type) -> Json:
    """Return the schema of a type that msgspec does not know: raw JSON may be anything."""
    if kind is msgspec.Raw:
        return {}
    raise NotImplementedError(kind)


def _types(operations: Iterable[Operation]) -> list[Any]:
    """Return the types of all responses and bodies, each once."""
    types: dict[str, Any] = {repr(ProblemDetails): ProblemDetails}
    for operation in operations:
        for content in (*operation.answers.values(), operation.body):
            if content is not None and content.type is not None:
                types[repr(content.type)] = content.type
    return list(types.values())


def _operation(operation: Operation, schemas: Mapping[str, Json], *, auth_required: bool) -> Json:
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": {
            str(status): response
            for status, response in sorted(
                {
                    **{status: _problem(why, schemas) for status, why in _refusals(operation).items()},
                    **{status: _response(content, schemas) for status, content in operation.answers.items()},
                }.items()
            )
        },
    }
    if operation.body is not None:
        described["requestBody"] = {
            "description": operation.body.description,
            "required": True,
            "content": _content(operation.body, schemas),
        }
    if operation.role is not None and auth_required:
        described["security"] = [{"bearer": [operation.role]}]
        described["description"] = f"Needs the role `{operation.role}`."
    return described


def _refusals(operation: Operation) -> dict[int, str]:
    refusals = dict(EVERYWHERE)
    if operation.role is not None:
        refusals[401] = "The token is missing or not valid"
        refusals[403] += f", or the token lacks the role `{operation.role}`"
        refusals[503] = "Tokens cannot be checked yet; `Retry-After` says when to retry"
    for status, why in operation.refusals.items():
        refusals[status] = f"{refusals[status]}, or: {why}" if status in refusals else why
    return refusals


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": parameter.place == "path",
        "schema": {"type": "string", **parameter.schema},
    }


def _response(content: Content, schemas: Mapping[str, Json]) -> Json:
    headers = {"X-Request-ID": {"description": "The id of the request in the log", "schema": {"type": "string"}}}
    return {"description": content.description, "headers": headers, "content": _content(content, schemas)}


def _problem(why: str, schemas: Mapping[str, Json]) -> Json:
    return _response(Content(why, ProblemDetails, MEDIA_TYPE), schemas)


def _content(content: Content, schemas: Mapping[str, Json]) -> Json:
    if not content.media_type:
        return {}
    return {content.media_type: {} if content.type is None else {"schema": schemas[repr(content.type)]}}


def _plain(path: str) -> str:
    """Convert Litestar's ``{name:type}`` to OpenAPI's ``{name}``."""
    return path.replace(":str}", "}").replace(":path}", "}")
