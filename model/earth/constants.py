"""Constants of the earth, for torch and for numba alike."""

EARTH_RADIUS_M = 6_371_008.8  # mean radius of the WGS84 ellipsoid (IUGG)
