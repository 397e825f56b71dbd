"""One trip as a page or a picture: made of the embedded storms, and of trips in awkward places."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from geographiclib.geodesic import Geodesic
from helpers.strategies import places
from hypothesis import given
from hypothesis import strategies as st
from pandas import DataFrame

from flows import cli
from flows.steps import prepared
from model.earth.constants import EARTH_RADIUS_M
from tasks.catalog.run import recorded_run
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.ingest import ingest
from tasks.report.trip_figure import (
    Frame,
    Shown,
    crossings,
    named,
    net_lines,
    round_down,
    spelt_s,
    trip_figure,
)
from tasks.report.trip_page import rejected_line, trip_page
from tasks.runtime.run_records import RunRecord
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

JOHN = "EP101994/1994-08-11T06:00:00.000000Z"
START = datetime(2024, 5, 1, tzinfo=UTC)
SPHERE = Geodesic(EARTH_RADIUS_M, 0)


@pytest.fixture(scope="module")
def storms(tmp_path_factory) -> Store:
    """The embedded storms, prepared."""
    store = Store(tmp_path_factory.mktemp("storms") / "store")
    store.prepare()
    config = PipelineConfig()
    with without_orchestrator(), recorded_run(store, "prepare", "hurdat2"):
        prepared(config, ingest(config, "", store), store)
    return store


def show(store: Store, *arguments: str) -> int:
    return cli.main(["show", "--store", str(store.root), *arguments])


def test_the_page_is_one_file_that_runs_and_loads_nothing(storms, tmp_path, capsys):
    page = tmp_path / "john.html"
    assert show(storms, "--trip", JOHN, "--out", str(page)) == 0
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text()
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert re.findall(r'src="(?!data:image/png;base64,)', text) == []
    assert "://" not in text
    assert JOHN in text
    assert "121, 6 h apart (median)" in text


def test_the_picture_is_a_picture(storms, tmp_path):
    picture = tmp_path / "john.png"
    assert show(storms, "--trip", JOHN, "--out", str(picture)) == 0
    content = picture.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert min(width, height) > 1_000


def test_without_a_trip_a_few_are_named(storms, capsys):
    assert show(storms) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == [JOHN, "121", "points"]
    assert len(lines) == 6


def test_without_a_file_name_the_page_is_named_by_the_trip(storms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert show(storms, "--trip", JOHN) == 0
    assert [path.name for path in tmp_path.iterdir()] == [
        "trip-hurdat2-EP101994-1994-08-11T06-00-00-000000Z.html"
    ]


@pytest.fixture
def stopped(storms) -> Iterator[tuple[Path, RunRecord]]:
    """The record of the storms' only run, as it stands after the test, to change in the test."""
    [path] = storms.runs.glob("*.json")
    whole = path.read_bytes()
    record = RunRecord.model_validate_json(whole)
    yield path, record.model_copy(update={"outcome": "failed", "error": "Stopped"})
    path.write_bytes(whole)


def test_what_a_stopped_run_had_made_is_shown(storms, stopped, capsys):
    path, record = stopped
    path.write_text(record.sealed().model_dump_json())
    assert show(storms) == 0
    assert JOHN in capsys.readouterr().out


def test_a_run_that_was_stopped_early_is_not_called_missing(storms, stopped, capsys):
    path, record = stopped
    early = tuple(run for run in record.stages if run.receipt.stage == "snapshot")
    path.write_text(record.model_copy(update={"stages": early}).sealed().model_dump_json())
    assert show(storms) == 2
    told = capsys.readouterr().err
    assert "has come as far as windows yet" in told
    assert "has no" not in told


def test_a_reject_of_cleaning_names_its_file(storms):
    with duckdb.connect(str(storms.warehouse), read_only=True) as connection:
        rows = connection.sql(
            "select file_name, count(*) from hurdat2.rejects group by all order by all"
        ).fetchall()
        [(num_points,)] = connection.sql(
            "select count(*) from hurdat2.points inner join hurdat2.rejects using (point_id)"
        ).fetchall()
    assert [name for name, _ in rows] == ["hurdat2-atlantic.txt", "hurdat2-pacific.txt"]
    assert sum(count for _, count in rows) == num_points


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--trip", "nothing like it"], 2, "leave out --trip to see a few"),
        (["--trip", "EP101994"], 2, f"near it are: {JOHN}\n"),
        (["--dataset", "porto"], 2, "run it first: trajfoundry run --dataset porto"),
        (["--dataset", "nowhere"], 2, "unknown dataset 'nowhere'"),
        (["--trip", JOHN, "--out", "x.pdf"], 2, "--out must end with .html or .png"),
        (["--trip", JOHN, "--out", "/no/such/folder/x.png"], 4, "give another --out"),
    ],
)
def test_a_wrong_request_is_one_line(storms, arguments, code, said, capsys):
    assert show(storms, *arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_looking_makes_no_store(tmp_path, capsys):
    assert show(Store(tmp_path / "none")) == 2
    assert not (tmp_path / "none").exists()


def test_the_warehouse_has_local_time_regions_and_visits(storms):
    with duckdb.connect(str(storms.warehouse), read_only=True) as con:
        one = "select count(*), count(distinct point_id) from hurdat2.{}"
        [clean] = con.execute(one.format("clean_points")).fetchall()
        assert con.execute(one.format("calendar")).fetchall() == [clean]
        later = (
            "select count(*) from hurdat2.calendar where local_at <> timezone('UTC', tracked_at)"
        )
        assert con.execute(later).fetchall() == [(0,)]
        [(regions,)] = con.execute("select count(*) from hurdat2.regions").fetchall()
        assert regions > 1_000
        con.execute("select region_id, travel_s, split from hurdat2.visits")
        con.execute("select start, num_visits from hurdat2.visit_windows")
        share = "select value from ops.quality where measure = 'points_test_unseen_share'"
        [(unseen,)] = con.execute(share).fetchall()
        assert 0 < unseen < 0.1


# Awkward trips ------------------------------------------------------------------------------------


PLACE = {"lon_deg": float, "lat_deg": float}
POINT = {"tracked_at": "datetime64[us, UTC]", **PLACE, "step_s": float, "speed_mps": float}
STAY = {
    **dict.fromkeys(("started_at", "finished_at"), "datetime64[us, UTC]"),
    **PLACE,
    "duration_s": float,
    **dict.fromkeys(("number", "instant", "place"), str),
}
REJECT = {
    "tracked_at": "datetime64[us, UTC]",
    **PLACE,
    **dict.fromkeys(("instant", "place", "rule"), str),
}


def shown_of(path, rejects=(), title="Thing", every_s=60.0):
    points = [
        {
            "tracked_at": START + timedelta(seconds=n * every_s),
            "lon_deg": lon,
            "lat_deg": lat,
            "step_s": every_s if n else None,
            "speed_mps": 1.0 if n else None,
        }
        for n, (lon, lat) in enumerate(path)
    ]
    tables = ((points, POINT), ((), STAY), (rejects, REJECT), ((), {"split": str}))
    return Shown(title, *(DataFrame(rows, columns=list(of)).astype(of) for rows, of in tables))


@pytest.mark.parametrize(
    "path",
    [
        [(179.9, -17.0), (-179.9, -17.1), (179.95, -17.2)],
        [(0.0, 89.9), (90.0, 89.95), (180.0, 89.9)],
        [(0.0, -90.0), (10.0, -89.0)],
        [(5.0, 50.0)] * 3,
        [(-180.0, 0.0), (0.0, 0.0), (170.0, 60.0)],
    ],
    ids=["date line", "around a pole", "from a pole", "standing", "half the Earth"],
)
def test_a_trip_anywhere_can_be_drawn(path):
    rejects = [
        {"rule": "null_island", "tracked_at": START, "lon_deg": 0.0, "lat_deg": 0.0},
        {"rule": "out_of_range", "tracked_at": START, "lon_deg": None, "lat_deg": 91.0},
        {"rule": "impossible_speed", "tracked_at": START, "lon_deg": 1e300, "lat_deg": 1.0},
    ]
    assert trip_figure(shown_of(path, rejects)).startswith(b"\x89PNG")


@given(path=st.lists(places(), min_size=1, max_size=5), at=places())
def test_the_map_keeps_distance_and_direction_from_its_middle(path, at):
    frame = Frame(*np.array(path).T)
    east_m, north_m = frame.of(*at)
    truth = SPHERE.Inverse(frame.lat_deg, frame.lon_deg, at[1], at[0])
    assert math.hypot(east_m, north_m) == pytest.approx(truth["s12"], abs=0.01)
    assert frame.is_inside(frame.of(*np.array(path).T)).all()


def test_the_date_line_is_a_line_like_any_other():
    frame = Frame(np.array([178.5, -178.5]), np.array([-17.0, -17.0]))
    assert abs(frame.lon_deg) == pytest.approx(180)
    assert [name for _, name, _ in net_lines(frame)].count("180°") == 1
    # One degree at 17 south, and the map reaches 1.15 times as far as the trip.
    assert frame.half_2[0] == pytest.approx(
        1.15 * 1.5 * 111_195 * math.cos(math.radians(17)), rel=0.01
    )


def test_texts_cannot_become_markup():
    evil = "<script>alert(1)</script>"
    reject = {"rule": evil, "tracked_at": START, "lon_deg": 1.0, "lat_deg": 2.0}
    page = trip_page(shown_of([(0.0, 0.0)], [reject], title=evil), [("trip", evil)], b"")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4


def test_rejects_are_counted_by_rule():
    rules = ["same_instant", "impossible_speed", "same_instant"]
    assert rejected_line(DataFrame({"rule": rules})) == "3: impossible speed 1, same instant 2"


@pytest.mark.parametrize(
    ("value_deg", "step_deg", "name"),
    [(-179.5, 0.5, "179.5°W"), (20, 10, "20°E"), (-180, 20, "180°"), (0, 0.002, "0.000°")],
)
def test_a_meridian_has_as_many_digits_as_it_needs(value_deg, step_deg, name):
    assert named(value_deg, step_deg, "E", "W") == name


@given(value=st.floats(1e-4, 1e8))
def test_a_round_length_is_near_below(value):
    assert value / 2.6 < round_down(value) <= value * (1 + 1e-9)


@pytest.mark.parametrize(
    ("duration_s", "text"), [(0, "0 s"), (59.6, "1 min"), (3_725, "1 h 2 min"), (90_000, "1 d 1 h")]
)
def test_durations_are_spelt_in_two_units(duration_s, text):
    assert spelt_s(duration_s) == text


def test_a_line_is_named_where_it_crosses_the_edge_and_nowhere_else():
    across, along = np.array([-1.0, 1.0, 3.0]), np.array([0.0, 4.0, 5.0])
    assert crossings(across, along, 0.0) == [2.0]
    assert crossings(across, along, 9.0) == []
