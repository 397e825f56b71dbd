"""Made-up trips at the gate: what is measured, what a copy of the model repeats, who is refused."""

from __future__ import annotations

import math
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import masked_ships
from helpers.made_up_trips import TEST, TRAIN, ZONE, CopyMachine
from helpers.served import served_from

from model.baselines.generators import IndependentSteps, MarkovWalk
from model.earth.geometry import haversine_m
from model.evaluation.generation.generation_rows import AUC, SKILL, whole_rows
from model.evaluation.generation.generation_scores import (
    GENERATION_TABLE,
    Samples,
    generation_scores,
)
from model.evaluation.generation.generation_table import Judge, RealTrips
from model.evaluation.generation.made_up import made_up
from model.evaluation.score_table import SCORES
from model.families import tasks_of
from tasks.prepare.conventions import GENERATION_FILE
from tasks.registry.client import registry
from tasks.release.bundle import default_params, example_points, write_bundle
from tasks.release.champion_gate import Score, clean_error, decide, gate_errors, measure_of
from tasks.release.gate_metrics import NotReproduced
from tasks.release.generation_measure import GenerationMeasure
from tasks.release.mlflow_metrics import mlflow_metrics
from tasks.release.model_card import copying_note, generation_note
from tasks.release.promote import promote
from tasks.release.register import register
from tasks.report.generation_tables import read_generation
from tasks.runtime.errors import DataError

SAVED = "scores.parquet"


@pytest.fixture(scope="module")
def made():
    return masked_ships.evaluated("gdm", ("forecast",))


@pytest.fixture(scope="module")
def measure(made) -> GenerationMeasure:
    found = measure_of(made.config)
    assert isinstance(found, GenerationMeasure)
    return found


@pytest.fixture(scope="module")
def served(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    trained = made.store.folder(made.trained)
    return served_from(write_bundle(folder, trained, default_params(made.config), made.evaluation))


def test_what_is_made_up_is_measured_first(made, measure):
    assert tasks_of("gdm")[0] == "generate"
    error, bars = gate_errors(made)
    told = whole_rows(
        [row for row in read_generation(made.evaluation) if row["split"] == "validation"], "gdm"
    )
    assert error == told[AUC]["value"]
    assert set(bars) <= {"independent_steps", "markov_walk"}
    evidence = measure.evidence(made.evaluation, "gdm")
    assert (evidence.num_windows, evidence.num_entities) == (40, 10)
    assert (evidence.low, evidence.high) == (told[SKILL]["low"], told[SKILL]["high"])
    named = dict(mlflow_metrics(made.evaluation))
    assert named[f"validation/generate/gdm/{AUC}"] == error
    assert "test/generate/markov_walk/copied_share" in named


def test_a_copy_of_the_model_has_the_same_area(made, measure, served, tmp_path):
    """From starts, weights and seed alone; another seed, or a point less, has not."""
    shards = made.store.folder(made.shards)
    batches = measure.batches(shards, "UTC", tmp_path)
    call = measure.call(batches, tmp_path)
    answer = tmp_path / "answer.parquet"
    getattr(served, call.method)(*call.files, answer, **call.choices)
    assert measure.answered(answer, batches) == gate_errors(made)[0]
    lessened = pq.read_table(answer).slice(1)
    pq.write_table(lessened, answer)
    with pytest.raises(NotReproduced, match="another number of points"):
        measure.answered(answer, batches)


def test_the_settings_name_what_is_measured(measure):
    fewer = GenerationMeasure(measure.rules.model_copy(update={"num_generated": 50}))
    assert fewer.settings != measure.settings
    assert measure.settings["task"] == "generate"


# At the door ------------------------------------------------------------------------------------


def test_a_frame_of_starts_is_answered_with_trips(made, served):
    starts = example_points("generate").to_pandas()
    assert len(starts) == 1
    two = pd.concat([starts, starts.assign(trajectory_id="again")])
    found = served.predict(None, two)
    assert list(found) == ["trajectory_id", "tracked_at", "lon_deg", "lat_deg"]
    assert found["trajectory_id"].value_counts().to_dict() == {
        "example": masked_ships.NUM_POINTS, "again": masked_ships.NUM_POINTS,
    }  # fmt: skip
    first = found.groupby("trajectory_id").first()
    assert set(first["lon_deg"]) == {-150.0}
    assert set(first["tracked_at"]) == {pd.Timestamp("2024-01-01T00:00Z")}
    one, other = (part["lon_deg"].to_numpy() for _, part in found.groupby("trajectory_id"))
    assert not np.array_equal(one, other)
    few = served.predict(None, two, {"task": "generate", "num_points": 3, "seed": 4})
    assert len(few) == 6
    pd.testing.assert_frame_equal(
        few, served.predict(None, two, {"task": "generate", "num_points": 3, "seed": 4})
    )


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"num_points": 1}, "num_points must be from 2 to 1000, not 1"),
        ({"num_points": 65}, "num_points must be from 2 to 64, not 65"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_slips_are_refused_in_words(served, params, said):
    with pytest.raises(ValueError, match=said):
        served.predict(None, example_points("generate"), {"task": "generate", **params})


def test_a_start_is_one_row(served):
    with pytest.raises(ValueError, match="begins at one row of each trajectory: 1 of 1 have more"):
        served.predict(None, example_points(), {"task": "generate"})


def metres_of(trip: pd.DataFrame) -> float:
    degrees = [torch.tensor(trip[name].to_numpy()) for name in ("lon_deg", "lat_deg")]
    ends = [value_T[part] for part in (slice(-1), slice(1, None)) for value_T in degrees]
    return float(haversine_m(*ends).sum())


def test_columns_of_a_frame_say_how_long_a_trip_is_to_be(served):
    """Each is of its own row, wherever that stands; where one is missing the trip is left free."""
    start = example_points("generate").to_pandas()
    free = pd.concat([start, start.assign(trajectory_id="other")])
    plain = served.predict(None, free)
    length_m = metres_of(plain[plain["trajectory_id"] == "example"])
    asked = free.assign(length_m=[None, 2 * length_m], duration_s=np.nan)
    found = served.predict(None, asked)
    one, other = (found["trajectory_id"] == name for name in ("example", "other"))
    columns = ["lon_deg", "lat_deg"]
    np.testing.assert_allclose(found.loc[one, columns], plain.loc[one, columns], atol=1e-5)
    assert (found.loc[other, columns] != plain.loc[other, columns]).any(axis=None)
    nothing = free.assign(length_m=np.nan)
    pd.testing.assert_frame_equal(served.predict(None, nothing), plain)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("length_m", 1e12, "length_m must be from .* to .*, not 1e"),
        ("duration_s", -60, "duration_s must be from .* to .*, not -60"),
        ("length_m", "far", "length_m holds a value that is not a number; give decimal numbers"),
    ],
)
def test_a_trip_that_cannot_be_is_refused(served, column, value, said):
    start = example_points("generate").to_pandas()
    with pytest.raises(ValueError, match=said):
        served.predict(None, start.assign(**{column: value}))


def test_rows_of_one_trip_ask_for_one_length(served):
    start = example_points("generate").to_pandas()
    twice = pd.concat([start.assign(length_m=1e5), start.assign(length_m=2e5)])
    with pytest.raises(ValueError, match="length_m differs between the rows of one trajectory"):
        served.predict(None, twice)


# Refusals ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied() -> list[dict]:
    """The judgement of a machine that copies train, under the name of the family."""
    machine = CopyMachine(TRAIN, "gdm")
    makers = (machine, IndependentSteps.fit(TRAIN), MarkovWalk.fit(TRAIN))
    trips = {one.name: made_up(one, TEST, ZONE, 0) for one in makers}
    judge = Judge(RealTrips(TRAIN, TEST, ZONE, 40.0), num_resamples=10)
    return generation_scores(Samples("gdm", trips), judge, "validation")


def evaluated_as(folder: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, GENERATION_TABLE), folder / GENERATION_FILE)
    pq.write_table(SCORES.empty_table(), folder / SAVED)
    return folder


def decided(measure: GenerationMeasure, folder: Path, again: float | None = None):
    errors = measure.errors(folder)
    error = errors.pop("gdm")
    evidence = measure.evidence(folder, "gdm")
    asked: list[None] = []

    def reproduced() -> float:
        asked.append(None)
        return error if again is None else again

    candidate = Score(version="1", error=error)
    found = decide(candidate, errors, evidence, None, measure, reproduced)
    return found, bool(asked)


def with_values(rows: list[dict], **values: float) -> list[dict]:
    """The rows in which the model scores otherwise."""
    return [
        row | {"value": values[row["measure"]]}
        if row["model"] == "gdm" and row["measure"] in values
        else row
        for row in rows
    ]


def test_a_copy_machine_is_refused_though_its_area_is_the_best(measure, copied, tmp_path):
    folder = evaluated_as(tmp_path, copied)
    errors = measure.errors(folder)
    assert errors["gdm"] == min(errors.values())
    decision, was_run = decided(measure, folder)
    assert not decision.is_promoted
    assert not was_run
    assert "the best simple generator that copies nothing, but it gives train away" in (
        decision.reason
    )
    assert "copies of train 100.0%, real trips at most" in decision.reason
    assert copying_note(read_generation(folder), "gdm") == []  # no test was judged
    as_test = [row | {"split": "test"} for row in copied]
    [note] = copying_note(as_test, "gdm")
    assert "It copies train: copies of train 100.0%" in note
    assert "### Generators, test" in "\n".join(generation_note(as_test, "gdm"))


def test_who_copies_nothing_and_passes_better_is_promoted(measure, copied, tmp_path):
    honest = with_values(copied, copied_share=0.0, membership_auc_by_sample=0.5)
    folder = evaluated_as(tmp_path, honest)
    decision, was_run = decided(measure, folder)
    assert decision.is_promoted
    assert was_run
    assert decision.reason.startswith("AUC of made-up trips on validation windows is 0.")
    other, _ = decided(measure, folder, again=0.9)
    assert "a clean process measures 0.900" in other.reason


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({AUC: 1.0}, "not below the"),
        ({"unordered": 0.2}, "20.0% of what it makes up is not in order of time"),
        ({"membership_auc_by_sample": 0.99}, "tells who was in train, by itself 0.99"),
    ],
)
def test_others_are_refused_with_their_reason(measure, copied, tmp_path, values, said):
    honest = {"copied_share": 0.0, "membership_auc_by_sample": 0.5}
    folder = evaluated_as(tmp_path, with_values(copied, **(honest | values)))
    decision, was_run = decided(measure, folder)
    assert not decision.is_promoted
    assert not was_run
    assert said in decision.reason


def test_without_a_judgement_it_is_said_what_lacks(measure, copied, tmp_path):
    test_alone = [row | {"split": "test"} for row in copied]
    with pytest.raises(DataError, match="no made-up trip was judged on validation"):
        measure.errors(evaluated_as(tmp_path, test_alone))


# In the registry --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_registered_version_makes_the_same_trips_in_a_clean_process(made, tmp_path):
    reported = masked_ships.reported("gdm", ("forecast",))
    registration = register(made, reported)
    error, bars = gate_errors(made)
    with registry(made.store) as client:
        version = client.get_model_version(registration.name, registration.version)
        model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert float(version.tags["score_auc"]) == error
    assert "## Made-up trips" in version.description
    folder = Path(unquote(model.artifact_location.removeprefix("file://")))
    assert clean_error(made, folder, tmp_path) == error
    promotion = promote(made, registration)
    assert not math.isnan(min(bars.values()))
    assert "AUC of made-up trips on validation windows" in promotion.reason
