"""Surroundings of each point of a sequence of which anything may be hidden.

Unlike `chemin/gap.py` this needs no known point on both sides: what lies ahead of the last known
one can be told too. Places are metres in the frame of an anchor, the nearest known place before
(else after); displacements come per point and per second, for the network to choose from.

Shapes: B windows, T points, N chosen points, L lags, F features, U features of times,
C coordinates (east, north).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...earth.columns import Columns
from ...earth.geometry import haversine_m, step_between
from ...features.normaliser import MIN_STEP_S, Normaliser
from ...features.point_features import step_m_between
from ...interface.batch import index_of
from ...interface.masked_input import MaskedInput, neighbours

KNOWN_LAGS = (1, 2, 4)  # known places back from the last one, and on from the next one
NUM_TIME_CODES = 6
NUM_AROUND = 4 * len(KNOWN_LAGS) + 4 + 15


@dataclass(frozen=True)
class InitialGuess:
    """Where and when each point may be, from what is shown alone: the truth where it is shown.

    A hidden time lies evenly between the shown ones, or a typical step after the last; a hidden
    place lies on the line between the shown ones, or at the nearest.
    """

    place_m_BTC: Tensor  # from the first shown place of the sequence
    time_s_BT: Tensor  # from the first shown time of the sequence
    started_s_BT: Tensor


@dataclass(frozen=True)
class Side(Columns):
    """What is known before each point, or after it; counts are 0 where there is nothing.

    A way leads over some known places, from earlier ones to the nearest before or from the nearest
    after to later ones; `num_way` and `way_s` tell over how many points and seconds.
    """

    num_BT: Tensor  # points between a point and the nearest known place
    time_s_BT: Tensor  # of this place, as far as it is known
    way_m_BTLC: Tensor
    num_way_BTL: Tensor
    way_s_BTL: Tensor
    clock_s_BT: Tensor  # the nearest known time
    num_clock_BT: Tensor
    length_m_BT: Tensor  # along the known places, as far as that time


@dataclass(frozen=True)
class Surroundings(Columns):
    """The known places and times around each point."""

    has_place_BT: Tensor
    started_s_BT: Tensor  # the first shown time of the sequence, from which times here count
    lon_deg_BT: Tensor  # of the anchor, as is the next
    lat_deg_BT: Tensor
    chord_m_BTC: Tensor
    before: Side
    after: Side


def _take(value_BT: Tensor, index_BT: Tensor) -> Tensor:
    return value_BT.gather(1, index_BT.clamp(min=0))


def _blend(
    value_BT: Tensor, is_known_BT: Tensor, before_BT: Tensor, after_BT: Tensor, edge_BT: Tensor
) -> Tensor:
    """Known values, evenly between the known ones around, or `edge_BT` where one side has none."""
    index_BT = index_of(value_BT)
    share_BT = (index_BT - before_BT) / (after_BT - before_BT).clamp(min=1)
    start_BT, end_BT = _take(value_BT, before_BT), _take(value_BT, after_BT)
    between_BT = start_BT + share_BT * (end_BT - start_BT)
    told_BT = torch.where((before_BT >= 0) & (after_BT >= 0), between_BT, edge_BT)
    return torch.where(is_known_BT, value_BT, told_BT)


def guess_of(shown: MaskedInput, normaliser: Normaliser) -> InitialGuess:
    """The likely place and time of each point, by counting points."""
    index_BT = index_of(shown.is_pad_BT)
    before_BT, after_BT = neighbours(shown.shows_time_BT, shown.sequence_BT)
    ahead_s_BT = (index_BT - before_BT) * normaliser.typical_step_s
    early_s_BT = (after_BT - index_BT) * normaliser.typical_step_s
    edge_s_BT = torch.where(
        before_BT >= 0,
        _take(shown.time_s_BT, before_BT) + ahead_s_BT,
        _take(shown.time_s_BT, after_BT) - early_s_BT,
    )
    time_s_BT = _blend(shown.time_s_BT, shown.shows_time_BT, before_BT, after_BT, edge_s_BT)
    first_time_s_BT = _take(shown.time_s_BT, _first_of(shown.shows_time_BT, shown.sequence_BT))
    first_BT = _first_of(shown.shows_place_BT, shown.sequence_BT)
    starts = _take(shown.lon_deg_BT, first_BT), _take(shown.lat_deg_BT, first_BT)
    own_m = step_between(*starts, shown.lon_deg_BT, shown.lat_deg_BT)
    before_BT, after_BT = neighbours(shown.shows_place_BT, shown.sequence_BT)
    nearest_BT = torch.where(before_BT >= 0, before_BT, after_BT)
    place_m = [
        _blend(own_m_BT, shown.shows_place_BT, before_BT, after_BT, _take(own_m_BT, nearest_BT))
        for own_m_BT in own_m
    ]
    is_pad_BT = shown.is_pad_BT
    return InitialGuess(
        torch.stack(place_m, dim=-1).masked_fill(is_pad_BT.unsqueeze(-1), 0),
        (time_s_BT - first_time_s_BT).masked_fill(is_pad_BT, 0),
        first_time_s_BT,
    )


def _first_of(is_known_BT: Tensor, sequence_BT: Tensor) -> Tensor:
    """Index of the first known point of each point's sequence; 0 where there is none."""
    num_points = sequence_BT.shape[1]
    late_BT = torch.full_like(sequence_BT, num_points)  # a row has no more sequences than points
    known_BT = torch.where(is_known_BT, index_of(sequence_BT), num_points)
    first_BS = late_BT.scatter_reduce(1, sequence_BT, known_BT, "amin")
    return first_BS.gather(1, sequence_BT) % max(1, num_points)


def surroundings_of(
    shown: MaskedInput, guess: InitialGuess, normaliser: Normaliser
) -> Surroundings:
    """The surroundings of each point, from what the others show."""
    time_s_BT = guess.time_s_BT
    index_BT = index_of(time_s_BT)
    before_BT, after_BT = neighbours(shown.shows_place_BT, shown.sequence_BT)
    anchor_BT = torch.where(before_BT >= 0, before_BT, after_BT)

    def place_m(at_BT: Tensor) -> Tensor:
        """Places of points in the frame of the anchor."""
        places = shown.lon_deg_BT, shown.lat_deg_BT
        return step_m_between(*places, anchor_BT.clamp(min=0), at_BT.clamp(min=0))

    def ways(start_BT: Tensor, sign: int) -> tuple[Tensor, Tensor, Tensor]:
        """Displacements to (sign 1) or from (-1) `start_BT` over known lags; zero without any."""
        reached_BT, found = start_BT, {}
        for lag in range(1, max(KNOWN_LAGS) + 1):
            further_BT = torch.where(reached_BT >= 0, _take(start_BT, reached_BT), -1)
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

    def side(place_BT: Tensor, clock_BT: Tensor, sign: int) -> Side:
        """What is known before (sign 1) or after (-1) each point."""
        num_BT, num_clock_BT = (
            torch.where(known_BT >= 0, sign * (index_BT - known_BT), 0).double()
            for known_BT in (place_BT, clock_BT)
        )
        # Along the known places; a hidden one counts where the path was last seen.
        run_m_BT = (sign * (length_m_BT - _take(length_m_BT, clock_BT))).clamp(min=0)
        return Side(
            num_BT,
            _take(time_s_BT, place_BT),
            *ways(place_BT, sign),
            _take(time_s_BT, clock_BT),
            num_clock_BT,
            torch.where(clock_BT >= 0, run_m_BT, 0.0),
        )

    has_both_BT = (before_BT >= 0) & (after_BT >= 0)
    clock_before_BT, clock_after_BT = neighbours(shown.shows_time_BT, shown.sequence_BT)
    length_m_BT = _length_m(shown, before_BT)
    return Surroundings(
        anchor_BT >= 0,
        guess.started_s_BT,
        _take(shown.lon_deg_BT, anchor_BT),
        _take(shown.lat_deg_BT, anchor_BT),
        torch.where(has_both_BT.unsqueeze(-1), place_m(after_BT), 0.0),
        side(before_BT, clock_before_BT, 1),
        side(after_BT, clock_after_BT, -1),
    )


def _length_m(shown: MaskedInput, before_BT: Tensor) -> Tensor:
    """Metres along the known places of the sequence up to each point."""
    step_m_BT = haversine_m(
        _take(shown.lon_deg_BT, before_BT),
        _take(shown.lat_deg_BT, before_BT),
        shown.lon_deg_BT,
        shown.lat_deg_BT,
    )
    return torch.where(shown.shows_place_BT & (before_BT >= 0), step_m_BT, 0.0).cumsum(1)


def is_between(near: Surroundings) -> Tensor:
    """Points with a known time on each side."""
    return (near.before.num_clock_BT > 0) & (near.after.num_clock_BT > 0)


def time_codes(near: Surroundings, normaliser: Normaliser) -> Tensor:
    """Where a time may lie, by points and by the length of the path: (..., 6)."""
    before, after, step_m = near.before, near.after, normaliser.extent_scale_m
    return torch.stack(
        [
            is_between(near).double(),
            torch.log1p(before.num_clock_BT),
            torch.log1p(after.num_clock_BT),
            torch.log1p(before.length_m_BT / step_m),
            torch.log1p(after.length_m_BT / step_m),
            torch.log1p(before.num_clock_BT * (before.length_m_BT == 0)),
        ],
        dim=-1,
    )


# ---------------------------------------------------------------------------------- features


def features_around(
    shown: MaskedInput, near: Surroundings, guess: InitialGuess, normaliser: Normaliser
) -> Tensor:
    """What the network sees of the surroundings, (B, T, F) in float32.

    Where a time is shown, the times around it tell nothing of it, and are left out: so a forecast
    does not depend on how far it goes.
    """
    extent_m, before, after = normaliser.extent_scale_m, near.before, near.after
    gap_num_BT = (before.num_BT + after.num_BT).clamp(min=1)
    own_m_BTC = torch.stack(
        step_between(near.lon_deg_BT, near.lat_deg_BT, shown.lon_deg_BT, shown.lat_deg_BT), dim=-1
    )
    has_own_BT = shown.shows_place_BT & near.has_place_BT
    per_point = [
        (before.way_m_BTLC / before.num_way_BTL.unsqueeze(-1)).flatten(-2),
        (after.way_m_BTLC / after.num_way_BTL.unsqueeze(-1)).flatten(-2),
        near.chord_m_BTC / gap_num_BT.unsqueeze(-1),
        torch.where(has_own_BT.unsqueeze(-1), own_m_BTC, 0.0),
    ]
    clocks_BTU = time_codes(near, normaliser).masked_fill(shown.shows_time_BT.unsqueeze(-1), 0)
    elapsed_s_BT = guess.time_s_BT - before.time_s_BT
    pace_BT = torch.log(elapsed_s_BT.clamp(min=0) + MIN_STEP_S) - normaliser.log_step_center
    numbers = [
        torch.log1p(before.num_BT),
        torch.log1p(after.num_BT),
        near.has_place_BT,
        before.num_BT > 0,
        after.num_BT > 0,
        shown.shows_place_BT,
        shown.shows_time_BT,
        torch.where(before.num_BT > 0, torch.asinh(pace_BT / normaliser.log_step_scale), 0.0),
        torch.log1p(before.way_m_BTLC.square().sum(-1).mean(-1).sqrt() / extent_m),
    ]
    numbers_BTF = torch.stack([value.double() for value in numbers], dim=-1)
    features = [torch.asinh(part / extent_m) for part in per_point]
    return torch.cat([*features, numbers_BTF, clocks_BTU], dim=-1).float()
