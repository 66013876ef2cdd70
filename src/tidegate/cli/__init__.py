"""The command line: all commands in one list, and what becomes of an error. Each is in a module of `commands`.

Exit codes: 0 done, 1 failed, 2 usage or configuration error. An error is a readable line or the list of all
configuration problems, never a traceback.
"""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from tidegate import __version__
from tidegate.cli.commands import configuration, engine, events, gateway, proof, token
from tidegate.errors import AccessRefused, ConfigError, TidegateError
from tidegate.printable import printable

app = App(
    name="tidegate",
    help="A gateway that turns backends which can only be asked into live streams that tell.",
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
    events.watch,
    events.publish,
    proof.faultproxy,
    proof.verify,
    gateway.doctor,
):
    app.command(command)


@app.command
def version() -> int:
    """Print the version."""
    sys.stdout.write(f"tidegate {__version__}\n")
    return 0


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
