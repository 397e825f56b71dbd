"""Distributions of the next step and of durations (mixture densities), and samples of them.

The next step is factorised p(log dt) p(east, north | dt). The unit of every negative
log-likelihood here is nats per target point, with durations measured in log(seconds + MIN_STEP_S)
and displacements in metres. Samples are a function of draws, so that the caller owns the chance.

Shapes: M mixture components, C coordinates (east, north), N rows, S samples, H points of the
horizon, E draws; `...` any leading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..earth.columns import Columns
from ..earth.geometry import from_heading, to_heading

LOG_TWO_PI = math.log(2 * math.pi)
MIN_LOG_STEP_SCALE = 0.01  # of a log second: constant sampling must not reach infinite density
MIN_STEP_SCALE_M = 0.1  # repeated positions neither
_TAIL = 6.0  # deviations that hold all but 10^-9 of a Gaussian
_PARTS, _ROUNDS = 8, 9  # eighths of eighths that exhaust a float32


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of Gaussians over a number: here the logarithm of seconds."""

    log_weight_M: Tensor
    mean_M: Tensor
    scale_M: Tensor

    def log_density(self, value: Tensor) -> Tensor:
        error_M = (value.unsqueeze(-1) - self.mean_M) / self.scale_M
        log_density_M = -0.5 * error_M.square() - self.scale_M.log() - 0.5 * LOG_TWO_PI
        return torch.logsumexp(self.log_weight_M + log_density_M, dim=-1)

    def median(self) -> Tensor:
        """The value with half the mass below it, searched between the components' means."""
        return self._searched(0.5, self.mean_M.amin(-1), self.mean_M.amax(-1))

    def quantile(self, share: float) -> Tensor:
        """The value with a share of the mass below it."""
        reach_M = _TAIL * self.scale_M
        return self._searched(
            share, (self.mean_M - reach_M).amin(-1), (self.mean_M + reach_M).amax(-1)
        )

    def _searched(self, share: float, low: Tensor, high: Tensor) -> Tensor:
        """By bisection, but into eighths: a few of them at once cost no more than one."""
        weight_1M, mean_1M, scale_1M = (
            part_M.unsqueeze(-2) for part_M in (self.log_weight_M.exp(), self.mean_M, self.scale_M)
        )
        place_P = torch.arange(1, _PARTS, device=low.device, dtype=low.dtype) / _PARTS
        width = high - low
        for _ in range(_ROUNDS):
            inner_P = torch.addcmul(low.unsqueeze(-1), width.unsqueeze(-1), place_P)
            error_PM = (inner_P.unsqueeze(-1) - mean_1M) / scale_1M
            mass_P = (weight_1M * torch.special.ndtr(error_PM)).sum(-1)
            width = width / _PARTS
            low = low + width * (mass_P < share).sum(-1)
        return low + width / 2

    def sample(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """The value that draws from U(0, 1) and N(0, 1) stand for."""
        chosen = _choose(self.log_weight_M, uniform)
        mean, scale = (part.gather(-1, chosen).squeeze(-1) for part in (self.mean_M, self.scale_M))
        return mean + scale * normal


@dataclass(frozen=True)
class StepMixture:
    """A mixture over steps in metres, the axes of each component along and across a heading.

    Components are Gaussians, or Student's t of two dimensions where their degrees of freedom are
    given: then a step far off costs the logarithm of its distance and not its square.
    """

    log_weight_M: Tensor
    mean_m_MC: Tensor  # east, north
    scale_m_MC: Tensor  # along, across
    heading_C: Tensor  # unit vector: east, north
    reach_m: Tensor  # how far the object would go at its recent speed
    freedom_M: Tensor | None = None

    def log_density(self, step_m_C: Tensor) -> Tensor:
        error_m_MC = step_m_C.unsqueeze(-2) - self.mean_m_MC
        error_MC = to_heading(error_m_MC, self.heading_C.unsqueeze(-2)) / self.scale_m_MC
        square_M = error_MC.square().sum(-1)
        if self.freedom_M is None:
            fall_M = 0.5 * square_M
        else:
            fall_M = (self.freedom_M / 2 + 1) * torch.log1p(square_M / self.freedom_M)
        log_density_M = -fall_M - self.scale_m_MC.log().sum(-1) - LOG_TWO_PI
        return torch.logsumexp(self.log_weight_M + log_density_M, dim=-1)

    def mean(self) -> Tensor:
        return (self.log_weight_M.exp().unsqueeze(-1) * self.mean_m_MC).sum(-2)

    def miss(self, step_m_C: Tensor) -> Tensor:
        """Distance from the mean to a step, in units of the reach."""
        error_m_C = step_m_C - self.mean()
        return torch.sqrt(error_m_C.square().sum(-1) + MIN_STEP_SCALE_M**2) / self.reach_m

    def sample(self, uniform: Tensor, normal_C: Tensor) -> Tensor:
        """The step that draws from U(0, 1) and N(0, 1) stand for."""
        chosen = _choose(self.log_weight_M, uniform)
        if self.freedom_M is not None:
            normal_C = _with_tails(normal_C, self.freedom_M.gather(-1, chosen))
        chosen_C = chosen.unsqueeze(-1).expand(*chosen.shape, 2)
        mean_m_C = self.mean_m_MC.gather(-2, chosen_C).squeeze(-2)
        scale_m_C = self.scale_m_MC.gather(-2, chosen_C).squeeze(-2)
        return mean_m_C + from_heading(scale_m_C * normal_C, self.heading_C)


@dataclass(frozen=True)
class Noise(Columns):
    """Draws that make one sample of a horizon: the same for every context.

    A context's samples then depend neither on its neighbours nor on its place in the batch.
    """

    uniform_SHE: Tensor  # component of the duration, component of the step
    normal_SHE: Tensor  # duration, along, across

    @classmethod
    def drawn(cls, num_samples: int, num_horizon: int, seed: int) -> Noise:
        generator = torch.Generator().manual_seed(seed)
        return cls(
            torch.rand(num_samples, num_horizon, 2, generator=generator),
            torch.randn(num_samples, num_horizon, 3, generator=generator),
        )

    @classmethod
    def shared(cls, num_samples: int, seed: int) -> Noise:
        """Draws that all points of a sample share, (S, 1, E).

        They are spread evenly (Sobol 1967, scrambled), for chance would not average out: every
        context has the same draws, so an uneven set would make all radii too wide or too narrow.
        """
        if not num_samples:
            return cls(torch.zeros(0, 1, 2), torch.zeros(0, 1, 3))
        engine = torch.quasirandom.SobolEngine(5, scramble=True, seed=seed)
        draw_SE = engine.draw(num_samples, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
        draw_S1E = draw_SE.unsqueeze(1)
        normal_S1E = torch.special.ndtri(draw_S1E[..., 2:]).float()
        return cls(draw_S1E[..., :2].float(), normal_S1E)


def told_number(density: GaussianMixture, noise: Noise | None, step: int = 0) -> Tensor:
    """The median of each row, or what the draws of a step of the horizon stand for.

    The samples of a context stand together.
    """
    if noise is None:
        return density.median()
    like_N = density.mean_M[:, 0]
    uniform_N = _repeated(noise.uniform_SHE[:, step, 0], like_N)
    return density.sample(uniform_N, _repeated(noise.normal_SHE[:, step, 0], like_N))


def told_step_m(density: StepMixture, noise: Noise | None, step: int = 0) -> Tensor:
    """The mean of each row, or what the draws of a step of the horizon stand for."""
    if noise is None:
        return density.mean()
    uniform_N = _repeated(noise.uniform_SHE[:, step, 1], density.reach_m)
    return density.sample(uniform_N, _repeated(noise.normal_SHE[:, step, 1:], density.reach_m))


def _repeated(draw_SE: Tensor, like_N: Tensor) -> Tensor:
    """The draws of the samples for each row."""
    repeats = [len(like_N) // len(draw_SE)] + [1] * (draw_SE.ndim - 1)
    return draw_SE.repeat(repeats).to(like_N)


def _choose(log_weight_M: Tensor, uniform: Tensor) -> Tensor:
    """Index (..., 1) of the component whose share of (0, 1) holds the draw."""
    below_M = log_weight_M.exp().cumsum(-1) < uniform.unsqueeze(-1)
    return below_M.sum(-1, keepdim=True).clamp(max=log_weight_M.shape[-1] - 1)


def _with_tails(normal_C: Tensor, freedom_1: Tensor) -> Tensor:
    """The draw of a Student's t in two dimensions that has the rank and direction of a normal one.

    exp(-r^2 / 2) of a normal draw is uniform, and so is (1 + q^2 / v)^(-v / 2) of a Student's.
    """
    square_1 = normal_C.square().sum(-1, keepdim=True).clamp(min=1e-12)
    return normal_C * torch.sqrt(freedom_1 * torch.expm1(square_1 / freedom_1) / square_1)
