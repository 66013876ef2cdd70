"""The backends that are called over HTTP, and how each is reached."""

from tidegate.outbound.backends.http_json import HttpJsonBackend
from tidegate.outbound.backends.jsonrpc import JsonRpcBackend
from tidegate.outbound.backends.options import HttpOptions

__all__ = ["HttpJsonBackend", "HttpOptions", "JsonRpcBackend"]
