"""The command line: what each command is called, takes and says of itself. What it does is imported when it runs.

Exit codes: 0 done, 1 failed, 2 usage or configuration error. An error is a readable line or the list of all
configuration problems, never a traceback.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from tidegate import __version__
from tidegate.cli.environment import ENGINE_URL, LOG_LEVEL, TOKEN, URL
from tidegate.core.grant import RoleName
from tidegate.errors import AccessRefused, ConfigError, Problem, TidegateError
from tidegate.extras import require
from tidegate.printable import printable

if TYPE_CHECKING:
    import asyncio

DEFAULT_URL = "http://127.0.0.1:12080"
DEFAULT_ENGINE_URL = "http://127.0.0.1:12081/rpc"
CONFIG_FILE = Path("tidegate.toml")

Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65535))]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], Parameter(env_var=LOG_LEVEL)]
Url = Annotated[str, Parameter(env_var=URL)]
EngineUrl = Annotated[str, Parameter(env_var=ENGINE_URL)]

app = App(
    name="tidegate",
    help="A gateway that turns backends which can only be asked into live streams that tell.",
    version=f"tidegate {__version__}",
    help_format="plaintext",
    print_error=False,
    exit_on_error=False,
    result_action="return_value",
)
config = App(name="config", help="Write, check, show and describe configurations.")
engine = App(name="engine", help="Run the reference engine, or ask it to compress files.")
token = App(name="token", help="Make tokens for clients.")
app.command(config)
app.command(engine)
app.command(token)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name, by default those of the process; the exit code."""
    try:
        return app(sys.argv[1:] if arguments is None else arguments) or 0
    except CycloptsError as error:
        return _fail(f"{_one_line(error)} (see tidegate --help)", code=2)
    except ConfigError as error:
        return _fail("the configuration is not usable:", *(f"  {problem}" for problem in error.problems), code=2)
    except AccessRefused as error:
        return _fail(_refusal(error), code=1)
    except BrokenPipeError:
        return _reader_has_gone()
    except (TidegateError, OSError) as error:
        return _fail(str(error), code=1)


@app.command
def serve(
    *,
    config: Path | None = None,
    host: str | None = None,
    port: Port | None = None,
    demo: bool = False,
    engine_port: Port | None = None,
    log_level: LogLevel = "info",
) -> int:
    """Run the gateway. Without a configuration it starts the reference engine beside it and shows this machine.

    Parameters
    ----------
    config
        Configuration file in TOML, by default tidegate.toml if it is there; see `tidegate config init`.
    host
        Address to listen on; wins over the file. Anything beyond loopback needs [auth].
    port
        Port to listen on, 0 for any; wins over the file.
    demo
        Show this machine, whether tidegate.toml is there or not.
    engine_port
        Port for the engine that is started when there is no configuration.
    log_level
        Least important lines to log.
    """
    file = _served_file(config, demo=demo)
    require("gateway", *(() if file else ("engine",)))
    from tidegate.cli import logs, signals

    async def work(stopped: "asyncio.Event") -> int:
        from tidegate.cli import serving  # heavy: signals are heard already

        return await serving.serve(stopped, config_file=file, overrides=overrides, engine_port=engine_port)

    logs.configure(log_level)
    if file is not config:
        import structlog

        structlog.get_logger("tidegate").info("configuration read, since it is here", file=str(file))
    overrides = {"server.host": host, "server.port": port}
    return signals.run(work)


@app.command
def demo(*, json: bool = False, log_level: LogLevel = "warning") -> int:
    """See it work: the gateway, the reference engine and a live view of this machine, until Ctrl-C.

    Parameters
    ----------
    json
        Lines of JSON instead of a table.
    log_level
        Least important lines to log.
    """
    require("gateway", "engine")
    from tidegate.cli import logs, signals

    async def work(stopped: "asyncio.Event") -> int:
        from tidegate.cli import following, serving  # heavy: signals are heard already

        return await serving.demo(stopped, following.Following(json=json))

    logs.configure(log_level)
    return signals.run(work)


@engine.default
def engine_run(
    *,
    host: str = "127.0.0.1",
    port: Port = 12081,
    state_dir: str | None = None,
    allow_root: Annotated[list[Path] | None, Parameter(negative="")] = None,
    agents: Annotated[int, Parameter(validator=Number(gte=1, lte=64))] = 2,
    keep_s: Annotated[float, Parameter(validator=Number(gte=0))] = 86_400.0,
    keep_count: Annotated[int, Parameter(validator=Number(gte=0))] = 200,
    notify_url: str | None = None,
    notify_token_file: Path | None = None,
    log_level: LogLevel = "info",
) -> int:
    """Run the reference backend alone: this machine's status and compression jobs over JSON-RPC.

    Parameters
    ----------
    host
        Address to listen on.
    port
        Port to listen on, 0 for any.
    state_dir
        Directory that keeps the jobs, "" for none; by default tidegate-engine/ under the XDG state home.
    allow_root
        Folder within which jobs may read and write, repeatable; by default the working directory, unless it is /.
    agents
        Worker processes.
    keep_s
        Seconds for which jobs that have ended are remembered.
    keep_count
        How many of them are.
    notify_url
        Gateway to tell of changes, as http://127.0.0.1:12080/api/v1/backends/engine/poll.
    notify_token_file
        File with the token for that.
    log_level
        Least important lines to log.
    """
    require("engine")
    from tidegate.cli import logs
    from tidegate.engine import server

    logs.configure(log_level)
    options = server.Options(
        state_dir=server.state_dir_of(state_dir, os.environ, port),
        roots=tuple(allow_root or ()) or server.default_roots(),
        agents=agents,
        keep_s=keep_s,
        keep_count=keep_count,
        notify_url=notify_url,
        notify_token_file=notify_token_file,
    )
    return server.main(host=host, port=port, options=options)


@engine.command(name="submit")
def engine_submit(
    path: Path,
    /,
    *,
    level: Annotated[int, Parameter(validator=Number(gte=1, lte=19))] = 3,
    destination: Path | None = None,
    wait: bool | None = None,
    json: bool = False,
    url: EngineUrl = DEFAULT_ENGINE_URL,
) -> int:
    """Compress a file with zstandard, or a folder as .tar.zst, beside it.

    Parameters
    ----------
    path
        File or folder within the engine's allowed folders. It is left as it is.
    level
        From fast to small.
    destination
        Other name for the result, or a folder for it. Nothing is ever overwritten.
    wait
        Wait for its end, with a progress bar; by default on a terminal only. Ctrl-C ends the waiting, not the job.
    json
        The job as a line of JSON.
    url
        The engine.
    """
    require("engine")
    from tidegate.cli import jobs, signals

    waits = sys.stdout.isatty() if wait is None else wait
    return signals.run(
        lambda stopped: jobs.submit(stopped, path, level=level, destination=destination, wait=waits, json=json, url=url)
    )


@engine.command(name="jobs")
def engine_jobs(*, follow: bool = False, json: bool = False, url: EngineUrl = DEFAULT_ENGINE_URL) -> int:
    """Show the engine's jobs, with progress bars on a terminal.

    Parameters
    ----------
    follow
        Go on showing them until Ctrl-C.
    json
        Each job as a line of JSON.
    url
        The engine.
    """
    require("engine")
    from tidegate.cli import jobs, signals

    return signals.run(lambda stopped: jobs.show_jobs(stopped, follow=follow, json=json, url=url))


@engine.command(name="cancel")
def engine_cancel(job: str, /, *, json: bool = False, url: EngineUrl = DEFAULT_ENGINE_URL) -> int:
    """Give a job up. Nothing is left of it; one that has ended, or is about to be done, stays as it is.

    Parameters
    ----------
    job
        Its id.
    json
        The job as a line of JSON.
    url
        The engine.
    """
    require("engine")
    from tidegate.cli import jobs, signals

    return signals.run(lambda stopped: jobs.cancel(stopped, job, json=json, url=url))


@engine.command(name="agents")
def engine_agents(*, follow: bool = False, json: bool = False, url: EngineUrl = DEFAULT_ENGINE_URL) -> int:
    """Show the engine's worker processes.

    Parameters
    ----------
    follow
        Go on showing them until Ctrl-C.
    json
        Each agent as a line of JSON.
    url
        The engine.
    """
    require("engine")
    from tidegate.cli import jobs, signals

    return signals.run(lambda stopped: jobs.show_agents(stopped, follow=follow, json=json, url=url))


@app.command
def watch(
    url: Url = DEFAULT_URL,
    *,
    types: str | None = None,
    json: bool = False,
    count: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    duration: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
) -> int:
    """Follow events: a live table on a terminal, one JSON object per line elsewhere.

    Parameters
    ----------
    url
        The gateway. A token for it is taken from TIDEGATE_TOKEN.
    types
        Event types or patterns, separated by commas, such as `system.*,rpc_error`; by default the gateway's.
    json
        Lines of JSON also on a terminal.
    count
        End after so many events.
    duration
        End after so many seconds; with fewer than --count events, as failed.
    """
    from tidegate.cli import signals
    from tidegate.cli.following import Following, follow

    following = Following(
        types=None if types is None else tuple(name.strip() for name in types.split(",") if name.strip()),
        json=json,
        count=count,
        duration_s=duration,
        token=os.environ.get(TOKEN),
    )
    _check_url(url)
    return signals.run(lambda stopped: follow(stopped, following, url=url))


@app.command
def publish(
    type: str,  # noqa: A002 - what the contract calls it
    json: str,
    *,
    key: str | None = None,
    url: Url = DEFAULT_URL,
    retain: bool = False,
) -> int:
    """Publish one event.

    Parameters
    ----------
    type
        Event type, such as `build.finished`.
    json
        The event's data, as JSON.
    key
        Which of the many things of that type it speaks of.
    url
        The gateway. A token for it is taken from TIDEGATE_TOKEN.
    retain
        Keep it for clients that come later.
    """
    from tidegate.cli.publishing import publish_event

    _check_url(url)
    return publish_event(type, json, key=key, url=url, retain=retain, token=os.environ.get(TOKEN))


@app.command
def faultproxy(*, listen: str, upstream: str, control: str) -> int:
    """Run a fault-injecting HTTP proxy in front of a backend or a gateway, steered over HTTP.

    Parameters
    ----------
    listen
        HOST:PORT for its clients.
    upstream
        URL of the server behind it.
    control
        HOST:PORT for its control API.
    """
    require("gateway", "engine")
    from tidegate.verify import faultproxy

    return faultproxy.run(listen, upstream, control)


@app.command
def verify(*, url: str | None = None, fault_url: str | None = None, report: Path | None = None) -> int:
    """Prove that a gateway stays truthful whatever its backend does: six scenarios, seen from outside.

    Without --url it starts gateway, engine and fault proxy itself, and takes about half a minute.

    Parameters
    ----------
    url
        A gateway that runs. A token for it is taken from TIDEGATE_TOKEN: a subscriber's; faster with an operator's.
    fault_url
        Control API of the fault proxy that stands before one of its backends.
    report
        File for what was found, as its ending says: .md, .json or .xml (JUnit).
    """
    require("gateway", "engine")
    from tidegate import verify

    if url is not None:
        _check_url(url)
    return verify.run(url=url, fault_url=fault_url, report=report, token=os.environ.get(TOKEN))


@app.command
def doctor(
    *,
    config: Path | None = None,
    demo: bool = False,
    url: Annotated[str | None, Parameter(env_var=URL)] = None,
) -> int:
    """Look at all that a gateway needs, and say what to do about what is missing.

    Configuration, files, limits, address, state directory, and one call to each backend for each source.

    Parameters
    ----------
    config
        Configuration file to examine; by default what `tidegate serve` runs without one.
    demo
        Examine what `tidegate serve --demo` runs.
    url
        A gateway that is to be running; by default it may or may not run where the configuration says.
    """
    file = _served_file(config, demo=demo)
    require("gateway", *(() if file else ("engine",)))
    from tidegate.cli import logs, signals

    async def work(stopped: "asyncio.Event") -> int:
        from tidegate.cli import examining

        return await examining.examine(stopped, config_file=file, url=url)

    if url is not None:
        _check_url(url)
    logs.configure("error")
    return signals.run(work)


@app.command
def version() -> int:
    """Print the version."""
    sys.stdout.write(f"tidegate {__version__}\n")
    return 0


@config.command(name="init")
def config_init(path: Path = CONFIG_FILE, /) -> int:
    """Write a configuration to start from, every setting explained.

    Parameters
    ----------
    path
        File to write, which must not exist.
    """
    from tidegate.cli import configuring

    return configuring.write_example(path)


@config.command(name="check")
def config_check(path: Path | None = None, /, *, config: Path | None = None) -> int:
    """Check a configuration and the files that it names, and report everything wrong with it.

    Parameters
    ----------
    path
        File to check; by default tidegate.toml.
    config
        The same, as other commands call it.
    """
    from tidegate.cli import configuring

    return configuring.check(_one_file(path, config))


@config.command(name="show")
def config_show(path: Path | None = None, /, *, config: Path | None = None) -> int:
    """Print a configuration as it counts: with every default and the environment, without secrets.

    Parameters
    ----------
    path
        File to show; by default tidegate.toml.
    config
        The same, as other commands call it.
    """
    from tidegate.cli import configuring

    return configuring.print_whole(_one_file(path, config))


@config.command(name="schema")
def config_schema() -> int:
    """Print the JSON Schema of the configuration file, for editors."""
    from tidegate.cli import configuring

    return configuring.print_schema()


@token.command(name="create")
def token_create(
    *,
    role: Annotated[list[RoleName] | None, Parameter(negative=())] = None,
    types: str | None = None,
    file: Path | None = None,
    key_file: Path | None = None,
    secret_file: Path | None = None,
    sub: str | None = None,
    expires_s: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    audience: str | None = None,
    issuer: str | None = None,
) -> int:
    """Make a token: one to list under [[auth.tokens]], or, with a key, a signed one for mode = "jwt".

    Parameters
    ----------
    role
        What its bearer may do, repeatable; by default subscriber.
    types
        Patterns that its bearer may subscribe to, separated by commas; by default everything.
    file
        File to write the token to, readable by its owner alone, which must not exist; else it is printed.
    key_file
        Private key in PEM to sign with: RSA for RS256, EC on P-256 for ES256.
    secret_file
        Shared secret to sign with, for HS256.
    sub
        Whose token it is, for logs. Signed tokens only, as all that follow.
    expires_s
        Seconds for which it is good; by default an hour.
    audience
        Who it is for, where [auth.jwt] names an audience.
    issuer
        Who made it, where [auth.jwt] names an issuer.
    """
    from tidegate.cli import tokens

    return tokens.create(
        tokens.Bearer(roles=role or ["subscriber"], types=types),
        tokens.Signing(
            key_file=key_file,
            secret_file=secret_file,
            subject=sub,
            expires_s=expires_s,
            audience=audience,
            issuer=issuer,
        ),
        file=file,
    )


def _one_file(path: Path | None, config: Path | None) -> Path:
    if path is not None and config is not None:
        raise ConfigError([Problem("--config", "no other file beside it", str(path))])
    return path or config or CONFIG_FILE


def _served_file(config: Path | None, *, demo: bool) -> Path | None:
    """The configuration to serve; None for the reference engine beside the gateway."""
    if config is not None and demo:
        raise ConfigError([Problem("--demo", "no --config beside it", str(config))])
    if config is not None or demo:
        return config
    return CONFIG_FILE if CONFIG_FILE.exists() else None


def _check_url(url: str) -> None:
    from tidegate.client.addresses import api_url

    try:
        api_url(url, "")
    except ValueError as error:
        raise ConfigError([Problem("--url", "the address of a gateway", f"{url!r} ({error})")]) from error


def _refusal(error: AccessRefused) -> str:
    """A gateway says why it refuses; who only answers with a status is somebody else, or a proxy before it."""
    status = f"HTTP {error.status}"
    if str(error).startswith(status):
        return f"no gateway answers there, but something else: {error}"
    return f"the gateway refused: {error} ({status})"


def _reader_has_gone() -> int:
    """Whoever read our output needs no more, so we are done. Nothing may be flushed into the closed pipe at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _fail(*lines: str, code: int) -> int:
    """Whatever a file or a server said is in `lines`: none of it may steer the terminal, or pass for a line of ours."""
    sys.stderr.write("tidegate: " + "\n".join(map(printable, lines)) + "\n")
    return code


def _one_line(error: CycloptsError) -> str:
    return " ".join(str(error).split())
