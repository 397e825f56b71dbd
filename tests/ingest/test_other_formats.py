"""Sources that SQL cannot read by itself: right values for all that is odd in each of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zipfile
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers.points import cleaned_of, rows_of, total
from helpers.raw_files import FIXTURES, ingested, points_of, rejects_of, snapshot_of, tree, zipped

from model.earth.point_rules import distance_m
from tasks.config.datasets import DATASETS, dataset_named
from tasks.config.pipeline import CleanConfig, PipelineConfig
from tasks.ingest.readers.json_records import json_lines
from tasks.ingest.snapshot import Snapshot, read_snapshot
from tasks.runtime.store import Counts, Receipt, Store

KNOT_MPS = 1852 / 3600


@pytest.fixture
def any_share(monkeypatch) -> None:
    """Let fixtures hold as many faults as they like."""
    for name in DATASETS:
        row = dataset_named(name).model_copy(update={"max_rejected_share": 1.0})
        monkeypatch.setitem(DATASETS, name, row)


def cleaned(receipt: Receipt, store: Store, dataset: str, **rules: float) -> list[Receipt]:
    config = PipelineConfig(dataset=dataset, clean=CleanConfig(**rules))
    return cleaned_of(config, receipt, store)


def columns_of(snapshot: Snapshot, *names: str) -> pa.Table:
    """Some columns of all points of real data, which are too many for rows."""
    paths = [path for bucket in snapshot.buckets for path, _ids in snapshot.points(bucket)]
    return pa.concat_tables([pq.read_table(path, columns=list(names)) for path in paths])


def rule_counts(rows: Iterable[dict]) -> Counter[str]:
    return Counter(row["rule"] for row in rows)


def steps_of(points: list[dict]) -> list[tuple[float, float]]:
    """(metres, seconds) between neighbours of one source trip, in the order of the source."""
    return [
        (
            distance_m(a["lon_deg"], a["lat_deg"], b["lon_deg"], b["lat_deg"]),
            (b["tracked_at"] - a["tracked_at"]).total_seconds(),
        )
        for a, b in pairwise(points)
        if a["source_trip_id"] == b["source_trip_id"]
    ]


# tracktable ---------------------------------------------------------------------------------------


def test_tracks_of_real_ships_become_points(store: Store) -> None:
    rows = points_of(snapshot_of(FIXTURES / "ais_tracktable", store, "ais_tracktable"))
    assert Counter(row["entity_id"] for row in rows) == {
        "367073680": 10,
        "366962000": 26,
        "367697580": 11,
    }
    first, last = rows[0], rows[-1]
    assert first["source_trip_id"] == "7cd3da0b-f2e4-42ae-b700-21cb07b7c4d4"
    assert first["tracked_at"] == datetime(2020, 12, 4, 16, 27, 1, tzinfo=UTC)  # UTC, unmarked
    assert (first["lon_deg"], first["lat_deg"]) == (-74.0542, 40.6769)
    assert (last["line_number"], last["lon_deg"], last["lat_deg"]) == (3, -118.23959, 33.88075)
    seconds = [step_s for _step_m, step_s in steps_of(rows)]
    assert seconds.count(0) == 1
    speeds = [step_m / step_s for step_m, step_s in steps_of(rows) if step_s]
    assert sum(speed_mps > 30 for speed_mps in speeds) == 4


def test_of_two_places_in_one_second_the_first_of_the_line_stays(store: Store) -> None:
    receipt = ingested(FIXTURES / "ais_tracktable", store, "ais_tracktable")
    kept = cleaned(receipt, store, "ais_tracktable", max_speed_mps=1e9)
    [row] = [r for r in rows_of(store, kept, "clean_rejects.parquet")]
    assert (row["rule"], row["line_number"]) == ("same_instant", 2)
    lons = {point["lon_deg"] for point in rows_of(store, kept, "clean_points.parquet")}
    assert -119.08945 in lons
    assert -119.19025 not in lons


def test_faults_of_a_track_file_are_counted_point_by_point(
    tmp_path: Path, store: Store, any_share
) -> None:
    head = "*T*,t1,terrestrial,{},0,*P*,terrestrial,2,1,1,0"
    lines = [
        head.format(3) + ",m,2020-01-01 00:00:00,0.5,1.5,m,2020-01-01 00:01:00,x,1.5",  # 1 missing
        head.format(2) + ",m,2020-01-01 00:00:00,200,1,m,2020-02-30 00:00:00,1,1",
        head.format(2) + ",m,2020-01-01 00:02:00,1,1,m,2020-01-01",  # cut in a point
        head.format(1) + ",m,1577836980,2,2",
        head.format(1) + ",m,2020-01-01 00:04:00.25,nan,2",
        head.format(1) + ",,2020-01-01 00:05:00,2,2",
        head.format(0),
        "*T*,t2,cartesian2d,1,0,*P*,cartesian2d,2,1,1,0,m,2020-01-01 00:00:00,1,1",
        "",
        "1,2,3",
    ]
    source = tree(tmp_path / "in", {"a.traj": "\r\n".join(lines).encode()})
    snapshot = snapshot_of(source, store, "ais_tracktable")
    assert [(row["line_number"], row["rule"]) for row in rejects_of(snapshot)] == [
        (1, "malformed"),
        (2, "out_of_range"),
        (2, "malformed"),
        (3, "malformed"),
        (4, "malformed"),
        (5, "not_finite"),
        (6, "no_entity"),
        (7, "malformed"),  # an empty list is one record
        (8, "malformed"),
        (10, "malformed"),
    ]
    assert rejects_of(snapshot)[2]["raw_text"] == "m,2020-02-30 00:00:00,1,1"
    assert [row["line_number"] for row in points_of(snapshot)] == [1, 3]


def test_all_tracks_of_the_sample_are_there(store: Store, shared_dir: Path) -> None:
    source = shared_dir / "data" / "ais-tracktable-traj.zip"
    receipt = ingested(source, store, "ais_tracktable")
    assert receipt.counts["num_records"] == receipt.counts["num_points"] == 408_646
    names = ("source_trip_id", "file_id", "point_id", "tracked_at", "lon_deg", "lat_deg")
    table = columns_of(read_snapshot(store, receipt), *names)
    by_file = Counter(table["file_id"].to_pylist())
    assert sorted(by_file.values()) == [172_679, 235_967]
    assert pc.count_distinct(table["source_trip_id"]).as_py() == 513 + 1_395
    table = table.sort_by([("source_trip_id", "ascending"), ("point_id", "ascending")])
    trip, tracked_us, lon_deg, lat_deg = (
        table[name].to_numpy() for name in ("source_trip_id", "tracked_at", "lon_deg", "lat_deg")
    )
    step_s = np.diff(tracked_us) / np.timedelta64(1, "s")
    is_step = trip[1:] == trip[:-1]
    assert (step_s[is_step] >= 0).all()  # the ids of a track are in its order
    assert (step_s[is_step] == 0).sum() == 23
    metres = (
        np.hypot(np.diff(lat_deg), np.diff(lon_deg) * np.cos(np.radians(lat_deg[1:]))) * 111_195
    )
    is_fast = is_step & (step_s > 0) & (metres > 30 * step_s)
    assert is_fast.sum() == pytest.approx(536, abs=5)  # the survey measured on the ellipsoid


# OpenSky ------------------------------------------------------------------------------------------


def test_state_vectors_keep_what_is_known_and_drop_old_places(store: Store, any_share) -> None:
    snapshot = snapshot_of(FIXTURES / "opensky", store, "opensky")
    rows = points_of(snapshot)
    assert [row["line_number"] for row in rows] == [1, 2, 3, 5, 6, 8, 17]
    ground, unknown, flying, *_rest, date_line = rows
    assert ground["altitude_m"] is None
    assert ground["is_on_ground"] is True
    assert ground["squawk"] is None
    assert (ground["entity_id"], ground["source_trip_id"]) == ("abc001", "MADE1")
    assert ground["tracked_at"] == datetime(2019, 1, 1, tzinfo=UTC)  # milliseconds
    names = ("speed_mps", "course_deg", "vertical_rate_mps")
    assert [unknown[name] for name in names] == [None, None, None]
    assert unknown["altitude_m"] == pytest.approx(304.8)
    assert [flying[name] for name in names] == [pytest.approx(200 * KNOT_MPS), 90.0, -3.048]
    assert date_line["lon_deg"] == -180.0
    assert [(row["line_number"], row["rule"]) for row in rejects_of(snapshot)] == [
        (4, "stale_position"),
        (7, "stale_position"),
        (9, "no_position"),
        (10, "implausible_time"),
        (11, "malformed"),
        (12, "no_entity"),
        (13, "no_position"),
        (14, "malformed"),
        (15, "malformed"),  # a text that looks like the end of its record
        (16, "no_time"),
    ]


@pytest.mark.parametrize(
    ("before", "between", "after"),
    [
        (b"[", b",", b"]"),
        (b"\xef\xbb\xbf [\n ", b" ,\r\n", b"\n]\n"),
        (b"", b"\n", b"\n"),
        (b"", b"\r\n", b""),
    ],
)
def test_a_list_and_an_object_a_line_are_one_format(
    before: bytes, between: bytes, after: bytes
) -> None:
    rows = json.loads((FIXTURES / "opensky" / "made-up.json").read_text())[:4]
    texts = [json.dumps(row, indent=1).replace("\n", " ").encode() for row in rows]
    content = before + between.join(texts) + after
    for size in (1, 7, len(content)):
        chunks = [content[i : i + size] for i in range(0, len(content), size)]
        lines = b"\n".join(json_lines(chunks)).split(b"\n")
        assert [json.loads(line) for line in lines] == rows


def test_all_state_vectors_of_the_sample_are_there(store: Store, shared_dir: Path) -> None:
    source = shared_dir / "data" / "opensky-quickstart.json.gz"
    receipt = ingested(source, store, "opensky")
    assert receipt.counts["num_records"] == 284_505
    raw = json.loads(gzip.decompress(source.read_bytes()))
    last: dict[str, tuple] = {}
    num_stale = 0
    for row in raw:
        place = row["latitude"], row["longitude"]
        is_fast = (row["groundspeed"] or 0) > 100
        num_stale += is_fast and last.get(row["icao24"]) == place
        last[row["icao24"]] = place
    assert receipt.counts["num_stale_position"] == receipt.counts["num_rejected"] == num_stale
    assert num_stale == 24_546
    unknown = ("speed_mps", "course_deg", "vertical_rate_mps")
    names = ("entity_id", "source_trip_id", "altitude_m", "is_on_ground", *unknown)
    table = columns_of(read_snapshot(store, receipt), *names)
    assert table.group_by(["entity_id", "source_trip_id"]).aggregate([]).num_rows == 236
    assert [table[name].null_count for name in unknown] == [37_103] * 3
    on_ground = table.filter(pc.is_null(table["altitude_m"]))["is_on_ground"]
    assert pc.mean(on_ground.cast(pa.int8())).as_py() > 0.9


# Icebergs -----------------------------------------------------------------------------------------


def test_every_sensor_of_a_day_is_a_record(store: Store, any_share) -> None:
    files = {path.name: path.read_bytes() for path in (FIXTURES / "icebergs/consol").iterdir()}
    source = zipped(store.root.parent / "x.zip", {f"consol/{k}": v for k, v in files.items()})
    receipt = ingested(source, store, "icebergs")
    snapshot = read_snapshot(store, receipt)
    assert receipt.counts["num_files_ignored"] == 1
    found = [
        (row["file_name"], row["line_number"], row["rule"], row["raw_text"].count(","))
        for row in rejects_of(snapshot)
    ]
    assert found == [
        ("x01.csv", 4, "no_position", 8),
        ("x01.csv", 6, "malformed_date", 8),
        ("x01.csv", 6, "malformed_date", 8),
        ("x01.csv", 7, "malformed_date", 8),  # 2021 had 365 days
        ("x01.csv", 7, "malformed_date", 8),
        ("x01.csv", 8, "out_of_range", 8),
        ("x01.csv", 9, "malformed", 2),
        ("x01.csv", 10, "not_finite", 8),  # qscat, which comes before nic
        ("x01.csv", 10, "malformed", 8),
        ("x02.csv", 2, "no_position", 5),
        ("x02.csv", 3, "no_position", 5),
    ]
    rows = points_of(snapshot)
    assert len(rows) + len(found) == receipt.counts["num_records"] == 8 * 2 + 1 + 2 * 2
    by_place = {(row["entity_id"], row["line_number"], row["sensor"]): row for row in rows}
    nic, qscat = by_place["x01", 2, "nic"], by_place["x01", 2, "qscat"]
    assert nic["tracked_at"] == qscat["tracked_at"] == datetime(2019, 12, 31, tzinfo=UTC)
    assert (nic["is_observed"], qscat["is_observed"]) == (True, False)
    assert (nic["length_m"], nic["width_m"]) == (18_520.0, 9_260.0)
    assert by_place["x01", 3, "nic"]["lon_deg"] == -180.0
    assert by_place["x01", 3, "nic"]["length_m"] is None  # 0 is an unknown size
    assert by_place["x01", 4, "qscat"]["lon_deg"] == 0.0  # on the meridian, not without a place
    assert by_place["x01", 8, "nic"]["tracked_at"] == datetime(2020, 12, 31, tzinfo=UTC)
    assert by_place["x02", 2, "ascat"]["lon_deg"] == -59.75
    assert by_place["x02", 3, "sass"]["is_observed"] is None


def test_of_two_sensors_the_observed_one_stays_then_the_finer_one(store: Store, any_share) -> None:
    receipt = ingested(FIXTURES / "icebergs", store, "icebergs")
    kept = cleaned(receipt, store, "icebergs", max_speed_mps=1e9, max_gap_s=1e9, min_points=2)
    sensors = {
        row["tracked_at"].date().isoformat(): row["sensor"]
        for row in rows_of(store, kept, "clean_points.parquet")
        if row["entity_id"] == "x01"
    }
    assert sensors["2019-12-31"] == "nic"  # observed, where qscat is interpolated
    assert sensors["2020-01-01"] == "qscat"
    assert sensors["2020-01-03"] == "qscat"  # both observed
    [trip] = [t for t in rows_of(store, kept, "trips.parquet") if t["entity_id"] == "x01"]
    assert trip["length_m"] < 20_000_000  # nobody went round the Earth at 180 degrees


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_all_icebergs_of_the_sample_are_there(
    every: int, tmp_path: Path, store: Store, shared_dir: Path
) -> None:
    """The oracle reads the same cells with Python's own CSV reader."""
    with zipfile.ZipFile(shared_dir / "data" / "icebergs-consol.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".csv"))
        chosen = {*names[::every], "consol/d23.csv", "consol/d26.csv"}
        files = {name: archive.read(name) for name in sorted(chosen)}
    want: Counter[str] = Counter()
    for body in files.values():
        header, *rows = csv.reader(io.StringIO(body.decode()))
        want["rows"] += len(rows)
        date = header.index("date")
        lats = [i for i, key in enumerate(header) if key[-2:] == "_1" and key != "size_1"]
        for row in rows:
            is_slip = row[date].startswith("2301")
            for i in lats:
                is_none = float(row[i]) == float(row[i + 1]) == 0
                want["slip" if is_slip else "none" if is_none else "kept"] += 1
    counts = ingested(zipped(tmp_path / "x.zip", files), store, "icebergs").counts
    assert want["slip"] == counts["num_malformed_date"] == 4
    assert counts["num_no_position"] == want["none"]
    assert counts["num_points"] == want["kept"]
    assert counts["num_rejected"] == want["none"] + want["slip"]
    if every == 1:
        assert (len(files), want["rows"]) == (484, 356_550)


# GPX ----------------------------------------------------------------------------------------------


def test_a_watch_export_with_prefixes_and_a_pause(store: Store) -> None:
    """11 points in 2 segments; the waypoint is none; the pause has no length."""
    receipt = ingested(FIXTURES / "paused_recording", store, "gpx")
    assert receipt.counts["num_records"] == receipt.counts["num_points"] == 11
    rows = points_of(read_snapshot(store, receipt))
    assert Counter(row["source_trip_id"] for row in rows) == {"1.1": 6, "1.2": 5}
    assert {row["entity_id"] for row in rows} == {"evening_ride"}
    assert rows[0]["tracked_at"] == datetime(2023, 6, 3, 18, 0, tzinfo=UTC)
    assert rows[-1]["tracked_at"] == datetime(2023, 6, 3, 18, 44, tzinfo=UTC)
    assert (rows[0]["altitude_m"], rows[0]["speed_mps"]) == (12.0, None)
    trips = rows_of(store, cleaned(receipt, store, "gpx"), "trips.parquet")
    lengths = [trip["length_m"] for trip in sorted(trips, key=lambda trip: trip["started_at"])]
    assert lengths == [pytest.approx(519.2, rel=0.006), pytest.approx(352.4, rel=0.006)]
    assert sum(lengths) == pytest.approx(871.6, rel=0.006)
    recorded_s = sum((t["finished_at"] - t["started_at"]).total_seconds() for t in trips)
    assert recorded_s == 180.0


def test_a_real_recording_with_a_drawn_track(store: Store, any_share) -> None:
    """GPX 1.0: an empty track, one without times, and two recorded ones."""
    snapshot = snapshot_of(FIXTURES / "gpx", store, "gpx")
    assert Counter(row["source_trip_id"] for row in points_of(snapshot)) == {"3.1": 6, "4.1": 6}
    assert rule_counts(rejects_of(snapshot)) == {"no_time": 6}
    assert json.loads(rejects_of(snapshot)[0]["raw_text"])["lat"] == "45.380600095"
    first = points_of(snapshot)[0]
    assert first["altitude_m"] == pytest.approx(753.330322)


def gpx(*points: str, version: str = "1/1") -> bytes:
    return (
        f'<gpx xmlns="http://www.topografix.com/GPX/{version}"><trk><trkseg>'
        f"{''.join(points)}</trkseg></trk></gpx>"
    ).encode()


def trkpt(lat: object = 51, lon: object = 7, time: str = "2023-06-03T18:00:00Z") -> str:
    return f'<trkpt lat="{lat}" lon="{lon}"><time>{time}</time></trkpt>'


@pytest.mark.parametrize(
    ("point", "rule"),
    [
        (trkpt(lat=99), "out_of_range"),
        (trkpt(lon=500), "out_of_range"),
        (trkpt(lat="NaN"), "not_finite"),
        (trkpt(lon="inf"), "not_finite"),
        (trkpt(lat="52,5"), "malformed"),
        (trkpt(time=""), "no_time"),
        ('<trkpt lat="51" lon="7"/>', "no_time"),
        ('<trkpt lat="51"><time>2023-06-03T18:00:00Z</time></trkpt>', "malformed"),
        (trkpt(time="2023-02-30T18:00:00Z"), "malformed_time"),
        (trkpt(time="yesterday"), "malformed_time"),
    ],
)
def test_a_bad_track_point_is_rejected_and_its_neighbours_stay(
    tmp_path: Path, store: Store, any_share, point: str, rule: str
) -> None:
    source = tree(tmp_path / "in", {"a.gpx": gpx(trkpt(), point, trkpt())})
    snapshot = snapshot_of(source, store, "gpx")
    assert [(row["line_number"], row["rule"]) for row in rejects_of(snapshot)] == [(2, rule)]
    assert [row["line_number"] for row in points_of(snapshot)] == [1, 3]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2023-06-03T18:00:00", datetime(2023, 6, 3, 18, tzinfo=UTC)),
        ("2023-06-03T18:00:00+02:00", datetime(2023, 6, 3, 16, tzinfo=UTC)),
        ("2023-06-03T18:00:00.25Z", datetime(2023, 6, 3, 18, 0, 0, 250_000, tzinfo=UTC)),
        (" 2023-06-03T18:00:00.123456789Z\n", datetime(2023, 6, 3, 18, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_utc(
    tmp_path: Path, store: Store, monkeypatch, text: str, instant: datetime
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    source = tree(tmp_path / "in", {"Über a.GPX": gpx(trkpt(time=text), version="1/0")})
    [row] = points_of(snapshot_of(source, store, "gpx"))
    assert row["tracked_at"] == instant
    assert row["entity_id"] == "Über a"


def test_all_points_of_the_samples_are_there(store: Store, shared_dir: Path) -> None:
    receipt = ingested(shared_dir / "data" / "gpx", store, "gpx")
    assert receipt.counts["num_records"] == 1_271
    assert receipt.counts["num_no_time"] == receipt.counts["num_rejected"] == 358
    rows = points_of(read_snapshot(store, receipt))
    trips = Counter(row["entity_id"] for row in rows)
    assert trips["korita-zbevnica"] == 871 - 358
    tracks = {(row["entity_id"], row["source_trip_id"].split(".")[0]) for row in rows}
    assert Counter(entity for entity, _track in tracks)["cerknicko-jezero"] >= 5
    counts: Counts = total(cleaned(receipt, store, "gpx"))
    assert counts["points"] == counts["kept"] + counts["rejected"] == len(rows)
    assert all(math.isfinite(row["lon_deg"]) for row in rows)
    assert np.ptp([row["lat_deg"] for row in rows]) < 1
