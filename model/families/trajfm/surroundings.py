"""Surroundings of each point of a sequence of which anything may be hidden.

Unlike `chemin/gap.py` this needs no known point on both sides: what lies ahead of the last known
one can be told too. Places are metres in the frame of an anchor, the nearest known place before
(else after); displacements come per point and per second, for the network to choose from.

Shapes: B windows, T points, N chosen points, L lags, F features, U features of times,
C coordinates (east, north).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ...earth.geometry import haversine_m, step_between
from ...features.normaliser import MIN_STEP_S, Normaliser
from ...interface.masked_input import Shown, neighbours

KNOWN_LAGS = (1, 2, 4)  # known places back from the last one, and on from the next one
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


def is_between(near: Around) -> Tensor:
    """Points with a known time on each side."""
    return (near.clock_num_before_BT > 0) & (near.clock_num_after_BT > 0)


def time_codes(near: Around, normaliser: Normaliser) -> Tensor:
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
    clocks_BTU = time_codes(near, normaliser).masked_fill(shown.shows_time_BT.unsqueeze(-1), 0)
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
