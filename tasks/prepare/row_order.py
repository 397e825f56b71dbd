"""Row order, in memory: what arrives in order, as raw files mostly do, is only looked through.

Shapes: N rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def ranks(names: pa.ChunkedArray) -> NDArray[np.int32]:
    """The place of each name among all names, by their bytes as in SQL; -1 where there is none."""
    encoded = names.dictionary_encode().combine_chunks()
    num_names = len(encoded.dictionary)
    rank_of = np.full(num_names + 1, -1, np.int32)
    rank_of[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(num_names)
    return rank_of[encoded.indices.fill_null(num_names).to_numpy()]


def order_of(*keys_N: NDArray[np.integer[Any]]) -> NDArray[np.int64] | slice:
    """What to index rows with so that they ascend by these keys, the first one above all."""
    return slice(None) if is_sorted(*keys_N) else np.lexsort(keys_N[::-1])


def is_sorted(*keys_N: NDArray[np.integer[Any]]) -> bool:
    """Whether rows ascend by these keys already."""
    is_tied_N = np.ones(max(keys_N[0].size - 1, 0), np.bool_)
    for key_N in keys_N:
        if (is_tied_N & (key_N[1:] < key_N[:-1])).any():
            return False
        is_tied_N &= key_N[1:] == key_N[:-1]
    return True


def is_new(*keys_N: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Whether each row differs from the one before it in any key; the first always does."""
    is_new_N = np.ones(keys_N[0].size, np.bool_)
    if is_new_N.size:
        is_new_N[1:] = np.logical_or.reduce([key_N[1:] != key_N[:-1] for key_N in keys_N])
    return is_new_N
