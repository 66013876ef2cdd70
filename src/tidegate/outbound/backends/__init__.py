"""Backends: how each protocol encodes calls, over HTTP or a connection that lasts. `http_client` makes connections."""

from tidegate.outbound.backends.http_json import HttpJsonBackend
from tidegate.outbound.backends.jsonrpc import JsonRpcBackend
from tidegate.outbound.backends.persistent.backend import RpcBackend
from tidegate.outbound.backends.persistent.options import RpcOptions, RpcSession
from tidegate.outbound.http_client import HttpOptions

__all__ = ["HttpJsonBackend", "HttpOptions", "JsonRpcBackend", "RpcBackend", "RpcOptions", "RpcSession"]
