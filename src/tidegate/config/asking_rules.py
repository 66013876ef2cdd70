"""Which keys of a source go with the protocol of its backend: how it is asked, and how its answer is read.

A key that would have no effect is refused: whoever wrote it expects one.
"""

from collections.abc import Iterator

from tidegate.config.backends import BackendConfig, SourceConfig
from tidegate.config.reader import Mistake, quoted

HTTP_KEYS = ("path", "body", "verb", "headers", "success_statuses")
"""Keys that say how HTTP is spoken. JSON-RPC says that itself."""

_UNTOUCHED = SourceConfig(backend="any")
"""A source in which every key but one has its default."""


def of_asking(source: SourceConfig, backend: BackendConfig) -> Iterator[Mistake]:
    """Yield the keys of a source of `backend` that do not go with its protocol."""
    because = f'because backend {quoted(source.backend)} has protocol = "{backend.protocol}"'
    if backend.protocol == "http" and source.params:
        yield Mistake(("params",), f"none, {because} (put a query into path)", "some")
    if backend.protocol == "jsonrpc":
        for key in HTTP_KEYS:
            if getattr(source, key) != getattr(_UNTOUCHED, key):
                instead = " (it takes method and params)" if key in {"path", "body"} else ""
                yield Mistake((key,), f"no such key, {because}{instead}", "one")
