"""Visits in batches: true to the rows, padded on the right, and read as points are read."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.visits import places_of, write_visit_shards

from model.data.loader import StateError, TripLoader
from model.data.options import Reading
from model.data.reading import read_batches, read_windows
from model.data.shards import ShardError
from model.data.visits import TASK, VisitShards
from model.earth.calendar import calendar_of
from model.features.places import NUM_SPECIAL, Special
from model.interface.batch import ROW_BITS
from model.interface.visit_batch import VisitBatch, calendar_of_visits, hour_of_week

ZONE = "Pacific/Auckland"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LENGTHS = {"train": [9, 2, 31, 5, 1, 17, 40, 3, 12, 7], "test": [6, 4, 20]}
TOLD = ("cursor", "split")  # of a batch, which are no tensors
COLUMNS = [entry.name for entry in fields(VisitBatch) if entry.name not in TOLD]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_visit_shards(tmp_path_factory.mktemp("visits"), LENGTHS, zone=ZONE)


@pytest.fixture(scope="module")
def whole(shards):
    return list(read_batches(shards, Reading("train", 7, 3, 8), num_epochs=2))


def assert_all_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert (a.cursor, a.split) == (b.cursor, b.split)
        for name in COLUMNS:
            assert getattr(a, name).dtype == getattr(b, name).dtype
            assert torch.equal(getattr(a, name), getattr(b, name)), name


def rows_in(folder, split="train"):
    return pq.read_table(folder / f"{split}-000.parquet").to_pylist()


def check_row(batch, row, told, start, shards):
    """One row of a batch against the row of the shard that it was cut out of."""
    num_visits = int((~batch.is_pad_BV[row]).sum())
    here = slice(start, start + num_visits)
    arrived_us = np.array(told["arrived_us"][here])
    left_us = arrived_us + np.rint(np.array(told["duration_s"][here]) * 1e6).astype(int)
    is_pad_V = np.arange(batch.is_pad_BV.shape[1]) >= num_visits
    assert np.array_equal(batch.is_pad_BV[row], is_pad_V)
    assert batch.region_BV[row, :num_visits].tolist() == told["region_id"][here]
    assert set(batch.region_BV[row, num_visits:].tolist()) <= {Special.PAD}
    since_us = (batch.arrived_s_BV[row, :num_visits].numpy() * 1e6).round().astype(int)
    assert np.array_equal(since_us, arrived_us - arrived_us[0])
    until_us = (batch.left_s_BV[row, :num_visits].numpy() * 1e6).round().astype(int)
    assert np.array_equal(until_us, left_us - arrived_us[0])
    assert batch.is_censored_BV[row, :num_visits].tolist() == told["is_censored"][here]
    assert batch.is_way_seen_BV[row, :num_visits].tolist() == told["is_way_seen"][here]
    place = (torch.from_numpy(np.array(told[name][here])) for name in ("lon_deg", "lat_deg"))
    east_m, north_m = shards.places.local_m(*place)
    torch.testing.assert_close(batch.east_m_BV[row, :num_visits], east_m, rtol=0, atol=1e-6)
    torch.testing.assert_close(batch.north_m_BV[row, :num_visits], north_m, rtol=0, atol=1e-6)
    clocks = [
        (EPOCH + timedelta(microseconds=int(at))).astimezone(ZoneInfo(ZONE)) for at in arrived_us
    ]
    hours = [24 * clock.weekday() + clock.hour for clock in clocks]
    assert hour_of_week(batch.calendar_BVK)[row, :num_visits].tolist() == hours
    return num_visits


def test_crops_are_the_visits_of_their_rows(shards, whole):
    rows = rows_in(shards.folder)
    seen = {}
    for batch in whole:
        for row, number in enumerate(batch.window_id_B.tolist()):
            index, start = number >> ROW_BITS, number & ((1 << ROW_BITS) - 1)
            size = check_row(batch, row, rows[index], start, shards)
            assert size == min(8, LENGTHS["train"][index])
            seen[index] = seen.get(index, 0) + 1
    assert seen == {
        index: 2 * -(-size // 8) for index, size in enumerate(LENGTHS["train"]) if size > 1
    }


def test_every_visit_but_the_first_is_a_target_and_no_pad_is(whole):
    for batch in whole:
        assert not batch.is_target_BV[:, 0].any()
        assert torch.equal(batch.is_target_BV[:, 1:], ~batch.is_pad_BV[:, 1:])
        assert not (batch.is_censored_BV & batch.is_pad_BV).any()
        # Time only goes on, pads included: no logarithm of a negative travel or stay.
        assert (batch.duration_s_BV >= 0).all()
        assert (batch.travel_s_BV >= 0).all()
        assert not batch.duration_s_BV[batch.is_pad_BV].any()
        assert not batch.travel_s_BV[batch.is_pad_BV].any()


def test_travel_is_known_where_the_way_was_seen_after_a_stay_that_ended(whole):
    for batch in whole:
        num_rows, num_visits = batch.region_BV.shape
        expected = [
            [
                visit > 0
                and bool(batch.is_way_seen_BV[row, visit] & ~batch.is_censored_BV[row, visit - 1])
                for visit in range(num_visits)
            ]
            for row in range(num_rows)
        ]
        assert batch.is_travel_known_BV.tolist() == expected
    assert any(batch.is_travel_known_BV.any() for batch in whole)


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_stored_windows_hide_their_last_visit_in_any_batch(shards, batch_size):
    rows = {row["entity_id"]: row for row in rows_in(shards.folder, "test")}
    starts = {
        row["window_id"]: row["start"]
        for row in pq.read_table(shards.folder / "windows.parquet").to_pylist()
    }
    parts = list(read_windows(shards, "test", batch_size, task=TASK))
    alone = [part.batch for part in read_windows(shards, "test", 1, task=TASK)]
    number = 0
    for part in parts:
        for row, window_id in enumerate(part.batch.window_id_B.tolist()):
            told, start = rows[part.entity_id_B[row]], starts[window_id]
            assert check_row(part.batch, row, told, start, shards) == 4
            assert part.batch.is_target_BV[row].tolist() == [False] * 3 + [True]
            assert int(part.started_us_B[row]) == told["arrived_us"][start]
            assert_all_same([part.batch.part(row, row + 1)], [alone[number]])
            number += 1
    assert number == sum(size - 3 for size in LENGTHS["test"])


def test_any_place_is_a_place_to_go_on_from(shards, whole):
    for place, batch in enumerate(whole):
        rest = read_batches(shards, Reading("train", 7, 3, 8), start=batch.cursor, num_epochs=2)
        assert_all_same(list(rest), whole[place + 1 :])


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_windows_and_take_the_same_steps(shards, whole, world):
    reading = Reading("train", 7, 3, 8)
    ranks = [
        list(read_batches(shards, reading, num_epochs=2, rank=rank, world=world))
        for rank in range(world)
    ]
    assert len({len(part) for part in ranks}) == 1
    theirs = [n for part in ranks for batch in part for n in batch.window_id_B.tolist() if n >= 0]
    ours = [number for batch in whole for number in batch.window_id_B.tolist()]
    assert sorted(theirs) == sorted(ours)


def test_the_loader_of_torch_goes_on_from_its_state(shards, whole):
    def loader(**changes):
        options = {"split": "train", "seed": 7, "batch_size": 3, "max_points": 8, "num_epochs": 2}
        return TripLoader(shards, **(options | changes))

    first, second = loader(), loader(prefetch=2)
    taken = list(itertools.islice(first, 4))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert_all_same([*taken, *second], whole)
    with pytest.raises(StateError):
        loader(seed=8).load_state_dict(first.state_dict())


def test_a_row_of_pads_alone_is_one(shards):
    draft = shards.draft(2, 3, 1)
    batch = draft.batch()
    assert batch.is_pad_BV.all()
    assert (batch.region_BV == Special.PAD).all()
    assert batch.num_points == 0
    assert not batch.is_target_BV.any()
    assert all(torch.isfinite(getattr(batch, name)).all() for name in COLUMNS)


def test_packed_windows_are_refused(shards):
    with pytest.raises(ValueError, match="not packed"):
        next(read_batches(shards, Reading("train", 7, 3, 8, "packed")))


# Places ------------------------------------------------------------------------------------------


def test_what_train_does_not_know_is_unknown_and_stands_at_its_own_cell(shards):
    rows = rows_in(shards.folder, "test")
    regions = {region for row in rows for region in row["region_id"]}
    assert Special.UNKNOWN in regions
    assert {region for row in rows_in(shards.folder) for region in row["region_id"]} == set(
        range(NUM_SPECIAL, shards.places.num_ids)
    )
    [part] = read_windows(shards, "test", 100, task=TASK)
    is_unknown_BV = part.batch.region_BV == Special.UNKNOWN
    centre_m_R = torch.stack(shards.places.centres_m(), dim=-1)
    place_m_BVC = torch.stack([part.batch.east_m_BV, part.batch.north_m_BV], dim=-1)
    away_m_BV = torch.linalg.vector_norm(place_m_BVC - centre_m_R[part.batch.region_BV], dim=-1)
    assert away_m_BV[~is_unknown_BV].max() < 1e-6
    assert away_m_BV[is_unknown_BV].min() > 500


def test_a_model_with_other_places_is_told_by_those(shards):
    known = shards.places.cells
    other = places_of(known[::-1][:2], centroid_lon_deg=-179.9)
    told = VisitShards.open(shards.folder, ZONE, other)
    new_id = {
        NUM_SPECIAL + known.index(cell): NUM_SPECIAL + number
        for number, cell in enumerate(other.cells)
    }
    pairs = zip(
        read_batches(shards, Reading("train", 7, 3, 8), num_epochs=1),
        read_batches(told, Reading("train", 7, 3, 8), num_epochs=1),
        strict=True,
    )
    for ours, theirs in pairs:
        is_visit = ~ours.is_pad_BV
        found = [
            new_id.get(number, Special.UNKNOWN) for number in ours.region_BV[is_visit].tolist()
        ]
        assert theirs.region_BV[is_visit].tolist() == found
        ours_deg = shards.places.degrees(ours.east_m_BV[is_visit], ours.north_m_BV[is_visit])
        theirs_deg = other.degrees(theirs.east_m_BV[is_visit], theirs.north_m_BV[is_visit])
        for a_deg, b_deg in zip(ours_deg, theirs_deg, strict=True):
            torch.testing.assert_close(a_deg, b_deg, rtol=0, atol=1e-9)


def test_exact_places_are_of_the_history_alone(shards):
    exact = VisitShards.open(shards.folder, ZONE, place="exact")
    rows = {row["entity_id"]: row for row in rows_in(shards.folder, "test")}
    pairs = zip(
        read_windows(shards, "test", 4, task=TASK),
        read_windows(exact, "test", 4, task=TASK),
        strict=True,
    )
    for ours, theirs in pairs:
        for name in ("east_m_BV", "north_m_BV"):
            by_region, by_fix = getattr(ours.batch, name), getattr(theirs.batch, name)
            assert torch.equal(by_region[:, -1], by_fix[:, -1])
            assert not torch.equal(by_region[:, :-1], by_fix[:, :-1])
        for row, entity_id in enumerate(theirs.entity_id_B):
            told = rows[entity_id]
            start = told["arrived_us"].index(int(theirs.started_us_B[row]))
            lon_deg, lat_deg = exact.places.degrees(
                theirs.batch.east_m_BV[row, :3], theirs.batch.north_m_BV[row, :3]
            )
            assert lon_deg.tolist() == pytest.approx(told["exact_lon_deg"][start : start + 3])
            assert lat_deg.tolist() == pytest.approx(told["exact_lat_deg"][start : start + 3])


@pytest.mark.parametrize("text", ["", "{}", '{"cells": []}'])
def test_shards_without_their_places_are_refused(tmp_path, text):
    shards = write_visit_shards(tmp_path, {"train": [4]})
    (shards.folder / "places.json").write_text(text)
    with pytest.raises(ShardError, match=r"places\.json"):
        VisitShards.open(shards.folder)


def test_every_hour_of_a_week_is_told_apart():
    every_us = np.arange(168) * 3_600_000_000
    told = calendar_of(every_us, ZONE)
    found = hour_of_week(torch.from_numpy(calendar_of_visits(every_us, ZONE)))
    assert found.tolist() == (24 * told["weekday"] + told["hour"]).tolist()
