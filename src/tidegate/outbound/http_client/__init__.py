"""The gateway's own HTTP/1.1 client: one request, one whole answer, limited in size and in work per loop iteration.

Backends are called with it, and the keys of a token issuer are fetched with it. It knows no protocol above HTTP. Every
failure is a `tidegate.errors.BackendError` whose message names the peer and contains no secret. Start reading at
`client.py`; `pool.py` keeps connections open, `connection.py` sends and receives, and `answer.py` parses.
"""

from tidegate.outbound.http_client.client import HttpAnswer, HttpClient
from tidegate.outbound.http_client.connection import Connect, connected
from tidegate.outbound.http_client.options import HttpOptions

__all__ = ["Connect", "HttpAnswer", "HttpClient", "HttpOptions", "connected"]
