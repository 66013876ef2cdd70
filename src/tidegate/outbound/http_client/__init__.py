"""The gateway's own HTTP/1.1 client: one request, one whole answer, limited in size and in work per loop iteration.

Backends are called with it, and the keys of a token issuer are fetched with it. It knows no protocol above HTTP. Every
failure is a `tidegate.errors.BackendError` whose message names the peer and contains no secret. Start reading at
`client.py`; `connecting.py` makes connections to a `destination`, `pool.py` keeps them open, `connection.py` sends and
receives, and `answer.py` parses. Persistent connections are made here too, but what is spoken over them is not known.
"""

from tidegate.outbound.http_client.client import HttpAnswer, HttpClient
from tidegate.outbound.http_client.connecting import Connect, NewConnection, connected
from tidegate.outbound.http_client.destinations import Destination, destination
from tidegate.outbound.http_client.failures import Lost, had_stood, is_our_lack, mapped, status_error
from tidegate.outbound.http_client.options import HttpOptions, address, fixed_headers, tls_context
from tidegate.outbound.http_client.own_thread import OwnThread
from tidegate.outbound.http_client.pool import KNOCKED_S, Attempt
from tidegate.outbound.http_client.proxying import AUTHORIZATION as PROXY_AUTHORIZATION
from tidegate.outbound.http_client.proxying import basic, proxy_address

__all__ = [
    "KNOCKED_S",
    "PROXY_AUTHORIZATION",
    "Attempt",
    "Connect",
    "Destination",
    "HttpAnswer",
    "HttpClient",
    "HttpOptions",
    "Lost",
    "NewConnection",
    "OwnThread",
    "address",
    "basic",
    "connected",
    "destination",
    "fixed_headers",
    "had_stood",
    "is_our_lack",
    "mapped",
    "proxy_address",
    "status_error",
    "tls_context",
]
