"""A small sample of the bench's `bounds`, over real sockets, with default settings.

The bounds of the rules are 3 s and 2 s. A busy machine gets more here, but less than a gateway would take that does not
knock (up to 8 s more), or that waits for the next tick (20 s).
"""

import pytest
from bench.faults import Outage, busiest
from bench.recovering import Cell, GatewayLane, measured
from bench.servers import Tidegate

REFUSED = Cell(Outage.REFUSED, sources=20, interval_s=1.0, lengths_s=(10.0,))
ONE_POLL = Cell(Outage.ONE_POLL, sources=3, interval_s=20.0, lengths_s=(1.0,))

SLACK_S = 3.0


@pytest.mark.real
async def test_the_last_source_is_fresh_soon_after_an_outage_and_after_one_failed_poll() -> None:
    lane = GatewayLane(Tidegate(), [REFUSED, ONE_POLL])

    refused, one_poll = await measured([lane], patience_s=30.0, warm_s=3.0)

    assert refused["touched"] == 20
    assert refused["knocks"] >= 4  # one a second is due
    assert refused["last_s"] is not None
    assert refused["last_s"] < 3.0 + SLACK_S
    assert one_poll["touched"] == 1
    assert one_poll["last_s"] is not None
    assert one_poll["last_s"] < 2.0 + SLACK_S


def test_the_busiest_second_may_begin_anywhere() -> None:
    assert busiest([0.0, 0.7, 0.9, 1.6, 1.69, 3.0]) == 4
    assert busiest([]) == 0
