"""The evaluate stage: the same windows for all, numbers an oracle agrees with, equal bytes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ships

from model.baselines.forecast import LAST_POSITION, ForecastBaseline
from model.data.reading import read_windows
from model.data.shards import Shards
from model.evaluation import lesson
from model.evaluation.examples import NUM_EACH, NUM_SHOWN, TYPICAL, WORST, chosen_windows
from model.evaluation.lesson import Lesson, spread_windows
from model.evaluation.question import AnswerError, Judging
from model.evaluation.score_table import SCORES, wide_rows
from model.evaluation.scores import scored
from model.inference.api import Context, forecast
from model.inference.serving import load_trained
from tasks.config.pipeline import AssessConfig
from tasks.evaluate.evaluate import EVALUATE, evaluate, headline_counts
from tasks.report.error_tables import elapsed_of, read_scores
from tasks.runtime.errors import DataError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

BASELINES = {
    "last_position",
    "constant_velocity",
    "constant_velocity_3",
    "damped_velocity",
}


def metrics(split: str = "test", track: str = "times_given") -> dict[tuple[str, int], dict]:
    made = ships.good()
    scores = read_scores(made.store.folder(made.evaluated))
    rows = wide_rows(scores, split=split, task="forecast", track=track, stratum="all")
    return {(row["model"], row["horizon"]): row for row in rows}


def windows_of(split: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(entity, lon_deg, lat_deg) of each stored window, read without the project's reader."""
    folder = ships.good().store.folder(ships.good().shards)
    trips = {
        row["trip_id"]: row for row in pq.read_table(folder / f"{split}-000.parquet").to_pylist()
    }
    found = []
    for window in pq.read_table(folder / "windows.parquet").to_pylist():
        if window["split"] == split:
            points = slice(window["start"], window["start"] + window["num_points"])
            trip = trips[window["trip_id"]]
            place = (np.array(trip[name][points]) for name in ("lon_deg", "lat_deg"))
            found.append((window["entity_id"], *place))
    return found


def chord_distance_m(lon_a, lat_a, lon_b, lat_b):
    """Great-circle distance by the chord through the sphere."""

    def vector(lon_deg, lat_deg):
        lon, lat = np.radians(lon_deg), np.radians(lat_deg)
        return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])

    chord = np.linalg.norm(vector(lon_a, lat_a) - vector(lon_b, lat_b), axis=0)
    return 2 * 6_371_008.8 * np.arcsin(chord / 2)


def test_last_position_agrees_with_an_oracle():
    known = ships.NUM_CONTEXT
    away_m = np.stack(
        [
            chord_distance_m(
                lon[known - 1 : known], lat[known - 1 : known], lon[known:], lat[known:]
            )
            for _, lon, lat in windows_of("test")
        ]
    )
    row = metrics()["last_position", 4]
    assert row["ade_m"] == pytest.approx(away_m.mean(), rel=1e-6)
    assert row["fde_m"] == pytest.approx(away_m[:, 3].mean(), rel=1e-6)
    ade_m = away_m.mean(axis=1)
    assert row["ade_p50_m"] == pytest.approx(np.percentile(ade_m, 50), rel=1e-6)
    assert row["ade_p90_m"] == pytest.approx(np.percentile(ade_m, 90), rel=1e-6)
    assert metrics()["last_position", 1]["ade_m"] == pytest.approx(away_m[:, 0].mean(), rel=1e-6)
    entities = [entity for entity, _, _ in windows_of("test")]
    per_entity = [ade_m[[e == name for e in entities]].mean() for name in set(entities)]
    assert row["ade_entity_mean_m"] == pytest.approx(np.mean(per_entity), rel=1e-6)
    assert (row["num_windows"], row["num_entities"]) == (len(ade_m), len(set(entities)))


def test_the_model_row_is_its_forecast_at_the_true_times():
    made = ships.good()
    shards = Shards.open(made.store.folder(made.shards), "UTC")
    trained = load_trained(made.store.folder(made.trained))
    (stored,) = read_windows(shards, "test", 1_000, ships.NUM_CONTEXT)
    batch, known = stored.batch, slice(None, ships.NUM_CONTEXT)
    context = Context(
        batch.lon_deg_BT[:, known],
        batch.lat_deg_BT[:, known],
        batch.time_s_BT[:, known],
        stored.started_us_B,
        "UTC",
        batch.is_pad_BT[:, known],
    )
    asked = slice(ships.NUM_CONTEXT, None)
    found = forecast(trained.model, context, ships.NUM_HORIZON, batch.time_s_BT[:, asked])
    truth = (batch.lon_deg_BT[:, asked].numpy(), batch.lat_deg_BT[:, asked].numpy())
    away_m = chord_distance_m(found.lon_deg_BH.numpy(), found.lat_deg_BH.numpy(), *truth)
    assert metrics()["chemin", 4]["ade_m"] == pytest.approx(away_m.mean(), rel=1e-4)


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("track", ["times_given", "times_predicted"])
def test_every_table_holds_all_forecasters_and_the_skill_against_the_bar(split, track):
    """The bar of every split is the best baseline on validation."""
    rows, told = metrics(split, track), metrics("validation", track)
    assert {model for model, _ in rows} == {"chemin", *BASELINES}
    assert {step for _, step in rows} == {1, 4}
    for (_, step), row in rows.items():
        bar = min(BASELINES, key=lambda name: told[name, step]["ade_m"])
        assert row["skill"] == pytest.approx(1 - row["ade_m"] / rows[bar, step]["ade_m"])
        assert row["low"] <= row["ade_m"] <= row["high"]
        assert row["ade_p50_m"] <= row["ade_p90_m"]
        assert row["is_baseline"] == (row["model"] in BASELINES)
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))


def test_guessing_the_times_does_not_help():
    """The truth's own times can only be better on average for a model that reads them."""
    assert metrics()["chemin", 4]["ade_m"] < metrics(track="times_predicted")["chemin", 4]["ade_m"]


def test_each_window_has_its_error():
    made = ships.good()
    path = made.store.folder(made.evaluated) / "window_errors.parquet"
    errors = pq.read_table(path).to_pandas().query("split == 'test' and metric == 'ade_m'")
    chosen = errors.query("track == 'times_given' and horizon == 4")
    means = chosen.groupby("model")["value"].mean()
    for name in {"chemin", *BASELINES}:
        assert means[name] == pytest.approx(metrics()[name, 4]["ade_m"])
    assert chosen.groupby("model")["window_id"].nunique().eq(len(windows_of("test"))).all()


def test_examples_start_from_the_truth_and_end_in_forecasts():
    made = ships.good()
    rows = pq.read_table(made.store.folder(made.evaluated) / "examples.parquet").to_pandas()
    assert rows.groupby("role")["window_id"].nunique().to_dict() == {
        TYPICAL: NUM_EACH,
        WORST: NUM_EACH,
    }
    samples = rows[rows["sample"].notna()]
    assert set(samples["kind"]) == {"chemin"}
    assert (samples.groupby("window_id").size() == NUM_SHOWN * ships.NUM_HORIZON).all()
    rows = rows[rows["sample"].isna()]
    assert rows.query("kind == 'chemin'")["radius_p80_m"].gt(0).all()
    sizes = rows.groupby(["window_id", "kind"]).size().unstack()
    assert (sizes["context"] == ships.NUM_CONTEXT).all()
    assert (sizes[["truth", "chemin", *sorted(BASELINES)]] == ships.NUM_HORIZON).all(axis=None)
    first = rows.query("kind == 'context'").groupby("window_id")["step"].agg(["min", "max"])
    assert (first["min"] == 1 - ships.NUM_CONTEXT).all()
    assert (first["max"] == 0).all()
    for _, line in rows.groupby(["window_id", "kind"]):
        assert line.sort_values("step")["at"].is_monotonic_increasing


def test_examples_are_the_worst_of_different_entities_and_the_nearest_to_the_median():
    errors = pa.table(
        {
            "window_id": list(range(9)),
            "value": [90.0, 80, 70, 60, 50, 40, 30, 20, 10],
            "entity_id": ["a", "a", "b", "b", "c", "d", "d", "e", "f"],
        }
    )
    roles = chosen_windows(errors)
    assert [name for name, role in roles.items() if role == WORST] == [0, 2, 4]
    assert sorted(name for name, role in roles.items() if role == TYPICAL) == [3, 5, 6]
    assert chosen_windows(errors[:1]) == {0: WORST}


def test_horizons_are_told_in_seconds_that_the_windows_took():
    made = ships.good()
    scores = read_scores(made.store.folder(made.evaluated))
    found = elapsed_of(scores, "test")
    folder, last = made.store.folder(made.shards), ships.NUM_CONTEXT - 1
    trips = pq.read_table(folder / "test-000.parquet").to_pylist()
    times_s = {trip["trip_id"]: trip["t_s"] for trip in trips}
    index = pq.read_table(folder / "windows.parquet", filters=[("split", "=", "test")]).to_pylist()
    windows_s = [times_s[row["trip_id"]][row["start"] + last :] for row in index]
    for step in range(1, ships.NUM_HORIZON + 1):
        elapsed_s = sorted(time_s[step] - time_s[0] for time_s in windows_s)
        assert found[step] == pytest.approx(elapsed_s[(len(elapsed_s) - 1) // 2])


def files_of(made: ships.Assessed) -> dict[str, str]:
    files = made.store.manifest(made.evaluated).files
    return {file.name: file.sha256 for file in files}


def again(tmp_path: Path, dataset: str = "hurdat2", **changes: object) -> ships.Assessed:
    """The good model evaluated in a store of its own."""
    made, store = ships.good(), Store(tmp_path / "store")
    store.prepare()
    for step in (made.shards, made.trained):
        target = store.folder(step)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(made.store.folder(step))
    config = made.config.model_copy(update={"dataset": dataset, **changes})
    with without_orchestrator():
        evaluated = evaluate(config, made.shards, made.trained, store)
    return replace(made, store=store, config=config, evaluated=evaluated)


def test_evaluating_again_gives_the_same_bytes(tmp_path):
    assert files_of(again(tmp_path)) == files_of(ships.good())


def test_the_size_of_a_batch_changes_nothing():
    made = ships.good()
    shards = Shards.open(made.store.folder(made.shards), "UTC")
    answerers = [load_trained(made.store.folder(made.trained)), LAST_POSITION]
    found, expected = (
        scored(shards, answerers, "test", Judging((1, 4), 4, windows_at_once=size))
        for size in (7, 1_000)
    )
    for name, numbers in (("table", ["value", "low", "high"]), ("window_errors", ["value"])):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.drop_columns(numbers).equals(other.drop_columns(numbers))
        np.testing.assert_allclose(one["value"], other["value"], rtol=1e-5, atol=1e-6)


class Counted(ForecastBaseline):
    """Counts how often it is asked."""

    def forecast(self, context, num_horizon, target_time_s_BH=None):
        ASKED.append(num_horizon)
        return super().forecast(context, num_horizon, target_time_s_BH)


ASKED: list[int] = []


def test_baselines_that_were_asked_before_are_not_asked_again():
    """The next model gets the same table as alone; a model itself is asked each time."""
    made = ships.good()
    shards, judging = Shards.open(made.store.folder(made.shards), "UTC"), Judging((1, 4), 4)
    counted, kept = Counted("last_position", tau_s=0.0), {}
    models = [load_trained(made.store.folder(made.trained)), Mine()]
    for number, model in enumerate(models):
        alone = scored(shards, [model, counted], "test", judging)
        ASKED.clear()
        beside = scored(shards, [model, counted], "test", judging, kept=kept)
        assert bool(ASKED) == (number == 0)
        assert beside.table.equals(alone.table)
        assert beside.window_errors.equals(alone.window_errors)
    assert {name for *_, name in kept} == {"last_position"}
    ASKED.clear()
    scored(shards, [Mine(), counted], "validation", judging, kept=kept)
    assert ASKED, "other windows are another question"


def test_trips_of_people_leave_no_examples(tmp_path):
    assert "examples.parquet" not in files_of(again(tmp_path, dataset="geolife"))
    assert "examples.parquet" in files_of(ships.good())


def test_only_what_decides_errors_is_in_the_recipe(tmp_path):
    made = ships.good()

    def recipe(**changes: object) -> str:
        config = made.config.model_copy(update=changes)
        inputs = {"shards": made.shards, "trained": made.trained}
        return EVALUATE.recipe(config.dataset, config.evaluate_rules, inputs).digest

    wider = AssessConfig(horizons=(1, 2), gate_horizon=4, num_bootstrap=100)
    assert recipe(assess=wider) != recipe()
    few = made.config.assess.model_copy(update={"baselines": ("linear_residual",)})
    assert recipe(assess=few) != recipe()
    assert recipe(train=ships.config_of(max_steps=7).train) == recipe()


def test_the_time_constant_is_fitted_on_train_windows_alone(tmp_path):
    made, store = ships.good(), Store(tmp_path / "store")
    sizes = ships.SIZES | {"test": 3}
    fewer = ships.stored_shards(store, sizes=sizes)
    taus_s = [
        Lesson(Shards.open(place.folder(shards), "UTC")).damped.tau_s
        for place, shards in ((made.store, made.shards), (store, fewer))
    ]
    assert taus_s[0] == taus_s[1]
    stored = json.loads((made.store.folder(made.evaluated) / "baselines.json").read_text())
    assert stored["damped_velocity"]["tau_s"] == taus_s[0]


def test_a_part_of_many_train_windows_gives_a_like_time_constant(monkeypatch):
    made = ships.good()
    shards = Shards.open(made.store.folder(made.shards), "UTC")
    every = Lesson(shards).damped.tau_s
    monkeypatch.setattr(lesson, "FITTED_WINDOWS", 60)
    assert len(spread_windows(shards, "train", 60, batch_size=11).time_s_BH) == 60
    assert Lesson(shards).damped.tau_s == pytest.approx(every, rel=0.5)


class Silent(ForecastBaseline):
    """The fault: a forecast without a number, which a mean could pass over."""

    def forecast(self, context, num_horizon, target_time_s_BH=None):
        found = super().forecast(context, num_horizon, target_time_s_BH)
        found.lon_deg_BH[0, 1] = math.nan
        return found


def test_a_forecast_that_is_no_number_is_refused():
    made = ships.good()
    shards = Shards.open(made.store.folder(made.shards), "UTC")
    with pytest.raises(AnswerError, match="last_position left points of times_given forecasts"):
        scored(shards, [Silent("last_position", tau_s=0.0)], "test", Judging((1, 4)))


# A model of one's own ---------------------------------------------------------------------------


class Mine:
    """An answerer that is no family and no baseline: it stands still, a metre to the north."""

    name, tasks, is_baseline = "mine", ("forecast",), False

    def forecast(self, context, num_horizon, target_time_s_BH):
        still = LAST_POSITION.forecast(context, num_horizon, target_time_s_BH)
        return replace(still, lat_deg_BH=still.lat_deg_BH + 1 / 111_195)


def test_anyone_is_scored_beside_the_baselines_without_a_pipeline():
    made = ships.good()
    shards = Shards.open(made.store.folder(made.shards), "UTC")
    found = scored(shards, [Mine(), LAST_POSITION], "test", Judging((1, 4))).table
    rows = {row["model"]: row for row in wide_rows(found, track="times_given", horizon=4)}
    assert set(rows) == {"mine", "last_position"}
    assert rows["last_position"]["ade_m"] == pytest.approx(metrics()["last_position", 4]["ade_m"])
    assert abs(rows["mine"]["ade_m"] - rows["last_position"]["ade_m"]) < 1.01
    assert rows["last_position"]["skill"] == 0
    alone = scored(shards, [Mine()], "test", Judging((1, 4))).table
    assert "skill" not in set(alone["metric"].to_pylist())


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_without_windows_says_what_to_do(split):
    made = ships.good()
    shards = ships.stored_shards(made.store, sizes=ships.SIZES | {split: 0})
    before = list(made.store.published("evaluate", "hurdat2"))
    with (
        without_orchestrator(),
        pytest.raises(DataError, match=rf"the {split} split of hurdat2 has no window of 12 points"),
    ):
        evaluate(made.config, shards, made.trained, made.store)
    assert list(made.store.published("evaluate", "hurdat2")) == before


def test_a_skill_over_a_bar_without_any_error_is_no_count():
    """As of travel times that are all the same: minus infinity stands in no manifest."""
    about = {"split": "test", "task": "travel_time", "track": "ends", "mask": "all"}
    about |= {"stratum": "all", "model": "chemin", "num_windows": 40, "num_entities": 20}
    rows = [
        about | {"metric": "mae_s", "value": 3.0, "low": 2.0, "high": 4.0},
        about | {"metric": "skill", "value": -math.inf, "low": -math.inf, "high": -math.inf},
    ]
    counts = headline_counts(pa.Table.from_pylist(rows, SCORES), "chemin")
    assert counts == {"test_travel_time_windows": 40, "test_travel_time_mae_s": 3.0}
