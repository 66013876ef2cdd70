"""Parameters that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tidegate.cli.environment import LOG_LEVEL, URL
from tidegate.errors import ConfigError, Problem

DEFAULT_URL = "http://127.0.0.1:12080"
CONFIG_FILE = Path("tidegate.toml")

Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65535))]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], Parameter(env_var=LOG_LEVEL)]
Url = Annotated[str, Parameter(env_var=URL)]


def check_url(url: str) -> None:
    """Raise `ConfigError` if the value of `--url` cannot be the address of a gateway."""
    from tidegate.client.addresses import api_url

    try:
        api_url(url, "")
    except ValueError as error:
        raise ConfigError([Problem("--url", "the address of a gateway", f"{url!r} ({error})")]) from error
