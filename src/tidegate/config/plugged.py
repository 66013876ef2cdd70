"""Checks backends that plug-ins make: which keys they have, and their options. Words what is wrong with them.

A plug-in is imported for this, so its own code runs. Nothing is opened, and no secret is read.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import msgspec

from tidegate.backends import installed
from tidegate.backends.installed import Plugin
from tidegate.backends.options import NoPlace, as_table, converted
from tidegate.config.backends import BackendConfig
from tidegate.config.model import Config
from tidegate.config.reader import KeyPath, Mistake, expectation, shown, unknown_key
from tidegate.core.masking import mask_text
from tidegate.errors import ConfigError
from tidegate.secret import Secret

_PLACE = re.compile(r" - at `(?:key in )?\$(?P<place>.*)`$")
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+)\]")
_EXPECTED = re.compile(r"Expected (?P<what>.+?)(?:, got .*)?")
_WORDS = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "text",
    "`bool`": "true or false",
    "`object`": "a table",
    "`array`": "a list",
    " | null`": "`",
}


_USED = frozenset(
    {
        *("protocol", "options", "secrets", "breaker", "ca_file", "client_cert_file", "client_key_file"),
        *("timeout_s", "response_bytes", "batch", "connections", "retry_s", "retry_after_max_s"),
    }
)
"""The keys of a backend that have an effect for one that a plug-in makes."""

_UNTOUCHED = BackendConfig()


def _useless(backend: BackendConfig) -> Iterator[Mistake]:
    """Yield the keys of a plug-in's backend that would have no effect: whoever wrote one expects it to."""
    for key in BackendConfig.__struct_fields__:
        if key not in _USED and getattr(backend, key) != getattr(_UNTOUCHED, key):
            expected = f'no such key, because protocol is "{backend.protocol}", a plug-in: it has [options]'
            yield Mistake((key,), expected, "one")


def with_options(
    config: Config, *, directory: Path, is_clean: Callable[..., bool], refuse: Callable[[Mistake], None]
) -> Config:
    """Return `config` with the options of all plug-ins complete, and their paths absolute. Pass on what is wrong.

    `is_clean` returns whether nothing was refused below a path. Relative paths are relative to `directory`.
    """
    backends = dict(config.backends)
    for name, backend in config.backends.items():
        if not is_clean("backends", name):
            continue
        found = _completed(backend, directory)
        if isinstance(found, BackendConfig):
            backends[name] = found
        else:
            for mistake in found:
                refuse(mistake._replace(path=("backends", name, *mistake.path)))
    return msgspec.structs.replace(config, backends=backends)


def _completed(backend: BackendConfig, directory: Path) -> BackendConfig | list[Mistake]:
    """Return `backend` with complete options, or what is wrong with its protocol or with them."""
    try:
        if not backend.is_plugin:
            installed.refuse_clash(backend.protocol)
            return backend
        plugin = installed.plugin(backend.protocol)
    except ConfigError as error:
        return [Mistake((each.path,), each.expected, each.got) for each in error.problems]
    options = OptionsOf(plugin, known=backend.secret_names, directory=directory)
    mistakes = [*_useless(backend), *options.mistakes(backend.options)]
    if backend.batch and not plugin.batches:
        mistakes.append(Mistake(("batch",), f"false, because {plugin.label} takes one call at a time", "true"))
    return mistakes or msgspec.structs.replace(backend, options=options.complete(backend.options))


class OptionsOf:
    """The options of one backend as its `plugin` declares them. `known` are the names of its secrets."""

    def __init__(self, plugin: Plugin, *, known: Collection[str], directory: Path) -> None:
        self._plugin = plugin
        self._known = known
        self._convert = partial(converted, secrets=dict.fromkeys(known), directory=directory)

    def mistakes(self, given: Mapping[str, object]) -> list[Mistake]:
        """Return everything that is wrong with the options `given`, each with its path in the backend's table."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(self._plugin.options)}
        found = [unknown_key(("options", key), given[key], fields) for key in given if key not in fields]
        for key, field in fields.items():
            if key in given:
                found += self._of_value(field.type, given[key], ("options", key))
            elif field.required:
                found.append(Mistake(("options", key), expected_of(field.type, key), "nothing"))
        return found or list(self._of_value(self._plugin.options, dict(given), ("options",)))

    def complete(self, given: Mapping[str, object]) -> dict[str, object]:
        """Return the options `given`, which have no mistake, with all defaults."""
        try:
            table = as_table(self._convert(self._plugin.options, dict(given)))
            self._convert(self._plugin.options, table)
        except Exception:  # noqa: BLE001 - its types may be such that they cannot be written down again
            return dict(given)
        return table

    def _of_value(self, kind: Any, value: object, path: KeyPath) -> Iterator[Mistake]:
        try:
            self._convert(kind, value)
        except msgspec.ValidationError as error:
            yield self._mistake(kind, value, path, error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plug-in checks its options with code of its own
            yield Mistake(path, f"options that {self._plugin.label} can check", installed.reason(error))

    def _mistake(self, kind: Any, value: object, path: KeyPath, error: msgspec.ValidationError) -> Mistake:
        """Word what msgspec says about `value`, which stands at `path` and should be a `kind`."""
        place = _PLACE.search(str(error))
        message = _PLACE.sub("", str(error))
        steps = [step["name"] or int(step["index"]) for step in _STEP.finditer(place["place"] if place else "")]
        for step in steps:
            value = _inside(value, step)
        path = (*path, *steps)
        if isinstance(error.__cause__, NoPlace):
            listed = ", ".join(f'"{{{name}}}"' for name in sorted(self._known)) or "there is none"
            expected = f"text with a secret of [backends.NAME.secrets] in braces ({listed})"
            return Mistake(path, expected, "text without one (not shown)" if isinstance(value, str) else shown(value))
        told = _EXPECTED.fullmatch(message)
        if error.__cause__ is not None and not told:  # from a check of the plug-in's own
            return Mistake(path, f"what {self._plugin.label} takes", mask_text(message))
        is_of_another_type = not told or ", got" in message
        if is_of_another_type and not steps and (simple := expected_of(kind, str(path[-1]))) != "a value":
            return Mistake(path, simple, shown(value, path))
        return Mistake(path, _worded(told["what"]) if told else mask_text(message), shown(value, path))


def expected_of(kind: Any, key: str) -> str:
    """Return what an option of type `kind` must be, if there are simple words for it."""
    if Secret in {kind, *get_args(kind)}:
        return "text with the name of a secret in braces"
    try:
        words = expectation(kind, key)
    except Exception:  # noqa: BLE001 - a plug-in may use any type and constraint, and these words are for ours
        return "a value"
    return "a value" if words == "a table" else words


def _worded(text: str) -> str:
    for code, word in _WORDS.items():
        text = text.replace(code, word)
    return text.replace("`", "")


def _inside(value: object, step: str | int) -> object:
    match value:
        case Mapping() if step in value:
            return value[step]
        case list() if isinstance(step, int) and step < len(value):
            return value[step]
        case _:
            return value
