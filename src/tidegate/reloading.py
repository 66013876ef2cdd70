"""Reloads the configuration of a running gateway: all of it or nothing, in one turn of the event loop.

First everything is read, checked and made beside what is running, which goes on meanwhile. If anything is wrong, that
is thrown away. Otherwise `tidegate.live_parts` puts it in force.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import structlog

from tidegate.checks import startup_problems
from tidegate.config import Config
from tidegate.config.differing import differences, unchanged, without_restart
from tidegate.config.fingerprint import config_hash
from tidegate.core.instant import Instant
from tidegate.core.measurements import ConfigReloaded
from tidegate.core.reloads import ReloadAttempt, Reloaded, ReloadOutcome
from tidegate.errors import ConfigError, NothingToReload, Problem, ReloadUnderWay
from tidegate.live_parts import HalfInForce, LiveParts
from tidegate.plan import Plan, plan
from tidegate.ports import Clock, Metrics, Reading

Reread = Callable[[], Config]
"""Reads the configuration again, from where it was read at the start. May block. Raises `ConfigError`."""

log = structlog.get_logger("tidegate.reload")


class NewConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that was read again, and what a running gateway can take on of it."""

    in_force: Config
    needs_restart: tuple[str, ...]
    plan: Plan
    hash: str


class Reloads:
    """Reloads the configuration of one gateway, which began with `config`. Only while the context `of` is open.

    `reread` is None if there is nowhere to read it from again.
    """

    def __init__(self, config: Config, *, reread: Reread | None, clock: Clock, metrics: Metrics) -> None:
        self._started = self._config = config  # the latter is in force
        self._reread = reread
        self._clock = clock
        self._metrics = metrics
        self._hash: str | None = None
        self._parts: LiveParts | None = None
        self._task: asyncio.Task[Reloaded] | None = None
        self._half: Problem | None = None  # since a reload failed half-way, nobody knows what is in force
        self.loaded_at = clock.now()
        """When what is in force was put in force, or found to be what the file says."""
        self.needs_restart: tuple[str, ...] = ()
        """The keys that differ from what is in force, until the restart."""
        self.last: ReloadAttempt | None = None
        self.on_attempt: Callable[[ReloadAttempt], None] = lambda _: None
        """Called after each attempt, with `last`."""
        metrics.read_from(self._readings)

    @property
    def config_hash(self) -> str:
        """The hash of the configuration that was read last without a problem, as in `Reloaded`."""
        if self._hash is None:
            self._hash = config_hash(self._config)
        return self._hash

    @asynccontextmanager
    async def of(self, parts: LiveParts) -> AsyncIterator[None]:
        """Reload the configuration of `parts` while the context is open. Leaving it cancels a reload under way."""
        self._parts = parts
        try:
            yield
        finally:
            self._parts = None
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])

    async def reload(self, config: Config | None = None) -> Reloaded:
        """Put `config` in force, or else what is read again; return what has changed.

        Raises `ConfigError` with all problems, and then nothing has changed; `ReloadUnderWay`, also while the gateway
        starts or ends; and `NothingToReload` if there is neither. Cancelling this does not end the reload.

        After `HalfInForce`, all that follow are refused: nobody knows which plan to compare the next one with.
        """
        if config is None and self._reread is None:
            raise NothingToReload
        if self._parts is None:
            raise ReloadUnderWay("expected a gateway that is running: it starts or ends")
        if self._task is not None and not self._task.done():
            raise ReloadUnderWay("the configuration is being reloaded already")
        self._task = asyncio.create_task(self._attempt(config, self._parts), name="reload")
        self._task.add_done_callback(_retrieved)
        return await asyncio.shield(self._task)

    async def _attempt(self, config: Config | None, parts: LiveParts) -> Reloaded:
        began = self._clock.now()
        try:
            if self._half is not None:
                raise ConfigError([self._half])
            before = self._config
            read = await asyncio.to_thread(self._read, config)
            async with parts.prepared(read.plan) as prepared:
                prepared.put_in_force()
        except ConfigError as error:
            self._note("refused", began, problems=error.problems)
            raise
        except Exception as error:
            log.exception("the configuration could not be reloaded")
            if isinstance(error, HalfInForce):
                self._half = Problem(
                    "reload", "a restart of the gateway: a part of a configuration is in force", str(error)
                )
            self._note(
                "error", began, problems=(self._half or Problem("reload", "a configuration that works", repr(error)),)
            )
            raise
        self._config, self._hash, self.needs_restart = read.in_force, read.hash, read.needs_restart
        self.loaded_at = self._clock.now()
        reloaded = Reloaded(
            changed=differences(before, read.in_force, renewed=prepared.renewed),
            unchanged=unchanged(before, read.in_force),
            needs_restart=read.needs_restart,
            config_hash=read.hash,
        )
        self._note("changed" if reloaded.changed else "unchanged", began, reloaded=reloaded)
        return reloaded

    def _read(self, config: Config | None) -> NewConfig:
        """Read and check everything. Blocks. Raises `ConfigError` with all problems."""
        if config is None:
            assert self._reread is not None, "reload sees to it"
            config = self._reread()
        in_force, needs_restart = without_restart(config, self._started)
        wanted = plan(in_force)
        if problems := startup_problems(wanted):
            raise ConfigError(problems)
        return NewConfig(in_force=in_force, needs_restart=needs_restart, plan=wanted, hash=config_hash(config))

    def _note(
        self,
        outcome: ReloadOutcome,
        began: Instant,
        *,
        reloaded: Reloaded | None = None,
        problems: tuple[Problem, ...] = (),
    ) -> None:
        """Log an attempt, count it, and keep it as the last one."""
        attempt = ReloadAttempt(
            began=began, ended=self._clock.now(), outcome=outcome, reloaded=reloaded, problems=problems
        )
        _log(attempt, is_half=self._half is not None)
        self._metrics.observe(ConfigReloaded(outcome))
        self.last = attempt
        try:
            self.on_attempt(attempt)
        except Exception:
            log.exception("the reload could not be recorded")

    def _readings(self) -> list[Reading]:
        is_good = self.last is None or self.last.reloaded is not None
        return [
            Reading("tidegate_config_last_reload_successful", int(is_good)),
            Reading(
                "tidegate_config_last_reload_success_timestamp_seconds",
                self.loaded_at.seen_at(self._clock.now()).wall,
            ),
        ]


def _log(attempt: ReloadAttempt, *, is_half: bool) -> None:
    for problem in attempt.problems:
        log.warning("problem in the configuration", path=problem.path, expected=problem.expected, got=problem.got)
    done = attempt.reloaded
    if done is None:
        if is_half:
            log.error("a reload has failed half-way: restart the gateway")
        else:
            log.error("configuration not reloaded: the old one stays in force", problems=len(attempt.problems))
        return
    log.info("configuration reloaded", **msgspec.structs.asdict(done.changed), **_besides(done))
    if done.needs_restart:
        log.warning("the configuration needs a restart", keys=done.needs_restart)


def _besides(done: Reloaded) -> dict[str, object]:
    return {"unchanged": done.unchanged, "needs_restart": done.needs_restart, "config_hash": done.config_hash}


def _retrieved(task: asyncio.Task[Reloaded]) -> None:
    """Take the exception of a reload whose caller was cancelled: it was logged, and asyncio need not."""
    if not task.cancelled():
        task.exception()
