"""The report: self-contained, escaped, equal bytes, and no trip of a person in it."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import ships
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from model.evaluation.score_table import wide_rows
from model.evaluation.strata import AT_REST, thirds
from tasks.config.pipeline import SplitConfig
from tasks.config.slices import ReportRules
from tasks.release.model_card import model_card
from tasks.report.error_sections import bar_of
from tasks.report.error_tables import read_scores
from tasks.report.html_page import SCRIPT
from tasks.report.markup import markdown_table
from tasks.report.report import REPORT, report
from tasks.report.terminal_tables import summary_tables
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Recipe, Store

PNG = b"\x89PNG\r\n\x1a\n"


def folder() -> Path:
    return ships.good().store.folder(ships.good().reported)


class Page(HTMLParser):
    """What a page loads and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.metas: list[dict[str, str | None]] = []
        self.text = ""
        self.source = text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        if tag == "meta":
            self.metas.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_no_network_and_runs_its_own_script_alone():
    page = Page((folder() / "report.html").read_text())
    assert not page.sources
    assert not {"iframe", "object", "link", "form", "image", "use"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://(?!www\.nhc\.noaa\.gov/data/<)", page.source)
    (policy,) = (meta for meta in page.metas if meta.get("http-equiv"))
    (script,) = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["content"] == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'"
    )
    assert script == SCRIPT.read_text()


def test_the_page_holds_what_was_found():
    text = Page((folder() / "report.html").read_text()).text
    made = ships.good()
    for words in (
        "damped velocity",
        "95 % interval",
        "48",  # windows
        "rejected: impossible speed",
        "US government work, public domain",
        "Landsea and Franklin (2013)",
        made.evaluated.recipe,
        made.shards.recipe,
    ):
        assert words in text
    assert "**chemin** | **48** |" in (folder() / "report.md").read_text()


def other_report(
    tmp_path: Path,
    dataset: str = "hurdat2",
    counts: dict | None = None,
    shards: Receipt | None = None,
    quality: Receipt | None = None,
) -> Path:
    """The good model's report, made again in a store of its own."""
    made, store = ships.good(), Store(tmp_path / "store")
    store.prepare()
    for step in (made.shards, made.trained, made.evaluated, made.proved, *filter(None, [quality])):
        target = store.folder(step)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(made.store.folder(step))
    config = made.config.model_copy(update={"dataset": dataset})
    given_counts = {"records read": 1_000, "rejected: impossible speed": 3}
    with without_orchestrator():
        steps = replace(
            made, config=config, store=store, shards=shards or made.shards, quality=quality
        )
        receipt = report(steps, made.proved, given_counts if counts is None else counts)
    return store.folder(receipt)


def test_no_heading_of_the_markdown_stands_alone():
    lines = [line for line in (folder() / "report.md").read_text().splitlines() if line]
    levels = [len(line) - len(line.lstrip("#")) for line in lines] + [1]
    alone = [
        line
        for line, level, following in zip(lines, levels, levels[1:], strict=False)
        if level and 0 < following <= level
    ]
    assert alone == []
    assert any(
        re.match(r"Loss after \d+ steps, in nats .*: validation .*\d", line) for line in lines
    )


def test_the_data_card_tells_counts_in_words_of_people(tmp_path):
    counts = {
        "snapshot_num_files_failed": 1,
        "snapshot_num_no_position": 75,
        "clean_kept": 24_592,
        "clean_rejected_null_island": 3,
        "regions_points_test_unseen_share": 0.0306,
    }
    text = (other_report(tmp_path, counts=counts) / "report.md").read_text()
    card = text.partition("home page")[2].partition("## How")[0]
    for row in (
        "| files that could not be read | 1 |",
        "| records rejected: no position | 75 |",
        "| points kept | 24,592 |",
        "| rejected: null island | 3 |",
        "| share of points of test in a cell where train never was | 3.1% |",
    ):
        assert row in card
    assert not re.search("snapshot|clean_|num ", card)


def test_reporting_again_gives_the_same_bytes(tmp_path):
    again = other_report(tmp_path)
    names = sorted(path.name for path in folder().iterdir() if path.name != "manifest.json")
    assert names == ["report.html", "report.md"]
    for name in names:
        assert (again / name).read_bytes() == (folder() / name).read_bytes(), name


def test_what_others_named_is_text_and_not_markup(tmp_path):
    made = other_report(tmp_path, counts={"<script>alert(1)</script>|x": "a|b\nc"})
    page = Page((made / "report.html").read_text())
    assert page.tags.count("script") == 1
    assert "<script>alert(1)</script>|x" in page.text
    markdown = (made / "report.md").read_text()
    assert "<script>" not in markdown
    assert "\\|x | a\\|b c |" in markdown


def test_a_markdown_table_keeps_its_columns():
    lines = markdown_table(("a", "b"), [("1|2", "3\n4")]).splitlines()
    assert lines == ["| a | b |", "| --- | ---: |", "| 1\\|2 | 3 4 |"]


# Strata and the split ---------------------------------------------------------------------------


@given(values=st.lists(st.sampled_from([0.0, 1.0, 2.5, 60.0, 7_200.0]), min_size=1, max_size=40))
def test_thirds_part_the_windows_in_order(values):
    parts = list(thirds("speed", np.array(values), "m/s"))
    assert 1 <= len(parts) <= 3
    assert (np.sum([chosen for _, chosen in parts], axis=0) == 1).all()
    assert all(chosen.any() for _, chosen in parts)
    for (_, low), (_, high) in pairwise(parts):
        assert np.array(values)[low].max() < np.array(values)[high].min()


def test_at_rest_the_bar_is_staying_and_elsewhere_the_best_baseline():
    names = ("chemin", "damped_velocity", "last_position")
    rows = [{"model": name, "is_baseline": name != "chemin"} for name in names]
    assert bar_of(AT_REST, rows)["model"] == "last_position"
    assert bar_of("context: under way", rows)["model"] == "damped_velocity"


def test_strata_add_up_to_the_whole():
    made = ships.good()
    scores = read_scores(made.store.folder(made.evaluated))
    rows = wide_rows(scores, split="test", track="times_given", horizon=4)
    (whole,) = (row for row in rows if (row["stratum"], row["model"]) == ("all", "chemin"))
    parts = [row for row in rows if row["stratum"] != "all"]
    strata = {row["stratum"].partition(": ")[0] for row in parts}
    assert strata == {
        *"sampling interval,mean speed,context,stop or turn,history,region".split(",")
    }
    for stratum in strata:
        ours = [
            row
            for row in parts
            if row["stratum"].startswith(f"{stratum}: ") and row["model"] == "chemin"
        ]
        assert sum(row["num_windows"] for row in ours) == whole["num_windows"]
        total_m = sum(row["num_windows"] * row["ade_m"] for row in ours)
        assert total_m / whole["num_windows"] == pytest.approx(whole["ade_m"])
        for row in ours:
            best_m = min(
                other["ade_m"]
                for other in parts
                if other["is_baseline"] and other["stratum"] == row["stratum"]
            )
            assert row["skill"] == pytest.approx(1 - row["ade_m"] / best_m)


def test_the_report_shows_strata_and_the_hash_of_the_split():
    text = Page((folder() / "report.html").read_text()).text
    markdown = (folder() / "report.md").read_text()
    for said in (text, markdown):
        for words in ("sampling interval", "with a stop", "points before", "split hash", "f00d"):
            assert words in said
        assert "Leakage control" not in said


def test_a_leaky_split_is_labelled_in_report_and_card(tmp_path):
    made = ships.good()
    shards = ships.stored_shards(Store(tmp_path / "store"), is_leaky=1)
    leaky = other_report(tmp_path, shards=shards)
    for name in ("report.html", "report.md"):
        assert "Leakage control, not a result" in (leaky / name).read_text()
    kinds = {
        "entity": SplitConfig(),
        "time": SplitConfig(kind="time"),
        "region": SplitConfig(kind="region", west_deg=-10, south_deg=40, east_deg=5, north_deg=60),
        "random_window": SplitConfig(kind="random_window"),
    }
    cards = {
        kind: model_card(
            replace(made, config=made.config.model_copy(update={"split": split})), made.reported
        )
        for kind, split in kinds.items()
    }
    assert {kind for kind, card in cards.items() if "Leakage control" in card} == {"random_window"}
    assert "between -10.0 and 5.0 degrees east" in cards["region"]
    assert all("| split hash | f00d |" in card for card in cards.values())


# Maps of people ---------------------------------------------------------------------------------


def test_a_report_of_people_draws_no_trip(tmp_path):
    made = other_report(tmp_path, dataset="geolife")
    page = (made / "report.html").read_text()  # without cells that enough of them share
    assert "No cell holds 5 entities" in page
    drawn = (folder() / "report.html").read_text()
    entities = set(re.findall(r"(?:worst|typical): (test-\d+) from", drawn))
    assert len(entities) >= 3
    assert 'class="view"' in drawn
    for text in (*entities, 'class="view"'):
        assert text not in page + (made / "report.md").read_text()


def test_a_report_of_people_shows_the_map_of_the_quality_report(tmp_path):
    store = ships.good().store
    recipe = Recipe(stage="quality", dataset="geolife", code={}, sql={}, settings={}, inputs={})
    with store.draft() as draft:
        (draft / "map.png").write_bytes(PNG)
        quality = store.publish(draft, recipe, {}, licence="made up")
    made = other_report(tmp_path, dataset="geolife", quality=quality)
    page = Page((made / "report.html").read_text())
    assert page.sources == [f"data:image/png;base64,{base64.b64encode(PNG).decode()}"]
    assert "at least 5 of them share" in page.text


def test_only_what_is_said_is_in_the_recipe():
    fields = set(ReportRules.model_fields)
    assert not {name for name in fields if re.search(r"path|root|time|host|seed", name)}
    assert REPORT.name == "report"


# Terminal ---------------------------------------------------------------------------------------


def test_the_terminal_table_fits_and_names_all(monkeypatch):
    made = ships.good()
    out = io.StringIO()
    (table,) = summary_tables(made.store.folder(made.evaluated))
    Console(file=out, width=110).print(table)
    lines = out.getvalue().splitlines()
    told = [line for line in lines if "skill" not in line or "step  model" in line]
    for name in ("chemin", "last position", "constant velocity 3", "damped velocity"):
        assert sum(name in line for line in told) == 2
    assert sum("chemin at step" in line for line in lines) == 1
    assert "6 entities" in lines[0]
    assert "…" not in out.getvalue()


@pytest.mark.parametrize("text", ["a", "b"])
def test_the_counts_are_part_of_the_recipe(text):
    made = ships.good()
    inputs = {"shards": made.shards, "trained": made.trained, "evaluated": made.evaluated}

    def recipe(counts: dict[str, str]) -> str:
        recorded = made.store.manifest(made.reported).recipe.settings
        rules = ReportRules.model_validate(recorded | {"data_counts": counts})
        return REPORT.recipe("hurdat2", rules, inputs).digest

    assert recipe({"kept": text}) != recipe({"kept": text + "x"})
