"""Recovery on a law whose best answer is known: an autoregression of steps, seen without noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from helpers.motion import points_reached
from helpers.walks import batch_of

from model.families.chemin.masked import MaskedChemin
from model.families.chemin.network import PRESETS
from model.features.normaliser import Normaliser
from model.interface.masking import masked, places_of_segments
from model.synthetic.processes import Ar1

LAW = Ar1(persistence=0.9, innovation_m=5.0)
NUM_POINTS = 16
NEAR = 0.15  # nats that a trained model may be above the floor
NUM_STEPS = 200
INTERVAL_S = 10.0
TYPICAL = Normaliser.from_json(
    {
        "num_steps": 1000,
        "step_s": {"p10": 10.0, "p50": 10.0, "p90": 10.0},
        "speed_mps": {"p10": 0.5, "p50": 1.3, "p90": 2.5},
        "step_m": {"p10": 5.0, "p50": 13.0, "p90": 25.0},
    }
)


def drawn(num_rows, seed):
    """A batch on the equator, and its places (B, T, C) in metres from the first one."""
    generator = np.random.default_rng(seed)
    step_BTC = np.stack([LAW.draw_steps_m(generator, NUM_POINTS) for _ in range(num_rows)])
    step_BTC[:, 0] = 0.0
    step_BTF = np.pad(step_BTC, ((0, 0), (0, 0), (0, 1)), constant_values=INTERVAL_S)
    step_BTF[:, 0] = 0.0
    start_B = torch.zeros(num_rows, dtype=torch.float64)
    points = points_reached(start_B, start_B, start_B, torch.from_numpy(step_BTF))
    return masked(batch_of(*points), places_of_segments, seed), step_BTC.cumsum(axis=1)


def least_surprise(batch, place_m_BTC):
    """Mean surprise of the hidden places given the known ones, by conditioning of Gaussians."""
    lag_TT = np.abs(np.subtract.outer(np.arange(NUM_POINTS), np.arange(NUM_POINTS)))
    step_TT = LAW.step_sigma_m**2 * LAW.persistence**lag_TT
    step_TT[0] = step_TT[:, 0] = 0.0
    sum_TT = np.tril(np.ones((NUM_POINTS, NUM_POINTS)))
    place_TT = sum_TT @ step_TT @ sum_TT.T
    surprise = []
    for place_m_TC, is_hidden_T in zip(place_m_BTC, batch.is_target_BT.numpy(), strict=True):
        is_known_T = ~is_hidden_T
        is_known_T[0] = False  # the first place is the origin, and certain
        between = place_TT[np.ix_(is_hidden_T, is_known_T)]
        weight = np.linalg.solve(place_TT[np.ix_(is_known_T, is_known_T)], between.T).T
        variance_N = np.diag(place_TT[np.ix_(is_hidden_T, is_hidden_T)] - weight @ between.T)
        error_m_NC = place_m_TC[is_hidden_T] - weight @ place_m_TC[is_known_T]
        square_N = (error_m_NC**2).sum(axis=1)
        surprise += (np.log(2 * np.pi * variance_N) + square_N / (2 * variance_N)).tolist()
    return float(np.mean(surprise))


def test_recovery_comes_near_the_best_there_is():
    torch.manual_seed(0)
    model = MaskedChemin(replace(PRESETS["tiny"], mean_weight=0.0), TYPICAL)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    fresh, place_m_BTC = drawn(500, seed=1_000_000)
    floor = least_surprise(fresh, place_m_BTC)
    with torch.no_grad():
        untrained = float(model.loss(fresh).mean)
    for step in range(NUM_STEPS):
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / NUM_STEPS)
        optimiser.zero_grad()
        model.loss(drawn(64, seed=step)[0]).mean.backward()
        optimiser.step()
    with torch.no_grad():
        found = float(model.loss(fresh).mean)
    assert untrained > floor + 5 * NEAR
    assert floor < found < floor + NEAR
