"""Heads of quantiles and regions against slow computations, and what tails promise."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.walks import WALKING
from torch import distributions

from model.features.point_features import LAGS
from model.layers.heads import DECILES, QuantileHead, StepHead, pinball

WIDTH = 8


def hidden(num_rows, width=WIDTH, seed=0):
    return torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------ quantiles


def test_quantiles_never_cross():
    torch.manual_seed(0)
    head = QuantileHead(WIDTH, 3)
    quantile_NVQ = head(10 * hidden(50))
    assert quantile_NVQ.shape == (50, 3, len(DECILES))
    assert (quantile_NVQ.diff(dim=-1) >= 0).all()
    assert (head(hidden(50)).diff(dim=-1) > 0).all()
    assert (quantile_NVQ.sign() != quantile_NVQ[0].sign()).any()


def test_pinball_equals_its_definition():
    quantile_Q, level_Q = torch.tensor([-1.0, 0.5, 2.0]), torch.tensor([0.1, 0.5, 0.8])
    for value in (-3.0, 0.5, 0.6, 7.0):
        costs = []
        for quantile, level in zip(quantile_Q.tolist(), level_Q.tolist(), strict=True):
            costs.append((value - quantile) * (level - (value < quantile)))
        found = float(pinball(quantile_Q, torch.tensor(value), level_Q))
        assert found == pytest.approx(sum(costs) / 3)


def test_pinball_over_all_levels_is_half_the_crps():
    """Of a standard normal, whose score is known in closed form (Gneiting and Raftery 2007)."""
    normal = distributions.Normal(0.0, 1.0)
    level_Q = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    quantile_Q = normal.icdf(level_Q)
    for value in (-1.3, 0.0, 2.0):
        z = torch.tensor(value, dtype=torch.float64)
        density, below = normal.log_prob(z).exp(), normal.cdf(z)
        crps = float(z * (2 * below - 1) + 2 * density) - 1 / math.sqrt(math.pi)
        assert 2 * float(pinball(quantile_Q, z, level_Q)) == pytest.approx(crps, abs=1e-4)


def test_pinball_leads_to_the_quantiles():
    torch.manual_seed(0)
    head = QuantileHead(WIDTH, 1)
    value_N1 = distributions.Exponential(1.0).sample((1_000, 1))
    input_ND, level_Q = torch.zeros(1_000, WIDTH), torch.tensor(DECILES)

    def cost():
        optimiser.zero_grad()
        loss = pinball(head(input_ND), value_N1, level_Q).mean()
        loss.backward()
        return loss

    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=20)
    for _ in range(20):
        optimiser.step(cost)
    found_Q = head(input_ND[:1])[0, 0]
    torch.testing.assert_close(found_Q, torch.quantile(value_N1, level_Q), rtol=0, atol=0.05)


# ------------------------------------------------------------------ tails


def test_tails_have_a_finite_variance_and_learn():
    torch.manual_seed(0)
    head = StepHead(WIDTH, 3, WALKING, has_tails=True)
    velocity_NLC = torch.ones(5, len(LAGS), 2)
    step = head(hidden(5), velocity_NLC, torch.full((5,), 10.0))
    assert step.freedom_M.shape == (5, 3)
    assert (step.freedom_M > 2).all()
    step.log_density(torch.zeros(5, 2)).sum().backward()
    assert (head.project.weight.grad[:3] != 0).any()


def test_an_outlier_costs_less_with_tails():
    velocity_NLC = torch.ones(1, len(LAGS), 2)
    costs = []
    for has_tails in (False, True):
        torch.manual_seed(0)
        head = StepHead(WIDTH, 3, WALKING, has_tails)
        step = head(hidden(1), velocity_NLC, torch.full((1,), 10.0))
        costs.append(-float(step.log_density(torch.tensor([[1e4, -1e4]])).detach()))
    assert costs[1] < costs[0] / 10
