"""The step before a call: our own token is read, once, and nothing is sent without it."""

import asyncio
from pathlib import Path

import pytest
from scripted_http import answering, http_response, scripted

from tidegate.errors import NoCredentials
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend
from tidegate.outbound.http_client import options
from tidegate.ports import Call


@pytest.mark.parametrize("kind", [HttpJsonBackend, JsonRpcBackend])
async def test_the_token_is_read_once_for_each_call_and_before_anything_is_sent(
    kind: type[HttpJsonBackend] | type[JsonRpcBackend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read = options._read_token

    def counted(path: Path) -> str:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(options, "_read_token", counted)
    token = tmp_path / "token"
    async with scripted(answering(http_response(b"{}"))) as server:
        backend = kind(HttpOptions(url=server.url, bearer_token_file=token))
        with pytest.raises(NoCredentials, match="No such file"):
            await backend.prepare()
        assert (len(server.peers), len(reads)) == (0, 1)
        token.write_text("one")
        ask = await backend.prepare()
        token.write_text("two")
        await asyncio.gather(ask([Call("x")]), return_exceptions=True)
        assert len(reads) == 2
        await asyncio.gather(backend.call([Call("x")]), return_exceptions=True)
        assert len(reads) == 3
        await backend.aclose()
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer one", "Bearer two"]
