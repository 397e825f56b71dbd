"""The page of a report: well formed, sound to a screen reader, and the same verdict everywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers import masked_ships, ships

from model.baselines.forecast import CONSTANT_VELOCITY, CONSTANT_VELOCITY_3, LAST_POSITION
from model.data.shards import Shards
from model.evaluation.encoding_probe import CONTROL, ELSEWHERE, POSITIONS_LATER, VARIANTS
from model.evaluation.judged_tasks import FORECAST
from model.evaluation.question import Judging
from model.evaluation.score_table import wide_rows
from model.evaluation.scores import scored
from model.evaluation.verdict import AHEAD, ALIKE, BEHIND, TOO_FEW
from tasks.config.pipeline import PipelineConfig, SplitConfig, TrainConfig
from tasks.release.model_card import first_screen_text, model_card
from tasks.report.charts import Axis, ChartRow, Mark, interval_chart, skill_axis, steps_between
from tasks.report.error_columns import CALIBRATION_COLUMNS
from tasks.report.error_tables import CALIBRATION, read_scores
from tasks.report.first_screen import Subject, sentence, standings
from tasks.report.page_style import STYLE
from tasks.report.ranking import rankings
from tasks.report.report import KEPT
from tasks.report.reproducing import command_of
from tasks.report.window_map import Window, map_parts, places_km, read_windows, steps_table
from tasks.runtime.store import Store

VOID = {"meta", "img", "input", "br", "hr"}
SUBJECT = Subject("chemin", "storm", 4, is_nautical=True)


def folder():
    return ships.good().store.folder(ships.good().reported)


def html() -> str:
    return (folder() / "report.html").read_text()


class Tree(HTMLParser):
    """The elements of a page, each with its attributes and its text; every tag must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict, list[str]]] = []
        self.elements: list[tuple[str, dict, str]] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        assert len(attrs) == len(dict(attrs)), (tag, attrs)
        if tag in VOID:
            self.elements.append((tag, dict(attrs), ""))
        else:
            self.open.append((tag, dict(attrs), []))

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        opened, attrs, texts = self.open.pop()
        assert opened == tag, (opened, tag)
        self.elements.append((tag, attrs, "".join(texts)))

    def handle_data(self, data: str) -> None:
        for _, _, texts in self.open:
            texts.append(data)

    def of(self, tag: str) -> list[tuple[dict, str]]:
        return [(attrs, text) for name, attrs, text in self.elements if name == tag]


# Soundness --------------------------------------------------------------------------------------


def test_every_tag_is_closed_and_every_id_is_one():
    tree = Tree(html())
    ids = [attrs["id"] for _, attrs, _ in tree.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs, _ in tree.elements:
        for name in ("aria-labelledby", "for"):
            assert set(attrs.get(name, "").split()) <= set(ids)


def test_headings_go_down_one_level_at_a_time():
    levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", html())]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_chart_and_map_has_a_text_alternative():
    tree = Tree(html())
    texts = {attrs["id"]: text for _, attrs, text in tree.elements if "id" in attrs}
    shown = [attrs for attrs, _ in tree.of("svg") if attrs.get("role") == "img"]
    assert len(shown) >= 5
    for attrs in shown:
        named = [texts[name] for name in attrs.get("aria-labelledby", "").split()]
        words = " ".join([*named, attrs.get("aria-label", "")])
        assert len(words) > 40
        assert re.search(r"\d", words)
    assert all(attrs.get("alt") for attrs, _ in tree.of("img"))


def test_tables_have_captions_and_their_heads_a_scope():
    page = html()
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert len(tables) > 8
    for table in tables:
        heads = re.findall(r"<th[ >][^>]*", table)
        assert heads
        assert all("scope=" in head for head in heads)
    own = [table for table in tables if "<caption>" in table]
    assert len(own) > 6
    folded = re.findall(r"<details.*?</details>", page, re.DOTALL)
    assert sum("<table" in part for part in folded) >= 5


def test_controls_are_named_and_focus_is_seen():
    tree = Tree(html())
    for attrs, text in tree.of("button"):
        assert attrs["type"] == "button"
        assert attrs.get("aria-label") or re.search(r"\w", text)
    assert ":focus-visible { outline: 3px" in STYLE
    views = [attrs for attrs, _ in tree.of("svg") if attrs.get("class") == "view"]
    assert views
    assert all(attrs["tabindex"] == "0" for attrs in views)


def test_texts_stand_out_from_the_page_by_the_web_rule():
    """A contrast of 4.5 (WCAG 2.2, 1.4.3) in light and in dark."""
    pairs = dict(re.findall(r"--(\w+): light-dark\(([^;]*)\);", STYLE))
    tones = {name: [tone.strip() for tone in both.split(",")] for name, both in pairs.items()}
    for number in range(2):
        for ink in ("ink", "muted", "ours", "truth", "rival", "focus"):
            for ground in ("page", "soft"):
                found = contrast(tones[ink][number], tones[ground][number])
                assert found >= 4.5, (ink, ground, number)


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    ]
    return sum(
        weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


# The verdict ------------------------------------------------------------------------------------


def verdict() -> str:
    made = ships.good()
    return sentence(standings(read_scores(made.store.folder(made.evaluated)), SUBJECT), SUBJECT)


def test_the_verdict_is_the_same_in_page_markdown_card_and_description():
    made = ships.good()
    told = verdict()
    assert told.startswith(
        "Too little data to judge chemin in forecasts of storms: over the next 40"
    )
    assert told.endswith("test windows of 6 storms).")
    first = Tree(html()).of("p")[0][1]
    assert first == told
    described = first_screen_text(made)
    markdown = (folder() / "report.md").read_text()
    bold, _, numbers = described.split("\n\n")[0].partition("**: ")
    assert f"{bold.removeprefix('**')}: {numbers}" == told
    for text in (markdown, model_card(made, made.reported)):
        heading, first_words, *_ = text.split("\n\n")
        assert heading.startswith("# ")
        assert first_words == described.split("\n\n")[0]
    for part in described.split("\n\n"):
        assert part in markdown


def told_of(low: float, high: float, num_windows: int = 100) -> str:
    made = ships.good()
    found = standings(read_scores(made.store.folder(made.evaluated)), SUBJECT)
    skill = (low + high) / 2
    changed = {"skill": skill, "skill_low": low, "skill_high": high, "num_windows": num_windows}
    changed |= {"num_entities": 50}
    told = [replace(one, ours={**one.ours, **changed}, is_first=True) for one in found]
    return sentence(told, SUBJECT)


@pytest.mark.parametrize(
    ("low", "high", "num_windows", "words"),
    [
        (0.1, 0.2, 100, "chemin forecasts storms better than every baseline:"),
        (-0.2, -0.1, 100, "chemin forecasts storms worse than"),
        (-0.1, 0.1, 100, "chemin cannot be told apart from"),
        (0.1, 0.2, 5, "Too little data to judge chemin in forecasts of storms:"),
    ],
)
def test_what_is_said_is_what_the_interval_allows(low, high, num_windows, words):
    assert told_of(low, high, num_windows).startswith(words)
    assert len({AHEAD, BEHIND, ALIKE, TOO_FEW}) == 4


def test_the_error_in_the_sentence_is_of_the_bar_that_its_skill_is_over():
    """The fault: of a bar that validation chose stood the skill, of the luckiest one its error."""
    shards = Shards.open(ships.good().store.folder(ships.good().shards), "UTC")
    asked, chosen = ("forecast", "times_given", "all", 4), "last_position"
    judging = Judging((4,), tasks=("forecast",), num_bootstrap=100)
    baselines = [LAST_POSITION, CONSTANT_VELOCITY, CONSTANT_VELOCITY_3]
    scores = scored(shards, baselines, "test", judging, bars={asked: chosen}).table
    is_ours = pc.equal(scores["model"], "constant_velocity_3")
    place = scores.schema.get_field_index("is_baseline")
    scores = scores.set_column(place, "is_baseline", pc.invert(is_ours))
    subject = Subject("constant_velocity_3", "ship", 4)
    (found,) = standings(scores, subject)
    assert found.bar_model == chosen
    assert found.ours["ade_m"] == pytest.approx((1 - found.ours["skill"]) * found.bar_error)
    told = {row["model"]: row["ade_m"] for row in wide_rows(scores, track="times_given", horizon=4)}
    assert found.bar_error == told[chosen]
    assert found.is_first is (found.ours["ade_m"] < told["constant_velocity"])
    ours = {**found.ours, "skill": 0.4, "skill_low": 0.3, "skill_high": 0.5}
    ours |= {"num_windows": 300, "num_entities": 50}
    for is_first, rival in ((True, "every baseline:"), (False, "last position:")):
        words = sentence([replace(found, ours=ours, is_first=is_first)], subject)
        assert f"forecasts ships better than {rival}" in words


def test_a_leaky_split_is_no_result_in_the_sentence_either():
    leaky = replace(SUBJECT, is_leaky=True)
    assert sentence(standings(scores_of(ships.good()), leaky), leaky).startswith(
        "Leakage control, not a result: "
    )
    made = ships.good()
    config = made.config.model_copy(update={"split": SplitConfig(kind="random_window")})
    assert "Leakage control" in first_screen_text(replace(made, config=config))


def scores_of(made):
    return read_scores(made.store.folder(made.evaluated))


def test_each_task_that_is_judged_stands_in_the_chart():
    scores = scores_of(masked_ships.evaluated("trajfm"))
    found = standings(scores, Subject("trajfm", "ship", 4))
    asked = [one.asked for one in found]
    assert len(asked) == len(set(asked)) == 7
    assert sum("step" in words for words in asked) == 2
    for one in found:
        rest = (1 - one.ours["skill"]) * one.bar_error
        assert one.ours[one.ours["main"]] == pytest.approx(rest)
    masked = Subject("masked_chemin", "ship", 4)
    hidden = standings(scores_of(masked_ships.evaluated("masked_chemin")), masked)
    assert "hidden points of ships" in sentence(hidden, masked)


def test_numbers_are_rounded_for_people():
    """Three digits, and kilometres where there are thousands of metres."""
    errors, _, _ = (html().partition("<body>")[2]).partition("What the encoding keeps")
    text = re.sub(r"<[^>]*>", " ", errors)
    assert re.search(r"\d km \(\d", text)
    assert not re.search(r"\d\.\d{3}", text)
    assert not re.search(r"\d,\d{3} m\b", text)


def test_the_leaderboard_has_everyone_once_and_may_be_sorted():
    made = ships.good()
    (table,) = rankings(scores_of(made), SUBJECT)
    names = [row[0] for row in table.rows]
    assert len(names) == len(set(names)) == 5
    assert table.are_strong == [name == "chemin" for name in names]
    errors = [float(row[-1].replace(",", "")) for row in table.rows]
    assert errors == sorted(errors)
    assert html().count("<table data-sortable>") == 1


# Charts -----------------------------------------------------------------------------------------


def test_a_skill_without_bounds_stays_in_its_chart():
    marks = [Mark(-0.3, float("-inf"), 0.1, "alike"), Mark(float("nan"), 0, 0, "alike")]
    axis = skill_axis(marks, "bar")
    assert (axis.low, axis.high) == (-0.5, 0.1)
    rows = [ChartRow("a <b>", "c", "", [mark]) for mark in marks]
    drawn = interval_chart("x", "t", rows, axis)
    assert Tree(drawn).of("desc")[0][1] == "a <b>: c. a <b>: c."
    assert "nan" not in drawn
    shares = [float(text) for text in re.findall(r'[cx][x12]="([\d.]+)%"', drawn)]
    assert shares
    assert all(0 <= share <= 100 for share in shares)


def test_ticks_are_round_and_inside():
    assert steps_between(0, 1_833) == [0, 500, 1_000, 1_500]
    assert steps_between(0, 0.9) == pytest.approx([0, 0.25, 0.5, 0.75])
    assert Axis(0, 10, []).share(12) == 1


# Maps -------------------------------------------------------------------------------------------


def windows() -> list[Window]:
    made = ships.good()
    path = made.store.folder(made.evaluated) / "examples.parquet"
    return read_windows(path, "chemin", "damped_velocity", is_nautical=True)


def test_words_of_a_table_are_explained_beside_it():
    for column in CALIBRATION_COLUMNS[FORECAST]:
        if column not in ("step", "model", "windows"):
            words = column.removeprefix("80 %, ").removeprefix("within ").removesuffix(" %")
            assert words.lower() in CALIBRATION.explained.lower(), column
    for name in (*VARIANTS, ELSEWHERE, POSITIONS_LATER, CONTROL):
        assert name in KEPT.lower(), name
    chart = next(part for part in html().split("<figure>") if 'id="coverage-title"' in part)
    assert re.findall(r"</svg>(\d+) % areas</li>", chart) == ["50", "80", "95"]


def test_strokes_and_bars_of_charts_are_named():
    figures = html().split("<figure>")
    charts = {name[1]: part for part in figures if (name := re.search('id="([a-z]+)-title"', part))}
    for name in ("skill", "strata", "coverage"):
        assert re.search(r'<line class="span.*</svg>95 % interval</li>', charts[name]), name
    assert "percent of the spread, from its middle out</text>" in charts["pit"]


def test_a_map_steps_from_the_last_known_point_to_the_last_step():
    found = windows()
    drawn = "".join(part if isinstance(part, str) else part.html for part in map_parts(found))
    views = re.findall(r'<svg class="view".*?</svg>', drawn, re.DOTALL)
    assert len(views) == len(found) == 6
    for window, view in zip(found, views, strict=True):
        paths = re.findall(r'data-role="(?:path|sample)" points="([^"]*)"', view)
        assert len(paths) == 3 + len(window.samples)
        assert {path.split()[0] for path in paths} in ({"0,-0"}, {"0,0"})
        assert {len(path.split()) for path in paths} == {ships.NUM_HORIZON + 1}
        areas = [int(step) for step in re.findall(r'data-step="(\d+)" cx', view)]
        assert areas == list(range(1, ships.NUM_HORIZON + 1))
    assert drawn.count("<option") == 6
    assert [window.title.split(":")[0] for window in found] == ["typical"] * 3 + ["worst"] * 3


def test_what_a_map_says_in_numbers_is_the_error_of_the_window():
    made = ships.good()
    path = made.store.folder(made.evaluated) / "window_errors.parquet"
    wanted = [("split", "=", "test"), ("metric", "=", "ade_m"), ("track", "=", "times_given")]
    wanted += [("model", "=", "chemin"), ("horizon", "=", ships.NUM_HORIZON)]
    errors = pq.read_table(path, filters=wanted).to_pylist()
    of_window = {row["window_id"]: row["value"] for row in errors}
    for window in windows():
        away_m = window.away_m("chemin")
        found_m = of_window[window.origin["window_id"]]
        assert sum(away_m) / len(away_m) == pytest.approx(found_m, rel=1e-3)


def made_up(entity: str, lon_deg: float = 0.0, lat_deg: float = 0.0) -> Window:
    """A window of two steps eastwards."""
    start = datetime(2024, 1, 1, tzinfo=UTC)

    def row(kind: str, step: int, east: float, radius_p80_m: float | None = None) -> dict:
        lon = (lon_deg + east + 180) % 360 - 180
        place = {"lon_deg": lon, "lat_deg": lat_deg, "radius_p80_m": radius_p80_m}
        about = {"window_id": 1, "role": "worst", "entity_id": entity, "kind": kind}
        return about | {"sample": None, "step": step, "at": start + timedelta(hours=step)} | place

    rows = [row("context", -1, -0.2), row("context", 0, -0.1)]
    for kind in ("truth", "mine", "rival"):
        rows += [row(kind, step, 0.1 * step, 9e3) for step in (1, 2)]
    return Window(0, rows, "mine", "rival", is_nautical=False)


def test_a_map_says_whether_what_came_lies_in_the_area():
    window = made_up("one")
    for row in window.line("mine"):
        row["radius_p80_m"] = 9e3 if row["step"] == 1 else None
        row["lat_deg"] += 0.08  # 8.9 km to the north of what came
    near, silent = steps_table(window).rows
    window.line("mine")[0]["radius_p80_m"] = 8e3
    far, _ = steps_table(window).rows
    assert (near[-1], far[-1], silent[-1]) == ("inside", "outside", "")


def test_an_entity_is_text_and_no_markup_on_a_map():
    parts = map_parts([made_up('"><script>alert(1)</script>')])
    page = "".join(part if isinstance(part, str) else part.html for part in parts)
    assert "<script" not in page
    tree = Tree(page)
    assert 'worst: "><script>alert(1)</script> from' in tree.of("option")[0][1]
    assert "<script" not in "".join(part.markdown for part in parts if not isinstance(part, str))


@pytest.mark.parametrize("place", [(0.0, 0.0), (179.95, 10.0), (-179.95, -89.0), (12.0, 89.9)])
def test_a_map_is_in_kilometres_anywhere(place):
    window = made_up("a", *place)
    (east, north), *_ = places_km(window.origin, [(window.origin["lon_deg"], place[1])])
    assert (east, north) == (0, 0)
    box = re.search(r'viewBox="([^"]*)"', map_parts([window])[1].html)[1]
    wide = float(box.split()[2])
    assert wide < 60
    assert "°" in map_parts([window])[1].html


# How to reproduce -------------------------------------------------------------------------------


def test_the_command_gives_the_configuration_back_and_no_path():
    config = PipelineConfig.model_validate(
        {"dataset": "own_ships", "licence": "mine; rm -rf /", "train": {"max_steps": 7}, "seed": 3}
    )
    command = command_of(config)
    assert command == (
        "trajfoundry run --dataset own_ships --licence 'mine; rm -rf /' --seed 3 "
        "--train.max_steps 7"
    )
    tuned = PipelineConfig(train=TrainConfig(init="/home/someone/weights"))
    assert "someone" not in command_of(tuned)
    assert "models:/a@b" in command_of(PipelineConfig(train=TrainConfig(init="models:/a@b")))


def test_the_page_says_how_to_run_it_again():
    text = Tree(html()).of("code")[0][1]
    assert text.startswith("trajfoundry run --dataset hurdat2")
    assert str(Store) not in text
