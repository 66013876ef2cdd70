"""The answers to health and readiness probes, as an orchestrator sends them."""

from collections.abc import Mapping

from tidegate.inbound.http_api.answers import Health, NotReady, Ready
from tidegate.inbound.http_api.publishing import Answered, json_answer
from tidegate.inbound.http_api.services import Steering
from tidegate.runtime.gateway import Gateway


def health() -> Answered:
    """Return the answer to a health probe."""
    return json_answer(200, Health())


def readiness(supervisor: Steering, gateway: Gateway) -> Answered:
    """Return the answer to a readiness probe. A dead backend makes the gateway degraded, not unready."""
    status, content, fields = readiness_content(supervisor, gateway)
    answered = json_answer(status, content)
    answered[1].extend((name.encode(), value.encode()) for name, value in fields.items())
    return answered


def readiness_content(supervisor: Steering, gateway: Gateway) -> tuple[int, Ready | NotReady, Mapping[str, str]]:
    """Return status, body and additional header fields of the answer to a readiness probe."""
    found = supervisor.readiness()
    match found.status:
        case "ready":
            return 200, Ready("ready"), {}
        case "degraded":
            return 200, Ready("degraded", found.stale), {}
        case "starting" | "stalled" as status:
            return 503, NotReady(status), {"Retry-After": "1"}
        case _:
            return 503, NotReady("draining"), {"Retry-After": str(gateway.clients.drain_left_s)}
