"""Near duplicates: held against a slow loop, and cases that are made by hand."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tasks.prepare.near_duplicates import MIN_MOVES, RUN_POINTS, near_duplicates

Trip = tuple[list[float], list[float], list[float]]  # seconds, longitudes, latitudes


def written(path: Path, trips: dict[str, Trip], row_group_size: int = 2) -> list[Path]:
    columns = zip(*trips.values(), strict=True) if trips else ([], [], [])
    lists = dict(zip(("t_s", "lon_deg", "lat_deg"), map(list, columns), strict=True))
    table = pa.table(
        {"trip_id": pa.array(list(trips), pa.string())}
        | {name: pa.array(values, pa.list_(pa.float64())) for name, values in lists.items()}
    )
    pq.write_table(table, path, row_group_size=row_group_size)
    return [path]


def windows_of(rows: list[tuple[str, int, int]]) -> pa.Table:
    trip_id, start, num_points = zip(*rows, strict=True)
    return pa.table({"trip_id": trip_id, "start": start, "num_points": num_points})


def northward(start_deg: float, num_points: int, lon_deg: float = 7.0, late_s: float = 0.0) -> Trip:
    """A path by two cells a second."""
    number = range(num_points)
    return (
        [late_s + n for n in number],
        [lon_deg] * num_points,
        [start_deg + 2e-4 * n for n in number],
    )


def changed(trip: Trip, which: int, place: int, value: float) -> Trip:
    return tuple(
        [*it[:place], value, *it[place + 1 :]] if k == which else it for k, it in enumerate(trip)
    )  # type: ignore[return-value]


SHIFTED = northward(1.00061, 10)


@pytest.mark.parametrize(
    ("trip", "is_repeated"),
    [
        (SHIFTED, True),
        (northward(1.00061, 10, late_s=500.0), True),
        (changed(SHIFTED, 0, 9, 11.0), False),
        (changed(SHIFTED, 1, 5, 7.0002), False),
        (northward(1.0006, 10, lon_deg=7.0 - 360), True),
        (northward(2.0, 10), False),
        (northward(1.0006, 9), False),
    ],
    ids=["shifted", "on another day", "slower", "aside", "around the Earth", "elsewhere", "short"],
)
def test_a_run_that_train_holds_is_a_near_duplicate(tmp_path, trip: Trip, is_repeated: bool):
    train = written(tmp_path / "train.parquet", {"a": northward(1.0, 13), "b": northward(3.0, 20)})
    test = written(tmp_path / "test.parquet", {"t": trip})
    windows = windows_of([("t", 0, len(trip[0])), ("elsewhere", 0, 10)])
    found = near_duplicates(windows, test, train)["trip_id"].to_pylist()
    assert found == ["t"] * is_repeated


def test_what_stands_still_repeats_nothing(tmp_path):
    still = ([float(n) for n in range(10)], [8.0] * 10, [1.0] * 10)
    train = written(tmp_path / "train.parquet", {"a": still})
    test = written(tmp_path / "test.parquet", {"t": still})
    assert not near_duplicates(windows_of([("t", 0, 10)]), test, train).num_rows


def slow(windows: pa.Table, judged: dict[str, Trip], train: dict[str, Trip]) -> list[dict]:
    """The definition, run by run."""

    def runs(trip: Trip, places: range) -> set[tuple]:
        found = set()
        cells = [
            (round((lon + 360) * 1e4) % 3_600_000, round(lat * 1e4))
            for lon, lat in zip(trip[1], trip[2], strict=True)
        ]
        for place in places:
            own = cells[place : place + RUN_POINTS]
            moves = sum(a != b for a, b in zip(own[1:], own[:-1], strict=True))
            if len(own) == RUN_POINTS and moves >= MIN_MOVES:
                seconds = round(trip[0][place + RUN_POINTS - 1]) - round(trip[0][place])
                found.add((own[0], tuple(sorted(own)), seconds))
        return found

    known = set().union(*(runs(trip, range(len(trip[0]))) for trip in train.values()))
    return [
        row
        for row in windows.to_pylist()
        if known
        & runs(
            judged[row["trip_id"]], range(row["start"], row["start"] + row["num_points"] - 9, 10)
        )
    ]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), group=st.integers(1, 5))
def test_the_windows_are_those_of_a_slow_loop(tmp_path_factory, seed: int, group: int):
    """Walks among few cells, so that much is repeated."""
    draw = random.Random(seed)
    folder = tmp_path_factory.mktemp("runs")

    def trip() -> Trip:
        north, cells = 0, []
        for _ in range(draw.randint(1, 40)):
            north += draw.choice((0, 1, 1, 1))
            cells.append(north)
        return [float(n) for n in range(len(cells))], [7.0] * len(cells), [c / 1e4 for c in cells]

    train = {f"a{n}": trip() for n in range(draw.randint(0, 6))}
    judged = {f"t{n}": trip() for n in range(draw.randint(1, 6))}
    rows = [
        (name, start, num_points)
        for name, (t_s, _lon, _lat) in judged.items()
        for start in range(0, len(t_s), 3)
        for num_points in (5, 10, 20, 25)
        if start + num_points <= len(t_s)
    ]
    assume(rows)
    windows = windows_of(rows)
    files = written(folder / "judged.parquet", judged, group)
    known = written(folder / "train.parquet", train, group)
    assert near_duplicates(windows, files, known).to_pylist() == slow(windows, judged, train)
