"""Backends that are called over HTTP: how each protocol encodes calls. `http_client` makes the requests."""

from tidegate.outbound.backends.http_json import HttpJsonBackend
from tidegate.outbound.backends.jsonrpc import JsonRpcBackend
from tidegate.outbound.http_client import HttpOptions

__all__ = ["HttpJsonBackend", "HttpOptions", "JsonRpcBackend"]
