"""Arrays of numpy: the names that signatures give to them, places within stretches, mixed bits."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Bits = NDArray[np.uint64]


def places_within(sizes: Ints) -> Ints:
    """0, 1, 2, ... within each of some stretches that lie one behind the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def mixed(value: Bits) -> Bits:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): each bit depends on every bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
