"""A web site in a test's hands, on a real socket: the pages of somebody else, and a backend that answers with JSON."""

import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


class Site:
    """What it answers: `files` by their paths as text or bytes, or anything else, which is sent as JSON.

    It can be reached under two origins, `url` and `alias`. `headers` are sent with each file.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.alias = f"http://localhost:{port}"
        self.files: dict[str, Any] = {"/favicon.ico": b""}
        self.headers: dict[str, str] = {}

    def answer(self, path: str) -> tuple[int, str, bytes]:
        match self.files.get(path.partition("?")[0]):
            case None:
                return 404, "text/plain", b""
            case str() as text:
                return 200, mimetypes.guess_type(path)[0] or "text/html", text.encode()
            case bytes() as content:
                return 200, mimetypes.guess_type(path)[0] or "text/html", content
            case data:
                return 200, "application/json", msgspec.json.encode(data)


@contextmanager
def site() -> Iterator[Site]:
    """Serve a new one, while the context is open."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, media_type, content = served.answer(self.path)
            self.send_response(status)
            for name, value in {"Content-Type": media_type, **served.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Site(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
