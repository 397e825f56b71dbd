"""What others do, run in the environment of the peers (`tests/peers.txt`): the same questions.

Each function is one process. `folder` is GeoLife's `Data` folder, `store` holds our ingest of it,
whose Parquet files are read where the question begins with points.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench_clock import Answers, Clock, main

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["lat", "lon", "zero", "altitude", "day", "date", "time"]
HEADER_LINES = 6
EARTH_RADIUS_M = 6_371_008.8
MAX_SPEED_MPS, MAX_GAP_S = 50.0, 600.0


def tell_points(answers: Answers, num_points: int, sum_lat_deg: float, sum_lon_deg: float) -> None:
    answers |= {"points": num_points, "sum_lat_deg": sum_lat_deg, "sum_lon_deg": sum_lon_deg}


def trackintel(clock: Clock, folder: Path) -> None:
    """The reader and the stays of trackintel, one after the other."""
    warnings.simplefilter("ignore")
    from trackintel.io import read_geolife
    from trackintel.preprocessing.positionfixes import generate_staypoints

    with clock.measure("parse") as answers:
        fixes, _labels = read_geolife(str(folder), print_progress=False)
    places = fixes.geometry
    tell_points(answers, len(fixes), float(places.y.sum()), float(places.x.sum()))
    with clock.measure("stays") as answers:
        _fixes, stays = generate_staypoints(
            fixes,
            method="sliding",
            dist_threshold=100,
            time_threshold=5,
            gap_threshold=15,
            print_progress=False,
        )
    seconds = (stays["finished_at"] - stays["started_at"]).dt.total_seconds()
    answers |= {"stays": len(stays), "stay_s": float(seconds.sum())}


def pandas_loop(clock: Clock, folder: Path) -> None:
    """One `read_csv` a file; the instants of all files are made at the end."""
    import pandas as pd

    with clock.measure("parse") as answers:
        tables = []
        for path in sorted(folder.glob("*/Trajectory/*.plt")):
            table = pd.read_csv(path, skiprows=HEADER_LINES, header=None, names=COLUMNS)
            table["user"], table["trip"] = path.parts[-3], path.stem
            tables.append(table)
        points = pd.concat(tables, ignore_index=True)
        points["tracked_at"] = pd.to_datetime(
            points["date"] + " " + points["time"], format="%Y-%m-%d %H:%M:%S", utc=True
        )
    tell_points(answers, len(points), float(points["lat"].sum()), float(points["lon"].sum()))


def polars_scan(clock: Clock, folder: Path) -> None:
    """One lazy scan of all files; the instant comes from the column of serial days."""
    import polars as pl

    with clock.measure("parse") as answers:
        points = (
            pl.scan_csv(
                folder / "*" / "Trajectory" / "*.plt",
                has_header=False,
                skip_rows=HEADER_LINES,
                schema=dict(zip(COLUMNS, [pl.Float64] * 5 + [pl.String] * 2, strict=True)),
                include_file_paths="path",
            )
            .select(
                "lat",
                "lon",
                "altitude",
                tracked_s=((pl.col("day") - 25_569) * 86_400).round().cast(pl.Int64),
                user=pl.col("path").str.split("/").list.get(-3),
                trip=pl.col("path").str.split("/").list.get(-1),
            )
            .collect()
        )
    tell_points(answers, points.height, points["lat"].sum(), points["lon"].sum())


def pyarrow_raw(clock: Clock, folder: Path) -> None:
    """The limit: one ready block in memory, four columns, no files, no names, no instants."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    body = pa.py_buffer(b"".join(records_of(folder)))
    with clock.measure("parse") as answers:
        points = csv.read_csv(
            pa.BufferReader(body),
            read_options=csv.ReadOptions(column_names=COLUMNS, block_size=4 << 20),
            convert_options=csv.ConvertOptions(
                include_columns=["lat", "lon", "altitude", "day"],
                column_types=dict.fromkeys(COLUMNS[:5], pa.float64()),
            ),
        )
    sums = [pc.sum(points[name]).as_py() for name in ("lat", "lon")]
    tell_points(answers, points.num_rows, *sums)


def records_of(folder: Path) -> Iterator[bytes]:
    """The records of each file without its header, the last one ended by a line feed too."""
    for path in sorted(folder.glob("*/Trajectory/*.plt")):
        body = path.read_bytes().split(b"\n", HEADER_LINES)[HEADER_LINES]
        yield body if body.endswith(b"\n") or not body else body + b"\n"


def pandas_clean(clock: Clock, store: Path) -> None:
    """One point an instant, one pass of the speed limit on raw neighbours, and the gaps."""
    with clock.measure("clean") as answers:
        rows = cleaned_by_pandas(one_an_instant(store))
    answers |= {"kept": len(rows), "segments": int(rows["segment"].iloc[-1])}


def one_an_instant(store: Path, *more_columns: str) -> pd.DataFrame:
    """The points of our ingest in order of entities and time, the first one of each instant."""
    import pandas as pd

    columns = ["entity_id", "source_trip_id", "tracked_at", "lon_deg", "lat_deg", "line_number"]
    rows = pd.concat(
        [
            pd.read_parquet(path, columns=[*columns, *more_columns])
            for path in sorted(store.glob("part/geolife/*/points-*.parquet"))
        ]
    )
    rows = rows.sort_values(["entity_id", "tracked_at", "source_trip_id", "line_number"])
    return rows.drop_duplicates(["entity_id", "tracked_at"])


def cleaned_by_pandas(rows: pd.DataFrame) -> pd.DataFrame:
    import numpy as np

    is_first = rows["entity_id"] != rows["entity_id"].shift()
    elapsed_s = rows["tracked_at"].diff().dt.total_seconds()
    lon, lat = np.radians(rows["lon_deg"]), np.radians(rows["lat_deg"])
    half_chord = (
        np.sin(lat.diff() / 2) ** 2
        + np.cos(lat) * np.cos(lat.shift()) * np.sin(lon.diff() / 2) ** 2
    )
    speed_mps = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(half_chord)) / elapsed_s
    rows = rows[is_first | (speed_mps <= MAX_SPEED_MPS)]
    is_first = rows["entity_id"] != rows["entity_id"].shift()
    is_start = is_first | (rows["tracked_at"].diff().dt.total_seconds() > MAX_GAP_S)
    rows["segment"] = is_start.cumsum()
    return rows


def exact_loop(clock: Clock, store: Path) -> None:
    """The same rules against the last kept point of each source trip, in a loop of Python.

    What it finds must be what our kernel finds. It counts, too, what parts that from pandas.
    """
    import numpy as np

    with clock.measure("rules") as answers:
        rows = one_an_instant(store, "point_id").sort_values(
            ["entity_id", "source_trip_id", "tracked_at"], kind="stable"
        )
        entity, trip = (rows[name].to_numpy() for name in ("entity_id", "source_trip_id"))
        tracked_s = rows["tracked_at"].astype("int64").to_numpy() / 1e6
        is_entity = np.r_[True, entity[1:] != entity[:-1]]
        is_track = is_entity | np.r_[True, trip[1:] != trip[:-1]]
        columns = is_track, tracked_s, rows["lon_deg"].to_numpy(), rows["lat_deg"].to_numpy()
        kept = kept_of(*(column.tolist() for column in columns))
        is_new = np.r_[True, np.diff(np.cumsum(is_track)[kept]) > 0]
        is_silence = np.r_[False, np.diff(tracked_s[kept]) > MAX_GAP_S]
    answers |= {"kept": len(kept), "segments": int((is_new | is_silence).sum())}
    point_id = rows["point_id"].to_numpy()
    answers["check_sum"] = float(np.bitwise_xor.reduce(point_id[kept]) % 2**53)
    is_theirs = np.isin(point_id, cleaned_by_pandas(one_an_instant(store, "point_id"))["point_id"])
    is_ours = np.isin(np.arange(len(rows)), kept)
    answers["slow_beside_spikes"] = int((is_theirs & ~is_ours).sum())
    answers["first_of_source_trips"] = int((is_ours & ~is_theirs & is_track).sum())
    answers["after_spikes"] = int((is_ours & ~is_theirs & ~is_track).sum())


def kept_of(
    is_track_start: list[bool], tracked_s: list[float], lon_deg: list[float], lat_deg: list[float]
) -> list[int]:
    """The rule of `is_speed_possible` in its own words: runs, and rivals that take them over."""

    def is_reached(a: int, b: int) -> bool:
        half_chord = (
            math.sin(math.radians(lat_deg[b] - lat_deg[a]) / 2) ** 2
            + math.cos(math.radians(lat_deg[a]))
            * math.cos(math.radians(lat_deg[b]))
            * math.sin(math.radians(lon_deg[b] - lon_deg[a]) / 2) ** 2
        )
        away_m = 2 * EARTH_RADIUS_M * math.asin(math.sqrt(half_chord))
        return away_m <= MAX_SPEED_MPS * (tracked_s[b] - tracked_s[a])

    settled: list[int] = []
    run: list[int] = []
    rivals: list[int] = []
    for n in range(len(tracked_s)):
        if is_track_start[n] or tracked_s[n] - tracked_s[run[-1]] > MAX_GAP_S:
            settled += run
            run, rivals = [n], []
        elif is_reached(run[-1], n):
            run.append(n)
            rivals = []
        else:
            rivals = [*rivals, n] if rivals and is_reached(rivals[-1], n) else [n]
            if len(rivals) > len(run):
                run, rivals = rivals, []
    return settled + run


if __name__ == "__main__":
    main(
        {
            "trackintel": trackintel,
            "pandas-loop": pandas_loop,
            "polars-scan": polars_scan,
            "pyarrow-raw": pyarrow_raw,
            "pandas-clean": pandas_clean,
            "exact-loop": exact_loop,
        }
    )
