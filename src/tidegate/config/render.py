"""Output for people and editors: `show` prints a configuration as TOML, `schema` describes it as JSON Schema."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from tidegate.backends import installed
from tidegate.backends.installed import Plugin
from tidegate.config.backends import BackendConfig
from tidegate.config.model import Config
from tidegate.config.reader import bare_or_quoted, dotted, quoted
from tidegate.config.section import Section
from tidegate.errors import ConfigError
from tidegate.secret import Secret


def show(config: Config) -> str:
    """Return `config` as TOML with all defaults. Secrets are masked; everything else survives loading it again."""
    return "\n".join(_table(config, ())).lstrip("\n") + "\n"


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the configuration file, with a description of each key.

    Imports all plug-ins that are installed, and describes the options of those that can be used.
    """
    _, components = msgspec.json.schema_components([Config], ref_template="#/$defs/{name}")
    sections: list[type[Section]] = Section.__subclasses__()
    for section in sections:
        component = components[section.__name__]
        component["description"], documented = _documentation(section)
        for key, text in documented.items():
            component["properties"][key]["description"] = text
    names = installed.names()
    components[BackendConfig.__name__]["properties"]["protocol"]["examples"] = [*installed.BUILT_IN, *names]
    for name in names:
        with suppress(ConfigError):
            _add_options(components, installed.plugin(name))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **components.pop(Config.__name__),
        "title": "tidegate.toml",
        "$defs": components,
    }


def _add_options(components: dict[str, Any], plugin: Plugin) -> None:
    """Describe the options of `plugin`: they are those of a backend whose protocol is its name."""

    def described(kind: type) -> dict[str, Any]:
        if kind in {Secret, Path}:
            return {"type": "string"}
        raise NotImplementedError(f"no schema for {kind.__name__}")

    template = f"#/$defs/{plugin.name}.{{name}}"
    try:
        [options], inner = msgspec.json.schema_components(
            [plugin.options], schema_hook=described, ref_template=template
        )
    except Exception:  # noqa: BLE001 - its types may be such that there is no schema for them
        return
    components |= {f"{plugin.name}.{name}": schema for name, schema in inner.items()}
    condition = {"properties": {"protocol": {"const": plugin.name}}, "required": ["protocol"]}
    when = {"if": condition, "then": {"properties": {"options": options}}}
    components[BackendConfig.__name__].setdefault("allOf", []).append(when)


def _table(section: Section, path: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table: first its values, then its tables. TOML requires this order."""
    values = {key: value for key, value in section.public().items() if value is not None}
    tables = {key: value for key, value in values.items() if _holds_sections(value)}
    for key, value in values.items():
        if key not in tables:
            yield f"{bare_or_quoted(key)} = {inline(value)}"
    for key, value in tables.items():
        yield from _tables(value, (*path, key))


def _tables(value: object, path: tuple[str, ...]) -> Iterator[str]:
    match value:
        case Section():
            yield from ("", f"[{dotted(path)}]", *_table(value, path))
        case Mapping():
            for name, section in value.items():
                yield from _tables(section, (*path, name))
        case tuple():
            for section in value:
                yield from ("", f"[[{dotted(path)}]]", *_table(section, path))


def _holds_sections(value: object) -> bool:
    match value:
        case Mapping():
            return any(isinstance(item, Section) for item in value.values())
        case tuple():
            return any(isinstance(item, Section) for item in value)
        case _:
            return isinstance(value, Section)


def inline(value: object) -> str:
    """Return `value` as TOML. Raises `TypeError` if there is no such value."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return quoted(value)
        case list() | tuple():
            return f"[{', '.join(map(inline, value))}]"
        case Mapping():
            pairs = ", ".join(f"{bare_or_quoted(key)} = {inline(item)}" for key, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
    raise TypeError(f"TOML has no value for {value!r}")


def _documentation(section: type[Section]) -> tuple[str, dict[str, str]]:
    """Split a struct's docstring into its first paragraph and the descriptions of the keys."""
    summary, *entries = re.split(r"\n\s*`(\w+)`: ", section.__doc__ or "")
    texts = [" ".join(entry.split()) for entry in entries[1::2]]
    return " ".join(summary.split()), dict(zip(entries[::2], texts, strict=True))
