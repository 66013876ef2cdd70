"""Reloads of a running gateway: all of a configuration is put in force in one step, or nothing is."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import certificates
import pytest
from structlog.testing import capture_logs

from tidegate import client, live_parts, parts
from tidegate.app import App, Parts, running
from tidegate.config import Config, from_document
from tidegate.core.reloads import ReloadAttempt
from tidegate.errors import AccessRefused, ConfigError, NothingToReload, Problem, ReloadUnderWay
from tidegate.outbound.auth import opening as authentication
from tidegate.outbound.backends import opening as backends
from tidegate.runtime import exchange
from tidegate.testing import Follower, ScriptedBackend

LIMITS = {"max_clients": 7}


def config(directory: Path | None = None, **tables: Any) -> Config:
    document = {"server": {"port": 0, "state_dir": ""}, **tables}
    document["server"] = {"port": 0, "state_dir": "", **document["server"]}
    return from_document(document, environ={}, directory=directory)


class File:
    """What stands in the file: a configuration, or a problem."""

    def __init__(self, content: Config) -> None:
        self.content: Config | Exception = content
        self.reads = 0

    def read(self) -> Config:
        self.reads += 1
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


class Counting(ScriptedBackend):
    closings = 0

    async def aclose(self) -> None:
        self.closings += 1
        await super().aclose()


class Endpoints:
    """Makes the backends of a gateway, and remembers all that it made, in order."""

    def __init__(self) -> None:
        self.made: list[Counting] = []
        self.fails_at: str | None = None

    def __call__(self, endpoint: backends.BackendEndpoint, _: object) -> Counting:
        if endpoint.name == self.fails_at:
            raise OSError(24, "Too many open files")
        self.made.append(Counting({"m": 1, "n": 2}))
        return self.made[-1]

    @property
    def closed(self) -> list[bool]:
        return [backend.closed for backend in self.made]


@pytest.fixture
def endpoints(monkeypatch: pytest.MonkeyPatch) -> Endpoints:
    made = Endpoints()
    monkeypatch.setattr(backends, "made", made)
    return made


@asynccontextmanager
async def reloadable(file: File, **parts_: Any) -> AsyncIterator[App]:
    assert isinstance(file.content, Config)
    async with running(file.content, Parts(**parts_), reread=file.read) as app:
        yield app


BACKENDS: dict[str, Any] = {"b": {"url": "http://b"}, "c": {"url": "http://c"}}
SOURCES: dict[str, Any] = {"s": {"backend": "b", "method": "m"}, "t": {"backend": "c", "method": "n"}}


async def test_a_changed_limit_is_put_in_force_and_named() -> None:
    file = File(config())
    async with reloadable(file) as app:
        file.content = config(server=LIMITS)
        answer = await app.reloads.reload()
        assert answer.changed.changed == ("server.max_clients",)
        assert app.gateway.options.max_clients == LIMITS["max_clients"]
        assert answer.needs_restart == ()
        assert answer.config_hash == app.reloads.config_hash


async def test_the_same_file_changes_nothing_and_counts_as_a_success() -> None:
    file = File(config(backends=BACKENDS, sources=SOURCES))
    async with reloadable(file, backends=scripted()) as app:
        before = app.reloads.config_hash
        answer = await app.reloads.reload()
        assert not answer.changed
        assert answer.unchanged == len(BACKENDS) + len(SOURCES)
        assert answer.config_hash == before
        assert app.reloads.last is not None
        assert app.reloads.last.outcome == "unchanged"


def scripted() -> dict[str, ScriptedBackend]:
    return {name: ScriptedBackend({"m": 1, "n": 2}) for name in BACKENDS}


async def test_without_a_file_there_is_nothing_to_reload() -> None:
    async with running(config()) as app:
        with pytest.raises(NothingToReload):
            await app.reloads.reload()
        answer = await app.reload(config(server=LIMITS))
    assert answer.changed.changed == ("server.max_clients",)


async def test_a_broken_file_is_refused_with_all_its_problems_and_may_be_mended() -> None:
    good = config()
    file = File(good)
    problems = [Problem("server.port", "a port", "7.5"), Problem("limits.patterns", "a number", '"x"')]
    async with reloadable(file) as app:
        attempts: list[ReloadAttempt] = []
        app.reloads.on_attempt = attempts.append
        file.content = ConfigError(problems)
        with capture_logs() as lines, pytest.raises(ConfigError) as refused:
            await app.reloads.reload()
        assert refused.value.problems == tuple(problems)
        assert [line["path"] for line in lines if "path" in line] == ["server.port", "limits.patterns"]
        file.content = good
        await app.reloads.reload()
    assert [attempt.outcome for attempt in attempts] == ["refused", "unchanged"]
    assert attempts[0].problems == tuple(problems)
    assert attempts[0].reloaded is None


async def test_metrics_say_that_the_last_attempt_failed_until_one_succeeds() -> None:
    file = File(config())
    async with reloadable(file) as app:
        assert await scraped(app, "tidegate_config_last_reload_successful") == 1
        file.content = ConfigError([Problem("x", "y", "z")])
        with pytest.raises(ConfigError):
            await app.reloads.reload()
        assert await scraped(app, "tidegate_config_last_reload_successful") == 0
        assert await scraped(app, 'tidegate_config_reloads_total{outcome="refused"}') == 1
        file.content = config()
        await app.reloads.reload()
        assert await scraped(app, "tidegate_config_last_reload_successful") == 1
        assert await scraped(app, 'tidegate_config_reloads_total{outcome="unchanged"}') == 1


async def scraped(app: App, series: str) -> float:

    reader, writer = await asyncio.open_connection("127.0.0.1", int(app.url.rpartition(":")[2]))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{series} "))


EVERYTHING = config(
    server={"max_clients": 7, "frame_ancestors": ["https://o.example"]},
    backends={"b": {"url": "http://elsewhere"}, "d": {"url": "http://d"}, "e": {"url": "http://e"}},
    sources={"s": {"backend": "b", "method": "m"}},
    auth={"mode": "token", "tokens": [{"token": "a-token-of-some-length"}]},
)

MAKERS = [
    (authentication, "made"),
    (backends, "made"),
    (parts, "BackendPoller"),
    (live_parts, "Gate"),
    (live_parts, "NewBackend"),
    (live_parts, "Rearrangement"),
    (parts, "http_api"),
]
"""What making the parts of `EVERYTHING` beside running ones calls."""


@pytest.mark.parametrize(("owner", "name"), MAKERS)
async def test_nothing_has_changed_after_a_part_could_not_be_made(
    owner: Any, name: str, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(config(backends=BACKENDS, sources=SOURCES))
    async with reloadable(file) as app:
        before = in_force(app)
        file.content = EVERYTHING
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, failing)
            with pytest.raises(RuntimeError):
                await app.reloads.reload()
        assert in_force(app) == before
        assert endpoints.closed[:2] == [False, False]
        assert all(endpoints.closed[2:])
        assert app.reloads.last is not None
        assert app.reloads.last.outcome == "error"


def failing(*_: object, **__: object) -> Any:
    raise RuntimeError


def in_force(app: App) -> object:
    return (app.gateway.options, app.reloads.config_hash, [source.type for source in app.supervisor.sources()])


async def test_a_reload_that_fails_half_way_closes_nothing_and_asks_for_a_restart(
    endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(config(backends=BACKENDS, sources=SOURCES))
    async with reloadable(file) as app:
        file.content = EVERYTHING
        with capture_logs() as logs:
            with monkeypatch.context() as patched:
                patched.setattr(app.supervisor, "rearrange", failing)
                with pytest.raises(live_parts.HalfInForce):
                    await app.reloads.reload()
            await asyncio.sleep(0)
            assert not any(endpoints.closed)
            with pytest.raises(ConfigError, match="a restart of the gateway"):
                await app.reloads.reload()
        assert [line["event"] for line in logs].count("a reload has failed half-way: restart the gateway") == 2
        assert not any("stays in force" in line["event"] for line in logs)
    assert all(endpoints.closed)
    assert [backend.closings for backend in endpoints.made] == [1] * len(endpoints.made)


async def test_a_backend_that_cannot_be_made_leaves_no_other_open(endpoints: Endpoints) -> None:
    file = File(config(backends=BACKENDS, sources=SOURCES))
    async with reloadable(file) as app:
        endpoints.fails_at = "e"
        file.content = EVERYTHING
        with pytest.raises(OSError, match="open files"):
            await app.reloads.reload()
        assert endpoints.closed == [False, False, True, True]
    assert all(endpoints.closed)
    assert [backend.closings for backend in endpoints.made] == [1, 1, 1, 1]


async def test_files_that_cannot_be_used_are_all_named(tmp_path: Path) -> None:
    file = File(config())
    (tmp_path / "nothing").touch()
    async with reloadable(file) as app:
        file.content = config(
            tmp_path,
            backends={name: {"url": f"https://{name}", "ca_file": "nothing"} for name in "bc"},
            auth={"mode": "token", "tokens": [{"token_file": "nothing"}]},
        )
        with pytest.raises(ConfigError) as refused:
            await app.reloads.reload()
    assert [problem.path for problem in refused.value.problems] == [
        "auth.tokens[0].token_file",
        "backends.b.ca_file",
        "backends.c.ca_file",
    ]


async def test_only_one_reload_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    file, held = File(config()), asyncio.Event()
    async with reloadable(file) as app:
        hold(monkeypatch, held)
        first = asyncio.create_task(app.reloads.reload())
        await asyncio.sleep(0)
        with pytest.raises(ReloadUnderWay):
            await app.reloads.reload()
        held.set()
        await first
        await app.reloads.reload()


def hold(monkeypatch: pytest.MonkeyPatch, until: asyncio.Event) -> None:
    """Have every reload wait before it makes something."""
    prepared = live_parts.LiveParts.prepared

    @asynccontextmanager
    async def waiting(self: live_parts.LiveParts, wanted: Any) -> AsyncIterator[live_parts.Prepared]:
        await until.wait()
        async with prepared(self, wanted) as made:
            yield made

    monkeypatch.setattr(live_parts.LiveParts, "prepared", waiting)


async def test_a_caller_that_is_cancelled_does_not_stop_the_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    file, held = File(config()), asyncio.Event()
    async with reloadable(file) as app:
        hold(monkeypatch, held)
        done: asyncio.Queue[ReloadAttempt] = asyncio.Queue()
        app.reloads.on_attempt = done.put_nowait
        file.content = config(server=LIMITS)
        caller = asyncio.create_task(app.reloads.reload())
        await asyncio.sleep(0.01)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        held.set()
        assert (await done.get()).outcome == "changed"
        assert app.gateway.options.max_clients == LIMITS["max_clients"]


async def test_the_end_of_the_gateway_ends_a_reload_and_leaves_nothing_open(
    endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(config(backends=BACKENDS, sources=SOURCES))

    async def never(*_: object) -> Any:
        await asyncio.Event().wait()

    async with reloadable(file) as app:
        monkeypatch.setattr(live_parts.LiveParts, "_door", never)  # the last step that waits
        file.content = EVERYTHING
        caller = asyncio.create_task(app.reloads.reload())
        while len(endpoints.made) < len(EVERYTHING.backends) + len(BACKENDS):
            await asyncio.sleep(0.001)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert all(endpoints.closed)
    with pytest.raises(ReloadUnderWay, match="ends"):
        await app.reloads.reload()


async def test_sources_and_backends_come_go_and_change_without_a_close() -> None:
    file = File(config(backends=BACKENDS, sources=SOURCES))
    backends_ = {name: ScriptedBackend({"m": 1, "n": 2}) for name in "bcd"}
    async with reloadable(file, backends=backends_) as app, client.connect(app.url, types=["*"]) as stream:
        events = Follower(stream)
        for backend in BACKENDS:
            await app.supervisor.poll(backend)
        await eventually(lambda: all(view.as_of is not None for view in app.supervisor.sources()))
        await events.next("source.freshness", where=lambda event: event.key == "t")  # it is connected from then on
        file.content = config(
            backends={"b": {"url": "http://b"}, "d": {"url": "http://d"}},
            sources={"s": {"backend": "b", "method": "m"}, "u": {"backend": "d", "method": "n"}},
        )
        answer = await app.reloads.reload()
        assert answer.changed.added == ("backends.d", "sources.u")
        assert answer.changed.removed == ("backends.c", "sources.t")
        assert answer.unchanged == len(["backends.b", "sources.s"])
        told = [await events.next(where=lambda event: event.gone) for _ in range(3)]
        gone = {"t": None, "source.freshness": "t", "circuit_breaker.state": "c"}
        assert {event.type: event.key for event in told} == gone
        assert (await events.next("u")).data == 2
        assert {view.type for view in app.supervisor.sources()} == {"s", "u"}
        assert {view.name for view in app.supervisor.breakers()} == {"b", "d"}
        assert not backends_["c"].closed  # it is the embedding program's, which may name it again
    assert all(backend.closed for backend in backends_.values())


async def test_a_removed_backend_is_closed_once_all_was_said(endpoints: Endpoints) -> None:
    file = File(config(backends=BACKENDS, sources=SOURCES))
    async with reloadable(file) as app:
        file.content = config(backends={"b": BACKENDS["b"]}, sources={"s": SOURCES["s"]})
        await app.reloads.reload()
        await eventually(lambda: endpoints.closed == [False, True])


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5.0):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_another_address_gets_another_session_and_the_old_one_is_closed(endpoints: Endpoints) -> None:
    file = File(config(backends=BACKENDS, sources=SOURCES))
    async with reloadable(file) as app:
        file.content = config(backends={**BACKENDS, "b": {"url": "http://elsewhere"}}, sources=SOURCES)
        await app.reloads.reload()
        await eventually(lambda: endpoints.closed == [True, False, False])
        await app.supervisor.poll("b")
        await eventually(lambda: bool(endpoints.made[2].exchanges))


async def test_a_changed_interval_keeps_the_session(endpoints: Endpoints) -> None:
    file = File(config(backends=BACKENDS, sources=SOURCES))
    async with reloadable(file) as app:
        file.content = config(backends=BACKENDS, sources={**SOURCES, "s": {**SOURCES["s"], "interval_s": 60.0}})
        answer = await app.reloads.reload()
        assert answer.changed.changed == ("sources.s.interval_s",)
        assert len(endpoints.made) == len(BACKENDS)
        assert [view.interval_s for view in app.supervisor.sources()] == [60.0, 5.0]


async def test_a_backend_whose_close_hangs_holds_up_nothing_but_the_end(
    endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "CLOSE_S", 0.05)

    async def hang(self: Counting) -> None:
        self.closings += 1
        await asyncio.Event().wait()

    file = File(config(backends=BACKENDS, sources=SOURCES))
    async with reloadable(file) as app:
        monkeypatch.setattr(Counting, "aclose", hang)
        file.content = config(backends={"b": BACKENDS["b"]}, sources={"s": SOURCES["s"]})
        await app.reloads.reload()
        file.content = config(backends=BACKENDS, sources=SOURCES)
        await app.reloads.reload()
        assert len(app.supervisor.sources()) == len(SOURCES)
    assert [backend.closings for backend in endpoints.made] == [1, 1, 1]


async def test_a_storm_of_reloads_leaves_one_of_each_part(endpoints: Endpoints) -> None:
    small, large = config(backends={"b": BACKENDS["b"]}), config(backends=BACKENDS, sources=SOURCES)
    file = File(small)
    async with reloadable(file) as app:
        for number in range(30):
            file.content = small if number % 2 else large
            await app.reloads.reload()
        assert [view.name for view in app.supervisor.breakers()] == []
        await eventually(lambda: sum(not closed for closed in endpoints.closed) == len(small.backends))
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert sum(name.startswith("poller ") for name in names) == len(small.backends)
    assert [backend.closings for backend in endpoints.made] == [1] * len(endpoints.made)


async def test_many_sources_are_swapped_in_one_turn() -> None:
    def many(backend: str, interval_s: float) -> Config:
        sources = {f"s{n}": {"backend": backend, "method": "m", "interval_s": interval_s} for n in range(200)}
        return config(backends=BACKENDS, sources=sources)

    file = File(many("b", 60.0))
    async with reloadable(file, backends=scripted()) as app:
        seen = []

        async def look() -> None:
            while True:
                seen.append(frozenset((view.backend, view.interval_s) for view in app.supervisor.sources()))
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        file.content = many("c", 30.0)
        await app.reloads.reload()
        await asyncio.sleep(0.05)
        looking.cancel()
    assert set(seen) == {frozenset({("b", 60.0)}), frozenset({("c", 30.0)})}


async def test_an_added_source_does_not_make_the_gateway_unready() -> None:
    file, backend = File(config(backends=BACKENDS, sources={"s": SOURCES["s"]})), scripted()
    async with reloadable(file, backends=backend) as app:
        await eventually(lambda: app.supervisor.readiness().status == "ready")
        backend["c"].hang()
        file.content = config(backends=BACKENDS, sources=SOURCES)
        await app.reloads.reload()
        assert app.supervisor.readiness().status == "degraded"
        backend["c"].recover()


async def test_a_reload_while_draining_is_put_in_force() -> None:
    file = File(config(server={"drain_s": 0.2, "drain_min_s": 0.2}))
    async with reloadable(file) as app:
        draining = asyncio.create_task(app.drain())
        await eventually(lambda: app.gateway.clients.draining)
        file.content = config(server=LIMITS)
        await app.reloads.reload()
        assert app.gateway.options.max_clients == LIMITS["max_clients"]
        assert app.gateway.clients.draining
        await draining


async def test_what_needs_a_restart_is_shown_until_the_file_goes_back() -> None:
    file = File(config())
    async with reloadable(file) as app:
        file.content = config(server={"port": 1, "root_path": "/p", **LIMITS})
        with capture_logs() as lines:
            answer = await app.reloads.reload()
        assert answer.needs_restart == app.reloads.needs_restart == ("server.port", "server.root_path")
        assert [line["keys"] for line in lines if line["log_level"] == "warning"] == [answer.needs_restart]
        assert app.gateway.options.max_clients == LIMITS["max_clients"]
        assert (await app.reloads.reload()).needs_restart == answer.needs_restart
        file.content = ConfigError([Problem("x", "y", "z")])
        with pytest.raises(ConfigError):
            await app.reloads.reload()
        assert app.reloads.needs_restart == answer.needs_restart
        file.content = config(server=LIMITS)
        assert not (await app.reloads.reload()).needs_restart
        assert not app.reloads.needs_restart


async def test_an_address_that_stays_open_to_others_is_not_left_without_tokens() -> None:
    tokens = {"mode": "token", "tokens": [{"token": "a-token-of-some-length"}]}
    file = File(config(server={"host": "0.0.0.0"}, auth=tokens))
    async with reloadable(file) as app:
        file.content = config()  # on loopback, no token is needed; but we still listen for everybody
        with pytest.raises(ConfigError, match="in force until the restart"):
            await app.reloads.reload()
        with pytest.raises(AccessRefused) as turned_away:
            async with client.connect(app.url) as stream:
                await anext(stream)
    assert turned_away.value.status == 401


async def test_a_record_that_cannot_be_kept_does_not_fail_the_reload() -> None:
    def full(_: ReloadAttempt) -> None:
        raise OSError(28, "No space left on device")

    file = File(config())
    async with reloadable(file) as app:
        app.reloads.on_attempt = full
        assert (await app.reloads.reload()).unchanged == 0


async def test_a_renewed_certificate_for_a_backend_gets_a_new_session(endpoints: Endpoints, tmp_path: Path) -> None:
    authority = certificates.written_to(tmp_path).ca
    tables = {"b": {"url": "https://b", "ca_file": str(authority)}, "c": BACKENDS["c"]}
    file = File(config(backends=tables, sources=SOURCES))
    async with reloadable(file) as app:
        assert not (await app.reloads.reload()).changed
        authority.write_bytes((tmp_path / "other.pem").read_bytes())
        assert (await app.reloads.reload()).changed.changed == ("backends.b.ca_file",)
        await eventually(lambda: endpoints.closed == [True, False, False])
        assert not (await app.reloads.reload()).changed
        assert [view.name for view in app.supervisor.breakers() if view.state != "closed"] == []


async def test_a_renewed_certificate_of_our_own_is_shown_and_named(tmp_path: Path) -> None:
    pem = certificates.written_to(tmp_path).server
    file = File(config(server={"tls_cert_file": str(pem), "tls_key_file": str(pem)}))
    async with reloadable(file) as app:
        assert not (await app.reloads.reload()).changed
        pem.write_bytes((tmp_path / "named.pem").read_bytes())
        assert (await app.reloads.reload()).changed.changed == ("server.tls_cert_file",)
        shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", int(app.url.rpartition(":")[2])))
    assert shown.strip() in pem.read_text()
