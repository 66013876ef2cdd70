"""Reloads the configuration of a running gateway: all of it or nothing, in one turn of the event loop."""

from collections.abc import Callable

from tidegate.config import Config
from tidegate.config.fingerprint import config_hash
from tidegate.core.reloads import ReloadAttempt, Reloaded
from tidegate.errors import NothingToReload

Reread = Callable[[], Config]
"""Reads the configuration again, from where it was read at the start. May block. Raises `ConfigError`."""


class Reloads:
    """Reloads the configuration of one gateway. `reread` is None if there is nowhere to read it from again.

    `on_attempt` is called after each attempt, with `last`.
    """

    def __init__(self, config: Config, *, reread: Reread | None) -> None:
        self._config = config
        self._reread = reread
        self._hash: str | None = None
        self.needs_restart: tuple[str, ...] = ()
        """The keys that differ from what is in force, until the restart."""
        self.last: ReloadAttempt | None = None
        self.on_attempt: Callable[[ReloadAttempt], None] = lambda _: None

    @property
    def config_hash(self) -> str:
        """The hash of the configuration that was read last without a problem, as in `Reloaded`."""
        if self._hash is None:
            self._hash = config_hash(self._config)
        return self._hash

    async def reload(self, config: Config | None = None) -> Reloaded:
        """Put `config` in force, or else what is read again; return what has changed.

        Raises `ConfigError` with all problems, and then nothing has changed; `ReloadUnderWay`; and `NothingToReload`
        if there is neither. Cancelling leaves either the old configuration or the new one in force.
        """
        if config is None and self._reread is None:
            raise NothingToReload("expected a gateway that was started with --config: there is no file to read again")
        raise NotImplementedError
