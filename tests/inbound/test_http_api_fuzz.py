"""Schemathesis against a real server: no 5xx, and no answer that the OpenAPI document does not tell of."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from fanout import draft
from serving import GRANTS, serving

CONFIG = """
max-stream-events = 1
request-timeout = 20.0

[dictionaries]
breakers.values = ["engine", "disks", "disks/storage.update"]
backends.values = ["engine", "disks"]
sources.values = ["system.status", "storage.update"]
types.values = ["app.known", "app.known", "app.known", "system.status", "source.freshness"]

[parameters]
event_type = { dictionary = "types", probability = 0.7 }

[[operations]]
include-operation-id-regex = "breaker"
parameters.name = { dictionary = "breakers", probability = 0.7 }

[[operations]]
include-operation-id = "poll"
parameters.name = { dictionary = "backends", probability = 0.7 }
parameters.source = { dictionary = "sources", probability = 0.7 }

[[operations]] # patterns may be too long, which their schema cannot say
include-operation-id = "event_stream"
checks.positive_data_acceptance.enabled = false

[[operations]] # a fuzzer's request is no handshake: 426, whatever its query
include-operation-id = "websocket"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.enabled = false
"""
"""Names that there are, so that not only refusals are seen."""


@pytest.mark.real
async def test_every_answer_is_documented(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as fuzzers:
        for token in ("", "all", "sub"):
            fuzzers.create_task(fuzz(token, tmp_path / f"token {token}"))


async def fuzz(token: str, folder: Path) -> None:
    """Fuzz every route with `token`; "" asks a server that wants none."""
    folder.mkdir()
    (folder / "schemathesis.toml").write_text(CONFIG)
    async with serving(grants=GRANTS if token else None) as gate:
        await gate.house.gateway.publish([draft("app.known", 1, retain=True)])
        arguments = ["run", f"{gate.url}/openapi.json", "--max-examples", "20", "--seed", "1", "--no-color"]
        if token:
            arguments += ["--header", f"Authorization: Bearer {token}"]
        fuzzer = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / "st",
            *arguments,
            cwd=folder,
            env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(folder)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await fuzzer.communicate()
        finally:
            if fuzzer.returncode is None:
                fuzzer.kill()
                await fuzzer.wait()
        assert fuzzer.returncode == 0, output.decode()
        if token != "sub":
            actions = {action for _, action, _ in gate.supervisor.commands}
            assert actions == {"force-open", "force-closed", "reset"}
            assert gate.supervisor.polled
