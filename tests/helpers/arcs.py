"""Ships that turn steadily, told at any instants: one motion, sampled as densely as one likes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.earth.geometry import step_from
from model.features.normaliser import Normaliser

STEP_S = 60.0  # between the fixes of train
SHIPS = Normaliser.from_json(
    {
        "num_steps": 1000,
        "step_s": {"p10": 60.0, "p50": 60.0, "p90": 60.0},
        "speed_mps": {"p10": 4.0, "p50": 7.0, "p90": 11.0},
        "step_m": {"p10": 240.0, "p50": 420.0, "p90": 660.0},
    }
)


class Arcs:
    """Ships that turn steadily, 3 degrees a minute or so, known to within some metres at will."""

    def __init__(self, num_rows: int, seed: int, noise_m: float = 1.0) -> None:
        self.noise_m = noise_m
        self.rng = np.random.default_rng(seed)
        self.speed_mps = self.rng.uniform(3, 12, (num_rows, 1))
        self.heading = self.rng.uniform(0, 2 * np.pi, (num_rows, 1))
        self.turn = np.deg2rad(self.rng.normal(0, 0.05, (num_rows, 1)))
        self.lon_deg, self.lat_deg = self.rng.uniform((-5, 40), (5, 55), (num_rows, 2)).T

    def at(self, time_s_T: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Longitudes, latitudes and seconds since the first instant (B, T)."""
        heading = self.heading + self.turn * time_s_T.numpy()
        radius_m = self.speed_mps / self.turn
        east_m = radius_m * (np.sin(heading) - np.sin(self.heading))
        north_m = -radius_m * (np.cos(heading) - np.cos(self.heading))
        moved_m = np.stack([east_m, north_m])
        moved_m_BT = torch.from_numpy(moved_m + self.rng.normal(0, self.noise_m, moved_m.shape))
        starts = (torch.from_numpy(value)[:, None] for value in (self.lon_deg, self.lat_deg))
        places = step_from(*(value.expand(moved_m.shape[1:]) for value in starts), *moved_m_BT)
        return *places, (time_s_T - time_s_T[0]).expand(moved_m.shape[1:])
