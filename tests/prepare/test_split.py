"""The split: copies stay together, nobody moves without a reason, and nothing is empty unsaid."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import pyarrow as pa
import pytest
from helpers.points import (
    cleaned_of,
    point,
    prepared,
    read_csv,
    rows_of,
    snapshot_of,
    table_of,
    walk,
    walks,
)
from hypothesis import given
from hypothesis import strategies as st

from tasks import database
from tasks.config.pipeline import (
    AssessConfig,
    CleanConfig,
    PipelineConfig,
    SplitConfig,
    WindowConfig,
)
from tasks.prepare import split as split_module
from tasks.prepare.split import SPLITS, connected
from tasks.runtime.errors import DataError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store

DEGREE_M = 111_195.080233
SEED_OF_SIX = 0  # puts a user of six in each split
HALVES = SplitConfig(validation_percent=30, test_percent=30)


def config_of(split: SplitConfig = HALVES, seed: int = 0) -> PipelineConfig:
    return PipelineConfig(clean=CleanConfig(max_gap_s=600, min_points=2), split=split, seed=seed)


def drawn(store: Store, points, config: PipelineConfig | None = None) -> Receipt:
    config = config or config_of()
    snapshot = snapshot_of(store, table_of(points))
    with without_orchestrator():
        return split_module.split(config, cleaned_of(config, snapshot, store), store)


def split_of(store: Store, receipt: Receipt) -> dict[str, tuple[str, str]]:
    """Group and split of each entity."""
    rows = rows_of(store, [receipt], "split.parquet")
    return {row["entity_id"]: (row["content_group"], row["split"]) for row in rows}


def renamed(points, entity_id: str):
    return [row | {"entity_id": entity_id} for row in points]


def test_new_entities_move_no_old_one(store: Store):
    before = split_of(store, drawn(store, walks(12)))
    after = split_of(store, drawn(store, walks(30)))
    assert before.items() <= after.items()
    assert {split for _, split in after.values()} == set(SPLITS)


def test_the_seed_draws_anew_and_alone(store: Store):
    first = split_of(store, drawn(store, walks(20), config_of(seed=1)))
    again = split_of(store, drawn(store, walks(20)[::-1], config_of(seed=1)))
    other = split_of(store, drawn(store, walks(20), config_of(seed=2)))
    assert first == again != other


def test_shares_are_near_what_was_asked(store: Store):
    points = [made for n in range(1_000) for made in walk(f"n{n}", 2, seed=n % 700)]
    found = Counter(
        split
        for _, split in split_of(
            store, drawn(store, points, config_of(SplitConfig(validation_percent=10)))
        ).values()
    )
    # Three standard deviations of a binomial count are 28.
    assert abs(found["validation"] - 100) < 30
    assert abs(found["test"] - 100) < 30


def test_copies_of_copies_are_one_group(store: Store):
    """b copies a's trip; c copies another of b's: all three belong together."""
    first, second = walk("a", 15, 1), walk("b", 15, 2)
    later = [row | {"tracked_at": row["tracked_at"].replace(day=9, hour=1)} for row in second]
    points = first + renamed(first, "b") + later + renamed(later, "c") + walks(12)
    receipt = drawn(store, points)
    found = split_of(store, receipt)
    assert {found[name] for name in "abc"} == {found["a"]}
    assert found["a"][0] == "a"
    assert receipt.counts["content_groups"] == receipt.counts["entities"] - 2
    assert receipt.counts["copied_trip_pairs"] == 2


@pytest.mark.parametrize(("num_shared", "is_copy"), [(9, False), (10, True)])
def test_ten_places_make_a_copy(store: Store, num_shared, is_copy):
    path, other = walk("a", 30, 1), walk("b", 30, 2)
    points = path + renamed(path[:num_shared], "b") + other[num_shared:] + walks(12)
    config = PipelineConfig(
        clean=CleanConfig(max_gap_s=600, min_points=2, max_speed_mps=1e6), split=HALVES
    )
    found = split_of(store, drawn(store, points, config))
    assert (found["a"][0] == found["b"][0]) == is_copy


def test_two_taxis_at_one_stand_are_no_copies(store: Store):
    waiting = [point("a", 10 * n, 14.4, 50.1) for n in range(50)]
    points = waiting + renamed(waiting, "b") + walks(12)
    assert split_of(store, drawn(store, points))["b"][0] == "b"


@pytest.mark.parametrize(("start", "is_one"), [(29, True), (30, False)])
def test_a_storm_that_goes_on_under_another_name_is_of_its_group(store: Store, start, is_one):
    """One fix is shared, if any: the last of the one is the first of the other."""
    path = walk("a", 60, 99)
    receipt = drawn(store, path[:30] + renamed(path[start:], "z") + walks(12))
    found = split_of(store, receipt)
    assert (found["a"][0] == found["z"][0]) == is_one
    assert receipt.counts["continued_entity_pairs"] == is_one


def test_a_short_trip_that_is_copied_whole_is_a_copy(store: Store):
    path = walk("a", 7, 1)
    found = split_of(store, drawn(store, path + renamed(path, "b") + walks(12)))
    assert found["a"] == found["b"]


@given(
    pairs=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")), max_size=9)
)
def test_groups_are_the_components_of_the_pairs(pairs):
    found = dict(zip("abcdefgh", connected("abcdefgh", pairs), strict=True))
    reach = {name: {name} for name in "abcdefgh"}
    for _ in reach:
        for a, b in pairs:
            reach[a] |= reach[b]
            reach[b] |= reach[a]
    assert found == {name: min(names) for name, names in reach.items()}


def test_too_few_entities_are_said_so(store: Store):
    with pytest.raises(DataError, match=r"no entity falls into .*: 2 entities in 2 groups"):
        drawn(store, walks(2))


def test_a_split_that_parts_copies_stops_the_run(store: Store, monkeypatch):
    """The check in the stage, over a grouping that overlooks copies."""
    monkeypatch.setattr(split_module, "content_groups", everyone_alone)
    path = walk("a", 30, 1)
    points = [made for n in range(20) for made in renamed(path, f"e{n}")]
    with pytest.raises(DataError, match="No trip has a copy in another split"):
        drawn(store, points)


def everyone_alone(con: database.Connection) -> pa.Table:
    return con.sql(
        "select distinct entity_id, entity_id as content_group from trips"
    ).to_arrow_table()


def test_windows_of_copies_are_never_apart(store: Store):
    """A trip under two names gives windows in one split only, however many there are."""
    path = walk("a", 50, 1)
    points = path + renamed(path, "z") + walks(12, 50)
    receipt = prepared(config_of(), snapshot_of(store, table_of(points)), store)
    rows = rows_of(store, [receipt], "windows.parquet")
    assert len({row["split"] for row in rows if row["entity_id"] in "az"}) == 1


def test_the_windows_of_a_copied_trip_stay_on_one_side(store: Store):
    """Seven points a user make four windows of four points, and d's gap leaves one of its own."""
    rows = read_csv("copied_trip/trips.csv")
    points = [
        point(row["user"], 0, 5 + float(row["x"]) / DEGREE_M, float(row["y"]) / DEGREE_M)
        | {"tracked_at": datetime.fromisoformat(row["t"]), "source_trip_id": row["trip"]}
        for row in rows
    ]
    config = PipelineConfig(
        clean=CleanConfig(max_gap_s=600, min_points=2),
        split=SplitConfig(validation_percent=40, test_percent=20),
        window=WindowConfig(num_context=2, num_horizon=2, stride=1, tasks=("forecast",)),
        assess=AssessConfig(horizons=(1, 2), gate_horizon=2),
        seed=SEED_OF_SIX,
    )
    receipt = prepared(config, snapshot_of(store, table_of(points)), store)
    windows = rows_of(store, [receipt], "windows.parquet")
    per_user = Counter(row["entity_id"] for row in windows)
    assert per_user == {"a": 4, "b": 4, "c": 4, "d": 1, "e": 4, "f": 4}
    assert len({row["split"] for row in windows if row["entity_id"] in "be"}) == 1
