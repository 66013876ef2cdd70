"""The plug-in keeps its contract with a server that is scripted: it also hangs, breaks off, and talks nonsense."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import msgspec
import pytest
from tidegate_nut import Nut

from tidegate.errors import Disconnected, InvalidResponse, LoginRefused
from tidegate.ports import Backend, Call
from tidegate.testing import opened_plugin
from tidegate.testing.contracts import PluginContract

SUPPLY = r"""BEGIN LIST VAR rack
VAR rack battery.charge "97.50"
VAR rack ups.serial "00042"
VAR rack device.description "the \"big\" one \\ cellar"
END LIST VAR rack
"""
RACK = b'{"battery.charge":97.50,"ups.serial":"00042","device.description":"the \\"big\\" one \\\\ cellar"}'

ANSWERS = {
    "LIST UPS": 'BEGIN LIST UPS\nUPS rack "Rack"\nEND LIST UPS\n',
    "LIST VAR rack": SUPPLY,
    'USERNAME "me"': "OK\n",
    'PASSWORD "a \\"b\\" c"': "OK\n",
}


@asynccontextmanager
async def scripted(answers: Mapping[str, str]) -> AsyncIterator[int]:
    """A server that answers each line as `answers` say, "HANG" never, and "" by closing; its port."""
    connections: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.current_task()] = writer
        try:
            while line := (await reader.readline()).decode().strip():
                answer = answers.get(line, "ERR UNKNOWN-UPS\n")
                if answer == "HANG":
                    await reader.read()
                if not answer:
                    break
                writer.write(answer.encode())
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()  # since Python 3.12, waiting for its end waits for what a client never closes
        for writer in connections.values():
            writer.transport.abort()
        await asyncio.gather(*filter(None, connections), return_exceptions=True)
        await asyncio.sleep(0)


class Contract(PluginContract):
    plugin = Nut
    secrets: ClassVar = {"pw": 'a "b" c'}
    answers: ClassVar = {"ups": b'{"rack":' + RACK + b"}"}
    error = "no such method"
    more: ClassVar[Mapping[str, str]] = {}

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Mapping[str, Any]]:
        async with scripted({**ANSWERS, **self.more}) as port:
            yield {"port": port, "username": "me", "password": "{pw}"}


class TestAnswers(Contract):
    @asynccontextmanager
    async def unreachable(self) -> AsyncIterator[Backend]:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        async with opened_plugin(Nut, {"port": port}) as backend:
            yield backend


@pytest.mark.parametrize(
    ("line", "answer", "error"),
    [
        ("LIST UPS", "nonsense\n", InvalidResponse),
        ("LIST UPS", 'BEGIN LIST UPS\nUPS rack "Rack\nEND LIST UPS\n', InvalidResponse),
        ("LIST UPS", "BEGIN LIST UPS\nUPS\n", InvalidResponse),
        ("LIST UPS", "BEGIN LIST UPS\nOTHER rack x\n", InvalidResponse),
        ("LIST UPS", "BEGIN LIST UPS\n" + "UPS a b\n" * 500, InvalidResponse),
        ("LIST UPS", "x" * 5000 + "\n", InvalidResponse),
        ("LIST UPS", "\udcff\n".encode("latin-1", "replace").decode(), InvalidResponse),
        ("LIST VAR rack", "", Disconnected),
        ('USERNAME "me"', "ERR INVALID-USERNAME\n", LoginRefused),
        ('PASSWORD "a \\"b\\" c"', "ERR ACCESS-DENIED\n", LoginRefused),
    ],
)
async def test_what_goes_wrong_is_the_right_error_and_the_next_call_is_well(
    line: str, answer: str, error: type[Exception]
) -> None:
    answers = {**ANSWERS, line: answer}
    async with scripted(answers) as port:
        options = {"port": port, "username": "me", "password": "{pw}"}
        async with opened_plugin(Nut, options, secrets=Contract.secrets, response_bytes=1000) as backend:
            with pytest.raises(error):
                await backend.call([Call("ups")])
            answers[line] = ANSWERS[line]
            assert await backend.call([Call("ups")]) == [msgspec.Raw(Contract.answers["ups"])]


async def test_a_call_that_hangs_is_cancelled_or_closed_without_a_trace() -> None:
    answers = {**ANSWERS, "LIST UPS": "HANG"}
    async with scripted(answers) as port, opened_plugin(Nut, {"port": port}) as backend:
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await backend.call([Call("ups")])
        answers["LIST UPS"] = ANSWERS["LIST UPS"]
        assert await backend.call([Call("ups")]) == [msgspec.Raw(Contract.answers["ups"])]
        answers["LIST UPS"] = "HANG"
        call = asyncio.ensure_future(backend.call([Call("ups")]))
        await asyncio.sleep(0.05)
        await backend.aclose()
        with pytest.raises(Disconnected):
            await call
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks() - before) <= 2, "only those of the server"


async def test_the_variables_of_one_supply() -> None:
    async with scripted(ANSWERS) as port, opened_plugin(Nut, {"port": port}) as backend:
        answers = await backend.call(
            [
                Call("variables", msgspec.Raw(b'{"ups":"rack"}')),
                Call("variables", msgspec.Raw(b'{"ups":"other"}')),
                Call("variables"),
                Call("variables", msgspec.Raw(b'{"ups":"rack\\nLIST UPS"}')),
            ]
        )
    assert answers[0] == msgspec.Raw(RACK)
    assert [str(answer) for answer in answers[1:]] == [
        "upsd says UNKNOWN-UPS",
        'expected params = { ups = "NAME" }',
        'expected params = { ups = "NAME" }',
    ]


@pytest.mark.parametrize("options", [{"username": "me"}, {"username": "a\nb", "password": "{pw}"}, {"port": 0}])
async def test_options_that_make_no_sense_are_refused(options: Mapping[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        async with opened_plugin(Nut, options, secrets={"pw": "x"}):
            pass
