"""Densities of the next step, the heads that predict them, and the loss they give.

The next step is factorised p(log dt) p(east, north | dt). The unit of every negative
log-likelihood here is nats per target point, with durations measured in log(seconds + MIN_STEP_S)
and displacements in metres.

Shapes: D model width, M mixture components, L lags, C coordinates (east, north); `...` any leading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .encoding import LAGS, Normaliser, recent_speed_mps

LOG_TWO_PI = math.log(2 * math.pi)
MIN_LOG_STEP_SCALE = 0.01  # of a log second: constant sampling must not reach infinite density
MIN_STEP_SCALE_M = 0.1  # repeated positions neither
_BISECTIONS = 26  # halvings that exhaust a float32


@dataclass(frozen=True)
class Loss:
    """Sums over targets and their count: the mean is taken once, where batches are added up."""

    total: Tensor
    count: Tensor
    parts: dict[str, Tensor]

    @property
    def mean(self) -> Tensor:
        """Loss per target; zero where a batch has none."""
        return self.total / self.count.clamp(min=1)


# ---------------------------------------------------------------------------------- densities


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

    def cumulative(self, value: Tensor) -> Tensor:
        error_M = (value.unsqueeze(-1) - self.mean_M) / self.scale_M
        return (self.log_weight_M.exp() * torch.special.ndtr(error_M)).sum(-1)

    def mean(self) -> Tensor:
        return (self.log_weight_M.exp() * self.mean_M).sum(-1)

    def median(self) -> Tensor:
        """The value with half the mass below it, by bisection between the components' means."""
        low, high = self.mean_M.amin(-1), self.mean_M.amax(-1)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            is_above = self.cumulative(middle) < 0.5
            low, high = torch.where(is_above, middle, low), torch.where(is_above, high, middle)
        return (low + high) / 2

    def sample(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """The value that draws from U(0, 1) and N(0, 1) stand for."""
        chosen = _choose(self.log_weight_M, uniform)
        mean, scale = (part.gather(-1, chosen).squeeze(-1) for part in (self.mean_M, self.scale_M))
        return mean + scale * normal


@dataclass(frozen=True)
class StepMixture:
    """A mixture of Gaussians over steps in metres, their axes along and across a heading."""

    log_weight_M: Tensor
    mean_m_MC: Tensor  # east, north
    scale_m_MC: Tensor  # along, across
    heading_C: Tensor  # unit vector: east, north
    reach_m: Tensor  # how far the object would go at its recent speed

    def log_density(self, step_m_C: Tensor) -> Tensor:
        error_m_MC = step_m_C.unsqueeze(-2) - self.mean_m_MC
        error_MC = to_heading(error_m_MC, self.heading_C.unsqueeze(-2)) / self.scale_m_MC
        log_density_MC = -0.5 * error_MC.square() - self.scale_m_MC.log() - 0.5 * LOG_TWO_PI
        return torch.logsumexp(self.log_weight_M + log_density_MC.sum(-1), dim=-1)

    def mean(self) -> Tensor:
        return (self.log_weight_M.exp().unsqueeze(-1) * self.mean_m_MC).sum(-2)

    def miss(self, step_m_C: Tensor) -> Tensor:
        """Distance from the mean to a step, in units of the reach."""
        error_m_C = step_m_C - self.mean()
        return torch.sqrt(error_m_C.square().sum(-1) + MIN_STEP_SCALE_M**2) / self.reach_m

    def sample(self, uniform: Tensor, normal_C: Tensor) -> Tensor:
        """The step that draws from U(0, 1) and N(0, 1) stand for."""
        chosen = _choose(self.log_weight_M, uniform).unsqueeze(-1)
        chosen = chosen.expand(*chosen.shape[:-1], 2)
        mean_m_C = self.mean_m_MC.gather(-2, chosen).squeeze(-2)
        scale_m_C = self.scale_m_MC.gather(-2, chosen).squeeze(-2)
        return mean_m_C + from_heading(scale_m_C * normal_C, self.heading_C)


def to_heading(vector_C: Tensor, heading_C: Tensor) -> Tensor:
    """(east, north) as (along, across), across pointing to the left."""
    east, north = vector_C.unbind(-1)
    cosine, sine = heading_C.unbind(-1)
    return torch.stack([east * cosine + north * sine, north * cosine - east * sine], dim=-1)


def from_heading(vector_C: Tensor, heading_C: Tensor) -> Tensor:
    """(along, across) as (east, north): the inverse of `to_heading`."""
    return to_heading(vector_C, heading_C * heading_C.new_tensor([1.0, -1.0]))


def heading_of(velocity_C: Tensor) -> Tensor:
    """The unit vector of a velocity; east where nothing moves."""
    speed = torch.linalg.vector_norm(velocity_C, dim=-1, keepdim=True)
    east_C = velocity_C.new_tensor([1.0, 0.0])
    return torch.where(speed > 0, velocity_C / speed.clamp(min=1e-12), east_C)


def _choose(log_weight_M: Tensor, uniform: Tensor) -> Tensor:
    """Index (..., 1) of the component whose share of (0, 1) holds the draw."""
    below_M = log_weight_M.exp().cumsum(-1) < uniform.unsqueeze(-1)
    return below_M.sum(-1, keepdim=True).clamp(max=log_weight_M.shape[-1] - 1)


# ---------------------------------------------------------------------------------- heads


class DurationHead(nn.Module):
    """p(log dt): a mixture around the dataset's typical sampling interval."""

    def __init__(self, width: int, num_components: int, normaliser: Normaliser) -> None:
        super().__init__()
        self.normaliser = normaliser
        self.project = nn.Linear(width, 3 * num_components)
        with torch.no_grad():
            self.project.weight.mul_(0.1)
            self.project.bias.zero_()
            self.project.bias[2 * num_components :] = _ladder(num_components, 0.05, 2.0)

    def forward(self, hidden_D: Tensor) -> GaussianMixture:
        logit_M, mean_M, log_scale_M = self.project(hidden_D).chunk(3, dim=-1)
        scale = self.normaliser.log_step_scale
        return GaussianMixture(
            log_weight_M=logit_M.log_softmax(-1),
            mean_M=self.normaliser.log_step_center + scale * mean_M,
            scale_M=MIN_LOG_STEP_SCALE + scale * log_scale_M.clamp(-8, 4).exp(),
        )


class StepHead(nn.Module):
    """p(east, north | dt): a mixture around the context's own motion.

    The mean step is dt times a sum of the recent velocities, each damped and turned by numbers
    that the network chooses, plus an offset per component. Scales and offsets are in units of how
    far the object would go in dt at its recent speed, so one set of weights fits what walks and
    what flies. Untrained, the head continues the mean of the recent velocities.
    """

    def __init__(self, width: int, num_components: int, normaliser: Normaliser) -> None:
        super().__init__()
        self.normaliser = normaliser
        self.widen = nn.Linear(width + 1, width)
        self.sizes = [len(LAGS), len(LAGS), num_components, 2 * num_components, 2 * num_components]
        self.project = nn.Linear(width, sum(self.sizes))
        with torch.no_grad():
            self.project.weight.mul_(0.1)
            self.project.bias.zero_()
            self.project.bias[: len(LAGS)] = 1 / len(LAGS)
            ladder = _ladder(num_components, 0.1, 1.5).repeat_interleave(2)
            self.project.bias[-2 * num_components :] = ladder

    def forward(self, hidden_D: Tensor, velocity_mps_LC: Tensor, step_s: Tensor) -> StepMixture:
        """`step_s` is the given duration of the next step."""
        code = torch.asinh(self.normaliser.encode_step_s(step_s)).unsqueeze(-1)
        raw = self.project(nn.functional.gelu(self.widen(torch.cat([hidden_D, code], dim=-1))))
        damp_L, turn_L, logit_M, offset, log_scale = raw.split(self.sizes, dim=-1)
        reach_m = self._reach_m(velocity_mps_LC, step_s)
        reach_m_11 = reach_m[..., None, None]
        carried_m_C = step_s.unsqueeze(-1) * _steer(velocity_mps_LC, damp_L, turn_L)
        scale_MC = log_scale.unflatten(-1, (-1, 2)).clamp(-8, 4).exp()
        return StepMixture(
            log_weight_M=logit_M.log_softmax(-1),
            mean_m_MC=carried_m_C.unsqueeze(-2) + reach_m_11 * offset.unflatten(-1, (-1, 2)),
            scale_m_MC=MIN_STEP_SCALE_M + reach_m_11 * scale_MC,
            heading_C=heading_of(velocity_mps_LC[..., 1, :]),
            reach_m=reach_m,
        )

    def _reach_m(self, velocity_mps_LC: Tensor, step_s: Tensor) -> Tensor:
        """How far the object goes in a step at its recent speed, with a floor in metres."""
        floor_mps = 0.05 * self.normaliser.speed_scale_mps
        floor_m = 0.05 * self.normaliser.extent_scale_m
        travelled_m = step_s * recent_speed_mps(velocity_mps_LC, floor_mps)
        return torch.sqrt(travelled_m.square() + floor_m**2)


def _steer(velocity_LC: Tensor, damp_L: Tensor, turn_L: Tensor) -> Tensor:
    """The sum of the velocities, each times damp and, turned left by 90 degrees, times turn."""
    left_LC = torch.stack([-velocity_LC[..., 1], velocity_LC[..., 0]], dim=-1)
    return (damp_L.unsqueeze(-1) * velocity_LC + turn_L.unsqueeze(-1) * left_LC).sum(-2)


def _ladder(num_components: int, low: float, high: float) -> Tensor:
    """Logarithms of scales from low to high: from the start some component is near any error."""
    return torch.linspace(math.log(low), math.log(high), num_components)
