"""The dataset synthetic: through the same ingest and clean as any source, and judged by its truth.

What the clean stage rejects is compared with the outliers that were put in.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.points import prepared, rows_of, total
from helpers.raw_files import ledger_of, part_folders, points_of, rejects_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from model.earth.point_rules import distance_m
from model.synthetic.world import KINDS, World
from tasks.config.pipeline import BUCKET_POINTS, PipelineConfig, SyntheticConfig
from tasks.ingest import synthetic_orders
from tasks.ingest.ingest import SNAPSHOT, snapshot_job
from tasks.ingest.inventory import looked_at
from tasks.ingest.readers import synthetic
from tasks.ingest.readers.records import Piece
from tasks.ingest.snapshot import read_snapshot
from tasks.prepare import clean
from tasks.runtime.errors import ConfigError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store

MAX_SPEED_MPS = 50.0


def config_of(**settings: Any) -> PipelineConfig:
    return PipelineConfig(dataset="synthetic", synthetic=SyntheticConfig(**settings))


def ingested(store: Store, config: PipelineConfig) -> Receipt:
    return SNAPSHOT.plain(snapshot_job(config, "", store))


def cleaned(store: Store, config: PipelineConfig) -> tuple[Receipt, list[Receipt]]:
    snapshot = ingested(store, config)
    with without_orchestrator():
        return snapshot, clean.clean(config, snapshot, store)


def content(store: Store, config: PipelineConfig) -> list[dict[str, Any]]:
    rows = points_of(read_snapshot(store, ingested(store, config)))
    return sorted(rows, key=lambda row: (row["entity_id"], row["tracked_at"]))


def test_a_changed_order_is_made_again(store):
    config = config_of(num_entities=2, num_points=20)
    rows = content(store, config)
    [order] = store.root.glob("orders/*/*/orders/*.jsonl")
    text = order.read_text()
    order.write_text(text.replace('"stop": 2', '"stop": 1'))
    assert content(store, config) == rows
    assert order.read_text() == text
    assert len(list((store.root / "snapshot" / "synthetic").iterdir())) == 1


# The configuration and the world are one.


def test_the_configuration_is_the_world():
    assert World(**SyntheticConfig().world) == World()
    kinds = SyntheticConfig.model_json_schema()["properties"]["kind"]["enum"]
    assert kinds == list(KINDS)


def test_a_wrong_world_is_a_wrong_request(store: Store):
    with pytest.raises(ConfigError, match="is no gap"):
        snapshot_job(config_of(gap_s=100), "", store)
    with pytest.raises(ValidationError, match="num_points"):
        config_of(num_points=1)


def test_a_source_beside_the_generator_is_refused(store: Store, tmp_path: Path):
    with pytest.raises(ConfigError, match="leave --source empty"):
        snapshot_job(config_of(), str(tmp_path), store)


def test_the_section_counts_for_this_dataset_only(store: Store):
    def recipe_of(dataset: str, **settings: Any) -> str:
        config = config_of(**settings).model_copy(update={"dataset": dataset})
        return snapshot_job(config, "", store).recipe.digest

    assert recipe_of("hurdat2") == recipe_of("hurdat2", seed=1, num_points=30)
    ours = {
        recipe_of("synthetic", **settings)
        for settings in ({}, {"seed": 1}, {"num_points": 30}, {"kind": "ar1"}, {"noise_m": 2.0})
    }
    assert len(ours) == 5


# The same ingest as any source.


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_counted_and_kept(kind, store: Store):
    receipt = ingested(store, config_of(kind=kind, num_entities=30, num_points=40))
    assert receipt.counts["num_records"] == receipt.counts["num_points"] == 1_200
    assert receipt.counts["num_rejected"] == 0
    rows = points_of(read_snapshot(store, receipt))
    assert len({row["point_id"] for row in rows}) == 1_200
    assert Counter(row["entity_id"] for row in rows) == {
        f"{kind}-{index:07d}": 40 for index in range(30)
    }
    assert all(row["tracked_at"].tzinfo is not None for row in rows)


def test_entities_come_out_as_the_generator_makes_them(store: Store):
    config = config_of(kind="people", num_entities=7, num_points=60)
    rows = content(store, config)
    made = [
        one
        for index in range(7)
        for one in synthetic.trajectories(World(**config.synthetic.world), index, index + 1)
    ]
    for name in ("lon_deg", "lat_deg", "true_lon_deg", "is_outlier", "is_after_gap", "is_anomaly"):
        expected = np.concatenate([getattr(one, f"{name}_T") for one in made])
        assert [row[name] for row in rows] == expected.tolist()
    modes = [one.modes[code] for one in made for code in one.mode_T.tolist()]
    assert [row["mode"] for row in rows] == modes


def test_more_entities_generate_only_those_that_are_new(store: Store, monkeypatch):
    monkeypatch.setattr(synthetic_orders, "POINTS_PER_ORDER", 200)
    before = content(store, config_of(num_entities=10, num_points=40))
    snapshot = read_snapshot(store, ingested(store, config_of(num_entities=13, num_points=40)))
    after = [row for row in points_of(snapshot) if int(row["entity_id"][-7:]) < 10]
    name = "place"
    assert [(r[name], r["tracked_at"]) for r in placed(after)] == [
        (r[name], r["tracked_at"]) for r in placed(before)
    ]
    read = [pq.read_table(folder / "files.parquet")["name"].to_pylist() for folder in parts(store)]
    assert sorted(map(len, read)) == [1, 2]
    assert [len(row) for row in [ledger_of(snapshot)]] == [3]


def placed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [row | {"place": (row["entity_id"], row["lon_deg"], row["lat_deg"])} for row in rows]
    return sorted(found, key=lambda row: (row["entity_id"], row["tracked_at"]))


def parts(store: Store) -> list[Path]:
    return part_folders(store, "synthetic")


def test_how_orders_are_cut_changes_no_entity(store: Store, tmp_path: Path, monkeypatch):
    config = config_of(num_entities=11, num_points=40)
    whole = placed(content(store, config))
    monkeypatch.setattr(synthetic_orders, "POINTS_PER_ORDER", 120)
    other = Store(tmp_path / "other")
    cut = placed(content(other, config))
    assert [row["place"] for row in whole] == [row["place"] for row in cut]


def test_two_stores_hold_equal_bytes(store: Store, tmp_path: Path):
    config, other = config_of(num_entities=9, num_points=40), Store(tmp_path / "other")
    one, two = ingested(store, config), ingested(other, config)
    assert one == two
    assert [part.name for part in parts(store)] == [part.name for part in parts(other)]
    for here, there in zip(parts(store), parts(other), strict=True):
        for path in sorted(here.glob("*.parquet")):
            assert path.read_bytes() == (there / path.name).read_bytes()


def test_orders_do_not_depend_on_where_they_stand(store: Store, tmp_path: Path):
    config = config_of(num_entities=9)
    folder = synthetic_orders.ordered(config, "", store)
    other = synthetic_orders.ordered(config, "", Store(tmp_path / "other"))
    assert looked_at([folder], "*.jsonl")[0] == looked_at([other], "*.jsonl")[0]


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"start": 0, "stop": 1}', b"\xff"])
def test_what_is_no_order_is_a_reject(text):
    order = {"start": 0, "stop": 2, "world": {"kind": "markov", "num_points": 4}}
    body = text + b"\n" + json.dumps(order).encode() + b"\n"
    bad, good = synthetic.generated([Piece(7, 1, body)])
    assert (bad.records.num_rows, list(bad.malformed)) == (0, [(7, 1)])
    assert bad.raw_texts([(7, 1)]) == [text.decode("utf-8", "replace")]
    assert bad.records.schema.names == good.records.schema.names
    assert (good.records.num_rows, good.num_records) == (8, Counter({7: 8}))


orders_lines = st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")) | st.lists(
    st.sampled_from(
        [b'{"start":0,', b'"stop":1,', b'"world":{', b'"kind":"markov"', b'"seed":1e999', b"}",
         b'"num_points":2,', b"[" * 3_000, b"null", b"\xff", b"NaN", b"-1", b'"lat_deg":91,']
    ),
    max_size=8,
).map(b"".join)  # fmt: skip


@settings(max_examples=100)
@given(st.lists(orders_lines, max_size=4))
@example([b"[" * 100_000, b'{"start":0,"stop":1,"world":{"num_points":2,"interval_s":1e999}}'])
def test_any_bytes_as_orders_are_counted(lines):
    piece = Piece(7, 1, b"".join(line + b"\n" for line in lines))
    blocks = list(synthetic.generated([piece]))
    assert len(blocks) == len(piece.lines())
    for block in blocks:
        assert block.num_records[7] == block.records.num_rows + len(block.malformed) >= 1


# The truth beside it.


def test_a_person_who_stays_is_at_the_place_of_a_visit(store: Store):
    config = config_of(kind="people", num_entities=6, num_points=400, noise_m=0, outlier_share=0)
    rows = content(store, config)
    [folder] = parts(store)
    visits = [
        v for v in pq.read_table(folder / "truth.parquet").to_pylist() if v["event"] == "visit"
    ]
    assert {visit["name"] for visit in visits} >= {"home", "work"}
    staying = [row for row in rows if row["mode"] == "stay"]
    assert staying
    for row in staying[::7]:
        [visit] = [
            visit
            for visit in visits
            if visit["entity_id"] == row["entity_id"]
            and visit["started_at"] <= row["tracked_at"] < visit["finished_at"]
        ]
        away_m = distance_m(visit["lon_deg"], visit["lat_deg"], row["lon_deg"], row["lat_deg"])
        assert away_m < 0.01


# Clean, judged by the truth.


@pytest.mark.parametrize("kind", KINDS)
def test_without_outliers_no_speed_is_impossible(kind, store: Store):
    config = config_of(kind=kind, num_entities=60, num_points=200, outlier_share=0.0)
    snapshot, receipts = cleaned(store, config)
    counts = total(receipts)
    assert counts["points"] == snapshot.counts["num_points"] == 12_000
    assert counts["kept"] + counts["rejected"] == 12_000
    assert counts["rejected"] == counts["rejected_short_trip"]


def judged(store: Store, config: PipelineConfig) -> tuple[list[dict[str, Any]], set[int]]:
    """All points in the order of entities and time, and the ids of those rejected for speed."""
    snapshot, receipts = cleaned(store, config)
    rejects = rows_of(store, receipts, "clean_rejects.parquet")
    fast = {row["point_id"] for row in rejects if row["rule"] == "impossible_speed"}
    rows = points_of(read_snapshot(store, snapshot))
    return sorted(rows, key=lambda row: (row["entity_id"], row["tracked_at"])), fast


def test_the_outliers_are_what_clean_rejects(store: Store):
    rows, fast = judged(store, config_of(num_entities=200, num_points=300))
    outliers = {row["point_id"] for row in rows if row["is_outlier"]}
    recall = len(outliers & fast) / len(outliers)
    precision = len(outliers & fast) / len(fast)
    # An outlier of some 500 m can be reached in 10 s, and then hides the point after it.
    assert recall > 0.94
    assert precision > 0.94


def test_every_outlier_out_of_reach_is_rejected_and_no_point_far_from_one(store: Store):
    rows, fast = judged(store, config_of(num_entities=200, num_points=300, gap_share=0.0))
    num_far = 0
    for place in range(2, len(rows) - 2):
        near = rows[place - 2 : place + 3]
        if len({row["entity_id"] for row in near}) > 1:
            continue
        before, row, after = near[1:4]
        if not any(other["is_outlier"] for other in near):
            assert row["point_id"] not in fast
        elif [other["is_outlier"] for other in near] == [False, False, True, False, False]:
            if not (is_reachable(before, row) or is_reachable(row, after)):
                num_far += 1
                assert row["point_id"] in fast
                assert not {before["point_id"], after["point_id"]} & fast
    assert num_far > 300


def is_reachable(a: dict[str, Any], b: dict[str, Any]) -> bool:
    away_m = distance_m(a["lon_deg"], a["lat_deg"], b["lon_deg"], b["lat_deg"])
    return away_m <= MAX_SPEED_MPS * (b["tracked_at"] - a["tracked_at"]).total_seconds()


@pytest.mark.parametrize("kind", ["vehicles", "people"])
def test_gaps_become_the_borders_of_trips(kind, store: Store):
    config = config_of(kind=kind, num_entities=40, num_points=300, outlier_share=0, gap_share=0.01)
    snapshot, receipts = cleaned(store, config)
    trips = {r["point_id"]: r["trip_id"] for r in rows_of(store, receipts, "clean_points.parquet")}
    rows = points_of(read_snapshot(store, snapshot))
    rows.sort(key=lambda row: (row["entity_id"], row["tracked_at"]))
    num_gaps = np.cumsum([row["is_after_gap"] for row in rows]).tolist()
    pieces = [(row["entity_id"], gaps) for row, gaps in zip(rows, num_gaps, strict=True)]
    num_points = Counter(pieces)
    expected = {piece for piece in pieces if num_points[piece] >= config.clean.min_points}
    found = {
        (piece, trips[row["point_id"]])
        for row, piece in zip(rows, pieces, strict=True)
        if row["point_id"] in trips
    }
    # Between two gaps is one trip, and in a trip is no gap; what is too short is in none.
    assert len(found) == len(expected) == len(set(trips.values()))
    assert {piece for piece, _trip in found} == expected
    assert len(expected) > 120


def test_the_shards_hold_no_truth(store: Store):
    config = config_of(num_entities=40, num_points=60, anomaly_share=0.5)
    receipt = prepared(config, ingested(store, config), store)
    folder = store.folder(receipt)
    names = {name for path in folder.glob("*-000.parquet") for name in pq.read_schema(path).names}
    assert "lon_deg" in names
    assert not {name for name in names if name.startswith("true_")}
    assert not names & {"mode", "is_outlier", "is_anomaly", "is_after_gap", "region_id"}


def test_no_record_is_rejected_by_ingest_at_a_pole(store: Store):
    config = config_of(num_entities=5, num_points=40, lon_deg=180.0, lat_deg=90.0)
    receipt = ingested(store, config)
    snapshot = read_snapshot(store, receipt)
    assert rejects_of(snapshot) == []
    assert {row["lon_deg"] < 0 for row in points_of(snapshot)} == {True, False}


def test_many_points_are_spread_over_more_buckets():
    """A bucket is cleaned in one piece: it must not grow with the number of trips."""
    few = PipelineConfig(dataset="synthetic")
    many = PipelineConfig(dataset="synthetic", synthetic={"num_entities": 1_000_000})
    assert few.ingest_rules.num_buckets == 4
    assert many.ingest_rules.num_buckets == 500_000_000 / BUCKET_POINTS
