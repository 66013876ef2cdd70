"""Static content: the dashboard's files and the two machine-readable documents."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from tidegate.inbound.http_api.operation import Content, Operation, documented

FILES = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/position.mjs": ("position.mjs", "text/javascript"),
    "/reconnect.mjs": ("reconnect.mjs", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}

DOCUMENTS = {
    "/openapi.json": "This document: the HTTP API, in OpenAPI 3.1",
    "/asyncapi.json": "What streams carry, in AsyncAPI 3",
}

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def dashboard_routes() -> Sequence[HTTPRouteHandler]:
    """Make the routes of the dashboard's files, which are read once. Their URLs are relative, so any prefix works."""
    directory = resources.files("tidegate") / "web"
    return [
        _file_route(path, directory.joinpath(name).read_bytes(), media_type=media_type)
        for path, (name, media_type) in FILES.items()
    ]


def document_route(path: str, document: bytes) -> HTTPRouteHandler:
    """Make the route of one of `DOCUMENTS`."""
    operation = Operation(
        name=path.strip("/").replace(".", "_"),
        summary=DOCUMENTS[path],
        answers={200: Content("The document", dict[str, Any])},
    )

    @get(path, opt=documented(operation))
    async def document_file() -> Response[bytes]:
        return Response(document, media_type="application/json")

    return document_file


def _file_route(path: str, content: bytes, *, media_type: str) -> HTTPRouteHandler:
    operation = Operation(
        name="dashboard" if path == "/" else path.strip("/").replace(".", "_"),
        summary="The dashboard" if path == "/" else "A file of the dashboard",
        answers={200: Content("The file", media_type=media_type)},
    )

    @get(path, opt=documented(operation))
    async def dashboard_file() -> Response[bytes]:
        headers = {**PAGE_HEADERS, "Content-Type": f"{media_type}; charset=utf-8"}
        return Response(content, headers=headers)

    return dashboard_file
