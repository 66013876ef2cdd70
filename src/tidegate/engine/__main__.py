"""``python -m tidegate.engine``: runs the engine without the rest of Tidegate."""

import argparse
import os
import sys
from pathlib import Path

from tidegate import standard_streams
from tidegate.engine.server import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    Options,
    default_roots,
    main,
    state_dir_of,
)

parser = argparse.ArgumentParser(prog="python -m tidegate.engine", description="Run the reference engine.")
parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default: %(default)s)")
parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port, 0 for any free one (default: %(default)s)")
parser.add_argument(
    "--state-dir", help='directory for the jobs, "" for none (default: in tidegate-engine/ under the XDG state home)'
)
parser.add_argument(
    "--allow-root",
    type=Path,
    action="append",
    default=[],
    help="folder in which jobs may read and write, repeatable (default: the working directory, unless it is /)",
)
parser.add_argument("--agents", type=int, default=Options().agents, help="worker processes (default: %(default)s)")
parser.add_argument(
    "--keep-s", type=float, default=Options().keep_s, help="how long to remember ended jobs, in seconds"
)
parser.add_argument("--keep-count", type=int, default=Options().keep_count, help="how many ended jobs to remember")
parser.add_argument("--notify-url", help="URL of a gateway to post to when something changes")
parser.add_argument("--notify-token-file", type=Path, help="file with the token for --notify-url")
parser.add_argument("--listen-fd", type=int, help="inherited, bound socket to use instead of --host and --port")
parser.add_argument("--stop-with-parent", action="store_true", help="end when the parent process ends")


def options_of(arguments: argparse.Namespace) -> Options:
    return Options(
        state_dir=state_dir_of(arguments.state_dir, os.environ, arguments.port),
        roots=tuple(arguments.allow_root) or default_roots(),
        agents=arguments.agents,
        keep_s=arguments.keep_s,
        keep_count=arguments.keep_count,
        notify_url=arguments.notify_url,
        notify_token_file=arguments.notify_token_file,
    )


if __name__ == "__main__":
    standard_streams.open_missing()
    given = parser.parse_args()
    code = main(
        host=given.host,
        port=given.port,
        options=options_of(given),
        listen_fd=given.listen_fd,
        stop_with_parent=given.stop_with_parent,
    )
    sys.exit(code)
