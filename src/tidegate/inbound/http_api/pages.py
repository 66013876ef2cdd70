"""Static content: the files of the web pages and of the JavaScript client, and the two machine-readable documents.

The files are those of ``web/``: a new one there is served without being listed here. A file's URL is its name; a page's
is its name without the ending, and the start page's is ``/``.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from tidegate.inbound.http_api.operation import REQUEST, Content, Operation, documented
from tidegate.inbound.http_api.services import ApiRequest
from tidegate.inbound.http_api.static_file import StaticFile

WEB = resources.files("tidegate") / "web"

MEDIA_TYPES = {
    ".css": "text/css",
    ".d.ts": "text/plain",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""What a browser may have of the directory, by all that follows the first dot of a file's name.

Other files are never served: copies of editors, hidden files, directories.
"""

EMBED = "/embed"
"""The page with one value that other sites may show in a frame."""

SHARED = frozenset({"/client.js", "/client.d.ts", "/value.js", "/format.js", "/words.js"})
"""The files that pages of any origin may load and read: the client, its types, the element, and what it imports.

They contain no data. For data, a page's origin must be among `server.allowed_origins`.
"""

SUMMARIES = {
    "/": "The dashboard",
    EMBED: "One value, as a page that the sites of `server.frame_ancestors` may show in a frame",
    "/client.js": "The JavaScript client, for pages of any origin",
    "/client.d.ts": "Its types, for TypeScript",
    "/value.js": "The element `<tidegate-value>`, for pages of any origin",
}

DOCUMENTS = {
    "/openapi.json": "This document: the HTTP API, in OpenAPI 3.1",
    "/asyncapi.json": "What streams carry, in AsyncAPI 3",
}

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
)


def file_routes(frame_ancestors: Sequence[str]) -> list[HTTPRouteHandler]:
    """Make the routes of the files, which are read now. URLs in them are relative, so they work below any prefix.

    `frame_ancestors` are the origins of the sites that may show `EMBED` in a frame.
    """
    return [_file_route(path, file, _headers(path, frame_ancestors)) for path, file in web_files().items()]


def web_files(directory: Traversable = WEB) -> Mapping[str, StaticFile]:
    """Read the files of `directory` that are served, by their paths."""
    return {path: StaticFile(file.read_bytes(), media_type) for path, media_type, file in _found(directory)}


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


def _found(directory: Traversable) -> Iterator[tuple[str, str, Traversable]]:
    for file in sorted(directory.iterdir(), key=lambda file: file.name):
        stem, dot, rest = file.name.partition(".")
        ending = dot + rest
        if stem and ending in MEDIA_TYPES and file.is_file():
            name = file.name if ending != ".html" else stem if stem != "index" else ""
            yield f"/{name}", MEDIA_TYPES[ending], file


def _headers(path: str, frame_ancestors: Sequence[str]) -> Mapping[str, str]:
    """Return the header fields of every answer with the file at `path`."""
    ancestors = " ".join(frame_ancestors) if path == EMBED and frame_ancestors else "'none'"
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY.format(ancestors=ancestors),
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if path in SHARED:
        headers |= {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
    return headers


def _file_route(path: str, file: StaticFile, headers: Mapping[str, str]) -> HTTPRouteHandler:
    operation = Operation(
        name="dashboard" if path == "/" else path.strip("/").replace(".", "_"),
        summary=SUMMARIES.get(path, "A file of the dashboard"),
        answers={
            200: Content("The file", media_type=file.media_type),
            304: Content("The file is still the one that `If-None-Match` names", media_type=""),
        },
    )

    @get(path, opt=documented(operation))
    async def static_file(request: ApiRequest) -> Response[bytes]:
        answer = file.answer(request.scope["state"][REQUEST].headers)
        return Response(answer.body, status_code=answer.status, headers={**headers, **answer.fields})

    return static_file
