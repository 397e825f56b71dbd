"""Arrays: the names that signatures give to those of numpy, and places within their stretches."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def places_within(sizes: Ints) -> Ints:
    """0, 1, 2, ... within each of some stretches that lie one behind the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
