"""CLI output: what a command prints for people, each with the places to look further."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.config.datasets import Dataset
from tasks.runtime.store import Store

if TYPE_CHECKING:
    from flows.steps import Benchmarked, Transferred
    from tasks.release.outcome import Assessment, CorpusAssessment


def dataset_lines(row: Dataset) -> str:
    """What a person needs to know of a dataset before running it."""
    start = "embedded sample" if row.sample else row.url or "needs --source PATH"
    start = "made on demand" if row.is_generated else start
    return f"{row.name:10} {row.title}\n{'':10} {row.entity_kinds}; {start}; {row.licence}"


def fitted_line(judged: Transferred, few_shot: Sequence[float]) -> str:
    """What of these data the judged model has learned from."""
    from tasks.evaluate.local_model import is_local

    if is_local(judged.model):
        return f"{judged.model} was given train and validation of {judged.dataset}, and no test."
    told = f"Nothing was fitted on {judged.dataset} for {judged.model}"
    shares = " and ".join(f"{percent:g}" for percent in few_shot)
    return (
        f"{told}, but where {shares} % of the train entities are named." if shares else f"{told}."
    )


def show_errors(evaluated: Path) -> None:
    from rich.console import Console

    from tasks.report.terminal_tables import summary_tables

    Console().print("", *summary_tables(evaluated), "", sep="\n")


def show_leaderboard(done: Benchmarked, store: Store) -> None:
    """Print everyone's skill, what was left out, and where the page is."""
    from rich.console import Console

    from tasks.report.leaderboard import terminal_tables

    Console().print("", *terminal_tables(store.verify(done.tables), done.paces), "", sep="\n")
    lines = [
        *(one.line for one in done.left_out),
        f"  leaderboard  {store.verify(done.page) / 'leaderboard.html'}",
        f"  tables       {store.verify(done.tables)}",
    ]
    print("\n".join(lines))


def show_members(assessment: CorpusAssessment, store: Store) -> None:
    """Print the table of each member, the registry's answer, and where to look further."""
    for one in assessment.members:
        print(f"\n{one.title}, {one.part}")
        show_errors(store.verify(one.evaluated))
    here = f"--store {shlex.quote(str(store.root))}"
    lines = [
        *assessment.lines,
        "",
        "To look further:",
        f"  report     {store.verify(assessment.reported) / 'report.html'}",
        f"  browser    trajfoundry ui {here}",
        f"  forecast   trajfoundry forecast {here} --model {assessment.candidate_uri}"
        " --input x.parquet --output y.parquet",
    ]
    print("\n".join(lines))


def show_outcome(assessment: Assessment, store: Store) -> None:
    """Print the table, the registry's answer, and where to look further."""
    from tasks.release.outcome import CorpusAssessment

    if isinstance(assessment, CorpusAssessment):
        show_members(assessment, store)
        return
    show_errors(store.verify(assessment.receipt("evaluate")))
    report = store.verify(assessment.receipt("report")) / "report.html"
    here = f"--store {shlex.quote(str(store.root))}"
    lines = [
        *assessment.lines,
        "",
        "To look further:",
        f"  report     {report}",
        f"  tables     {store.warehouse} (DuckDB 2, read-only)",
        f"  browser    trajfoundry ui {here}",
    ]
    if "test_windows" in assessment.receipt("evaluate").counts:
        lines.append(
            f"  forecast   trajfoundry forecast {here} --model {assessment.candidate_uri}"
            " --input x.parquet --output y.parquet"
        )
    print("\n".join(lines))
