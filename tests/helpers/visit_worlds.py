"""Visits of `VisitLaw`, whose least surprise is known, as batches and as what training reads.

Shapes: B rows, V visits, R regions.
"""

from __future__ import annotations

import numpy as np
import torch

from helpers.process_floors import RegionChainFloor
from model.earth.cells import cells_of
from model.earth.geometry import step_from
from model.features.normaliser import Quantiles
from model.features.places import Places
from model.synthetic.visit_law import VisitLaw

LAW = VisitLaw(chain=RegionChainFloor(side=4, stay=0.0))
CELL_M = 2_000.0
MONDAY_US = 1_704_067_200_000_000  # 2024-01-01


def places_of(law: VisitLaw = LAW) -> Places:
    column_R, row_R = law.chain.places(np.arange(law.chain.num_regions))
    east_m_R, north_m_R = column_R * CELL_M, row_R * CELL_M
    lon_deg, lat_deg = step_from(
        *torch.tensor([[4.35], [50.85]]).double(), *map(torch.from_numpy, (east_m_R, north_m_R))
    )
    distance_m_R = np.hypot(east_m_R, north_m_R)
    return Places(
        resolution=8,
        cells=tuple(cells_of(lon_deg.numpy(), lat_deg.numpy(), 8).tolist()),
        centroid_lon_deg=4.35,
        centroid_lat_deg=50.85,
        east_m=tuple(east_m_R.tolist()),
        north_m=tuple(north_m_R.tolist()),
        num_visits=10_000,
        min_stay_s=law.least_stay_s,
        duration_s=Quantiles(1_500.0, 4_000.0, 12_000.0),
        travel_s=Quantiles(0.0, 1_000.0, 2_000.0),
        distance_m=Quantiles(*np.quantile(distance_m_R, [0.1, 0.5, 0.9]).tolist()),
        max_distance_m=float(distance_m_R.max()),
        max_elapsed_s=1e7,
    )
