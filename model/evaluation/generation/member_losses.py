"""Losses of trips: how well a model knows each, to tell those that it has learnt from others.

What a model draws in training, such as masks and noise, is drawn several times for a trip, and for
every trip alike.

Shapes: R trips, K draws.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ...earth.arrays import Floats
from ...families import FAMILIES
from ...interface.batch import Batch
from ...interface.contexts import Context
from ...interface.evaluating import evaluating
from ...interface.family import Model
from ...interface.flat_points import context_of, latest
from ...interface.masking import masked
from ...interface.trips import Trips

MOST_TRIPS, NUM_DRAWS = 1_000, 8


def losses_of(model: Model, trips: Trips, zone: str, seed: int, most: int = MOST_TRIPS) -> Floats:
    """The mean loss (R) of each trip; of more than `most`, some are drawn, and others are NaN."""
    loss_R = np.full(len(trips), np.nan)
    every = context_of(trips.points, latest(trips.points, model.config.max_points), zone)
    chosen = np.random.default_rng(seed).permutation(len(trips))[:most]
    with torch.inference_mode(), evaluating(model):
        for trip in np.sort(chosen).tolist():
            loss_R[trip] = float(model.loss(lesson(model, every, trip, seed)).mean)
    return loss_R


def lesson(model: Model, every: Context, trip: int, seed: int) -> Batch:
    """A trip as the family learns it, once a draw (K rows)."""
    draw = FAMILIES[model.family].draw
    if draw is not None:
        return masked(every.at(torch.full((NUM_DRAWS,), trip)).batch(), draw, seed)
    batch = every.at(slice(trip, trip + 1)).batch()
    is_target_BT = ~batch.is_pad_BT
    is_target_BT[:, 0] = False
    return replace(batch, is_target_BT=is_target_BT)
