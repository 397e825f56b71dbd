"""Rows of visits that are written as letters, one a region, as a law of visits is taught them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from helpers.visit_worlds import batch_of_visits, places_of
from model.baselines.visit_history import PastVisits
from model.earth.calendar import waves
from model.features.places import NUM_SPECIAL


def row_of(letters: str, stay_s: float = 3_600.0, travel_s: float = 600.0):
    """A batch of one row: an hour in each region, ten minutes from each to the next."""
    region_BV = np.array([[ord(letter) - ord("A") for letter in letters]])
    travel_s_BV = np.full(region_BV.shape, travel_s)
    travel_s_BV[:, 0] = 0.0
    return batch_of_visits(region_BV, travel_s_BV, np.full(region_BV.shape, stay_s))


def at_hours(batch, hours_of_week):
    """The same with arrivals at these hours of the week, on the clock alone."""
    weekday_BV, hour_BV = np.divmod(np.array([hours_of_week]), 24)
    clocks = np.concatenate([waves(7)[weekday_BV], waves(24)[hour_BV]], axis=-1)
    return replace(batch, calendar_BVK=torch.from_numpy(clocks))


def past_of(*rows) -> PastVisits:
    return PastVisits.of(
        [row_of(row) if isinstance(row, str) else row for row in rows], places_of()
    )


def ids(letters: str) -> list[int]:
    return [ord(letter) - ord("A") + NUM_SPECIAL for letter in letters]
