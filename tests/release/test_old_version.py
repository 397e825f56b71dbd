"""A version that was registered before the model's source had rooms: it still loads and answers.

Its files are as MLflow stored them, less the addresses of the machine. The numbers are what it
answered on the day that it was made.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from helpers.places import FIXTURES

from tasks.config.pipeline import ForecastConfig
from tasks.release.bundle import example_points
from tasks.release.champion_gate import REPRODUCED_WITHIN, run_clean_process
from tasks.release.gate_metrics import CleanProcessCall
from tasks.runtime.errors import ConfigError
from tasks.runtime.store import Store
from tasks.serve.batch_predict import forecast_file

ANSWER = """
trajectory_id,step,horizon_s,lon_deg,lat_deg,radius_p50_m,radius_p80_m
example,1,21600.66098,-152.3225043691,1.11147235027,11075.36316688,21330.31945543
example,2,43198.602931,-152.8649416072,1.43331008488,37827.81015070,55837.87648867
example,3,64799.305111,-153.4163413078,1.75647596650,64438.37066618,90033.65355090
"""
NUMBERS = ("horizon_s", "lon_deg", "lat_deg", "radius_p50_m", "radius_p80_m")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registered")
    with tarfile.open(FIXTURES / "registered" / "chemin-hurdat2.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "chemin-hurdat2"


def assert_answered(found: pd.DataFrame, columns: Sequence[str] = NUMBERS) -> None:
    expected = pd.read_csv(StringIO(ANSWER))
    assert list(found) == list(expected)
    assert found["trajectory_id"].tolist() == expected["trajectory_id"].tolist()
    assert found["step"].tolist() == expected["step"].tolist()
    for name in columns:
        np.testing.assert_allclose(
            found[name], expected[name], rtol=REPRODUCED_WITHIN, err_msg=name
        )


def test_the_gate_asks_it_in_a_clean_process(version, tmp_path):
    """As a champion of before is asked: by its own source, at given times, files in and out."""
    points, target_at, answer = (tmp_path / f"{name}.parquet" for name in ("known", "at", "answer"))
    known, expected = example_points(), pd.read_csv(StringIO(ANSWER))
    pq.write_table(known, points)
    last_at = pd.Timestamp(known["tracked_at"].to_pylist()[-1])
    at = [str(last_at + pd.Timedelta(seconds=s)) for s in expected["horizon_s"]]
    pq.write_table(pa.table({"trajectory_id": ["example"] * 3, "tracked_at": at}), target_at)
    question = CleanProcessCall("forecast_files", (points, target_at), {"num_samples": 0})
    run_clean_process(version, question, answer, tmp_path)
    assert_answered(pd.read_parquet(answer), ["horizon_s", "lon_deg", "lat_deg"])


def test_a_file_is_forecast_by_it(version, tmp_path):
    points, answer = tmp_path / "points.csv", tmp_path / "answer.csv"
    pyarrow.csv.write_csv(example_points(), points)
    store = Store(tmp_path / "store")
    store.prepare()
    config = ForecastConfig(model=str(version), horizon=3, num_samples=16)
    with pytest.raises(ConfigError, match="no registered version recorded its code"):
        forecast_file(config, str(points), str(answer), store)
    trusting = config.model_copy(update={"trust_model_code": True})
    told = forecast_file(trusting, str(points), str(answer), store)
    assert (told.num_points, told.num_trajectories) == (3, 1)
    assert_answered(pd.read_csv(answer))


def test_its_source_is_of_before_the_rooms(version):
    """Were the fixture made anew, it would test nothing."""
    source = version / "artifacts" / "bundle" / "model"
    assert (source / "serving.py").is_file()
    assert not (source / "inference").exists()
    assert not (source / "families" / "chemin").exists()
