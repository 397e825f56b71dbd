"""Durations: densities of how long a travel or a stay lasts, in seconds, and a head that tells one.

A duration may be exactly zero, with a share of its own: two stays that follow at once. One that is
not is at least `edge_s` long: what is shorter was never called a stay, and above this edge the
density is a log-normal mixture made to integrate to one. Where the end was not seen, what is known
is that it was not over yet: `log_survival`.

Everything is computed in float64: the tails of a sharp component leave the range of float32.

Shapes: M mixture components, D model width, N asked durations; `...` any leading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .distributions import LOG_TWO_PI
from .heads import MixtureHead, ladder

MIN_LOG_SCALE = 1e-3  # of log seconds: a value that repeats must not reach infinite density
MAX_SPREAD = 1.0  # log of the deviation of log seconds: nobody is unsurer than by a factor of 15
MAX_SHIFT = 10.0  # of log seconds, from a typical duration: from seconds to years
MIN_DURATION_S = 1e-3  # what is shorter is none: clocks do not tell it from zero
MAX_LOGIT = 30.0  # beyond it, a share and what it leaves are no two numbers of float64
MAX_LOG_DURATION = math.log(1e10)  # three centuries: no answer is longer
LEAST_FITTED = 0.01  # deviation of log seconds that a head begins with
_TAIL, _HALVINGS = 9.0, 64


@dataclass(frozen=True)
class DurationMixture:
    """A share at zero, and above an edge a log-normal mixture; `log_` parts are of log seconds."""

    log_zero: Tensor  # log of the share at zero; minus infinity where there is none
    log_weight_M: Tensor
    log_mean_M: Tensor
    log_scale_M: Tensor  # the deviation of log seconds
    edge_s: float = 0.0

    def log_density(self, seconds: Tensor) -> Tensor:
        """In nats of seconds; at zero the logarithm of the share that lies there."""
        log_s = self._log(seconds)
        error_M = (log_s.unsqueeze(-1) - self.log_mean_M) / self.log_scale_M
        log_M = -0.5 * error_M.square() - self.log_scale_M.log() - 0.5 * LOG_TWO_PI
        above = torch.logsumexp(self.log_weight_M + log_M, dim=-1) - log_s - self._log_above_edge
        return torch.where(seconds < MIN_DURATION_S, self.log_zero, self._log_positive + above)

    def log_survival(self, seconds: Tensor) -> Tensor:
        """Of lasting longer."""
        above = self._log_above(self._log(seconds)) - self._log_above_edge
        return self._log_positive + torch.where(seconds > self.edge_s, above, 0.0)

    def cumulative(self, seconds: Tensor) -> Tensor:
        """P(at most so long); nothing is shorter than zero."""
        return torch.where(seconds < 0, 0.0, -torch.expm1(self.log_survival(seconds)))

    def within(self, seconds: Tensor, margin_s: float) -> Tensor:
        """P(a duration that is nearer to this one than the margin)."""
        low_s = seconds - margin_s
        # At zero itself there may be mass, which lies within: begin just below it.
        begin = torch.where(low_s > self.edge_s, self.cumulative(low_s), 0.0)
        return self.cumulative(seconds + margin_s) - begin

    def quantile(self, share: Tensor | float) -> Tensor:
        """The least number of seconds that a share of the mass does not exceed."""
        rest = torch.as_tensor(share, dtype=torch.float64, device=self.log_zero.device)
        log_rest = torch.log1p(-rest.clamp(max=1 - 1e-12))  # of lasting longer than the answer
        is_zero = log_rest >= self._log_positive
        wanted = log_rest - self._log_positive + self._log_above_edge
        low, high, wanted = torch.broadcast_tensors(*self._log_range, wanted)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            is_below = self._log_above(middle) > wanted
            low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
        seconds = high.clamp(max=MAX_LOG_DURATION).exp()
        return torch.where(is_zero, 0.0, seconds)

    def mass_between(self, low_s: Tensor, high_s: Tensor) -> tuple[Tensor, Tensor]:
        """The shares of the mass below an interval, and up to its end: both ends lie within."""
        below = torch.where(low_s > 0, self.cumulative(low_s), 0.0)
        return below, torch.where(high_s < low_s, below, self.cumulative(high_s))

    def sample(
        self, uniform: Tensor, low_s: Tensor | float = 0.0, high_s: Tensor | float = math.inf
    ) -> Tensor:
        """The duration that a draw from U(0, 1) stands for, of those in an interval.

        Where the interval holds no mass it is the end that is nearer to some.
        """
        low, high = (
            torch.as_tensor(value, dtype=torch.float64).expand_as(uniform)
            for value in (low_s, high_s)
        )
        below, until = self.mass_between(low, high)
        return self.quantile(below + (until - below) * uniform).clamp(low, high)

    @property
    def _log_range(self) -> tuple[Tensor, Tensor]:
        """Between which logarithms every quantile lies."""
        low = (self.log_mean_M - _TAIL * self.log_scale_M).amin(-1).clamp(min=self._log_edge)
        high = (self.log_mean_M + _TAIL * self.log_scale_M).amax(-1).clamp(min=self._log_edge + 1)
        return low, high

    @property
    def _log_positive(self) -> Tensor:
        """Log of the share that is not at zero."""
        return torch.log(-torch.expm1(self.log_zero))

    @property
    def _log_edge(self) -> float:
        return math.log(max(self.edge_s, MIN_DURATION_S))

    @property
    def _log_above_edge(self) -> Tensor:
        """Log of the mixture's mass above the edge, by which the density is made whole."""
        return self._log_above(torch.full_like(self.log_zero, self._log_edge))

    def _log_above(self, log_s: Tensor) -> Tensor:
        """Log of the mixture's mass above a logarithm, edge or no edge."""
        error_M = (log_s.unsqueeze(-1) - self.log_mean_M) / self.log_scale_M
        return torch.logsumexp(self.log_weight_M + torch.special.log_ndtr(-error_M), dim=-1)

    def _log(self, seconds: Tensor) -> Tensor:
        """Log seconds, of what is positive and not below the edge; anything at zero."""
        return seconds.double().clamp(min=math.exp(self._log_edge)).log()


def logit_of(is_so_N: Tensor) -> float:
    """The number that `log_share` takes for how often something is so, never all or nothing."""
    share = (float(is_so_N.sum()) + 1) / (len(is_so_N) + 2)
    return math.log(share / (1 - share)) + 2


def log_share(logit_N: Tensor) -> Tensor:
    """Log of a share of durations that are told exactly; untrained, an eighth of them."""
    return functional.logsigmoid(logit_N.clamp(-MAX_LOGIT, MAX_LOGIT) - 2)


def log_normals(seconds_N: Tensor, num_components: int) -> Tensor:
    """Log weights, means and log deviations (3, M) of log seconds that fit positive durations.

    Where there are too few to tell that many components apart, there are none, (3, 0).
    """
    from sklearn.mixture import GaussianMixture

    log_s_N1 = seconds_N[seconds_N >= MIN_DURATION_S].double().log().unsqueeze(-1).numpy()
    if len(np.unique(log_s_N1)) < 2 * num_components:
        return torch.zeros(3, 0)
    found = GaussianMixture(num_components, reg_covar=LEAST_FITTED**2, random_state=0).fit(log_s_N1)
    parts = np.log(found.weights_), found.means_[:, 0], np.log(found.covariances_[:, 0, 0]) / 2
    return torch.from_numpy(np.stack(parts))


class DurationMixtureHead(MixtureHead):
    """p(seconds), from a state and codes beside it; means count from a typical duration.

    Untrained it lies around the typical duration, with few at zero where any may be.
    """

    def __init__(
        self,
        width: int,
        num_codes: int,
        num_components: int,
        typical_s: float,
        edge_s: float = 0.0,
        has_zero: bool = False,
    ) -> None:
        scales = ladder(num_components, 0.1, 1.5)
        super().__init__(width, num_codes, [int(has_zero), *3 * [num_components]], scales)
        self.typical_log_s = math.log(max(typical_s, edge_s, 1.0))
        self.edge_s, self.has_zero = edge_s, has_zero

    def begin_as(self, seconds_N: Tensor) -> None:
        """Begin with the mixture that durations of train are of, whatever the state is."""
        bias = self.project.bias
        num_components = (len(bias) - int(self.has_zero)) // 3
        weight_M, mean_M, log_scale_M = log_normals(seconds_N, num_components)
        with torch.no_grad():
            if self.has_zero:
                bias[0] = logit_of(seconds_N < MIN_DURATION_S)
            if len(weight_M):
                parts = torch.cat([weight_M, mean_M - self.typical_log_s, log_scale_M])
                bias[int(self.has_zero) :] = parts

    def forward(self, hidden_ND: Tensor, codes_NF: Tensor) -> DurationMixture:
        zero_N1, logit_NM, mean_NM, log_scale_NM = (
            value.double() for value in self.numbers(hidden_ND, codes_NF)
        )
        never_N = torch.full_like(logit_NM[:, 0], -torch.inf)
        return DurationMixture(
            log_zero=log_share(zero_N1[:, 0]) if self.has_zero else never_N,
            log_weight_M=logit_NM.log_softmax(-1),
            log_mean_M=self.typical_log_s + mean_NM.clamp(-MAX_SHIFT, MAX_SHIFT),
            log_scale_M=MIN_LOG_SCALE + log_scale_NM.clamp(-8, MAX_SPREAD).exp(),
            edge_s=self.edge_s,
        )
