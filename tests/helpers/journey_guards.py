"""Guards of families that tell travel times, each for models with random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from helpers.walks import STARTED_US, walk
from model.earth.geometry import haversine_m, step_between, step_from
from model.inference.api import travel_time
from model.interface.asked_journeys import asked_journeys
from model.interface.contexts import Partial
from model.interface.journey_rows import NUM_PLACES, JourneyRows


def question(
    lon_deg_BT: Tensor, lat_deg_BT: Tensor, time_s_BT: Tensor, path_m_B: Tensor | None = None
) -> Partial:
    """Journeys whose places are all given, and of whose times that of the departure."""
    is_first_BT = torch.zeros(time_s_BT.shape, dtype=torch.bool)
    is_first_BT[:, 0] = True
    return Partial(
        lon_deg_BT,
        lat_deg_BT,
        time_s_BT.masked_fill(~is_first_BT, torch.nan),
        torch.ones_like(is_first_BT),
        is_first_BT,
        torch.full((len(time_s_BT),), STARTED_US),
        "UTC",
        torch.zeros_like(is_first_BT),
        path_m_B,
    )


def ends(lon_deg_BT: Tensor, lat_deg_BT: Tensor, time_s_BT: Tensor) -> Partial:
    return question(*(value[:, [0, -1]] for value in (lon_deg_BT, lat_deg_BT, time_s_BT)))


def journeys_along(
    lon_deg_BT: Tensor, lat_deg_BT: Tensor, time_s_BT: Tensor, num_alike: int = 8
) -> JourneyRows:
    """Whole journeys (B, G) with how long each took, every one as often as a draw has some."""
    ways = asked_journeys(question(lon_deg_BT, lat_deg_BT, time_s_BT))
    took_s_B1 = time_s_BT[:, -1:] - time_s_BT[:, :1]
    ways = replace(ways, duration_s_BG=took_s_B1)
    return ways.at(slice(None), torch.zeros(num_alike, dtype=torch.long))


def check_points_are_not_counted(model: Any) -> None:
    """The same path with three points for each: nobody went on for longer."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 2 * NUM_PLACES - 1)
    starts = lon_deg_BT[:, :-1], lat_deg_BT[:, :-1]
    steps = step_between(*starts, lon_deg_BT[:, 1:], lat_deg_BT[:, 1:])
    between = [
        step_from(*starts, *(share / 3 * step_m_BT for step_m_BT in steps)) for share in (0, 1, 2)
    ]
    finer = [
        torch.cat([torch.stack(parts, -1).flatten(1), value_BT[:, -1:]], dim=1)
        for parts, value_BT in zip(
            zip(*between, strict=True), (lon_deg_BT, lat_deg_BT), strict=True
        )
    ]
    path_m_B = haversine_m(*starts, lon_deg_BT[:, 1:], lat_deg_BT[:, 1:]).sum(1)
    coarse = question(lon_deg_BT, lat_deg_BT, time_s_BT, path_m_B)
    fine = question(*finer, torch.zeros_like(finer[0]), path_m_B)
    found, other = (travel_time(model, asked).median_s_B for asked in (coarse, fine))
    torch.testing.assert_close(found, other, rtol=1e-3, atol=1e-3)


def check_times_are_not_read(model: Any) -> None:
    points = walk(3, 9)
    asked = question(*points)
    told = replace(asked, time_s_BT=points[2])
    assert torch.equal(travel_time(model, asked).median_s_B, travel_time(model, told).median_s_B)


def check_meridian_does_not_matter(model: Any) -> None:
    """8 degrees east, and across the date line."""
    points = walk(3, 12)
    moved_deg_BT = points[0] + 180.0 - points[0][:, 6:7]
    moved_deg_BT = torch.where(moved_deg_BT >= 180, moved_deg_BT - 360, moved_deg_BT)
    assert (moved_deg_BT.amax(1) - moved_deg_BT.amin(1) > 359).all()
    here, there = (
        travel_time(model, question(lon_deg_BT, *points[1:])).median_s_B
        for lon_deg_BT in (points[0], moved_deg_BT)
    )
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3)
