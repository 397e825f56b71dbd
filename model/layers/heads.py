"""Heads: what a hidden state says of the next step, of quantiles, of a region.

Shapes: D model width, M mixture components, W ways, L lags, C coordinates (east, north), V values,
Q levels of quantiles, R regions; `...` any leading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..earth.geometry import heading_of
from ..features.normaliser import Normaliser
from ..features.point_features import LAGS, recent_speed_mps
from .distributions import (
    LOG_TWO_PI,
    MIN_LOG_STEP_SCALE,
    MIN_STEP_SCALE_M,
    GaussianMixture,
    StepMixture,
)

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MIN_FREEDOM = 2.0  # above this the variance of a Student's t is finite


class MixtureHead(nn.Module):
    """The numbers of a mixture, from a state and from codes beside it.

    From the start some component is near any error: the last numbers begin as a ladder of scales.
    All others begin near zero, whatever the state is.
    """

    def __init__(self, width: int, num_codes: int, sizes: Sequence[int], scales: Tensor) -> None:
        super().__init__()
        if num_codes:
            self.widen = nn.Linear(width + num_codes, width)
        self.sizes = list(sizes)
        self.project = nn.Linear(width, sum(sizes))
        with torch.no_grad():
            self.project.weight.mul_(0.1)
            self.project.bias.zero_()
            self.project.bias[-len(scales) :] = scales

    def numbers(self, hidden_D: Tensor, *codes: Tensor) -> tuple[Tensor, ...]:
        """Numbers of each kind, of as many as `sizes` says."""
        if codes:
            hidden_D = functional.gelu(self.widen(torch.cat([hidden_D, *codes], dim=-1)))
        return self.project(hidden_D).split(self.sizes, dim=-1)


class NumberHead(MixtureHead):
    """p(number): a mixture of Gaussians around a center."""

    def __init__(self, width: int, num_components: int, widest: float, num_codes: int = 0) -> None:
        scales = ladder(num_components, 0.05, widest)
        super().__init__(width, num_codes, 3 * [num_components], scales)

    def around(
        self, center: Tensor | float, unit: float, hidden_D: Tensor, *codes: Tensor
    ) -> GaussianMixture:
        """Means and scales count in units."""
        logit_M, mean_M, log_scale_M = self.numbers(hidden_D, *codes)
        return GaussianMixture(
            log_weight_M=logit_M.log_softmax(-1),
            mean_M=center + unit * mean_M,
            scale_M=MIN_LOG_STEP_SCALE + unit * log_scale_M.clamp(-8, 4).exp(),
        )


class SteeringHead(MixtureHead):
    """p(east, north): a mixture around a sum of ways, each damped and turned by the network.

    Untrained, the ways are damped by `damp_W` and not turned.
    """

    def __init__(
        self, width: int, num_codes: int, damp_W: Sequence[float], scales: Tensor, has_tails: bool
    ) -> None:
        num_ways, num_components = len(damp_W), len(scales)
        num_tails = num_components if has_tails else 0
        pairs = 2 * num_components
        sizes = [num_tails, num_ways, num_ways, num_components, pairs, pairs]
        super().__init__(width, num_codes, sizes, scales.repeat_interleave(2))
        with torch.no_grad():
            self.project.bias[num_tails : num_tails + num_ways] = torch.tensor(damp_W)

    def steered(
        self, way_WC: Tensor, hidden_D: Tensor, *codes: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The sum of the ways, and the numbers of a mixture around it."""
        tails_M, damp_W, turn_W, *others = self.numbers(hidden_D, *codes)
        return steer(way_WC, damp_W, turn_W), (tails_M, *others)


def steps_around(
    center_m_C: Tensor, reach_m: Tensor, heading_C: Tensor, numbers: tuple[Tensor, ...]
) -> StepMixture:
    """A mixture around a step; offsets and scales count in the reach."""
    tails_M, logit_M, offset, log_scale = numbers
    reach_m_11 = reach_m[..., None, None]
    scale_MC = log_scale.unflatten(-1, (-1, 2)).clamp(-8, 4).exp()
    return StepMixture(
        log_weight_M=logit_M.log_softmax(-1),
        mean_m_MC=center_m_C.unsqueeze(-2) + reach_m_11 * offset.unflatten(-1, (-1, 2)),
        scale_m_MC=MIN_STEP_SCALE_M + reach_m_11 * scale_MC,
        heading_C=heading_C,
        reach_m=reach_m,
        freedom_M=MIN_FREEDOM + 10 * functional.softplus(tails_M) if tails_M.shape[-1] else None,
    )


class DurationHead(NumberHead):
    """p(log dt): a mixture around the dataset's typical sampling interval."""

    def __init__(self, width: int, num_components: int, normaliser: Normaliser) -> None:
        super().__init__(width, num_components, 2.0)
        self.normaliser = normaliser

    def forward(self, hidden_D: Tensor) -> GaussianMixture:
        normaliser = self.normaliser
        return self.around(normaliser.log_step_center, normaliser.log_step_scale, hidden_D)


class StepHead(SteeringHead):
    """p(east, north | dt): a mixture around the context's own motion.

    The mean step is dt times a sum of the recent velocities, each damped and turned by numbers
    that the network chooses, plus an offset per component. Scales and offsets are in units of how
    far the object would go in dt at its recent speed, so one set of weights fits what walks and
    what flies. Untrained, the head continues the mean of the recent velocities.
    """

    def __init__(
        self, width: int, num_components: int, normaliser: Normaliser, has_tails: bool
    ) -> None:
        damp_L = len(LAGS) * [1 / len(LAGS)]
        super().__init__(width, 1, damp_L, ladder(num_components, 0.1, 1.5), has_tails)
        self.normaliser = normaliser

    def forward(self, hidden_D: Tensor, velocity_mps_LC: Tensor, step_s: Tensor) -> StepMixture:
        """`step_s` is the given duration of the next step."""
        code = torch.asinh(self.normaliser.encode_step_s(step_s)).unsqueeze(-1)
        steered_mps_C, numbers = self.steered(velocity_mps_LC, hidden_D, code)
        heading_C = heading_of(velocity_mps_LC[..., 1, :])
        reach_m = self._reach_m(velocity_mps_LC, step_s)
        return steps_around(step_s.unsqueeze(-1) * steered_mps_C, reach_m, heading_C, numbers)

    def _reach_m(self, velocity_mps_LC: Tensor, step_s: Tensor) -> Tensor:
        """How far the object goes in a step at its recent speed, with a floor in metres."""
        floor_mps = 0.05 * self.normaliser.speed_scale_mps
        floor_m = 0.05 * self.normaliser.extent_scale_m
        travelled_m = step_s * recent_speed_mps(velocity_mps_LC, floor_mps)
        return torch.sqrt(travelled_m.square() + floor_m**2)


def steer(velocity_LC: Tensor, damp_L: Tensor, turn_L: Tensor) -> Tensor:
    """The sum of the velocities, each times damp and, turned left by 90 degrees, times turn."""
    left_LC = torch.stack([-velocity_LC[..., 1], velocity_LC[..., 0]], dim=-1)
    return (damp_L.unsqueeze(-1) * velocity_LC + turn_L.unsqueeze(-1) * left_LC).sum(-2)


def ladder(num_components: int, low: float, high: float) -> Tensor:
    """Logarithms of scales from low to high."""
    return torch.linspace(math.log(low), math.log(high), num_components)


class QuantileHead(nn.Module):
    """Deciles (..., V, Q) of each of V values; they never cross.

    Untrained, they lie around zero, a fifth apart.
    """

    def __init__(self, width: int, num_values: int) -> None:
        super().__init__()
        self.num_values = num_values
        self.project = nn.Linear(width, num_values * len(DECILES))
        with torch.no_grad():
            self.project.weight.mul_(0.1)
            self.project.bias.fill_(-1.5)
            self.project.bias.view(num_values, -1)[:, len(DECILES) // 2] = 0

    def forward(self, hidden_D: Tensor) -> Tensor:
        raw_VQ = self.project(hidden_D).unflatten(-1, (self.num_values, -1))
        middle = raw_VQ.shape[-1] // 2
        above_VQ = functional.softplus(raw_VQ[..., middle + 1 :]).cumsum(-1)
        below_VQ = functional.softplus(raw_VQ[..., :middle]).flip(-1).cumsum(-1).flip(-1)
        center_V1 = raw_VQ[..., middle : middle + 1]
        return torch.cat([center_V1 - below_VQ, center_V1, center_V1 + above_VQ], dim=-1)


def pinball(quantile_Q: Tensor, value: Tensor, level_Q: Tensor) -> Tensor:
    """Mean loss over the levels; least where each quantile has its share of values below it."""
    error_Q = value.unsqueeze(-1) - quantile_Q
    return torch.maximum(level_Q * error_Q, (level_Q - 1) * error_Q).mean(-1)


def value_at(quantile_Q: Tensor, level_Q: Tensor, normal: Tensor, least_scale: float) -> Tensor:
    """The value (float64) that a draw from N(0, 1) stands for: linear between quantiles and beyond.

    Linear in the draw and not in its share, so the tails are those of a Gaussian.
    """
    quantile_Q, deviate_Q = _held_apart(quantile_Q, level_Q, least_scale)
    normal = normal.double()
    segment_1 = torch.searchsorted(deviate_Q, normal.contiguous()).unsqueeze(-1)
    low, start, slope = _segment(quantile_Q, deviate_Q, segment_1)
    return low + slope * (normal - start)


def log_density_at(
    quantile_Q: Tensor, level_Q: Tensor, value: Tensor, least_scale: float
) -> Tensor:
    """Of a value, for the density (float64) whose draws `value_at` gives."""
    quantile_Q, deviate_Q = _held_apart(quantile_Q, level_Q, least_scale)
    segment_1 = (quantile_Q < value.unsqueeze(-1)).sum(-1, keepdim=True)
    low, start, slope = _segment(quantile_Q, deviate_Q, segment_1)
    deviate = start + (value - low) / slope
    return -0.5 * deviate.square() - 0.5 * LOG_TWO_PI - slope.log()


def _held_apart(quantile_Q: Tensor, level_Q: Tensor, least_scale: float) -> tuple[Tensor, Tensor]:
    """Quantiles with those of a Gaussian of the least scale added to them, and their deviates.

    So no scale is below the least, the mass between two stays what their levels say, and tied
    quantiles have a density. In float64: far from zero a float32 cannot hold the small gaps.
    """
    deviate_Q = torch.special.ndtri(level_Q.double())
    return quantile_Q.double() + least_scale * deviate_Q, deviate_Q


def _segment(
    quantile_Q: Tensor, deviate_Q: Tensor, upper_1: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Value and deviate where a stretch between two quantiles starts, and its slope."""
    upper_1 = upper_1.clamp(1, len(deviate_Q) - 1)
    low, high = (quantile_Q.gather(-1, index_1).squeeze(-1) for index_1 in (upper_1 - 1, upper_1))
    start, end = deviate_Q[upper_1 - 1].squeeze(-1), deviate_Q[upper_1].squeeze(-1)
    return low, start, (high - low) / (end - start)


class RegionHead(nn.Module):
    """P(region) by a softmax, or by an adaptive one (Grave et al. 2017) where cutoffs are given.

    The adaptive one wants regions numbered from the most frequent one on: those behind a cutoff
    share a narrower matrix.
    """

    def __init__(self, width: int, num_regions: int, cutoffs: Sequence[int] = ()) -> None:
        super().__init__()
        self.softmax: nn.Linear | nn.AdaptiveLogSoftmaxWithLoss = (
            nn.AdaptiveLogSoftmaxWithLoss(width, num_regions, list(cutoffs))
            if cutoffs
            else nn.Linear(width, num_regions)
        )

    def log_probability(self, hidden_ND: Tensor) -> Tensor:
        """Of every region, (N, R)."""
        if isinstance(self.softmax, nn.Linear):
            return self.softmax(hidden_ND).log_softmax(-1)
        return self.softmax.log_prob(hidden_ND)

    def nll(self, hidden_ND: Tensor, region_N: Tensor) -> Tensor:
        """Surprise (N) of the regions, in nats."""
        if isinstance(self.softmax, nn.Linear):
            return functional.cross_entropy(self.softmax(hidden_ND), region_N, reduction="none")
        return -self.softmax(hidden_ND, region_N).output
