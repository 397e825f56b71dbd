"""Calibration in a report: what a model's areas hold, and where in its spread the truth lies."""

from __future__ import annotations

import math

import pyarrow as pa

from model.evaluation.judged_tasks import (
    FORECAST,
    NEXT_STAY,
    NEXT_TRAVEL,
    TIMES_GIVEN,
    TRACKS,
    TRAVEL_TIME,
)
from model.evaluation.score_table import ALL
from tasks.report.charts import STROKE, Axis, ChartRow, Mark, bar_chart, interval_chart, legend_of
from tasks.report.error_columns import Row
from tasks.report.error_sections import topic_parts
from tasks.report.error_tables import CALIBRATION, readable_rows
from tasks.report.first_screen import SPLIT, Subject, asked_words
from tasks.report.markup import spoken
from tasks.report.page_parts import Html, Part

SHARES = (50, 80, 95)
KINDS = ("rival", "ours", "truth")
ACROSS = "percent of the spread, from its middle out"


def calibration_parts(scores: pa.Table, subject: Subject) -> list[str | Part]:
    """Coverage at each horizon, PIT at the step of the gate, and the tables of everyone."""
    heading, explained, *tables = topic_parts(CALIBRATION, scores)
    rows = told_rows(scores, subject)
    charts = [Html(coverage_chart(rows, subject)), *pit_charts(rows, subject)] if rows else []
    return [heading, explained, *charts, *tables]


def told_rows(scores: pa.Table, subject: Subject) -> list[Row]:
    """The rows of the model that tell of a spread."""
    tasks = (TRAVEL_TIME, NEXT_TRAVEL, NEXT_STAY)
    asked = [(FORECAST, TIMES_GIVEN), *((task, track) for task in tasks for track in TRACKS[task])]
    return [
        row
        for task, track in asked
        for row in readable_rows(scores, SPLIT, task, track)
        if row["model"] == subject.model and row["mask"] == ALL and "coverage_80" in row
    ]


def coverage_chart(rows: list[Row], subject: Subject) -> str:
    title = f"Share of test windows in the 50, 80 and 95 % areas of {spoken(subject.model)}"
    chart_rows = [
        ChartRow(
            asked_words(row),
            "",
            ", ".join(f"{row[f'coverage_{held}']:.0%}" for held in known_shares(row)),
            [coverage_mark(row, held, kind) for held, kind in zip(SHARES, KINDS, strict=True)],
        )
        for row in rows
    ]
    held = [mark.low for row in chart_rows for mark in row.marks if math.isfinite(mark.low)]
    ticks = [(share / 100, f"{share} %") for share in SHARES]
    axis = Axis(max(0.0, min([0.45, *held]) - 0.02), 1.0, ticks)
    legend = legend_of(
        [*((f"{share} % areas", kind) for share, kind in zip(SHARES, KINDS, strict=True)), STROKE]
    )
    return interval_chart(
        "coverage", title, chart_rows, axis, ("← too small", "too large →"), legend
    )


def known_shares(row: Row) -> list[int]:
    return [held for held in SHARES if f"coverage_{held}" in row]


def coverage_mark(row: Row, held: int, kind: str) -> Mark:
    name = f"coverage_{held}"
    value = row.get(name, math.nan)
    low, high = (row.get(f"{name}_{end}", value) for end in ("low", "high"))
    return Mark(value, low, high, kind)


def pit_charts(rows: list[Row], subject: Subject) -> list[Part]:
    """Of the step of the gate: a tenth of the windows should lie in each tenth of the spread."""
    found = [row for row in rows if "pit_10" in row]
    row = next((row for row in found if row["horizon"] == subject.gate_horizon), None)
    if row is None:
        return []
    bars = [(f"{tenth}0", row[f"pit_{tenth}0"]) for tenth in range(1, 11)]
    told = ", ".join(f"{value:.0%}" for _, value in bars)
    title = f"PIT at {asked_words(row)}: where the truth lies in the spread, from its middle out"
    words = f"Each bar should reach the line, a tenth. From the middle out: {told}."
    return [Html(bar_chart("pit", title, bars, 0.1, ACROSS, words))]
