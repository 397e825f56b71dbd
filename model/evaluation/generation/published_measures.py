"""Published measures: how TrajGDM judged made-up sequences of cells, and the same asked of cells.

The published ones are roots of Jensen-Shannon divergences in nats, between counts of the numbers of
cells in a hundred equal bins. Cells are numbered row by row, so that a bin is a strip of about a
row, or a part of several: whoever numbers the cells otherwise gets other values, and whoever moves
points about within a strip gets the same. Ours know cells by their being the same or not. The two
are of different units, and their names say which is which.

Shapes: S sequences, T points, N values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import jensenshannon

from ...earth.arrays import Floats, Ints
from .comparison import Values, jensen_shannon_bits, share_of
from .distances import Walk, cell_distances, counted_from_zero, unseen_share

NUM_BINS, FARTHEST = 100, 50.0  # moves that are farther are not counted, as published


@dataclass(frozen=True)
class Square:
    """A square of cells, numbered row by row from 0, each row from its west end."""

    side: int

    @property
    def num_cells(self) -> int:
        return self.side**2

    def row_and_column(self, cell: Ints) -> tuple[Ints, Ints]:
        return cell // self.side, cell % self.side

    def cell(self, row: Ints, column: Ints) -> Ints:
        """The cell of a row and a column, or -1 outside of the square."""
        is_in = (row >= 0) & (row < self.side) & (column >= 0) & (column < self.side)
        return np.where(is_in, row * self.side + column, -1)

    def ways(self, cell_ST: Ints) -> Floats:
        """How far each step of sequences goes (S, T - 1), in sides of a cell."""
        row_ST, column_ST = self.row_and_column(cell_ST)
        way_ST: Floats = np.hypot(np.diff(row_ST, axis=1), np.diff(column_ST, axis=1))
        return way_ST


# As published -----------------------------------------------------------------------------------


def published_measures(sample_ST: Ints, real_ST: Ints, square: Square) -> dict[str, float]:
    """Moving, Distribution, O-Dis, D-Dis and Diversity of Table 1 of TrajGDM (IJGIS 2024)."""
    values: dict[str, tuple[Ints | Floats, Ints | Floats, float]] = {
        "moving": (square.ways(sample_ST), square.ways(real_ST), FARTHEST),
        "distribution": (sample_ST, real_ST, square.num_cells),
        "o_dis": (sample_ST[:, 0], real_ST[:, 0], square.num_cells),
        "d_dis": (sample_ST[:, -1], real_ST[:, -1], square.num_cells),
    }
    told = {f"published_{name}": root_divergence_nats(*three) for name, three in values.items()}
    return told | {"published_diversity": repeated_share(sample_ST)}


def root_divergence_nats(a_N: Ints | Floats, b_N: Ints | Floats, most: float) -> float:
    """The root of the divergence of counts in `NUM_BINS` equal bins from 0 to `most`."""
    counts = (np.histogram(one_N, NUM_BINS, (0, most))[0] for one_N in (a_N, b_N))
    return float(jensenshannon(*counts))


def repeated_share(cell_ST: Ints) -> float:
    """The share of sequences that stand in the sample more than once."""
    _, kind_S, count_K = np.unique(cell_ST, axis=0, return_inverse=True, return_counts=True)
    return float((count_K[kind_S.ravel()] > 1).mean())


# Of the cells themselves ------------------------------------------------------------------------


def cell_measures(sample_ST: Ints, real_ST: Ints, train_ST: Ints) -> dict[str, float]:
    """Divergences in bits, of cells, of first with last ones and of moves, and two shares.

    The shares are those of moves that train never made, and of sequences that train holds whole.
    """
    sample, real, train = (walk_of(cell_ST) for cell_ST in (sample_ST, real_ST, train_ST))
    one, other = counted_from_zero(sample, real)
    told = cell_distances(one, other)
    of_weights = {
        "jsd_bits_cells": told["jsd_density"],
        "jsd_bits_ends": told["jsd_ends"],
        "jsd_bits_moves": jensen_shannon_bits(one.moves(), other.moves()),
        "unseen_moves": unseen_share(sample, train),
        "copied": share_of(Values.of_trips(is_held(sample_ST, train_ST))),
    }
    weights = np.ones(len(sample_ST)), np.ones(len(real_ST))
    return {name: found(*weights) for name, found in of_weights.items()}


def walk_of(cell_ST: Ints) -> Walk:
    """Sequences as the walks of trips."""
    num_sequences, num_points = cell_ST.shape
    return Walk(cell_ST.ravel(), np.repeat(np.arange(num_sequences), num_points))


def is_held(sample_ST: Ints, train_ST: Ints) -> Ints:
    """1 of sequences that train holds, point by point."""
    held = {row_T.tobytes() for row_T in np.ascontiguousarray(train_ST, np.int64)}
    rows = np.ascontiguousarray(sample_ST, np.int64)
    return np.array([row_T.tobytes() in held for row_T in rows], np.int64)
