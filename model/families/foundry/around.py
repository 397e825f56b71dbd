"""Around: the known points on both sides of each point, and the simple paths between them.

Shapes: B rows, T points, K known points on a side, P paths, S noises, C coordinates (east, north).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...earth.columns import Columns
from ...earth.geometry import heading_of, step_between
from ...interface.batch import index_of
from ...interface.masked_input import MaskedInput, neighbours
from .motion import LEAST_M
from .splines import NOISES, Sides, hermite, spline_paths

NUM_SIDE = 4  # known points that a network sees
NUM_SMOOTH = 8  # and that a spline goes by
NUM_PATHS = 3 + len(NOISES)  # straight, bent as the next known points tell, by parabolas, splines
LOST_INTERVALS = 100  # of a side, a point: across gaps that are wider velocities lead nowhere
NEAREST = [*range(NUM_SIDE), *range(NUM_SMOOTH, NUM_SMOOTH + NUM_SIDE)]


@dataclass(frozen=True)
class Around(Columns):
    """What the known points around each point (B, T) show, as if that point were not known.

    Places are metres in the frame of the known point before; `path_m` are the simple paths there,
    and `reach_m` how far things go in the gap. A point without a known one on one side lies at the
    other, and without `has_both` nothing is told of its place, without `has_clocks` of its time.
    `told_s` are the times, the hidden ones spread evenly between those that are known, and
    `is_lost` tells of gaps so wide that the motion at a side says nothing of them.
    """

    has_any_BT: Tensor
    has_both_BT: Tensor
    has_clocks_BT: Tensor
    start_BT: Tensor  # the indices of the known points around
    end_BT: Tensor
    lon_deg_BT: Tensor  # of the known point before
    lat_deg_BT: Tensor
    told_s_BT: Tensor
    gap_s_BT: Tensor
    num_hidden_BT: Tensor
    share_BT: Tensor
    side_m_BTKC: Tensor  # the known points before, the nearest first, then those behind
    side_s_BTK: Tensor
    path_m_BTPC: Tensor
    heading_BTC: Tensor
    reach_m_BT: Tensor
    is_lost_BT: Tensor

    @classmethod
    def of(cls, shown: MaskedInput) -> Around:
        is_known_BT = shown.shows_place_BT & shown.shows_time_BT
        before_BT, after_BT = neighbours(is_known_BT, shown.sequence_BT)
        start_BT = torch.where(before_BT >= 0, before_BT, after_BT).clamp(min=0)
        end_BT = torch.where(after_BT >= 0, after_BT, before_BT).clamp(min=0)
        chains = _chain(start_BT, before_BT), _chain(end_BT, after_BT)
        at_BTK = torch.stack([at_BT for chain in chains for at_BT in chain], dim=-1)
        points = shown.lon_deg_BT, shown.lat_deg_BT, shown.time_s_BT
        lon_deg_BTK, lat_deg_BTK, time_s_BTK = (
            value_BT.gather(1, at_BTK.flatten(1)).view_as(at_BTK) for value_BT in points
        )
        starts = lon_deg_BTK[..., :1], lat_deg_BTK[..., :1]
        wide_m_BTKC = torch.stack(step_between(*starts, lon_deg_BTK, lat_deg_BTK), -1).float()
        start_s_BT, gap_s_BT = time_s_BTK[..., 0], time_s_BTK[..., NUM_SMOOTH] - time_s_BTK[..., 0]
        by_count_BT = (index_of(start_BT) - start_BT) / (end_BT - start_BT).clamp(min=1)
        told_s_BT, has_clocks_BT, is_between_BT = _told_s(shown, before_BT, after_BT)
        by_time_BT = (told_s_BT - start_s_BT) / gap_s_BT.clamp(min=1e-9)
        is_timed_BT = (shown.shows_time_BT | is_between_BT) & (gap_s_BT > 0)
        share_BT = torch.where(is_timed_BT, by_time_BT, by_count_BT.double()).clamp(0, 1).float()
        wide_s_BTK = (time_s_BTK - start_s_BT.unsqueeze(-1)).float()
        side_m_BTKC, side_s_BTK = wide_m_BTKC[..., NEAREST, :], wide_s_BTK[..., NEAREST]
        chord_m_BTC = side_m_BTKC[..., NUM_SIDE, :]
        arriving, leaving = (
            _led_m(side_m_BTKC[..., side, :], side_s_BTK[..., side], chord_m_BTC, gap_s_BT.float())
            for side in (slice(0, NUM_SIDE), slice(NUM_SIDE, None))
        )
        num_hidden_BT = (end_BT - start_BT - 1).clamp(min=1)
        cubics = [
            hermite(share_BT.unsqueeze(-1), *one, chord_m_BTC)
            for one in zip(arriving, leaving, strict=True)
        ]
        straight_m_BTC = chord_m_BTC * share_BT.unsqueeze(-1)
        path_m_BTPC = torch.stack([straight_m_BTC, *cubics], dim=-2)
        # Where both sides are not known at two times there is no curve between them.
        smooth_m_BTSC = straight_m_BTC.unsqueeze(-2).repeat(1, 1, len(NOISES), 1)
        is_inside_BT = (before_BT >= 0) & (after_BT >= 0) & (gap_s_BT > 0) & ~shown.is_pad_BT
        smooth_m_BTSC[is_inside_BT] = spline_paths(
            *_sides(chains, wide_s_BTK, wide_m_BTKC, num_hidden_BT, is_inside_BT, share_BT)
        ).float()
        path_m_BTPC = torch.cat([path_m_BTPC, smooth_m_BTSC], dim=-2)
        is_lost_BT = gap_s_BT > LOST_INTERVALS * (num_hidden_BT + 1) * _least_s(chains, time_s_BTK)
        way_m_BTC = torch.cat([chord_m_BTC, arriving[0], leaving[0]], dim=-1)
        return cls(
            (before_BT >= 0) | (after_BT >= 0),
            (before_BT >= 0) & (after_BT >= 0),
            has_clocks_BT,
            start_BT,
            end_BT,
            lon_deg_BTK[..., 0],
            lat_deg_BTK[..., 0],
            told_s_BT,
            gap_s_BT,
            num_hidden_BT,
            share_BT,
            side_m_BTKC,
            side_s_BTK,
            path_m_BTPC,
            heading_of(chord_m_BTC + arriving[0] + leaving[0]),
            torch.sqrt(way_m_BTC.square().sum(-1) / 3 + LEAST_M**2),
            is_lost_BT,
        )

    def chord_m(self) -> Tensor:
        """Metres (..., C) from the known point before to the one behind."""
        return self.side_m_BTKC[..., NUM_SIDE, :]

    def missed(self, shown: MaskedInput) -> Tensor:
        """Logarithm (B, T, P) of what each path misses at known points, over that of all.

        It is that of all known points of a sequence; 0 where none has one on both sides.
        """
        is_known_BT = shown.shows_place_BT & shown.shows_time_BT & self.has_any_BT
        is_known_BT = is_known_BT & (self.share_BT > 0) & (self.share_BT < 1)
        here = step_between(self.lon_deg_BT, self.lat_deg_BT, shown.lon_deg_BT, shown.lat_deg_BT)
        away_m_BTPC = self.path_m_BTPC - torch.stack(here, -1).float().unsqueeze(-2)
        miss_m_BTP = torch.sqrt(away_m_BTPC.square().sum(-1) + LEAST_M**2)
        miss_m_BTP = miss_m_BTP * is_known_BT.unsqueeze(-1)
        total_m_BSP = miss_m_BTP.new_zeros(
            len(miss_m_BTP), int(shown.sequence_BT.max()) + 1, NUM_PATHS
        )
        sequence_BTP = shown.sequence_BT.unsqueeze(-1).expand_as(miss_m_BTP)
        total_m_BTP = total_m_BSP.scatter_add(1, sequence_BTP, miss_m_BTP).gather(1, sequence_BTP)
        share_BTP = total_m_BTP / total_m_BTP.mean(-1, keepdim=True).clamp(min=1e-12)
        return torch.log(share_BTP.where(total_m_BTP.sum(-1, keepdim=True) > 0, 1).clamp(min=1e-3))


def _told_s(shown: MaskedInput, before_BT: Tensor, after_BT: Tensor) -> tuple[Tensor, ...]:
    """Times (B, T), the hidden ones spread evenly between the known ones.

    Beside them where there is a known time on both sides, and where one that is known lies nearer
    than the known points of these indices.
    """
    clock_before_BT, clock_after_BT = neighbours(shown.shows_time_BT, shown.sequence_BT)
    start_BT = torch.where(clock_before_BT >= 0, clock_before_BT, clock_after_BT).clamp(min=0)
    end_BT = torch.where(clock_after_BT >= 0, clock_after_BT, clock_before_BT).clamp(min=0)
    start_s_BT, end_s_BT = (shown.time_s_BT.gather(1, at_BT) for at_BT in (start_BT, end_BT))
    share_BT = (index_of(start_BT) - start_BT) / (end_BT - start_BT).clamp(min=1).double()
    even_s_BT = start_s_BT + share_BT * (end_s_BT - start_s_BT)
    is_between_BT = (clock_before_BT != before_BT) | (clock_after_BT != after_BT)
    told_s_BT = torch.where(shown.shows_time_BT, shown.time_s_BT, even_s_BT)
    return told_s_BT, (clock_before_BT >= 0) & (clock_after_BT >= 0), is_between_BT


def _least_s(chains: tuple[list[Tensor], list[Tensor]], time_s_BTK: Tensor) -> Tensor:
    """The shorter of the intervals (B, T) before and behind a gap; infinite where none is known."""
    first = (0, NUM_SMOOTH)
    apart_s = [
        (time_s_BTK[..., place + 1] - time_s_BTK[..., place])
        .abs()
        .where(chain[1] != chain[0], torch.inf)
        for chain, place in zip(chains, first, strict=True)
    ]
    return torch.minimum(*apart_s)


def _chain(first_BT: Tensor, next_BT: Tensor) -> list[Tensor]:
    """Known points farther and farther away, (B, T) each; the last one again where none is left."""
    found = [first_BT]
    for _ in range(NUM_SMOOTH - 1):
        farther_BT = next_BT.gather(1, found[-1])
        found.append(torch.where(farther_BT >= 0, farther_BT, found[-1]))
    return found


def _sides(
    chains: tuple[list[Tensor], list[Tensor]],
    at_s_BTK: Tensor,
    at_m_BTKC: Tensor,
    num_hidden_BT: Tensor,
    is_inside_BT: Tensor,
    share_BT: Tensor,
) -> tuple[Sides, Tensor, Tensor]:
    """The sides of each gap once, and of the points inside their share of it and its number."""
    start_BT, end_BT = (chain[0] for chain in chains)
    row_BT = torch.arange(len(start_BT), device=start_BT.device).unsqueeze(-1)
    name_BT = (row_BT * start_BT.shape[1] + start_BT) * start_BT.shape[1] + end_BT
    names_G, gap_N = name_BT[is_inside_BT].unique(return_inverse=True)
    one_G = names_G.new_full(names_G.shape, len(gap_N))
    one_G = one_G.scatter_reduce(0, gap_N, torch.arange(len(gap_N), device=gap_N.device), "amin")
    # The nearest come first on both sides: those before the gap are turned round.
    order = [*reversed(range(NUM_SMOOTH)), *range(NUM_SMOOTH, 2 * NUM_SMOOTH)]
    is_point_BTK = torch.cat([_are_new(chain) for chain in chains], dim=-1)
    at_s_GK, at_m_GKC, is_point_GK = (
        value[is_inside_BT][one_G][:, order] for value in (at_s_BTK, at_m_BTKC, is_point_BTK)
    )
    gap_s_G1 = at_s_GK[:, NUM_SMOOTH, None]
    is_step_GI = is_point_GK[:, 1:] & is_point_GK[:, :-1]
    step_GI = torch.where(is_step_GI, at_s_GK.diff(dim=1) / gap_s_G1, 1.0)
    sides = Sides(step_GI, at_m_GKC, is_point_GK, num_hidden_BT[is_inside_BT][one_G])
    return sides, share_BT[is_inside_BT], gap_N


def _are_new(chain: list[Tensor]) -> Tensor:
    """Which points of a chain (B, T, K) do not repeat the one before."""
    at_BTK = torch.stack(chain, dim=-1)
    return functional.pad(at_BTK[..., 1:] != at_BTK[..., :-1], (1, 0), value=True)


def _led_m(
    side_m_BTKC: Tensor, side_s_BTK: Tensor, chord_m_BTC: Tensor, gap_s_BT: Tensor
) -> list[Tensor]:
    """How far the velocity at a side leads in the gap, by one known point and by a parabola."""
    found = []
    gap_s_BT1 = gap_s_BT.unsqueeze(-1)
    apart_s_BT1 = (side_s_BTK[..., 1] - side_s_BTK[..., 0]).unsqueeze(-1)
    moved_m_BTC = side_m_BTKC[..., 1, :] - side_m_BTKC[..., 0, :]
    is_told_BT1 = apart_s_BT1 != 0
    led_m_BTC = moved_m_BTC * gap_s_BT1 / apart_s_BT1.where(is_told_BT1, 1.0)
    found.append(torch.where(is_told_BT1, led_m_BTC, chord_m_BTC))
    # The parabola through three points leans the more to a side the nearer its point is.
    share_BT1 = apart_s_BT1.abs() / (apart_s_BT1.abs() + gap_s_BT1).clamp(min=1e-9)
    found.append(found[0] + share_BT1 * (chord_m_BTC - found[0]))
    return found
