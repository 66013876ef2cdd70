"""The routes. Each declares its `Operation`, calls the services, and returns a struct."""

from tidegate.inbound.http_api.routes import events, probes, status

ROUTES = (
    probes.health,
    probes.readiness,
    probes.session,
    status.status,
    status.breakers,
    status.breaker,
    status.command_breaker,
    status.reload,
    events.snapshots,
    events.snapshot,
    events.forget,
    events.publish,
    events.event_stream,
    events.poll,
    status.clients,
    status.metrics,
    events.websocket,
)
"""In the order of the OpenAPI document."""
