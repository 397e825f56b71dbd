"""From points to features and back: steps, motion, and what the model sees of each point.

Nothing here knows where on Earth a trajectory lies: positions enter as steps, as displacements seen
from the present point, and relative to the window's first point (never its last, which would tell
earlier positions where the future lies).

Shapes: B windows, T points, Q queried points, L lags, C coordinates (east, north),
F step features (east_m, north_m, s), K calendar features, S spatial and M temporal features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..earth.calendar import NUM_CALENDAR
from ..earth.geometry import azimuth_rad, haversine_m, step_between, step_from, wrap_rad
from .normaliser import Normaliser

LAGS = (1, 2, 4, 8)  # points back to the origin of each recent velocity
MIN_TURN_STEP_M = 1e-3  # a shorter step stands still: it has no direction
NUM_SPATIAL = 4 * len(LAGS) + 5
NUM_TEMPORAL = 3 + NUM_CALENDAR


# ---------------------------------------------------------------------------------- steps


def steps_of(lon_deg_BT: Tensor, lat_deg_BT: Tensor, time_s_BT: Tensor) -> Tensor:
    """The step arriving at each point, (..., T, F) in float64, zero at the first point."""
    east_m, north_m = step_between(*_pairs(lon_deg_BT, lat_deg_BT))
    step_BTF = torch.stack([east_m, north_m, _step_s(time_s_BT)], dim=-1)
    return torch.nn.functional.pad(step_BTF, (0, 0, 1, 0))


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
    lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg = _pairs(lon_deg_BT, lat_deg_BT)
    step_s = _step_s(time_s_BT)
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


def _pairs(lon_deg_BT: Tensor, lat_deg_BT: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each point but the last, and the one after it."""
    return lon_deg_BT[..., :-1], lat_deg_BT[..., :-1], lon_deg_BT[..., 1:], lat_deg_BT[..., 1:]


def _step_s(time_s_BT: Tensor) -> Tensor:
    """Seconds from each point to the next: instants are whole microseconds, and so are these."""
    return (time_s_BT.diff(dim=-1) * 1e6).round() / 1e6


def points_of(
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


# ---------------------------------------------------------------------------------- features


@dataclass(frozen=True)
class PointFeatures:
    """What the model sees of queried points, each from its own past only.

    `velocity_mps_BQLC` is the mean velocity since the point `LAGS` back, as seen from the present
    point: going on along the great circle keeps it, over a pole as well.
    """

    spatial_BQS: Tensor
    temporal_BQM: Tensor
    velocity_mps_BQLC: Tensor


def point_features(
    lon_deg_BT: Tensor,
    lat_deg_BT: Tensor,
    time_s_BT: Tensor,
    calendar_BQK: Tensor,
    index_BQ: Tensor,
    first_BQ: Tensor,
    normaliser: Normaliser,
) -> PointFeatures:
    """Features (float32) of the points at `index_BQ`, of sequences that begin at `first_BQ`."""
    lag_L = torch.tensor(LAGS, device=index_BQ.device)
    origin_BQL = torch.maximum(index_BQ.unsqueeze(-1) - lag_L, first_BQ.unsqueeze(-1))
    displacement_m_BQLC = _displacement_m(lon_deg_BT, lat_deg_BT, index_BQ, origin_BQL)
    elapsed_s_BQL = _at(time_s_BT, index_BQ).unsqueeze(-1) - _at(time_s_BT, origin_BQL)
    velocity_BQLC = displacement_m_BQLC / elapsed_s_BQL.clamp(
        min=normaliser.shortest_step_s
    ).unsqueeze(-1)
    since_first_m_BQC = _since_first_m(lon_deg_BT, lat_deg_BT, index_BQ, first_BQ)
    since_first_s_BQ = _at(time_s_BT, index_BQ) - _at(time_s_BT, first_BQ)
    temporal = [
        torch.asinh(normaliser.encode_step_s(elapsed_s_BQL[..., 0])),
        torch.asinh(since_first_s_BQ / normaliser.typical_step_s),
        (index_BQ == first_BQ).double(),
    ]
    # The first point has no step; its place in the logarithm is the typical one.
    temporal[0] = torch.where(index_BQ == first_BQ, 0.0, temporal[0])
    return PointFeatures(
        spatial_BQS=_spatial(velocity_BQLC, since_first_m_BQC, normaliser).float(),
        temporal_BQM=torch.cat([torch.stack(temporal, -1).float(), calendar_BQK], dim=-1),
        velocity_mps_BQLC=velocity_BQLC.float(),
    )


def recent_speed_mps(velocity_mps_BQLC: Tensor, floor_mps: float) -> Tensor:
    """Root mean square of the recent velocities, with a floor that keeps it positive."""
    square_BQL = velocity_mps_BQLC.square().sum(-1)
    return torch.sqrt(square_BQL.mean(-1) + floor_mps**2)


def _spatial(velocity_BQLC: Tensor, since_first_m_BQC: Tensor, normaliser: Normaliser) -> Tensor:
    """Velocities in the dataset's scale and in the window's own, and the place in the window."""
    speed_scale = normaliser.speed_scale_mps
    speed_BQ = recent_speed_mps(velocity_BQLC, 0.05 * speed_scale)
    own_BQLC = velocity_BQLC / speed_BQ[..., None, None]
    log_speed_BQ = torch.log(speed_BQ / speed_scale)
    parts = [
        torch.asinh(velocity_BQLC / speed_scale).flatten(-2),
        own_BQLC.flatten(-2),
        torch.asinh(since_first_m_BQC / normaliser.extent_scale_m),
        (own_BQLC[..., 0, :] - own_BQLC[..., 2, :]),
        log_speed_BQ.unsqueeze(-1),
    ]
    return torch.cat(parts, dim=-1)


def _displacement_m(
    lon_deg_BT: Tensor, lat_deg_BT: Tensor, index_BQ: Tensor, origin_BQL: Tensor
) -> Tensor:
    """Displacement from origin to present point, in the frame of the present point."""
    back_east_m, back_north_m = step_between(
        _at(lon_deg_BT, index_BQ).unsqueeze(-1),
        _at(lat_deg_BT, index_BQ).unsqueeze(-1),
        _at(lon_deg_BT, origin_BQL),
        _at(lat_deg_BT, origin_BQL),
    )
    return -torch.stack([back_east_m, back_north_m], dim=-1)


def _since_first_m(
    lon_deg_BT: Tensor, lat_deg_BT: Tensor, index_BQ: Tensor, first_BQ: Tensor
) -> Tensor:
    """The present point in the frame of the first one."""
    east_m, north_m = step_between(
        _at(lon_deg_BT, first_BQ),
        _at(lat_deg_BT, first_BQ),
        _at(lon_deg_BT, index_BQ),
        _at(lat_deg_BT, index_BQ),
    )
    return torch.stack([east_m, north_m], dim=-1)


def _at(value_BT: Tensor, index_BQ: Tensor) -> Tensor:
    """Values at positions of each row; further axes of the index are kept."""
    return value_BT.gather(1, index_BQ.flatten(1)).view(index_BQ.shape)
