"""``python -m bench.engine_compression [FILE]``: the engine's compression beside the ``zstd`` program with one thread.

Both read the same file and write beside it, in turns; the figure is the median of the ratios of neighbouring runs. The
program only compresses. The engine besides makes a digest, syncs, and reads the result back to compare: that is told
apart, since the program has no such step. Without FILE, this Python's own libraries are the data.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tidegate.engine.compression.messages import Run, Verified
from tidegate.engine.compression.task import Progress, carry_out

SIZE_BYTES = 300_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--levels", default="1,3,9")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if not shutil.which("zstd"):
        print("the zstd program is not installed")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        source = given.file or sample(Path(folder) / "sample")
        size = source.stat().st_size
        print(f"{size / 1e6:.0f} MB; MB/s, median of {given.rounds} interleaved rounds; ratio: engine by program\n")
        print("| level | zstd, one thread | engine, compressing | ratio | engine, the whole job | ratio |")
        print("| --- | --- | --- | --- | --- | --- |")
        for level in map(int, given.levels.split(",")):
            rounds = [one_round(source, Path(folder), level) for _ in range(given.rounds)]
            program, compressing, whole = (statistics.median(times) for times in zip(*rounds, strict=True))
            ratio = statistics.median(program_s / engine_s for program_s, engine_s, _ in rounds)
            ratio_whole = statistics.median(program_s / whole_s for program_s, _, whole_s in rounds)
            speeds = [f"{size / 1e6 / elapsed_s:.0f}" for elapsed_s in (program, compressing, whole)]
            print(
                f"| {level} | {speeds[0]} | {speeds[1]} | {ratio:.2f} | {speeds[2]} | {ratio_whole:.2f} |", flush=True
            )
    return 0


def one_round(source: Path, folder: Path, level: int) -> tuple[float, float, float]:
    """Seconds of the program, of the engine until all is read and compressed, and of its whole job."""
    return program_s(source, folder, level), *engine_s(source, folder, level)


def program_s(source: Path, folder: Path, level: int) -> float:
    target = folder / "program.zst"
    began = time.perf_counter()
    subprocess.run(["zstd", "-q", "-f", "-T1", f"-{level}", source, "-o", target], check=True)
    elapsed_s = time.perf_counter() - began
    target.unlink()
    return elapsed_s


class _Timed(Progress):
    """Notes when the last byte was written."""

    written_at = 0.0

    def set(self, **done: object) -> None:
        if done.get("written"):
            self.written_at = time.perf_counter()
        super().set(**done)  # type: ignore[arg-type]


def engine_s(source: Path, folder: Path, level: int) -> tuple[float, float]:
    target = folder / "engine.zst"
    run = Run(
        job="bench",
        attempt=1,
        source=os.fsencode(source.resolve()),
        destination=os.fsencode(target.resolve()),
        level=level,
        roots=[os.fsencode(source.resolve().parent), os.fsencode(folder.resolve())],
    )
    progress = _Timed()

    def publish(_: Verified) -> bool:
        return True

    began = time.perf_counter()
    carry_out(run, progress, publish)
    whole_s = time.perf_counter() - began
    target.unlink()
    return progress.written_at - began, whole_s


def sample(path: Path) -> Path:
    """A file of about `SIZE_BYTES`: what lies beside this Python's standard library and packages, end to end."""
    with path.open("wb") as out:
        for file in _files():
            out.write(file.read_bytes())
            if out.tell() >= SIZE_BYTES:
                break
    return path


def _files() -> Iterator[Path]:
    while True:
        for top in sorted({Path(os.__file__).parent, Path(sys.prefix)}):
            yield from (file for file in sorted(top.rglob("*")) if file.is_file() and not file.is_symlink())


if __name__ == "__main__":
    sys.exit(main())
