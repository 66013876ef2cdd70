"""``tidegate`` and ``python -m tidegate``: the process, before any command is known."""

import signal
import sys

from tidegate import standard_streams
from tidegate.hangup import HANGUPS


def main() -> int:
    """Run the command line. Return the exit code."""
    if sys.argv[1:2] == ["serve"]:
        HANGUPS.catch()
    standard_streams.open_missing()
    # Until a command handles signals itself, Ctrl-C ends the process without a traceback, even during an import.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tidegate.errors import MissingExtra
    from tidegate.extras import require

    try:
        require("cli")
    except MissingExtra as error:
        sys.stderr.write(f"tidegate: {error}\n")
        return 1
    from tidegate import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
