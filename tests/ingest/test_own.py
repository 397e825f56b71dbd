"""Your own data: what the configuration says of a file is what its records mean."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from helpers.own_files import (
    CASES,
    HEADER,
    cleaned,
    config_of,
    ingested,
    read,
    read_one,
    steps_of,
    utc,
)
from helpers.points import rows_of
from helpers.raw_files import FIXTURES, points_of, rejects_of, tree
from pydantic import ValidationError

from tasks.config.pipeline import ColumnsConfig, PipelineConfig
from tasks.ingest.ingest import snapshot_job
from tasks.runtime import progress
from tasks.runtime.errors import DataError
from tasks.runtime.store import Store

# Reported faults, with answers worked out by hand.


def test_a_feed_with_semicolons_and_decimal_commas(store: Store):
    """Day first, ids with leading zeros, no speed at base stations, heading 511."""
    _receipt, snapshot = ingested(
        CASES / "harbour_feed.csv",
        store,
        decimal="comma",
        time_form="pattern",
        time_pattern="%d/%m/%Y %H:%M:%S",
        speed="SOG",
        speed_unit="knots",
        course="Heading",
        missing=("511",),
    )
    rows = points_of(snapshot)
    assert Counter(row["entity_id"] for row in rows) == {
        "002190077": 766,
        "219000431": 767,
        "219000876": 767,
    }
    assert rejects_of(snapshot) == []
    times = [row["tracked_at"] for row in rows]
    assert (min(times), max(times)) == (utc("2024-03-07T22:40:00"), utc("2024-03-08T01:51:35"))
    lat_deg, lon_deg = ([row[name] for row in rows] for name in ("lat_deg", "lon_deg"))
    assert (min(lat_deg), max(lat_deg)) == (56.1, 56.14598)
    assert sum(lat_deg) / 2_300 == pytest.approx(56.12299, abs=1e-9)
    assert (min(lon_deg), max(lon_deg)) == (12.47701, 12.5)
    speeds = [row["speed_mps"] for row in rows if row["speed_mps"] is not None]
    assert len(speeds) == 1_534
    assert sum(speed > 0 for speed in speeds) == 134
    assert max(speeds) == pytest.approx(11.4 * 1_852 / 3_600, rel=1e-12)
    assert sum(row["course_deg"] is None for row in rows) == 766 + 1_400


def test_local_times_in_the_night_the_clocks_go_back(store: Store):
    """Eight rows, ten minutes apart, at constant speed; none is a duplicate."""
    source = CASES / "survey_local.csv"
    receipts = cleaned(source, store, zone="America/Chicago")
    rows = rows_of(store, receipts, "clean_points.parquet")
    start = utc("2023-11-05T06:25:00")
    assert [row["tracked_at"] for row in rows] == [
        start + timedelta(minutes=10 * i) for i in range(8)
    ]
    assert rows_of(store, receipts, "clean_rejects.parquet") == []
    [trip] = rows_of(store, receipts, "trips.parquet")
    assert (trip["finished_at"] - trip["started_at"]).total_seconds() == 4_200
    assert trip["length_m"] == pytest.approx(3_887.4, rel=0.006)
    steps = steps_of(source, store, zone="America/Chicago")
    assert [step["step_s"] for step in steps] == [600.0] * 7
    assert {round(step["speed_mps"], 2) for step in steps} == {0.93}
    assert max(step["speed_mps"] for step in steps) == pytest.approx(0.9256, rel=0.006)


def test_the_upload_time_is_read(store: Store):
    """As far as ingest goes: both times of each row, as they are."""
    _receipt, snapshot = ingested(CASES / "loggers.csv", store, received_at="uploaded_at")
    rows = points_of(snapshot)
    assert Counter(row["entity_id"] for row in rows) == {"A": 10, "B": 4, "C": 5}
    assert {(row["entity_id"], row["received_at"]) for row in rows} == {
        ("A", utc("2021-05-15T20:00:00")),
        ("B", utc("2003-06-12T08:00:00")),
        ("C", utc("2022-12-01T07:15:00")),
    }
    assert rows[0]["tracked_at"] == utc("2001-09-28T09:30:00")


def test_a_ferry_over_the_date_line_written_two_ways(store: Store):
    """Both vessels alike, legs of 43 km, the half-way point on the date line."""
    import torch

    from model.earth.geometry import step_between, step_from

    source = CASES / "ferry.csv"
    steps = steps_of(source, store)
    points = rows_of(store, cleaned(source, store), "clean_points.parquet")
    for vessel in "AB":
        legs = [step for step in steps if step["entity_id"] == vessel]
        assert [leg["step_m"] for leg in legs] == pytest.approx([43_002, 43_013, 43_024], rel=0.006)
        assert sum(leg["step_m"] for leg in legs) == pytest.approx(129_040, rel=0.006)
        path = [row for row in points if row["entity_id"] == vessel]
        lon_deg, lat_deg = (
            torch.tensor([row[name] for row in path], dtype=torch.float64)
            for name in ("lon_deg", "lat_deg")
        )
        half = [part / 2 for part in step_between(lon_deg[1], lat_deg[1], lon_deg[2], lat_deg[2])]
        half_lon_deg, half_lat_deg = step_from(lon_deg[1], lat_deg[1], *half)
        assert abs(half_lon_deg.item()) == pytest.approx(180, abs=0.005)
        assert half_lat_deg.item() == pytest.approx(-16.7251, abs=0.005)
        last = torch.tensor([legs[-1]["step_east_m"], legs[-1]["step_north_m"]])
        next_lon_deg, next_lat_deg = step_from(lon_deg[3], lat_deg[3], *last.double())
        assert next_lon_deg.item() == pytest.approx(-179.0, abs=0.005)
        assert next_lat_deg.item() == pytest.approx(-16.599, abs=0.005)
        assert ((lon_deg[-1] - lon_deg[0]) % 360).item() == pytest.approx(1.2, abs=1e-9)
    places = {
        vessel: [
            (row["tracked_at"], round(row["lon_deg"], 9), row["lat_deg"])
            for row in points
            if row["entity_id"] == vessel
        ]
        for vessel in "AB"
    }
    assert places["A"] == places["B"]


def test_a_day_file_sent_again_doubles_nothing(store: Store):
    """33 lines of which 16 vehicle-seconds remain, also after everything ran twice."""
    source = FIXTURES / "resent_file"
    receipt, snapshot = ingested(source, store)
    assert receipt.counts["num_records"] == len(points_of(snapshot)) == 15 + 18
    for _time in range(2):
        receipts = cleaned(source, store)
        rows = rows_of(store, receipts, "clean_points.parquet")
        assert Counter(row["entity_id"] for row in rows) == {"K1": 10, "K2": 6}
        assert len({(row["entity_id"], row["tracked_at"]) for row in rows}) == 16
        trips = {row["entity_id"]: row for row in rows_of(store, receipts, "trips.parquet")}
        assert trips["K2"]["length_m"] == pytest.approx(556.1, rel=0.006)
    steps = steps_of(source, store)
    assert min(step["step_s"] for step in steps) > 0
    fastest = {
        name: max(step["speed_mps"] for step in steps if step["entity_id"] == name)
        for name in ("K1", "K2")
    }
    assert fastest["K2"] == pytest.approx(3.708, rel=0.006)
    assert min(abs(fastest["K1"] / either - 1) for either in (11.49, 18.93)) < 0.006


# Columns.


def test_a_column_that_is_not_there_is_one_line_that_lists_those_that_are(tmp_path, store):
    source = tree(tmp_path, {"a.csv": b"who,when,x,y,12.5\nb,2024-03-07,1,2,3\n"}) / "a.csv"
    with pytest.raises(DataError) as caught:
        ingested(source, store, tracked_at="wen")
    assert "it has no column 'wen'; its columns are: who, when, x, y, (a number); " in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    with pytest.raises(
        DataError, match=r"needs columns.tracked_at, which of these is it: who, when"
    ):
        ingested(source, store)


def test_a_file_without_the_columns_fails_alone():
    good = HEADER.encode() + b"a,2024-03-07,1,2\n"
    rows, rejects = read({"a.csv": good, "b.csv": b"x,y\n1,2\n3,4\n", "c.csv": good})
    assert len(rows) == 2
    [reject] = rejects
    assert (reject["file_name"], reject["rule"]) == ("b.csv", "unreadable")


def test_two_columns_of_one_name_are_refused_where_they_are_asked_for():
    _rows, [reject] = read_one("id,t,lon,lat,LON\na,2024-03-07,1,2,3\n", lon="Lon")
    assert "more than one column 'Lon'" in reject["raw_text"]


def test_an_encoding_that_is_not_read_is_named():
    _rows, [reject] = read_one((HEADER + "a,2024-03-07,1,2\n").encode("utf-16"))
    assert reject["raw_text"] == "is written in UTF-16; save it as UTF-8"


def test_what_was_chosen_is_logged_once(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(progress, "log", lines.append)
    body = b"MMSI,BaseDateTime,LON,LAT\n1,2024-03-07,1,2\n"
    read({"a.csv": body, "b.csv": body})
    assert lines == [
        "own columns: entity is 'MMSI', tracked_at is 'BaseDateTime', lon is 'LON', lat is 'LAT'"
    ]


def test_the_columns_name_own_results_and_no_others(tmp_path: Path, store: Store):
    source = tree(tmp_path, {"a.csv": HEADER.encode() + b"a,2024-03-07,1,2\n"}) / "a.csv"
    recipes = {
        (name, zone): snapshot_job(
            PipelineConfig(dataset=name, columns={"zone": zone}), given, store
        ).recipe.digest
        for name, given in (("own", str(source)), ("hurdat2", ""))
        for zone in ("UTC", "Asia/Tokyo")
    }
    assert recipes["own", "UTC"] != recipes["own", "Asia/Tokyo"]
    assert recipes["hurdat2", "UTC"] == recipes["hurdat2", "Asia/Tokyo"]


def test_the_zone_is_that_of_the_calendar_too():
    assert config_of(zone="Asia/Tokyo").training.members[0].zone == "Asia/Tokyo"
    assert config_of().source_row.zone == "UTC"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"zone": "Mars/Olympus"}, "unknown zone"),
        ({"zone": "../etc/passwd"}, "unknown zone"),
        ({"time_form": "pattern"}, "columns.time_pattern"),
        ({"time_form": "pattern", "time_pattern": "%Q"}, "unknown %Q"),
        ({"time_form": "pattern", "time_pattern": "%Y %"}, "unknown %"),
        ({"date": "d"}, "columns.clock"),
        ({"date": "d", "clock": "c", "tracked_at": "t"}, "not both"),
        ({"form": "xlsx"}, "form"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused_before_a_run(columns, words):
    with pytest.raises(ValidationError, match=words):
        ColumnsConfig(**columns)
