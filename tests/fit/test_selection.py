"""Selection of weights: by the loss or by metres on stored windows of validation."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from helpers import masked_ships
from helpers.shards import write_shards
from helpers.toy_training import CONFIG, READING, Toy

from model.data.reading import read_batches, read_windows
from model.data.shards import Shards
from model.evaluation.question import Judging
from model.evaluation.scores import scored
from model.families import FAMILIES
from model.inference.serving import Trained, load_trained
from model.training import selection
from model.training.config import FitConfig
from model.training.fit import Interrupted, fit
from model.training.ranks import Ranks
from model.training.selection import judge_of
from model.training.validation import TrainingError


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    lengths = {"train": [50, 20, 33, 7, 90], "validation": [60, 45]}
    return write_shards(tmp_path_factory.mktemp("shards"), lengths)


def fitted(walks, folder, judge=None, config=CONFIG, on_progress=None):
    return fit(
        Toy(),
        lambda cursor: read_batches(walks, READING, start=cursor),
        lambda: (part.batch for part in read_windows(walks, "validation", 8, num_context=20)),
        config,
        folder,
        on_progress,
        judge,
    )


def size_of(model, ranks):
    """A judge for whom weights are the better, the smaller they are."""
    return float(sum(value.detach().square().sum() for value in model.parameters()))


def validations(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "validation_loss" in line]


def test_a_judge_chooses_and_else_the_loss_does(walks, tmp_path):
    config = replace(CONFIG, learning_rate=0.05, patience=99, weight_decay=0.0, max_steps=40)
    judged = fitted(walks, tmp_path / "judged", size_of, config)
    plain = fitted(walks, tmp_path / "plain", None, config)
    told = validations(tmp_path / "judged")
    smallest = min(told, key=lambda line: line["validation_error_m"])
    lowest = min(told, key=lambda line: line["validation_loss"])
    assert judged.best_step == smallest["step"] != lowest["step"] == plain.best_step
    assert judged.best_validation_loss == smallest["validation_loss"]
    assert all("validation_error_m" not in line for line in validations(tmp_path / "plain"))


def test_a_stopped_run_chooses_as_a_whole_one(walks, tmp_path):
    def stop(progress):
        if progress.step == 6:
            raise KeyboardInterrupt

    whole = fitted(walks, tmp_path / "whole", size_of)
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        fitted(walks, tmp_path / "cut", size_of, on_progress=stop)
    resumed = fitted(walks, tmp_path / "cut", size_of)
    assert resumed.best_step == whole.best_step
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()
    assert validations(tmp_path / "cut") == validations(tmp_path / "whole")


# ------------------------------------------------------------------ the gate's windows


@pytest.mark.parametrize(
    ("family", "task", "metric"),
    [("trajfm", "forecast", "ade_m"), ("masked_chemin", "recover", "mae_m")],
)
def test_a_judge_finds_what_scores_find(family, task, metric):
    """The mean of each window's mean distance, over all stored windows of validation."""
    store, receipt, made = masked_ships.trained(family)
    shards, model = Shards.open(store.folder(receipt)), load_trained(store.folder(made)).model
    found = judge_of(FAMILIES[family], [shards])(model, Ranks())
    last = masked_ships.NUM_POINTS - 8
    judging = Judging((last,), tasks=(task,), num_bootstrap=0, num_samples=0)
    rows = scored(shards, [Trained(model)], "validation", judging).table.to_pylist()
    expected = [
        row["value"]
        for row in rows
        if (row["metric"], row["mask"], row["stratum"], row["track"])
        == (metric, "all", "all", "times_given")
    ]
    assert [found] == pytest.approx(expected, rel=1e-6)


def test_windows_are_spread_over_all(walks, monkeypatch):
    whole = [*selection.spread_windows(walks, "forecast")]
    monkeypatch.setattr(selection, "MOST_WINDOWS", 3)
    few = [*selection.spread_windows(walks, "forecast")]
    ids, chosen = (
        torch.cat([batch.window_id_B for batch, *_ in windows]).tolist() for windows in (whole, few)
    )
    assert chosen == ids[:: -(-len(ids) // 3)]


def test_answers_that_are_no_number_end_the_run(walks):
    class Nowhere(torch.nn.Linear):
        def forecast(self, context, num_horizon, times_s_BH, num_samples, seed):
            return type(
                "Told", (), {"lon_deg_BH": torch.nan * times_s_BH, "lat_deg_BH": times_s_BH}
            )

    with pytest.raises(TrainingError, match="not finite"):
        judge_of(FAMILIES["chemin"], [walks])(Nowhere(1, 1), Ranks())


# ------------------------------------------------------------------ refusals


def test_what_cannot_choose_is_refused(walks, tmp_path):
    with pytest.raises(ValueError, match="select_by"):
        FitConfig(select_by="metres")
    with pytest.raises(ValueError, match="forecast or recover"):
        judge_of(FAMILIES["trajgpt"], [walks])
    with pytest.raises(ValueError, match="several"):
        judge_of(FAMILIES["chemin"], [walks, walks])
    blind = write_shards(tmp_path / "short", {"train": [50], "validation": [30]})
    with pytest.raises(ValueError, match="no stored windows"):
        judge_of(FAMILIES["chemin"], [blind])
    with pytest.raises(ValueError, match="no stored windows of recover"):
        judge_of(FAMILIES["masked_chemin"], [walks])
