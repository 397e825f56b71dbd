"""Models of visits in a real registry: what they answer there, and what the gate says."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from helpers import visitors
from helpers.visit_served import frame_of_law
from helpers.visit_worlds import places_of

from model.families import build
from model.inference.serving import load_trained
from model.interface.weights import save_weights
from tasks.registry.client import registry
from tasks.release import register
from tasks.release.bundle import ANSWERS, write_bundle
from tasks.release.champion_gate import (
    gate_errors,
    gate_evidence,
    gate_windows,
    windows_digest,
)
from tasks.release.gate_metrics import NotReproduced
from tasks.release.outcome import Assessment, shown_errors
from tasks.release.promote import Promotion, promote
from tasks.release.register import Registration
from tasks.release.visit_measure import VISIT_MEASURE, gain_interval, shown_visits
from tasks.runtime.errors import DataError
from tasks.runtime.run_records import StageRun
from tasks.runtime.store import Receipt, Recipe, sha256_file

NAME = "trajfoundry-trajgpt-geolife"


@pytest.fixture(scope="module")
def made() -> visitors.Assessed:
    return visitors.good()


@pytest.fixture(scope="module")
def version(made) -> Registration:
    return register.register(made, made.reported)


def evaluated_as(made: visitors.Assessed, name: str, change: Callable[[pa.Table], pa.Table]):
    """The steps with other numbers in their evaluation."""
    recipe = Recipe(
        stage="evaluate", dataset="geolife", code={}, sql={}, settings={"name": name},
        inputs={"trained": made.trained.recipe},
    )  # fmt: skip
    with made.store.draft() as draft:
        for path in made.evaluation.iterdir():
            if path.suffix == ".parquet":
                pq.write_table(change(pq.read_table(path)), draft / path.name)
            elif path.name != "manifest.json":
                (draft / path.name).write_bytes(path.read_bytes())
        receipt: Receipt = made.store.publish(draft, recipe, {}, licence="made up")
    return replace(made, evaluated=receipt)


def with_worse_baselines(table: pa.Table) -> pa.Table:
    """Each part of the surprise of every baseline is 2 nats more; nobody is behind anywhere."""
    rows = table.to_pylist()
    for row in rows:
        if row["metric"] == "nll" and row["model"] != "trajgpt":
            row["value"] += 2.0
        if row["metric"] == "skill":
            row |= {"value": 0.2, "low": 0.1, "high": 0.3}
    return pa.Table.from_pylist(rows, table.schema)


@pytest.fixture(scope="module")
def ahead(made) -> visitors.Assessed:
    return evaluated_as(made, "ahead", with_worse_baselines)


# In the registry --------------------------------------------------------------------------------


def loaded(made: visitors.Assessed, version: Registration) -> Any:
    import mlflow

    with registry(made.store):
        return mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}")


def test_a_registered_model_tells_next_visits(made, version):
    model, frame = loaded(made, version), frame_of_law(900_000, 3, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of what it does itself
        found = model.predict(frame)
        made_up = model.predict(
            frame.groupby("entity_id").head(1),
            params={"task": "generate", "controls": '{"num_visits": 3}', "num_samples": 2},
        )
    assert model.metadata.get_output_schema().input_names() == list(ANSWERS["next_visit"])
    assert list(found) == list(ANSWERS["next_visit"])
    assert found["rank"].tolist() == [1, 2, 3, 4, 5] * 3
    assert len(made_up) == 3 * 2 * 3
    told = load_trained(made.store.folder(made.trained))
    assert model.unwrap_python_model().tasks == told.tasks == ("next_visit", "infill", "generate")


def test_a_version_says_what_it_is(made, version):
    with registry(made.store) as client:
        found = client.get_model_version(version.name, version.version)
        run = client.get_run(version.run_id)
        model = client.get_logged_model(found.source.removeprefix("models:/"))
    assert version.name == NAME
    for words in (
        "each with weight 1 and in nats",
        "Times are in seconds",
        "16 regions, H3 cells of resolution 8",
        "The last points of each person are test",
        "regions that were visited in train, homes among them",
        "`arrived_at` and `left_at`",
    ):
        assert words in found.description, words
    assert "tracked_at" not in found.description
    assert float(found.tags["score_nll"]) == gate_errors(made)[0]
    metrics = run.data.metrics
    assert 0 < metrics["validation/next_region/history/all/trajgpt/acc_1"] < 1
    assert "test/next_stay/arrival_given/all/trajgpt/nll" in metrics
    folder = Path(unquote(model.artifact_location[len("file://") :]))
    assert "h3<5,>=4.1" in (folder / "requirements.txt").read_text()
    assert load_trained(folder / "artifacts" / "bundle").model.fitted == places_of()


def test_prefect_shows_a_table_of_next_visits(made, version):
    run = StageRun(receipt=made.evaluated, is_cached=False, wall_s=1.0, peak_memory_mb=1.0)
    promotion = Promotion(is_champion=False, is_new=False, reason="no")
    about = {"dataset": "geolife", "registration": version, "promotion": promotion}
    rows = shown_errors(Assessment(**about, stages=(run,)), made.store, "visits")
    assert len({row["asked"] for row in rows}) == 3
    assert json.dumps(rows, allow_nan=False)


# The gate ---------------------------------------------------------------------------------------


def gate(made: visitors.Assessed, version: Registration) -> Promotion:
    return promote(made, version)


def test_what_is_compared_is_the_sum_of_three_means(made):
    error, bars = gate_errors(made)
    scores = pq.read_table(made.evaluation / "scores.parquet").to_pandas()
    asked = scores[
        (scores["split"] == "validation")
        & (scores["mask"] == "all")
        & (scores["stratum"] == "all")
        & (scores["metric"] == "nll")
    ]
    ours = asked[asked["model"] == "trajgpt"]
    assert sorted(ours["task"]) == ["next_region", "next_stay", "next_travel"]
    assert error == pytest.approx(ours["value"].sum())
    [(name, bar)] = bars.items()
    best = asked[asked["is_baseline"]].groupby("task")["value"]
    assert bar == pytest.approx(best.min().sum())
    assert {*re.split(", | and ", name)} == {*asked.loc[best.idxmin(), "model"]}


def test_a_model_worse_than_the_best_baselines_is_refused(made, version):
    refusal = gate(made, version)
    assert not refusal.is_champion
    error, bars = gate_errors(made)
    [(_, bar)] = bars.items()
    assert f"{error:,.3f} nats, not below the {bar:,.3f} nats of" in refusal.reason


def without_champion(made: visitors.Assessed, version: Registration) -> None:
    """As if the gate had said nothing of any version yet."""
    with registry(made.store) as client:
        client.delete_registered_model_alias(version.name, "champion")
        if "decision_key" in client.get_model_version(version.name, version.version).tags:
            client.delete_model_version_tag(version.name, version.version, "decision_key")


def test_a_better_one_is_champion(ahead, version):
    without_champion(ahead, version)
    promotion = gate(ahead, version)
    assert promotion.is_champion, promotion.reason
    assert "the best simple baselines of its region, travel and stay" in promotion.reason
    assert "a clean process reproduces it" in promotion.reason
    assert gate(ahead, version).is_champion


def test_a_gain_that_chance_explains_is_none(made, version):
    def mixed(table: pa.Table) -> pa.Table:
        rows = with_worse_baselines(table).to_pylist()
        for row in rows:
            if row["metric"] == "nll" and row["model"] != "trajgpt" and "window_id" in row:
                row["value"] += 40.0 * (1 if int(row["entity_id"][-2:]) % 2 else -1)
        return pa.Table.from_pylist(rows, table.schema)

    other = evaluated_as(made, "mixed", mixed)
    without_champion(other, version)
    refusal = gate(other, version)
    assert not refusal.is_champion
    assert "cannot be told apart" in refusal.reason
    assert "the 95 % interval of its gain is -" in refusal.reason


def behind_at(table: pa.Table, mask: str) -> pa.Table:
    """A model that is ahead, but at the stays of some windows."""
    rows = with_worse_baselines(table).to_pylist()
    for row in rows:
        if row["metric"] == "skill" and row["task"] == "next_stay" and row["mask"] == mask:
            row |= {"value": -0.2, "low": -0.3, "high": -0.1}
    return pa.Table.from_pylist(rows, table.schema)


def test_a_question_that_a_baseline_answers_better_is_named(made, version):
    other = evaluated_as(made, "behind", lambda table: behind_at(table, "all"))
    without_champion(other, version)
    refusal = gate(other, version)
    assert not refusal.is_champion
    assert "it is behind the best baseline at next stay" in refusal.reason
    # Which windows ask for what is seen says what came: no question that anybody could ask.
    other = evaluated_as(made, "behind-seen", lambda table: behind_at(table, "seen"))
    assert gate_evidence(other).behind == ()


@pytest.fixture
def bundle(ahead, version) -> Iterator[Path]:
    """Where the registry keeps what a version carries; put back as it was."""
    with registry(ahead.store) as client:
        found = client.get_model_version(version.name, version.version)
        model = client.get_logged_model(found.source.removeprefix("models:/"))
    folder = Path(unquote(model.artifact_location[len("file://") :])) / "artifacts" / "bundle"
    names = ("weights.safetensors", "serving.json", "places.json")
    kept = {name: (folder / name).read_bytes() for name in names}
    without_champion(ahead, version)
    yield folder
    for name, content in kept.items():
        (folder / name).write_bytes(content)


def test_other_weights_that_load_are_refused_by_what_they_answer(ahead, version, bundle):
    torch.manual_seed(9)
    save_weights(build("trajgpt", "tiny", places_of()), bundle / "weights.safetensors")
    facts = json.loads((bundle / "serving.json").read_text())
    facts["weights_sha256"] = sha256_file(bundle / "weights.safetensors")
    (bundle / "serving.json").write_text(json.dumps(facts))
    refusal = gate(ahead, version)
    assert not refusal.is_champion
    assert "a clean process measures" in refusal.reason


def test_regions_in_another_order_are_no_model_to_compare_with(ahead, version, bundle):
    places = json.loads((bundle / "places.json").read_text())
    places["cells"] = places["cells"][::-1]
    (bundle / "places.json").write_text(json.dumps(places))
    refusal = gate(ahead, version)
    assert not refusal.is_champion
    assert "knows other regions" in refusal.reason


# What is measured -------------------------------------------------------------------------------


def test_the_windows_have_another_name_with_other_regions(made):
    before = gate_windows(made)
    manifest = made.store.manifest(made.shards)
    [places] = [file for file in manifest.files if file.name == "places.json"]
    files = [
        file.model_copy(update={"sha256": "0" * 64}) if file is places else file
        for file in manifest.files
    ]

    other = manifest.model_copy(update={"files": tuple(files)})
    assert windows_digest(manifest, VISIT_MEASURE.settings) == before
    assert windows_digest(other, VISIT_MEASURE.settings) != before


def test_an_answer_of_another_length_is_no_answer(made, tmp_path):
    trained = write_bundle(tmp_path / "bundle", made.store.folder(made.trained), {})
    (tmp_path / "model" / "artifacts").mkdir(parents=True)
    trained.rename(tmp_path / "model" / "artifacts" / "bundle")
    shards = made.store.sound(made.shards)
    batches = VISIT_MEASURE.batches(shards, "UTC", tmp_path / "model")
    rows = pa.concat_tables([shown_visits(one) for one in batches])
    assert rows.num_rows == sum(one.windows.batch.num_points for one in batches)
    names = ("region_nats", "travel_nats", "stay_nats")
    number = len(pc.unique(rows["entity_id"]))
    answer = pa.table({name: np.full(number, float(place)) for place, name in enumerate(names)})
    pq.write_table(answer, tmp_path / "answer.parquet")
    assert VISIT_MEASURE.answered(tmp_path / "answer.parquet", batches) == 0 + 1 + 2
    pq.write_table(answer.slice(1), tmp_path / "answer.parquet")
    with pytest.raises(NotReproduced, match="another number of visits"):
        VISIT_MEASURE.answered(tmp_path / "answer.parquet", batches)


def test_an_interval_is_over_entities_and_parts_are_added():
    entity = np.repeat([f"e{n:02d}" for n in range(40)], 5)
    generator = np.random.default_rng(0)
    of_entity = np.repeat(generator.normal(size=40), 5)
    one, other = 0.5 + of_entity, np.where(np.arange(200) % 2, 0.25, np.nan)
    low, high = gain_interval([one, other], entity)
    assert low < one.mean() + 0.25 < high
    assert high - low == pytest.approx(2 * 1.96 * of_entity.std() / 40**0.5, rel=0.15)


def test_an_evaluation_without_next_visits_says_so(made):
    def without(table: pa.Table) -> pa.Table:
        return table.filter(pc.not_equal(table["task"], "next_region"))

    other = evaluated_as(made, "without", without)
    with pytest.raises(DataError, match="no next visit of validation was judged"):
        gate_errors(other)


def test_what_the_evidence_rests_on(made):
    found = gate_evidence(made)
    assert (found.num_windows, found.num_entities) == (40, 40)
    assert found.low < found.high
