"""A stored model as a service: what it accepts, what it refuses, and that it answers the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from helpers.places import PROJECT
from helpers.served import frame_of, served_from, stored
from helpers.walks import context_of, walk

from model.inference.api import forecast
from model.inference.serving import Params, load_trained
from model.interface.weights import CorruptCheckpoint
from tasks.release import bundle as bundles
from tasks.release.bundle import REQUIREMENTS, example_points, write_bundle

LENGTHS = (12, 5, 9)
DEFAULTS = {"task": "forecast", "horizon": 4, "num_samples": 8, "seed": 3, "zone": "UTC"}


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("trained"), "chemin")


@pytest.fixture(scope="module")
def bundle(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("served") / "bundle", trained_folder, DEFAULTS)


@pytest.fixture(scope="module")
def served(bundle: Path):
    return served_from(bundle)


def walks_frame() -> pd.DataFrame:
    """Three walks of different lengths in one long frame."""
    return frame_of(*walk(len(LENGTHS), max(LENGTHS)), LENGTHS)


# The same answer --------------------------------------------------------------------------------


def test_it_answers_what_inference_forecasts(served, trained_folder):
    found = served.forecast(walks_frame())
    model = load_trained(trained_folder).model
    expected = forecast(model, context_of(*walk(3, 12), list(LENGTHS)), 4, num_samples=8, seed=3)
    assert list(found["trajectory_id"].unique()) == ["walk-9", "walk-8", "walk-7"]
    assert found["step"].tolist() == [1, 2, 3, 4] * 3
    for name in ("lon_deg", "lat_deg", "radius_p50_m", "radius_p80_m", "radius_p95_m"):
        theirs = getattr(expected, f"{name}_BH").numpy().ravel()
        np.testing.assert_allclose(found[name], theirs, rtol=1e-5, err_msg=name)
    assert (found["radius_p80_m"] > found["radius_p50_m"]).all()
    assert (found["radius_p95_m"] > found["radius_p80_m"]).all()


def test_given_times_are_the_times_of_the_answer(served, trained_folder):
    frame = walks_frame()
    last_at = frame.groupby("trajectory_id", sort=False)["tracked_at"].last()
    asked_s = [30, 60, 120]
    target_at = pd.DataFrame(
        [
            {"trajectory_id": name, "tracked_at": at + timedelta(seconds=s)}
            for s in reversed(asked_s)
            for name, at in last_at.items()
        ]
    )
    found = served.forecast(frame, target_at, num_samples=0)
    assert found["horizon_s"].tolist() == asked_s * 3
    context = context_of(*walk(3, 12), list(LENGTHS))
    last_s_B1 = torch.tensor(
        [[float(context.time_s_BT[row, n - 1])] for row, n in enumerate(LENGTHS)]
    )
    target_s_BH = last_s_B1.double() + torch.tensor(asked_s)
    expected = forecast(load_trained(trained_folder).model, context, 3, target_s_BH)
    np.testing.assert_allclose(found["lon_deg"], expected.lon_deg_BH.numpy().ravel(), rtol=1e-7)
    assert found["radius_p50_m"].isna().all()


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_and_repeats_change_nothing(served, seed):
    frame = walks_frame()
    mixed = frame.sample(frac=1.0, random_state=seed)
    mixed = pd.concat([mixed, mixed.head(7)], ignore_index=True)
    found = served.forecast(mixed).sort_values(["trajectory_id", "step"], ignore_index=True)
    expected = served.forecast(frame).sort_values(["trajectory_id", "step"], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)


def whole_degrees() -> pd.DataFrame:
    at = [datetime(2024, 3, 31, 0, 30, tzinfo=UTC) + timedelta(hours=hour) for hour in range(4)]
    return pd.DataFrame(
        {
            "trajectory_id": ["7"] * 4,
            "tracked_at": pd.Series(at, dtype="datetime64[us, UTC]"),
            "lon_deg": [10.0, 11.0, 12.0, 13.0],
            "lat_deg": [0.0, 1.0, 1.0, 2.0],
        }
    )


OSLO = "Europe/Oslo"  # its clocks change in these very hours
SPELLINGS = {
    "text with Z": lambda at: at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "text without zone is UTC": lambda at: at.dt.strftime("%Y-%m-%d %H:%M:%S"),
    "text with offsets": lambda at: at.dt.tz_convert(OSLO).map(lambda value: value.isoformat()),
    "naive": lambda at: at.dt.tz_localize(None),
    "nanoseconds": lambda at: at.dt.as_unit("ns"),
    "other zone": lambda at: at.dt.tz_convert(OSLO),
    "objects": lambda at: pd.Series([value.to_pydatetime() for value in at], dtype=object),
    "mixed zones": lambda at: pd.Series(
        [value.astimezone(timezone(timedelta(hours=h))) for h, value in enumerate(at)],
        dtype=object,
    ),
    "numpy": lambda at: pd.Series(list(at.dt.tz_localize(None).to_numpy()), dtype=object),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_time_may_be_spelt_in_many_ways(served, spelling):
    frame = whole_degrees()
    frame["tracked_at"] = SPELLINGS[spelling](frame["tracked_at"])
    pd.testing.assert_frame_equal(served.forecast(frame), served.forecast(whole_degrees()))


def test_whole_numbers_and_arrow_tables_are_taken(served):
    expected = served.forecast(whole_degrees())
    frame = whole_degrees().astype({"lon_deg": "int64", "lat_deg": "int32"})
    pd.testing.assert_frame_equal(served.forecast(frame), expected)
    table = pa.table({name: frame[name].tolist() for name in frame})
    pd.testing.assert_frame_equal(served.forecast(table), expected)
    numbered = served.forecast(frame.astype({"trajectory_id": "int64"}))
    assert numbered["trajectory_id"].tolist() == [7] * 4
    assert numbered["trajectory_id"].dtype == "int64"


def test_the_caller_chooses_and_the_input_stays(served):
    frame = whole_degrees()
    before = frame.copy()
    assert len(served.forecast(frame, horizon=2)) == 2
    assert served.forecast(frame, num_samples=0)["radius_p80_m"].isna().all()
    assert not served.forecast(frame, seed=4)["radius_p50_m"].equals(
        served.forecast(frame, seed=5)["radius_p50_m"]
    )
    pd.testing.assert_frame_equal(frame, before)


def test_the_example_is_answered(served):
    found = served.predict(None, example_points().to_pandas())
    assert len(found) == DEFAULTS["horizon"]
    assert found.notna().all(axis=None)


# Refusals ---------------------------------------------------------------------------------------


def changed(column: str, value: object) -> pd.DataFrame:
    frame = whole_degrees().astype({column: object})
    frame.loc[1, column] = value
    return frame


BAD_FRAMES = {
    "NaN": (lambda: changed("lon_deg", float("nan")), "lon_deg must be finite"),
    "infinite": (lambda: changed("lat_deg", float("inf")), "lat_deg must be finite"),
    "too far north": (lambda: changed("lat_deg", 90.001), "from -90 to 90: 1 of 4 rows"),
    "too far east": (lambda: changed("lon_deg", 181), "from -180 to 180: 1 of 4 rows"),
    "a word": (
        lambda: changed("lon_deg", "east"),
        "lon_deg holds a value that is not a number; give",
    ),
    "no time": (lambda: changed("tracked_at", None), "tracked_at is missing in 1 of 4 rows"),
    "a number for a time": (lambda: changed("tracked_at", 1.7e9), "not a number such as 17"),
    "no time at all": (lambda: changed("tracked_at", "soon"), "holds 'soon', which is not a date"),
    "no id": (lambda: changed("trajectory_id", None), "trajectory_id is missing in 1 row"),
    "no column": (lambda: whole_degrees().drop(columns="lat_deg"), "column lat_deg is missing"),
    "empty": (lambda: whole_degrees().head(0), "no points were given"),
    "a list": (lambda: [1, 2], "expected a DataFrame"),
    "two places at once": (
        lambda: changed("tracked_at", whole_degrees()["tracked_at"][0]),
        "share trajectory_id and tracked_at",
    ),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_is_refused_in_plain_words(served, name):
    make, message = BAD_FRAMES[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        served.forecast(make())


def test_no_message_names_a_coordinate(served):
    frame = whole_degrees()
    frame.loc[2, "lon_deg"] = 181.987654
    with pytest.raises(ValueError, match="lon_deg") as caught:
        served.forecast(frame)
    assert "181.98" not in str(caught.value)


BAD_CHOICES = (
    ({"horizon": 0}, "horizon must be from 1 to 1000"),
    ({"horizon": True}, "horizon must be a whole number"),
    ({"horizon": 2.0}, "horizon must be a whole number"),
    ({"num_samples": -1}, "num_samples must be from 0"),
    ({"seed": -1}, "seed must be from 0"),
    ({"zone": "Mars/Olympus"}, "unknown time zone"),
    ({"zone": ""}, "unknown time zone"),
    ({"task": "recover"}, "chemin does not serve 'recover'; it serves: forecast, embed, score"),
    ({"task": "score"}, "forecast was called with the task 'score'"),
    ({"horizont": 3}, "unknown parameter 'horizont'; the known ones are: task, num_samples"),
)


@pytest.mark.parametrize(("choices", "message"), BAD_CHOICES)
def test_a_bad_choice_is_refused_in_plain_words(served, choices, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        served.forecast(whole_degrees(), **choices)


def test_targets_must_fit_the_points(served):
    target_at = pd.DataFrame({"trajectory_id": ["8"], "tracked_at": ["2024-04-01"]})
    with pytest.raises(ValueError, match="equally many instants"):
        served.forecast(whole_degrees(), target_at)


# The bundle -------------------------------------------------------------------------------------


def test_changed_weights_are_refused(bundle, trained_folder, tmp_path):
    copy = write_bundle(tmp_path / "bundle", trained_folder, DEFAULTS)
    weights = copy / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(Exception, match="SHA-256") as caught:
        served_from(copy)
    # The bundle's own class, since its source is loaded under its own name.
    assert type(caught.value).__name__ == CorruptCheckpoint.__name__


def test_a_bundle_needs_neither_the_project_nor_its_compiler(bundle, tmp_path):
    entry = Path(bundles.ENTRY)
    script = (
        "import importlib.util as iu, json, sys, types\n"
        f"spec = iu.spec_from_file_location('entry', {str(entry)!r})\n"
        "entry = iu.module_from_spec(spec); spec.loader.exec_module(entry)\n"
        f"context = types.SimpleNamespace(artifacts={{'bundle': {str(bundle)!r}}})\n"
        "entry.TrajectoryModel().load_context(context)\n"
        "ours = {'model', 'tasks', 'sql', 'flows', 'numba', 'duckdb', 'prefect'}\n"
        "print(json.dumps([sorted(ours & set(sys.modules)),\n"
        "  [name for name in sys.modules if name.startswith('trajfoundry_model_')]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, private = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []
    assert re.fullmatch(r"trajfoundry_model_[0-9a-f]{8}", min(private))
    assert not list(bundle.rglob("__pycache__"))


def test_requirements_are_ranges_that_the_project_declares():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert set(REQUIREMENTS) <= set(project["dependencies"])
    assert not any("+" in line or "==" in line or "trajfoundry" in line for line in REQUIREMENTS)


def test_defaults_are_parameters():
    assert Params().with_choices(DEFAULTS) == Params(**DEFAULTS)
