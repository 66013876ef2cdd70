"""Makes of a source's keys what its backend is asked, and in which format the answer is."""

from tidegate.config import BackendConfig, SourceConfig
from tidegate.core.envelope import raw
from tidegate.core.polling.call import Reading
from tidegate.ports import AsCsv, AsJson, AsPrometheus, AsText, Call, HttpRequest

USUAL_ACCEPT = {
    "prometheus": "text/plain;version=0.0.4, text/plain;q=0.5",
    "csv": "text/csv, text/plain;q=0.9, */*;q=0.1",
    "text": "text/plain, text/*;q=0.9, */*;q=0.1",
}
"""What is asked for by the formats of answers. JSON is what the client asks for by itself."""


def call(source: SourceConfig, backend: BackendConfig) -> Call:
    """Return the call that `source` of `backend` makes at every poll."""
    method = source.method if source.path is None else source.path
    assert method is not None, "the configuration's rules see to it"
    http = _http_request(source, backend) if backend.protocol == "http" else None
    return Call(method, raw(source.params), http)


def _http_request(source: SourceConfig, backend: BackendConfig) -> HttpRequest:
    body = source.body.encode() if isinstance(source.body, str) else source.body
    return HttpRequest(
        verb=source.verb or ("GET" if body is None else "POST"),
        headers=_usual_headers(source, backend) | source.headers,
        body=body if body is None or isinstance(body, bytes) else bytes(raw(body)),
        success_statuses=frozenset(source.success_statuses),
        reading=_reading(source),
    )


def _reading(source: SourceConfig) -> Reading:
    match source.format:
        case "json":
            return AsJson()
        case "prometheus":
            return AsPrometheus(source.match)
        case "csv":
            return AsCsv(source.delimiter)
        case "text":
            assert source.pattern is not None, "the configuration's rules see to it"
            return AsText(source.pattern)


def _usual_headers(source: SourceConfig, backend: BackendConfig) -> dict[str, str]:
    """Return the headers that a request has unless the configuration gives others. JSON is what the client assumes."""
    given = {name.lower() for name in (*backend.headers, *source.headers)}
    usual = {"Accept": USUAL_ACCEPT[source.format]} if source.format in USUAL_ACCEPT else {}
    if isinstance(source.body, str):
        usual["Content-Type"] = "text/plain; charset=utf-8"
    return {name: value for name, value in usual.items() if name.lower() not in given}
