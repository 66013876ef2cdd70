"""The environment variables that the command line reads itself. All others with its prefix configure the gateway."""

from collections.abc import Mapping

LOG_LEVEL = "TIDEGATE_LOG_LEVEL"
URL = "TIDEGATE_URL"
ENGINE_URL = "TIDEGATE_ENGINE_URL"
TOKEN = "TIDEGATE_TOKEN"  # noqa: S105 - a name, not a secret


def gateway_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without the variables of the command line, since the configuration refuses unknown names."""
    return {name: value for name, value in environ.items() if name not in {LOG_LEVEL, URL, ENGINE_URL, TOKEN}}
