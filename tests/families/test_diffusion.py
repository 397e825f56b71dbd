"""The diffusion alone: its schedule, its target, and samplers against laws that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from model.families.gdm import diffusion
from model.families.gdm.diffusion import (
    MAX_WEIGHT,
    clean_of,
    ddim,
    dpm_solver,
    noise_of,
    noise_within,
    noised,
    repaint,
    shares_at,
    signal_of,
    times_of,
    velocity_of,
    weight_of,
)
from model.families.gdm.noise import sample_noise


def random_numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


# ------------------------------------------------------------------ schedule


def check_ends_in_noise(last_signal):
    """What sampling begins with, noise alone, is what training has seen last."""
    assert last_signal == 0


def test_the_schedule_ends_without_any_signal():
    check_ends_in_noise(float(signal_of(torch.tensor(1.0))))
    # As published: a thousand steps between these square roots.
    published = np.linspace(0.00085**0.5, 0.012**0.5, 1_000) ** 2
    with pytest.raises(AssertionError):
        check_ends_in_noise(math.sqrt(np.prod(1 - published)))


def test_the_schedule_keeps_the_variance():
    time = torch.linspace(0, 1, 101, dtype=torch.float64)
    signal, share = signal_of(time), noise_of(time)
    torch.testing.assert_close(signal**2 + share**2, torch.ones_like(time))
    assert (signal.diff() < 0).all()
    assert (float(share[0]), float(signal[0])) == (0, 1)


@pytest.mark.parametrize("time", [0.0, 0.3, 0.9, 1.0])
def test_the_target_tells_both_what_is_clean_and_what_is_noise(time):
    clean, noise = random_numbers(2, 5, 3)
    now = torch.tensor(time, dtype=torch.float64)
    x, target = noised(clean, noise, now), velocity_of(clean, noise, now)
    torch.testing.assert_close(clean_of(x, target, now), clean)
    torch.testing.assert_close(noise_within(x, target, now), noise)


def test_the_weight_clips_what_an_error_of_clean_numbers_counts():
    """From ratios of signal to noise, as the paper writes it; noise alone is trained too."""
    time = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    of_clean = 1 / noise_of(time) ** 2  # an error of v, told as one of x_0
    torch.testing.assert_close(weight_of(time) * of_clean, of_clean.clamp(max=MAX_WEIGHT))
    assert float(weight_of(torch.tensor(1.0))) == 1
    assert float(weight_of(torch.tensor(0.0))) == 0


# ------------------------------------------------------------------ samplers


def tilted(x, time):
    """A velocity like no law's, so that a sampler has to ask it at the right places."""
    return torch.sin(2 * x) + time * x.roll(1, -1)


def independent_ddim(noise, num_passes, eta, fresh):
    """DDIM in the words of its paper (Song et al. 2021, equation 12), with alpha-bar and epsilon.

    Only the schedule and the meaning of v are taken from here.
    """
    x = noise.numpy()
    alpha_bar = np.cos(np.pi / 2 * np.linspace(1, 0, num_passes + 1)) ** 2
    alpha_bar[0] = 0.0
    for step in range(num_passes):
        here, there = alpha_bar[step], alpha_bar[step + 1]
        time = 1 - step / num_passes
        v = tilted(torch.from_numpy(x), time).numpy()
        epsilon = np.sqrt(1 - here) * x + np.sqrt(here) * v
        if here > 0:
            predicted = (x - np.sqrt(1 - here) * epsilon) / np.sqrt(here)
        else:
            predicted = -v
        sigma = eta * np.sqrt((1 - there) / (1 - here)) * np.sqrt(1 - here / there)
        direction = np.sqrt(max(0.0, 1 - there - sigma**2)) * epsilon
        x = np.sqrt(there) * predicted + direction
        if sigma > 0:
            x = x + sigma * fresh[step].numpy()
    return x


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_agrees_with_an_independent_one(eta):
    noise, fresh = random_numbers(6, 4), random_numbers(9, 6, 4, seed=1)
    found = ddim(tilted, noise, 9, eta, lambda number: fresh[number])
    expected = independent_ddim(noise, 9, eta, fresh)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


MEAN, DEVIATION = 0.7, 0.4


def exact_velocity(x, time):
    """v of N(MEAN, DEVIATION^2), from its score: no network."""
    now = torch.tensor(time, dtype=torch.float64)
    signal, share = signal_of(now), noise_of(now)
    gain = signal * DEVIATION**2 / (signal**2 * DEVIATION**2 + share**2)
    clean = MEAN + gain * (x - signal * MEAN)
    noise = (x - signal * clean) / share
    return velocity_of(clean, noise, now)


def worst_error(sampler, num_passes):
    """The flow of a Gaussian keeps each number at its quantile: that is the exact solution."""
    noise = torch.linspace(-3, 3, 25, dtype=torch.float64)
    found = sampler(exact_velocity, noise, num_passes)
    return float((found - (MEAN + DEVIATION * noise)).abs().max())


def test_dpm_solver_converges_to_the_exact_solution():
    """Twice the passes divide the error by nearly four, where DDIM halves it."""
    error, plain = (
        {number: worst_error(sampler, number) for number in (20, 80, 160, 320, 640)}
        for sampler in (dpm_solver, ddim)
    )
    for number in (80, 160, 320):
        assert 2.5 < error[number] / error[2 * number] < 4.5, error
        assert 1.9 < plain[number] / plain[2 * number] < 2.1, plain
    assert all(error[number] < plain[number] / 5 for number in error)
    assert error[20] < 0.01
    assert error[640] < 2e-4


def test_fresh_noise_keeps_the_law():
    """With the exact score the sampler of DDPM gives mean and deviation as well."""
    generator = torch.Generator().manual_seed(1)
    noise = random_numbers(20_000)

    def fresh(_):
        return torch.randn(20_000, dtype=torch.float64, generator=generator)

    found = ddim(exact_velocity, noise, 300, 1.0, fresh)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(found.std()) == pytest.approx(DEVIATION, abs=0.015)


# ------------------------------------------------------------------ repainting

CORRELATION, KNOWN = 0.8, 1.5


def velocity_of_pair(x_N2, time):
    """v of two numbers of mean 0 and variance 1 that are correlated, from their score."""
    law = torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]], dtype=torch.float64)
    variance_2, axes = torch.linalg.eigh(law)
    signal, share = shares_at(time)
    gain_2 = signal * variance_2 / (signal**2 * variance_2 + share**2)
    clean_N2 = ((x_N2 @ axes) * gain_2) @ axes.T
    return signal * (x_N2 - signal * clean_N2) / share - share * clean_N2


def check_repaints(num_turns, num_passes, monkeypatch):
    """The first number beside the second, which is known: by the law of Gaussians."""
    monkeypatch.setattr(diffusion, "NUM_TURNS", num_turns)

    def painted(x_N2, time, noise_N2):
        signal, share = shares_at(time)
        return torch.stack([x_N2[:, 0], signal * KNOWN + share * noise_N2[:, 1]], dim=-1)

    generator = torch.Generator().manual_seed(0)
    fresh = iter(lambda: torch.randn(4_000, 2, dtype=torch.float64, generator=generator), None)
    found_N2 = repaint(velocity_of_pair, next(fresh), num_passes, painted, fresh)
    assert (found_N2[:, 1] == KNOWN).all()
    assert float(found_N2[:, 0].mean()) == pytest.approx(CORRELATION * KNOWN, abs=0.1)
    assert float(found_N2[:, 0].std()) == pytest.approx((1 - CORRELATION**2) ** 0.5, abs=0.1)


def test_repainting_comes_near_the_law_beside_what_is_known(monkeypatch):
    """With many turns; a single one leaves most of what is known unheard."""
    check_repaints(10, 600, monkeypatch)
    with pytest.raises(AssertionError):
        check_repaints(1, 600, monkeypatch)


def test_times_go_from_noise_to_none():
    assert times_of(4) == [1.0, 0.75, 0.5, 0.25, 0.0]


# ------------------------------------------------------------------ noise of samples


def test_a_sample_has_its_noise_by_its_number():
    noise_PSTF = sample_noise(range(5), 7, 3, seed=2)
    assert noise_PSTF.shape == (3, 5, 7, 3)
    assert torch.equal(sample_noise(range(3, 5), 7, 3, seed=2), noise_PSTF[:, 3:])
    assert torch.equal(sample_noise(range(5), 4, 3, seed=2), noise_PSTF[:, :, :4])
    assert not torch.equal(sample_noise(range(5), 7, 3, seed=3), noise_PSTF)
    whole = sample_noise(range(500), 40, 1, seed=2)
    assert float(whole.mean()) == pytest.approx(0, abs=0.02)
    assert float(whole.std()) == pytest.approx(1, abs=0.02)
