"""Contexts and partial trajectories: what a question is asked about, the same for every family.

Shapes: B rows, T points, H points of the horizon, S samples, E draws, K calendar features,
C components of a velocity (east, north).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..earth.calendar import NUM_CALENDAR, calendar_features
from ..features.point_features import steps_of
from .batch import Rows, index_of
from .masking import MaskedBatch

POINTS = ("lon_deg_BT", "lat_deg_BT", "time_s_BT")


@dataclass(frozen=True)
class Context(Rows):
    """Known points, padded on the right.

    `time_s_BT` (float64) counts seconds since `started_us_B` (microseconds since 1970 UTC); `zone`
    is where the calendar features are read. `reported_mps_BTC` is the velocity over ground that the
    source reports beside its places, NaN at points where it reports none, None where it never does.
    `kind_B` are the numbers of what moves, 0 where it is not told.
    """

    lon_deg_BT: Tensor
    lat_deg_BT: Tensor
    time_s_BT: Tensor
    started_us_B: Tensor
    zone: str
    is_pad_BT: Tensor
    reported_mps_BTC: Tensor | None = None
    kind_B: Tensor | None = None

    def __post_init__(self) -> None:
        is_known_BT = ~self.is_pad_BT
        if not bool(is_known_BT[:, 0].all()):
            raise ValueError("a context needs at least one point, and its pads on the right")
        check_points(self, is_known_BT, is_known_BT)
        if bool(((self.time_s_BT.diff(dim=1) < 0) & is_known_BT[:, 1:]).any()):
            raise ValueError("times of a context must not descend")

    @property
    def num_points_B(self) -> Tensor:
        return (~self.is_pad_BT).sum(dim=1)

    def last_B1(self) -> tuple[Tensor, Tensor, Tensor]:
        """Longitude, latitude and time (B, 1) of the last point of each context."""
        last_B1 = self.num_points_B.unsqueeze(1) - 1
        lon_deg_B1, lat_deg_B1, time_s_B1 = (
            getattr(self, name).gather(1, last_B1) for name in POINTS
        )
        return lon_deg_B1, lat_deg_B1, time_s_B1

    def reported_last_mps_BC(self) -> Tensor:
        """The velocity that is reported at the last point of each context, NaN where none is."""
        row_B = torch.arange(len(self.is_pad_BT), device=self.is_pad_BT.device)
        if self.reported_mps_BTC is None:
            return torch.full((len(row_B), 2), torch.nan, dtype=torch.float64, device=row_B.device)
        return self.reported_mps_BTC[row_B, self.num_points_B - 1].double()

    def latest(self, num_points: int, stride: int = 1) -> Context:
        """At most `num_points` of each context: the last one, and from it every so manieth back."""
        kept_B = ((self.num_points_B - 1) // stride + 1).clamp(max=num_points)
        start_B = self.num_points_B - 1 - stride * (kept_B - 1)
        most = min(num_points, (self.is_pad_BT.shape[1] - 1) // stride + 1)
        slot_T = torch.arange(most, device=start_B.device)
        index_BT = (start_B.unsqueeze(1) + stride * slot_T).clamp(max=self.is_pad_BT.shape[1] - 1)
        gathered = {name: getattr(self, name).gather(1, index_BT) for name in POINTS}
        if self.reported_mps_BTC is not None:
            row_B1 = torch.arange(len(index_BT), device=index_BT.device).unsqueeze(1)
            gathered["reported_mps_BTC"] = self.reported_mps_BTC[row_B1, index_BT]
        return replace(self, **gathered, is_pad_BT=slot_T >= kept_B.unsqueeze(1))

    def extended(self, lon_deg_BH: Tensor, lat_deg_BH: Tensor, time_s_BH: Tensor) -> Context:
        """The contexts with points behind their last ones, of which no motion is reported."""
        num_new = time_s_BH.shape[1]
        slot_BH = self.num_points_B.unsqueeze(1) + torch.arange(num_new, device=time_s_BH.device)
        room = (0, num_new)
        added = zip(POINTS, (lon_deg_BH, lat_deg_BH, time_s_BH), strict=True)
        longer: dict[str, Any] = {
            name: functional.pad(getattr(self, name).double(), room).scatter(1, slot_BH, value_BH)
            for name, value_BH in added
        }
        is_pad_BT = functional.pad(self.is_pad_BT, room, value=True).scatter(1, slot_BH, False)
        longer["reported_mps_BTC"] = _with_room(self.reported_mps_BTC, num_new)
        return replace(self, **longer, is_pad_BT=is_pad_BT)

    def batch(self) -> MaskedBatch:
        """The same as a batch in which all is shown; whatever stood in a pad is gone."""
        return Partial.of(self, 0, None).batch()


def _with_room(reported_mps_BTC: Tensor | None, num_new: int) -> Tensor | None:
    """Reported motion with room behind, where none is reported."""
    if reported_mps_BTC is None:
        return None
    return functional.pad(reported_mps_BTC, (0, 0, 0, num_new), value=torch.nan)


@dataclass(frozen=True)
class Partial(Rows):
    """Points of which the place, the time or both are known, padded on the right.

    What is not shown is asked for. Times count seconds since `started_us_B`, as in `Context`.
    Where a path is told at a few places, `path_m_B` is its whole length; NaN where none is known.
    """

    lon_deg_BT: Tensor
    lat_deg_BT: Tensor
    time_s_BT: Tensor
    shows_place_BT: Tensor
    shows_time_BT: Tensor
    started_us_B: Tensor
    zone: str
    is_pad_BT: Tensor
    path_m_B: Tensor | None = None
    reported_mps_BTC: Tensor | None = None
    kind_B: Tensor | None = None

    def __post_init__(self) -> None:
        check_points(self, self.shows_place_BT, self.shows_time_BT)

    @classmethod
    def of(cls, context: Context, num_horizon: int, target_s_BH: Tensor | None) -> Partial:
        """A context and the points behind it whose places, or times as well, are asked for."""
        num_context = context.is_pad_BT.shape[1]
        slot_T = torch.arange(num_context + num_horizon, device=context.is_pad_BT.device)
        num_points_B1 = context.num_points_B.unsqueeze(1)
        is_known_BT = slot_T < num_points_B1
        room = (0, num_horizon)
        time_s_BT = functional.pad(context.time_s_BT.double(), room)
        if target_s_BH is not None:
            horizon_H = torch.arange(num_horizon, device=slot_T.device)
            time_s_BT = time_s_BT.scatter(1, num_points_B1 + horizon_H, target_s_BH.double())
        return cls(
            functional.pad(context.lon_deg_BT.double(), room),
            functional.pad(context.lat_deg_BT.double(), room),
            time_s_BT,
            is_known_BT,
            is_known_BT if target_s_BH is None else torch.ones_like(is_known_BT),
            context.started_us_B,
            context.zone,
            slot_T >= num_points_B1 + num_horizon,
            reported_mps_BTC=_with_room(context.reported_mps_BTC, num_horizon),
            kind_B=context.kind_B,
        )

    def batch(self) -> MaskedBatch:
        """The same as a batch in which the hidden is asked; whatever stood there is gone."""
        is_point_BT = ~self.is_pad_BT
        shows_place_BT, shows_time_BT = (
            shows_BT & is_point_BT for shows_BT in (self.shows_place_BT, self.shows_time_BT)
        )
        lon_deg_BT = self.lon_deg_BT.double().masked_fill(~shows_place_BT, 0)
        lat_deg_BT = self.lat_deg_BT.double().masked_fill(~shows_place_BT, 0)
        time_s_BT = self.time_s_BT.double().masked_fill(~shows_time_BT, 0)
        index_BT = index_of(time_s_BT)
        is_whole_BT = shows_place_BT & shows_time_BT
        has_step_BT = is_whole_BT & functional.pad(is_whole_BT[:, :-1], (1, 0))
        step_BTF = steps_of(lon_deg_BT, lat_deg_BT, time_s_BT)
        reported_mps_BTC = self.reported_mps_BTC
        if reported_mps_BTC is not None:
            reported_mps_BTC = reported_mps_BTC.masked_fill(~is_whole_BT.unsqueeze(-1), torch.nan)
        return MaskedBatch(
            lon_deg_BT=lon_deg_BT,
            lat_deg_BT=lat_deg_BT,
            time_s_BT=time_s_BT,
            step_BTF=step_BTF.masked_fill(~has_step_BT.unsqueeze(-1), 0).float(),
            calendar_BTK=calendar_at(self.started_us_B, time_s_BT, self.zone),
            is_observed_BT=is_whole_BT,
            is_target_BT=is_point_BT & ~is_whole_BT,
            is_pad_BT=self.is_pad_BT,
            sequence_BT=torch.zeros_like(index_BT),
            window_id_B=torch.arange(len(time_s_BT)),
            shows_place_BT=shows_place_BT,
            shows_time_BT=shows_time_BT,
            shown_BT=index_BT,
            span_BT=torch.zeros_like(index_BT),
            started_us_B=self.started_us_B,
            reported_mps_BTC=reported_mps_BTC,
            kind_B=self.kind_B,
        )


def check_points(given: Context | Partial, shows_place_BT: Tensor, shows_time_BT: Tensor) -> None:
    """Refuse pads that stand on the left of a point, and numbers that are shown and not finite."""
    is_point_BT = ~given.is_pad_BT
    if bool((is_point_BT[:, 1:] & given.is_pad_BT[:, :-1]).any()):
        raise ValueError("pads must stand on the right")
    shown = (shows_place_BT, shows_place_BT, shows_time_BT)
    for name, is_shown_BT in zip(POINTS, shown, strict=True):
        if not bool(torch.isfinite(getattr(given, name)[is_shown_BT & is_point_BT]).all()):
            raise ValueError(f"{name} must be finite where it is shown")


def calendar_at(started_us_N: Tensor, time_s_NQ: Tensor, zone: str) -> Tensor:
    """Calendar features (N, Q, K) of seconds since the start of each row."""
    instant_us_NQ = started_us_N.unsqueeze(1) + (time_s_NQ * 1e6).round().long()
    calendar: np.ndarray = calendar_features(instant_us_NQ.cpu().numpy(), zone)
    return torch.from_numpy(calendar.reshape(*time_s_NQ.shape, NUM_CALENDAR)).to(time_s_NQ.device)


def check_target_times(context: Context, num_horizon: int, target_time_s_BH: Tensor | None) -> None:
    if target_time_s_BH is None:
        return
    expected = (len(context.started_us_B), num_horizon)
    if tuple(target_time_s_BH.shape) != expected:
        raise ValueError(f"target times must be {expected}, not {tuple(target_time_s_BH.shape)}")
    _lon_deg_B1, _lat_deg_B1, last_s_B1 = context.last_B1()
    if not bool((torch.cat([last_s_B1, target_time_s_BH], dim=1).diff(dim=1) >= 0).all()):
        raise ValueError("target times must not descend, nor begin before the context ends")
