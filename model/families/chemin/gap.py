"""Gap between the known points around a hidden one, its features, and the interpolation heads.

Motion is told by two clocks, for samples may come evenly in time or evenly along the way: seconds,
and the number of points.

Shapes: B windows, T points, N asked points, L lags, V motions, C coordinates (east, north).
"""

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

KNOWN_LAGS = (1, 2)  # known points back from the one before, and on from the one after
NUM_SPATIAL = 9 + 8 * len(KNOWN_LAGS)
NUM_TEMPORAL = 6 + NUM_CALENDAR


# ---------------------------------------------------------------------------------- geometry


@dataclass(frozen=True)
class Gap(Columns):
    """The known points before and after each point; all zero where one of them is missing.

    `velocity_mps_BTVC` and `pace_m_BTVC`, metres for each point, hold the mean motion over the gap,
    then those of arriving at it and those of leaving it over some known points: what one fix is off
    by weighs less over more of them. The latter are turned along the great circle into the frame of
    the point before.
    """

    has_both_BT: Tensor
    lon_deg_BT: Tensor  # of the point before, as are the next two
    lat_deg_BT: Tensor
    time_s_BT: Tensor
    gap_s_BT: Tensor
    chord_m_BTC: Tensor
    velocity_mps_BTVC: Tensor
    pace_m_BTVC: Tensor
    num_back_BT: Tensor  # points to the one before, and to the one after
    num_ahead_BT: Tensor

    @property
    def index_log_odds_BT(self) -> Tensor:
        """How far along in points, as `log_odds_of` tells it in time."""
        ratio_BT = self.num_back_BT.clamp(min=1) / self.num_ahead_BT.clamp(min=1)
        return ratio_BT.log()


def gap_around(shown: MaskedInput, normaliser: Normaliser) -> Gap:
    """The gap that each point lies in, from points that show both place and time."""
    is_known_BT = shown.shows_place_BT & shown.shows_time_BT
    before_BT, after_BT = neighbours(is_known_BT, shown.sequence_BT)
    has_both_BT = (before_BT >= 0) & (after_BT >= 0)
    start_BT, end_BT = before_BT.clamp(min=0), after_BT.clamp(min=0)
    index_BT = index_of(start_BT)
    chord_m_BTC = _step_m(shown, start_BT, end_BT)
    ends = start_BT, end_BT, _over_lags(start_BT, before_BT), _over_lags(end_BT, after_BT)
    moved_m_BTVC = _moved_m(shown, chord_m_BTC, *ends)
    elapsed_s_BTV, num_BTV = (
        _elapsed(clock_BT, *ends) for clock_BT in (shown.time_s_BT, index_BT.double())
    )
    elapsed_s_BTV = elapsed_s_BTV.clamp(min=normaliser.shortest_step_s)
    columns = (
        shown.lon_deg_BT.gather(1, start_BT),
        shown.lat_deg_BT.gather(1, start_BT),
        shown.time_s_BT.gather(1, start_BT),
        shown.time_s_BT.gather(1, end_BT) - shown.time_s_BT.gather(1, start_BT),
        chord_m_BTC,
        _or_mean(moved_m_BTVC / elapsed_s_BTV.unsqueeze(-1), num_BTV),
        _or_mean(moved_m_BTVC / num_BTV.clamp(min=1).unsqueeze(-1), num_BTV),
        (index_BT - start_BT).double(),
        (end_BT - index_BT).double(),
    )
    return Gap(has_both_BT, *(_where(has_both_BT, column) for column in columns))


def _over_lags(start_BT: Tensor, next_BT: Tensor) -> list[Tensor]:
    """The points so many known points on from `start_BT`, or the furthest that is known."""
    reached_BT, found = start_BT, []
    for lag in range(1, max(KNOWN_LAGS) + 1):
        further_BT = next_BT.gather(1, reached_BT)
        reached_BT = torch.where(further_BT >= 0, further_BT, reached_BT)
        found += [reached_BT] if lag in KNOWN_LAGS else []
    return found


def _moved_m(
    shown: MaskedInput,
    chord_m_BTC: Tensor,
    start_BT: Tensor,
    end_BT: Tensor,
    earlier: list[Tensor],
    later: list[Tensor],
) -> Tensor:
    """The ways over the gap, to it and from it (B, T, V, C), in the frame of the point before."""
    arriving = [-_step_m(shown, start_BT, earlier_BT) for earlier_BT in earlier]
    leaving_BTLC = torch.stack([_step_m(shown, end_BT, later_BT) for later_BT in later], dim=-2)
    # The great circle leaves one frame under another angle than it enters the other.
    ahead_BT1C = heading_of(-_step_m(shown, end_BT, start_BT)).unsqueeze(-2)
    own_BT1C = heading_of(chord_m_BTC).unsqueeze(-2)
    leaving_BTLC = from_heading(to_heading(leaving_BTLC, ahead_BT1C), own_BT1C)
    return torch.cat([torch.stack([chord_m_BTC, *arriving], dim=-2), leaving_BTLC], dim=-2)


def _elapsed(
    clock_BT: Tensor, start_BT: Tensor, end_BT: Tensor, earlier: list[Tensor], later: list[Tensor]
) -> Tensor:
    """How long each of these ways took (B, T, V)."""
    spans = [
        (start_BT, end_BT),
        *((earlier_BT, start_BT) for earlier_BT in earlier),
        *((end_BT, later_BT) for later_BT in later),
    ]
    elapsed = [clock_BT.gather(1, last) - clock_BT.gather(1, first) for first, last in spans]
    return torch.stack(elapsed, dim=-1)


def _or_mean(motion_BTVC: Tensor, num_BTV: Tensor) -> Tensor:
    """The mean motion where there is no known point to arrive from or to leave for."""
    return torch.where((num_BTV > 0).unsqueeze(-1), motion_BTVC, motion_BTVC[..., :1, :])


def apart_of(motion_VC: Tensor) -> Tensor:
    """Motions of arriving and of leaving, less the mean one."""
    return motion_VC[..., 1:, :] - motion_VC[..., :1, :]


def _step_m(shown: MaskedInput, start_BT: Tensor, end_BT: Tensor) -> Tensor:
    return step_m_between(shown.lon_deg_BT, shown.lat_deg_BT, start_BT, end_BT)


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
    speed_BT = recent_speed_mps(gap.velocity_mps_BTVC, 0.05 * speed_scale)
    spatial = [
        torch.asinh(gap.velocity_mps_BTVC[..., 0, :] / speed_scale),
        torch.asinh(apart_of(gap.velocity_mps_BTVC) / speed_scale).flatten(-2),
        torch.asinh(apart_of(gap.pace_m_BTVC) / extent_m).flatten(-2),
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

    The network goes along it evenly in time or evenly by points, and bends it by the motions of
    arriving and leaving, each damped and turned. Untrained, it is the cubic in time that keeps the
    velocities over one known point on each side, of which those over more are no part.
    """

    def __init__(
        self, width: int, num_components: int, normaliser: Normaliser, has_tails: bool
    ) -> None:
        num_lags = len(KNOWN_LAGS)
        kept = [1.0] + (num_lags - 1) * [0.0]
        scales = ladder(num_components, 0.05, 1.0)
        damp_W = [1.0, *kept, *kept] + (1 + 2 * num_lags) * [0.0]
        super().__init__(width, 5, damp_W, scales, has_tails)
        self.normaliser = normaliser

    def forward(self, hidden_ND: Tensor, gap: Gap, time_s_N: Tensor) -> StepMixture:
        """Metres from the known point before; `time_s_N` is the given time of the point."""
        log_odds_N, index_log_odds_N = log_odds_of(time_s_N, gap), gap.index_log_odds_BT
        num_N = gap.num_back_BT + gap.num_ahead_BT
        by_time = gap.velocity_mps_BTVC, gap.gap_s_BT, log_odds_N
        by_points = gap.pace_m_BTVC, num_N, index_log_odds_N
        extent_m = self.normaliser.extent_scale_m
        strays_m_N = (stray_m(*by_time) + stray_m(*by_points)) / 2
        reach_m_N = torch.sqrt(strays_m_N.square() + (0.05 * extent_m) ** 2)
        codes = [
            log_odds_N,
            torch.asinh(self.normaliser.encode_step_s(gap.gap_s_BT)),
            index_log_odds_N - log_odds_N,
            torch.log1p(num_N),
            torch.log(reach_m_N / extent_m),
        ]
        ways = [ways_m(gap.chord_m_BTC, *by_time), ways_m(gap.chord_m_BTC, *by_points)]
        center_m_NC, numbers = self.steered(
            torch.cat(ways, dim=-2).float(), hidden_ND, torch.stack(codes, dim=-1).float()
        )
        heading_NC = heading_of(gap.chord_m_BTC.float())
        return steps_around(center_m_NC, reach_m_N.float(), heading_NC, numbers)


def stray_m(motion_NVC: Tensor, length_N: Tensor, log_odds_N: Tensor) -> Tensor:
    """How far (N) a path that wanders with such motion strays, as a Brownian bridge does."""
    bridge_N = torch.sigmoid(log_odds_N) * torch.sigmoid(-log_odds_N)
    return length_N * (motion_NVC.square().sum(-1).mean(-1) * bridge_N).sqrt()


def ways_m(chord_m_NC: Tensor, motion_NVC: Tensor, length_N: Tensor, log_odds_N: Tensor) -> Tensor:
    """Evenly along the chord by some clock, and what each motion bends that way by (N, V, C).

    `length_N` is that of the gap by this clock, and `log_odds_N` how far along it.
    """
    share_N11, rest_N11 = (
        torch.sigmoid(odds_N)[:, None, None] for odds_N in (log_odds_N, -log_odds_N)
    )
    arriving_NLC, leaving_NLC = apart_of(motion_NVC).chunk(2, dim=-2)
    bend_NLC = torch.cat([rest_N11 * arriving_NLC, -share_N11 * leaving_NLC], dim=-2)
    reach_N11 = share_N11 * rest_N11 * length_N[:, None, None]
    return torch.cat([share_N11 * chord_m_NC.unsqueeze(-2), reach_N11 * bend_NLC], dim=-2)
