"""Releases that change their form: one data set under older and newer names of its columns."""

from __future__ import annotations

from itertools import pairwise

import pytest
from helpers.points import cleaned_of, rows_of
from helpers.raw_files import FIXTURES, ingested, ledger_of, points_of, rejects_of, tree, zipped

from tasks.config.pipeline import PipelineConfig
from tasks.ingest.snapshot import read_snapshot
from tasks.runtime.errors import DataError
from tasks.runtime.store import Store

FORMS = FIXTURES / "ais_forms"


def test_ships_are_the_same_before_and_after_their_files_change_form(store: Store) -> None:
    receipt = ingested(FORMS, store, "ais_noaa")
    snapshot = read_snapshot(store, receipt)
    assert rejects_of(snapshot) == []
    assert {name: row["num_kept"] for name, row in ledger_of(snapshot).items()} == {
        "AIS_2024_12_31.csv": 30,
        "ais-2025-01-01.csv": 30,
        "ais-2025-01-02.csv": 15,
    }
    rows = sorted(points_of(snapshot), key=lambda row: row["tracked_at"])
    assert {row["entity_id"] for row in rows} == {"367000007"}
    times = [row["tracked_at"] for row in rows]
    assert {(later - earlier).total_seconds() for earlier, later in pairwise(times)} == {60.0}
    assert [time.isoformat() for time in (times[0], times[-1])] == [
        "2024-12-31T23:30:00+00:00",
        "2025-01-01T00:44:00+00:00",
    ]
    for name, least, most in (("lat_deg", 47.5, 47.5888), ("lon_deg", -122.4592, -122.4)):
        values = [row[name] for row in rows]
        assert (min(values), max(values)) == pytest.approx((least, most))
    assert {row["heading_deg"] for row in rows} == {None}
    [trip] = rows_of(
        store, cleaned_of(PipelineConfig(dataset="ais_noaa"), receipt, store), "trips.parquet"
    )
    assert trip["length_m"] == pytest.approx(10_832.0, rel=0.006)


def test_a_folder_of_day_archives_is_read(tmp_path, store: Store) -> None:
    folder = tree(tmp_path / "in", {})
    folder.mkdir()
    for path in sorted(FORMS.glob("*.csv")):
        zipped(folder / f"{path.stem}.zip", {path.name: path.read_bytes()})
    counts = ingested(folder, store, "ais_noaa").counts
    assert (counts["num_points"], counts["num_files_read"]) == (60, 2)


def test_the_columns_that_a_release_lacks_are_named_where_the_run_stops(tmp_path, store: Store):
    body = (FORMS / "ais-2025-01-01.csv").read_bytes().replace(b"sog,cog", b"speed,turn")
    source = tree(tmp_path, {"ais-2025-01-01.csv": body})
    with pytest.raises(DataError, match="it has no column SOG, COG; its columns are: mmsi, base_"):
        ingested(source, store, "ais_noaa")
