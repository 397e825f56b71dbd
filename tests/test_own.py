"""Your own data: what the configuration says of a file is what its records mean."""

from __future__ import annotations

import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from points import rows_of
from pydantic import ValidationError
from raw_files import FIXTURES, points_of, rejects_of, tree
from strategies import latitudes, longitudes

from tasks import archive, clean, decode, decode_own, features, own_columns
from tasks.archive import Entry, inventory
from tasks.config import CleanConfig, ColumnsConfig, PipelineConfig
from tasks.datasets import dataset_named
from tasks.errors import DataError
from tasks.ingest import SNAPSHOT, snapshot_job
from tasks.part import PartJob, build_part
from tasks.snapshot import Snapshot, read_snapshot
from tasks.store import Receipt, Recipe, Store

CASES = FIXTURES / "own"
FORMS = ("csv", "tsv", "jsonl", "json", "parquet")
HEADER = "id,t,lon,lat\n"
Rows = list[dict[str, Any]]


def config_of(clean_config: CleanConfig | None = None, **columns: Any) -> PipelineConfig:
    return PipelineConfig(
        dataset="own",
        columns=ColumnsConfig(**columns),
        clean=clean_config or CleanConfig(min_points=2, max_gap_s=7_200),
    )


def ingested(source: Path, store: Store, **columns: Any) -> tuple[Receipt, Snapshot]:
    receipt = SNAPSHOT.plain(snapshot_job(config_of(**columns), str(source), store))
    return receipt, read_snapshot(store, receipt)


def cleaned(source: Path, store: Store, **columns: Any) -> list[Receipt]:
    config = config_of(**columns)
    receipt, _snapshot = ingested(source, store, **columns)
    return [clean.STAGE.plain(job) for job in clean.clean_jobs(config, receipt, store)]


def steps_of(source: Path, store: Store, **columns: Any) -> Rows:
    config = config_of(**columns)
    jobs = features.features_jobs(config, cleaned(source, store, **columns), store)
    return rows_of(store, [features.STAGE.plain(job) for job in jobs], "steps.parquet")


def read(files: dict[str, bytes], **columns: Any) -> tuple[Rows, Rows]:
    """Points and rejects of files in memory, in order; every record is accounted for."""
    entries = [Entry(name, lambda body=body: io.BytesIO(body)) for name, body in files.items()]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        recipe = Recipe(stage="part", dataset="own", code={}, sql={}, settings={}, inputs={})
        job = PartJob(
            recipe,
            config_of(**columns).ingest_rules,
            {},
            store,
            "made up",
            members=inventory(entries, "*"),
            staging=dataset_named("own").staging,
        )
        counts = build_part(Path(folder), job)
        points = [
            row
            for path in sorted(Path(folder).glob("points-*.parquet"))
            for row in pq.read_table(path).to_pylist()
        ]
        rejects = pq.read_table(Path(folder) / "rejects.parquet").to_pylist()
    assert counts["num_records"] == len(points) + len(rejects)
    assert len({row["point_id"] for row in points}) == len(points)
    return sorted(points, key=lambda row: (row["file_id"], row["line_number"])), rejects


def read_one(body: str | bytes, **columns: Any) -> tuple[Rows, Rows]:
    return read({"a.csv": body.encode() if isinstance(body, str) else body}, **columns)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def rules_of(rejects: Rows) -> list[tuple[int, str]]:
    return [(row["line_number"], row["rule"]) for row in rejects]


# Reported faults, with answers worked out by hand.


def test_a_feed_with_semicolons_and_decimal_commas(store: Store):
    """Case w01: day first, ids with leading zeros, no speed at base stations, heading 511."""
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
    """Case w03: eight rows, ten minutes apart, at constant speed; none is a duplicate."""
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
    """Case w04, as far as ingest goes: both times of each row, as they are."""
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
    """Case w05: both vessels alike, legs of 43 km, the half-way point on the date line."""
    import torch

    from model.geometry import step_between, step_from

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
    """Case w06: 33 lines of which 16 vehicle-seconds remain, also after everything ran twice."""
    source = FIXTURES / "w06"
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


# Times.


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("2024-03-07T22:40:00Z", {}, "2024-03-07T22:40:00"),
        ("2024-03-07T22:40:00Z", {"zone": "Asia/Tokyo"}, "2024-03-07T22:40:00"),
        ("2024-03-07 22:40", {}, "2024-03-07T22:40:00"),
        ("2024-03-07", {}, "2024-03-07T00:00:00"),
        ("2024-03-07 22:40:00.123456789", {}, "2024-03-07T22:40:00.123456"),
        ("2024-03-07T22:40:00.5+05:30", {}, "2024-03-07T17:10:00.5"),
        ("2024-03-07T22:40:00-0330", {}, "2024-03-08T02:10:00"),
        ("2024-03-07 22:40:00 +01", {}, "2024-03-07T21:40:00"),
        ("2024-03-07 22:40:00 UTC", {"zone": "Asia/Tokyo"}, "2024-03-07T22:40:00"),
        ("2024-03-07t22:40:00z", {}, "2024-03-07T22:40:00"),
        ("2024-03-07 22:40:00", {"zone": "Asia/Tokyo"}, "2024-03-07T13:40:00"),
        ("2024-07-07 22:40:00", {"zone": "Europe/Oslo"}, "2024-07-07T20:40:00"),
        ("2024-01-07 22:40:00", {"zone": "Europe/Oslo"}, "2024-01-07T21:40:00"),
        ("1900-01-01 12:00:00", {}, "1900-01-01T12:00:00"),
        ("1709851200", {"time_form": "epoch_s"}, "2024-03-07T22:40:00"),
        ("1709851200", {"time_form": "epoch_s", "zone": "Asia/Tokyo"}, "2024-03-07T22:40:00"),
        ("1709851200.123456", {"time_form": "epoch_s"}, "2024-03-07T22:40:00.123456"),
        ("1.709851200123456e+09", {"time_form": "epoch_s"}, "2024-03-07T22:40:00.123456"),
        ("0", {"time_form": "epoch_s"}, "1970-01-01T00:00:00"),
        ("1709851200123", {"time_form": "epoch_ms"}, "2024-03-07T22:40:00.123"),
        ("1709851200123.456", {"time_form": "epoch_ms"}, "2024-03-07T22:40:00.123456"),
        ("07.03.24 22:40", {"time_pattern": "%d.%m.%y %H:%M"}, "2024-03-07T22:40:00"),
        ("3/7/2024 10:40 pm", {"time_pattern": "%-m/%-d/%Y %I:%M %p"}, "2024-03-07T22:40:00"),
        ("07-Mar-2024 22:40:00.25", {"time_pattern": "%d-%b-%Y %H:%M:%S.%f"},
         "2024-03-07T22:40:00.25"),
        ("2024067 2240", {"time_pattern": "%Y%j %H%M"}, "2024-03-07T22:40:00"),
        ("20240307T224000+0100", {"time_pattern": "%Y%m%dT%H%M%S%z"}, "2024-03-07T21:40:00"),
    ],
)  # fmt: skip
def test_a_time_is_the_instant_that_it_says(text, columns, expected):
    form = {"time_form": "pattern"} if "time_pattern" in columns else {}
    rows, _rejects = read_one(f"{HEADER}a,{text},1,2\n", **columns, **form)
    assert [row["tracked_at"] for row in rows] == [utc(expected)]


@pytest.mark.parametrize(
    ("text", "columns", "rule"),
    [
        ("yesterday", {}, "bad_time"),
        ("", {}, "bad_time"),
        ("1709851200", {}, "bad_time"),
        ("2024-02-30 00:00:00", {}, "bad_time"),
        ("2024-03-07 25:00:00", {}, "bad_time"),
        ("2024-03-07 22:40:00+99:00", {}, "bad_time"),
        ("07/03/2024 22:40:00", {}, "bad_time"),
        ("9999-12-31 00:00:00", {}, "implausible_time"),
        ("0001-01-01 00:00:00", {}, "implausible_time"),
        ("1709851200000", {"time_form": "epoch_s"}, "implausible_time"),
        ("1709851200000000000000000000000", {"time_form": "epoch_s"}, "implausible_time"),
        ("-1", {"time_form": "epoch_s"}, "implausible_time"),
        ("1709851200", {"time_form": "epoch_ms"}, "implausible_time"),
        ("nan", {"time_form": "epoch_s"}, "bad_time"),
        ("epoch", {"time_form": "pattern", "time_pattern": "%Y"}, "bad_time"),
        ("infinity", {"time_form": "pattern", "time_pattern": "%Y"}, "bad_time"),
    ],
)
def test_a_time_that_cannot_be_is_rejected_with_its_rule(text, columns, rule):
    rows, rejects = read_one(f"{HEADER}a,{text},1,2\n", **columns)
    assert (rows, rules_of(rejects)) == ([], [(2, rule)])
    assert rejects[0]["raw_text"] == f"a,{text},1,2"


def test_date_and_clock_may_stand_in_two_columns():
    body = "id,date,time,lon,lat\na,2024-03-07,22:40:00,1,2\n"
    for columns in ({}, {"date": "date", "clock": "time"}):
        [row], _rejects = read_one(body, **columns)
        assert row["tracked_at"] == utc("2024-03-07T22:40:00")


ZONES = ("America/Chicago", "Europe/Oslo", "Australia/Lord_Howe", "America/Havana", "Asia/Tokyo")


@settings(max_examples=5)
@given(
    zone=st.sampled_from(ZONES),
    starts=st.lists(st.integers(0, 730 * 96), max_size=6, unique=True),
    step_min=st.sampled_from([1, 7, 10, 14]),
)
@example(zone="America/Chicago", starts=[308 * 96 + 24, 70 * 96 + 24], step_min=5)
@example(zone="Australia/Lord_Howe", starts=[91 * 96 + 48, 273 * 96 + 48], step_min=10)
@example(zone="America/Havana", starts=[308 * 96 + 12, 70 * 96 + 12], step_min=14)
def test_a_clock_written_in_local_time_gives_its_instants_back(zone, starts, step_min):
    """Any ten hours of two years, in zones that go back by an hour, by half an hour, or never."""
    tracks = {}
    for start in starts:
        first = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * start)
        tracks[f"{start}"] = [
            first + timedelta(minutes=step_min * i) for i in range(600 // step_min)
        ]
    files = {
        f"{name}.csv": ("t,lon,lat\n" + "".join(map(local_line(zone), instants))).encode()
        for name, instants in tracks.items()
    }
    rows, _rejects = read(files, zone=zone)
    for name, instants in tracks.items():
        assert [row["tracked_at"] for row in rows if row["entity_id"] == name] == instants


def local_line(zone: str) -> Callable[[datetime], str]:
    return lambda instant: f"{instant.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S},1,2\n"


REPEATED = HEADER + "".join(
    f"{who},2023-11-05 {clock},1,2\n"
    for who, clock in [
        ("a", "01:10:00"), ("b", "01:50:00"), ("a", "01:50:00"), ("b", "01:55:00"),
        ("a", "01:10:00"), ("a", "01:50:00"), ("b", "02:10:00"), ("a", "02:10:00"),
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("repeated_hour", "hours"),
    [
        ("recorded", [6, 6, 6, 6, 7, 7, 8, 8]),
        ("first", [6, 6, 6, 6, 6, 6, 8, 8]),
        ("second", [7, 7, 7, 7, 7, 7, 8, 8]),
    ],
)
def test_the_repeated_hour_goes_by_each_entity_in_the_order_of_the_file(repeated_hour, hours):
    rows, _rejects = read_one(REPEATED, zone="America/Chicago", repeated_hour=repeated_hour)
    assert [row["tracked_at"].hour for row in rows] == hours


def test_the_repeated_hour_does_not_depend_on_how_a_file_is_divided(monkeypatch):
    monkeypatch.setattr(archive, "CHUNK_BYTES", 50)
    monkeypatch.setattr(decode, "PIECE_BYTES", 1)
    monkeypatch.setattr(decode_own, "BLOCK_BYTES", 1)
    rows, _rejects = read_one(REPEATED, zone="America/Chicago")
    assert [row["tracked_at"].hour for row in rows] == [6, 6, 6, 6, 7, 7, 8, 8]


def test_a_local_time_that_the_clocks_skip_is_rejected_or_read_as_asked():
    body = HEADER + "a,2023-03-12 01:50:00,1,2\na,2023-03-12 02:10:00,1,2\n"
    rows, rejects = read_one(body, zone="America/Chicago")
    assert [row["tracked_at"] for row in rows] == [utc("2023-03-12T07:50:00")]
    assert rules_of(rejects) == [(3, "skipped_local_time")]
    rows, rejects = read_one(body, zone="America/Chicago", skipped_hour="before")
    assert rows[1]["tracked_at"] == utc("2023-03-12T08:10:00")
    assert rejects == []


# Numbers and texts.


def test_units_scales_and_missing_values():
    body = (
        "who;when;trip;y7;x7;up;v;dir\n"
        "007;2024-03-07 22:40:00;T1;473300001;-85400000;100;36;90\n"
        "007;2024-03-07 22:41:00;;473300002;-85400000;NA;-;NA\n"
    )
    rows, rejects = read_one(
        body,
        delimiter="semicolon",
        coordinates="degrees_e7",
        altitude_unit="ft",
        speed_unit="kmh",
        missing=("NA", "-"),
        **{"entity": "who", "tracked_at": "when", "trip": "trip", "lat": "y7", "lon": "x7"},
        **{"altitude": "up", "speed": "v", "course": "dir"},
    )
    assert rejects == []
    assert [row["entity_id"] for row in rows] == ["007", "007"]
    assert [row["source_trip_id"] for row in rows] == ["T1", None]
    assert [row["lat_deg"] for row in rows] == [47.3300001, 47.3300002]
    assert rows[0]["lon_deg"] == -8.54
    assert rows[0]["altitude_m"] == pytest.approx(30.48)
    assert rows[0]["speed_mps"] == pytest.approx(10)
    assert rows[0]["course_deg"] == 90
    assert [rows[1][name] for name in ("altitude_m", "speed_mps", "course_deg")] == [None] * 3


@pytest.mark.parametrize(
    ("lon", "lat", "rule"),
    [
        ("181", "1", None),
        ("360", "90", None),
        ("-180", "-90", None),
        ("360.1", "1", "out_of_range"),
        ("-181", "1", "out_of_range"),
        ("1", "90.01", "out_of_range"),
        ("nan", "1", "bad_position"),
        ("inf", "1", "bad_position"),
        ("1e999", "1", "bad_position"),
        ("1_0", "1", "bad_position"),
        ('"1,5"', "1", "bad_position"),
        ("", "1", "bad_position"),
        ("12 E", "1", "bad_position"),
    ],
)
def test_a_place_is_on_earth_or_rejected(lon, lat, rule):
    rows, rejects = read_one(f"{HEADER}a,2024-03-07,{lon},{lat}\n")
    assert [row["rule"] for row in rejects] == ([rule] if rule else [])
    assert all(-180 <= row["lon_deg"] < 180 for row in rows)


def test_a_number_with_the_other_decimal_mark_is_rejected():
    _rows, rejects = read_one("id;t;lon;lat\na;2024-03-07;1.5;2,5\n", decimal="comma")
    assert rules_of(rejects) == [(2, "bad_position")]


def test_other_columns_that_cannot_be_read_have_rules():
    head = "id,t,lon,lat,v,up\n"
    columns = {"speed": "v", "received_at": "up"}
    rows, rejects = read_one(
        head
        + ",2024-03-07,1,2,3,2024-03-08\na,2024-03-07,1,2,fast,2024-03-08\n"
        + "a,2024-03-07,1,2,3,soon\na,2024-03-07,1,2,,\n",
        **columns,
    )
    assert rules_of(rejects) == [(2, "no_entity"), (3, "bad_number"), (4, "bad_received_at")]
    assert [row["line_number"] for row in rows] == [5]


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        ("\ufeffid,t,lon,lat\nÆrø,2024-03-07,1,2\n".encode(), {}),
        ("id,t,lon,lat\r\nÆrø,2024-03-07,1,2".encode("latin-1"), {"encoding": "latin-1"}),
        ('"id" ,"t","lon","lat"\n"Ærø","2024-03-07","1","2"\n'.encode(), {}),
        ("# ID|Timestamp|Longitude|Latitude\nÆrø|2024-03-07|1|2\n".encode(), {"delimiter": "pipe"}),
        ("\n\nid\tt\tlon\tlat\n\t\nÆrø\t2024-03-07\t1\t2\n\n".encode(), {"form": "tsv"}),
        (
            "Ærø,2024-03-07,1,2\n".encode(),
            {"is_headerless": True, "entity": "1", "tracked_at": "2", "lon": "3", "lat": "4"},
        ),
    ],
)
def test_the_same_file_in_other_clothes(body, columns):
    [row], rejects = read_one(body, **columns)
    assert rejects == []
    assert (row["entity_id"], row["lon_deg"], row["lat_deg"]) == ("Ærø", 1.0, 2.0)


def test_a_quoted_text_may_hold_the_delimiter():
    [row], _rejects = read_one(HEADER + '"Miller, ""Joe""",2024-03-07,1,2\n')
    assert row["entity_id"] == 'Miller, "Joe"'


def test_without_an_entity_column_the_file_is_the_entity():
    body = b"t,lon,lat\n2024-03-07,1,2\n"
    rows, _rejects = read({"x/a.csv": body, "x/b.v2.csv": body, "y/a.csv": body})
    assert sorted(row["entity_id"] for row in rows) == ["x/a", "x/b.v2", "y/a"]


def test_lines_that_are_no_records_are_named_and_their_neighbours_kept():
    good = b"a,2024-03-07,1,2\n"
    bad = [b"a,b\n", b"a,2024-03-07,1,2,3\n", b"a\rb,2024-03-07,1,2\n", b"\xff,2024-03-07,1,2\n"]
    bad += [b'"a,2024-03-07,1,2\n', b'a,2024-03-07,1,"2\n']
    rows, rejects = read_one(HEADER.encode() + b"".join(line + good for line in bad))
    assert [row["line_number"] for row in rows] == [3, 5, 7, 9, 11, 13]
    assert [line for line, _rule in rules_of(rejects)] == [2, 4, 6, 8, 10, 12]


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
    monkeypatch.setattr(own_columns, "log", lines.append)
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
    assert config_of(zone="Asia/Tokyo").training.zone == "Asia/Tokyo"
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


# Whatever comes.

SCRAPS = st.sampled_from(
    [
        *(b'"', b"\n", b"\r", b",", b";", b"\t", b"\xef\xbb\xbf", b"\xff", b"\x00", b"nan"),
        *(b"id,t,lon,lat\n", b"a,2024-03-07,1,2\n", b"{", b"}", b"[", b"]", b"[" * 3_000, b"PAR1"),
        *(b'{"id":"a","t":"2024-03-07"', b',"lon":1,"lat":2}'),
        b'{"lon":"\\ud800","lat":[1],"t":{}}\n',
    ]
)


def bodies() -> st.SearchStrategy[bytes]:
    return st.binary(max_size=200) | st.lists(SCRAPS | st.binary(max_size=6), max_size=25).map(
        b"".join
    )


@settings(max_examples=20)
@given(
    form=st.sampled_from(FORMS),
    zone=st.sampled_from(["UTC", "Europe/Oslo"]),
    files=st.lists(bodies(), min_size=1, max_size=8),
)
@example(form="tsv", zone="UTC", files=[b"id\tt\tlon\tlat\n\t\t\t\na\t2024-03-07\t1\t2"])
@example(
    form="csv",
    zone="UTC",
    files=[b'id,t,lon,lat\n"a\nb",2024-03-07,1,2\na\rb,2024-03-07,1,2\n', b"id,t,lon,lat"],
)
@example(form="json", zone="UTC", files=[b"[" * 100_000, b'[{"t":"2024","lon":1,"lat":2},7]'])
@example(form="jsonl", zone="UTC", files=[b'7\n{"t":"2024-03-07","lon":1,"lat":2}\n\n{}\n'])
def test_any_bytes_are_read_or_rejected(form, zone, files):
    """`read` checks that records read are points and rejects, and that no id comes twice."""
    points, rejects = read({f"{i}": body for i, body in enumerate(files)}, form=form, zone=zone)
    for number, body in enumerate(files):
        file_ids = {row["file_id"] for row in rejects if row["file_name"] == f"{number}"}
        file_ids |= {row["file_id"] for row in points if row["entity_id"] == f"{number}"}
        assert file_ids or any(row["entity_id"] == "a" for row in points)
        if form in ("csv", "tsv", "jsonl"):
            num_lines = sum(1 for line in body.split(b"\n") if line.strip())
            found = [row for row in points + rejects if row["file_id"] in file_ids]
            assert len(found) <= max(num_lines, 1)


@settings(max_examples=4)
@given(flips=st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 255)), max_size=12))
def test_a_damaged_parquet_file_is_read_or_rejected(flips):
    files = {"whole": written(TABLE, "parquet")}
    for number, (at, flip) in enumerate(flips):
        body = bytearray(files["whole"])
        body[at % len(body)] ^= flip
        files[f"{number}"] = bytes(body)
    points, rejects = read(files, form="parquet")
    assert len({row["file_id"] for row in points + rejects}) == len(set(files.items()))


def test_one_wrong_line_is_not_hidden_by_another():
    body = HEADER + "a,2024-03-07,1,2\nx\na,2024-03-07,1,2\ny,z\n"
    rows, rejects = read_one(body)
    assert [row["line_number"] for row in rows] == [2, 4]
    assert rules_of(rejects) == [(3, "malformed"), (5, "malformed")]


TABLE = [
    {
        "id": "a",
        "t": datetime(2024, 3, 7, 22, 40, second, tzinfo=UTC),
        "lon": 1.5,
        "lat": second / 7,
    }
    for second in range(50)
]


def written(rows: Rows, form: str, decimal: str = ".") -> bytes:
    """Rows in one of the forms, by writers that share nothing with the reader."""
    if form == "parquet":
        sink = io.BytesIO()
        schema = pa.schema(
            {"id": pa.string(), "t": pa.timestamp("us", "UTC"), "lon": pa.float64()}
            | {"lat": pa.float64()}
        )
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, row_group_size=7)
        return sink.getvalue()
    if form in ("json", "jsonl"):
        objects = [json.dumps(row | {"t": row["t"].isoformat()}) for row in rows]
        return ("[" + ",\n".join(objects) + "]" if form == "json" else "\n".join(objects)).encode()
    mark = {"csv": ";" if decimal == "," else ",", "tsv": "\t"}[form]
    lines = [mark.join(("id", "t", "lon", "lat"))]
    for row in rows:
        quoted = '"' + row["id"].replace('"', '""') + '"'
        numbers = [repr(row[name]).replace(".", decimal) for name in ("lon", "lat")]
        lines.append(mark.join((quoted, row["t"].isoformat(), *numbers)))
    return "\r\n".join(lines).encode()


def instant_of(us: int) -> datetime:
    return datetime(1971, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


@settings(max_examples=6)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "id": st.text(
                    st.characters(codec="utf-8", exclude_categories=["Cc", "Zs"]), min_size=1
                ),
                "t": st.integers(1, 4_000 * 10**12).map(instant_of),
                "lon": longitudes(),
                "lat": latitudes(),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_a_frame_gives_the_same_points_in_every_form(rows):
    expected = [
        (row["id"], row["t"], row["lon"] - 360 if row["lon"] >= 180 else row["lon"], row["lat"])
        for row in rows
    ]
    for form, decimal in [(form, "point") for form in FORMS] + [("csv", "comma")]:
        body = written(rows, form, "," if decimal == "comma" else ".")
        points, rejects = read_one(body, form=form, decimal=decimal)
        assert rejects == []
        names = ("entity_id", "tracked_at", "lon_deg", "lat_deg")
        assert [tuple(row[name] for name in names) for row in points] == expected, form


@pytest.mark.parametrize(
    ("column", "columns"),
    [
        (pa.array([1_709_851_200_123_456], pa.timestamp("us")), {"zone": "Asia/Tokyo"}),
        (pa.array([1_709_851_200_123_456_789], pa.timestamp("ns", "Europe/Oslo")), {}),
        (pa.array([1_709_851_200.123456]), {"time_form": "epoch_s"}),
        (pa.array([1_709_851_200_123]), {"time_form": "epoch_ms"}),
        (pa.array([1_709_851_200]), {"time_form": "epoch_s", "decimal": "comma"}),
    ],
)
def test_typed_times_of_parquet(column, columns):
    sink = io.BytesIO()
    place = {"lon": pa.array([1.5], pa.float32()), "lat": pa.array([2], pa.int8())}
    pq.write_table(pa.table({"id": [7], "t": column, **place}), sink)
    [row], _rejects = read_one(sink.getvalue(), form="parquet", **columns)
    hours = 9 if columns.get("zone") == "Asia/Tokyo" else 0
    instant = utc("2024-03-07T22:40:00") - timedelta(hours=hours)
    assert (row["tracked_at"] - instant).total_seconds() < 1
    assert (row["entity_id"], row["lon_deg"], row["lat_deg"]) == ("7", 1.5, 2.0)
