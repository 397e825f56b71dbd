"""Shards: every trip whole in one split, the same bytes on any machine, and no fault unseen."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.points import (
    bucket_of,
    cleaned_of,
    point,
    prepared,
    rows_of,
    snapshot_of,
    table_of,
    total,
    walk,
    walks,
)

from model.data.reading import read_windows
from model.data.shards import Shards
from model.features.normaliser import Normaliser
from tasks.config.pipeline import CleanConfig, PipelineConfig, SplitConfig
from tasks.database import regrouped
from tasks.ingest.ingest import ingest
from tasks.prepare import clean, shards
from tasks.prepare.shards import cut_groups
from tasks.prepare.split import SPLITS
from tasks.runtime.errors import DataError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store

CONFIG = PipelineConfig(
    clean=CleanConfig(max_gap_s=600, min_points=2),
    split=SplitConfig(validation_percent=30, test_percent=30),
)


def made(store: Store, num_entities: int = 20, num_points: int = 60) -> Receipt:
    return prepared(CONFIG, snapshot_of(store, table_of(walks(num_entities, num_points))), store)


def trips_of(store: Store, receipt: Receipt):
    folder = store.folder(receipt)
    return [
        row | {"file": path.name}
        for path in sorted(folder.glob("*-[0-9]*.parquet"))
        for row in pq.ParquetFile(path, page_checksum_verification=True).read().to_pylist()
    ]


def test_each_trip_stands_whole_in_the_file_of_its_split(store: Store):
    receipt = made(store)
    trips = trips_of(store, receipt)
    given = {row["tracked_at"]: row for row in walk("e003", 60, 3)}
    [trip] = [trip for trip in trips if trip["entity_id"] == "e003"]
    assert [row["lon_deg"] for row in given.values()] == trip["lon_deg"]
    assert [row["lat_deg"] for row in given.values()] == trip["lat_deg"]
    assert trip["t_s"] == [10.0 * number for number in range(60)]
    assert len(trips) == 20
    for trip in trips:
        assert trip["file"].startswith(f"{trip['split']}-00")
        assert trip["dataset"] == "hurdat2"
        assert trip["step_s"][0] == trip["turn_rad"][0] == trip["turn_rad"][1] == 0
    for name in {trip["file"] for trip in trips}:
        ids = [trip["trip_id"] for trip in trips if trip["file"] == name]
        assert ids == sorted(ids)


def test_stored_features_are_the_steps_cut_to_float32(store: Store):
    receipt = made(store)
    stored = {trip["trip_id"]: trip for trip in trips_of(store, receipt)}
    places = [
        Receipt(stage="features", dataset="hurdat2", recipe=recipe, counts={})
        for recipe in store.manifest(receipt).lineage["featured"]
    ]
    steps = rows_of(store, places, "steps.parquet")
    for name in ("step_s", "step_east_m", "step_north_m", "speed_mps", "turn_rad"):
        for trip_id, trip in stored.items():
            exact = [row[name] for row in steps if row["trip_id"] == trip_id]
            assert trip[name][1:] == np.float32(exact).tolist()


def test_the_reader_of_the_model_takes_them(store: Store):
    receipt = made(store)
    found = Shards.open(store.folder(receipt))
    num_context = CONFIG.windowing.num_context
    batches = read_windows(found, "train", 64, num_context)
    windows = sum(len(batch.entity_id_B) for batch in batches)
    assert windows == receipt.counts["windows_train"] > 0
    fitted = json.loads((store.folder(receipt) / "normaliser.json").read_text())
    assert Normaliser.from_json(fitted).num_steps == fitted["num_steps"] > 0


def test_the_normaliser_is_that_of_an_independent_quantile(store: Store):
    receipt = made(store)
    trips = [trip for trip in trips_of(store, receipt) if trip["split"] == "train"]
    fitted = json.loads((store.folder(receipt) / "normaliser.json").read_text())
    speed_mps = np.concatenate([trip["speed_mps"][1:] for trip in trips])
    expected = np.quantile(speed_mps, [0.1, 0.5, 0.9], method="inverted_cdf")
    assert list(fitted["speed_mps"].values()) == pytest.approx(expected.tolist(), rel=1e-6)
    assert fitted["num_steps"] == speed_mps.size
    assert fitted["step_s"] == {"p10": 10.0, "p50": 10.0, "p90": 10.0}


def test_test_entities_do_not_move_the_normaliser(store: Store):
    before = made(store)
    entities = {trip["entity_id"]: trip["split"] for trip in trips_of(store, before)}
    held = next(entity for entity, name in entities.items() if name == "test")
    points = [
        row | ({"lat_deg": row["lat_deg"] * 1.0001} if row["entity_id"] == held else {})
        for row in walks(20, 60)
    ]
    after = prepared(CONFIG, snapshot_of(store, table_of(points, file_id=2)), store)
    assert before.recipe != after.recipe
    texts = [(store.folder(it) / "normaliser.json").read_text() for it in (before, after)]
    assert texts[0] == texts[1]


def test_neither_threads_nor_layout_change_a_byte(tmp_path, monkeypatch):
    points = walks(20, 60)
    one = [table_of(points)]
    three = [
        with_file_id(one[0].slice(at, 400), file_id)
        for at, file_id in zip((800, 0, 400), (1, 2, 3), strict=True)
    ]
    files = []
    for number, (threads, parts) in enumerate([("1", one), ("2", one), ("2", three)]):
        monkeypatch.setenv("TRAJFOUNDRY_NUM_THREADS", threads)
        store = Store(tmp_path / str(number))
        store.prepare()
        receipt = prepared(CONFIG, snapshot_of(store, *parts), store)
        files.append(store.manifest(receipt).files)
    assert files[0] == files[1] == files[2]


def with_file_id(table: pa.Table, file_id: int) -> pa.Table:
    """The same points as if they had come in another file."""
    place = table.schema.get_field_index("file_id")
    return table.set_column(place, "file_id", pa.array([file_id] * table.num_rows, pa.int64()))


def test_a_bucket_without_any_good_point_adds_nothing(store: Store):
    good = table_of([row for row in walks(30, 60) if bucket_of(row["entity_id"], 2) == 0])
    bad = table_of([point("a", 0, 0.0, 0.0)], file_id=2)
    assert bucket_of("a", 2) == 1
    receipt = prepared(CONFIG, snapshot_of(store, good, bad), store)
    assert {trip["file"][-11:] for trip in trips_of(store, receipt)} == {"000.parquet"}


def test_row_groups_end_with_the_trip_that_fills_them():
    trips = pa.table({"num_points": [3, 4, 5, 20, 1, 1]})
    sizes = [group["num_points"].to_pylist() for group in cut_groups(trips, group_points=7)]
    assert sizes == [[3, 4], [5, 20], [1, 1]]


def test_a_reader_hands_out_rows_in_order_whatever_the_batches():
    batches = [
        pa.record_batch({"x": pa.array(range(a, b), pa.int64())})
        for a, b in ((0, 3), (3, 3), (3, 10))
    ]
    reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    taken = [table["x"].to_pylist() for table in regrouped(reader, (2, 0, 5, 2, 3))]
    assert taken == [[0, 1], [], [2, 3, 4, 5, 6], [7, 8], [9]]


def test_trips_that_name_too_many_points_are_refused():
    trips = pa.table({"num_points": [2, 3]})
    with pytest.raises(DataError, match="1 points more"):
        shards.with_points(trips, pa.table({"t_s": [0.0, 1.0, 2.0, 3.0]}), shards.POINT_COLUMNS)


def test_row_groups_hold_many_trips(store: Store, monkeypatch):
    monkeypatch.setattr(shards.cut_groups, "__defaults__", (120,))
    receipt = made(store)
    sizes = [
        file.metadata.row_group(group).num_rows
        for path in store.folder(receipt).glob("train-*.parquet")
        for file in [pq.ParquetFile(path)]
        for group in range(file.num_row_groups)
    ]
    assert set(sizes) <= {1, 2}
    assert 2 in sizes


def test_data_too_short_for_a_window_are_said_so(store: Store):
    with pytest.raises(DataError, match=r"no trip in train and validation and test is long"):
        made(store, num_points=CONFIG.windowing.num_points - 1)


# A fault planted in written shards, and the check that must see it.


def faulty(table, change):
    """Written rows after a change, as the file would hold them."""
    rows = table.to_pylist()
    change(rows)
    return pa.Table.from_pylist(rows, schema=table.schema)


def lose(rows):
    del rows[0]


def cut(rows):
    rows[0]["t_s"] = rows[0]["t_s"][:-1]


def poison(rows):
    rows[0]["step_east_m"][3] = float("nan")


def half_a_report(rows):
    rows[0]["reported_east_mps"][3] = float("nan")


def endless_report(rows):
    rows[0]["reported_north_mps"][3] = float("inf")


def short_report(rows):
    rows[0]["reported_east_mps"] = rows[0]["reported_east_mps"][:-1]


def move(rows):
    rows[0]["split"] = "test" if rows[0]["split"] == "train" else "train"


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lose, "shards_conserve_points"),
        (cut, "shards_conserve_points"),
        (move, "shards_conserve_points"),
        (poison, "shards_are_whole"),
        (half_a_report, "shards_report_motion"),
        (endless_report, "shards_report_motion"),
        (short_report, "shards_report_motion"),
    ],
)
def test_a_fault_in_a_shard_stops_the_run(store: Store, monkeypatch, change, check):
    write = shards.write_trips

    def write_faulty(path, *given):
        write(path, *given)
        if path.name == "train-000.parquet":
            pq.write_table(faulty(pq.read_table(path), change), path)

    monkeypatch.setattr(shards, "write_trips", write_faulty)
    points = [row | {"speed_mps": 3.0, "course_deg": 50.0} for row in walks(20, 60)]
    with pytest.raises(DataError, match=check):
        prepared(CONFIG, snapshot_of(store, table_of(points)), store)


# Golden: real storms from the embedded sample, and real people where the sample is at hand.


def ingested(dataset: str, source: str, store: Store) -> Receipt:
    with without_orchestrator():
        return ingest(PipelineConfig(dataset=dataset), source, store)


def test_the_storms_of_the_embedded_sample(store: Store):
    config = PipelineConfig()
    snapshot = ingested("hurdat2", "", store)
    receipt = prepared(config, snapshot, store)
    trips = trips_of(store, receipt)
    points = sum(len(trip["t_s"]) for trip in trips)
    assert (len(trips), points) == (1_918, 49_473)
    assert len({trip["entity_id"] for trip in trips}) == 1_918
    names = ("trips", "windows")
    found = {name: [receipt.counts[f"{name}_{split}"] for split in SPLITS] for name in names}
    assert found == {"trips": [1_517, 219, 182], "windows": [2_359, 280, 310]}
    # A storm of 28 fixes has a window; one every 4 fixes after that.
    sizes = np.array([len(trip["t_s"]) for trip in trips])
    assert sum((sizes[sizes >= 28] - 28) // 4 + 1) == 2_359 + 280 + 310
    judged = [
        row["entity_id"]
        for row in rows_of(store, [receipt], "windows.parquet")
        if (row["task"], row["split"]) == ("forecast", "test")
    ]
    assert (len(judged), len({*judged})) == (310, 79)


@pytest.mark.slow
def test_the_people_of_the_geolife_sample(store: Store, shared_dir):
    config = PipelineConfig(dataset="geolife")
    snapshot = ingested("geolife", str(shared_dir / "data" / "geolife-sample.zip"), store)
    cleaned = cleaned_of(config, snapshot, store)
    counts = total(cleaned)
    assert counts["points"] == snapshot.counts["num_points"] == 2_944_569
    assert counts["kept"] + counts["rejected"] == counts["points"]
    assert {rule: counts[f"rejected_{rule}"] for rule in clean.RULES} == {
        **dict.fromkeys(("unset_clock", "before_satellites", "later_than_upload"), 0),
        **dict.fromkeys(("out_of_range", "null_island", "stale_position"), 0),
        "exact_duplicate": 4_437,
        "same_instant": 20_611,
        "impossible_speed": 5_563,
        "short_trip": 838,
    }
    receipt = prepared(config, snapshot, store)
    assert [receipt.counts[f"trips_{split}"] for split in SPLITS] == [4_210, 706, 1_382]
