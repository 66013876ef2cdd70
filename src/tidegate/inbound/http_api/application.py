"""Puts the application together: the routes in Litestar, and the door in front of it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from litestar import HttpMethod, Litestar, Response, route
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler

from tidegate.core.readings import Read
from tidegate.inbound.http_api.at_once import QuickRoutes
from tidegate.inbound.http_api.documents.asyncapi import asyncapi_document
from tidegate.inbound.http_api.documents.openapi import openapi_document
from tidegate.inbound.http_api.door import Door, route_named
from tidegate.inbound.http_api.operation import authorize
from tidegate.inbound.http_api.pages import document_route, file_routes
from tidegate.inbound.http_api.publishing import PublishEndpoint
from tidegate.inbound.http_api.refusals import HANDLERS, allow
from tidegate.inbound.http_api.routes import ROUTES
from tidegate.inbound.http_api.services import (
    SERVICES,
    ApiOptions,
    OpenStream,
    Reloading,
    RenderMetrics,
    Services,
    Steering,
)
from tidegate.runtime.admission import Admissions
from tidegate.runtime.gateway import Gateway


def http_api(
    gateway: Gateway,
    supervisor: Steering,
    admissions: Admissions,
    *,
    options: ApiOptions,
    url: str,
    open_stream: OpenStream,
    transport_of: Callable[[Any], asyncio.Transport],
    render_metrics: RenderMetrics,
    reloads: Reloading | None = None,
    read_store: Read | None = None,
) -> Door:
    """Make the ASGI application. It handles HTTP requests only, and has no lifespan.

    `url` is where the gateway listens. `open_stream` makes the response for an event stream. `transport_of` returns the
    transport of an ASGI scope. `render_metrics` is called with what the client's token covers. Without `reloads`, the
    configuration cannot be reloaded. `read_store` reads how the state directory is; None without one.
    """
    publish = PublishEndpoint(gateway, admissions, options)
    services = Services(
        gateway=gateway,
        supervisor=supervisor,
        admissions=admissions,
        options=options,
        open_stream=open_stream,
        transport_of=transport_of,
        publish=publish,
        render_metrics=render_metrics,
        reloads=reloads,
        read_store=read_store,
    )
    handlers = _documented([*ROUTES, *file_routes(options.frame_ancestors)], options, url)
    litestar = Litestar(
        [*_options_routes(handlers), *handlers],
        guards=[authorize],
        exception_handlers=HANDLERS,
        state=State({SERVICES: services}),
        openapi_config=None,
        logging_config=None,
    )
    at_once = QuickRoutes(publish, gateway, supervisor, admissions, root_path=options.root_path)
    door = Door(litestar, publish, at_once, admissions=admissions, root_path=options.root_path)
    gateway.requests.know([route_named(route.path_format) for route in litestar.routes])
    return door


def _documented(handlers: list[HTTPRouteHandler], options: ApiOptions, url: str) -> list[HTTPRouteHandler]:
    """Return `handlers` and the routes of the two documents that describe the API and the streams."""
    version, root_path, auth_required = options.version, options.root_path, options.auth_required
    asyncapi = asyncapi_document(version=version, url=url, root_path=root_path, auth_required=auth_required)
    handlers = [*handlers, document_route("/asyncapi.json", asyncapi)]
    described = [*handlers, document_route("/openapi.json", b"")]
    openapi = openapi_document(described, version=version, root_path=root_path, auth_required=auth_required)
    return [*handlers, document_route("/openapi.json", openapi)]


def _options_routes(handlers: Sequence[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """Make an OPTIONS route for every path. They must come first in the list of routes.

    Litestar would make some itself, but they only name the methods of the first route of a path.
    """
    methods: dict[str, set[str]] = {}
    for handler in handlers:
        for path in handler.paths:
            methods.setdefault(path, set()).update(handler.http_methods)
    return [_options_route(path, allow(found)) for path, found in methods.items()]


def _options_route(path: str, allowed: str) -> HTTPRouteHandler:
    @route(path, http_method=HttpMethod.OPTIONS, status_code=204)
    async def options() -> Response[None]:
        return Response(None, headers={"Allow": allowed})

    return options
