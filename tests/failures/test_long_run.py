"""Everything at once, for long: nothing is lost, nobody is thrown out, nothing grows, and all counts agree.

LONG_RUN_MINUTES=240 pytest --timeout 0 -s tests/failures/test_long_run.py
"""

import asyncio
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from long_run import HISTORY_EVENTS, QUICK_S, QUICKENED, SLOW_S, Deployment, Row, deployed, save

from tidegate.verify.frames import seconds
from tidegate.verify.observer import observing

pytestmark = pytest.mark.real

MINUTES = float(os.environ.get("LONG_RUN_MINUTES", "0.5"))
IS_LONG = MINUTES >= 10
"""What grows can only be told from what fills up after some minutes."""

FOLLOWERS = 150 if IS_LONG else 40
VISIT_S = (5.0, 60.0) if IS_LONG else (1.0, 8.0)
RELOAD_EVERY_S = 60.0 if IS_LONG else 2.0

CROWD = 1000
CROWD_S = 24.0

UNDER_WAY = 12
"""How many calls, each a task and a connection, may be under way at one moment and not at another."""

GROWTH = 0.05
"""How much larger the memory may be at the end than after the history was full, as a share."""

ROWS = Path(__file__).parents[2] / "build" / "long-run.csv"


async def test_nothing_is_lost_and_nothing_grows(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        before = await deployment.sample()
        await deployment.run(60 * MINUTES, followers=FOLLOWERS, visit_s=VISIT_S, reload_every_s=RELOAD_EVERY_S)
        after = await everybody_left(deployment)
        counted = await deployment.counted()
    save(deployment.rows, ROWS)
    account = deployment.account
    print(f"\n{account.frames} frames, {account.connects} connects, {account.resumes} resumes, {dict(account.reloads)}")
    assert not account.wrong, "\n".join(account.wrong[:20])
    assert account.resumes > FOLLOWERS / 10
    assert account.reloads["changed"] > 2
    check_counts(deployment, counted)
    assert after.descriptors <= before.descriptors + UNDER_WAY
    assert after.tasks <= before.tasks + UNDER_WAY
    if IS_LONG:
        check_growth(deployment.rows)


async def test_a_thousand_clients_notice_nothing_of_reloads(tmp_path: Path) -> None:
    async with (
        deployed(tmp_path) as deployment,
        observing(deployment.url, label="the witness", types=["*"]) as witness,
    ):
        await deployment.run(CROWD_S, followers=CROWD, visit_s=(CROWD_S, CROWD_S), reload_every_s=2.0)
        polled = [seconds(frame.as_of) for frame in witness.values([QUICKENED]) if frame.as_of]
    account = deployment.account
    print(f"\n{account.frames} frames, {dict(account.reloads)}")
    assert not account.wrong, "\n".join(account.wrong[:20])
    assert account.reloads["changed"] > 3
    assert account.quickened
    for at in account.quickened[:-1]:
        soon = [as_of for as_of in polled if at < as_of < at + SLOW_S]
        assert len(soon) >= 2, f"at {at} the interval became {QUICK_S} s: {soon}"


async def everybody_left(deployment: Deployment) -> Row:
    async with asyncio.timeout(60):
        while (row := await deployment.sample()).clients:
            await asyncio.sleep(0.2)
    return row


def check_counts(deployment: Deployment, counted: Mapping[str, Mapping[str, float]]) -> None:
    account = deployment.account
    assert sum(counted["tidegate_clients_connected_total"].values()) == account.connects
    assert sum(counted["tidegate_clients_left_total"].values()) == account.connects
    assert counted["tidegate_resumes_total"]['outcome="whole"'] == account.resumes
    assert sum(counted["tidegate_config_reloads_total"].values()) == account.reloads.total()
    published = counted["tidegate_events_published_total"]['type="line.count"']
    assert published - account.published in {0, 1}, "the run ends amid a publish, perhaps"


def check_growth(rows: Sequence[Row]) -> None:
    full = [row for row in rows if row.history_events >= HISTORY_EVENTS]
    early, late = full[: len(full) // 4], full[-len(full) // 4 :]
    for name in ("private_bytes", "descriptors", "tasks"):
        first, last = (statistics.median(getattr(row, name) for row in part) for part in (early, late))
        assert last <= first * (1 + GROWTH), f"{name} grew from {first} to {last}"
