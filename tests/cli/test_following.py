import asyncio
import io
import json
import sys

import pytest
from scripted_gateway import Peer, problem, scripted

from tidegate.cli.following import Following, follow
from tidegate.errors import AccessRefused, Unreachable


async def script(peer: Peer) -> None:
    await peer.welcome("e1", 7)
    await peer.send("a", {"x": 1}, seq=6, snapshot=True)
    await peer.send("gap", {"reason": "slow_consumer", "requested": None, "skipped": {}})
    await peer.send("b", 2, seq=8)
    await peer.send("c", 3, seq=9)
    await peer.stay()


async def followed(url: str, **options: object) -> int:
    return await asyncio.wait_for(follow(asyncio.Event(), Following(**options), url=url), 20)  # type: ignore[arg-type]


async def test_events_and_gaps_are_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted(script) as gateway:
        assert await followed(gateway.url, types=("a", "b"), count=2, token="t") == 0
        assert gateway.requests == ["/ws?types=a,b,heartbeat"]
        assert gateway.headers[0]["Authorization"] == "Bearer t"
    captured = capsys.readouterr()
    assert [json.loads(line)["type"] for line in captured.out.splitlines()] == ["a", "gap", "b"]
    assert captured.err == ""


async def test_nothing_of_an_event_steers_the_terminal_and_its_value_stays(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\x1b[2J \x9b31m \u202e é"

    async def steering(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        stamp = '"timestamp":"2026-11-22T21:40:03.123Z"'
        await peer.connection.send(f'{{"type":"a",\r{stamp},"seq":8,\n"data":{json.dumps(text, ensure_ascii=False)}}}')
        await peer.stay()

    async with scripted(steering) as gateway:
        assert await followed(gateway.url, count=1) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert "é" in line
    assert json.loads(line)["data"] == text


async def test_nothing_that_ends_a_connection_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    async def leaving(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.close(1012, "bye\x1b[2J\u202e\nfine")

    async def again(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.send("a", 1, seq=8)
        await peer.stay()

    async with scripted(leaving, again) as gateway:
        assert await followed(gateway.url, count=1) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert r"disconnected: bye\x1b[2J\u202e\nfine; next try" in line


@pytest.mark.parametrize(("count", "code"), [(None, 0), (100, 1)])
async def test_a_duration_that_ends_before_the_count_is_a_failure(count: int | None, code: int) -> None:
    async with scripted(script) as gateway:
        assert await followed(gateway.url, count=count, duration_s=0.05) == code


async def test_a_stop_ends_it_well(capsys: pytest.CaptureFixture[str]) -> None:
    stopped = asyncio.Event()

    async def stopping(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        stopped.set()
        await peer.stay()

    async with scripted(stopping) as gateway:
        assert await asyncio.wait_for(follow(stopped, Following(count=5), url=gateway.url), 20) == 0
    assert capsys.readouterr().out == ""


async def test_where_nobody_listens_it_ends_at_once() -> None:
    async with scripted(script) as gateway:
        pass
    with pytest.raises(Unreachable, match=r"no gateway answers at http.*: connection refused"):
        await followed(gateway.url)


async def test_a_refusal_ends_it() -> None:
    async with scripted(problem(403, "not allowed")) as gateway:
        with pytest.raises(AccessRefused, match="not allowed"):
            await followed(gateway.url)


async def test_a_connection_lost_later_is_told_and_taken_up_again(capsys: pytest.CaptureFixture[str]) -> None:
    async def draining(peer: Peer) -> None:
        await peer.welcome("e1", 7)
        await peer.answer_ping()
        await peer.close(1012, "draining")

    async def resumed(peer: Peer) -> None:
        await peer.welcome("e1", 7, resumed=True)
        await peer.send("a", 1, seq=8)
        await peer.stay()

    async with scripted(draining, resumed) as gateway:
        assert await followed(gateway.url, count=1) == 0
    captured = capsys.readouterr()
    assert "disconnected: draining; next try in" in captured.err
    assert "reconnected, nothing was missed" in captured.err
    assert len(captured.out.splitlines()) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_on_a_terminal_it_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    async with scripted(script) as gateway:
        assert await followed(gateway.url, count=3) == 0
    text = terminal.getvalue()
    assert "connected to scripted/1" in text
    assert "x=1" in text
    assert "events are missing" in text
    assert text.endswith("\x1b[?25h")  # the cursor is shown again


async def test_json_wins_over_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    terminal = io.TextIOWrapper(buffer)
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", terminal)
    async with scripted(script) as gateway:
        assert await followed(gateway.url, json=True, count=1) == 0
    assert json.loads(buffer.getvalue().splitlines()[0])["type"] == "a"
