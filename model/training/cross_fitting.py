"""Cross-fitting of travel times: how wide their areas must be for those who were never trained on.

The entities of train fall into folds. For each a head of its own is trained on the journeys of the
others, as the model's is, and asked about the whole journeys of the fold. The factor that makes
areas of 80 % hold as many of all these journeys is what the model is told (cross-conformal
prediction, Vovk 2015). It is asked where validation has few entities, so that those with many
journeys would decide. Where it has many, it tells more truly: a head that has learnt from four
fifths is less sure than it looks, above all where journeys are few.

Shapes: N journeys, R trips, E entities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..data.journey_draws import PARTS, WHOLE, JourneyPool
from ..interface.calibration import TRACKS, Calibration
from ..interface.conformal import LEAST_WINDOWS, conformal_factor, decile_factor
from ..interface.journey_rows import JourneyRows
from .config import FitConfig, learning_rate
from .fit import make_optimiser
from .isolation import own_random_state

NUM_FOLDS = 5
LEAST_ENTITIES = 30  # that tell how wide areas are
MOST_STEPS = 600  # of the training of a fold, which learns durations alone
MOST_ASKED = 1_000  # journeys of a fold, spread evenly over it
NUM_FITTING = 64  # draws that tell how duration goes with length
SHARE = 0.8


def cross_fitted(
    model: Any, pool: JourneyPool | None, validation: JourneyPool | None, config: FitConfig
) -> Calibration:
    """The factors of deciles, by track; none where validation has entities enough, or train few.

    The model tells journeys by a head that stands alone: `new_journey_head`, and its `place`.
    """
    if pool is None or not num_entities(validation) < LEAST_ENTITIES <= num_entities(pool):
        return Calibration()
    config = replace(config, max_steps=min(config.max_steps, MOST_STEPS))
    device = torch.device("cpu")
    place = deepcopy(model.place)
    with own_random_state(device, config.seed, False), torch.enable_grad():
        told = [
            factors_of(trained_head(model, place, known, config), place, asked)
            for known, asked in folds(pool, config.seed)
        ]
    factors = {track: torch.cat([each[track] for each in told]) for track in TRACKS}
    known = {track: each[~each.isnan()] for track, each in factors.items()}
    enough = {track: each for track, each in known.items() if len(each) >= LEAST_WINDOWS}
    told_by = {track: conformal_factor(each, SHARE) for track, each in enough.items()}
    # Of journeys that take no time no factor would make an area.
    return Calibration(decile={name: one for name, one in told_by.items() if 0 < one < math.inf})


def num_entities(pool: JourneyPool | None) -> int:
    return 0 if pool is None else len(np.unique(pool.entity_R))


def folds(pool: JourneyPool, seed: int) -> Iterator[tuple[JourneyPool, JourneyRows]]:
    """Of each fold what is learnt from, and the whole journeys of others that are asked about."""
    entity_E, entity_of_R = np.unique(pool.entity_R, return_inverse=True)
    order_E = np.random.default_rng((seed, len(entity_E))).permutation(len(entity_E))
    fold_R = order_E[entity_of_R] % NUM_FOLDS
    for fold in range(NUM_FOLDS):
        (row_R,) = np.nonzero(fold_R == fold)
        is_asked_R = np.zeros(len(fold_R), bool)
        is_asked_R[row_R[:: max(1, len(row_R) // MOST_ASKED)]] = True
        yield pool.of_trips(fold_R != fold), pool.of_trips(is_asked_R).whole()


def trained_head(model: Any, place: Any, known: JourneyPool, config: FitConfig) -> nn.Module:
    """A head as the model's, trained on these journeys alone."""
    head: Any = model.new_journey_head()
    random = np.random.default_rng(config.seed)
    shape = config.batch_size, WHOLE + PARTS, 3
    head.fit([known.drawn(random.random(shape)) for _ in range(NUM_FITTING)])
    optimiser = make_optimiser(head, config)
    for step in range(config.max_steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config)
        optimiser.zero_grad(set_to_none=True)
        head.loss(known.drawn(random.random(shape)), place).mean.backward()
        nn.utils.clip_grad_norm_(head.parameters(), config.max_gradient_norm)
        optimiser.step()
    return cast(nn.Module, head.eval())


@torch.no_grad()
def factors_of(head: Any, place: Any, asked: JourneyRows) -> dict[str, Tensor]:
    """Of each track the factors (N) that would just have held how long journeys took."""
    tracks = dict(zip(TRACKS, (asked.with_ends_alone(), asked), strict=True))
    true_s_N = asked.duration_s_BG[:, 0].double()
    told = {track: head.density(ways, place) for track, ways in tracks.items()}
    return {
        track: decile_factor(true_s_N, *(one.quantile(share).double() for share in (0.1, 0.5, 0.9)))
        for track, one in told.items()
    }
