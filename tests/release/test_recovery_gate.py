"""Models that recover in a real registry: what they answer there, and what the gate says."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from geographiclib.geodesic import Geodesic
from helpers import ships
from helpers.served import frame_of
from helpers.walks import STARTED_US, walk

from model.data.reading import WindowBatch, read_windows
from model.data.shards import WINDOW_SCHEMA, Shards
from model.earth.geometry import haversine_m
from model.evaluation.metrics import ade_m
from model.evaluation.score_table import SCORES
from model.families import build
from model.inference import api
from model.inference.api import Partial
from model.inference.serving import load_trained
from model.interface.weights import save_weights
from tasks.config.pipeline import ForecastConfig, ModelConfig, PipelineConfig
from tasks.evaluate.evaluate import evaluate
from tasks.pretrain.train import train
from tasks.registry.client import registry
from tasks.release import register
from tasks.release.champion_gate import gate_errors, measure_of
from tasks.release.gate_metrics import (
    RECOVERY_MEASURE,
    NotReproduced,
    forecast_measure,
    shown_rows,
)
from tasks.release.promote import Promotion, promote
from tasks.release.register import Registration
from tasks.report.facts import RunSteps
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Recipe, Store
from tasks.serve.batch_predict import forecast_file

BLOCK = slice(4, 8)  # the points that a window of recovery hides
HIDDEN = (2, 3, 7)


@dataclass(frozen=True, kw_only=True)
class Made(RunSteps):
    """A trained model with what the registry needs of it."""

    reported: Receipt


def config_of(family: str, max_steps: int) -> PipelineConfig:
    config = ships.config_of(max_steps)
    return config.model_copy(update={"model": ModelConfig(family=family, preset="tiny")})


# A store ----------------------------------------------------------------------------------------


def shards_with_gaps(store: Store) -> Receipt:
    """Ships with stored windows of recovery, some of them longer, and some hide nothing."""
    sizes = {"train": 30, "validation": 20, "test": 4}
    settings = {"sizes": sizes, "has_gaps": True}
    recipe = Recipe(
        stage="shards", dataset="hurdat2", code={}, sql={}, settings=settings,
        inputs={"split": "0" * 32},
    )  # fmt: skip
    store.prepare()
    with store.draft() as draft:
        counts = ships.build(draft, 0, sizes)
        windows = pq.read_table(draft / "windows.parquet").to_pylist()
        starts = [row for row in windows if row["split"] != "train"]
        for row in starts:
            size = 12 if row["start"] else 16
            is_hidden = np.zeros(size, bool)
            is_hidden[BLOCK] = row["start"] != 4
            windows.append(
                row
                | {"window_id": len(windows), "task": "recover", "mask": "block_4"}
                | {"num_points": size, "is_observed": (~is_hidden).tolist()}
            )
        index = pa.Table.from_pylist(windows, schema=pa.schema(WINDOW_SCHEMA))
        pq.write_table(index, draft / "windows.parquet", write_page_checksum=True)
        return store.publish(draft, recipe, counts, licence="made up")


def published(store: Store, stage: str, inputs: dict[str, Any], files: dict[str, Any]) -> Receipt:
    recipe = Recipe(
        stage=stage, dataset="hurdat2", code={}, sql={}, settings={"files": sorted(files)},
        inputs=inputs,
    )  # fmt: skip
    with store.draft() as draft:
        for name, content in files.items():
            if isinstance(content, str):
                (draft / name).write_text(content)
            else:
                pq.write_table(content, draft / name)
        return store.publish(draft, recipe, {}, licence="made up")


def windows_of(store: Store, shards: Receipt, split: str = "validation") -> list[WindowBatch]:
    opened = Shards.open(store.folder(shards))
    return list(read_windows(opened, split, 7, task="recover"))


def recovered(folder: Path, windows: WindowBatch) -> tuple[torch.Tensor, torch.Tensor]:
    batch = windows.batch
    found = api.recover(
        load_trained(folder).model,
        Partial(
            batch.lon_deg_BT,
            batch.lat_deg_BT,
            batch.time_s_BT,
            batch.is_observed_BT,
            ~batch.is_pad_BT,
            windows.started_us_B,
            "UTC",
            batch.is_pad_BT,
        ),
    )
    return found.lon_deg_BT, found.lat_deg_BT


def straight(windows: WindowBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Evenly in time along the geodesic between the known points, by another library."""
    batch = windows.batch
    lon_deg_BT, lat_deg_BT = batch.lon_deg_BT.clone(), batch.lat_deg_BT.clone()
    for row, point in batch.is_target_BT.nonzero().tolist():
        known = batch.is_observed_BT[row].nonzero()[:, 0]
        before, after = int(known[known < point][-1]), int(known[known > point][0])
        line = Geodesic.WGS84.InverseLine(
            *(
                float(value_BT[row, place])
                for place in (before, after)
                for value_BT in (batch.lat_deg_BT, batch.lon_deg_BT)
            )
        )
        time_s_T = batch.time_s_BT[row]
        share = (time_s_T[point] - time_s_T[before]) / (time_s_T[after] - time_s_T[before])
        found = line.Position(float(share) * line.s13)
        lon_deg_BT[row, point], lat_deg_BT[row, point] = found["lon2"], found["lat2"]
    return lon_deg_BT, lat_deg_BT


def mae_m(windows: list[WindowBatch], places: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    errors_m = []
    for one, (lon_deg_BT, lat_deg_BT) in zip(windows, places, strict=True):
        batch = one.batch
        away_m_BT = haversine_m(lon_deg_BT, lat_deg_BT, batch.lon_deg_BT, batch.lat_deg_BT)
        errors_m.append(ade_m(away_m_BT, batch.is_target_BT))
    return float(torch.cat(errors_m).nanmean())


GAIN = {"metric": "skill", "value": 0.2, "low": 0.1, "high": 0.3}


def recovery_table(errors_m: dict[str, float], split: str = "validation") -> pa.Table:
    """The scores of recovery as the evaluation writes them, with rows that the gate skips."""
    found = {
        "split": split,
        "task": "recover",
        "track": "times_given",
        "mask": "all",
        "stratum": "all",
        "metric": "mae_m",
        "num_windows": 60,
        "num_entities": 10,
    }
    others = ({"mask": "block_4"}, {"track": "times_hidden"}, {"task": "path_inference"})
    others = (*others, {"split": "test"}, {"metric": "rmse_m"}, {"stratum": "region: known"})
    rows = [
        found | {"model": model, "is_baseline": model == "linear", "value": error_m} | changes
        for model, error_m in errors_m.items()
        for changes in ({}, *({**other, "value": 1e-9} for other in others), GAIN)
    ]
    return pa.Table.from_pylist(rows, SCORES)


def evaluated_as(store: Store, made: Made, table: pa.Table, name: str) -> Receipt:
    """A folder of the evaluation that holds these errors of recovery."""
    files = {
        "scores.parquet": table,
        "baselines.json": json.dumps(name),
        "calibration.json": json.dumps({"radius": {}, "decile": {}}),
    }
    inputs = {"shards": made.shards.recipe, "trained": made.trained.recipe, "name": name}
    return published(store, "evaluate", inputs, files)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("recovery") / "store")


@pytest.fixture(scope="module")
def shards(store: Store) -> Receipt:
    return shards_with_gaps(store)


@pytest.fixture(scope="module")
def made(store: Store, shards: Receipt) -> Made:
    """A model that recovers, judged by its own answers and by straight lines."""
    config = config_of("masked_chemin", 60)
    with without_orchestrator():
        trained = train(config, shards, store)
    reported = published(store, "report", {"trained": trained.recipe}, {"report.md": "made up\n"})
    unjudged = Made(config, store, shards, trained, trained, reported=reported)
    windows = windows_of(store, shards)
    errors_m = {
        "masked_chemin": mae_m(windows, [recovered(store.folder(trained), w) for w in windows]),
        "linear": mae_m(windows, [straight(w) for w in windows]),
    }
    evaluated = evaluated_as(store, unjudged, recovery_table(errors_m), "real")
    return replace(unjudged, evaluated=evaluated)


def enrol(made: Made) -> Registration:
    return register.register(made, made.reported)


def uri_of(registration: Registration) -> str:
    return f"models:/{registration.name}/{registration.version}"


def gate(made: Made, registration: Registration) -> Promotion:
    return promote(made, registration)


@pytest.fixture(scope="module")
def champion(made: Made, store: Store) -> tuple[Registration, Promotion]:
    registration = enrol(made)
    return registration, gate(made, registration)


def loaded(uri: str, store: Store) -> Any:
    """A registered model as anybody loads it, behind MLflow's own checks of what goes in."""
    import mlflow

    with registry(store):
        return mlflow.pyfunc.load_model(uri)


def asked(model: Any, frame: pd.DataFrame, **params: Any) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of what it does itself
        return model.predict(frame, params=params or None)


# In the registry --------------------------------------------------------------------------------


def gapped(nonsense: float = float("nan")) -> pd.DataFrame:
    frame = frame_of(*walk(2, 10), (10, 10))
    is_hidden = frame.groupby("trajectory_id").cumcount().isin(HIDDEN)
    frame.loc[is_hidden, ["lon_deg", "lat_deg"]] = nonsense
    return frame


def own_answer(folder: Path) -> Any:
    """What the stored weights say of the same walks, without any of the registry's code."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(2, 10)
    shows_place_BT = torch.ones_like(time_s_BT, dtype=torch.bool)
    shows_place_BT[:, list(HIDDEN)] = False
    shows_time_BT = torch.ones_like(shows_place_BT)
    partial = Partial(
        lon_deg_BT,
        lat_deg_BT,
        (time_s_BT * 1e6).round() / 1e6,
        shows_place_BT,
        shows_time_BT,
        torch.full((2,), STARTED_US),
        "UTC",
        ~shows_time_BT,
    )
    return api.recover(load_trained(folder).model, partial)


def assert_recovered(found: pd.DataFrame, folder: Path) -> None:
    expected = own_answer(folder)
    for name in ("lon_deg", "lat_deg"):
        theirs = getattr(expected, f"{name}_BT").numpy().ravel()
        np.testing.assert_allclose(found[name], theirs, rtol=0, atol=1e-7)
    assert found["is_recovered"].tolist() == expected.is_recovered_BT.ravel().tolist()


def test_a_registered_model_recovers_what_its_weights_do(champion, made, store):
    model = loaded(uri_of(champion[0]), store)
    frame = gapped()
    found = asked(model, frame)
    assert_recovered(found, store.folder(made.trained))
    outputs = model.metadata.get_output_schema().input_names()
    assert list(found) == outputs
    assert outputs == ["trajectory_id", "tracked_at", "lon_deg", "lat_deg", "is_recovered"]
    text = frame.assign(tracked_at=[at.isoformat() for at in frame["tracked_at"]])
    pd.testing.assert_frame_equal(asked(model, text), found)
    pd.testing.assert_frame_equal(model.unwrap_python_model().recover(frame), found)
    assert len(asked(model, frame.dropna(), task="embed")) == 2


def test_missing_places_may_be_written_as_none(champion, store):
    model = loaded(uri_of(champion[0]), store)
    frame = gapped()
    expected = asked(model, frame)
    for kind in (object, "Float64"):
        spelt = frame.astype({"lon_deg": kind, "lat_deg": kind})
        spelt.loc[frame["lon_deg"].isna(), ["lon_deg", "lat_deg"]] = None
        found = model.unwrap_python_model().recover(spelt)
        pd.testing.assert_frame_equal(found, expected)


def test_it_does_not_answer_what_it_does_not_serve(champion, store):
    model = loaded(uri_of(champion[0]), store)
    with pytest.raises(ValueError, match="masked_chemin does not serve 'forecast'"):
        asked(model, gapped(), task="forecast")


def test_a_file_is_not_forecast_by_a_model_that_only_recovers(champion, store, tmp_path):
    points = gapped()
    points.to_parquet(tmp_path / "x.parquet")
    config = ForecastConfig(model=uri_of(champion[0]))
    with pytest.raises(ConfigError, match="does not forecast; it serves recover, embed"):
        forecast_file(config, str(tmp_path / "x.parquet"), str(tmp_path / "y.csv"), store)
    assert not (tmp_path / "y.csv").exists()


def test_one_model_of_many_tasks_answers_each(store, shards):
    config = config_of("trajfm", 1)
    with without_orchestrator():
        trained = train(config, shards, store)
        evaluated = evaluate(config, shards, trained, store)
    reported = published(store, "report", {"trained": trained.recipe}, {"report.md": "made up\n"})
    made = Made(config, store, shards, trained, evaluated, reported=reported)
    registration = enrol(made)
    assert measure_of(config) == forecast_measure(ships.NUM_CONTEXT, 4)
    with registry(store) as client:
        tags = client.get_model_version(registration.name, registration.version).tags
    assert float(tags["score_ade_m"]) == gate_errors(made)[0]
    model = loaded(uri_of(registration), store)
    whole = frame_of(*walk(2, 10), (10, 10))
    assert_recovered(asked(model, gapped(), task="recover"), store.folder(trained))
    assert asked(model, whole, horizon=2)["step"].tolist() == [1, 2, 1, 2]
    assert asked(model, whole, task="score")["surprise_nats"].notna().all()
    assert asked(model, whole, task="embed")["e0"].notna().all()
    goal = whole.assign(tracked_at=[at.isoformat() for at in whole["tracked_at"]])
    goal.loc[goal.groupby("trajectory_id").cumcount() > 0, "tracked_at"] = None
    assert (asked(model, goal, task="travel_time")["travel_s"] > 0).all()


# The gate ---------------------------------------------------------------------------------------


def test_a_model_that_recovers_better_than_a_line_is_champion(champion, made, store):
    registration, promotion = champion
    assert promotion.is_champion
    model_m, baselines_m = gate_errors(made)
    assert list(baselines_m) == ["linear"]
    assert promotion.reason == (
        f"MAE of recovered points on validation windows is {model_m:,.1f} m, below the "
        f"{baselines_m['linear']:,.1f} m of linear, the best simple baseline; a clean process "
        "reproduces it"
    )
    with registry(store) as client:
        tags = client.get_model_version(registration.name, registration.version).tags
    assert float(tags["score_mae_m"]) == model_m
    assert "score_ade_m" not in tags
    again = gate(made, registration)
    assert (again.is_champion, again.is_new) == (True, False)


def test_a_model_that_a_baseline_equals_is_not_promoted(champion, made, store):
    model_m, _ = gate_errors(made)
    table = recovery_table({"masked_chemin": model_m, "linear": 1e9, "hermite": model_m})
    other = replace(made, evaluated=evaluated_as(store, made, table, "equal"))
    without_champion(champion[0], store)
    refusal = gate(other, champion[0])
    assert not refusal.is_champion
    assert f"not below the {model_m:,.1f} m of hermite" in refusal.reason


def test_an_evaluation_without_recovery_says_what_to_store(made, store):
    table = recovery_table({"masked_chemin": 1.0}, split="test")
    other = replace(made, evaluated=evaluated_as(store, made, table, "none"))
    with pytest.raises(DataError, match=r"keep recover in window\.tasks"):
        gate_errors(other)


def without_champion(registration: Registration, store: Store) -> None:
    """As if the gate had said nothing of any version yet."""
    with registry(store) as client:
        client.delete_registered_model_alias(registration.name, "champion")
        tags = client.get_model_version(registration.name, registration.version).tags
        if "decision_key" in tags:
            client.delete_model_version_tag(registration.name, registration.version, "decision_key")


@pytest.fixture
def bundle(champion, store) -> Iterator[Path]:
    """Where the registry keeps what a version carries; put back as it was."""
    with registry(store) as client:
        version = client.get_model_version(champion[0].name, champion[0].version)
        model = client.get_logged_model(version.source.removeprefix("models:/"))
    folder = Path(unquote(model.artifact_location[len("file://") :])) / "artifacts" / "bundle"
    kept = {name: (folder / name).read_bytes() for name in ("weights.safetensors", "serving.json")}
    without_champion(champion[0], store)
    yield folder
    for name, content in kept.items():
        (folder / name).write_bytes(content)


def test_a_changed_weight_is_refused(champion, made, store, bundle):
    weights = bundle / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refusal = gate(made, champion[0])
    assert not refusal.is_champion
    assert "does not load in a clean process" in refusal.reason


def test_other_weights_that_load_are_refused_by_what_they_answer(champion, made, store, bundle):
    """Whoever changes the checksum as well is told by the error itself."""
    from tasks.runtime.store import sha256_file

    torch.manual_seed(9)
    normaliser = load_trained(store.folder(made.trained)).model.normaliser
    save_weights(build("masked_chemin", "tiny", normaliser), bundle / "weights.safetensors")
    facts = json.loads((bundle / "serving.json").read_text())
    facts["weights_sha256"] = sha256_file(bundle / "weights.safetensors")
    (bundle / "serving.json").write_text(json.dumps(facts))
    refusal = gate(made, champion[0])
    assert not refusal.is_champion
    assert "a clean process measures" in refusal.reason


# What is measured -------------------------------------------------------------------------------


def answer_of(windows: list[WindowBatch], path: Path) -> pa.Table:
    """The truth, as a model would have written it."""
    tables = [
        shown_rows(replace(w, batch=replace(w.batch, is_observed_BT=~w.batch.is_pad_BT)))
        for w in windows
    ]
    table = pa.concat_tables(tables)
    pq.write_table(table, path)
    return table


def test_the_answer_of_a_clean_process_is_measured_as_it_is(store, shards, tmp_path):
    windows, path = windows_of(store, shards), tmp_path / "answer.parquet"
    table = answer_of(windows, path)
    measure = RECOVERY_MEASURE
    assert measure.answered(path, windows) == 0
    places = [straight(w) for w in windows]
    moved = table
    for name, column in zip(("lon_deg", "lat_deg"), zip(*places, strict=True), strict=True):
        value_N = torch.cat([v[~w.batch.is_pad_BT] for v, w in zip(column, windows, strict=True)])
        moved = moved.set_column(moved.column_names.index(name), name, pa.array(value_N.numpy()))
    pq.write_table(moved, path)
    assert measure.answered(path, windows) == pytest.approx(mae_m(windows, places), rel=1e-12)
    pq.write_table(moved.slice(1), path)
    with pytest.raises(NotReproduced, match="answers another number of points"):
        measure.answered(path, windows)
    silent = table["lat_deg"].to_numpy().copy()
    silent[BLOCK.start] = np.nan
    untold = table.set_column(3, "lat_deg", pa.array(silent, from_pandas=True))
    pq.write_table(untold, path)
    assert math.isnan(measure.answered(path, windows))


def test_a_clean_process_sees_no_hidden_place(store, shards, tmp_path):
    """Windows with other hidden places are written as the very same question."""
    windows = windows_of(store, shards)
    spoilt = []
    for one in windows:
        batch = one.batch
        places = {
            name: getattr(batch, name).masked_fill(~batch.is_observed_BT, 12.5)
            for name in ("lon_deg_BT", "lat_deg_BT")
        }
        spoilt.append(replace(one, batch=replace(batch, **places)))
    written = []
    for name, some in (("true", windows), ("spoilt", spoilt)):
        (tmp_path / name).mkdir()
        question = RECOVERY_MEASURE.call(some, tmp_path / name)
        written.append(pq.read_table(question.files[0]).to_pandas())
    pd.testing.assert_frame_equal(*written)
    num_hidden = sum(int((w.batch.is_target_BT).sum()) for w in windows)
    assert written[0]["lon_deg"].isna().sum() == num_hidden > 0
    assert written[0]["tracked_at"].notna().all()
