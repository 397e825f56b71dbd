"""Spans of every kind of split: disjoint, complete, and the same whoever else is there.

A slow loop over the points says where each one belongs.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sql
from tasks.config.pipeline import PipelineConfig, SplitConfig, WindowConfig
from tasks.config.slices import SplitRules
from tasks.prepare.split import SPLITS, draw_spans, split_hash

START = datetime(2024, 5, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POINTS = pa.schema(
    {
        "point_id": pa.int64(),
        "entity_id": pa.string(),
        "trip_id": pa.string(),
        "tracked_at": pa.timestamp("us", "UTC"),
        "lon_deg": pa.float64(),
        "lat_deg": pa.float64(),
    }
)
BOX = {"west_deg": 170.0, "south_deg": -10.0, "east_deg": -170.0, "north_deg": 10.0}
RULES = {
    "entity": SplitRules(kind="entity", validation_percent=30, test_percent=30, seed=1),
    "time": SplitRules(
        kind="time",
        validation_percent=30,
        test_percent=20,
        seed=1,
        window_points=2,
        purge_gap_s=150.0,
    ),
    "region": SplitRules(kind="region", validation_percent=40, test_percent=10, seed=1, **BOX),
    "random_window": SplitRules(
        kind="random_window", validation_percent=30, test_percent=30, seed=1, window_points=3
    ),
}
Point = dict[str, Any]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("set timezone = 'UTC'")
        for text in sql.macros().values():
            connection.execute(text)
        yield connection


@st.composite
def movers(draw: st.DrawFn) -> dict[str, list[Point]]:
    """A few entities with trips of a few points each, about the box; nobody copies anybody."""
    made: dict[str, list[Point]] = {}
    for number in range(draw(st.integers(1, 4))):
        entity, at, points = f"e{number}", START, []
        for trip in range(draw(st.integers(1, 3))):
            at += 60 * MINUTE
            home_deg = draw(st.sampled_from([0.0, 165.0, 175.0, -175.0]))
            for _ in range(draw(st.integers(1, 12))):
                at += draw(st.integers(1, 4)) * MINUTE
                points.append(
                    {
                        "point_id": number * 1_000 + len(points),
                        "entity_id": entity,
                        "trip_id": f"{entity}/{trip}",
                        "tracked_at": at,
                        "lon_deg": home_deg + draw(st.sampled_from([0.0, 4.9, -4.9, 5.1])),
                        "lat_deg": draw(st.sampled_from([0.0, 9.0, 10.0])) + 1e-6 * number,
                    }
                )
        made[entity] = points
    return made


def spans_of(
    connection: duckdb.DuckDBPyConnection, points: list[Point], rules: SplitRules
) -> list[Point]:
    """The split of these points, with the trips that they make."""
    connection.register("given_points", pa.Table.from_pylist(points, schema=POINTS))
    connection.execute("create or replace table clean_points as from given_points")
    connection.execute(
        "create or replace table trips as select trip_id, entity_id, min(tracked_at) as started_at,"
        " max(tracked_at) as finished_at, count(*) as num_points from clean_points group by all"
    )
    draw_spans(connection, rules)
    return connection.table("split").to_arrow_table().to_pylist()


def is_in(span: Point, point: Point) -> bool:
    return (
        span["trip_id"] == point["trip_id"]
        and (span["from_at"] is None or span["from_at"] <= point["tracked_at"])
        and (span["until_at"] is None or point["tracked_at"] < span["until_at"])
    )


def percentile(name: str, seed: int = 1) -> int:
    return int(hashlib.md5(f"{seed}:{name}".encode()).hexdigest()[:8], 16) % 100


def drawn(name: str, test: int, validation: int) -> str:
    place = percentile(name)
    return "test" if place < test else "validation" if place < test + validation else "train"


def expected_split(point: Point, own: list[Point], rules: SplitRules) -> str | None:
    """Where a point belongs, looked up by going through all points of its entity."""
    trip = [other for other in own if other["trip_id"] == point["trip_id"]]
    if rules.kind == "random_window":
        stretch = trip.index(point) // rules.window_points
        name = f"{point['trip_id']}:{stretch}"
        return drawn(name, rules.test_percent, rules.validation_percent)
    if rules.kind == "time":
        return split_by_time(point["tracked_at"], own, rules)
    if rules.kind == "region":
        inside = [is_inside(other) for other in trip]
        if any(inside):
            return "test" if all(inside) else None
        return drawn(point["entity_id"], 0, rules.validation_percent)
    return drawn(point["entity_id"], rules.test_percent, rules.validation_percent)


def is_inside(point: Point) -> bool:
    # 170 E to 170 W, both edges in it, is 10 degrees about the date line.
    away_deg = abs((point["lon_deg"] + 360) % 360 - 180)
    return away_deg <= 10 and abs(point["lat_deg"]) <= 10


def split_by_time(at: datetime, own: list[Point], rules: SplitRules) -> str | None:
    instants = sorted(other["tracked_at"] for other in own)

    def cut_after(percent: int) -> datetime:
        return instants[math.ceil(len(instants) * (100 - percent) / 100) - 1]

    gap = timedelta(seconds=rules.purge_gap_s)
    test_at = cut_after(rules.test_percent)
    validation_at = cut_after(rules.test_percent + rules.validation_percent)

    def placed(instant: datetime) -> str | None:
        if instant >= test_at:
            return "test"
        if instant >= validation_at:
            return "validation" if instant < test_at - gap else None
        return "train" if instant < validation_at - gap else None

    found = [placed(instant) for instant in instants]
    if min(found.count(name) for name in SPLITS) < rules.window_points:
        return "train"
    return placed(at)


@pytest.mark.parametrize("kind", RULES)
@settings(max_examples=40)
@given(made=movers())
def test_each_point_is_where_a_slow_loop_puts_it(connection, kind, made):
    rules = RULES[kind]
    points = [point for own in made.values() for point in own]
    spans = spans_of(connection, points, rules)
    assert not connection.execute(sql.read("checks/split_spans_are_disjoint")).fetchall()
    for point in points:
        found = [span["split"] for span in spans if is_in(span, point)]
        wanted = expected_split(point, made[point["entity_id"]], rules)
        assert found == ([] if wanted is None else [wanted])
    if kind in ("entity", "random_window"):
        assert all(any(is_in(span, point) for span in spans) for point in points)
    parts = [span["part_id"] for span in spans]
    assert len(set(parts)) == len(parts)


@pytest.mark.parametrize("kind", RULES)
@settings(max_examples=25)
@given(made=movers(), seed=st.integers(0, 9))
def test_neither_others_nor_the_order_of_rows_move_an_entity(connection, kind, made, seed):
    points = [point for own in made.values() for point in own]
    spans = spans_of(connection, points, RULES[kind])
    name = split_hash(connection)
    mixed = random.Random(seed).sample(points, len(points))
    assert spans_of(connection, mixed, RULES[kind]) == spans
    assert split_hash(connection) == name
    for entity, own in made.items():
        alone = spans_of(connection, own, RULES[kind])
        assert alone == [span for span in spans if span["entity_id"] == entity]


def test_the_hash_tells_one_cut_from_another(connection):
    points = [
        {"point_id": n, "entity_id": "a", "trip_id": "a", "tracked_at": START + n * MINUTE}
        | {"lon_deg": 0.01 * n, "lat_deg": 0.0}
        for n in range(40)
    ]
    names = set()
    for gap_s in (60.0, 61.0, 60.0):
        rules = RULES["time"].model_copy(update={"purge_gap_s": gap_s})
        spans = spans_of(connection, points, rules)
        assert {span["split"] for span in spans} == set(SPLITS)
        names.add(split_hash(connection))
    assert len(names) == 2


# Configuration ----------------------------------------------------------------------------------


def test_a_split_rests_only_on_what_its_kind_asks_for():
    def rules(kind: str, **window: int) -> SplitRules:
        split = SplitConfig(kind=kind, **(BOX if kind == "region" else {}))
        return PipelineConfig(split=split, window=WindowConfig(**window)).split_rules

    for kind in ("entity", "region"):
        assert rules(kind) == rules(kind, num_context=30)
    for kind in ("time", "random_window"):
        assert rules(kind) != rules(kind, num_context=30)
    # 27 steps of two sampling steps of six hours each.
    assert rules("time").purge_gap_s == 27 * 2 * 6 * 3_600


def test_the_purge_gap_is_never_shorter_than_a_window():
    def gap_s(**split: float) -> float:
        return PipelineConfig(
            dataset="geolife", split=SplitConfig(kind="time", **split)
        ).split_rules.purge_gap_s

    assert gap_s() == 39 * 2 * 5
    assert gap_s(purge_gap_s=10) == gap_s()
    assert gap_s(purge_gap_s=86_400) == 86_400


@pytest.mark.parametrize("edges", [{}, {"west_deg": 5, "east_deg": 5, "north_deg": 1}])
def test_a_region_without_a_size_is_refused(edges):
    with pytest.raises(ValueError, match="a region split needs"):
        SplitConfig(kind="region", **edges)
