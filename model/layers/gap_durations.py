"""Gap durations: densities of a stay that must be over when a gap ends, and a head that tells one.

What is known of such a stay is its beginning, and how much the gap leaves. What comes behind it is
a way to what is known again, so that the rest of the gap is as much log-normal as the stay is:
half of the components are of the stay, half of the rest, and all are cut off at both ends and made
to integrate to one. The stay may fill the gap exactly, with a share of its own: the next visit
followed at once. A stay that fills no gap is told by the first half alone.

Shapes: M components of either half, D model width, N asked stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .distributions import LOG_TWO_PI
from .durations import (
    MAX_LOG_DURATION,
    MAX_SHIFT,
    MAX_SPREAD,
    MIN_DURATION_S,
    MIN_LOG_SCALE,
    DurationMixture,
    log_normals,
    log_share,
)
from .heads import MixtureHead, ladder


@dataclass(frozen=True, kw_only=True)
class GapDuration(DurationMixture):
    """Log-normals of the stay and of the rest, whose weights add up to one together.

    `room_s` is how much the gap leaves: infinite of a stay that fills none, whose weights of the
    rest and `log_whole`, the log share of stays that last to the very end, are minus infinity.
    """

    log_weight_rest_M: Tensor
    log_mean_rest_M: Tensor
    log_scale_rest_M: Tensor
    log_whole: Tensor
    room_s: Tensor

    def log_density(self, seconds: Tensor) -> Tensor:
        """In nats of seconds; at the end of the gap the logarithm of the share that lies there."""
        log_s, log_rest = self._log(seconds), self._log_rest(seconds)
        own_M = _log_normal(log_s, self.log_mean_M, self.log_scale_M)
        rest_M = _log_normal(log_rest, self.log_mean_rest_M, self.log_scale_rest_M)
        parts = [self.log_weight_M + own_M, self.log_weight_rest_M + rest_M]
        within = torch.logsumexp(torch.cat(parts, -1), -1) - self._log_above_edge
        rest_s = self.room_s - seconds
        told = torch.where(rest_s < MIN_DURATION_S, self.log_whole, self._log_parted + within)
        return torch.where(rest_s <= -MIN_DURATION_S, -torch.inf, told)

    def log_survival(self, seconds: Tensor) -> Tensor:
        """Of lasting longer; nothing outlasts the gap."""
        log_share = self._log_above(self._log(seconds)) - self._log_above_edge
        above = torch.where(seconds > self.edge_s, log_share, 0.0)
        told = torch.logaddexp(self.log_whole, self._log_parted + above)
        return torch.where(seconds >= self.room_s, -torch.inf, told)

    def quantile(self, share: Tensor | float) -> Tensor:
        """The least number of seconds that a share of the mass does not exceed."""
        share = torch.as_tensor(share, dtype=torch.float64, device=self.log_whole.device)
        parted = -torch.expm1(self.log_whole)
        is_whole = share >= parted
        seconds = super().quantile(torch.where(is_whole, 0.5, share / parted.clamp(min=1e-12)))
        return torch.where(is_whole, self.room_s, torch.minimum(seconds, self.room_s))

    @property
    def _log_parted(self) -> Tensor:
        """Log of the share that ends before the gap does."""
        return torch.log(-torch.expm1(self.log_whole))

    @property
    def _log_room(self) -> Tensor:
        """Log of the room, of what is longer than any answer where it is infinite."""
        return self.room_s.double().clamp(min=self.edge_s + MIN_DURATION_S, max=_ENDLESS_S).log()

    @property
    def _log_range(self) -> tuple[Tensor, Tensor]:
        edge = torch.full_like(self._log_room, self._log_edge)
        return edge, self._log_room.clamp(max=MAX_LOG_DURATION)

    @property
    def _log_above_edge(self) -> Tensor:
        return self._log_above(torch.full_like(self.log_whole, self._log_edge))

    def _log_above(self, log_s: Tensor) -> Tensor:
        """Log of the mixture's mass above a logarithm and within the gap."""
        log_s = torch.minimum(log_s, self._log_room)
        start_M, end_M = (
            (value.unsqueeze(-1) - self.log_mean_M) / self.log_scale_M
            for value in (log_s, self._log_room)
        )
        own_M = self.log_weight_M + _log_mass(start_M, end_M)
        log_rest = self._log_rest(log_s.exp())
        rest_M = (log_rest.unsqueeze(-1) - self.log_mean_rest_M) / self.log_scale_rest_M
        rest_M = self.log_weight_rest_M + torch.special.log_ndtr(rest_M)
        return torch.logsumexp(torch.cat([own_M, rest_M], -1), dim=-1)

    def _log_rest(self, seconds: Tensor) -> Tensor:
        """Log of what is left of the gap; of a second where there is none."""
        rest_s = self.room_s.double() - seconds.double()
        return torch.where(rest_s.isfinite(), rest_s, 1.0).clamp(min=MIN_DURATION_S).log()


_ENDLESS_S = 1e13
LEAST_LOG_MASS = -700.0  # what is less is no number of float64


def _log_normal(log_s: Tensor, log_mean_M: Tensor, log_scale_M: Tensor) -> Tensor:
    """Log density, of seconds."""
    error_M = (log_s.unsqueeze(-1) - log_mean_M) / log_scale_M
    return -0.5 * error_M.square() - log_scale_M.log() - 0.5 * LOG_TWO_PI - log_s.unsqueeze(-1)


def _log_mass(start_M: Tensor, end_M: Tensor) -> Tensor:
    """Log of a standard normal's mass between two deviates, told from the nearer tail."""
    is_upper_M = start_M > 0
    far_M = torch.where(is_upper_M, -start_M, end_M)
    near_M = torch.where(is_upper_M, -end_M, start_M)
    log_far_M = torch.special.log_ndtr(far_M)
    ratio_M = (torch.special.log_ndtr(near_M) - log_far_M).clamp(LEAST_LOG_MASS, -1e-15)
    return log_far_M + torch.log(-torch.expm1(ratio_M))


class GapDurationHead(MixtureHead):
    """p(seconds), from a state and codes beside it; means count from a typical duration.

    Untrained it lies around the typical stay, and in a gap as much around what leaves a typical
    rest, with few that fill all of it.
    """

    def __init__(
        self,
        width: int,
        num_codes: int,
        num_components: int,
        typical_s: float,
        typical_rest_s: float,
        edge_s: float = 0.0,
    ) -> None:
        sizes = [1, *3 * [2 * num_components]]
        super().__init__(width, num_codes, sizes, ladder(num_components, 0.1, 1.5).repeat(2))
        typical_log_s = [math.log(max(typical_s, edge_s, 1.0)), math.log(max(typical_rest_s, 1.0))]
        self.typical_log_s, self.edge_s, self.num_components = typical_log_s, edge_s, num_components

    def begin_as(self, stay_s_N: Tensor, rest_s_N: Tensor) -> None:
        """Begin with the mixtures that stays of train are of, and what lies behind them."""
        fitted = [log_normals(value_N, self.num_components) for value_N in (stay_s_N, rest_s_N)]
        if not all(parts.shape[1] for parts in fitted):
            return
        weight_X, mean_X, log_scale_X = torch.cat(fitted, dim=1)
        typical_X = torch.tensor(self.typical_log_s).repeat_interleave(self.num_components)
        with torch.no_grad():
            self.project.bias[1:] = torch.cat([weight_X, mean_X - typical_X, log_scale_X])

    def forward(self, hidden_ND: Tensor, codes_NF: Tensor, room_s_N: Tensor) -> GapDuration:
        whole_N1, logit_NX, mean_NX, log_scale_NX = (
            value.double() for value in self.numbers(hidden_ND, codes_NF)
        )
        is_gap_N = room_s_N.isfinite()
        own_NM, rest_NM = logit_NX.chunk(2, dim=-1)
        rest_NM = rest_NM.masked_fill(~is_gap_N.unsqueeze(1), -torch.inf)
        weights = torch.cat([own_NM, rest_NM], dim=-1).log_softmax(-1).chunk(2, dim=-1)
        means = [
            typical + value.clamp(-MAX_SHIFT, MAX_SHIFT)
            for typical, value in zip(self.typical_log_s, mean_NX.chunk(2, dim=-1), strict=True)
        ]
        scale_NX = MIN_LOG_SCALE + log_scale_NX.clamp(-8, MAX_SPREAD).exp()
        scales = scale_NX.chunk(2, dim=-1)
        return GapDuration(
            log_zero=torch.full_like(whole_N1[:, 0], -torch.inf),
            log_weight_M=weights[0],
            log_mean_M=means[0],
            log_scale_M=scales[0],
            edge_s=self.edge_s,
            log_weight_rest_M=weights[1],
            log_mean_rest_M=means[1],
            log_scale_rest_M=scales[1],
            log_whole=log_share(whole_N1[:, 0]).masked_fill(~is_gap_N, -torch.inf),
            room_s=room_s_N.double(),
        )
