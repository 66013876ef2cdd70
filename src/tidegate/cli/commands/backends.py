"""The command ``call``: asks a backend of a configuration once."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from tidegate.cli.commands.parameters import CONFIG_FILE
from tidegate.errors import ConfigError, Problem
from tidegate.extras import require


def call(
    backend: str | None = None,
    method_or_path: str | None = None,
    params: str | None = None,
    /,
    *,
    source: str | None = None,
    verb: str | None = None,
    header: Annotated[list[str] | None, Parameter(negative=())] = None,
    body: str | None = None,
    status: Annotated[list[int] | None, Parameter(negative=())] = None,
    format: Literal["json", "prometheus", "csv", "text"] | None = None,  # noqa: A002 - the name in the configuration
    match: Annotated[list[str] | None, Parameter(negative=())] = None,
    delimiter: str | None = None,
    pattern: str | None = None,
    timeout: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    config: Path = CONFIG_FILE,
) -> int:
    """Ask a backend once, as the gateway would, and print its answer, or what a source makes of it.

    The answer is indented on a terminal, and one line elsewhere. How long it took goes to stderr. No gateway is needed.

    Parameters
    ----------
    backend
        Name of a backend in the configuration.
    method_or_path
        JSON-RPC method, or a path and query under the URL of an http backend, "" for the URL itself.
    params
        Parameters of a JSON-RPC method, as JSON.
    source
        Ask as this source does, and print the events that it would make of the answer.
    verb
        HTTP method; by default POST with a body, else GET.
    header
        Header of the request, as `NAME: VALUE`, repeatable.
    body
        Body of the request: a JSON object or list is sent as JSON, all else as text.
    status
        HTTP status whose body is an answer too, repeatable; by default 2xx.
    format
        How the body of the answer is written; by default JSON.
    match
        Name of a Prometheus metric that is wanted, repeatable; by default all.
    delimiter
        Character between the values of CSV.
    pattern
        Regular expression for text, with named groups.
    timeout
        Seconds to wait for the answer; by default the backend's.
    config
        Configuration file.
    """
    _check(backend, method_or_path, source)
    given = {
        "params": None if params is None else _json(params),
        "verb": verb,
        "headers": None if header is None else dict(map(_header, header)),
        "body": None if body is None else _body(body),
        "success_statuses": status,
        "format": format,
        "match": match,
        "delimiter": delimiter,
        "pattern": pattern,
    }
    options = {name: value for name, value in given.items() if value is not None}
    if source is not None and options:
        raise ConfigError([Problem("--source", "no options of a call beside it", ", ".join(options))])
    require("gateway")
    from tidegate.cli import calling, logs, signals

    logs.configure("error")
    wanted = calling.Wanted(backend=backend, method=method_or_path, source=source, options=options, timeout_s=timeout)
    return signals.run(lambda stopped: calling.call(stopped, wanted, config))


def _check(backend: str | None, method: str | None, source: str | None) -> None:
    if source is not None and backend is not None:
        raise ConfigError([Problem("--source", "no BACKEND beside it: the source names it", repr(backend))])
    if source is None and (backend is None or method is None):
        got = "nothing" if backend is None else "no METHOD_OR_PATH"
        raise ConfigError([Problem("METHOD_OR_PATH", "one beside BACKEND, or --source NAME", got)])


def _json(text: str) -> object:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError([Problem("PARAMS", "JSON, such as '[\"a\", 1]'", f"{text[:64]!r} ({error})")]) from error
    if not isinstance(value, list | dict):
        raise ConfigError([Problem("PARAMS", "a JSON list or object", text[:64])])
    return value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigError([Problem("--header", "NAME: VALUE", "a text without a colon")])
    return name.strip(), value.strip()


def _body(text: str) -> object:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if isinstance(value, list | dict) else text
