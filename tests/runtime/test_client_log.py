"""Who comes and goes is logged: the first of a minute whole, the others in a summary."""

import asyncio
from collections.abc import Iterator

import pytest
from fanout import House, draft
from structlog.testing import capture_logs

from tidegate.errors import LeaveReason
from tidegate.runtime.client_log import WHOLE


@pytest.fixture
def lines() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as captured:
        yield captured  # type: ignore[misc]


async def test_a_client_that_leaves_says_what_it_got_and_why_it_went(lines: list[dict[str, object]]) -> None:
    house = House()
    connection, _, _ = house.started("a")
    await house.gateway.publish([draft("a"), draft("a")])
    await asyncio.sleep(0)
    house.gateway.clients.disconnect(connection, LeaveReason.CLIENT_CLOSED, "4000: their\x1b[31m words")
    who = {"client_id": connection.id, "address": "192.0.2.1", "transport": "websocket", "request_id": ""}
    [came, left] = lines
    assert came == {**who, "patterns": 1, "event": "client connected", "log_level": "info"}
    assert left.pop("duration_s") == 0.0
    assert left == {
        **who,
        "reason": "client_closed",
        "detail": "4000: their\x1b[31m words",
        "delivered": 2,
        "skipped": 0,
        "event": "client left",
        "log_level": "info",
    }


async def test_a_storm_is_summed_up_by_reason(lines: list[dict[str, object]]) -> None:
    house = House()
    for n in range(100):
        connection, _, _ = house.started("a")
        reason = LeaveReason.CONNECTION_LOST if n % 4 else LeaveReason.TOO_SLOW
        house.gateway.clients.disconnect(connection, reason)
    assert len(lines) == 2 * WHOLE
    house.gateway.clients.log.close()
    [came, left] = lines[2 * WHOLE :]
    assert (came["suppressed"], came["by_transport"]) == (100 - WHOLE, {"websocket": 100 - WHOLE})
    assert left["by_reason"] == {"connection_lost": 60, "too_slow": 20}
