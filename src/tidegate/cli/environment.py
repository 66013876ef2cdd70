"""Variables of the environment that the command line itself reads; all others of their prefix are the gateway's."""

from collections.abc import Mapping

LOG_LEVEL = "TIDEGATE_LOG_LEVEL"
URL = "TIDEGATE_URL"
ENGINE_URL = "TIDEGATE_ENGINE_URL"
TOKEN = "TIDEGATE_TOKEN"  # noqa: S105 - a name, no secret


def gateway_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` as the gateway's configuration is to see it, which refuses names that it doesn't know."""
    return {name: value for name, value in environ.items() if name not in {LOG_LEVEL, URL, ENGINE_URL, TOKEN}}
