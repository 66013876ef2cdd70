"""``python -m simulation SEED [HOURS]``: live one world and say what was wrong with it, or exit with 0."""

import sys

from simulation.world import live


def main(seed: str, hours: str = "1") -> int:
    """Live the world of `seed`."""
    report = live(int(seed), hours=float(hours))
    print(f"seed {seed}: {report.exchanges} calls, {report.messages} messages heard, digest {report.digest}")
    for violation in report.violations:
        print(violation)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
