"""Shards of vehicles as the notebooks read them: whole, of different lengths, with their scales."""

from __future__ import annotations

import torch

from model.data.loader import TripLoader
from model.families import read_fitted
from model.synthetic.world import World, trajectory
from notebooks.vehicles import SHORTEST, write_vehicles

WORLD = World(num_points=40, outlier_share=0.0, gap_share=0.0)


def test_every_vehicle_is_read_once_as_it_was_seen(tmp_path):
    write_vehicles(tmp_path, WORLD, {"train": range(200)}, 25)  # to be replaced
    shards = write_vehicles(tmp_path, WORLD, {"train": range(60), "test": range(60, 70)}, 25)
    assert [path.name for path in shards.files["train"]] == [
        f"train-{number:03d}.parquet" for number in range(3)
    ]
    batches = list(TripLoader(shards, "train", 0, 8, WORLD.num_points, num_epochs=1))
    found = {
        int(number): (batch, row)
        for batch in batches
        for row, number in enumerate(batch.window_id_B >> 32)
    }
    assert sorted(found) == list(range(60))
    for index, (batch, row) in found.items():
        num_points = int((~batch.is_pad_BT[row]).sum())
        assert SHORTEST <= num_points <= WORLD.num_points
        seen_T = torch.from_numpy(trajectory(WORLD, index).lon_deg_T[:num_points])
        assert torch.equal(batch.lon_deg_BT[row, :num_points], seen_T)
    assert len({int(batch.num_points) for batch in batches}) > 1


def test_scales_are_those_of_train(tmp_path):
    write_vehicles(tmp_path, WORLD, {"train": range(200), "test": range(200, 210)})
    normaliser = read_fitted(tmp_path, "chemin")
    assert 9 < normaliser.step_s.p50 < 11
    assert 3 < normaliser.speed_mps.p90 < 25
    assert normaliser.num_steps > 200 * (SHORTEST - 1)
