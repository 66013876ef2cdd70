"""The gateway's own HTTP/1.1 client: one request, one whole answer, bounded in size and in time in one go.

Other outbound adapters build on it: backends are called with it, the keys of a token's issuer are fetched with it.
It knows no protocol above HTTP. What goes wrong is a `tidegate.errors.BackendError` that names the peer and no secret.
`answer.py` reads, `connection.py` carries, `pool.py` keeps connections, `client.py` is the way in.
"""

from tidegate.outbound.http_client.client import HttpAnswer, HttpClient
from tidegate.outbound.http_client.connection import Connect, connected
from tidegate.outbound.http_client.options import HttpOptions

__all__ = ["Connect", "HttpAnswer", "HttpClient", "HttpOptions", "connected"]
