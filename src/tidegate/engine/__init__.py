"""The reference engine: a separate program that says how this machine is doing, over JSON-RPC 2.0 on HTTP.

It knows nothing of the gateway. `serve` runs it inside an event loop, `main` as a process of its own.
"""

from tidegate.engine.server import DEFAULT_HOST, DEFAULT_PORT, main, serve

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "main", "serve"]
