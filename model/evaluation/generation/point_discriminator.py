"""Point discriminator: a small Transformer that shall tell made-up trips by the order of points.

It reads at most `NUM_POINTS` points of a trip, both ends and between them evenly: where each is on
the map, and the step and the seconds since the one before. Trees that read a trip in numbers see
none of its order.

Shapes: R trips, T points, F features, D width, B trips of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...baselines.one_thread import one_thread
from ...earth.arrays import Bools, Floats, Ints
from ...earth.frame import Frame
from ...interface.flat_points import even_places
from ...interface.trips import Trips
from ...layers.attention_masks import bidirectional_mask
from ...layers.position_encodings import sinusoidal_positions
from ...layers.transformer import Transformer

NUM_POINTS, WIDTH, NUM_LAYERS, NUM_HEADS = 32, 32, 2, 2
BATCH_TRIPS, LEARNING_RATE = 64, 3e-3


class PointReader(nn.Module):
    """From the points of a trip to the log odds that it was made up."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.embed = nn.Linear(num_features, WIDTH)
        self.transformer = Transformer(WIDTH, NUM_LAYERS, NUM_HEADS)
        self.told = nn.Linear(WIDTH, 1)

    def forward(self, feature_BTF: Tensor, is_point_BT: Tensor) -> Tensor:
        num_points = feature_BTF.shape[1]
        x_BTD = self.embed(feature_BTF) + sinusoidal_positions(num_points, WIDTH)
        index_BT = torch.arange(num_points).expand(is_point_BT.shape)
        read_BTD = self.transformer(x_BTD, index_BT, bidirectional_mask(is_point_BT))
        weight_BT1 = is_point_BT.unsqueeze(-1) / is_point_BT.sum(1)[:, None, None]
        return self.told((read_BTD * weight_BT1).sum(1))[:, 0]


@dataclass(frozen=True)
class PointScorer:
    """What a Transformer that was fitted on other folds finds of each trip."""

    frame: Frame
    seed: int
    num_steps: int

    def __call__(self, trips: Trips, is_made_up_R: Bools, fold_R: Ints) -> Floats:
        feature_RTF, is_point_RT = point_features(trips, self.frame)
        is_made_up_B = torch.from_numpy(is_made_up_R).float()
        score_R = np.empty(len(trips))
        with one_thread(), torch.random.fork_rng(devices=[]):
            for fold in np.unique(fold_R):
                seen, asked = (
                    torch.from_numpy(np.flatnonzero(is_in_R))
                    for is_in_R in (fold_R != fold, fold_R == fold)
                )
                torch.manual_seed(self.seed)
                columns = feature_RTF, is_point_RT, is_made_up_B
                reader = self._fitted(*(column[seen] for column in columns))
                score_R[asked.numpy()] = _scores(reader, feature_RTF[asked], is_point_RT[asked])
        return score_R

    def _fitted(
        self, feature_RTF: Tensor, is_point_RT: Tensor, is_made_up_R: Tensor
    ) -> PointReader:
        reader = PointReader(feature_RTF.shape[-1])
        optimizer = torch.optim.AdamW(reader.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, self.num_steps)
        for _ in range(self.num_steps):
            row_B = torch.randint(len(feature_RTF), (BATCH_TRIPS,))
            odds_B = reader(feature_RTF[row_B], is_point_RT[row_B])
            loss = functional.binary_cross_entropy_with_logits(odds_B, is_made_up_R[row_B])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return reader


def point_features(trips: Trips, frame: Frame) -> tuple[Tensor, Tensor]:
    """Features (R, T, F) of the points that are read, and which of them are points (R, T)."""
    points, size_R = trips.points, np.diff(trips.offset_R)
    kept_R = np.minimum(size_R, NUM_POINTS)
    place_RT = trips.offset_R[:-1, None] + even_places(size_R, kept_R, int(kept_R.max()))
    east_m_N, north_m_N = frame.metres(points.lon_deg_N, points.lat_deg_N)
    told_RT3 = np.stack([east_m_N, north_m_N, points.instant_us_N / 1e6], axis=-1)[place_RT]
    since_RT3 = np.diff(told_RT3, axis=1, prepend=told_RT3[:, :1])
    feature_RTF = np.concatenate([told_RT3[..., :2], since_RT3], axis=-1)
    is_point_RT = np.arange(place_RT.shape[1]) < kept_R[:, None]
    # Far places and long silences by their logarithm, each as a multiple of what is usual.
    usual_F = np.abs(feature_RTF[is_point_RT]).mean(0) + 1e-9
    scaled_RTF = np.arcsinh(feature_RTF / usual_F)
    return torch.from_numpy(scaled_RTF).float(), torch.from_numpy(is_point_RT)


@torch.no_grad()
def _scores(reader: PointReader, feature_RTF: Tensor, is_point_RT: Tensor) -> Floats:
    parts = zip(feature_RTF.split(BATCH_TRIPS), is_point_RT.split(BATCH_TRIPS), strict=True)
    return torch.cat([reader(*part) for part in parts]).double().numpy()
