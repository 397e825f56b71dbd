"""Packed rows: the same crops with hardly a pad, each blind to its neighbours, at the same loss."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from helpers.batches import assert_all_same, crops, read_crops, used
from helpers.shards import write_shards
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.collate import first_fit
from model.data.epoch_plan import generator, packs
from model.families import build
from model.families.chemin import network
from model.features.normaliser import Normaliser, Quantiles
from model.interface.batch import Batch

LENGTHS = [5, 1, 40, 17, 2, 33, 90, 8, 12, 64, 3, 29]
NORMALISER = Normaliser(100, Quantiles(2, 9, 18), Quantiles(5, 12, 40), Quantiles(20, 100, 300))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, {"train": LENGTHS}, rows_per_group=3)


def read(shards, batching, **changes):
    options = {"split": "train", "seed": 7, "batch_size": 3, "max_points": 16, "num_epochs": 1}
    return list(read_crops(shards, batching=batching, **(options | changes)))


def exact_model(seed=0):
    """The small family in float64, every weight random."""
    torch.manual_seed(seed)
    model = build("chemin", "tiny", NORMALISER).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def loss_of(model, batches):
    with torch.no_grad():
        losses = [model.loss(batch) for batch in batches]
    return sum(float(loss.total) for loss in losses), sum(int(loss.count) for loss in losses)


@settings(max_examples=8)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    max_points=st.integers(4, 24),
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 3),
)
def test_packed_and_unpacked_epochs_cost_the_same(
    tmp_path_factory, lengths, max_points, batch_size, seed
):
    folder = tmp_path_factory.mktemp("shards")
    shards = write_shards(folder, {"train": lengths})
    options = {"max_points": max_points, "batch_size": batch_size, "seed": seed}
    packed, plain = (read(shards, batching, **options) for batching in ("packed", "bucketed"))
    assert used(packed) == used(plain)
    model = exact_model()
    total, count = loss_of(model, packed)
    plain_total, plain_count = loss_of(model, plain)
    assert count == plain_count == sum(size - 1 for _, _, size in crops(plain))
    assert total == pytest.approx(plain_total, rel=1e-10, abs=1e-10)


def spoilt(batch: Batch, number: int) -> Batch:
    """The batch with every other sequence of each row moved, turned, and made slower."""
    is_other_BT = (batch.sequence_BT != number) & ~batch.is_pad_BT
    noise = torch.rand(is_other_BT.shape, generator=torch.Generator().manual_seed(1)).double()
    return replace(
        batch,
        lon_deg_BT=torch.where(is_other_BT, 40 * noise, batch.lon_deg_BT),
        lat_deg_BT=torch.where(is_other_BT, 40 * noise, batch.lat_deg_BT),
        time_s_BT=torch.where(is_other_BT, 1e5 * noise, batch.time_s_BT),
        calendar_BTK=torch.where(is_other_BT.unsqueeze(-1), 0.5, batch.calendar_BTK),
    )


def hidden(model, batch):
    index_BT = torch.arange(batch.is_pad_BT.shape[1]).expand_as(batch.is_pad_BT)
    points = (batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT, batch.calendar_BTK)
    with torch.no_grad():
        return model.encode(*points, index_BT, batch.sequence_BT)[0]


def blind_to_neighbours(model, batches):
    """Whether what the model makes of a sequence stays the same, bit by bit."""
    for batch in batches:
        for number in range(int(batch.sequence_BT.max()) + 1):
            is_own_BT = (batch.sequence_BT == number) & ~batch.is_pad_BT
            before, after = hidden(model, batch), hidden(model, spoilt(batch, number))
            if not torch.equal(before[is_own_BT], after[is_own_BT]):
                return False
    return True


def test_a_neighbour_in_the_row_has_no_effect(shards, monkeypatch):
    model = exact_model()
    batches = read(shards, "packed")
    assert any(int(batch.sequence_BT.max()) > 0 for batch in batches)
    assert blind_to_neighbours(model, batches)
    # The planted fault: rows without the mask, and the loss that goes with them.
    expected, _ = loss_of(model, read(shards, "bucketed"))
    monkeypatch.setattr(network, "causal_mask", lambda sequence_BT: None)
    assert not blind_to_neighbours(model, batches)
    assert loss_of(model, batches)[0] != pytest.approx(expected, rel=1e-6)


def test_a_packed_sequence_is_its_crop(shards):
    """Times, steps and targets of each sequence count from its own first point."""
    plain = {}
    for batch in read(shards, "bucketed"):
        for row in range(len(batch.window_id_B)):
            plain[int(batch.window_id_B[row])] = batch.part(row, row + 1)
    for batch in read(shards, "packed"):
        for row in range(len(batch.window_id_B)):
            for number, window_id in enumerate(batch.window_ids(row)):
                is_own_T = (batch.sequence_BT[row] == number) & ~batch.is_pad_BT[row]
                alone = plain[window_id]
                is_point_T = ~alone.is_pad_BT[0]
                for name in batch.columns():
                    if "_BT" in name and name != "sequence_BT":
                        ours, theirs = getattr(batch, name)[row], getattr(alone, name)[0]
                        assert torch.equal(ours[is_own_T], theirs[is_point_T]), name


def test_packed_rows_are_full_in_order_and_padded_on_the_right(shards):
    batches = read(shards, "packed", pool_points=10**6)
    for batch in batches:
        assert batch.is_pad_BT.shape[1] == 16
        assert (batch.is_pad_BT.int().diff(dim=1) >= 0).all()
        turn_BT = batch.sequence_BT.diff(dim=1)
        assert ((turn_BT == 0) | (turn_BT == 1)).all()
        assert (batch.sequence_BT[:, 0] == 0).all()
        assert torch.equal(batch.window_id_B, batch.window_id_BS[:, 0])
    pads = sum(int(batch.is_pad_BT.sum()) for batch in batches)
    assert pads < 0.05 * sum(batch.num_points for batch in batches)


def test_packed_epochs_go_on_from_every_cursor(shards):
    whole = read(shards, "packed", num_epochs=3, pool_points=60)
    for place, batch in enumerate(whole):
        rest = read(shards, "packed", num_epochs=3, pool_points=60, start=batch.cursor)
        assert_all_same(rest, whole[place + 1 :])


def test_a_batch_without_finite_loss_names_all_windows_of_its_row(shards):
    batch = max(read(shards, "packed"), key=lambda batch: int(batch.sequence_BT.max()))
    row = int(batch.sequence_BT.max(dim=1).values.argmax())
    named = batch.window_ids(row)
    assert len(named) == int(batch.sequence_BT[row].max()) + 1 > 1
    assert batch.part(row, row + 1).window_ids(0) == named
    others = {"cursor", "split", "journeys", "stands_for_BT", "reported_mps_BTC", "kind_B"}
    assert {entry.name for entry in fields(Batch)} == {*batch.columns(), *others}


def slow_first_fit(sizes, max_points):
    rows, room = [], []
    for size in sizes:
        row = next((row for row, left in enumerate(room) if left >= size), len(room))
        if row == len(room):
            room.append(max_points)
        room[row] -= size
        rows.append(row)
    return rows


@given(sizes=st.lists(st.integers(1, 30), max_size=60), seed=st.integers(0, 9))
def test_first_fit_is_first_fit_and_packs_hold_each_crop_once(sizes, seed):
    num_points_Q = np.array(sizes, np.int64)
    assert first_fit(num_points_Q, 30).tolist() == slow_first_fit(sizes, 30)
    batches = packs(num_points_Q, 4, 30, generator(seed))
    assert sorted(np.concatenate([[], *(crop for crop, _ in batches)])) == list(range(len(sizes)))
    for crop_Q, num_crops_B in batches:
        assert 1 <= len(num_crops_B) <= 4
        assert num_crops_B.min() >= 1
        for row_Q in np.split(num_points_Q[crop_Q], np.cumsum(num_crops_B)[:-1]):
            assert row_Q.sum() <= 30
