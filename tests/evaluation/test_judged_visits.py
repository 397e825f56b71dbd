"""A family of visits after shards: judged, labelled and told of as those of points are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from helpers import visitors
from helpers.visits import write_visit_shards

from model.data.seen_points import SeenPoints, seen_share
from model.data.visits import VisitShards
from model.evaluation.score_table import ALL, wide_rows
from model.interface.calibration import Calibration
from tasks.config.pipeline import DataConfig, PipelineConfig
from tasks.config.sections import SplitConfig
from tasks.evaluate.inputs import inputs_of, visits_opened
from tasks.evaluate.local_model import check_answerer
from tasks.evaluate.seen import SEEN_SHARE
from tasks.evaluate.transfer import config_for, transfer
from tasks.prepare.conventions import CALIBRATION_FILE
from tasks.prepare.learning_shards import learning_shards
from tasks.pretrain.train import check_visits_fit
from tasks.report.error_tables import read_scores
from tasks.report.first_screen import Subject, standings
from tasks.report.leaderboard import dataset_parts
from tasks.report.terminal_tables import summary_tables
from tasks.runtime.errors import ConfigError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

TASKS = ("next_region", "next_travel", "next_stay")
REGIONS = {
    *("stay", "own_frequency", "own_recent", "global_frequency", "hour_frequency"),
    *("markov_1", "markov_2", "kneser_ney", "exploration"),
}
TIMES = {"marginal_times", "region_hour_times", "log_normal_times", "boosted_times"}


def scores() -> pa.Table:
    return read_scores(visitors.good().evaluation)


def folder(step: str) -> Path:
    made = visitors.good()
    return made.store.folder(getattr(made, step))


UTC = SimpleNamespace(zone="UTC")  # the rules of an evaluation, as far as opening asks


# ------------------------------------------------------------------ configuration


@pytest.mark.parametrize(("family", "kind"), [("trajgpt", "time"), ("chemin", "entity")])
def test_the_split_follows_from_what_a_family_reads_unless_it_is_told(family, kind):
    given = {"dataset": "geolife", "model": {"family": family}}
    assert PipelineConfig.model_validate(given).split_rules.kind == kind
    told = PipelineConfig.model_validate(given | {"split": {"kind": "region", **BOX}})
    assert told.split_rules.kind == "region"


BOX = {"west_deg": 1.0, "east_deg": 2.0, "south_deg": 1.0, "north_deg": 2.0}


def test_what_decides_results_of_points_is_as_it_was():
    """A split that is told and the usual one are the same recipe."""
    usual, told = PipelineConfig(), PipelineConfig(split=SplitConfig(kind="entity"))
    assert usual.split_rules == told.split_rules
    assert usual.evaluate_rules == told.evaluate_rules
    assert usual.evaluate_rules.tasks == ("forecast", "path_inference", "recover", "travel_time")
    assert "next_region" in visitors.CONFIG.evaluate_rules.tasks


# ------------------------------------------------------------------ evaluation


def test_each_task_is_judged_beside_the_baselines_that_tell_it():
    found = {
        task: {row["model"] for row in wide_rows(scores(), split="test", task=task, mask=ALL)}
        for task in TASKS
    }
    assert found["next_region"] == {"trajgpt"} | REGIONS
    assert found["next_travel"] == found["next_stay"] == {"trajgpt"} | TIMES


def test_the_bar_is_one_baseline_whatever_came():
    """A bar of each mask would know what came, which nobody did who was asked."""
    for task in TASKS:
        rows = wide_rows(scores(), split="validation", task=task, stratum=ALL)
        whole = [row for row in rows if row["mask"] == ALL and row["is_baseline"]]
        best = min(whole, key=lambda row: row[row["main"]])["model"]
        for mask in {row["mask"] for row in rows}:
            own = {row["model"]: row for row in rows if row["mask"] == mask}
            bar = own[best][own[best]["main"]]
            for row in own.values():
                assert row["skill"] == pytest.approx(1 - row[row["main"]] / bar)
                assert row["skill_low"] <= row["skill"] <= row["skill_high"]
        test = wide_rows(scores(), split="test", task=task, stratum=ALL, model=best)
        assert {row["skill"] for row in test} == {0.0}


def test_gaps_are_filled_by_the_model_and_by_two_baselines():
    for split in ("validation", "test"):
        rows = wide_rows(scores(), split=split, task="infill", mask=ALL, stratum=ALL)
        assert {row["model"] for row in rows} == {"trajgpt", "markov_bridge", "own_most_frequent"}
        bar = min(row["misplaced_share"] for row in rows if row["is_baseline"])
        for row in rows:
            assert row["num_windows"] == visitors.NUM_INFILLED
            assert 0 < row["misplaced_share"] < 1
            if split == "validation":
                assert row["skill"] == pytest.approx(1 - row["misplaced_share"] / bar)
    counts = visitors.good().evaluated.counts
    assert counts["test_infill_misplaced_share"] == round(
        next(row["misplaced_share"] for row in rows if row["model"] == "trajgpt"), 4
    )


def test_headlines_have_the_unit_of_each_error():
    counts = visitors.good().evaluated.counts
    for name in ("next_region_nll", "next_travel_crps_s", "next_stay_crps_s"):
        assert 0 < counts[f"test_{name}"]
        assert f"validation_{name.rpartition('_')[0] if name.endswith('_s') else name}"
    assert not {name for name in counts if name.endswith(("_l", "_nll_l"))}


def test_strata_part_all_windows_by_what_is_known_before():
    found = scores().filter(pc.not_equal(scores()["stratum"], ALL))
    rows = [
        row
        for row in found.to_pylist()
        if (row["split"], row["task"], row["model"]) == ("test", "next_region", "trajgpt")
        and row["metric"] == "nll"
    ]
    stays = [row for row in rows if row["stratum"].startswith("last stay: ")]
    assert len(stays) == 3
    assert sum(row["num_windows"] for row in stays) == 40
    [whole] = wide_rows(
        scores(), split="test", task="next_region", mask=ALL, stratum=ALL, model="trajgpt"
    )
    mean = sum(row["value"] * row["num_windows"] for row in stays) / 40
    assert mean == pytest.approx(whole["nll"])


@pytest.mark.slow
def test_evaluating_again_gives_the_same_bytes(tmp_path):
    again = visitors.assess(Store(tmp_path / "store"))
    good = visitors.good()
    assert again.evaluated.content == good.evaluated.content
    assert again.reported.content == good.reported.content


def test_a_model_without_radii_has_a_calibration_that_changes_nothing():
    assert (folder("evaluated") / CALIBRATION_FILE).is_file()
    assert Calibration.read(folder("evaluated")) == Calibration()


def test_visits_that_were_learned_from_are_known_again():
    """Some begin at one instant in one region, as those of another row do."""
    seen, home = SeenPoints.read(folder("trained")), folder("shards")
    shards = inputs_of(home).opened(home, UTC, None)
    assert seen_share(seen, shards, "validation") == 1.0  # which chose the weights
    told = visitors.good().evaluated.counts[SEEN_SHARE]
    assert seen_share(seen, shards, "test") == pytest.approx(told, abs=1e-6)
    assert told < 0.1


# ------------------------------------------------------------------ report


def test_the_report_tells_of_visits_and_of_nothing_else():
    text = (folder("reported") / "report.md").read_text()
    for words in (
        "next region",
        "its surprise is",
        "Test: region of the next visit, the visits before it given",
        "a region seen",
        "Next visits by what is known before them",
        "nats per target visit",
        "visits in train",
        "Test, stay of the next visit, its region and arrival given too",
        "Test, visits in gaps, the visits on both sides given, %",
        "own most frequent",
    ):
        assert words in text or words in (folder("reported") / "report.html").read_text(), words
    for words in ("Error by horizon", "What the encoding keeps", "Nobody who was judged"):
        assert words not in text


def test_the_first_screen_names_the_bar_that_skills_are_over():
    """Not the baseline that happens to be luckiest on test."""
    subject = Subject("trajgpt", "person", 10)
    for one in standings(scores(), subject):
        assert one.ours["skill"] == pytest.approx(1 - one.ours[one.ours["main"]] / one.bar_error)


def test_the_terminal_shows_all_tasks():
    assert len(summary_tables(visitors.good().evaluation)) == len(TASKS) + 1


def test_a_leaderboard_tells_nats_and_durations():
    about = {"split_kind": "time", "is_leaky": False, "horizon": None, "model": "trajgpt"}
    about |= {"is_baseline": False, "bar": "kneser_ney", "num_seeds": 1, "num_windows": 40}
    about |= {"num_entities": 40, "skill": 0.1, "low": 0.0, "high": 0.2}
    rows = [
        about | {"task": "next_region", "error": 2.0},
        about | {"task": "next_stay", "error": 9_000.0},
    ]
    text = "\n".join(dataset_parts("people", "people", rows, []))
    assert "Regions of next visits, nats, " in text
    assert "Stays of next visits, h, " in text


# ------------------------------------------------------------------ other data


def test_a_registered_model_decides_what_is_read_of_other_data(tmp_path):
    asked = config_for(DataConfig(dataset="geolife"), str(folder("trained")), visitors.good().store)
    assert asked.model.family == "trajgpt"
    assert asked.split_rules.kind == "time"


def test_on_its_own_shards_a_model_errs_as_where_it_was_trained():
    made = visitors.good()
    with without_orchestrator():
        found = transfer(made.config, str(folder("trained")), made.shards, made.store)
    rows = {
        (row["split"], row["task"], row["mask"], row["stratum"], row["metric"]): row["value"]
        for row in read_scores(made.store.folder(found)).to_pylist()
        if row["model"] == "trajgpt"
    }
    for row in scores().to_pylist():
        if row["model"] == "trajgpt" and not np.isnan(row["value"]):
            key = tuple(row[name] for name in ("split", "task", "mask", "stratum", "metric"))
            assert rows[key] == row["value"]


def test_a_model_that_knows_none_of_the_places_is_refused(tmp_path):
    elsewhere = write_visit_shards(tmp_path / "elsewhere", {"train": (5, 6)})
    home = VisitShards.open(folder("shards"))
    with pytest.raises(ConfigError, match="knows none of the regions"):
        visits_opened(elsewhere.folder, UTC, home.places)
    assert visits_opened(folder("shards"), UTC, home.places).places == home.places


def test_a_share_of_the_entities_can_be_learned_from():
    made = visitors.good()
    with without_orchestrator():
        few = learning_shards(made.config, made.shards, 10.0, made.store)
    shards = VisitShards.open(made.store.folder(few))
    assert {*shards.files} == {"train", "validation"}
    assert few.counts["entities_train"] == 12


def test_a_class_of_ones_own_is_asked_about_points_alone():
    class Mine:
        name, is_baseline, tasks = "mine", False, ("next_visit",)

    with pytest.raises(ConfigError, match="must be a tuple of some of forecast, recover"):
        check_answerer(Mine(), "mine:Mine")


def test_windows_that_are_longer_than_the_model_reads_are_refused(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"num_points": pa.array([3, 129], pa.int32())}), tmp_path / WINDOWS)
    with pytest.raises(ConfigError, match=r"at most 128 visits.*windows of 129; lower region\.max"):
        check_visits_fit(visitors.CONFIG.training, tmp_path)


WINDOWS = "windows.parquet"
