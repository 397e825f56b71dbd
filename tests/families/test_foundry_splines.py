"""Splines through gaps, beside those that scipy makes of the same points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import make_smoothing_spline

from model.families.foundry.splines import NOISES, Sides, spline_paths

NUM_SMOOTH = 8


def gaps(num_gaps: int, seed: int, num_points=NUM_SMOOTH) -> Sides:
    """Sides of gaps at uneven times; of each side only so many points are known."""
    random = np.random.default_rng(seed)
    step_GI = np.exp(random.normal(scale=0.7, size=(num_gaps, 2 * NUM_SMOOTH - 1)))
    step_GI[:, NUM_SMOOTH - 1] = 1
    at_m_GKC = random.normal(size=(num_gaps, 2 * NUM_SMOOTH, 2)).cumsum(1) * 1_000
    apart_K = np.abs(np.arange(2 * NUM_SMOOTH) - NUM_SMOOTH + 0.5)
    is_point_GK = np.tile(apart_K < num_points, (num_gaps, 1))
    columns = (step_GI, at_m_GKC, is_point_GK, random.integers(1, 30, num_gaps))
    return Sides(*map(torch.from_numpy, columns))


def told(sides: Sides, share: float) -> torch.Tensor:
    num_gaps = len(sides.num_hidden_G)
    return spline_paths(sides, torch.full((num_gaps,), share), torch.arange(num_gaps))


@pytest.mark.parametrize("num_points", [8, 5, 3])
def test_paths_are_smoothing_splines_of_the_points_that_are_known(num_points):
    sides = gaps(6, 0, num_points)
    found = {share: told(sides, share) for share in (0.1, 0.5, 0.9)}
    for gap in range(6):
        time_K = np.append(0, sides.step_GI[gap].numpy().cumsum())
        time_K -= time_K[NUM_SMOOTH - 1]
        is_point_K = sides.is_point_GK[gap].numpy()
        for number, noise in enumerate(NOISES):
            loose = noise / (float(sides.num_hidden_G[gap]) + 1) ** 3
            spline = make_smoothing_spline(
                time_K[is_point_K], sides.at_m_GKC[gap].numpy()[is_point_K], lam=loose
            )
            for share, path_GSC in found.items():
                np.testing.assert_allclose(path_GSC[gap, number], spline(share), atol=0.01)


def test_noiseless_points_are_met_and_noisy_ones_bend_less():
    sides = gaps(4, 1)
    still = Sides(sides.step_GI, sides.at_m_GKC, sides.is_point_GK, torch.full((4,), 10**6))
    for share, place in ((0.0, NUM_SMOOTH - 1), (1.0, NUM_SMOOTH)):
        torch.testing.assert_close(told(still, share)[:, 0], sides.at_m_GKC[:, place])
    first, middle, last = (told(sides, share) for share in (0.0, 0.5, 1.0))
    bulge_GS = (middle - (first + last) / 2).norm(dim=-1)
    assert (bulge_GS[:, -1] < bulge_GS[:, 0]).all()


def test_motion_at_a_steady_velocity_is_kept_whatever_the_noise():
    sides = gaps(5, 2)
    time_GK = torch.nn.functional.pad(sides.step_GI.cumsum(1), (1, 0))
    time_GK = time_GK - time_GK[:, NUM_SMOOTH - 1, None]
    steady = Sides(
        sides.step_GI,
        time_GK.unsqueeze(-1) * torch.tensor([300.0, -20.0]).double(),
        sides.is_point_GK,
        sides.num_hidden_G,
    )
    expected = 0.3 * torch.tensor([300.0, -20.0]).double().expand(5, len(NOISES), 2)
    torch.testing.assert_close(told(steady, 0.3), expected)


def test_points_of_one_gap_share_its_sides():
    sides = gaps(3, 3)
    share_N, gap_N = torch.tensor([0.2, 0.7, 0.2, 0.4]), torch.tensor([2, 0, 0, 2])
    found = spline_paths(sides, share_N, gap_N)
    for place, (share, gap) in enumerate(zip(share_N.tolist(), gap_N.tolist(), strict=True)):
        torch.testing.assert_close(found[place], told(sides, share)[gap])
