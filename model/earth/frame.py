"""Frame: a flat map around one place, in metres east and north, with its inverse, and its cells.

It keeps the distance and the direction of each place from the centre (azimuthal equidistant).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .arrays import Floats, Ints
from .geometry import step_between, step_from

ROWS = 2**31  # more than any grid of the Earth in metres has


@dataclass(frozen=True)
class Frame:
    """The map around a place."""

    lon_deg: float
    lat_deg: float

    @classmethod
    def around(cls, lon_deg_N: Floats, lat_deg_N: Floats) -> Frame:
        """Around the mean of some places, wherever the date line is."""
        any_place = cls(float(lon_deg_N[0]), float(lat_deg_N[0]))
        mean_m = (
            axis_m_N.mean(keepdims=True) for axis_m_N in any_place.metres(lon_deg_N, lat_deg_N)
        )
        lon_deg_1, lat_deg_1 = any_place.degrees(*mean_m)
        return cls(float(lon_deg_1[0]), float(lat_deg_1[0]))

    def metres(self, lon_deg_N: Floats, lat_deg_N: Floats) -> tuple[Floats, Floats]:
        """East and north of places on the map."""
        places = torch.from_numpy(lon_deg_N), torch.from_numpy(lat_deg_N)
        east_m_N, north_m_N = step_between(*self._centre(), *places)
        return east_m_N.numpy(), north_m_N.numpy()

    def degrees(self, east_m_N: Floats, north_m_N: Floats) -> tuple[Floats, Floats]:
        """Longitude and latitude of places on the map."""
        steps = torch.from_numpy(east_m_N), torch.from_numpy(north_m_N)
        lon_deg_N, lat_deg_N = step_from(*self._centre(), *steps)
        return lon_deg_N.numpy(), lat_deg_N.numpy()

    def _centre(self) -> tuple[torch.Tensor, torch.Tensor]:
        lon_deg, lat_deg = torch.tensor([self.lon_deg, self.lat_deg], dtype=torch.float64)
        return lon_deg, lat_deg


@dataclass(frozen=True)
class Grid:
    """Square cells of a map; a cell is one number, a corner of one cell is the centre."""

    frame: Frame
    cell_m: float

    def cells(self, lon_deg_N: Floats, lat_deg_N: Floats) -> Ints:
        """The cell of each place."""
        column_N, row_N = (
            np.floor(axis_m_N / self.cell_m).astype(np.int64)
            for axis_m_N in self.frame.metres(lon_deg_N, lat_deg_N)
        )
        return column_N * ROWS + row_N + ROWS // 2

    def places_in(
        self, cell_N: Ints, share_east_N: Floats, share_north_N: Floats
    ) -> tuple[Floats, Floats]:
        """Longitude and latitude of places in cells, by shares of the way from their corners."""
        column_N, row_N = cell_N // ROWS, cell_N % ROWS - ROWS // 2
        return self.frame.degrees(
            (column_N + share_east_N) * self.cell_m, (row_N + share_north_N) * self.cell_m
        )
