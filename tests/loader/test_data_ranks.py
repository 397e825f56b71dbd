"""Ranks share an epoch: the same crops whatever their number, each once, in equally many steps."""

from __future__ import annotations

import itertools

import pytest
from helpers.batches import assert_all_same, crops, read_crops, used
from helpers.shards import write_shards
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data import epoch_plan
from model.data.options import Reading
from model.data.reading import read_batches
from model.data.shards import Shards, read_group
from model.interface.batch import Cursor

LENGTHS = [5, 1, 40, 17, 2, 33, 90, 8, 12, 64, 3, 29]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, {"train": LENGTHS}, rows_per_group=3)


def read(shards, **changes):
    options = {"split": "train", "seed": 7, "batch_size": 4, "max_points": 16, "num_epochs": 1}
    return list(read_crops(shards, **(options | changes)))


def of_ranks(shards, world, **changes):
    return [read(shards, rank=rank, world=world, **changes) for rank in range(world)]


def shares_the_epoch(parts, whole):
    """Nothing dropped, nothing doubled, as many steps and the same places for each rank."""
    cursors = [[batch.cursor for batch in part] for part in parts]
    return used(itertools.chain(*parts)) == used(whole) and all(
        places == cursors[0] for places in cursors
    )


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=16),
    rows_per_group=st.integers(1, 6),
    batch_size=st.integers(1, 6),
    pool_points=st.integers(1, 200),
    world=st.integers(1, 7),
    batching=st.sampled_from(["bucketed", "packed"]),
)
def test_any_number_of_ranks_shares_any_epoch(
    tmp_path_factory, lengths, rows_per_group, batch_size, pool_points, world, batching
):
    folder = tmp_path_factory.mktemp("shards")
    shards = write_shards(folder, {"train": lengths}, rows_per_group=rows_per_group)
    options = {"batch_size": batch_size, "pool_points": pool_points, "batching": batching}
    whole = read(shards, **options)
    parts = of_ranks(shards, world, **options)
    assert shares_the_epoch(parts, whole)
    assert len(parts[0]) == -(-len(whole) // world)
    assert all(len(batch.window_id_B) <= batch_size for part in parts for batch in part)


@pytest.mark.parametrize("batching", ["bucketed", "packed"])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_a_round_of_all_ranks_is_the_next_batches_of_one(shards, world, batching):
    whole = read(shards, batching=batching)
    parts = of_ranks(shards, world, batching=batching)
    for step, batches in enumerate(zip(*parts, strict=True)):
        alone = whole[step * world : (step + 1) * world]
        assert used(batches) == used(alone)
        if len(alone) == world and step < len(parts[0]) - 1:
            assert [crops([batch]) for batch in batches] == [crops([batch]) for batch in alone]


def test_a_rank_without_a_crop_gets_a_row_of_pads(tmp_path):
    shards = write_shards(tmp_path, {"train": [5, 6]})
    parts = of_ranks(shards, 4, batch_size=8)
    assert [len(part) for part in parts] == [1, 1, 1, 1]
    assert sorted(part[0].num_points for part in parts) == [0, 0, 5, 6]
    for (batch,) in parts:
        if batch.num_points == 0:
            assert batch.is_pad_BT.all()
            assert not batch.is_target_BT.any()
            assert not batch.is_observed_BT.any()
            assert batch.window_id_B.tolist() == [-1]
            assert all(value.isfinite().all() for value in batch.columns().values())


@pytest.mark.parametrize(
    "share", [lambda round_, *_: (), lambda round_, *_: tuple(round_)], ids=["dropped", "doubled"]
)
def test_a_last_round_that_is_dropped_or_doubled_would_be_noticed(shards, monkeypatch, share):
    whole = read(shards)
    world = next(n for n in (2, 3, 4) if len(whole) % n)
    monkeypatch.setattr(epoch_plan, "dealt", share)
    assert not shares_the_epoch(of_ranks(shards, world), whole)


def test_ranks_that_take_what_is_left_would_differ_in_steps(shards):
    """The planted fault: batches dealt out like cards, the last round as it comes."""
    whole = read(shards)
    world = next(n for n in (2, 3, 4) if len(whole) % n)
    assert not shares_the_epoch([whole[rank::world] for rank in range(world)], whole)


@pytest.mark.parametrize("batching", ["bucketed", "packed"])
def test_each_rank_goes_on_from_every_cursor(shards, batching):
    options = {"rank": 1, "world": 3, "num_epochs": 3, "pool_points": 60, "batching": batching}
    whole = read(shards, **options)
    for place, batch in enumerate(whole):
        assert_all_same(read(shards, start=batch.cursor, **options), whole[place + 1 :])


def test_the_number_of_ranks_may_change_at_any_step(shards):
    whole = used(read(shards))
    before = of_ranks(shards, 2)
    for step in range(len(before[0]) - 1):
        start = before[0][step].cursor
        after = of_ranks(shards, 3, start=start)
        taken = [batch for part in before for batch in part[: step + 1]]
        assert used(taken) + used(itertools.chain(*after)) == whole


def test_a_pool_is_skipped_without_reading_its_points(shards, monkeypatch):
    whole = read(shards, pool_points=60)
    read_groups = []

    def watched(self, group, points):
        read_groups.append(group)
        return read_group(group, points)

    monkeypatch.setattr(Shards, "read", watched)
    read(shards, pool_points=60)
    in_all = len(read_groups)
    read_groups.clear()
    rest = read(shards, pool_points=60, start=whole[-2].cursor)
    assert_all_same(rest, whole[-1:])
    assert 0 < len(read_groups) < in_all


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_outside_the_world_is_refused(shards, rank, world):
    with pytest.raises(ValueError, match="is none of"):
        next(read_batches(shards, Reading("train", 7, 4, 16), Cursor(), 1, rank, world))
