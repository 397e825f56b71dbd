"""Sources of delimited text: right values for what is odd in the releases, and the samples."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from helpers.points import cleaned_of, prepared, rows_of, total
from helpers.raw_files import (
    FIXTURES,
    allow_rejects,
    ingested,
    ledger_of,
    points_of,
    rejects_of,
    snapshot_of,
    zipped,
)

import sql
from tasks.config.datasets import DATASETS, dataset_named
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.snapshot import Snapshot, read_snapshot
from tasks.runtime.store import Store

KNOT_MPS = 1852 / 3600
NEW_YEAR = datetime(2019, 1, 1, tzinfo=UTC)
OURS = ("porto", "cabspotting", "tdrive", "ais_noaa", "bus_avl")


@pytest.fixture
def fixture_of(store: Store, monkeypatch: pytest.MonkeyPatch):
    """The snapshot of a made-up release."""

    def read(dataset: str) -> Snapshot:
        allow_rejects(monkeypatch, dataset)
        return snapshot_of(FIXTURES / dataset, store, dataset)

    return read


def by_rule(snapshot: Snapshot, name: str) -> list[tuple[int, str]]:
    """(line, rule) of what was rejected in a file."""
    return [
        (row["line_number"], row["rule"])
        for row in rejects_of(snapshot)
        if row["file_name"] == name
    ]


def at(snapshot: Snapshot, name: str, line_number: int) -> list[dict[str, Any]]:
    """The points of a line of a file, in order of time."""
    file_id = ledger_of(snapshot)[name]["file_id"]
    rows = [
        row
        for row in points_of(snapshot)
        if (row["file_id"], row["line_number"]) == (file_id, line_number)
    ]
    return sorted(rows, key=lambda row: row["tracked_at"])


def seconds(rows: list[dict[str, Any]]) -> list[float]:
    return [(row["tracked_at"] - NEW_YEAR).total_seconds() for row in rows]


# Porto.


def test_porto_vertices_are_15_s_apart_from_the_start_of_the_trip(fixture_of) -> None:
    rows = at(fixture_of("porto"), "train.csv", 2)
    assert seconds(rows) == [600, 615, 630]
    assert [(row["lon_deg"], row["lat_deg"]) for row in rows] == [
        (-8.6, 41.1),
        (-8.601, 41.1005),
        (-8.602, 41.101),
    ]
    assert {(row["entity_id"], row["source_trip_id"]) for row in rows} == {("20000901", "T901")}
    assert not any(row["is_truncated"] for row in rows)


def test_porto_trips_may_come_in_any_order_and_have_one_point(fixture_of) -> None:
    assert seconds(at(fixture_of("porto"), "train.csv", 3)) == [0]


def test_porto_nulls_are_empty_in_train_and_na_in_test(fixture_of) -> None:
    snapshot = fixture_of("porto")
    stands = {
        (name, line): at(snapshot, name, line)[0]["origin_stand"]
        for name, line in (("train.csv", 2), ("train.csv", 3), ("test.csv", 2), ("test.csv", 3))
    }
    assert list(stands.values()) == [None, "7", "15", None]
    truncated = at(snapshot, "test.csv", 2)
    assert [row["call_type"] for row in truncated] == ["B", "B"]
    assert all(row["is_truncated"] for row in truncated)


def test_porto_rejects_tell_vertex_or_line(fixture_of) -> None:
    snapshot = fixture_of("porto")
    assert by_rule(snapshot, "train.csv") == [
        (4, "empty_list"),
        (5, "missing_data"),
        (5, "missing_data"),
        (6, "out_of_range"),
        (6, "malformed"),
        (7, "malformed"),
        (8, "malformed"),
        (9, "no_entity"),
    ]
    texts = [row["raw_text"] for row in rejects_of(snapshot)]
    assert texts[3:5] == ["[-8.6,141.1]", "[null,41.1]"]
    assert texts[5].startswith('"T906","C"')
    # the vertices after a bad one keep their times
    assert seconds(at(snapshot, "train.csv", 6)) == [3_000, 3_045]
    entry = ledger_of(snapshot)["train.csv"]
    assert (entry["num_records"], entry["num_kept"], entry["num_rejected"]) == (14, 6, 8)


def test_porto_stands_are_no_trajectories(fixture_of) -> None:
    entry = ledger_of(fixture_of("porto"))["metaData_taxistandsID_name_GPSlocation.csv"]
    assert (entry["state"], entry["num_records"]) == ("ignored", 0)
    assert entry["reason"]


# Cabspotting.


def test_cabspotting_newest_first_is_put_in_order(fixture_of, store: Store) -> None:
    rows = sorted(
        (row for row in points_of(fixture_of("cabspotting")) if row["entity_id"] == "zzmade"),
        key=lambda row: row["line_number"],
    )
    assert seconds(rows) == [120, 60, 0]
    assert [row["is_occupied"] for row in rows] == [True, False, False]
    assert (rows[0]["lat_deg"], rows[0]["lon_deg"]) == (37.75, -122.39)
    config = PipelineConfig(dataset="cabspotting", clean={"min_points": 2, "max_speed_mps": 1e4})
    receipt = ingested(FIXTURES / "cabspotting", store, "cabspotting")
    cleaned = rows_of(store, cleaned_of(config, receipt, store), "clean_points.parquet")
    assert seconds([row for row in cleaned if row["entity_id"] == "zzmade"]) == [0, 60, 120]


def test_cabspotting_rejects(fixture_of) -> None:
    snapshot = fixture_of("cabspotting")
    assert by_rule(snapshot, "new_aamade.txt") == [
        (3, "malformed"),
        (4, "out_of_range"),
        (5, "malformed"),
        (6, "malformed"),
    ]
    # 180 degrees east is 180 degrees west; the last line has no line feed
    assert at(snapshot, "new_aamade.txt", 7)[0]["lon_deg"] == -180
    states = {name: entry["state"] for name, entry in ledger_of(snapshot).items()}
    assert states["_cabs.txt"] == states["README"] == "ignored"


# T-Drive.


def test_tdrive_is_in_beijing_time(fixture_of) -> None:
    snapshot = fixture_of("tdrive")
    [row] = at(snapshot, "901.txt", 1)
    assert row["tracked_at"] == datetime(2008, 2, 2, 7, 36, 8, tzinfo=UTC)
    assert (row["lon_deg"], row["lat_deg"]) == (116.51172, 39.92123)
    # midnight in Beijing is 16:00 of the day before
    assert at(snapshot, "901.txt", 4)[0]["tracked_at"] == datetime(2008, 2, 2, 16, tzinfo=UTC)
    assert at(snapshot, "902.txt", 1)[0]["entity_id"] == "902"
    assert ledger_of(snapshot)["readme.txt"]["state"] == "ignored"


def test_tdrive_rejects(fixture_of) -> None:
    assert by_rule(fixture_of("tdrive"), "901.txt") == [
        # China had summer time in 1986: 02:30 was leapt over
        (5, "no_such_local_time"),
        (6, "malformed"),
        (7, "malformed"),
        (8, "no_entity"),
        (9, "out_of_range"),
        (10, "no_position"),
    ]


def test_tdrive_duplicates_fall_to_cleaning(fixture_of, store: Store) -> None:
    assert len(at(fixture_of("tdrive"), "901.txt", 3)) == 1
    config = PipelineConfig(dataset="tdrive")
    receipt = ingested(FIXTURES / "tdrive", store, "tdrive")
    cleaned = cleaned_of(config, receipt, store)
    rejects = rows_of(store, cleaned, "clean_rejects.parquet")
    assert [(r["line_number"], r["rule"]) for r in rejects if r["rule"] == "exact_duplicate"] == [
        (3, "exact_duplicate")
    ]


# AIS.


def test_ais_values_that_stand_for_none(fixture_of) -> None:
    snapshot = fixture_of("ais_noaa")
    columns = ("speed_mps", "course_deg", "heading_deg", "imo", "transceiver_class")
    rows = [
        tuple(at(snapshot, "AIS_2019_01_01.csv", line)[0][name] for name in columns)
        for line in range(2, 7)
    ]
    assert rows == [
        # -60.6 is 349.0 after the wrap of 12 bits
        (pytest.approx(10 * KNOT_MPS, rel=1e-15), 349.0, 246.0, "IMO9000001", "B"),
        # 102.3 kn, -49.6 (that is 360), 511 and IMO0000000 all say: not available
        (None, None, None, None, "A"),
        (0.0, None, 359.0, None, "B"),
        (None, 204.7, None, None, "A"),
        (pytest.approx(38.5 * KNOT_MPS, rel=1e-15), 204.8, 0.0, None, "A"),
    ]


def test_ais_other_columns(fixture_of) -> None:
    snapshot = fixture_of("ais_noaa")
    [first] = at(snapshot, "AIS_2019_01_01.csv", 2)
    [second] = at(snapshot, "AIS_2019_01_01.csv", 3)
    assert first["tracked_at"] == NEW_YEAR
    assert (first["lon_deg"], first["lat_deg"], first["entity_id"]) == (-74.0, 40.6, "900000001")
    assert (first["vessel_type"], first["navigation_status"]) == (60, 0)
    assert (second["vessel_type"], second["navigation_status"]) == (None, None)
    assert second["vessel_name"] == "MADE, UP"
    # an ETA is no arrival: nothing of it is kept
    assert not any("eta" in name or "arriv" in name for name in first)


def test_ais_years_differ_in_columns(fixture_of) -> None:
    [row] = at(fixture_of("ais_noaa"), "AIS_2017_01_01.csv", 2)
    assert (row["lon_deg"], row["lat_deg"], row["course_deg"]) == (-90.1, 29.5, 90.0)
    assert row["transceiver_class"] is None


def test_ais_rejects(fixture_of) -> None:
    snapshot = fixture_of("ais_noaa")
    assert by_rule(snapshot, "AIS_2019_01_01.csv") == [
        (7, "no_position"),
        (8, "no_position"),
        (9, "out_of_range"),
        (10, "no_position"),
        (11, "no_entity"),
        (13, "malformed"),
    ]
    # a table of numbers has lost the zeros in front
    assert at(snapshot, "AIS_2019_01_01.csv", 12)[0]["entity_id"] == "003669999"


# Buses.


def test_bus_times_are_utc_in_summer_too_and_rows_in_any_order(fixture_of) -> None:
    snapshot = fixture_of("bus_avl")
    rows = [at(snapshot, "route.csv", line)[0] for line in (2, 3, 4, 7)]
    midsummer = datetime(2019, 7, 1, 0, 30, tzinfo=UTC)
    want_s = (20, 0, 10, 100)
    assert [row["tracked_at"] for row in rows] == [midsummer + timedelta(seconds=s) for s in want_s]
    assert [row["entity_id"] for row in rows] == ["B1", "B1", "B2", "B2"]
    assert [row["source_trip_id"] for row in rows] == ["1091", "1091", "1092", None]
    assert [row["course_deg"] for row in rows] == [53.0, None, 0.0, None]
    assert (rows[2]["lon_deg"], rows[2]["lat_deg"]) == (-2.94, 53.42)
    assert {(row["route_name"], row["operator_code"]) for row in rows} == {("14", "MADE")}
    assert [row["direction"] for row in rows] == ["outbound"] * 2 + ["inbound"] * 2


def test_bus_rejects(fixture_of) -> None:
    assert by_rule(fixture_of("bus_avl"), "route.csv") == [
        (5, "no_entity"),
        (6, "malformed"),
        (8, "out_of_range"),
    ]


# Times.


@pytest.mark.parametrize(
    ("zone", "local_time", "instant"),
    [
        ("America/Chicago", "2024-03-10 01:59:59", "2024-03-10T07:59:59+00:00"),
        ("America/Chicago", "2024-03-10 02:00:00", None),
        ("America/Chicago", "2024-03-10 02:59:59", None),
        ("America/Chicago", "2024-03-10 03:00:00", "2024-03-10T08:00:00+00:00"),
        ("America/Chicago", "2024-11-03 00:59:59", "2024-11-03T05:59:59+00:00"),
        # 01:30 comes twice, at 06:30 and 07:30 UTC: the second one, by rule
        ("America/Chicago", "2024-11-03 01:30:00", "2024-11-03T07:30:00+00:00"),
        ("Europe/London", "2024-10-27 01:30:00", "2024-10-27T01:30:00+00:00"),
        ("Asia/Kathmandu", "2024-01-01 05:45:00.25", "2024-01-01T00:00:00.250000+00:00"),
        ("UTC", "2016-12-31 23:59:60", None),
        ("UTC", "2024-02-30 00:00:00", None),
        ("UTC", "9999-12-31T23:59:59", "9999-12-31T23:59:59+00:00"),
    ],
)
def test_a_clock_time_is_one_instant_or_none(zone: str, local_time: str, instant) -> None:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        for text in sql.macros().values():
            connection.execute(text)
        query = "select instant_of_local(try_cast($text as timestamp), $zone)"
        [(found,)] = connection.execute(query, {"text": local_time, "zone": zone}).fetchall()
    assert (found and found.isoformat()) == instant


# All of them.


@pytest.mark.parametrize("dataset", OURS)
def test_an_archive_of_the_fixture_gives_the_same_points(
    fixture_of, dataset: str, tmp_path: Path
) -> None:
    want = points_of(fixture_of(dataset))
    files = {
        f"deeper/{path.name}": path.read_bytes() for path in sorted((FIXTURES / dataset).iterdir())
    }
    archive = zipped(tmp_path / "release.zip", files)
    assert points_of(snapshot_of(archive, Store(tmp_path / "other"), dataset)) == want


@pytest.mark.parametrize("dataset", OURS)
def test_rows_that_may_be_published_are_those_of_public_bodies(dataset: str) -> None:
    row = dataset_named(dataset)
    assert row.is_redistributable == (dataset in ("ais_noaa", "bus_avl"))
    assert row.is_personal == (row.entity_kind == "taxi")
    assert row.licence
    assert row.citation
    assert row.homepage.startswith("https://")
    assert DATASETS[dataset].staging == f"staging/stg_{dataset}"


# The real samples, counted by other means.

SAMPLES = {
    "porto": "porto-sample.zip",
    "cabspotting": "cabspotting-sample.tar.gz",
    "tdrive": "tdrive-two-taxis.zip",
    "ais_noaa": "ais-noaa-sample.zip",
    "bus_avl": "bods-liverpool-route14.csv",
}


def sample_of(dataset: str, shared_dir: Path, store: Store) -> tuple[dict[str, Any], Snapshot]:
    receipt = ingested(shared_dir / "data" / SAMPLES[dataset], store, dataset)
    return dict(receipt.counts), read_snapshot(store, receipt)


def csv_rows(path: Path) -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.startswith("metaData"):
                yield from csv.DictReader(io.TextIOWrapper(archive.open(name), "utf-8"))


def test_porto_is_read_whole(store: Store, shared_dir: Path) -> None:
    counts, snapshot = sample_of("porto", shared_dir, store)
    rows = list(csv_rows(shared_dir / "data" / SAMPLES["porto"]))
    want = {
        (row["TAXI_ID"], row["TRIP_ID"], int(row["TIMESTAMP"]) + 15 * i, lon, lat)
        for row in rows
        for i, (lon, lat) in enumerate(json.loads(row["POLYLINE"]))
    }
    points = points_of(snapshot)
    found = {
        (
            row["entity_id"],
            row["source_trip_id"],
            int(row["tracked_at"].timestamp()),
            row["lon_deg"],
            row["lat_deg"],
        )
        for row in points
    }
    assert found == want
    assert len(points) == counts["num_points"] == 47_580
    assert counts["num_records"] == 47_581
    assert counts["num_rejected"] == counts["num_empty_list"] == 1
    assert len({row["source_trip_id"] for row in points}) == 1_019
    assert len({row["entity_id"] for row in points}) == 290
    assert counts["num_files_ignored"] == 1


def test_tdrive_is_read_whole(store: Store, shared_dir: Path) -> None:
    counts, snapshot = sample_of("tdrive", shared_dir, store)
    assert (counts["num_records"], counts["num_points"], counts["num_rejected"]) == (2_262,) * 2 + (
        0,
    )
    assert Counter(row["entity_id"] for row in points_of(snapshot)) == {"1": 588, "2": 1_674}
    config = PipelineConfig(dataset="tdrive")
    receipt = ingested(shared_dir / "data" / SAMPLES["tdrive"], store, "tdrive")
    cleaned = total(cleaned_of(config, receipt, store))
    assert cleaned["points"] == 2_262 == cleaned["kept"] + cleaned["rejected"]
    # 24 and 102 rows are exact copies
    assert cleaned["rejected_exact_duplicate"] == 126


def test_ais_is_read_whole(store: Store, shared_dir: Path) -> None:
    counts, snapshot = sample_of("ais_noaa", shared_dir, store)
    assert counts["num_records"] == counts["num_points"] == 8_689
    assert counts["num_rejected"] == 0
    points = points_of(snapshot)
    assert len({row["entity_id"] for row in points}) == 295
    assert sum(row["heading_deg"] is None for row in points) == 3_606
    rows = list(csv_rows(shared_dir / "data" / SAMPLES["ais_noaa"]))
    assert sum(row["course_deg"] is None for row in points) == sum(
        row["COG"] in ("-49.6", "360.0", "") for row in rows
    )
    # in tenths of a degree, as sent: a negative number is 4,096 too small
    tenths = [round(10 * float(row["COG"])) % 4096 for row in rows]
    assert Counter(value for value in tenths if value < 3_600) == Counter(
        round(10 * row["course_deg"]) for row in points if row["course_deg"] is not None
    )
    assert sum(row["imo"] is None for row in points) == sum(
        row["IMO"] in ("", "IMO0000000") for row in rows
    )
    assert len({(row["entity_id"], row["tracked_at"]) for row in points}) == 8_687


def test_buses_are_read_whole(store: Store, shared_dir: Path) -> None:
    counts, snapshot = sample_of("bus_avl", shared_dir, store)
    assert counts["num_records"] == counts["num_points"] == 1_533
    points = points_of(snapshot)
    assert len({row["entity_id"] for row in points}) == 8
    assert len({row["source_trip_id"] for row in points}) == 16
    assert sum(row["course_deg"] is None for row in points) == 399
    assert min(row["tracked_at"] for row in points) == datetime(2026, 1, 26, 15, 55, 12, tzinfo=UTC)


def test_cabspotting_is_read_whole(store: Store, shared_dir: Path) -> None:
    counts, snapshot = sample_of("cabspotting", shared_dir, store)
    assert counts["num_records"] == counts["num_points"] == 1_895_591
    assert counts["num_rejected"] == 0
    num_lines = {}
    with tarfile.open(shared_dir / "data" / SAMPLES["cabspotting"]) as archive:
        for info in archive:
            if info.isfile():
                stream = archive.extractfile(info)
                assert stream is not None
                num_lines[Path(info.name).name] = stream.read().count(b"\n")
    ledger = ledger_of(snapshot)
    assert len(ledger) == 90
    assert {name: entry["num_kept"] for name, entry in ledger.items()} == num_lines


def test_buses_are_prepared_to_shards(store: Store, shared_dir: Path) -> None:
    receipt = ingested(shared_dir / "data" / SAMPLES["bus_avl"], store, "bus_avl")
    config = PipelineConfig(
        dataset="bus_avl", split={"validation_percent": 25, "test_percent": 25}, seed=2
    )
    made = prepared(config, receipt, store)
    splits = ("train", "validation", "test")
    assert sum(made.counts[f"trips_{split}"] for split in splits) == 16
    assert sum(made.counts[f"points_{split}"] for split in splits) == 1_533
