"""The backends that are called over HTTP: what a call is in each protocol. How they are reached is `http_client`."""

from tidegate.outbound.backends.http_json import HttpJsonBackend
from tidegate.outbound.backends.jsonrpc import JsonRpcBackend
from tidegate.outbound.http_client import HttpOptions

__all__ = ["HttpJsonBackend", "HttpOptions", "JsonRpcBackend"]
