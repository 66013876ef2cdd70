"""Schemathesis against a real server: no 5xx, and no answer that the OpenAPI document does not tell of."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from serving import GRANTS, serving

STREAMS = ("event_stream", "websocket")
"""They answer for ever, or with 426 to what is no handshake; tests of their own know them."""


@pytest.mark.real
@pytest.mark.parametrize("token", ["", "all", "sub"])
async def test_every_answer_is_documented(token: str, tmp_path: Path) -> None:
    async with serving(grants=GRANTS if token else None) as gate:
        arguments = ["run", f"{gate.url}/openapi.json", "--max-examples", "20", "--seed", "1", "--no-color"]
        for name in STREAMS:
            arguments += ["--exclude-operation-id", name]
        if token:
            arguments += ["--header", f"Authorization: Bearer {token}"]
        fuzzer = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / "st",
            *arguments,
            cwd=tmp_path,
            env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await fuzzer.communicate()
    assert fuzzer.returncode == 0, output.decode()
