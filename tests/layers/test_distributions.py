"""Densities integrate to one and to their moments, and their samples have them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions

from model.earth.geometry import from_heading, to_heading
from model.layers.distributions import GaussianMixture, StepMixture

NUM_DRAWS = 40_000
KOLMOGOROV = 0.0097  # distance of so many draws that chance exceeds once in a thousand


@pytest.fixture
def duration_density():
    return GaussianMixture(
        torch.tensor([0.2, 0.5, 0.3]).double().log().log_softmax(-1),
        torch.tensor([-1.0, 0.5, 2.0]).double(),
        torch.tensor([0.3, 0.1, 1.0]).double(),
    )


@pytest.fixture
def step_density():
    return make_step_density()


@pytest.fixture
def tailed_density():
    return make_step_density(torch.tensor([3.0, 8.0]).double())


def make_step_density(freedom_M=None):
    heading_C = torch.tensor([0.6, 0.8], dtype=torch.float64)
    return StepMixture(
        torch.tensor([0.3, 0.7]).double().log().log_softmax(-1),
        torch.tensor([[-2.0, 1.0], [1.0, 3.0]]).double(),
        torch.tensor([[2.0, 0.5], [0.7, 1.2]]).double(),
        heading_C,
        torch.tensor(1.0).double(),
        freedom_M,
    )


def plane():
    """A grid of steps (N, C) and the area of its cells."""
    axis = torch.linspace(-20, 20, 801, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), float((axis[1] - axis[0]) ** 2)


def test_duration_density_integrates_to_one_and_to_its_quantiles(duration_density):
    value = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    density = duration_density.log_density(value).exp()
    assert float(torch.trapezoid(density, value)) == pytest.approx(1, abs=1e-9)
    twin = torch_mixture(duration_density, distributions.Normal)
    assert float(twin.cdf(duration_density.median())) == pytest.approx(0.5)
    for share in (0.01, 0.1, 0.9, 0.99):
        assert float(twin.cdf(duration_density.quantile(share))) == pytest.approx(share, abs=1e-5)


def test_step_density_integrates_to_one_and_to_its_mean(step_density):
    step_m_NC, area = plane()
    mass_N = step_density.log_density(step_m_NC).exp() * area
    assert float(mass_N.sum()) == pytest.approx(1, abs=1e-9)
    mean_m_C = (mass_N.unsqueeze(-1) * step_m_NC).sum(0)
    torch.testing.assert_close(step_density.mean(), mean_m_C, rtol=0, atol=1e-9)


def test_duration_samples_match_the_density(duration_density):
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(NUM_DRAWS, generator=generator, dtype=torch.float64)
    normal = torch.randn(NUM_DRAWS, generator=generator, dtype=torch.float64)
    many = GaussianMixture(
        duration_density.log_weight_M.expand(NUM_DRAWS, -1),
        duration_density.mean_M.expand(NUM_DRAWS, -1),
        duration_density.scale_M.expand(NUM_DRAWS, -1),
    )
    twin = torch_mixture(duration_density, distributions.Normal)
    assert kolmogorov_distance(twin.cdf(many.sample(uniform, normal))) < KOLMOGOROV


def test_step_samples_match_the_density(step_density):
    generator = torch.Generator().manual_seed(0)
    uniform_S = torch.rand(NUM_DRAWS, generator=generator, dtype=torch.float64)
    normal_SC = torch.randn(NUM_DRAWS, 2, generator=generator, dtype=torch.float64)
    many = StepMixture(
        step_density.log_weight_M.expand(NUM_DRAWS, -1),
        step_density.mean_m_MC.expand(NUM_DRAWS, -1, -1),
        step_density.scale_m_MC.expand(NUM_DRAWS, -1, -1),
        step_density.heading_C.expand(NUM_DRAWS, -1),
        step_density.reach_m.expand(NUM_DRAWS),
    )
    sample_m_SC = many.sample(uniform_S, normal_SC)
    step_m_NC, area = plane()
    mass_N = step_density.log_density(step_m_NC).exp() * area
    for direction in (0.0, 0.7, 1.4, 2.1, 2.8):
        axis_C = torch.tensor([math.cos(direction), math.sin(direction)], dtype=torch.float64)
        for limit in (-3.0, -0.5, 0.77, 2.0, 4.0):
            expected = float(mass_N[step_m_NC @ axis_C < limit].sum())
            share = float((sample_m_SC @ axis_C < limit).double().mean())
            assert share == pytest.approx(expected, abs=0.015)


def test_heading_frame_turns_back():
    vector_NC = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    heading_C = torch.tensor([0.6, 0.8], dtype=torch.float64)
    torch.testing.assert_close(from_heading(to_heading(vector_NC, heading_C), heading_C), vector_NC)
    torch.testing.assert_close(to_heading(heading_C, heading_C), torch.tensor([1.0, 0.0]).double())


# ------------------------------------------------------------------ against torch


def torch_mixture(density, family):
    weights = distributions.Categorical(logits=density.log_weight_M)
    return distributions.MixtureSameFamily(weights, family(density.mean_M, density.scale_M))


def test_duration_density_equals_torch(duration_density):
    value = torch.linspace(-3, 5, 50, dtype=torch.float64)
    twin = torch_mixture(duration_density, distributions.Normal)
    torch.testing.assert_close(duration_density.log_density(value), twin.log_prob(value))


def kolmogorov_distance(rank):
    """How far ranks in a distribution are from even ones."""
    even = torch.linspace(0, 1, len(rank), dtype=torch.float64)
    return float((rank.sort().values - even).abs().max())


def component(step_density, number):
    """One component alone."""
    return StepMixture(
        torch.zeros(1).double(),
        step_density.mean_m_MC[number : number + 1],
        step_density.scale_m_MC[number : number + 1],
        step_density.heading_C,
        step_density.reach_m,
        None if step_density.freedom_M is None else step_density.freedom_M[number : number + 1],
    )


def test_step_density_equals_torch(step_density):
    """Components as Gaussians of two dimensions with a full covariance."""
    step_m_NC = 3 * torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator())
    along, across = step_density.heading_C, step_density.heading_C.flip(0) * torch.tensor([-1, 1])
    axes_CC = torch.stack([along, across], dim=1)
    covariance_MCC = axes_CC @ torch.diag_embed(step_density.scale_m_MC.square()) @ axes_CC.T
    twin = distributions.MixtureSameFamily(
        distributions.Categorical(logits=step_density.log_weight_M),
        distributions.MultivariateNormal(step_density.mean_m_MC, covariance_MCC),
    )
    torch.testing.assert_close(step_density.log_density(step_m_NC), twin.log_prob(step_m_NC))


@pytest.mark.parametrize("number", [0, 1])
def test_tailed_steps_have_the_marginals_of_torch(tailed_density, number):
    """Along and across, a Student's t of two dimensions has one of one, of the same freedom."""
    one = component(tailed_density, number)
    axis = torch.sinh(torch.linspace(-12, 12, 20_001, dtype=torch.float64))
    for side in range(2):
        for place in (-4.0, 0.0, 0.7, 6.0):
            error_NC = torch.stack([torch.full_like(axis, place), axis], dim=-1)
            error_NC = error_NC if side == 0 else error_NC.flip(-1)
            step_m_NC = one.mean_m_MC + from_heading(error_NC, one.heading_C)
            found = torch.trapezoid(one.log_density(step_m_NC).exp(), axis)
            scale = float(one.scale_m_MC[0, side])
            twin = distributions.StudentT(float(one.freedom_M), 0.0, scale)
            expected = float(twin.log_prob(torch.tensor(place)).exp())
            assert float(found) == pytest.approx(expected, rel=1e-5)


def test_tailed_steps_integrate_to_one(tailed_density):
    axis = torch.sinh(torch.linspace(-8, 8, 1_601, dtype=torch.float64))
    width = torch.cosh(torch.linspace(-8, 8, 1_601, dtype=torch.float64)) * 0.01
    mass_N = tailed_density.log_density(torch.cartesian_prod(axis, axis)).exp()
    mass = mass_N @ torch.cartesian_prod(width, width).prod(-1)
    assert float(mass) == pytest.approx(1, abs=1e-5)


def test_tailed_steps_become_gaussian(step_density):
    many = make_step_density(torch.tensor([1e8, 1e8]).double())
    step_m_NC = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator())
    expected = step_density.log_density(step_m_NC)
    torch.testing.assert_close(many.log_density(step_m_NC), expected, rtol=0, atol=1e-5)
    uniform, normal_C = torch.tensor(0.5).double(), torch.tensor([2.0, -1.0]).double()
    torch.testing.assert_close(
        many.sample(uniform, normal_C), step_density.sample(uniform, normal_C), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("number", [0, 1])
def test_samples_of_tailed_steps_match_the_density(tailed_density, number):
    """Each axis against the distribution function of torch's density, by quadrature."""
    one = component(tailed_density, number)
    many = StepMixture(
        one.log_weight_M.expand(NUM_DRAWS, -1),
        one.mean_m_MC.expand(NUM_DRAWS, -1, -1),
        one.scale_m_MC.expand(NUM_DRAWS, -1, -1),
        one.heading_C.expand(NUM_DRAWS, -1),
        one.reach_m.expand(NUM_DRAWS),
        one.freedom_M.expand(NUM_DRAWS, -1),
    )
    generator = torch.Generator().manual_seed(2)
    uniform_S = torch.rand(NUM_DRAWS, generator=generator, dtype=torch.float64)
    normal_SC = torch.randn(NUM_DRAWS, 2, generator=generator, dtype=torch.float64)
    sample_m_SC = many.sample(uniform_S, normal_SC) - one.mean_m_MC
    error_SC = to_heading(sample_m_SC, one.heading_C) / one.scale_m_MC
    value = torch.sinh(torch.linspace(-12, 12, 20_001, dtype=torch.float64))
    density = distributions.StudentT(float(one.freedom_M)).log_prob(value).exp()
    below = torch.cumulative_trapezoid(density, value)
    for error_S in error_SC.T.contiguous():
        rank_S = below[torch.searchsorted(value, error_S).clamp(max=len(below)) - 1]
        assert kolmogorov_distance(rank_S) < KOLMOGOROV
    rank_S = below[
        torch.searchsorted(value, normal_SC[:, 0].contiguous()).clamp(max=len(below)) - 1
    ]
    assert kolmogorov_distance(rank_S) > KOLMOGOROV  # a plain normal draw has other tails
