"""Motion of trips in torch: what the columns of `sql/marts/steps.sql` are compared with.

Shapes: B trips, T points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.earth.geometry import haversine_m, step_between, step_from

MIN_TURN_STEP_M = 1e-3  # a shorter step stands still: it has no direction


@dataclass(frozen=True)
class Motion:
    """How each point was arrived at, in float64: equal to the columns of `sql/marts/steps.sql`.

    A first point has no step: all is 0 there. The first step has none before it to compare with,
    and a step of less than a millimetre has no direction: nothing turns or speeds up at the one,
    nothing turns before or after the other. A turn to the right is positive.
    """

    speed_mps_BT: Tensor
    acceleration_mps2_BT: Tensor
    turn_rad_BT: Tensor


def motion_of(lon_deg_BT: Tensor, lat_deg_BT: Tensor, time_s_BT: Tensor) -> Motion:
    """Speed, acceleration and turn of the step arriving at each point."""
    lon_a_deg, lat_a_deg = lon_deg_BT[..., :-1], lat_deg_BT[..., :-1]
    lon_b_deg, lat_b_deg = lon_deg_BT[..., 1:], lat_deg_BT[..., 1:]
    step_s = (time_s_BT.diff(dim=-1) * 1e6).round() / 1e6
    step_m = haversine_m(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg)
    speed_mps = step_m / step_s
    # From the middle of one step to the middle of the next.
    between_s = (step_s[..., 1:] + step_s[..., :-1]) / 2
    start_rad = azimuth_rad(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg)
    end_rad = azimuth_rad(lon_b_deg, lat_b_deg, lon_a_deg, lat_a_deg) + torch.pi
    turn_rad = wrap_rad(start_rad[..., 1:] - end_rad[..., :-1])
    is_moving = step_m >= MIN_TURN_STEP_M
    has_turn = is_moving[..., 1:] & is_moving[..., :-1]
    return Motion(
        speed_mps_BT=torch.nn.functional.pad(speed_mps, (1, 0)),
        acceleration_mps2_BT=_from_third(speed_mps.diff(dim=-1) / between_s, lon_deg_BT),
        turn_rad_BT=_from_third(torch.where(has_turn, turn_rad, 0.0), lon_deg_BT),
    )


def _from_third(value_BT: Tensor, point_BT: Tensor) -> Tensor:
    """Values of the third point on, with 0 before them."""
    return torch.nn.functional.pad(value_BT, (2, 0))[..., : point_BT.shape[-1]]


def azimuth_rad(
    lon_a_deg: Tensor, lat_a_deg: Tensor, lon_b_deg: Tensor, lat_b_deg: Tensor
) -> Tensor:
    """Direction from a to b in radians clockwise from north at a; 0 between equal points."""
    return torch.atan2(*step_between(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg))


def wrap_rad(angle_rad: Tensor) -> Tensor:
    """The same angle in [-pi, pi]."""
    return angle_rad - 2 * torch.pi * torch.round(angle_rad / (2 * torch.pi))


def points_reached(
    lon_deg_B: Tensor, lat_deg_B: Tensor, time_s_B: Tensor, step_BTF: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The points that steps lead to from a first point: the inverse of `steps_of`.

    Directions are measured from the meridian, so a step that starts within a millionth of its
    length of a pole turns with the last digits of its start: each step is exact from its own start
    anywhere, a chain of them only past points that are further from the poles than that.
    """
    lon_deg, lat_deg = [lon_deg_B], [lat_deg_B]
    for east_m, north_m, _ in (step.unbind(-1) for step in step_BTF.unbind(-2)[1:]):
        end_lon_deg, end_lat_deg = step_from(lon_deg[-1], lat_deg[-1], east_m, north_m)
        lon_deg.append(end_lon_deg)
        lat_deg.append(end_lat_deg)
    time_s_BT = time_s_B.unsqueeze(-1) + step_BTF[..., 2].cumsum(-1)
    return torch.stack(lon_deg, -1), torch.stack(lat_deg, -1), time_s_BT
