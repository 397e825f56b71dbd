"""Journeys as points: how whole trips and parts of them are shown to trajfm, and asked.

Each is a row of places at even shares of its way, or of its two ends alone, of which the first has
a time and the last is asked for its own. In training and in answers they look the same, so that
what is learnt of journeys is what is asked of them.

Shapes: N journeys, T points of a row, K places of a path.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...earth.geometry import haversine_m
from ...features.normaliser import MIN_STEP_S, Normaliser
from ...interface.batch import index_of
from ...interface.journey_rows import JourneyRows, whole_journeys
from ...interface.masked_input import MaskedInput
from ...layers.distributions import GaussianMixture


def shown_of(journeys: JourneyRows) -> MaskedInput:
    """Flat journeys as rows of points; their times count from the departure."""
    has_path_N1 = journeys.has_path_BG
    lon_deg_NT, lat_deg_NT = (
        _shortened(place_NK[:, 0], has_path_N1) for place_NK in _places(journeys)
    )
    index_NT = index_of(lon_deg_NT)
    is_pad_NT = (index_NT > 1) & ~has_path_N1
    is_first_NT = index_NT == 0
    calendar_NTK = journeys.calendar_BGU * is_first_NT.unsqueeze(-1)
    return MaskedInput(
        lon_deg_BT=lon_deg_NT.masked_fill(is_pad_NT, 0),
        lat_deg_BT=lat_deg_NT.masked_fill(is_pad_NT, 0),
        time_s_BT=torch.zeros_like(lon_deg_NT),
        calendar_BTK=calendar_NTK,
        shows_place_BT=~is_pad_NT,
        shows_time_BT=is_first_NT,
        is_asked_BT=last_of(is_pad_NT),
        is_pad_BT=is_pad_NT,
        sequence_BT=torch.zeros_like(index_NT),
    )


def _shortened(place_NK: Tensor, has_path_N1: Tensor) -> Tensor:
    """Places of paths, and where none is known the two ends in front; no more than are needed."""
    if not bool(has_path_N1.any()):
        return place_NK[:, [0, -1]]
    ends_NK = torch.cat([place_NK[:, :1], place_NK[:, -1:].expand_as(place_NK[:, 1:])], dim=1)
    return torch.where(has_path_N1, place_NK, ends_NK)


def last_of(is_pad_NT: Tensor) -> Tensor:
    """The last point of each row."""
    last_N1 = (~is_pad_NT).sum(1, keepdim=True) - 1
    return index_of(is_pad_NT) == last_N1


def drawn_views(journeys: JourneyRows) -> tuple[JourneyRows, JourneyRows]:
    """Some of the journeys with their paths, and others by their ends alone, both flat.

    Of both some are whole and some are parts; a path takes six times as long to read.
    """
    paths, ends = (
        journeys.at(slice(None), slice(first, None, stride)) for first, stride in ((0, 4), (1, 2))
    )
    return paths.flat(), ends.flat().with_ends_alone()


class UsualDuration(nn.Module):
    """What the length of a journey alone tells of its duration, by least squares on train.

    The code of the duration is a + b z, and z the logarithm of the length over a typical step; the
    numbers are (known: ends or path; a, b). Before it is fitted the usual speed of train tells it.
    """

    usual_KE: Tensor

    def __init__(self, normaliser: Normaliser) -> None:
        super().__init__()
        self.extent_m = normaliser.extent_scale_m
        plain_E = torch.tensor([math.log(self.extent_m / normaliser.speed_scale_mps), 1.0])
        self.register_buffer("usual_KE", plain_E.repeat(2, 1))

    @torch.no_grad()
    def fit(self, batches: Iterable[JourneyRows]) -> None:
        """On whole journeys, where there are enough of them."""
        whole = whole_journeys(batches)
        if not whole:
            return
        code_N = torch.cat([code_of_seconds(one.duration_s_BG[:, 0]) for one in whole])
        for known, views in enumerate(([one.with_ends_alone() for one in whole], whole)):
            z_N = torch.cat([self._z(view) for view in views])
            away_N = z_N - z_N.mean()
            rise = (away_N * code_N).sum() / away_N.square().sum().clamp(min=1e-6)
            self.usual_KE[known] = torch.stack([code_N.mean() - rise * z_N.mean(), rise])

    def _z(self, journeys: JourneyRows) -> Tensor:
        return torch.log1p(length_m(journeys) / self.extent_m)

    def forward(self, journeys: JourneyRows) -> Tensor:
        """The code of the duration (N) of flat journeys."""
        a_N, b_N = self.usual_KE[journeys.has_path_BG[:, 0].long()].unbind(-1)
        return a_N + b_N * self._z(journeys)


def length_m(journeys: JourneyRows) -> Tensor:
    """The whole length (N) of the path where it is known, else the distance of the ends."""
    ends = (place_NK[:, 0, at] for at in (0, -1) for place_NK in _places(journeys))
    has_path_N, path_m_N = journeys.has_path_BG[:, 0], journeys.path_m_BG[:, 0]
    return torch.where(has_path_N, path_m_N, haversine_m(*ends))


def _places(journeys: JourneyRows) -> tuple[Tensor, Tensor]:
    return journeys.lon_deg_BGK, journeys.lat_deg_BGK


def code_of_seconds(seconds_N: Tensor) -> Tensor:
    """As `code_of_time` where no later time is known."""
    return torch.log(seconds_N.clamp(min=0) + MIN_STEP_S)


@dataclass(frozen=True)
class DurationDensity:
    """p(seconds from the start of a journey to its end), whose codes are a mixture."""

    code: GaussianMixture

    def quantile(self, share: float) -> Tensor:
        """The seconds (N) with a share of the mass below them."""
        return (self.code.quantile(share).double().exp() - MIN_STEP_S).clamp(min=0)

    def log_density_of_code(self, seconds_N: Tensor) -> Tensor:
        """In nats of the code, which is what is learnt."""
        return self.code.log_density(code_of_seconds(seconds_N).float())

    def log_density(self, seconds_N: Tensor) -> Tensor:
        """In nats, of seconds: d code / d second is 1 / (second + `MIN_STEP_S`)."""
        code_N = code_of_seconds(seconds_N)
        return self.code.log_density(code_N.float()).double() - code_N
