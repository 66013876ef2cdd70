"""``python -m tidegate.engine``: the engine without the rest of Tidegate."""

import argparse
import sys
from pathlib import Path

from tidegate.engine import DEFAULT_HOST, DEFAULT_PORT, main

parser = argparse.ArgumentParser(prog="python -m tidegate.engine", description="Run the reference engine.")
parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default: %(default)s)")
parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port, 0 for any (default: %(default)s)")
parser.add_argument("--state-dir", type=Path, help="where to keep what must outlive the engine")
parser.add_argument("--stop-with-parent", action="store_true", help="end when the process that started this one does")

if __name__ == "__main__":
    sys.exit(main(**vars(parser.parse_args())))
