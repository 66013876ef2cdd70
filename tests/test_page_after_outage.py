"""The reference engine is killed under a page in a browser: how soon is the page fresh when the engine listens again?

The bound of the rules is 2 s. A busy machine gets `SLACK_S` more; without knocking the page would take 10 s and more.
"""

import json
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from browser import chromium, needs_browser
from programs import Program, tidegate, until

from tidegate.cli.engine_process import free_port

pytestmark = pytest.mark.real

OUT_S = 20.0
BOUND_S = 2.0
SLACK_S = 4.0

CONFIG = """
[server]
port = 0

[backends.engine]
url = "http://127.0.0.1:%d/rpc"

[sources."system.status"]
backend = "engine"
method = "system.status"
interval_s = 1.0

[sources."storage.update"]
backend = "engine"
method = "storage.status"
interval_s = 30.0
"""

ALL = """(wanted) => {
    const found = [...document.querySelectorAll("#values .badge")].map((badge) => badge.textContent.split(" ")[0]);
    return found.length === 2 && found.every((it) => it === wanted);
}"""


def listening_at(port: int, engine: Program) -> float:
    """The time at which the engine took a connection."""

    def taken() -> float | None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return None
        return time.monotonic()

    return until(taken, what=engine.err)


@needs_browser
async def test_a_page_is_fresh_soon_after_the_engine_listens_again(tmp_path: Path) -> None:
    port = free_port(preferred=0)
    config = tmp_path / "tidegate.toml"
    config.write_text(CONFIG % port)
    with ExitStack() as stack:
        engine = stack.enter_context(tidegate("engine", "--port", str(port), "--state-dir", ""))
        listening_at(port, engine)
        gateway = stack.enter_context(tidegate("serve", "--config", str(config)))
        async with chromium() as browser:
            page = await browser.new_page()
            await page.goto(gateway.url)
            await page.wait_for_function(ALL, arg="fresh")

            engine.signal(signal.SIGKILL)
            engine.wait()
            killed_at = time.monotonic()
            await page.wait_for_function(ALL, arg="stale")
            await page.wait_for_timeout(1000 * (killed_at + OUT_S - time.monotonic()))
            await page.screenshot(path=tmp_path / "before.png", full_page=True)

            again = stack.enter_context(tidegate("engine", "--port", str(port), "--state-dir", ""))
            back_at = listening_at(port, again)
            await page.wait_for_function(ALL, arg="fresh")
            took_s = time.monotonic() - back_at
            await page.screenshot(path=tmp_path / "after.png", full_page=True)
    print(json.dumps({"fresh_after_s": round(took_s, 2), "screenshots": str(tmp_path)}))
    assert took_s < BOUND_S + SLACK_S
