"""Foundry's lanes: gaps follow past trips between both ends, near ones and those of others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.masked_guards import hiding_others
from helpers.past import STARTED_US as PAST_US
from helpers.past import flat, place_after, step_m, walks
from helpers.walks import STARTED_US, WALKING, batch_of, context_of, walk

from model.earth.geometry import haversine_m
from model.families import FAMILIES, build
from model.families.foundry import between
from model.families.foundry.between import Asked
from model.families.foundry.lanes import LEAST_HIDDEN
from model.inference.api import recover
from model.interface.batch import ROW_BITS
from model.interface.contexts import Partial
from model.interface.masking import masked, places_of_middles
from model.interface.memory.fitting import fitted_memory
from model.interface.memory.joint import JointMemory
from model.interface.memory.lanes import NUM_LANES, RATES, Gaps
from model.interface.memory.memory import Memory, nobody
from model.interface.memory.paths import PastPaths

PLACELESS = replace(FAMILIES["foundry"].presets["tiny"], has_place=False)
NUM_POINTS = 24


def memory_of(points, started_us=STARTED_US):
    """A memory of walks, each an entity of its own."""
    lon_deg_BT, lat_deg_BT, time_s_BT = (value.numpy() for value in points)
    trips = list(zip(time_s_BT, lon_deg_BT, lat_deg_BT, strict=True))
    memory = fitted_memory(PastPaths.of(flat(trips, started_us), np.arange(len(trips))))
    return replace(memory, kin_of_row=memory.paths.kin_R)


def following(memory):
    """A network that corrects nothing and goes all the way to lanes."""
    model = build("foundry", PLACELESS, WALKING)
    torch.nn.init.ones_(model.gap_head.follow.share_S)
    model.memory = memory
    return model


def path_question(points):
    """Walks of which the ends alone are known."""
    partial = Partial.of(context_of(*points), 0, None)
    shows_place_BT = torch.zeros_like(partial.is_pad_BT)
    shows_place_BT[:, [0, -1]] = True
    lon_deg_BT, lat_deg_BT = (
        value.masked_fill(~shows_place_BT, torch.nan)
        for value in (partial.lon_deg_BT, partial.lat_deg_BT)
    )
    return replace(
        partial, lon_deg_BT=lon_deg_BT, lat_deg_BT=lat_deg_BT, shows_place_BT=shows_place_BT
    )


def away_m(found, points):
    return haversine_m(found.lon_deg_BT, found.lat_deg_BT, *points[:2])


def between_walks(one, other):
    return haversine_m(one.lon_deg_BT, one.lat_deg_BT, other.lon_deg_BT, other.lat_deg_BT)


# ------------------------------------------------------------------ search


def test_lanes_are_those_of_a_slow_search():
    """Each trip once, the nearest first, and as it went: by geographiclib on every point."""
    trips = walks(3, [30, 22, 41, 17])
    memory = fitted_memory(PastPaths.of(flat(trips), np.arange(4)))
    (time_s, lon, lat), kin = walks(11, [20])[0], 2
    lasts_s, share = time_s[14] - time_s[2], 0.4
    gaps = Gaps(
        lon[None, [2, 14]],
        lat[None, [2, 14]],
        np.rint([lasts_s * 1e6]).astype(np.int64),
        np.array([10.0]),
        memory.paths.kin_R[[kin]],
    )
    told = memory.detours(gaps, np.zeros(1, np.int64), np.array([share]))
    best = []
    for number, trip in enumerate(trips):
        if number == kin:
            continue
        fits = [
            (
                np.hypot(
                    np.linalg.norm(step_m((lat[2], lon[2]), (trip[2][point], trip[1][point]))),
                    np.linalg.norm(
                        step_m((lat[14], lon[14]), place_after(trip, point, lasts_s * rate))
                    ),
                ),
                point,
                rate,
            )
            for point in range(len(trip[0]) - 1)
            for rate in RATES
        ]
        misfit_m, point, rate = min(fits)
        start = trip[2][point], trip[1][point]
        rate = min(rate, (trip[0][-1] - trip[0][point]) / lasts_s)
        went_m = step_m(start, place_after(trip, point, lasts_s * rate * share))
        whole_m = step_m(start, place_after(trip, point, lasts_s * rate))
        best.append((misfit_m, went_m - share * whole_m))
    best.sort(key=lambda lane: lane[0])
    assert told.misfit_m_NK.shape == (1, NUM_LANES)
    assert told.misfit_m_NK[0].isfinite().tolist() == [True] * 3 + [False] * (NUM_LANES - 3)
    for place, (misfit_m, off_m) in enumerate(best):
        assert float(told.misfit_m_NK[0, place]) == pytest.approx(misfit_m, rel=1e-3)
        np.testing.assert_allclose(told.off_m_NKC[0, place], off_m, atol=0.5)


def test_a_gap_is_told_alike_whatever_else_is_asked():
    """Also of a joint memory, the members of which lie apart."""
    near, far = walk(6, NUM_POINTS, seed=1), walk(6, NUM_POINTS, seed=2, lon_deg=-60.0)
    joint = JointMemory((memory_of(near), None, memory_of(far, PAST_US)))
    points = [torch.cat(pair) for pair in zip(near, far, strict=True)]
    asked = path_question([value + 1e-5 * (value is not points[2]) for value in points])
    together = recover(following(joint), asked)
    for row, memory in ((0, joint.members[0]), (9, joint.members[2])):
        alone = recover(following(memory), asked.at(slice(row, row + 1)))
        for name in ("lon_deg_BT", "lat_deg_BT"):
            one, other = getattr(alone, name)[0], getattr(together, name)[row]
            torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


# ------------------------------------------------------------------ what is followed


def test_a_gap_follows_a_past_trip_between_its_ends():
    """One that went just there at another hour, and half as fast."""
    points = walk(4, NUM_POINTS, seed=3)
    slower = points[0], points[1], 1.9 * points[2]
    asked = path_question(points)
    straight, told = (
        away_m(recover(following(memory), asked), points)
        for memory in (None, memory_of(slower, PAST_US))
    )
    assert (told.mean(1) < 0.05 * straight.mean(1)).all()


def test_what_no_trip_came_near_is_as_without_a_memory():
    """Other trips lie half a world off, whatever the weights say of them."""
    points = walk(3, NUM_POINTS, seed=4)
    asked = path_question(points)
    far = memory_of(walk(6, NUM_POINTS, seed=2, lon_deg=-150.0, lat_deg=-20.0), PAST_US)
    without, told = (recover(following(memory), asked) for memory in (None, far))
    assert float(between_walks(without, told).max()) < 0.01


def test_short_gaps_ask_no_memory():
    points = walk(3, NUM_POINTS, seed=4)
    partial = path_question(points)
    shows_BT = torch.ones_like(partial.shows_place_BT)
    shows_BT[:, 6 : 5 + LEAST_HIDDEN] = False  # one fewer
    asked = replace(partial, lon_deg_BT=points[0], lat_deg_BT=points[1], shows_place_BT=shows_BT)
    told = Asked.of(asked.batch(), memory_of(points, PAST_US))
    assert not told.detours.misfit_m_NK.isfinite().any()


def test_the_fit_follows_lanes_where_they_help_and_there_alone():
    """Trips that repeat each other, and those of another continent."""
    roads = walk(5, NUM_POINTS, seed=5)
    again = [value.repeat(2, 1) for value in roads]
    again[0][5:] += 1e-5  # a metre
    batch = masked(train_batch(again), places_of_middles, 0)
    for memory, helps in ((memory_of(again), True), (memory_of(walk(5, 24, lon_deg=-99)), False)):
        memory = replace(memory, kin_of_row=np.arange(10))
        model = build("foundry", PLACELESS, WALKING)
        model.gap_head.fit_paths([[batch]], memory)
        assert (float(model.gap_head.follow.share_S.detach().max()) > 0.8) == helps


# ------------------------------------------------------------------ leaks


def train_batch(points):
    """Walks as a reader of train yields them: each names the row of its trip."""
    batch = batch_of(*points)
    return replace(batch, split="train", window_id_B=batch.window_id_B << ROW_BITS)


def check_own_trips_teach_nothing(points):
    """Of each row of train a gap is told what it is with the trips of others alone."""
    others = walk(4, NUM_POINTS, seed=6)
    every = [torch.cat(pair) for pair in zip(points, others, strict=True)]
    batch = masked(train_batch(points), places_of_middles, 0)
    found = Asked.of(batch, memory_of(every)).detours
    expected = Asked.of(replace(batch, split=""), memory_of(others)).detours
    torch.testing.assert_close(found.misfit_m_NK, expected.misfit_m_NK, rtol=1e-5, atol=1e-2)


def test_own_trips_are_not_followed_in_training(monkeypatch):
    points = walk(1, NUM_POINTS, seed=7)
    check_own_trips_teach_nothing(points)
    stranger = Memory.kin_of
    monkeypatch.setattr(Memory, "kin_of", lambda self, batch, rows: nobody(len(rows.window_R)))
    with pytest.raises(AssertionError):
        check_own_trips_teach_nothing(points)
    monkeypatch.setattr(Memory, "kin_of", stranger)


def test_a_trip_of_the_memory_does_not_fill_its_own_gap():
    """Asked about a trip that it remembers, a network answers as without that trip."""
    own, others = walk(1, NUM_POINTS, seed=8), walk(4, NUM_POINTS, seed=9)
    every = [torch.cat(pair) for pair in zip(own, others, strict=True)]
    asked = path_question(own)
    first_us = int(asked.started_us_B[0])
    with_own, without_own = memory_of(every, first_us), memory_of(others, PAST_US)
    told, without = (recover(following(memory), asked) for memory in (with_own, without_own))
    assert float(between_walks(told, without).max()) < 0.01
    # The control: half a second later it is somebody else's, and the trip is followed.
    stranger = replace(asked, started_us_B=asked.started_us_B + 500_000)
    followed = recover(following(with_own), stranger)
    assert float(between_walks(told, followed).max()) > 1
    assert float(away_m(followed, own).max()) < float(away_m(told, own).max())


def check_what_is_hidden_is_unseen():
    model = following(memory_of(walk(6, NUM_POINTS, seed=1), PAST_US))
    batch = masked(batch_of(*walk(3, NUM_POINTS, seed=1), num_pads=3), places_of_middles, 0)
    with torch.no_grad():
        told = [model.recover(given) for given in (batch, hiding_others(batch))]
    for name in ("lon_deg_BT", "lat_deg_BT"):
        assert torch.equal(getattr(told[0], name), getattr(told[1], name))


def test_what_is_hidden_is_unseen_with_a_memory(monkeypatch):
    check_what_is_hidden_is_unseen()
    plain = between.detours_of

    def peeks(memory, batch, shown, *asked):
        """Leaks: what stands where places are hidden leads to lanes."""
        middle = batch.lon_deg_BT[:, 5].mean() - shown.lon_deg_BT[0, 0]
        return plain(memory, batch, replace(shown, lon_deg_BT=shown.lon_deg_BT + middle), *asked)

    monkeypatch.setattr(between, "detours_of", peeks)
    with pytest.raises(AssertionError):
        check_what_is_hidden_is_unseen()


def test_some_gaps_of_training_are_told_nothing():
    """So that weights answer without a memory too, and no gap is told in part."""
    points = walk(40, NUM_POINTS, seed=1)
    torch.manual_seed(0)
    batch = masked(batch_of(*points), places_of_middles, 0)
    told = Asked.of(batch, memory_of(points, PAST_US), 0.5)
    is_told_N = told.detours.misfit_m_NK.isfinite().any(1)
    row_N, _ = told.is_asked_BT.nonzero(as_tuple=True)
    shares = torch.stack([is_told_N[row_N == row].float().mean() for row in range(40)])
    assert set(shares.tolist()) == {0.0, 1.0}
    assert 8 < int(shares.sum()) < 32
