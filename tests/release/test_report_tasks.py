"""Report, card, terminal, Prefect and MLflow tell of each family what it was judged on."""

from __future__ import annotations

import io
import json
import math
import re

import pytest
from helpers import masked_ships
from rich.console import Console

from model.evaluation.judged_tasks import TRAVEL_TIME
from model.evaluation.score_table import SCORES
from tasks.release.mlflow_metrics import mlflow_metrics
from tasks.release.model_card import model_card
from tasks.release.outcome import SHOWN, Assessment, shown_errors
from tasks.release.promote import Promotion
from tasks.release.register import Registration
from tasks.report.error_columns import mask_words
from tasks.report.error_sections import topic_parts
from tasks.report.error_tables import RECOVERIES, TRAVEL_TIMES, read_scores
from tasks.report.html_page import page
from tasks.report.terminal_tables import summary_tables
from tasks.runtime.run_records import StageRun

FAMILIES = ("trajfm", "masked_chemin")
FORECAST_WORDS = ("Error by horizon", "by what the windows are like", "ADE")


def folder(family: str):
    return masked_ships.evaluated(family).store.folder(masked_ships.reported(family))


def card_of(family: str) -> str:
    made = masked_ships.evaluated(family)
    written = masked_ships.reported(family)
    return model_card(made, written)


def test_a_family_that_does_not_forecast_has_no_word_of_forecasts():
    page = (folder("masked_chemin") / "report.html").read_text()
    markdown = (folder("masked_chemin") / "report.md").read_text()
    for text in (page, markdown, card_of("masked_chemin")):
        assert "Recovery errors" in text
        assert "Travel time" not in text
        assert not re.search(r"<h2>Test errors|## Test errors|by horizon|forecast", text)
    assert "masked windows whose hidden points are recovered" in page
    assert "Recovers hidden points" in card_of("masked_chemin")


def test_a_family_that_does_all_has_a_section_of_each():
    page = (folder("trajfm") / "report.html").read_text()
    for words in (
        *FORECAST_WORDS,
        "Recovery errors",
        "Test, hidden points recovered, times hidden",
        "Validation, paths between two ends, times given",
        "Travel time errors",
        "Test, travel time, path and departure given",
        "od hour",
        "hermite",
    ):
        assert words in page
    card = card_of("trajfm")
    places = [card.index(word) for word in ("Forecasts", "Recovers", "Tells travel times")]
    assert places == sorted(places)
    counts = masked_ships.evaluated("trajfm").evaluated.counts
    assert f"{counts['test_travel_time_windows']} test journeys" in page


def test_ours_is_marked_and_a_skill_below_zero_is_shown_so():
    evaluated = masked_ships.evaluated("trajfm")
    place = evaluated.store.folder(evaluated.evaluated)
    topics = (RECOVERIES, TRAVEL_TIMES)
    tables = [table for topic in topics for table in topic.tables(read_scores(place), "test")]
    assert len(tables) == 5
    for table in tables:
        text = table.part.markdown
        marked = [line for line in text.splitlines() if "| **trajfm** |" in line]
        assert len(marked) == sum(table.are_ours) > 0
        rows = page("", [table.part]).split("<tr")
        strong = [row for row in rows if row.startswith(' class="ours"')]
        assert len(strong) == len(marked)
        assert all(">trajfm</th>" in row for row in strong)
        lines = [line for line in text.splitlines() if "trajfm" in line or "**" in line]
        assert all("| **trajfm** |" in line for line in lines)
    shown = page("", [table.part for table in tables])
    rows = masked_ships.rows_of(evaluated, *masked_ships.RECOVERY, TRAVEL_TIME)
    worst = min(row["skill"] for row in rows if row["split"] == "test")
    assert worst < 0
    assert f">{worst:+.1%}<" in shown
    assert "nan" not in shown


def test_the_best_of_a_mask_stands_first_and_a_single_mask_once():
    evaluated = masked_ships.evaluated("trajfm")
    place = evaluated.store.folder(evaluated.evaluated)
    given, hidden, paths = RECOVERIES.tables(read_scores(place), "test")
    for table in (given, hidden):
        groups = [cells[0] for cells in table.cells]
        assert list(dict.fromkeys(groups)) == ["a block of 5", "all but 1/2", "any of these"]
        assert [row[0] for row in table.rows if row[0]] == list(dict.fromkeys(groups))
        for name in set(groups):
            errors = [float(cells[3].replace(",", "")) for cells in table.cells if cells[0] == name]
            assert errors == sorted(errors)
    assert {cells[0] for cells in paths.cells} == {"all but the ends"}


@pytest.mark.parametrize(
    ("mask", "words"),
    [("keep_1_8", "all but 1/8"), ("block_20", "a block of 20"), ("ends", "all but the ends")],
)
def test_masks_are_told_in_words(mask, words):
    assert mask_words(mask) == words


def test_where_nothing_could_be_judged_the_report_says_why():
    """No masked windows, and train without journeys."""
    for topic in (RECOVERIES, TRAVEL_TIMES):
        parts = topic_parts(topic, SCORES.empty_table())
        assert parts == [f"## {topic.heading}", topic.unjudged]
        assert topic.unjudged


@pytest.mark.parametrize("family", FAMILIES)
def test_the_terminal_tables_fit_and_name_all(family):
    made = masked_ships.evaluated(family)
    out = io.StringIO()
    Console(file=out, width=80).print(*summary_tables(made.store.folder(made.evaluated)))
    text = out.getvalue()
    expected = {"linear", "hermite", spoken(family)}
    expected |= (
        {"mean speed", "od hour", "boosting", "last position"} if family == "trajfm" else set()
    )
    assert all(name in text for name in expected)
    assert ("last position" in text) == (family == "trajfm")
    assert "…" not in text


def spoken(name: str) -> str:
    return name.replace("_", " ")


# Registry and Prefect ---------------------------------------------------------------------------


def test_mlflow_has_a_number_of_every_row():
    made = masked_ships.evaluated("trajfm")
    found = mlflow_metrics(made.store.folder(made.evaluated))
    named = dict(found)
    assert len(named) == len(found)
    for name in (
        "test/trajfm/ade_m_step_4",
        "test/recover/times_given/block_5/linear/mae_m",
        "validation/path_inference/times_given/all/trajfm/skill",
        "test/travel_time/path_given/boosting/mae_s",
        "test/travel_time/ends/trajfm/coverage_80",
    ):
        assert math.isfinite(named[name])
    assert "test/travel_time/ends/boosting/coverage_80" not in named
    for row in masked_ships.rows_of(made, *masked_ships.RECOVERY):
        place = "/".join(row[key] for key in ("split", "task", "track", "mask", "model"))
        assert named[f"{place}/rmse_m"] == row["rmse_m"]


def assessment_of(family: str) -> Assessment:
    made = masked_ships.evaluated(family)
    run = StageRun(receipt=made.evaluated, is_cached=False, wall_s=1.0, peak_memory_mb=1.0)
    return Assessment(
        dataset="hurdat2",
        stages=(run,),
        registration=Registration(name="n", version="1", run_id="r", is_new=True),
        promotion=Promotion(is_champion=False, is_new=False, reason="no"),
    )


def test_prefect_shows_a_table_of_each_judged_task():
    made = masked_ships.evaluated("trajfm")
    for kind, topic in (("recovery", RECOVERIES), ("durations", TRAVEL_TIMES)):
        rows = shown_errors(assessment_of("trajfm"), made.store, kind)
        tables = topic.tables(read_scores(made.store.folder(made.evaluated)), "test")
        assert len(rows) == sum(len(table.cells) for table in tables) > 0
        assert json.dumps(rows, allow_nan=False)
    made = masked_ships.evaluated("masked_chemin")
    sizes = {
        kind: len(shown_errors(assessment_of("masked_chemin"), made.store, kind)) for kind in SHOWN
    }
    assert (sizes["errors"] == 0, sizes["recovery"] > 0, sizes["durations"]) == (True, True, 0)
