"""Benchmark: every family of a suite on all its data, and a leaderboard that can be made again."""

from prefect import flow

from flows import steps
from flows.steps import Benchmarked


@flow
def benchmark(suite: str = "smoke", source_folder: str = "") -> Benchmarked:
    """Train and judge all families of a suite on all its data, and rank them.

    What was trained before is only looked up, so that a benchmark that was cut short goes on.

    Args:
        suite: smoke or full, or the path of a TOML file of your own.
        source_folder: Folder of the raw files that the suite names; what it lacks is left out.
    """
    return steps.benchmark(suite, source_folder)
