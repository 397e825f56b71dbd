"""Ranking of a run: the model and every baseline, a row each, on the same test windows."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from model.evaluation.judged_tasks import FORECAST, TRACKS
from model.evaluation.score_table import ALL
from tasks.report.error_columns import Row, skill_interval, skill_verdict
from tasks.report.error_tables import NOUNS, TASK_WORDS, TRACK_WORDS, readable_rows
from tasks.report.first_screen import SPLIT, Subject
from tasks.report.markup import percent, share, spoken
from tasks.report.page_parts import Table
from tasks.report.units import NAUTICAL_MILE


def rankings(scores: pa.Table, subject: Subject) -> list[Table]:
    """A sortable table for each task and track, the best answerer first."""
    found = [
        ranking(readable_rows(scores, SPLIT, task, track), subject, caption_of(task, track))
        for task, tracks in TRACKS.items()
        for track in (tracks[:1] if task == FORECAST else tracks)
    ]
    return [table for table in found if table.rows]


def caption_of(task: str, track: str) -> str:
    return f"{SPLIT.capitalize()}: {TASK_WORDS.get(task, 'forecasts')}, {TRACK_WORDS[track]}"


def ranking(rows: Sequence[Row], subject: Subject, caption: str) -> Table:
    """The answerers by their error at the step of the gate, with their errors at each."""
    whole = [row for row in rows if row["mask"] == ALL]
    horizons = list(dict.fromkeys(row["horizon"] for row in whole))
    gate = subject.gate_horizon if subject.gate_horizon in horizons else (horizons or [None])[-1]
    of_model: dict[str, dict[int | None, Row]] = {}
    for row in sorted(whole, key=lambda row: row["horizon"] != gate):
        of_model.setdefault(row["model"], {})[row["horizon"]] = row
    ours = [not next(iter(alike.values()))["is_baseline"] for alike in of_model.values()]
    cells = [ranking_cells(alike, alike[gate], horizons, subject) for alike in of_model.values()]
    columns = ranking_columns(whole, horizons, gate, subject)
    return Table(caption, columns, cells, ours, is_sortable=True)


def ranking_columns(
    rows: Sequence[Row], horizons: Sequence[int | None], gate: int | None, subject: Subject
) -> list[str]:
    if not rows:
        return []
    noun, unit = NOUNS[rows[0]["main"]], rows[0]["unit"].sign
    at = {row["horizon"]: row["after"] or f"step {row['horizon']}" for row in rows}
    errors = [f"{noun} {at[step]}, {unit}" if step else f"{noun}, {unit}" for step in horizons]
    nautical = [f"{noun} {at[gate]}, nmi"] if subject.is_nautical and gate else []
    where = f" {at[gate]}" if gate else ""
    skill = [f"skill{where}", "95 % interval", "verdict", "within 80 %"]
    return ["model", *skill, *nautical, *errors]


def ranking_cells(
    alike: dict[int | None, Row],
    at_gate: Row,
    horizons: Sequence[int | None],
    subject: Subject,
) -> list[str]:
    main, unit = at_gate["main"], at_gate["unit"]
    errors = [unit.of(alike[step][main]) if step in alike else "" for step in horizons]
    is_nautical = subject.is_nautical and at_gate["horizon"]
    return [
        spoken(at_gate["model"]),
        percent(at_gate["skill"]) if "skill" in at_gate else "",
        skill_interval(at_gate),
        skill_verdict(at_gate),
        share(at_gate["coverage_80"]) if "coverage_80" in at_gate else "",
        *([NAUTICAL_MILE.of(at_gate[main])] if is_nautical else []),
        *errors,
    ]
