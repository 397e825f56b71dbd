"""Draws of training rows: thinned, finer and short ones, made of their own crop alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.motion import points_reached
from helpers.shards import write_shards
from helpers.walks import batch_of, walk

from model.data import draws as module
from model.data.draws import FINER, LEAST_POINTS, MAX_STALE, MAX_THINNING, drawn
from model.data.options import Draws
from model.data.reading import read_batches
from model.earth.geometry import step_between
from model.features.point_features import steps_of
from model.interface.batch import Cursor
from model.training.config import FitConfig

MAX_POINTS, NUM_ROWS, NUM_POINTS = 20, 60, 80
EACH = {"thinned": Draws(thinned=1.0), "finer": Draws(finer=1.0), "short": Draws(short=1.0)}
MIXED = Draws(thinned=0.3, finer=0.3, short=0.3)


def walks():
    batch = batch_of(*walk(NUM_ROWS, NUM_POINTS), num_pads=3)
    return replace(batch, cursor=Cursor(0, 1))


def points_of(batch, row):
    """Longitudes, latitudes and seconds of a row without its pads."""
    is_point_T = ~batch.is_pad_BT[row]
    names = ("lon_deg_BT", "lat_deg_BT", "time_s_BT")
    return [getattr(batch, name)[row][is_point_T] for name in names]


def places_in(crop, part):
    """Which points of a crop those of a part are: all of them, or an error."""
    index = {place: number for number, place in enumerate(crop[0].tolist())}
    return [index[place] for place in part[0].tolist()]


# ------------------------------------------------------------------ what is drawn


def test_thinned_rows_are_every_so_manieth_point_of_their_crop():
    batch = walks()
    found = drawn(batch, EACH["thinned"], MAX_POINTS, seed=1)
    strides = set()
    for row in range(NUM_ROWS):
        crop, part = points_of(batch, row), points_of(found, row)
        place_N = np.array(places_in(crop, part))
        stride = int(found.stands_for_BT[row, 0])
        assert (np.diff(place_N) == stride).all()
        assert LEAST_POINTS - 1 <= len(place_N) <= MAX_POINTS
        torch.testing.assert_close(part[2], crop[2][place_N] - crop[2][place_N[0]])
        strides.add(stride)
    assert {1, 2, 4, 7} <= strides <= set(range(1, MAX_THINNING + 1))


def circles():
    """Rows that turn steadily on a circle of a kilometre, a fix each minute."""
    turn = np.deg2rad(6) * np.arange(NUM_POINTS)
    step = np.stack([100 * np.sin(turn), 100 * np.cos(turn), np.full(NUM_POINTS, 60.0)], axis=-1)
    step[0] = 0
    start = torch.zeros(NUM_ROWS, dtype=torch.float64)
    steps = torch.from_numpy(step).expand(NUM_ROWS, -1, -1)
    return replace(batch_of(*points_reached(start, start + 50, start, steps)), cursor=Cursor(0, 1))


def test_finer_rows_run_on_a_curve_through_their_points(monkeypatch):
    monkeypatch.setattr(module, "NOISE", (1e-9, 2e-9))
    monkeypatch.setattr(module, "MAX_STALE", 0.0)
    batch = circles()
    found = drawn(batch, EACH["finer"], MAX_POINTS, seed=1)
    all_times = set()
    for row in range(NUM_ROWS):
        times = round(1 / float(found.stands_for_BT[row, 0]))
        crop, part = points_of(batch, row), points_of(found, row)
        torch.testing.assert_close(part[2].diff(), torch.full_like(part[2][1:], 60.0 / times))
        away_m_NM = torch.stack(
            step_between(*(value[:, None] for value in crop[:2]), *(value for value in part[:2]))
        ).norm(dim=0)
        # Every so manieth is a point of the crop, all others lie on its circle.
        assert (away_m_NM.amin(0) < 1e-3).sum() >= len(part[0]) // times
        step_m_M = torch.stack(
            step_between(*(x[:-1] for x in part[:2]), *(x[1:] for x in part[:2]))
        )
        assert float(step_m_M.norm(dim=0).std() / step_m_M.norm(dim=0).mean()) < 0.05
        all_times.add(times)
    assert all_times == set(range(FINER[0], FINER[1] + 1))


def test_finer_rows_have_noise_and_stale_fixes():
    found = drawn(circles(), EACH["finer"], MAX_POINTS, seed=1)
    rough, stale = [], []
    for row in range(NUM_ROWS):
        lon_deg_N, lat_deg_N, _ = points_of(found, row)
        moved = torch.stack(
            step_between(lon_deg_N[:-1], lat_deg_N[:-1], lon_deg_N[1:], lat_deg_N[1:])
        )
        stale.append(float((moved.norm(dim=0) < 1e-6).double().mean()))
        rough.append(float(moved.diff(dim=1).norm(dim=0).mean() / moved.norm(dim=0).mean()))
    assert min(stale) == 0.0
    assert 0.05 < np.mean(stale) < MAX_STALE
    assert max(stale) < 2 * MAX_STALE
    assert min(rough) < 0.3 < 1.0 < max(rough)


def test_short_rows_are_stretches_of_at_least_eight_known_and_three_asked_points():
    batch = walks()
    found = drawn(batch, EACH["short"], MAX_POINTS, seed=1)
    sizes = set()
    for row in range(NUM_ROWS):
        place_N = np.array(places_in(points_of(batch, row), points_of(found, row)))
        assert (np.diff(place_N) == 1).all()
        sizes.add(len(place_N))
    assert sizes == set(range(LEAST_POINTS, MAX_POINTS + 1))


# ------------------------------------------------------------------ guards


def check_a_row_is_drawn_alike_whoever_stands_beside_it(draws, draw=drawn):
    """Alone, in a batch, and after other batches; another seed or epoch draws otherwise."""
    batch = walks()
    together = draw(batch, draws, MAX_POINTS, 1)
    for row in (7, 31):
        alone = draw(batch.part(row, row + 1), draws, MAX_POINTS, 1)
        for one, other in zip(points_of(alone, 0), points_of(together, row), strict=True):
            assert torch.equal(one, other)
    later = replace(batch, cursor=Cursor(3, 1))
    for other in (draw(batch, draws, MAX_POINTS, 2), draw(later, draws, MAX_POINTS, 1)):
        same = [
            len(one[0]) == len(two[0]) and all(map(torch.equal, one, two))
            for one, two in ((points_of(x, row) for x in (together, other)) for row in range(60))
        ]
        assert sum(same) < NUM_ROWS / 2


def from_one_generator(batch, draws, max_points, seed):
    """A plant: a row is drawn by its place in the batch."""
    numbered = replace(batch, window_id_B=torch.arange(len(batch.window_id_B)))
    return drawn(numbered, draws, max_points, seed)


def test_a_row_is_drawn_by_seed_epoch_and_window():
    check_a_row_is_drawn_alike_whoever_stands_beside_it(MIXED)
    with pytest.raises(AssertionError):
        check_a_row_is_drawn_alike_whoever_stands_beside_it(MIXED, from_one_generator)


@pytest.mark.parametrize("kind", EACH)
def test_a_batch_is_whole(kind):
    """Steps are those between its points, and pads, targets and lengths agree with them."""
    found = drawn(walks(), EACH[kind], MAX_POINTS, seed=1)
    assert found.lon_deg_BT.shape[1] <= MAX_POINTS
    expected = steps_of(found.lon_deg_BT, found.lat_deg_BT, found.time_s_BT).float()
    is_target_BT1 = found.is_target_BT.unsqueeze(-1)
    assert torch.equal(found.step_BTF, expected.where(is_target_BT1, 0.0))
    assert torch.equal(found.is_observed_BT, ~found.is_pad_BT)
    assert torch.equal(found.is_target_BT[:, 1:], ~found.is_pad_BT[:, 1:])
    assert not found.is_target_BT[:, 0].any()
    assert found.calendar_BTK.shape[:2] == found.is_pad_BT.shape


@pytest.mark.parametrize("batching", ["bucketed", "packed"])
def test_what_is_read_of_shards_is_drawn_sequence_by_sequence(tmp_path, batching):
    """Trips of every length, packed rows and rows of pads; short trips are left as they are."""
    shards = write_shards(tmp_path, {"train": [5, 9, 30, 60, 90, 12, 40, 3]})
    config = FitConfig(batch_size=3, max_points=16, batching=batching, thinned=0.4, finer=0.4)
    for batch in read_batches(shards, config.reading("train"), num_epochs=1):
        found = drawn(batch, config.draws, config.max_points, seed=0)
        for row in range(len(batch.is_pad_BT)):
            assert found.window_ids(row) == batch.window_ids(row)
            for sequence in range(len(batch.window_ids(row))):
                before, after = (
                    value.time_s_BT[row][
                        (value.sequence_BT[row] == sequence) & ~value.is_pad_BT[row]
                    ]
                    for value in (batch, found)
                )
                assert 2 <= len(after) <= config.max_points
                assert float(after[0]) == 0 <= float(after[-1]) <= float(before[-1]) + 1e-6
                if len(before) < LEAST_POINTS:
                    assert torch.equal(before, after)
        is_first_BT = ~found.is_target_BT & ~found.is_pad_BT
        assert int(is_first_BT.sum()) == sum(
            len(batch.window_ids(r)) for r in range(len(batch.is_pad_BT))
        )


def test_longer_crops_are_read_of_train_alone():
    config = FitConfig(thinned=0.1)
    assert config.reading("train").max_points == 4 * config.max_points
    for other in (config.reading("validation"), FitConfig(finer=0.5).reading("train")):
        assert other.max_points == config.max_points


@pytest.mark.parametrize("shares", [(-0.1, 0, 0), (0.5, 0.5, 0.1)])
def test_senseless_shares_are_refused(shares):
    with pytest.raises(ValueError, match="thinned, finer and short"):
        FitConfig(**dict(zip(EACH, shares, strict=True)))
