"""The first look at a source: what a new user is told before anything starts."""

from __future__ import annotations

import gzip
import json
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.places import FIXTURES

from flows import cli
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.first_look import look_at
from tasks.runtime.errors import ConfigError, DataError

PLACE = "12.987"
CSV = f"id,t,lon,lat\na,2024-05-01T00:00:00Z,{PLACE},50\n"
FEATURES = {"type": "FeatureCollection", "features": []}
RECORDS = [{"id": "a", "t": "2024-05-01T00:00:00Z", "lon": 12.987, "lat": 50}]


def looked_at(path: Path, dataset: str = "hurdat2", **columns: Any) -> None:
    look_at(PipelineConfig(dataset=dataset, columns=columns), str(path))


def written(folder: Path, name: str) -> Path:
    """A file as a new user has it, under a name."""
    path = folder / name
    texts = {
        ".gpx": '<?xml version="1.0"?>\n<gpx version="1.1"><trk></trk></gpx>\n',
        ".json": json.dumps(RECORDS),
        ".jsonl": json.dumps(RECORDS[0]) + "\n",
        ".geojson": json.dumps(FEATURES),
        ".kml": '<?xml version="1.0"?>\n<kml></kml>\n',
        ".tsv": CSV.replace(",", "\t"),
        ".csv": CSV,
    }
    if path.suffix == ".parquet":
        pd.DataFrame(RECORDS).to_parquet(path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(texts[Path(path.stem).suffix].encode()))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"rides/{path.stem}", texts[Path(path.stem).suffix])
    else:
        path.write_text(texts[path.suffix])
    return path


TOLD = [
    ("ride.gpx", "hurdat2", {}, "ride.gpx is GPX", "--dataset gpx"),
    ("ride.gpx", "own", {}, "own with the form csv", "--dataset gpx"),
    ("ride.gpx.zip", "hurdat2", {}, "ride.gpx is GPX", "--dataset gpx"),
    ("ride.gpx.gz", "own", {}, "ride.gpx is GPX", "--dataset gpx"),
    ("feed.parquet", "hurdat2", {}, "is Parquet", "--dataset own --columns.form parquet"),
    ("feed.parquet", "own", {}, "is Parquet", "--dataset own --columns.form parquet"),
    ("feed.json", "hurdat2", {}, "is JSON", "--dataset own --columns.form json"),
    ("feed.json", "own", {}, "is JSON", "--dataset own --columns.form json"),
    ("feed.json", "gpx", {}, "is JSON", "--dataset own --columns.form json"),
    ("feed.jsonl", "own", {}, "one object a line", "--dataset own --columns.form jsonl"),
    ("feed.csv", "hurdat2", {}, "is not named so", "--dataset own --columns.form csv"),
    ("feed.csv", "own", {"form": "parquet"}, "is text", "--dataset own --columns.form csv"),
    ("feed.tsv", "hurdat2", {}, "is not named so", "--dataset own --columns.form tsv"),
    ("places.geojson", "hurdat2", {}, "is GeoJSON", ""),
    ("places.geojson", "own", {}, "is GeoJSON", ""),
    ("places.kml", "own", {}, "is KML", ""),
]


@pytest.mark.parametrize(("name", "dataset", "columns", "what", "flags"), TOLD)
def test_a_file_is_known_by_its_content(tmp_path, name, dataset, columns, what, flags):
    path = written(tmp_path, name)
    with pytest.raises(ConfigError) as caught:
        looked_at(path, dataset, **columns)
    told = str(caught.value)
    assert what in told
    assert flags in told
    assert dataset in told
    if flags:
        assert told.endswith(f"{flags} --source {path}")
    assert PLACE not in told
    assert "\n" not in told


def test_a_content_counts_and_not_a_name(tmp_path):
    path = tmp_path / "feed.csv"
    path.write_bytes(written(tmp_path, "feed.parquet").read_bytes())
    with pytest.raises(ConfigError, match=r"feed\.csv is Parquet"):
        looked_at(path, "own")


def test_a_known_header_names_its_dataset():
    path = FIXTURES / "ais_noaa" / "AIS_2017_01_01.csv"
    with pytest.raises(ConfigError, match="--dataset ais_noaa --source"):
        looked_at(path)
    looked_at(path, "ais_noaa")


SOUND = [
    ("ais_noaa", "ais_noaa"),
    ("ais_tracktable", "ais_tracktable"),
    ("bus_avl", "bus_avl"),
    ("cabspotting", "cabspotting"),
    ("geolife", "geolife"),
    ("gpx", "gpx"),
    ("hurdat2", "hurdat2"),
    ("icebergs", "icebergs"),
    ("opensky", "opensky"),
    ("porto", "porto"),
    ("tdrive", "tdrive"),
]


@pytest.mark.parametrize(("dataset", "folder"), SOUND)
def test_files_of_every_dataset_are_let_through(dataset, folder):
    looked_at(FIXTURES / folder, dataset)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("feed.csv", "csv"),
        ("feed.csv.gz", "csv"),
        ("feed.tsv", "tsv"),
        ("feed.json", "json"),
        ("feed.jsonl", "jsonl"),
        ("feed.parquet", "parquet"),
        ("feed.csv.zip", "csv"),
    ],
)
def test_own_files_of_every_form_are_let_through(tmp_path, name, form):
    looked_at(written(tmp_path, name), "own", form=form)
    looked_at(tmp_path, "own", form=form)


def test_a_missing_column_is_told_with_those_that_are_there(tmp_path):
    path = tmp_path / "feed.csv"
    path.write_text(f"ship,seen,east,north\na,2024-05-01,{PLACE},50\n")
    with pytest.raises(DataError, match=r"feed\.csv needs columns\.tracked_at, which of these"):
        looked_at(path, "own")
    path.write_text(f"id,t,lon,lat\na,2024-05-01,{PLACE},50\n")
    with pytest.raises(DataError, match="has no column 'lng'; its columns are: id, t, lon, lat"):
        looked_at(path, "own", lon="lng")


@pytest.mark.parametrize(
    ("times", "columns", "words"),
    [
        (
            ["07/03/2024 22:40"] * 3,
            {},
            "its first 3 records cannot be read, such as '07/03/2024 22:40'; columns.time_form is "
            "iso, which wants 2024-03-07T22:40:00",
        ),
        (["1709847600"], {}, "first 1 record cannot be read, such as '1709847600'"),
        (
            ["2024-03-07 22:40"],
            {"time_form": "epoch_s"},
            "which wants 1709847600, seconds since 1970",
        ),
        (
            ["2024-03-07 22:40"],
            {"time_form": "pattern", "time_pattern": "%d/%m/%Y"},
            "time_form is pattern, which wants %d/%m/%Y",
        ),
    ],
)
def test_times_that_cannot_be_read_are_shown_with_the_form_that_is_wanted(
    tmp_path, times, columns, words
):
    path = tmp_path / "feed.csv"
    path.write_text("id,t,lon,lat\n" + "".join(f"a,{at},{PLACE},50\n" for at in times))
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        looked_at(path, "own", **columns)
    assert PLACE not in str(caught.value)


def test_one_bad_time_among_good_ones_is_for_the_rejects(tmp_path):
    path = tmp_path / "feed.csv"
    path.write_text(CSV + f"a,soon,{PLACE},50\n")
    looked_at(path, "own")


def test_a_long_file_is_looked_at_by_its_beginning(tmp_path):
    path = tmp_path / "feed.csv"
    row = CSV.splitlines()[1] + "\n"
    path.write_text(CSV + row * 200_000)
    looked_at(path, "own")
    looked_at(path, "own", time_form="iso")
    frame = pd.DataFrame(RECORDS * 50_000)
    frame.to_parquet(tmp_path / "feed.parquet")
    looked_at(tmp_path / "feed.parquet", "own", form="parquet")


def test_nothing_starts_before_the_first_look(tmp_path, monkeypatch, capsys):
    """No server writes a log, and the answer is there within a second or two."""
    monkeypatch.chdir(tmp_path)
    source = written(tmp_path, "ride.gpx")
    began_s = time.monotonic()
    code = cli.main(["run", "--source", str(source), "--store", str(tmp_path / "store")])
    assert time.monotonic() - began_s < 10
    assert code == ConfigError.exit_code
    assert "--dataset gpx" in capsys.readouterr().err
    assert not (tmp_path / "store" / "logs").exists()
    assert cli.main(["run", "--dataset", "geolife", "--store", str(tmp_path / "store")]) == 2
    assert "--source PATH" in capsys.readouterr().err
    assert not (tmp_path / "store" / "logs").exists()
