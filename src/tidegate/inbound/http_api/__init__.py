"""The HTTP API on Litestar: routes, who may call them, their problems, and the document that describes them all.

`http_api` makes the ASGI application. Server-sent events and metrics are handed in.
"""

from tidegate.inbound.http_api.application import http_api
from tidegate.inbound.http_api.services import HttpOptions, OpenStream, Steering

__all__ = ["HttpOptions", "OpenStream", "Steering", "http_api"]
