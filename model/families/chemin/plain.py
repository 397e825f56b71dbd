"""Plain inputs: of each point its longitude, latitude and place in the calendar, and no motion.

The raw triplets of the educational model that this family goes back to: where, and on which
weekday, hour, minute and second. What moves how fast, and which way, the network must find itself.
Here the place counts, so that nothing that is learnt holds elsewhere; the date line is a border.

What stays as it is: heads tell a step in metres from the last point, given the seconds that it
takes, and sizes of steps and durations are the dataset's typical ones. But where kinematic inputs
give the head recent velocities to damp and turn, it gets the four winds here, each at the dataset's
typical speed whatever the trajectory did. Untrained, they cancel out: the object stays.

Shapes: B windows, T points, Q queried points, L lags, C coordinates (longitude, latitude; of
velocities east, north), K calendar features.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ...earth.calendar import NUM_CALENDAR
from ...features.normaliser import Normaliser
from ...features.point_features import LAGS, PointFeatures
from ...interface.batch import Batch

NUM_SPATIAL, NUM_TEMPORAL = 2, NUM_CALENDAR
MIN_SPREAD_DEG = 1e-6  # ten centimetres: of places that are all one


class PlainInputs(nn.Module):
    """Degrees in units of how the train points are spread around their mean.

    These are kept with the weights, and are those of the whole Earth until they are fitted. Both
    are float64, and so is the subtraction: a float32 of degrees is metres off.
    """

    mean_deg_C: Tensor
    spread_deg_C: Tensor
    wind_mps_LC: Tensor

    def __init__(self, normaliser: Normaliser) -> None:
        super().__init__()
        self.register_buffer("mean_deg_C", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("spread_deg_C", torch.tensor([180.0, 90.0], dtype=torch.float64))
        angle_L = 2 * math.pi / len(LAGS) * torch.arange(len(LAGS))
        wind_LC = torch.stack([angle_L.sin(), angle_L.cos()], dim=-1)
        wind_mps_LC = normaliser.speed_scale_mps * wind_LC
        self.register_buffer("wind_mps_LC", wind_mps_LC, persistent=False)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Take mean and standard deviation of the places in batches of train."""
        place_deg_NC = torch.cat([_places(batch)[~batch.is_pad_BT] for batch in batches])
        self.mean_deg_C.copy_(place_deg_NC.mean(0))
        self.spread_deg_C.copy_(place_deg_NC.std(0, correction=0).clamp(min=MIN_SPREAD_DEG))

    def forward(
        self, lon_deg_BT: Tensor, lat_deg_BT: Tensor, calendar_BQK: Tensor, index_BQ: Tensor
    ) -> PointFeatures:
        """Features (float32) of the points at `index_BQ`, each from itself alone."""
        lon_deg_BQ, lat_deg_BQ = (value.gather(1, index_BQ) for value in (lon_deg_BT, lat_deg_BT))
        off_deg_BQC = torch.stack([lon_deg_BQ, lat_deg_BQ], dim=-1) - self.mean_deg_C
        return PointFeatures(
            spatial_BQS=(off_deg_BQC / self.spread_deg_C).float(),
            temporal_BQM=calendar_BQK,
            velocity_mps_BQLC=self.wind_mps_LC.expand(*index_BQ.shape, -1, -1),
        )


def _places(batch: Batch) -> Tensor:
    return torch.stack([batch.lon_deg_BT, batch.lat_deg_BT], dim=-1)
