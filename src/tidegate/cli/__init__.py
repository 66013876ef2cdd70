"""The command line: registers all commands and reports their errors. Each command is in a module of `commands`.

Exit codes: 0 success, 1 failure, 2 usage or configuration error. An error is printed as one readable line, or as a
list of all configuration problems, never as a traceback.
"""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from tidegate import __version__
from tidegate.cli.commands import backends, configuration, engine, events, gateway, proof, token
from tidegate.errors import AccessRefused, ConfigError, TidegateError
from tidegate.printable import printable

app = App(
    name="tidegate",
    help="A gateway that polls backends and turns their answers into live streams of events.",
    version=f"tidegate {__version__}",
    help_format="plaintext",
    print_error=False,
    exit_on_error=False,
    result_action="return_value",
)
for command in (
    configuration.app,
    engine.app,
    token.app,
    gateway.serve,
    gateway.demo,
    gateway.reload,
    events.watch,
    events.publish,
    proof.faultproxy,
    proof.verify,
    gateway.doctor,
    backends.call,
):
    app.command(command)


@app.command
def version() -> int:
    """Print the version."""
    sys.stdout.write(f"tidegate {__version__}\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments`, by default those of the process. Return the exit code."""
    try:
        return app(sys.argv[1:] if arguments is None else arguments) or 0
    except CycloptsError as error:
        return _fail(f"{_one_line(error)} (see tidegate --help)", code=2)
    except ConfigError as error:
        return _fail(_unusable(error), *(f"  {problem}" for problem in error.problems), code=2)
    except AccessRefused as error:
        return _fail(_refusal(error), code=1)
    except BrokenPipeError:
        return _stdout_closed()
    except (TidegateError, OSError) as error:
        return _fail(str(error), code=1)


def _unusable(error: ConfigError) -> str:
    """Say what is wrong: arguments, which begin with dashes or have names in capitals, or the configuration."""
    are_arguments = all(problem.path.startswith("--") or problem.path.isupper() for problem in error.problems)
    return f"{'these arguments are' if are_arguments else 'the configuration is'} not usable:"


def _refusal(error: AccessRefused) -> str:
    """Describe a refusal. A gateway always gives a reason, so a bare status is from a proxy or another server."""
    status = f"HTTP {error.status}"
    if str(error).startswith(status):
        return f"no gateway answers there, but something else: {error}"
    return f"the gateway refused: {error} ({status})"


def _stdout_closed() -> int:
    """End successfully: the reader of our output, such as ``head``, has closed the pipe and needs no more."""
    # Otherwise Python would flush into the closed pipe at exit, and report an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _fail(*lines: str, code: int) -> int:
    """Print `lines` and return `code`. The lines may quote files and servers, so control characters are escaped."""
    sys.stderr.write("tidegate: " + "\n".join(map(printable, lines)) + "\n")
    return code


def _one_line(error: CycloptsError) -> str:
    return " ".join(str(error).split())
