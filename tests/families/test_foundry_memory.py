"""Foundry with a memory: it follows past trips, of others alone, and answers without them too."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.direct_guards import (
    check_a_point_is_told_alike_whatever_else_is_asked,
    check_rows_are_independent,
)
from helpers.past import flat
from helpers.served import frame_of
from helpers.shards import write_shards
from helpers.walks import STARTED_US, WALKING, batch_of, context_of, shaken, walk

from model.earth.geometry import haversine_m, step_from
from model.families import FAMILIES, build
from model.families.foundry.network import Foundry
from model.inference.api import forecast
from model.inference.point_frames import PointFrames
from model.inference.serving import Params, Trained, load_trained
from model.interface.batch import ROW_BITS
from model.interface.memory.fitting import fitted_memory
from model.interface.memory.joint import write_memory
from model.interface.memory.memory import MEMORY_FILE, Memory, nobody
from model.interface.memory.paths import PastPaths
from model.interface.sequence_rows import rows_of_batch
from model.training.config import FitConfig
from model.training.fit import Interrupted
from model.training.launch import Training, run

PLACELESS = replace(FAMILIES["foundry"].presets["tiny"], has_place=False)
NUM_POINTS = 24


def memory_of(points, started_us=STARTED_US, entity=None):
    """A memory of walks, each an entity of its own."""
    lon_deg_BT, lat_deg_BT, time_s_BT = (value.numpy() for value in points)
    trips = list(zip(time_s_BT, lon_deg_BT, lat_deg_BT, strict=True))
    entity_R = np.arange(len(trips)) if entity is None else np.array(entity)
    memory = fitted_memory(PastPaths.of(flat(trips, started_us), entity_R))
    return replace(memory, kin_of_row=memory.paths.kin_R)


def remembering(memory, family=Foundry):
    model = shaken(family, PLACELESS, spread=0.05)
    model.memory = memory
    return model


def train_batch(points):
    """Walks as a reader of train yields them: each names the row of its trip."""
    batch = batch_of(*points)
    return replace(batch, split="train", window_id_B=batch.window_id_B << ROW_BITS)


# ------------------------------------------------------------------ planted faults


class BatchStatistics(Foundry):
    """Leaks: what is recalled is taken relative to the batch."""

    def recollected(self, seen, *asked):
        found = super().recollected(seen, *asked)
        return replace(found, hidden_ND=found.hidden_ND - found.hidden_ND.mean(dim=0))


class RecallsTheEnd(Foundry):
    """Leaks: asks its memory where the window ends."""

    def _presents(self, rows, batch=None):
        last_R1 = rows.num_points_R.unsqueeze(1) - 1
        ends = (value.gather(1, last_R1) for value in (rows.lon_deg_RT, rows.lat_deg_RT))
        self.ends = [end_R1.squeeze(1) for end_R1 in ends]
        return super()._presents(rows, batch)

    def recollected(self, seen, lon_deg_N, lat_deg_N, kin_N):
        ends = [end_R[seen.row_N] for end_R in self.ends]
        return super().recollected(seen, *ends, kin_N)


class KnowsNobody(Memory):
    """Leaks: takes everybody for a stranger."""

    def kin_of(self, batch, rows):
        return nobody(len(rows.window_R))


# ------------------------------------------------------------------ guards


def check_future_is_unseen(model):
    points = walk(3, 14)
    before, changed = batch_of(*points), 9
    later = [value.clone() for value in points]
    later[0][:, changed:] += 0.01
    hidden = [
        model._presents(rows_of_batch(batch), batch)[0] for batch in (before, batch_of(*later))
    ]
    is_early_N = hidden[0].motion.index_RT < changed
    one, other = (found.at(is_early_N) for found in hidden)
    assert torch.equal(one.hidden_ND, other.hidden_ND)
    assert torch.equal(one.followed.way_mps_NJC, other.followed.way_mps_NJC)


@pytest.mark.parametrize(
    ("guard", "fault"),
    [
        (check_rows_are_independent, BatchStatistics),
        (check_a_point_is_told_alike_whatever_else_is_asked, None),
        (check_future_is_unseen, RecallsTheEnd),
    ],
)
def test_a_guard_holds_with_a_memory_and_catches_its_fault(guard, fault):
    memory = memory_of(walk(8, NUM_POINTS, seed=5))
    guard(remembering(memory))
    if fault is not None:
        with pytest.raises(AssertionError):
            guard(remembering(memory, fault))


def check_own_trips_teach_nothing(model, points):
    """Of each row of train the loss is that with a memory of the others alone."""
    others = walk(4, NUM_POINTS, seed=6)
    every = [torch.cat(pair) for pair in zip(points, others, strict=True)]
    memory = memory_of(every)
    model.memory = replace(memory, spread_m=1.0)
    batch = train_batch(points)
    kept = {"motion_s": memory.motion_s, "weight_JP": memory.weight_JP}
    alone = replace(memory_of(others), spread_m=1.0, **kept)
    found = model.eval().loss(batch.part(0, 1)).total
    model.memory = alone
    expected = model.loss(replace(batch.part(0, 1), split="")).total
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)


def test_own_trips_are_not_recalled_in_training(monkeypatch):
    points = walk(1, NUM_POINTS, seed=7)
    check_own_trips_teach_nothing(remembering(None), points)
    monkeypatch.setattr(Memory, "kin_of", KnowsNobody.kin_of)
    with pytest.raises(AssertionError):
        check_own_trips_teach_nothing(remembering(None), points)


def test_a_trip_of_the_memory_is_not_told_its_own_end():
    """Asked about a trip that it remembers, a network answers as without that trip."""
    own, others = walk(1, NUM_POINTS, seed=8), walk(4, NUM_POINTS, seed=9)
    every = [torch.cat(pair) for pair in zip(own, others, strict=True)]
    context = context_of(*(value[:, :12] for value in own))
    first_us = int(context.started_us_B[0])
    with_own = replace(memory_of(every, first_us), spread_m=1.0)
    kept = {"motion_s": with_own.motion_s, "weight_JP": with_own.weight_JP}
    without = replace(memory_of(others, first_us), spread_m=1.0, **kept)
    target_s_BH = own[2][:, 12:]
    told = [forecast(remembering(one), context, 12, target_s_BH) for one in (with_own, without)]
    assert float(haversine_m(*places(told[0]), *places(told[1])).max()) < 0.01
    # The control: half a second later it is somebody else's, and the trip is followed.
    stranger = replace(context, started_us_B=context.started_us_B + 500_000)
    other = forecast(remembering(with_own), stranger, 12, target_s_BH)
    assert float(haversine_m(*places(told[0]), *places(other)).max()) > 1


def places(found):
    return found.lon_deg_BH, found.lat_deg_BH


@pytest.mark.parametrize("spread_m", [None, 400e3])
def test_trips_of_far_away_lead_nowhere(spread_m):
    """Whatever weights say: the nearest neighbour lies half a world off, sparse or not."""
    memory = memory_of(walk(6, NUM_POINTS, seed=2, lon_deg=-150.0, lat_deg=-20.0))
    model = remembering(replace(memory, spread_m=spread_m or memory.spread_m))
    torch.nn.init.ones_(model.recall.follow.bias)
    batch = batch_of(*walk(3, 12))
    seen, (_, elapsed_s_NJ, _) = model._presents(rows_of_batch(batch), batch)
    near_NJK = torch.ones(*elapsed_s_NJ.shape, 9) / 9
    base_m_NJC = torch.zeros(*elapsed_s_NJ.shape, 2)
    asked = seen.hidden_ND, seen.followed, seen.motion, elapsed_s_NJ.float(), near_NJK
    with torch.no_grad():
        led_m_NJC = model.recall.led_m(base_m_NJC, *asked, torch.ones(()))
    assert float(led_m_NJC.norm(dim=-1).max()) < 1.0


def test_a_memory_whose_entities_are_not_told_is_refused():
    """Whoever is missing would have been taken for the last entity, or be two at once."""
    asked = PointFrames(Trained(remembering(None)), Params(horizon=3, num_samples=0))
    frame = frame_of(*walk(2, 9), [9, 9])
    past = frame_of(*walk(3, 8, seed=5), [8] * 3)
    named = past.assign(entity_id=past.trajectory_id)
    pd.testing.assert_frame_equal(
        asked.forecast(frame, memory=named), asked.forecast(frame, memory=past)
    )
    for entity, fault in (
        (past.trajectory_id.where(past.trajectory_id != "walk-9"), "missing in 8 rows"),
        (past.tracked_at.astype(str), "differs between the rows of one trajectory"),
        ([["x"]] * len(past), "neither text nor number"),
    ):
        with pytest.raises(ValueError, match=f"entity_id.* {fault}"):
            asked.forecast(frame, memory=past.assign(entity_id=entity))


# ------------------------------------------------------------------ what it is good for

ROADS = 5
BENDS = np.random.default_rng(0).normal(0, 0.5, (ROADS, NUM_POINTS)).cumsum(axis=1)


def drivers(num, seed):
    """Each goes along one of a few bent roads, at a speed of its own."""
    generator = np.random.default_rng(seed)
    road = generator.integers(ROADS, size=num)
    step_m = 80 * generator.uniform(0.8, 1.25, (num, 1)) * np.ones((1, NUM_POINTS))
    east_m, north_m = (
        np.cumsum(step_m * wave(BENDS[road]), axis=1) + generator.normal(0, 5, (num, 1))
        for wave in (np.cos, np.sin)
    )
    starts = [8.0 + 0.02 * torch.from_numpy(road).double().unsqueeze(1), torch.full((num, 1), 50.0)]
    lon_deg, lat_deg = step_from(
        starts[0], starts[1].double(), torch.from_numpy(east_m), torch.from_numpy(north_m)
    )
    return lon_deg, lat_deg, 10.0 * torch.arange(NUM_POINTS).double().expand(num, -1).clone()


@cache
def trained():
    torch.manual_seed(0)
    model = build("foundry", PLACELESS, WALKING)
    points = drivers(48, 1)
    batch = train_batch(points)
    model.fit_inputs([batch])
    model.memory = memory_of(points)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimiser.zero_grad()
        model.loss(batch).mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.eval()


def error_m(memory, points):
    """How far a trained network is off twelve points ahead, on average over the way."""
    model = trained()
    own, model.memory = model.memory, memory
    try:
        context = context_of(*(value[:, :12] for value in points))
        found = forecast(model, context, 12, points[2][:, 12:].contiguous())
    finally:
        model.memory = own
    truth = points[0][:, 12:], points[1][:, 12:]
    return float(haversine_m(*places(found), *truth).mean())


def test_a_memory_of_bent_roads_is_followed_and_can_be_exchanged():
    asked = drivers(32, 2)
    own, none = error_m(trained().memory, asked), error_m(None, asked)
    assert own < 0.6 * none
    # Another city, with roads of its own, which the weights have never seen.
    moved = [asked[0] + 30.0, -asked[1], asked[2]]
    past = drivers(48, 3)
    there = memory_of([past[0] + 30.0, -past[1], past[2]])
    assert error_m(there, moved) < 0.6 * error_m(None, moved)
    # A memory of where nobody is now says nothing, and does not mislead.
    assert error_m(trained().memory, moved) < 1.01 * error_m(None, moved)


def test_at_intervals_that_it_never_saw_it_follows_a_memory_of_just_these():
    """Six times as slow, elsewhere: the network is not trusted, what the memory itself learnt is.

    A memory of other intervals changes nothing there.
    """
    asked, past = drivers(32, 2), drivers(48, 3)
    moved, slow = [asked[0] + 30.0, -asked[1], 6 * asked[2]], [past[0] + 30.0, -past[1], past[2]]
    none = error_m(None, moved)
    assert error_m(memory_of([*slow[:2], 6 * slow[2]]), moved) < 0.7 * none
    assert error_m(memory_of(slow), moved) == none


def test_a_network_that_learnt_without_a_memory_is_told_nothing_by_one_later():
    """Its own forecast stays, and only what a memory itself learnt is followed where trusted."""
    torch.manual_seed(0)
    model, points = build("foundry", PLACELESS, WALKING), drivers(24, 1)
    batch = train_batch(points)
    model.fit_inputs([batch])
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(5):
        optimiser.zero_grad()
        model.loss(batch).mean.backward()
        optimiser.step()
    model.eval()
    context = context_of(*(value[:, :12] for value in points))
    asked = model, context, 12, points[2][:, 12:].contiguous()
    plain = forecast(*asked)
    model.memory = memory_of(drivers(48, 3))
    assert torch.equal(forecast(*asked).lon_deg_BH, plain.lon_deg_BH)


# ------------------------------------------------------------------ training

NORMALISER = WALKING.to_json()


def test_a_killed_training_with_a_memory_ends_alike(tmp_path):
    shards = tmp_path / "shards"
    write_shards(shards, {"train": [40, 30, 50, 26, 33, 45], "validation": [30, 40]})
    (shards / "normaliser.json").write_text(json.dumps(NORMALISER))
    fit = FitConfig(max_steps=6, batch_size=4, max_points=24, warmup_steps=0, validate_every=6)
    training = Training(str(shards), "foundry", "tiny", fit)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    run(training, whole)

    class Kill(Exception):
        pass

    def kill(progress):
        if progress.step == 3:
            raise Kill

    often = replace(training, fit=replace(fit, checkpoint_every_s=0.0, log_every=1))
    with pytest.raises((Kill, Interrupted)):
        run(often, killed, kill)
    run(often, killed)
    weights, again = (load_trained(folder).model.state_dict() for folder in (whole, killed))
    for name, value in weights.items():
        assert torch.equal(value, again[name]), name
    assert (whole / MEMORY_FILE).read_bytes() == (killed / MEMORY_FILE).read_bytes()


def test_a_network_without_a_memory_keeps_none(tmp_path):
    forgetful = replace(PLACELESS, has_memory=False)
    model = build("foundry", forgetful, WALKING)
    points = walk(4, NUM_POINTS)
    write_memory(tmp_path, memory_of(points))
    walked = points[2][0].numpy(), points[0][0].numpy(), points[1][0].numpy()
    model.read_memory(tmp_path)
    assert model.memory is None
    assert not model.remembers
    with pytest.raises(ValueError, match="foundry makes no use of a memory of past trips"):
        model.memory_of(flat([walked]), np.zeros(1, np.int64))
