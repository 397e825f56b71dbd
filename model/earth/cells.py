"""Cells of the H3 grid: the region of a place, as a number, and the centre of a region.

Shapes: N places, or cells.
"""

from __future__ import annotations

import h3.api.basic_int as h3
import numpy as np
from numpy.typing import NDArray


def cells_of(
    lon_deg_N: NDArray[np.float64], lat_deg_N: NDArray[np.float64], resolution: int
) -> NDArray[np.int64]:
    """The H3 cell of each place, as the number that H3 itself uses; its first bit is always 0."""
    pairs = zip(lat_deg_N.tolist(), lon_deg_N.tolist(), strict=True)
    cells = (h3.latlng_to_cell(lat_deg, lon_deg, resolution) for lat_deg, lon_deg in pairs)
    return np.fromiter(cells, np.int64, len(lon_deg_N))


def centres_of(
    cell_N: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(lon_deg_N, lat_deg_N) of the centres of cells, lon_deg in [-180, 180)."""
    centres = [h3.cell_to_latlng(cell) for cell in cell_N.tolist()]
    lat_deg_N, lon_deg_N = np.array(centres, np.float64).reshape(-1, 2).T
    return (lon_deg_N + 180.0) % 360.0 - 180.0, lat_deg_N
