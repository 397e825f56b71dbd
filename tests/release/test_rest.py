"""Requests as people have them, to a model loaded by MLflow, and over REST on loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.served import stored

from tasks.release.bundle import ENTRY, write_bundle
from tasks.release.register import signature
from tasks.serve.batch_predict import read_points

DEFAULTS = {"task": "forecast", "horizon": 4, "num_samples": 8, "seed": 3, "zone": "UTC"}
MMSI = 219_000_001


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as it is registered: with its signature, its entry and its bundle."""
    folder = tmp_path_factory.mktemp("saved")
    bundle = write_bundle(folder / "bundle", stored(folder, "chemin"), DEFAULTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        mlflow.pyfunc.save_model(
            str(folder / "model"),
            python_model=str(ENTRY),
            artifacts={"bundle": bundle.as_uri()},
            signature=signature(DEFAULTS, "chemin"),
            pip_requirements=["mlflow"],
        )
    return folder / "model"


@pytest.fixture(scope="module")
def model(saved: Path) -> Any:
    import mlflow

    return mlflow.pyfunc.load_model(str(saved))


@pytest.fixture(scope="module")
def address(model: Any) -> Iterator[str]:
    """The address of MLflow's own server of the model."""
    import uvicorn
    from mlflow.pyfunc import scoring_server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = scoring_server.init(model)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/invocations"
    server.should_exit = True
    thread.join()


def ships() -> pd.DataFrame:
    """Two ships under whole numbers, at whole degrees, with a column that nobody asked for."""
    return pd.DataFrame(
        {
            "trajectory_id": [MMSI] * 3 + [42] * 2,
            "tracked_at": [f"2024-05-01T{hour:02d}:00Z" for hour in (0, 1, 2, 0, 1)],
            "lon_deg": [10, 11, 12, -3, -4],
            "lat_deg": [50, 50, 51, 60, 61],
            "sog": [9.5, None, 10.0, 8.0, 8.1],
        }
    )


def asked(address: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
    """What the server answers to a body, and its status."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address, sent, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


# Inputs ------------------------------------------------------------------------------------------

FORMS = {
    "as it is": lambda rows: rows,
    "narrow integers": lambda rows: rows.astype({"trajectory_id": "int32", "lon_deg": "int8"}),
    "unsigned integers": lambda rows: rows.astype({"trajectory_id": "uint64"}),
    "nullable": lambda rows: rows.convert_dtypes(),
    "categorical": lambda rows: rows.astype(
        {"trajectory_id": "category", "tracked_at": "category"}
    ),
    "objects": lambda rows: rows.astype(object),
    "times": lambda rows: rows.assign(tracked_at=pd.to_datetime(rows["tracked_at"])),
    "naive times": lambda rows: rows.assign(
        tracked_at=pd.to_datetime(rows["tracked_at"]).dt.tz_localize(None)
    ),
    "Arrow": pa.Table.from_pandas,
    "Arrow dictionaries": lambda rows: pa.Table.from_pandas(
        rows.astype({"trajectory_id": "category"})
    ),
    "Arrow batch": pa.RecordBatch.from_pandas,
    "columns": lambda rows: rows.to_dict("list"),
    "records": lambda rows: rows.to_dict("records"),
    "an index of its own": lambda rows: rows.set_index(np.array([7, 7, 3, 2, 1])),
}


@pytest.mark.parametrize("form", FORMS)
def test_points_are_taken_as_people_have_them(model, form):
    expected = model.predict(ships())
    assert expected["trajectory_id"].tolist() == [MMSI] * 4 + [42] * 4
    pd.testing.assert_frame_equal(model.predict(FORMS[form](ships())), expected, check_dtype=False)


def test_text_ids_and_missing_places_of_every_kind(model):
    names = ships().astype({"trajectory_id": str})
    assert model.predict(names)["trajectory_id"].tolist() == [str(MMSI)] * 4 + ["42"] * 4
    for missing in (None, np.nan, pd.NA):
        rows = ships().astype({"lon_deg": object})
        rows.loc[1, "lon_deg"] = missing
        with pytest.raises(ValueError, match="lon_deg must be finite"):
            model.predict(rows, params={"task": "embed"})


def test_an_answer_says_when(model):
    found = model.predict(ships())
    last_at = pd.to_datetime(pd.Series(["2024-05-01T02:00Z"] * 4 + ["2024-05-01T01:00Z"] * 4))
    ahead_s = (found["tracked_at"] - last_at).dt.total_seconds()
    np.testing.assert_allclose(ahead_s, found["horizon_s"], atol=1e-6)


def test_instants_can_be_asked_for(model, address):
    at = ["2024-05-01T03:00Z", "2024-05-01 05:30:00+02:00", "2024-05-01T06:00"]
    found = model.predict(ships(), params={"at": at})
    wanted = ["2024-05-01T03:00Z", "2024-05-01T03:30Z", "2024-05-01T06:00Z"]
    assert found["tracked_at"].tolist() == [pd.Timestamp(text) for text in wanted * 2]
    assert found["step"].tolist() == [1, 2, 3] * 2
    by_frame = model.unwrap_python_model().forecast(
        ships(),
        ships()[["trajectory_id"]]
        .drop_duplicates()
        .merge(pd.DataFrame({"tracked_at": wanted}), how="cross"),
    )
    pd.testing.assert_frame_equal(found, by_frame)
    _, over_rest = asked(
        address, {"dataframe_records": ships().to_dict("records"), "params": {"at": at}}
    )
    assert [row["tracked_at"] for row in over_rest["predictions"]] == [
        value.isoformat() for value in found["tracked_at"]
    ]


# REST --------------------------------------------------------------------------------------------

BODIES = {
    "records": lambda rows: {"dataframe_records": rows.replace({np.nan: None}).to_dict("records")},
    "split": lambda rows: {
        "dataframe_split": rows.replace({np.nan: None}).to_dict("split", index=False)
    },
    "inputs": lambda rows: {"inputs": rows.drop(columns="sog").to_dict("list")},
    "instances": lambda rows: {"instances": rows.drop(columns="sog").to_dict("records")},
}


@pytest.mark.parametrize("body", BODIES)
def test_the_server_takes_json(model, address, body):
    status, answer = asked(address, BODIES[body](ships()))
    assert status == 200, answer
    expected = model.predict(ships())
    found = pd.DataFrame(answer["predictions"])
    found["tracked_at"] = pd.to_datetime(found["tracked_at"])
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_the_server_takes_csv_and_parquet(model, address, tmp_path):
    expected = model.predict(ships())["lon_deg"]
    ships().to_parquet(tmp_path / "ships.parquet")
    parquet = (tmp_path / "ships.parquet").read_bytes()
    csv = ships().to_csv(index=False).encode()
    for body, kind in ((csv, "text/csv"), (parquet, "application/vnd.apache.parquet")):
        status, answer = asked(address, body, kind)
        assert status == 200, answer
        np.testing.assert_allclose([row["lon_deg"] for row in answer["predictions"]], expected)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_mlflow_predicts_from_a_file(model, saved, tmp_path, kind):
    given = tmp_path / f"ships.{kind}"
    if kind == "csv":
        ships().to_csv(given, index=False)
    else:
        given.write_text(json.dumps(BODIES["split"](ships()) | {"params": {"horizon": 2}}))
    command = ["models", "predict", "-m", str(saved), "-i", str(given), "-t", kind]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", *command, "--env-manager", "local", "-o", "out.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads((tmp_path / "out.json").read_text())["predictions"]
    horizon = {"csv": 4, "json": 2}[kind]
    expected = model.predict(ships(), params={"horizon": horizon})
    np.testing.assert_allclose([row["lon_deg"] for row in found], expected["lon_deg"])
    assert {row["trajectory_id"] for row in found} == {MMSI, 42}


# Refusals ----------------------------------------------------------------------------------------


def changed(column: str, value: Any) -> list[dict[str, Any]]:
    rows = ships().replace({np.nan: None}).to_dict("records")
    rows[1][column] = value
    return rows


def without(column: str) -> list[dict[str, Any]]:
    return ships().drop(columns=["sog", column]).to_dict("records")


REFUSED = {
    "a word for a time": (lambda: changed("tracked_at", "soon"), {}, "'soon', which is not a date"),
    "a number for a time": (lambda: changed("tracked_at", 17), {}, "not a number such as 17"),
    "a list for an id": (lambda: changed("trajectory_id", [1]), {}, "neither text nor number"),
    "a comma": (lambda: changed("lon_deg", "11,987"), {}, "give decimal degrees, with a point"),
    "too far": (lambda: changed("lat_deg", 91.987), {}, "lat_deg must be finite and from -90"),
    "no place": (lambda: changed("lat_deg", None), {}, "lat_deg must be finite"),
    "no column": (lambda: without("lat_deg"), {}, "column lat_deg is missing"),
    "no points": (lambda: [], {}, "column trajectory_id is missing"),
    "another task": (lambda: changed("sog", 1), {"task": "recover"}, "does not serve 'recover'"),
    "at with a task": (
        lambda: changed("sog", 1),
        {"task": "embed", "at": ["2025-01-01"]},
        "at is for forecasts",
    ),
    "a word for an instant": (lambda: changed("sog", 1), {"at": ["later"]}, "'later', which"),
    "an instant of the past": (
        lambda: changed("sog", 1),
        {"at": ["2024-05-01T01:30Z"]},
        "before the last point of 1 of 2 trajectories",
    ),
    "too many": (lambda: changed("sog", 1), {"horizon": 9_999}, "horizon must be from 1 to 1000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_sentence(model, address, name):
    make, params, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as caught:
        model.predict(pd.DataFrame(make()), params=params)
    status, answer = asked(address, {"dataframe_records": make(), "params": params})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert answer["message"] == str(caught.value)
    assert not {"stack_trace", "trace"} & set(answer)
    assert "\n" not in answer["message"]
    assert "987" not in answer["message"]


def test_an_id_in_a_file_stays_as_it_is_written(tmp_path):
    given = tmp_path / "points.csv"
    given.write_text(
        "trajectory_id,tracked_at,lon_deg,lat_deg\n007,2024-05-01,1,2\n,2024-05-01,1,2\n"
    )
    assert read_points(given)["trajectory_id"].to_pylist() == ["007", None]
