"""One request to a backend, as the configuration says it: what is asked, and how the answer is written.

The values are made from the configuration and never change. What they mean on a wire is for the backends to know.
Templates such as ``{name}`` are still in the texts; whoever sends them fills them.
"""

from collections.abc import Mapping

import msgspec

from tidegate.core.masking import Masked, mask_headers, mask_strings, mask_url
from tidegate.secret import MASK


class AsJson(msgspec.Struct, frozen=True, tag="json"):
    """The answer is JSON."""


class AsPrometheus(msgspec.Struct, frozen=True, tag="prometheus"):
    """The answer is metrics in Prometheus' text format. `match` names those that are wanted; empty: all of them."""

    match: tuple[str, ...] = ()


class AsCsv(msgspec.Struct, frozen=True, tag="csv"):
    """The answer is a table: a line of names, and lines of values. `delimiter` is the character between them."""

    delimiter: str = ","


class AsText(msgspec.Struct, frozen=True, tag="text"):
    """The answer is text. `pattern` is a regular expression; its named groups are what is wanted of the text."""

    pattern: str


Reading = AsJson | AsPrometheus | AsCsv | AsText


class HttpRequest(Masked, frozen=True):
    """What a call over plain HTTP has besides its path. The default is a GET that is answered with JSON.

    `headers` take precedence over those of the backend. With empty `success_statuses`, an answer needs a status of 2xx.
    """

    verb: str = "GET"
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    success_statuses: frozenset[int] = frozenset()
    reading: Reading = AsJson()

    def public(self) -> dict[str, object]:
        shown = super().public() | {"headers": mask_headers(self.headers)}
        return shown if self.body is None else shown | {"body": MASK}


class Call(Masked, frozen=True):
    """One request to a backend.

    For JSON-RPC `params` is a JSON object or array, and `http` is not used. For plain HTTP `params` is not used;
    `method` is a path, and without `http` the request is a GET that is answered with JSON.
    """

    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")
    http: HttpRequest | None = None

    def public(self) -> dict[str, object]:
        params = mask_strings(msgspec.json.decode(self.params))
        return {"method": mask_url(self.method), "params": params, "http": self.http}
