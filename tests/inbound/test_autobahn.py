"""Autobahn's test suite against our own WebSocket protocol, with an echo in the place of the gateway's session.

`tests/fixtures/autobahn.json` is what every case has come to. A case that does better belongs there too.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from serving import serving
from websockets.frames import Frame, Opcode

from tidegate.core.delivery.framing import text_frame
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.events import Position
from tidegate.core.rate import Rate
from tidegate.runtime import clients
from tidegate.runtime.connection import Connection

ROOT = Path(__file__).parents[2]
SUITE = ROOT / ".autobahn"
RECORD = ROOT / "tests" / "fixtures" / "autobahn.json"

MIB = 1 << 20
SUITE_S = 240

RANKS = ["OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT", "FAILED"]
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}

RULES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
LARGE = ["9.*"]
"""Messages of up to 16 MiB, and of up to 65,536 fragments."""


class Echo(Connection):
    """Says what it is told, and nothing else."""

    def start(self, since: Position | None, *, by_default: bool = False, preamble: bytes = b"") -> None:
        del since, by_default
        self._channel.write(preamble)

    def receive(self, text: bytes) -> None:
        self._channel.write(text_frame(text))

    def receive_binary(self, data: bytes) -> None:
        self._channel.write(Frame(Opcode.BINARY, data).serialize(mask=False))


async def behaviour(cases: list[str], folder: Path, **limits: Any) -> dict[str, str]:
    """Run `cases`: what each came to, its closing handshake included."""
    folder.mkdir()
    send_limits = SendLimits(hard_bytes=64 * MIB, grace_s=60.0)
    async with serving(send_limits=send_limits, websocket=limits) as gate:
        server = {"agent": "tidegate", "url": f"ws://127.0.0.1:{gate.port}/ws?types="}
        specification = folder / "fuzzingclient.json"
        specification.write_text(json.dumps({"outdir": str(folder), "servers": [server], "cases": cases}))
        suite = await asyncio.create_subprocess_exec(
            SUITE / "bin" / "wstest",
            "--mode=fuzzingclient",
            f"--spec={specification}",
            cwd=folder,
            env={**os.environ, "PYTHONUSERBASE": str(SUITE)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(SUITE_S):
                said, _ = await suite.communicate()
        finally:
            if suite.returncode is None:
                suite.kill()
                await suite.wait()
        assert suite.returncode == 0, said.decode()
    found = json.loads((folder / "index.json").read_text())["tidegate"]
    return {case: max(each["behavior"], each["behaviorClose"], key=RANKS.index) for case, each in found.items()}


@pytest.mark.real
@pytest.mark.skipif(not SUITE.exists(), reason="Autobahn's suite needs Python 2.7: see tools/install-check-tools")
async def test_every_case_is_as_good_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "Connection", Echo)
    raised = {
        "message_bytes": 16 * MIB,
        "send_buffer_hard_bytes": 64 * MIB,
        "frames": Rate(per_s=1e6, burst=1_000_000),
    }
    async with asyncio.TaskGroup() as suites:
        rules = suites.create_task(behaviour(RULES, tmp_path / "rules"))
        large = suites.create_task(behaviour(LARGE, tmp_path / "large", **raised))
    assert {**rules.result(), **large.result()} == json.loads(RECORD.read_text())


def test_what_was_recorded_is_good() -> None:
    recorded = json.loads(RECORD.read_text())
    groups = {case.partition(".")[0] for case in recorded}
    assert groups == {"1", "2", "3", "4", "5", "6", "7", "9", "10"}
    assert set(recorded.values()) <= GOOD
