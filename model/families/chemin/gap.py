"""Gap between the known points around a hidden one, its features, and the interpolation heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...earth.calendar import NUM_CALENDAR
from ...earth.columns import Columns
from ...earth.geometry import from_heading, heading_of, step_between, to_heading
from ...features.normaliser import MIN_STEP_S, Normaliser
from ...features.point_features import recent_speed_mps, step_m_between
from ...interface.batch import index_of
from ...interface.masked_input import MaskedInput, neighbours
from ...layers.distributions import GaussianMixture, StepMixture
from ...layers.heads import NumberHead, SteeringHead, ladder, steps_around

NUM_SPATIAL = 13
NUM_TEMPORAL = 6 + NUM_CALENDAR


# ---------------------------------------------------------------------------------- geometry


@dataclass(frozen=True)
class Gap(Columns):
    """The known points before and after each point; all zero where one of them is missing.

    `velocity_mps_BTVC` holds the mean velocity over the gap, the one of arriving at it and the one
    of leaving it, the last turned along the great circle into the frame of the point before.
    """

    has_both_BT: Tensor
    lon_deg_BT: Tensor  # of the point before, as are the next two
    lat_deg_BT: Tensor
    time_s_BT: Tensor
    gap_s_BT: Tensor
    chord_m_BTC: Tensor
    velocity_mps_BTVC: Tensor
    index_log_odds_BT: Tensor


def gap_around(shown: MaskedInput, normaliser: Normaliser) -> Gap:
    """The gap that each point lies in, from points that show both place and time."""
    is_known_BT = shown.shows_place_BT & shown.shows_time_BT
    before_BT, after_BT = neighbours(is_known_BT, shown.sequence_BT)
    has_both_BT = (before_BT >= 0) & (after_BT >= 0)
    start_BT, end_BT = before_BT.clamp(min=0), after_BT.clamp(min=0)
    chord_m_BTC = _step_m(shown, start_BT, end_BT)
    mean_BTC = _velocity_mps(shown, start_BT, end_BT, normaliser)
    earlier_BT, later_BT = before_BT.gather(1, start_BT), after_BT.gather(1, end_BT)
    arriving_BTC = -_velocity_mps(shown, start_BT, earlier_BT, normaliser)
    leaving_BTC = _velocity_mps(shown, end_BT, later_BT, normaliser)
    # The great circle leaves one frame under another angle than it enters the other.
    ahead_BTC = heading_of(-_step_m(shown, end_BT, start_BT))
    leaving_BTC = from_heading(to_heading(leaving_BTC, ahead_BTC), heading_of(chord_m_BTC))
    velocity_BTVC = torch.stack(
        [
            mean_BTC,
            torch.where((earlier_BT >= 0).unsqueeze(-1), arriving_BTC, mean_BTC),
            torch.where((later_BT >= 0).unsqueeze(-1), leaving_BTC, mean_BTC),
        ],
        dim=-2,
    )
    index_BT = index_of(start_BT)
    num_back_BT, num_ahead_BT = (index_BT - start_BT).clamp(min=1), (end_BT - index_BT).clamp(min=1)
    columns = (
        shown.lon_deg_BT.gather(1, start_BT),
        shown.lat_deg_BT.gather(1, start_BT),
        shown.time_s_BT.gather(1, start_BT),
        shown.time_s_BT.gather(1, end_BT) - shown.time_s_BT.gather(1, start_BT),
        chord_m_BTC,
        velocity_BTVC,
        (num_back_BT / num_ahead_BT).log().double(),
    )
    return Gap(has_both_BT, *(_where(has_both_BT, column) for column in columns))


def _step_m(shown: MaskedInput, start_BT: Tensor, end_BT: Tensor) -> Tensor:
    return step_m_between(shown.lon_deg_BT, shown.lat_deg_BT, start_BT, end_BT)


def _velocity_mps(
    shown: MaskedInput, start_BT: Tensor, end_BT: Tensor, normaliser: Normaliser
) -> Tensor:
    """Away from `start_BT`, in its frame; anything where `end_BT` is -1."""
    end_BT = end_BT.clamp(min=0)
    elapsed_s_BT = shown.time_s_BT.gather(1, end_BT) - shown.time_s_BT.gather(1, start_BT)
    elapsed_s_BT = elapsed_s_BT.abs().clamp(min=normaliser.shortest_step_s)
    return _step_m(shown, start_BT, end_BT) / elapsed_s_BT.unsqueeze(-1)


def _where(is_kept_BT: Tensor, value: Tensor) -> Tensor:
    """The value, and zero elsewhere, whatever further axes it has."""
    shape = is_kept_BT.shape + (1,) * (value.ndim - is_kept_BT.ndim)
    return torch.where(is_kept_BT.view(shape), value, 0.0)


def log_odds_of(time_s: Tensor, gap: Gap) -> Tensor:
    """How far along in time, as log(time since / time until); finite also at the ends."""
    since_s = (time_s - gap.time_s_BT).clamp(min=0)
    until_s = (gap.gap_s_BT - since_s).clamp(min=0)
    return torch.log(since_s + MIN_STEP_S) - torch.log(until_s + MIN_STEP_S)


def time_s_of(log_odds: Tensor, gap: Gap) -> Tensor:
    """The inverse of `log_odds_of`: never outside the gap."""
    since_s = torch.sigmoid(log_odds) * (gap.gap_s_BT + 2 * MIN_STEP_S) - MIN_STEP_S
    return gap.time_s_BT + torch.minimum(since_s.clamp(min=0), gap.gap_s_BT)


# ---------------------------------------------------------------------------------- features


def features_between(shown: MaskedInput, gap: Gap, normaliser: Normaliser) -> tuple[Tensor, Tensor]:
    """What each point shows beside what lies around it: (B, T, S) and (B, T, U) in float32."""
    log_odds_BT = torch.where(
        shown.shows_time_BT, log_odds_of(shown.time_s_BT, gap), gap.index_log_odds_BT
    )
    log_odds_BT = _where(gap.has_both_BT, log_odds_BT)
    own_m_BTC = torch.stack(
        step_between(gap.lon_deg_BT, gap.lat_deg_BT, shown.lon_deg_BT, shown.lat_deg_BT), dim=-1
    )
    off_m_BTC = own_m_BTC - torch.sigmoid(log_odds_BT).unsqueeze(-1) * gap.chord_m_BTC
    off_m_BTC = _where(gap.has_both_BT & shown.shows_place_BT, off_m_BTC)
    speed_scale, extent_m = normaliser.speed_scale_mps, normaliser.extent_scale_m
    mean_BTC, arriving_BTC, leaving_BTC = gap.velocity_mps_BTVC.unbind(-2)
    speed_BT = recent_speed_mps(gap.velocity_mps_BTVC, 0.05 * speed_scale)
    spatial = [
        torch.asinh(mean_BTC / speed_scale),
        torch.asinh((arriving_BTC - mean_BTC) / speed_scale),
        torch.asinh((leaving_BTC - mean_BTC) / speed_scale),
        torch.asinh(gap.chord_m_BTC / extent_m),
        torch.asinh(off_m_BTC / extent_m),
        torch.log(speed_BT / speed_scale).unsqueeze(-1),
        shown.shows_place_BT.unsqueeze(-1),
        gap.has_both_BT.unsqueeze(-1),
    ]
    gap_code_BT = torch.asinh(normaliser.encode_step_s(gap.gap_s_BT))
    temporal = [
        _where(gap.has_both_BT, gap_code_BT),
        gap.index_log_odds_BT,
        log_odds_BT - gap.index_log_odds_BT,
        torch.asinh(shown.time_s_BT / normaliser.typical_step_s),
        shown.shows_time_BT,
        gap.has_both_BT,
    ]
    temporal_BTU = torch.stack([value.float() for value in temporal], dim=-1)
    return (
        torch.cat([value.float() for value in spatial], dim=-1),
        torch.cat([temporal_BTU, shown.calendar_BTK.float()], dim=-1),
    )


# ---------------------------------------------------------------------------------- heads


class TimeBetweenHead(NumberHead):
    """p(log-odds of the time): a mixture around even steps."""

    def __init__(self, width: int, num_components: int) -> None:
        super().__init__(width, num_components, 1.5)

    def forward(self, hidden_ND: Tensor, gap: Gap) -> GaussianMixture:
        return self.around(gap.index_log_odds_BT.float().unsqueeze(-1), 1.0, hidden_ND)


class PlaceBetweenHead(SteeringHead):
    """p(east, north | time): a mixture around the great circle between the known points.

    The network bends it by the velocities of arriving and leaving, each damped and turned; with
    both damped by one it would be the cubic that keeps them. Untrained, it is not bent.
    """

    def __init__(
        self, width: int, num_components: int, normaliser: Normaliser, has_tails: bool
    ) -> None:
        super().__init__(width, 2, (0.0, 0.0), ladder(num_components, 0.05, 1.0), has_tails)
        self.normaliser = normaliser

    def forward(self, hidden_ND: Tensor, gap: Gap, time_s_N: Tensor) -> StepMixture:
        """Metres from the known point before; `time_s_N` is the given time of the point."""
        log_odds_N = log_odds_of(time_s_N, gap).float()
        gap_code_N = torch.asinh(self.normaliser.encode_step_s(gap.gap_s_BT)).float()
        codes_N2 = torch.stack([log_odds_N, gap_code_N], dim=-1)
        share_N1 = torch.sigmoid(log_odds_N).unsqueeze(-1)
        chord_m_NC, velocity_NVC = gap.chord_m_BTC.float(), gap.velocity_mps_BTVC.float()
        mean_NC, arriving_NC, leaving_NC = velocity_NVC.unbind(-2)
        bend_N2C = torch.stack(
            [(1 - share_N1) * (arriving_NC - mean_NC), share_N1 * (mean_NC - leaving_NC)], dim=-2
        )
        bent_mps_NC, numbers = self.steered(bend_N2C, hidden_ND, codes_N2)
        gap_s_N1 = gap.gap_s_BT.float().unsqueeze(-1)
        bent_m_NC = gap_s_N1 * share_N1 * (1 - share_N1) * bent_mps_NC
        reach_m_N = self._reach_m(velocity_NVC, gap_s_N1, share_N1)
        center_m_NC = share_N1 * chord_m_NC + bent_m_NC
        return steps_around(center_m_NC, reach_m_N, heading_of(chord_m_NC), numbers)

    def _reach_m(self, velocity_NVC: Tensor, gap_s_N1: Tensor, share_N1: Tensor) -> Tensor:
        """How far a path that wanders at this speed strays, as a Brownian bridge does."""
        speed_N = recent_speed_mps(velocity_NVC, 0.05 * self.normaliser.speed_scale_mps)
        travelled_m_N = speed_N * gap_s_N1.squeeze(-1)
        bridge_N = (share_N1 * (1 - share_N1)).squeeze(-1)
        floor_m = 0.05 * self.normaliser.extent_scale_m
        return torch.sqrt(travelled_m_N.square() * bridge_N + floor_m**2)
