"""What ``tidegate config init`` says of the plug-ins that are installed: a backend of each, with all its options."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from tidegate.backends import installed
from tidegate.backends.installed import Plugin
from tidegate.config.plugged import expected_of
from tidegate.config.render import inline
from tidegate.errors import ConfigError


def plugin_examples() -> str:
    """Return a backend of each plug-in that can be used, in comments. Imports all that are installed."""
    found = []
    for name in installed.names():
        with suppress(ConfigError):
            found += ["", *_example(installed.plugin(name))]
    return "".join(f"{line}\n" for line in found)


def _example(plugin: Plugin) -> Iterator[str]:
    yield f"# A backend of the plug-in {plugin.label}, which is installed."
    yield "#[backends.NAME]"
    yield f'#protocol = "{plugin.name}"'
    yield "#[backends.NAME.options]"
    for field in msgspec.structs.fields(plugin.options):
        shown = _shown(field)
        yield f"#{field.encode_name} = {shown}".ljust(34) + f" # {expected_of(field.type, field.encode_name)}"


def _shown(field: Any) -> str:
    """Return the default of an option as TOML, or an ellipsis."""
    try:
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        return "…" if default is msgspec.NODEFAULT else inline(msgspec.to_builtins(default, enc_hook=str))
    except Exception:  # noqa: BLE001 - a plug-in may have any default, None among them, which TOML has not
        return "…"
