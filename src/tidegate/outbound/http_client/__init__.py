"""The gateway's own HTTP/1.1 client: one request, one whole answer, limited in size and in work per loop iteration.

Backends are called with it, and the keys of a token issuer are fetched with it. It knows no protocol above HTTP. Every
failure is a `tidegate.errors.BackendError` whose message names the peer and contains no secret. Start reading at
`client.py`; `connecting.py` makes connections, `pool.py` keeps them open, `connection.py` sends and receives, and
`answer.py` parses.
"""

from tidegate.outbound.http_client.client import HttpAnswer, HttpClient
from tidegate.outbound.http_client.connecting import Connect, connected
from tidegate.outbound.http_client.options import HttpOptions, address
from tidegate.outbound.http_client.own_thread import OwnThread
from tidegate.outbound.http_client.pool import Attempt

__all__ = ["Attempt", "Connect", "HttpAnswer", "HttpClient", "HttpOptions", "OwnThread", "address", "connected"]
