"""Trips of a made-up city, all of as many points, and whoever makes up others from their starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from helpers.city import city
from model.baselines.generators import ResampledTrain, moved
from model.interface.answers import Generated
from model.interface.contexts import Context
from model.interface.trips import Trips

NUM_POINTS, ZONE = 8, "Europe/Berlin"


def town(seed: int, num_people: int, first_entity: int = 0) -> Trips:
    """The first points of trips of people who are in no other town."""
    whole = city(seed, num_people, 2)
    trips = whole.chosen(np.flatnonzero(np.diff(whole.offset_R) >= NUM_POINTS))
    places = (trips.offset_R[:-1, None] + np.arange(NUM_POINTS)).ravel()
    points, size_R = trips.points.at(places), np.full(len(trips), NUM_POINTS)
    columns = points.instant_us_N, points.lon_deg_N, points.lat_deg_N
    return Trips.of(size_R, *columns, first_entity + trips.entity_R)


TRAIN, TEST = town(0, 40), town(1, 20, 1_000)


@dataclass(frozen=True)
class CopyMachine:
    """Answers with trips of train, moved by a metre, wherever it is told to begin."""

    train: Trips
    name: str = "copy_machine"
    is_baseline: bool = False
    tasks: ClassVar[tuple[str, ...]] = ("generate",)
    asked: list[Context] = field(default_factory=list)

    def generate(self, starts: Context, num_points: int, seed: int) -> Generated:
        self.asked.append(starts)
        draw = np.random.default_rng(seed)
        copies = ResampledTrain(self.train).generate(len(starts.started_us_B), seed)
        points = moved(copies, 1.0, draw).points
        instant_us_NT = torch.from_numpy(points.instant_us_N).view(-1, num_points)
        lon_deg_NT, lat_deg_NT = (
            torch.from_numpy(axis_N).view(-1, num_points)
            for axis_N in (points.lon_deg_N, points.lat_deg_N)
        )
        time_s_NT = (instant_us_NT - instant_us_NT[:, :1]) / 1e6
        return Generated(lon_deg_NT, lat_deg_NT, time_s_NT)
