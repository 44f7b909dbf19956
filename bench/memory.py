"""Peak memory of ingesting one NDJSON file of 2 GB, beside that of half of it: memory must not follow the file.

    python -m bench memory                  # or: python -m bench.memory 2000
"""

import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from bench.ingest import measure, write_lines
from bench.result import Ratio

GOAL = "<= 1.2"
SMALLER = 2


def peak_memory_mb(room: Path, megabytes: float) -> float:
    """Write a file of this size, ingest it, and tell the peak resident memory of this process. Run in a fresh one."""
    write_lines(room / "lines", megabytes)
    measure("memory", room / "lines", room / "var")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(megabytes: float = 2000) -> list[Ratio]:
    """A process of its own for each size."""
    peaks = []
    for size in (megabytes / SMALLER, megabytes):
        with (tempfile.TemporaryDirectory(prefix="cuff-bench-") as folder,
              ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process):
            peaks.append(process.submit(peak_memory_mb, Path(folder), size).result())
    return [Ratio(f"ingest, memory for {megabytes / 1000:g} GB of NDJSON", peaks[1], peaks[0], "MB",
                  f"{megabytes / SMALLER:g} MB of NDJSON", GOAL, "peak resident memory of the process")]  # fmt: skip


if __name__ == "__main__":
    for each in run(*map(float, sys.argv[1:])):
        print(f"{each.name}: {each.ours:.0f} MB, {each.peer_name} {each.peer:.0f} MB, ratio {each.ratio:.2f}")
