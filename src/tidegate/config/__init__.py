"""The configuration: read from a TOML file, the environment and the command line, validated, and printed.

The entry point is `load`. It returns a typed configuration, complete with defaults and free of contradictions, or
raises one `ConfigError` with all problems. This package must not know how the values are used.
"""

from tidegate.config.backends import BackendConfig, BreakerConfig, CallConfig, SessionConfig, SourceConfig
from tidegate.config.examples import EXAMPLE, demo_config
from tidegate.config.loading import from_document, load
from tidegate.config.model import AuthConfig, Config, HistoryConfig, JwtConfig, LimitsConfig, ServerConfig, TokenConfig
from tidegate.config.render import schema, show

__all__ = [
    "EXAMPLE",
    "AuthConfig",
    "BackendConfig",
    "BreakerConfig",
    "CallConfig",
    "Config",
    "HistoryConfig",
    "JwtConfig",
    "LimitsConfig",
    "ServerConfig",
    "SessionConfig",
    "SourceConfig",
    "TokenConfig",
    "demo_config",
    "from_document",
    "load",
    "schema",
    "show",
]
