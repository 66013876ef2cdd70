"""The backends that are called over HTTP, and how each is reached."""

from tidegate.adapters.backends.http_json import HttpJsonBackend
from tidegate.adapters.backends.jsonrpc import JsonRpcBackend
from tidegate.adapters.backends.options import HttpOptions

__all__ = ["HttpJsonBackend", "HttpOptions", "JsonRpcBackend"]
