"""The HTTP API on Litestar: routes, who may call them, their problems, and the document that describes them all.

`http_api` makes the ASGI application. Server-sent events and metrics are handed in.
"""

from tidegate.inbound.http_api.application import http_api
from tidegate.inbound.http_api.door import Door
from tidegate.inbound.http_api.services import ApiOptions, OpenStream, Steering

__all__ = ["ApiOptions", "Door", "OpenStream", "Steering", "http_api"]
