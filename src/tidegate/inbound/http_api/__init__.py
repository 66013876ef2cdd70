"""The HTTP API, built on Litestar: routes, their access rules and errors, and the documents that describe them.

`http_api` makes the ASGI application. Event streams and metrics are passed in.
"""

from tidegate.inbound.http_api.application import http_api
from tidegate.inbound.http_api.door import Door
from tidegate.inbound.http_api.services import ApiOptions, OpenStream, Reloading, Steering

__all__ = ["ApiOptions", "Door", "OpenStream", "Reloading", "Steering", "http_api"]
