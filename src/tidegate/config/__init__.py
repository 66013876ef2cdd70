"""The configuration: read from a TOML file, the environment and the command line, checked whole, and shown again.

`load` is the way in. What it returns is typed, complete with defaults, and free of contradictions; what is wrong with
a configuration comes as one `ConfigError`. Knows nothing of how the values are used.
"""

from tidegate.config.examples import EXAMPLE, demo_config
from tidegate.config.loading import from_document, load
from tidegate.config.model import (
    AuthConfig,
    BackendConfig,
    BreakerConfig,
    Config,
    HistoryConfig,
    JwtConfig,
    LimitsConfig,
    ServerConfig,
    SourceConfig,
    TokenConfig,
)
from tidegate.config.render import schema, show

__all__ = [
    "EXAMPLE",
    "AuthConfig",
    "BackendConfig",
    "BreakerConfig",
    "Config",
    "HistoryConfig",
    "JwtConfig",
    "LimitsConfig",
    "ServerConfig",
    "SourceConfig",
    "TokenConfig",
    "demo_config",
    "from_document",
    "load",
    "schema",
    "show",
]
