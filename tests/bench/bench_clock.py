"""One measurement in a process of its own: seconds, CPU seconds, peak memory, and the answer.

Standard library only: the project's environment and that of the peers both run it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Answers = dict[str, float]


class Clock:
    """Gathers the measures of one process, each by its name."""

    def __init__(self) -> None:
        self.measures: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[Answers]:
        """Time a block; what the block puts into the dictionary is its answer."""
        answers: Answers = {}
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        yield answers
        self.measures[name] = {
            "wall_s": time.perf_counter() - wall_s,
            "cpu_s": time.process_time() - cpu_s,
            "peak_mb": peak_mb(),
            "answers": answers,
        }

    def share(self, name: str, number: int) -> None:
        """Let the seconds of a measure that did something so often be those of one time."""
        for seconds in ("wall_s", "cpu_s"):
            self.measures[name][seconds] /= number


def peak_mb() -> float:
    """The most memory this program has held, in MiB.

    `ru_maxrss` is the fallback only: Linux hands a parent's peak down to the child it starts.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (1024 if sys.platform == "linux" else 1024**2)


def main(workloads: dict[str, Callable[..., None]]) -> None:
    """Run the workload that the command line names, and print its measures as one line of JSON."""
    name, *arguments = sys.argv[1:]
    clock = Clock()
    workloads[name](clock, *map(Path, arguments))
    sys.stdout.flush()
    os.write(1, b"\n" + json.dumps(clock.measures).encode() + b"\n")
