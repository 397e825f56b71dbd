"""Geometry of the sphere: distances, steps and their inverses, exact at poles and antimeridian.

A step is a pair (d sin az, d cos az): great-circle distance d and initial azimuth az at the step's
own start point, in metres east and north. Every function takes float64 degrees and broadcasts.
The formulas are the spherical law of sines and cosines written as components of a vector, so that
each angle comes from `atan2`: no cancellation for points a micrometre or half a world apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import EARTH_RADIUS_M

LEVEL = 1e-5  # radians: up to 64 m north, where both forms of a rhumb line agree to 10 digits


def haversine_m(
    lon_a_deg: Tensor, lat_a_deg: Tensor, lon_b_deg: Tensor, lat_b_deg: Tensor
) -> Tensor:
    """Great-circle distance from a to b, in metres."""
    sin_east, sin_north, cosine = _components(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg)
    return EARTH_RADIUS_M * torch.atan2(torch.hypot(sin_east, sin_north), cosine)


def step_between(
    lon_a_deg: Tensor, lat_a_deg: Tensor, lon_b_deg: Tensor, lat_b_deg: Tensor
) -> tuple[Tensor, Tensor]:
    """The step from a to b as (east_m, north_m) at a; (0, 0) between equal points."""
    sin_east, sin_north, cosine = _components(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg)
    sine = torch.hypot(sin_east, sin_north)
    distance_m = EARTH_RADIUS_M * torch.atan2(sine, cosine)
    # Equal and antipodal points have no direction: any will do, and north is one.
    is_directed = sine > 0
    divisor = torch.where(is_directed, sine, torch.ones_like(sine))
    toward_north = torch.where(is_directed, sin_north / divisor, torch.ones_like(sine))
    return distance_m * (sin_east / divisor), distance_m * toward_north


def step_from(
    lon_deg: Tensor, lat_deg: Tensor, east_m: Tensor, north_m: Tensor
) -> tuple[Tensor, Tensor]:
    """The point (lon_deg, lat_deg) that a step reaches, lon_deg in [-180, 180)."""
    distance_m = torch.hypot(east_m, north_m)
    angle = distance_m / EARTH_RADIUS_M
    # sin(angle) / distance, whose limit at zero is 1 / radius.
    sine_per_m = torch.sinc(angle / torch.pi) / EARTH_RADIUS_M
    sin_east, sin_north, cosine = east_m * sine_per_m, north_m * sine_per_m, torch.cos(angle)
    sin_lat, cos_lat = torch.sin(torch.deg2rad(lat_deg)), torch.cos(torch.deg2rad(lat_deg))
    # Coordinates of the end: along the start's meridian plane, east of it, and up the axis.
    outward = cos_lat * cosine - sin_lat * sin_north
    upward = sin_lat * cosine + cos_lat * sin_north
    end_lat_deg = torch.rad2deg(torch.atan2(upward, torch.hypot(outward, sin_east)))
    end_lon_deg = lon_deg + torch.rad2deg(torch.atan2(sin_east, outward))
    return wrap_lon_deg(end_lon_deg), end_lat_deg


def rhumb_from(
    lon_deg: Tensor, lat_deg: Tensor, east_m: Tensor, north_m: Tensor
) -> tuple[Tensor, Tensor]:
    """The point that a way of constant course (a rhumb line) reaches; at a pole it ends."""
    lat = torch.deg2rad(lat_deg)
    end_lat = (lat + north_m / EARTH_RADIUS_M).clamp(-torch.pi / 2, torch.pi / 2)
    climb = end_lat - lat
    # The mean of 1 / cos(latitude): a difference of Mercator ordinates, or its limit.
    is_level = climb.abs() < LEVEL
    stretch = torch.asinh(torch.tan(end_lat)) - torch.asinh(torch.tan(lat))
    mean_secant = torch.where(
        is_level,
        1 / torch.cos(lat + climb / 2),
        stretch / torch.where(is_level, torch.ones_like(climb), climb),
    )
    turn = east_m / EARTH_RADIUS_M * mean_secant
    return wrap_lon_deg(lon_deg + torch.rad2deg(turn)), torch.rad2deg(end_lat)


def middle_of(lon_deg_N: Tensor, lat_deg_N: Tensor, weight_N: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted median of places to the east and to the north: (lon_deg, lat_deg).

    Seen from their mean, as vectors on the sphere. A few places far away draw the mean to where
    nothing is, and the median hardly.
    """
    lon_N, lat_N = torch.deg2rad(lon_deg_N), torch.deg2rad(lat_deg_N)
    axes = (lat_N.cos() * lon_N.cos(), lat_N.cos() * lon_N.sin(), lat_N.sin())
    x, y, z = ((axis_N * weight_N).sum() for axis_N in axes)
    mean = torch.rad2deg(torch.atan2(y, x)), torch.rad2deg(torch.atan2(z, x.hypot(y)))
    steps = step_between(*mean, lon_deg_N, lat_deg_N)
    return step_from(*mean, *(_median(metres_N, weight_N) for metres_N in steps))


def _median(value_N: Tensor, weight_N: Tensor) -> Tensor:
    """The smallest value with half of the weight at or below it."""
    order_N = torch.argsort(value_N)
    reached_N = weight_N[order_N].cumsum(0)
    return value_N[order_N[torch.searchsorted(reached_N, reached_N[-1:] / 2)]].squeeze(0)


def wrap_lon_deg(lon_deg: Tensor) -> Tensor:
    """The same meridian in [-180, 180)."""
    wrapped_deg = lon_deg - 360.0 * torch.floor((lon_deg + 180.0) / 360.0)
    # The sum rounds within an ulp of the date line, on either side of it.
    return torch.where(wrapped_deg >= 180.0, -180.0, wrapped_deg).clamp(min=-180.0)


def _components(
    lon_a_deg: Tensor, lat_a_deg: Tensor, lon_b_deg: Tensor, lat_b_deg: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Point b seen from a, on the unit sphere: east, north and outward components.

    The first two have length sin(d), the last is cos(d), for the angle d between the points.
    """
    turn_deg = lon_b_deg - lon_a_deg
    # Differences in degrees and half angles keep the digits of points that are close together.
    turn = torch.deg2rad(turn_deg - 360.0 * torch.round(turn_deg / 360.0))
    sin_half_squared = torch.sin(turn / 2) ** 2
    climb = torch.deg2rad(lat_b_deg - lat_a_deg)
    lat_a, lat_b = torch.deg2rad(lat_a_deg), torch.deg2rad(lat_b_deg)
    cos_b = torch.cos(lat_b)
    sin_east = torch.sin(turn) * cos_b
    sin_north = torch.sin(climb) + 2 * torch.sin(lat_a) * cos_b * sin_half_squared
    cosine = torch.cos(climb) - 2 * torch.cos(lat_a) * cos_b * sin_half_squared
    return sin_east, sin_north, cosine


def to_heading(vector_C: Tensor, heading_C: Tensor) -> Tensor:
    """(east, north) as (along, across), across pointing to the left."""
    east, north = vector_C.unbind(-1)
    cosine, sine = heading_C.unbind(-1)
    return torch.stack([east * cosine + north * sine, north * cosine - east * sine], dim=-1)


def from_heading(vector_C: Tensor, heading_C: Tensor) -> Tensor:
    """(along, across) as (east, north): the inverse of `to_heading`."""
    return to_heading(vector_C, heading_C * heading_C.new_tensor([1.0, -1.0]))


def heading_of(velocity_C: Tensor) -> Tensor:
    """The unit vector of a velocity; east where nothing moves."""
    speed = torch.linalg.vector_norm(velocity_C, dim=-1, keepdim=True)
    east_C = velocity_C.new_tensor([1.0, 0.0])
    return torch.where(speed > 0, velocity_C / speed.clamp(min=1e-12), east_C)
