"""The loader: every trip in every epoch, exact times, and the identical rest from any cursor."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.batches import assert_same, crops, read_crops
from helpers.shards import write_shards
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.data import point_buffer, reading
from model.data.collate import BatchBuilder, CropPlacement, PointColumns
from model.data.reading import observed_mask, read_windows
from model.data.shards import ShardError, Shards, read_group, row_groups
from model.earth.calendar import calendar_features
from model.earth.calendar_tables import clock_of
from model.features.point_features import steps_of
from model.interface.batch import Cursor

LENGTHS = [5, 1, 40, 17, 2, 33, 90, 8, 12, 64, 3, 29]


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path, {"train": LENGTHS, "test": [45, 60, 41]}, rows_per_group=3)


def read(shards, **changes):
    options = {"split": "train", "seed": 7, "batch_size": 4, "max_points": 16, "num_epochs": 1}
    return list(read_crops(shards, **(options | changes)))


def covers_every_trip(batches, lengths, max_points):
    """How often each trip is used is what its length asks for."""
    used = [row for row, _, _ in crops(batches)]
    wanted = [0 if n < 2 else -(-n // max_points) for n in lengths]
    return [used.count(row) for row in range(len(lengths))] == wanted


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    rows_per_group=st.integers(1, 6),
    batch_size=st.integers(1, 7),
    max_points=st.integers(2, 20),
    pool_points=st.integers(1, 200),
    seed=st.integers(0, 3),
)
def test_every_trip_is_used_as_often_as_its_length_asks(
    tmp_path_factory, lengths, rows_per_group, batch_size, max_points, pool_points, seed
):
    folder = tmp_path_factory.mktemp("shards")
    shards = write_shards(folder, {"train": lengths}, rows_per_group=rows_per_group)
    options = {"batch_size": batch_size, "max_points": max_points, "seed": seed}
    batches = read(shards, pool_points=pool_points, **options)
    assert covers_every_trip(batches, lengths, max_points)
    for row, start, size in crops(batches):
        assert 2 <= size == min(max_points, lengths[row])
        assert 0 <= start <= lengths[row] - size
    # A loader that loses its last batch would be noticed.
    if batches:
        assert not covers_every_trip(batches[:-1], lengths, max_points)


@pytest.mark.parametrize("pool_points", [50, 10**6])
def test_a_batch_holds_the_points_of_its_trips(shards, pool_points):
    table = pq.read_table(sorted(shards.folder.glob("train-*.parquet")))
    for batch in read(shards, pool_points=pool_points):
        for row, (trip, start, size) in enumerate(crops([batch])):
            record = table.slice(trip, 1).to_pylist()[0]
            stretch = slice(start, start + size)
            assert batch.lon_deg_BT[row, :size].tolist() == record["lon_deg"][stretch]
            assert batch.lat_deg_BT[row, :size].tolist() == record["lat_deg"][stretch]
            east_m = torch.tensor(record["step_east_m"][stretch])
            assert torch.equal(batch.step_BTF[row, 1:size, 0], east_m[1:])
            assert (batch.step_BTF[row, 0] == 0).all()
            assert (batch.step_BTF[row, size:] == 0).all()
            assert batch.is_target_BT[row].tolist() == [
                0 < i < size for i in range(batch.is_pad_BT.shape[1])
            ]
            assert batch.is_pad_BT[row].tolist() == [
                i >= size for i in range(batch.is_pad_BT.shape[1])
            ]


def test_stored_steps_are_those_of_the_points(shards):
    for batch in read(shards):
        step_BTF = steps_of(batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT)
        points_BT = ~batch.is_pad_BT
        torch.testing.assert_close(
            batch.step_BTF[points_BT], step_BTF[points_BT].float(), rtol=1e-6, atol=1e-3
        )


def test_padding_is_on_the_right_and_little(shards):
    batches = read(shards, pool_points=10**6)
    assert all((batch.is_pad_BT.int().diff(dim=1) >= 0).all() for batch in batches)
    assert all(not batch.is_pad_BT.all(dim=0).any() for batch in batches)
    pads = sum(int(batch.is_pad_BT.sum()) for batch in batches)
    assert pads < 0.25 * sum(batch.num_points for batch in batches)


def test_times_are_exact_to_the_microsecond(tmp_path):
    started_at = datetime(2026, 3, 29, 0, 59, 59, 999_999, tzinfo=UTC)
    t_s = [0.0, 0.000001, 1.000001, 1e6 + 1e-6, 86_400 * 365.25 + 0.123457]
    shards = write_shards(
        tmp_path, {"train": [5]}, started_at=started_at, t_s=t_s, zone="Europe/London"
    )
    batch = read(shards)[0]
    assert batch.time_s_BT[0].tolist() == [round(value * 1e6) / 1e6 for value in t_s]
    start_us = 1774745999999999
    instant_us = np.array([start_us + round(value * 1e6) for value in t_s])
    expected = torch.from_numpy(calendar_features(instant_us, "Europe/London"))
    assert torch.equal(batch.calendar_BTK[0], expected)
    # One microsecond before summer time begins, and after: an hour apart on the clock.
    assert not torch.allclose(batch.calendar_BTK[0, 0, 2:4], batch.calendar_BTK[0, 1, 2:4])


def test_the_rest_is_identical_from_every_cursor(shards):
    whole = read(shards, num_epochs=3, pool_points=60)
    assert len(whole) > 12
    for place, batch in enumerate(whole):
        rest = read(shards, num_epochs=3, pool_points=60, start=batch.cursor)
        assert len(rest) == len(whole) - place - 1
        for ours, theirs in zip(rest, whole[place + 1 :], strict=True):
            assert_same(ours, theirs)


def test_a_cursor_that_lags_would_be_noticed(shards):
    first, second, *_ = read(shards)
    lagging = read(shards, start=Cursor(0, first.cursor.batch - 1))
    with pytest.raises(AssertionError):
        assert_same(lagging[0], second)


def test_the_last_batch_of_an_epoch_points_at_the_next(shards):
    assert read(shards)[-1].cursor == Cursor(1, 0)
    assert [batch.cursor.batch for batch in read(shards)[:-1]] == list(range(1, len(read(shards))))


@settings(max_examples=60)
@given(
    zone=st.sampled_from(["UTC", "Europe/London", "America/Sao_Paulo", "Australia/Lord_Howe"]),
    start_us=st.integers(-4 * 10**15, 5 * 10**15),
    steps_us=st.lists(st.integers(0, 40 * 86_400 * 10**6), min_size=1, max_size=30),
)
def test_the_calendar_of_a_kernel_is_that_of_arrays(zone, start_us, steps_us):
    t_s_N = np.cumsum([0, *steps_us]) / 1e6
    size = len(t_s_N)
    place = (np.zeros(2, np.int64), np.array([start_us]), t_s_N, t_s_N, t_s_N)
    draft = BatchBuilder(1, size, 1, clock_of(zone))
    none = np.zeros(1, np.int64)
    rest = np.zeros((size, 3), np.float32), np.zeros((0, 2), np.float32)
    points = PointColumns(*place, *rest)
    draft.fill(points, CropPlacement(none, none, np.array([size]), none, none, none))
    instant_us_N = start_us + np.rint(t_s_N * 1e6).astype(np.int64)
    assert np.array_equal(draft.columns.calendar_BTK[0], calendar_features(instant_us_N, zone))


@pytest.mark.parametrize("zone", ["Europe/London", "Africa/Casablanca", "Asia/Kathmandu"])
def test_a_clock_changes_when_its_zone_does(zone):
    clock, days = clock_of(zone), ZoneInfo(zone)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for number, end_us in enumerate(clock.end_us_Z[:-1]):
        for place, instant_us in ((number, end_us - 10**6), (number + 1, end_us)):
            local = (epoch + timedelta(microseconds=int(instant_us))).astimezone(days)
            assert local.utcoffset() == timedelta(microseconds=int(clock.offset_us_Z[place]))


def test_epochs_and_seeds_differ_in_order_and_crops(shards):
    epochs = read(shards, num_epochs=2)
    half = len(read(shards))
    assert crops(epochs[:half]) != crops(epochs[half:])
    assert sorted(crops(epochs[:half])) != sorted(crops(epochs[half:]))
    assert crops(read(shards)) == crops(read(shards))
    assert crops(read(shards)) != crops(read(shards, seed=8))


def test_several_files_are_one_split(tmp_path):
    one = write_shards(tmp_path / "one", {"train": LENGTHS}, rows_per_group=3)
    many = write_shards(tmp_path / "many", {"train": LENGTHS}, rows_per_group=3, rows_per_file=6)
    assert len(many.files["train"]) == 2
    for ours, theirs in zip(read(one), read(many), strict=True):
        assert_same(ours, theirs)


def test_the_pool_bounds_what_is_held(shards, monkeypatch):
    held = []

    class Watched(point_buffer.PointBuffer):
        def of(self, pool):
            points = super().of(pool)
            held.append(len(self.held.t_s_N))
            return points

    monkeypatch.setattr(reading, "PointBuffer", Watched)
    read(shards, pool_points=50)
    largest_group = max(sum(LENGTHS[i : i + 3]) for i in range(0, len(LENGTHS), 3))
    assert max(held) < 50 + largest_group


def test_room_for_other_trips_is_refused(shards):
    group = row_groups(shards, "train")[0]
    offset_R = np.array([0, *np.cumsum(LENGTHS[:3])])
    whole = read_group(group, PointColumns.empty(offset_R))
    assert np.array_equal(whole.step_NF, read_group(group).step_NF)
    offset_R[1] += 1
    with pytest.raises(ShardError, match="other trips"):
        read_group(group, PointColumns.empty(offset_R))


def test_nothing_to_read_is_said_and_not_waited_for(tmp_path):
    shards = write_shards(tmp_path, {"train": [1, 1]})
    assert read(shards) == []
    with pytest.raises(ShardError, match="nothing to read"):
        read(shards, num_epochs=None)
    with pytest.raises(ShardError, match="nothing to read"):
        read(shards, num_epochs=None, split="no such split")


# Stored windows


def test_windows_come_in_order_with_context_and_targets(shards):
    parts = list(read_windows(shards, "test", batch_size=5, num_context=20))
    ids = torch.cat([part.batch.window_id_B for part in parts]).tolist()
    index = pq.read_table(shards.folder / "windows.parquet").to_pylist()
    expected = sorted(
        (row for row in index if row["split"] == "test"), key=lambda row: row["window_id"]
    )
    assert ids == [row["window_id"] for row in expected]
    assert [len(part.entity_id_B) for part in parts[:-1]] == [5] * (len(parts) - 1)
    entities = list(itertools.chain.from_iterable(part.entity_id_B for part in parts))
    assert entities == [row["entity_id"] for row in expected]
    for part in parts:
        assert part.batch.is_observed_BT[:, :20].all()
        assert not part.batch.is_observed_BT[:, 20:].any()
        assert torch.equal(part.batch.is_target_BT, ~part.batch.is_observed_BT)


@pytest.mark.parametrize("pool_points", [1, 500, 10**6])
def test_windows_hold_their_own_points(shards, pool_points):
    rows = pq.read_table(sorted(shards.folder.glob("test-*.parquet"))).to_pylist()
    trips = {row["trip_id"]: row for row in rows}
    index = {
        row["window_id"]: row
        for row in pq.read_table(shards.folder / "windows.parquet").to_pylist()
    }
    for part in read_windows(shards, "test", 4, num_context=20, pool_points=pool_points):
        for row, number in enumerate(part.batch.window_id_B.tolist()):
            window = index[number]
            trip = trips[window["trip_id"]]
            stretch = slice(window["start"], window["start"] + window["num_points"])
            assert part.batch.lon_deg_BT[row].tolist() == trip["lon_deg"][stretch]
            first_us = round(trip["started_at"].timestamp() * 1e6) + round(
                trip["t_s"][window["start"]] * 1e6
            )
            assert int(part.started_us_B[row]) == first_us


def random_masks(num_points_B, seed=0):
    """A mask of each window, as a column of the index."""
    generator = np.random.default_rng(seed)
    masks = [(generator.random(size) < 0.5).tolist() for size in num_points_B]
    return masks, pa.array(masks, pa.list_(pa.bool_()))


def test_masks_say_what_is_observed(shards):
    path = shards.folder / "windows.parquet"
    table = pq.read_table(path)
    masks, column = random_masks(table["num_points"].to_pylist())
    place = table.schema.get_field_index("is_observed")
    pq.write_table(table.set_column(place, "is_observed", column), path)
    by_id = dict(zip(table["window_id"].to_pylist(), masks, strict=True))
    for part in read_windows(shards, "test", 5):
        observed = [by_id[number] for number in part.batch.window_id_B.tolist()]
        assert part.batch.is_observed_BT.tolist() == observed
        assert torch.equal(part.batch.is_target_BT, ~part.batch.is_observed_BT)


def test_masks_of_windows_of_unequal_size_and_masks_that_do_not_fit():
    num_points_B = [2, 4, 3]
    masks, column = random_masks(num_points_B)
    index = {"num_points": pa.array(num_points_B, pa.int32()), "is_observed": column}
    for row, mask in enumerate(observed_mask(pa.table(index), 4).tolist()):
        assert mask == [*masks[row], *[False] * (4 - len(masks[row]))]
    longer = pa.table(index | {"num_points": pa.array([2, 4, 4], pa.int32())})
    with pytest.raises(ShardError, match="of each point"):
        observed_mask(longer, 4)


def test_windows_of_another_task_are_left_out(shards):
    path = shards.folder / "windows.parquet"
    table = pq.read_table(path)
    tasks = ["gaps" if number % 3 else "forecast" for number in table["window_id"].to_pylist()]
    place = table.schema.get_field_index("task")
    pq.write_table(table.set_column(place, "task", pa.array(tasks)), path)
    found = {
        task: [
            n
            for part in read_windows(shards, "test", 5, task=task)
            for n in part.batch.window_id_B.tolist()
        ]
        for task in ("forecast", "gaps")
    }
    assert found["forecast"]
    assert all(number % 3 == 0 for number in found["forecast"])
    assert found["gaps"]
    assert all(number % 3 for number in found["gaps"])


def test_windows_of_an_empty_split_are_none(shards):
    assert list(read_windows(shards, "validation", 4, num_context=20)) == []


def test_windows_without_horizon_or_trip_are_refused(shards, tmp_path):
    with pytest.raises(ShardError, match=r"20\] points of context, not 40"):
        next(read_windows(shards, "test", 4, num_context=40))
    path = shards.folder / "windows.parquet"
    table = pq.read_table(path)
    trip_id = pa.array(["unknown"] * len(table))
    pq.write_table(
        table.set_column(table.schema.get_field_index("trip_id"), "trip_id", trip_id), path
    )
    with pytest.raises(ShardError, match="no shard holds"):
        next(read_windows(shards, "test", 4, num_context=20))
    start = pa.array(np.full(len(table), 1_000, np.int32))
    pq.write_table(table.set_column(table.schema.get_field_index("start"), "start", start), path)
    with pytest.raises(ShardError, match="reaches over"):
        next(read_windows(shards, "test", 4, num_context=20))


# Damage


def test_a_flipped_byte_is_refused_with_its_place_or_changes_nothing(shards):
    path = shards.files["train"][0]
    sound, whole = path.read_bytes(), read(shards)
    group = pq.ParquetFile(path).metadata.row_group(1)
    columns = [group.column(number) for number in range(group.num_columns)]
    column = next(item for item in columns if item.path_in_schema.startswith("lon_deg"))
    first = column.dictionary_page_offset or column.data_page_offset
    refusals = []
    places = range(first, first + column.total_compressed_size, 11)
    for place in places:
        damaged = bytearray(sound)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            # What no checksum covers are statistics in page headers, which nobody reads.
            for ours, theirs in zip(read(shards), whole, strict=True):
                assert_same(ours, theirs)
        except ShardError as error:
            refusals.append(str(error))
    assert len(refusals) > 0.8 * len(places)
    assert all("train-000.parquet, row group 1" in refusal for refusal in refusals)


@pytest.mark.parametrize("num_bytes", [0, 3, 500])
def test_a_cut_file_is_refused(shards, num_bytes):
    path = shards.files["train"][0]
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(ShardError, match="train-000"):
        Shards.open(shards.folder)


def test_a_wrong_column_is_refused(shards):
    path = shards.files["train"][0]
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["t_s"]), path)
    with pytest.raises(ShardError, match="t_s is missing"):
        Shards.open(shards.folder)
    trip_id = pa.array(range(len(table)))
    pq.write_table(
        table.set_column(table.schema.get_field_index("trip_id"), "trip_id", trip_id), path
    )
    with pytest.raises(ShardError, match="trip_id is int64"):
        Shards.open(shards.folder)


def test_a_folder_without_window_index_is_refused(shards):
    (shards.folder / "windows.parquet").unlink()
    with pytest.raises(ShardError, match="incomplete"):
        Shards.open(shards.folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_numbers_that_are_none_are_refused(tmp_path, value):
    shards = write_shards(tmp_path, {"train": [4]})
    path = shards.files["train"][0]
    table = pq.read_table(path)
    place = table.schema.get_field_index("lat_deg")
    broken = pa.array([[1.0, value, 1.0, 1.0]], pa.list_(pa.float64()))
    pq.write_table(table.set_column(place, "lat_deg", broken), path)
    with pytest.raises(ShardError, match=r"not finite|nulls"):
        read(shards)


def test_lists_of_unequal_length_are_refused(tmp_path):
    shards = write_shards(tmp_path, {"train": [4]})
    path = shards.files["train"][0]
    table = pq.read_table(path)
    place = table.schema.get_field_index("lat_deg")
    broken = pa.array([[1.0, 1.0]], pa.list_(pa.float64()))
    pq.write_table(table.set_column(place, "lat_deg", broken), path)
    with pytest.raises(ShardError, match="unequal"):
        read(shards)


def test_a_moved_batch_is_the_same_batch(shards):
    batch = read(shards)[0]
    assert_same(batch, replace(batch.to("cpu")))
