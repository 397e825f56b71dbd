"""What lies around each point of a sequence of which anything may be hidden.

Unlike `between.py` it needs no known point on both sides, so what lies ahead of the last known one
can be told too. Places are metres in the frame of an anchor, the nearest known place before (else
after); displacements come per point and per second, for the network to choose from.

Shapes: B windows, T points, N chosen points, L lags, W ways to move on, M mixture components,
C coordinates (east, north).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from .between import Shown, neighbours
from .densities import (
    MIN_LOG_STEP_SCALE,
    MIN_STEP_SCALE_M,
    GaussianMixture,
    StepMixture,
    heading_of,
)
from .encoding import MIN_STEP_S, Normaliser
from .geometry import haversine_m, step_between
from .heads import freedom_of, ladder, steer

KNOWN_LAGS = (1, 2, 4)  # known places back from the last one, and on from the next one
NUM_WAYS = 2 + 4 * len(KNOWN_LAGS)
NUM_WAY_CODES = 6
NUM_TIME_CODES = 6
NUM_AROUND = 4 * len(KNOWN_LAGS) + 4 + 15


@dataclass(frozen=True)
class Guess:
    """Where and when each point may be, from what is shown alone: the truth where it is shown.

    A hidden time lies evenly between the shown ones, or a typical step after the last; a hidden
    place lies on the line between the shown ones, or at the nearest.
    """

    place_m_BTC: Tensor  # from the first shown place of the sequence
    time_s_BT: Tensor  # from the first shown time of the sequence
    started_s_BT: Tensor


@dataclass(frozen=True)
class Around:
    """The known places and times around each point; counts are 0 where there is none.

    `back_m` leads from earlier known places to the one before, `lead_m` from the one after to later
    ones; `_s` and `_num` tell over how many seconds and points. `length_m` runs along the known
    places since the known time before, and on to the one after.
    """

    has_place_BT: Tensor
    started_s_BT: Tensor  # the first shown time of the sequence, from which times here count
    lon_deg_BT: Tensor  # of the anchor, as is the next
    lat_deg_BT: Tensor
    num_before_BT: Tensor  # points since the known place before, and until the one after
    num_after_BT: Tensor
    time_before_s_BT: Tensor  # of these places, as far as they are known
    time_after_s_BT: Tensor
    chord_m_BTC: Tensor
    back_m_BTLC: Tensor
    back_num_BTL: Tensor
    back_s_BTL: Tensor
    lead_m_BTLC: Tensor
    lead_num_BTL: Tensor
    lead_s_BTL: Tensor
    clock_before_s_BT: Tensor  # the known time before, and after
    clock_after_s_BT: Tensor
    clock_num_before_BT: Tensor
    clock_num_after_BT: Tensor
    length_before_m_BT: Tensor
    length_after_m_BT: Tensor

    def at(self, is_chosen_BT: Tensor) -> Around:
        """The same of some points alone, (N)."""
        return Around(*(getattr(self, entry.name)[is_chosen_BT] for entry in fields(self)))


def _take(value_BT: Tensor, index_BT: Tensor) -> Tensor:
    return value_BT.gather(1, index_BT.clamp(min=0))


def _blend(value_BT: Tensor, before_BT: Tensor, after_BT: Tensor, edge_BT: Tensor) -> Tensor:
    """Values evenly between the known ones around, and `edge_BT` where one side has none."""
    index_BT = torch.arange(value_BT.shape[1], device=value_BT.device)
    share_BT = (index_BT - before_BT) / (after_BT - before_BT).clamp(min=1)
    start_BT, end_BT = _take(value_BT, before_BT), _take(value_BT, after_BT)
    between_BT = start_BT + share_BT * (end_BT - start_BT)
    return torch.where((before_BT >= 0) & (after_BT >= 0), between_BT, edge_BT)


def guess_of(shown: Shown, normaliser: Normaliser) -> Guess:
    """The likely place and time of each point, by counting points."""
    index_BT = torch.arange(shown.is_pad_BT.shape[1], device=shown.is_pad_BT.device)
    before_BT, after_BT = neighbours(shown.shows_time_BT, shown.sequence_BT)
    ahead_s_BT = (index_BT - before_BT) * normaliser.typical_step_s
    early_s_BT = (after_BT - index_BT) * normaliser.typical_step_s
    edge_s_BT = torch.where(
        before_BT >= 0,
        _take(shown.time_s_BT, before_BT) + ahead_s_BT,
        _take(shown.time_s_BT, after_BT) - early_s_BT,
    )
    time_s_BT = torch.where(
        shown.shows_time_BT,
        shown.time_s_BT,
        _blend(shown.time_s_BT, before_BT, after_BT, edge_s_BT),
    )
    first_time_s_BT = _take(shown.time_s_BT, _first_of(shown.shows_time_BT, shown.sequence_BT))
    first_BT = _first_of(shown.shows_place_BT, shown.sequence_BT)
    own_m_BTC = torch.stack(
        step_between(
            _take(shown.lon_deg_BT, first_BT),
            _take(shown.lat_deg_BT, first_BT),
            shown.lon_deg_BT,
            shown.lat_deg_BT,
        ),
        dim=-1,
    )
    before_BT, after_BT = neighbours(shown.shows_place_BT, shown.sequence_BT)
    nearest_BT = torch.where(before_BT >= 0, before_BT, after_BT)
    place_m_BTC = torch.stack(
        [
            torch.where(
                shown.shows_place_BT,
                own_m_BT,
                _blend(own_m_BT, before_BT, after_BT, _take(own_m_BT, nearest_BT)),
            )
            for own_m_BT in own_m_BTC.unbind(-1)
        ],
        dim=-1,
    )
    is_pad_BT = shown.is_pad_BT
    return Guess(
        place_m_BTC.masked_fill(is_pad_BT.unsqueeze(-1), 0),
        (time_s_BT - first_time_s_BT).masked_fill(is_pad_BT, 0),
        first_time_s_BT,
    )


def _first_of(is_known_BT: Tensor, sequence_BT: Tensor) -> Tensor:
    """Index of the first known point of each point's sequence; 0 where there is none."""
    num_points = sequence_BT.shape[1]
    index_BT = torch.arange(num_points, device=sequence_BT.device).expand_as(sequence_BT)
    late_BT = torch.full_like(sequence_BT, num_points)  # a row has no more sequences than points
    first_BS = late_BT.scatter_reduce(
        1, sequence_BT, torch.where(is_known_BT, index_BT, num_points), "amin"
    )
    return first_BS.gather(1, sequence_BT) % max(1, num_points)


def around(shown: Shown, guess: Guess, normaliser: Normaliser) -> Around:
    """The surroundings of each point, from what the others show."""
    time_s_BT = guess.time_s_BT
    index_BT = torch.arange(time_s_BT.shape[1], device=time_s_BT.device).expand(time_s_BT.shape)
    before_BT, after_BT = neighbours(shown.shows_place_BT, shown.sequence_BT)
    anchor_BT = torch.where(before_BT >= 0, before_BT, after_BT)

    def place_m(at_BT: Tensor) -> Tensor:
        """Places of points in the frame of the anchor."""
        ends = _take(shown.lon_deg_BT, at_BT), _take(shown.lat_deg_BT, at_BT)
        starts = _take(shown.lon_deg_BT, anchor_BT), _take(shown.lat_deg_BT, anchor_BT)
        return torch.stack(step_between(*starts, *ends), dim=-1)

    def ways(start_BT: Tensor, onward_BT: Tensor, sign: int) -> tuple[Tensor, Tensor, Tensor]:
        """Displacements to (sign 1) or from (-1) `start_BT` over known lags; zero without any."""
        reached_BT, found = start_BT, {}
        for lag in range(1, max(KNOWN_LAGS) + 1):
            further_BT = torch.where(reached_BT >= 0, _take(onward_BT, reached_BT), -1)
            # Where there are fewer known points the furthest one stands for the rest.
            reached_BT = torch.where(further_BT >= 0, further_BT, reached_BT)
            found[lag] = reached_BT
        origin_m_BTC = place_m(start_BT)
        moved, num, elapsed = [], [], []
        for lag in KNOWN_LAGS:
            has_BT = (start_BT >= 0) & (found[lag] != start_BT)
            moved_BTC = sign * (origin_m_BTC - place_m(found[lag]))
            moved.append(torch.where(has_BT.unsqueeze(-1), moved_BTC, 0.0))
            num.append(torch.where(has_BT, (start_BT - found[lag]).abs(), 1).double())
            elapsed_BT = (_take(time_s_BT, start_BT) - _take(time_s_BT, found[lag])).abs()
            elapsed.append(elapsed_BT.clamp(min=normaliser.shortest_step_s))
        return torch.stack(moved, -2), torch.stack(num, -1), torch.stack(elapsed, -1)

    has_both_BT = (before_BT >= 0) & (after_BT >= 0)
    clock_before_BT, clock_after_BT = neighbours(shown.shows_time_BT, shown.sequence_BT)
    length_m_BT = _length_m(shown)
    nowhere_BT = torch.zeros_like(time_s_BT)

    def number(is_there_BT: Tensor, count_BT: Tensor) -> Tensor:
        return torch.where(is_there_BT, count_BT.double(), nowhere_BT)

    def length(one_BT: Tensor, other_BT: Tensor, is_there_BT: Tensor) -> Tensor:
        """Along the known places; a hidden one counts where the path was last seen."""
        run_m_BT = (_take(length_m_BT, one_BT) - _take(length_m_BT, other_BT)).clamp(min=0)
        return torch.where(is_there_BT, run_m_BT, 0.0)

    return Around(
        anchor_BT >= 0,
        guess.started_s_BT,
        _take(shown.lon_deg_BT, anchor_BT),
        _take(shown.lat_deg_BT, anchor_BT),
        number(before_BT >= 0, index_BT - before_BT),
        number(after_BT >= 0, after_BT - index_BT),
        _take(time_s_BT, before_BT),
        _take(time_s_BT, after_BT),
        torch.where(has_both_BT.unsqueeze(-1), place_m(after_BT), 0.0),
        *ways(before_BT, before_BT, 1),
        *ways(after_BT, after_BT, -1),
        _take(time_s_BT, clock_before_BT),
        _take(time_s_BT, clock_after_BT),
        number(clock_before_BT >= 0, index_BT - clock_before_BT),
        number(clock_after_BT >= 0, clock_after_BT - index_BT),
        length(index_BT, clock_before_BT, clock_before_BT >= 0),
        length(clock_after_BT, index_BT, clock_after_BT >= 0),
    )


def _length_m(shown: Shown) -> Tensor:
    """Metres along the known places of the sequence up to each point."""
    before_BT, _ = neighbours(shown.shows_place_BT, shown.sequence_BT)
    step_m_BT = haversine_m(
        _take(shown.lon_deg_BT, before_BT),
        _take(shown.lat_deg_BT, before_BT),
        shown.lon_deg_BT,
        shown.lat_deg_BT,
    )
    return torch.where(shown.shows_place_BT & (before_BT >= 0), step_m_BT, 0.0).cumsum(1)


@dataclass(frozen=True)
class Ways:
    """Steps from the anchor that known motion suggests for a time, and how far it may stray."""

    way_m_NWC: Tensor
    reach_m_N: Tensor
    codes_NF: Tensor


def ways_of(near: Around, time_s_N: Tensor, normaliser: Normaliser) -> Ways:
    """Ways to the place of a point whose time is given, counted from the first shown time.

    The first goes along the chord evenly in time, the second evenly by points. The others bend it
    by motion before and after, as a cubic does, and where one side is missing they go straight on.
    """
    is_first_N = near.num_before_BT == 0
    is_last_N = near.num_after_BT == 0
    num_before_N, num_after_N = near.num_before_BT, near.num_after_BT
    gap_num_N = (num_before_N + num_after_N).clamp(min=1)
    share_num_N = (num_before_N / gap_num_N).masked_fill(is_first_N, 1)
    elapsed_s_N = (time_s_N - near.time_before_s_BT).clamp(min=0).masked_fill(is_first_N, 0)
    until_s_N = (near.time_after_s_BT - time_s_N).clamp(min=0).masked_fill(is_last_N, 0)
    gap_s_N = elapsed_s_N + until_s_N
    share_s_N = (elapsed_s_N / gap_s_N.clamp(min=MIN_STEP_S)).masked_fill(is_first_N, 1)
    share_s_N = share_s_N.masked_fill(is_last_N & ~is_first_N, 0)
    share_num_N = share_num_N.masked_fill(is_last_N & ~is_first_N, 0)
    chord_N1C = near.chord_m_BTC.unsqueeze(-2)
    ways = [share_s_N[:, None, None] * chord_N1C, share_num_N[:, None, None] * chord_N1C]
    strays = []
    for share_N, before_N, after_N, size_N, back_over, lead_over in (
        (
            share_s_N,
            elapsed_s_N,
            until_s_N,
            gap_s_N.clamp(min=normaliser.shortest_step_s),
            near.back_s_BTL,
            near.lead_s_BTL,
        ),
        (
            share_num_N,
            num_before_N,
            num_after_N,
            gap_num_N,
            near.back_num_BTL,
            near.lead_num_BTL,
        ),
    ):
        mean_N1C = chord_N1C / size_N[:, None, None]
        back_NLC = near.back_m_BTLC / back_over.unsqueeze(-1)
        lead_NLC = near.lead_m_BTLC / lead_over.unsqueeze(-1)
        has_back_NL1 = (near.back_m_BTLC != 0).any(-1, keepdim=True)
        has_lead_NL1 = (near.lead_m_BTLC != 0).any(-1, keepdim=True)
        ways.append(
            (before_N * (1 - share_N).square())[:, None, None]
            * torch.where(has_back_NL1, back_NLC - mean_N1C, 0.0)
        )
        ways.append(
            (after_N * share_N.square())[:, None, None]
            * torch.where(has_lead_NL1, mean_N1C - lead_NLC, 0.0)
        )
        both_NLC = torch.cat([back_NLC, lead_NLC, mean_N1C], dim=-2)
        mean_square_N = both_NLC.square().sum(-1).mean(-1)
        # Between two known places as far as a Brownian bridge, outside as far as one would go.
        within_N = torch.where(
            is_first_N | is_last_N, before_N + after_N, (before_N * after_N).sqrt()
        )
        strays.append(mean_square_N.sqrt() * within_N)
    extent_m = normaliser.extent_scale_m
    typical_N = (num_before_N + num_after_N).clamp(min=1) ** 0.5
    reach_m_N = (strays[0] + strays[1]) / 2 + 0.1 * extent_m * typical_N
    count_s_N = gap_num_N * normaliser.typical_step_s
    codes = [
        torch.log1p(num_before_N),
        torch.log1p(num_after_N),
        share_num_N,
        share_s_N - share_num_N,
        torch.asinh(torch.log((gap_s_N + MIN_STEP_S) / count_s_N)),
        torch.log(reach_m_N / extent_m),
    ]
    return Ways(
        torch.cat(ways, dim=-2).float(), reach_m_N.float(), torch.stack(codes, dim=-1).float()
    )


# ---------------------------------------------------------------------------------- times


def is_between(near: Around) -> Tensor:
    """Points with a known time on each side."""
    return (near.clock_num_before_BT > 0) & (near.clock_num_after_BT > 0)


def code_of_time(time_s_N: Tensor, near: Around) -> Tensor:
    """A time as a number without bounds: its log-odds between two known times, else log seconds."""
    since_s_N = (time_s_N - near.clock_before_s_BT).clamp(min=0) + MIN_STEP_S
    until_s_N = (near.clock_after_s_BT - time_s_N).clamp(min=0) + MIN_STEP_S
    return since_s_N.log() - torch.where(is_between(near), until_s_N.log(), 0.0)


def time_of_code(code_N: Tensor, near: Around) -> Tensor:
    """The inverse of `code_of_time`: never before the known time before, nor after the next."""
    gap_s_N = near.clock_after_s_BT - near.clock_before_s_BT
    within_s_N = torch.sigmoid(code_N) * (gap_s_N + 2 * MIN_STEP_S) - MIN_STEP_S
    within_s_N = torch.minimum(within_s_N.clamp(min=0), gap_s_N)
    beyond_s_N = (code_N.exp() - MIN_STEP_S).clamp(min=0)
    return near.clock_before_s_BT + torch.where(is_between(near), within_s_N, beyond_s_N)


def _time_codes(near: Around, normaliser: Normaliser) -> Tensor:
    """Where a time may lie, by points and by the length of the path: (..., 6)."""
    step_m = normaliser.extent_scale_m
    return torch.stack(
        [
            is_between(near).double(),
            torch.log1p(near.clock_num_before_BT),
            torch.log1p(near.clock_num_after_BT),
            torch.log1p(near.length_before_m_BT / step_m),
            torch.log1p(near.length_after_m_BT / step_m),
            torch.log1p(near.clock_num_before_BT * (near.length_before_m_BT == 0)),
        ],
        dim=-1,
    )


class TimeHead(nn.Module):
    """p(code of a time): a mixture around typical steps, or even ones between two known times."""

    def __init__(self, width: int, num_components: int, normaliser: Normaliser) -> None:
        super().__init__()
        self.normaliser = normaliser
        self.widen = nn.Linear(width + NUM_TIME_CODES, width)
        self.project = nn.Linear(width, 3 * num_components)
        with torch.no_grad():
            self.project.weight.mul_(0.1)
            self.project.bias.zero_()
            self.project.bias[2 * num_components :] = ladder(num_components, 0.05, 1.5)

    def forward(self, hidden_ND: Tensor, near: Around) -> GaussianMixture:
        codes = _time_codes(near, self.normaliser).to(hidden_ND)
        raw = self.project(functional.gelu(self.widen(torch.cat([hidden_ND, codes], dim=-1))))
        logit_NM, mean_NM, log_scale_NM = raw.chunk(3, dim=-1)
        after_N = near.clock_num_after_BT.clamp(min=1)
        center_N = near.clock_num_before_BT.clamp(min=1).log() + torch.where(
            is_between(near), -after_N.log(), self.normaliser.log_step_center
        )
        return GaussianMixture(
            log_weight_M=logit_NM.log_softmax(-1),
            mean_M=center_N.to(hidden_ND).unsqueeze(-1) + mean_NM,
            scale_M=MIN_LOG_STEP_SCALE + log_scale_NM.clamp(-8, 4).exp(),
        )


# ---------------------------------------------------------------------------------- places


class PlaceHead(nn.Module):
    """p(east, north | time): a mixture around a sum of ways that the network weighs and turns.

    Untrained, it keeps the velocities on both sides as a cubic does, and goes straight on outside.
    """

    def __init__(
        self, width: int, num_components: int, normaliser: Normaliser, has_tails: bool = False
    ) -> None:
        super().__init__()
        self.normaliser = normaliser
        self.widen = nn.Linear(width + NUM_WAY_CODES, width)
        num_tails = num_components if has_tails else 0
        pairs = 2 * num_components
        self.sizes = [num_tails, NUM_WAYS, NUM_WAYS, num_components, pairs, pairs]
        self.project = nn.Linear(width, sum(self.sizes))
        with torch.no_grad():
            self.project.weight.mul_(0.1)
            self.project.bias.zero_()
            self.project.bias[num_tails] = 1.0
            by_time = slice(num_tails + 2, num_tails + 2 + 2 * len(KNOWN_LAGS))
            self.project.bias[by_time] = 1 / len(KNOWN_LAGS)
            rungs = ladder(num_components, 0.1, 1.5).repeat_interleave(2)
            self.project.bias[-pairs:] = rungs

    def forward(self, hidden_ND: Tensor, ways: Ways) -> StepMixture:
        """Metres from the anchor."""
        seen = torch.cat([hidden_ND, ways.codes_NF.to(hidden_ND)], dim=-1)
        raw = self.project(functional.gelu(self.widen(seen)))
        tails_NM, damp_NW, turn_NW, logit_NM, offset, log_scale = raw.split(self.sizes, dim=-1)
        reach_m_N11 = ways.reach_m_N[:, None, None]
        center_m_NC = steer(ways.way_m_NWC, damp_NW, turn_NW)
        scale_NMC = log_scale.unflatten(-1, (-1, 2)).clamp(-8, 4).exp()
        return StepMixture(
            log_weight_M=logit_NM.log_softmax(-1),
            mean_m_MC=center_m_NC.unsqueeze(1) + reach_m_N11 * offset.unflatten(-1, (-1, 2)),
            scale_m_MC=MIN_STEP_SCALE_M + reach_m_N11 * scale_NMC,
            heading_C=heading_of(ways.way_m_NWC[:, 0] + ways.way_m_NWC[:, 2]),
            reach_m=ways.reach_m_N,
            freedom_M=freedom_of(tails_NM),
        )


# ---------------------------------------------------------------------------------- features


def features_around(shown: Shown, near: Around, guess: Guess, normaliser: Normaliser) -> Tensor:
    """What the network sees of the surroundings, (B, T, F) in float32.

    Where a time is shown, the times around it tell nothing of it, and are left out: so a forecast
    does not depend on how far it goes.
    """
    extent_m = normaliser.extent_scale_m
    gap_num_BT = (near.num_before_BT + near.num_after_BT).clamp(min=1)
    per_point = [
        (near.back_m_BTLC / near.back_num_BTL.unsqueeze(-1)).flatten(-2),
        (near.lead_m_BTLC / near.lead_num_BTL.unsqueeze(-1)).flatten(-2),
        near.chord_m_BTC / gap_num_BT.unsqueeze(-1),
    ]
    own_m_BTC = torch.stack(
        step_between(near.lon_deg_BT, near.lat_deg_BT, shown.lon_deg_BT, shown.lat_deg_BT), dim=-1
    )
    has_own_BT = shown.shows_place_BT & near.has_place_BT
    per_point.append(torch.where(has_own_BT.unsqueeze(-1), own_m_BTC, 0.0))
    clocks_BTU = _time_codes(near, normaliser).masked_fill(shown.shows_time_BT.unsqueeze(-1), 0)
    elapsed_s_BT = guess.time_s_BT - near.time_before_s_BT
    pace_BT = torch.log(elapsed_s_BT.clamp(min=0) + MIN_STEP_S) - normaliser.log_step_center
    numbers = [
        torch.log1p(near.num_before_BT),
        torch.log1p(near.num_after_BT),
        near.has_place_BT.double(),
        (near.num_before_BT > 0).double(),
        (near.num_after_BT > 0).double(),
        shown.shows_place_BT.double(),
        shown.shows_time_BT.double(),
        torch.where(near.num_before_BT > 0, torch.asinh(pace_BT / normaliser.log_step_scale), 0.0),
        torch.log1p(near.back_m_BTLC.square().sum(-1).mean(-1).sqrt() / extent_m),
    ]
    features = [torch.asinh(part / extent_m) for part in per_point]
    return torch.cat([*features, torch.stack(numbers, -1), clocks_BTU], dim=-1).float()
