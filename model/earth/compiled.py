"""Compilation of numba kernels, cached for all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Compile once for all processes; where no folder can hold the outcome, in each of them."""
    try:
        return numba.njit(nogil=True, cache=True)(kernel)
    except RuntimeError:
        return numba.njit(nogil=True)(kernel)
