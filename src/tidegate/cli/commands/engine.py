"""The ``engine`` commands: run the reference backend, and use its compression jobs."""

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
        Port to listen on, 0 for any free port.
    state_dir
        Directory in which to keep the jobs, "" for none; by default tidegate-engine/ under the XDG state home.
    allow_root
        Folder in which jobs may read and write, repeatable; by default the working directory, unless it is /.
    agents
        Number of worker processes.
    keep_s
        How long to remember jobs that have ended, in seconds.
    keep_count
        How many jobs that have ended to remember.
    notify_url
        URL of a gateway to notify of changes, such as http://127.0.0.1:12080/api/v1/backends/engine/poll.
    notify_token_file
        File with the token for notify_url.
    log_level
        Lowest level to log.
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
    """Compress a file with zstandard, or a folder as .tar.zst. The result is placed beside it.

    Parameters
    ----------
    path
        File or folder within the engine's allowed folders. It is not changed.
    level
        Compression level, from 1 (fastest) to 19 (smallest).
    destination
        Another name for the result, or a folder for it. Nothing is ever overwritten.
    wait
        Wait until the job has ended, with a progress bar; by default only on a terminal. Ctrl-C does not end the job.
    json
        Print the job as a line of JSON.
    url
        URL of the engine.
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
        Keep showing them until Ctrl-C.
    json
        Print each job as a line of JSON.
    url
        URL of the engine.
    """
    require("engine")
    from tidegate.cli import jobs, signals

    return signals.run(lambda stopped: jobs.show_jobs(stopped, follow=follow, json=json, url=url))


@app.command(name="cancel")
def cancel(job: str, /, *, json: bool = False, url: EngineUrl = DEFAULT_ENGINE_URL) -> int:
    """Cancel a job. Its unfinished result is removed. A job that has ended, or is just finishing, is not affected.

    Parameters
    ----------
    job
        Id of the job.
    json
        Print the job as a line of JSON.
    url
        URL of the engine.
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
        Keep showing them until Ctrl-C.
    json
        Print each agent as a line of JSON.
    url
        URL of the engine.
    """
    require("engine")
    from tidegate.cli import jobs, signals

    return signals.run(lambda stopped: jobs.show_agents(stopped, follow=follow, json=json, url=url))
