"""One static file: its bytes, compressed once, and the answer to a conditional request (RFC 9110, sections 12 and 13).

Pure. Knows neither routes nor what else is said in the header of an answer.
"""

import gzip
import hashlib
from collections.abc import Mapping
from typing import NamedTuple


class FileAnswer(NamedTuple):
    """The answer to a request for a file: its status, the fields that depend on the request, and its body."""

    status: int
    fields: Mapping[str, str]
    body: bytes


class StaticFile:
    """A file whose `content` never changes. Compresses it at once, so make it when the gateway starts."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self.media_type = media_type
        self._plain = _Form(content, "")
        compressed = gzip.compress(content, mtime=0)
        self._gzip = _Form(compressed, "gzip") if len(compressed) < len(content) else self._plain

    def answer(self, headers: Mapping[str, str]) -> FileAnswer:
        """Return the answer to a GET with `headers`, whose names are in lower case: 200, or 304 if nothing changed."""
        form = self._gzip if accepts_gzip(headers.get("accept-encoding", "")) else self._plain
        fields = {"ETag": form.etag, "Vary": "Accept-Encoding"}
        if _names(headers.get("if-none-match", ""), form.etag):
            return FileAnswer(304, fields, b"")
        fields["Content-Type"] = f"{self.media_type}; charset=utf-8"
        if form.coding:
            fields["Content-Encoding"] = form.coding
        return FileAnswer(200, fields, form.content)


class _Form:
    """The bytes that are sent with one content coding. A strong entity tag is for exactly these bytes."""

    def __init__(self, content: bytes, coding: str) -> None:
        self.content = content
        self.coding = coding
        self.etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding field allows gzip. Without the field, or without gzip or ``*`` in it: no."""
    weights: dict[str, str] = {}
    for item in accept_encoding.lower().split(","):
        coding, *parameters = (part.strip() for part in item.split(";"))
        weights[coding] = next((text[2:].strip() for text in parameters if text.startswith("q=")), "1")
    return weights.get("gzip", weights.get("*", "0")).strip("0.") != ""


def _names(if_none_match: str, etag: str) -> bool:
    """Whether an If-None-Match field names `etag`, also made weak (``W/``), as proxies do that compress."""
    tags = [text.strip().removeprefix("W/") for text in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
