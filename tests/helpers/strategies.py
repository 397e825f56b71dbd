"""Hypothesis strategies: places on Earth, with its awkward ones always in reach."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

# How long an example takes on a shared machine is no property of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def longitudes() -> st.SearchStrategy[float]:
    """Degrees east, both names of the date line and both of its sides included."""
    seams = st.sampled_from([-180.0, 180.0, -179.999999, 179.999999, 0.0, -90.0, 90.0])
    return seams | st.floats(-180, 180) | st.floats(179.9, 180) | st.floats(-180, -179.9)


def latitudes() -> st.SearchStrategy[float]:
    """Degrees north, both poles and their neighbourhood included."""
    seams = st.sampled_from([-90.0, 90.0, -89.999999, 89.999999, 0.0])
    return seams | st.floats(-90, 90) | st.floats(89.9, 90) | st.floats(-90, -89.9)


def places() -> st.SearchStrategy[tuple[float, float]]:
    """(lon_deg, lat_deg)."""
    return st.tuples(longitudes(), latitudes())


def durations_s() -> st.SearchStrategy[float]:
    """Seconds between two points: none at all, a microsecond, days."""
    return st.sampled_from([0.0, 1e-6, 1.0, 60.0, 86_400.0]) | st.integers(0, 10**11).map(
        lambda us: us / 1e6
    )
