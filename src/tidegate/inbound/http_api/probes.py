"""What is asked of the process by whoever runs it: whether it serves, and whether it is ready."""

from collections.abc import Mapping

from tidegate.inbound.http_api.answers import Health, NotReady, Ready
from tidegate.inbound.http_api.publishing import Answered, json_answer
from tidegate.inbound.http_api.services import Steering
from tidegate.runtime.gateway import Gateway


def health() -> Answered:
    """It serves."""
    return json_answer(200, Health())


def readiness(supervisor: Steering, gateway: Gateway) -> Answered:
    """Whether the gateway is ready; a dead backend makes it degraded, not unready."""
    status, content, fields = readiness_content(supervisor, gateway)
    answered = json_answer(status, content)
    answered[1].extend((name.encode(), value.encode()) for name, value in fields.items())
    return answered


def readiness_content(supervisor: Steering, gateway: Gateway) -> tuple[int, Ready | NotReady, Mapping[str, str]]:
    """Status, body and further header fields of the answer to whether the gateway is ready."""
    found = supervisor.readiness()
    match found.status:
        case "ready":
            return 200, Ready("ready"), {}
        case "degraded":
            return 200, Ready("degraded", found.stale), {}
        case "starting":
            return 503, NotReady("starting"), {"Retry-After": "1"}
        case _:
            return 503, NotReady("draining"), {"Retry-After": str(gateway.clients.drain_left_s)}
