"""What a plug-in does wrong is contained, told with its name, and harms no other backend."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins import Echo, EchoPlugin, call, install
from polling import backend_plan, source_plan
from structlog.testing import capture_logs

from tidegate.backends import BackendContext
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.outcome import Fault, Verdict
from tidegate.errors import ConfigError, Disconnected, InvalidResponse, NoCredentials, Problem
from tidegate.outbound.backends import opening
from tidegate.outbound.backends.opening import BackendEndpoint
from tidegate.outbound.backends.plugins import driven
from tidegate.outbound.backends.plugins.backend import PluginOptions
from tidegate.outbound.clock import SystemClock
from tidegate.ports import Backend
from tidegate.runtime import exchange
from tidegate.runtime.exchange import Prepared, can_knock, prepare
from tidegate.runtime.hinting import can_hint
from tidegate.secret_place import SecretPlace
from tidegate.testing import ScriptedBackend

LABEL = '"echo" of tidegate-test 1.2'


def made(maker: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    install(monkeypatch, {"echo": maker})
    given = PluginOptions(timeout_s=2.0, response_bytes=1000, **{"options": {"host": "h"}, **options})
    return opening.made(BackendEndpoint("b", "echo", given), SystemClock())


async def test_a_plug_in_gets_its_options_and_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = EchoPlugin()
    backend = made(plugin, monkeypatch)
    (echo,) = plugin.opened
    assert (echo.options.host, echo.options.port, echo.options.password) == ("h", 3493, None)
    context: BackendContext = echo.context
    assert (context.name, context.timeout_s, context.response_bytes) == ("b", 2.0, 1000)
    assert context.tls_context().check_hostname
    with capture_logs() as lines:
        context.log.info("hello")
    assert (lines[0]["backend"], lines[0]["plugin"]) == ("b", LABEL)
    assert await backend.call(call("hello")) == [msgspec.Raw(b'"hello"')]
    await backend.aclose()
    assert echo.is_closed


async def test_a_secret_is_what_it_is_at_the_time_of_the_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, plugin = tmp_path / "pw", EchoPlugin()
    options = {"host": "h", "password": "<{pw}>"}
    backend = made(plugin, monkeypatch, options=options, secrets={"pw": SecretPlace(setting="s", file=file)})
    (echo,) = plugin.opened
    with pytest.raises(RuntimeError, match="needed in a call only"):
        echo.options.password.reveal()
    with pytest.raises(NoCredentials):
        await backend.prepare()
    keys = set()
    for text in ("aardvark", "badger\n"):
        file.write_text(text)
        keys.add((await backend.prepare()).secret)
        assert echo.options.password.reveal() == f"<{text.strip()}>"
        assert text.strip() not in f"{echo.options} {backend.__dict__} {echo.options.password!s}"
    assert len(keys) == 2
    assert not any(b"aardvark" in key or b"badger" in key for key in keys)


class OpensBadly(EchoPlugin):
    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__()
        self.act = act

    def open(self, options: Any, context: BackendContext) -> Backend:
        return self.act() or super().open(options, context)


def boom() -> None:
    raise KeyError("boom")


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (boom, "KeyError: 'boom'"),
        (lambda: sys.exit(3), "SystemExit: 3"),
        (lambda: 7, "TypeError: expected open() to return a backend with call and aclose, got <class 'int'>"),
    ],
)
async def test_a_backend_that_cannot_be_opened_is_opened_again_by_the_next_exchange(
    act: Callable[[], Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = OpensBadly(act)
    with capture_logs() as lines:
        backend = made(plugin, monkeypatch)
        with pytest.raises(InvalidResponse) as raised:
            await backend.call(call())
    assert told in str(raised.value)
    assert LABEL in str(raised.value)
    assert [line["log_level"] for line in lines] == ["error"], "once, not with each exchange"
    plugin.act = lambda: None
    assert await backend.call(call("now")) == [msgspec.Raw(b'"now"')]


def test_what_only_a_human_can_mend_refuses_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ConfigError([Problem("options.host", "a host of ours", "another")])

    with pytest.raises(ConfigError, match=r"^backends\.b\.options\.host: expected a host of ours, got another$"):
        made(OpensBadly(refuse), monkeypatch)


def test_an_examination_opens_nothing_and_tells_what_is_wrong_with_files(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = EchoPlugin()
    install(monkeypatch, {"echo": plugin})
    options = PluginOptions(timeout_s=2.0, response_bytes=1000, options={"host": "h"}, ca_file=Path("/nowhere/ca"))
    with pytest.raises(ConfigError, match=r"^backends\.b\.ca_file: expected"):
        opening.examine(BackendEndpoint("b", "echo", options))
    assert plugin.opened == []


async def fault_of(maker: Any, monkeypatch: pytest.MonkeyPatch) -> Fault:
    """What an exchange with the backend of `maker` leads to."""
    plan = backend_plan(source_plan("a.x", 1.0), rules=BreakerRules())
    prepared = await prepare(made(maker, monkeypatch), plan, SystemClock())
    assert isinstance(prepared, Prepared)
    [(outcome, _)] = await exchange.exchange(prepared, plan, plan.sources, SystemClock())
    assert isinstance(outcome, Fault)
    return outcome


class Odd(BaseException):
    """No `Exception`, as `SystemExit` is none."""


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([msgspec.Raw(b"not json")], f"{LABEL}: expected JSON, got b'not json'"),
        ([msgspec.Raw(b"1"), msgspec.Raw(b"1")], f"{LABEL}: expected 1 answers, got 2"),
        (None, f"{LABEL}: expected a list of 1 answers, got NoneType"),
        ([b"1"], f"{LABEL}: expected a msgspec.Raw or a BackendError as an answer, got bytes"),
        (KeyError("boom"), f"{LABEL} failed: KeyError: 'boom'"),
        ("sync", f"{LABEL} failed: TypeError: expected Sync.call to be async, got list at once"),
        (SystemExit(3), f"{LABEL} failed: SystemExit: 3"),
        (Odd("far"), f"{LABEL} failed: Odd: far"),
    ],
    ids=str,
)
async def test_what_a_call_does_wrong_is_told_with_the_name_of_the_plug_in(
    answer: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(Echo):
        answers_are_compact = True  # it says so

        async def call(self, calls: Any) -> Any:
            if isinstance(answer, BaseException):
                raise answer
            return answer

    class Sync(Echo):
        def call(self, calls: Any) -> Any:
            return [msgspec.Raw(b"1")]

    Sync.call.__qualname__ = "Sync.call"

    class Plugin(EchoPlugin):
        def open(self, options: Any, context: BackendContext) -> Backend:
            return (Sync if answer == "sync" else Wrong)(options, context)

    fault = await fault_of(Plugin, monkeypatch)
    assert fault.code == "RPC_INVALID_RESPONSE"
    assert fault.verdict is Verdict.FAILURE, "the breaker counts it"
    assert fault.message.startswith(told)


async def test_an_error_that_the_contract_allows_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(Echo):
        async def call(self, calls: Any) -> Any:
            raise Disconnected("nobody there")

    class Plugin(EchoPlugin):
        def open(self, options: Any, context: BackendContext) -> Backend:
            return Away(options, context)

    with capture_logs() as lines, pytest.raises(Disconnected):
        await made(Plugin, monkeypatch).call(call())
    assert lines == []


async def test_what_a_plug_in_says_is_told_without_secrets_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    canary = "c4n4ry-in-the-mine"
    (tmp_path / "pw").write_text(canary)
    errors: list[Exception] = [KeyError(f"no {canary}"), KeyError(f"no {canary}"), Disconnected(f"{canary} refused")]

    class Telling(Echo):
        async def call(self, calls: Any) -> Any:
            raise errors.pop(0)

    class Plugin(EchoPlugin):
        def open(self, options: Any, context: BackendContext) -> Backend:
            return Telling(options, context)

    backend = made(Plugin, monkeypatch, secrets={"pw": SecretPlace(setting="s", file=tmp_path / "pw")})
    with capture_logs() as lines:
        for _ in range(2):
            with pytest.raises(InvalidResponse, match=r"no \*\*\*"):
                await backend.call(call())
        with pytest.raises(Disconnected, match=r"\*\*\* refused"):
            await backend.call(call())
    assert canary not in str(lines)
    [line] = lines
    assert (line["event"], line["log_level"]) == ("a plug-in failed", "error")
    assert line["trace"][-1].startswith(f"{__file__}, line ")
    assert (await backend.prepare()).scrubbed(f"a {canary}") == "a ***"


async def test_it_knocks_and_prepares_where_the_plug_in_does(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin(EchoPlugin):
        def open(self, options: Any, context: BackendContext) -> Backend:
            return ScriptedBackend({"m": 1})

    assert not can_knock(made(EchoPlugin, monkeypatch))
    backend = made(Plugin, monkeypatch)
    assert can_knock(backend)
    await backend.knock()
    ask = await backend.prepare()
    assert await ask(call()) == [msgspec.Raw(b"1")]
    assert ask.connected is True


async def test_it_hints_where_the_plug_in_does_and_tells_what_is_wrong_with_that_without_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pw").write_text("c4n4ry-in-the-mine")
    ended = []

    class Hinting(Echo):
        async def hints(self) -> AsyncIterator[str | None]:
            try:
                yield "jobs"
                yield None
                raise OSError(f"no {self.options.password.reveal()}")
            finally:
                ended.append(True)

    class Plugin(EchoPlugin):
        def open(self, options: Any, context: BackendContext) -> Backend:
            return Hinting(options, context)

    assert not can_hint(made(EchoPlugin, monkeypatch))
    secrets = {"pw": SecretPlace(setting="s", file=tmp_path / "pw")}
    backend = made(Plugin, monkeypatch, options={"host": "h", "password": "{pw}"}, secrets=secrets)
    assert can_hint(backend)
    hints = backend.hints()
    assert [await anext(hints), await anext(hints)] == ["jobs", None]
    with capture_logs() as lines, pytest.raises(InvalidResponse, match=r"failed to give hints: .*no \*\*\*"):
        await anext(hints)
    assert ended == [True]
    assert "c4n4ry" not in str(lines)
    given_up = backend.hints()
    await anext(given_up)
    await given_up.aclose()
    assert len(ended) == 2


async def test_hints_that_swallow_every_cancellation_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Echo):
        async def hints(self) -> AsyncIterator[str | None]:
            yield None
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600.0)

    class Plugin(EchoPlugin):
        def open(self, options: Any, context: BackendContext) -> Backend:
            return Hanging(options, context)

    async def follow() -> None:
        async for _ in made(Plugin, monkeypatch).hints():
            begun.set()

    monkeypatch.setattr(driven, "GRACE_S", 0.01)
    begun = asyncio.Event()
    with capture_logs() as lines:
        following = asyncio.create_task(follow())
        await begun.wait()
        await asyncio.sleep(0)
        following.cancel()
        done, _ = await asyncio.wait([following], timeout=10.0)
    assert following in done
    assert following.cancelled()
    assert "a plug-in went on after it was cancelled, and was left behind" in [line["event"] for line in lines]


async def test_a_close_that_never_ends_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Echo):
        async def aclose(self) -> None:
            while True:
                try:
                    await asyncio.sleep(3600.0)
                except asyncio.CancelledError:
                    continue

    class Plugin(EchoPlugin):
        def open(self, options: Any, context: BackendContext) -> Backend:
            return Hanging(options, context)

    monkeypatch.setattr(driven, "GRACE_S", 0.01)
    monkeypatch.setattr(exchange, "CLOSE_S", 0.01)
    backend = made(Plugin, monkeypatch)
    with capture_logs() as lines:
        async with asyncio.timeout(20.0):
            await exchange.close(backend, "b")
    assert [line["event"] for line in lines] == [
        "a plug-in went on after it was cancelled, and was left behind",
        "a backend could not be closed",
    ]
