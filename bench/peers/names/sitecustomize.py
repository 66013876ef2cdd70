"""Names that resolve oddly, in a process that is started with this folder in ``PYTHONPATH``."""

import socket
import time
from typing import Any

SLOW_S = 20.0

system_lookup = socket.getaddrinfo


def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> list[Any]:
    match host:
        case "slow-name.test":
            time.sleep(SLOW_S)
            return system_lookup("127.0.0.1", *arguments, **named)
        case "two-addresses.test":
            return [
                *system_lookup("127.0.0.2", *arguments, **named),
                *system_lookup("127.0.0.1", *arguments, **named),
            ]
        case _:
            return system_lookup(host, *arguments, **named)


socket.getaddrinfo = getaddrinfo
