"""``engine``: the reference backend, and what one asks of it."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tidegate.cli.commands.parameters import LogLevel, Port
from tidegate.cli.environment import ENGINE_URL
from tidegate.extras import require

DEFAULT_ENGINE_URL = "http://127.0.0.1:12081/rpc"

EngineUrl = Annotated[str, Parameter(env_var=ENGINE_URL)]

app = App(name="engine", help="Run the reference engine, or ask it to compress files.")


@app.default
def run(
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


@app.command(name="submit")
def submit(
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


@app.command(name="jobs")
def jobs(*, follow: bool = False, json: bool = False, url: EngineUrl = DEFAULT_ENGINE_URL) -> int:
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


@app.command(name="cancel")
def cancel(job: str, /, *, json: bool = False, url: EngineUrl = DEFAULT_ENGINE_URL) -> int:
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


@app.command(name="agents")
def agents(*, follow: bool = False, json: bool = False, url: EngineUrl = DEFAULT_ENGINE_URL) -> int:
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
