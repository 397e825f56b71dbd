"""Point features: steps, motion since earlier points, and what the model sees of each point.

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
from ..earth.geometry import step_between
from .normaliser import Normaliser

LAGS = (1, 2, 4, 8)  # points back to the origin of each recent velocity
NUM_SPATIAL = 4 * len(LAGS) + 5
NUM_TEMPORAL = 3 + NUM_CALENDAR


# ---------------------------------------------------------------------------------- steps


def steps_of(lon_deg_BT: Tensor, lat_deg_BT: Tensor, time_s_BT: Tensor) -> Tensor:
    """The step arriving at each point, (..., T, F) in float64, zero at the first point."""
    starts, ends = (
        (lon_deg_BT[..., part], lat_deg_BT[..., part]) for part in (slice(-1), slice(1, None))
    )
    # Instants are whole microseconds, and so are the seconds between them.
    step_s = (time_s_BT.diff(dim=-1) * 1e6).round() / 1e6
    step_BTF = torch.stack([*step_between(*starts, *ends), step_s], dim=-1)
    return torch.nn.functional.pad(step_BTF, (0, 0, 1, 0))


def motion_since(
    lon_deg_BT: Tensor, lat_deg_BT: Tensor, time_s_BT: Tensor, index_BQ: Tensor, origin_BQL: Tensor
) -> tuple[Tensor, Tensor]:
    """Displacement (B, Q, L, C) and seconds (B, Q, L) from origins to points, in their frame."""
    index_BQ1 = index_BQ.unsqueeze(-1)
    back_m_BQLC = step_m_between(lon_deg_BT, lat_deg_BT, index_BQ1, origin_BQL)
    return -back_m_BQLC, _at(time_s_BT, index_BQ1) - _at(time_s_BT, origin_BQL)


def step_m_between(
    lon_deg_BT: Tensor, lat_deg_BT: Tensor, start_BQ: Tensor, end_BQ: Tensor
) -> Tensor:
    """Metres (B, Q, C) from some points of a row to others, in the frame of the first."""
    starts = _at(lon_deg_BT, start_BQ), _at(lat_deg_BT, start_BQ)
    ends = _at(lon_deg_BT, end_BQ), _at(lat_deg_BT, end_BQ)
    return torch.stack(step_between(*starts, *ends), dim=-1)


def _at(value_BT: Tensor, index_BQ: Tensor) -> Tensor:
    """Values at positions of each row; further axes of the index are kept."""
    return value_BT.gather(1, index_BQ.flatten(1)).view(index_BQ.shape)


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
    points = lon_deg_BT, lat_deg_BT, time_s_BT
    displacement_m_BQLC, elapsed_s_BQL = motion_since(*points, index_BQ, origin_BQL)
    least_s = normaliser.shortest_step_s
    velocity_BQLC = displacement_m_BQLC / elapsed_s_BQL.clamp(min=least_s).unsqueeze(-1)
    since_first_m_BQC = step_m_between(lon_deg_BT, lat_deg_BT, first_BQ, index_BQ)
    since_first_s_BQ = _at(time_s_BT, index_BQ) - _at(time_s_BT, first_BQ)
    step_code_BQ = torch.asinh(normaliser.encode_step_s(elapsed_s_BQL[..., 0]))
    temporal = [
        # The first point has no step; its place in the logarithm is the typical one.
        torch.where(index_BQ == first_BQ, 0.0, step_code_BQ),
        torch.asinh(since_first_s_BQ / normaliser.typical_step_s),
        (index_BQ == first_BQ).double(),
    ]
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
