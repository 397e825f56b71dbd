"""Visit trees: times by gradient boosting of quantiles, over the line of the regression.

Trees read what the line reads, and its answer. For each of ten equal shares of what train had, they
tell the middle of its log seconds. The density is a mixture of ten log-normal parts around these,
as wide as their distance from each other times a number, with which those visits of train are
likeliest that the trees have not seen. The share of travels that take no time is that of the
regression. Stays whose end was not seen are left out.

Shapes: N visits, F features, Q quantiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..interface.next_visit import Arrivals
from ..layers.durations import MIN_DURATION_S, DurationMixture
from .one_thread import one_thread
from .visit_history import Origins, PastVisits
from .visit_regression import LogNormal, RegressionTimes, stay_features, travel_features

SHARES = tuple((2 * number + 1) / 20 for number in range(10))
WIDTHS = (0.5, 0.7, 1.0, 1.4, 2.0)
LEAST_SCALE = 0.02  # of log seconds
MOST_VISITS = 15_000  # of train, evenly spread: a second or two for all trees
HELD = 4
OPTIONS = {"max_iter": 40, "learning_rate": 0.1, "max_leaf_nodes": 8, "min_samples_leaf": 50}


@dataclass(frozen=True)
class TreeDensity:
    """The density of travels or of stays."""

    line: LogNormal
    trees: tuple[Any, ...]
    width: float = 1.0

    def told(self, feature_NF: Tensor, region_N: Tensor) -> DurationMixture:
        by_line = self.line.told(feature_NF, region_N)
        if not self.trees:
            return by_line
        read_NF = torch.cat([feature_NF, by_line.log_mean_M], dim=-1).numpy()
        with one_thread():
            log_s_QN = np.stack([tree.predict(read_NF) for tree in self.trees])
        log_s_NQ = torch.from_numpy(np.sort(log_s_QN, axis=0).T.copy())
        return replace(
            by_line,
            log_weight_M=torch.full_like(log_s_NQ, -math.log(len(self.trees))),
            log_mean_M=log_s_NQ,
            log_scale_M=LEAST_SCALE + self.width * _apart(log_s_NQ),
        )


@dataclass(frozen=True)
class TreeTimes:
    """The law of both times."""

    line: RegressionTimes
    travels: TreeDensity
    stays: TreeDensity

    def travel(self, origins: Origins, region_N: Tensor) -> DurationMixture:
        feature_NF = travel_features(origins, region_N, self.line.places)
        return self.travels.told(feature_NF, region_N)

    def stay(self, origins: Origins, arrivals: Arrivals) -> DurationMixture:
        feature_NF = stay_features(origins, arrivals, self.line.places)
        return self.stays.told(feature_NF, arrivals.region_N)


def _apart(log_s_NQ: Tensor) -> Tensor:
    """The mean distance of each quantile from its neighbours."""
    step_NQ = log_s_NQ.diff(dim=-1)
    before_NQ = torch.cat([step_NQ[:, :1], step_NQ], dim=-1)
    after_NQ = torch.cat([step_NQ, step_NQ[:, -1:]], dim=-1)
    return (before_NQ + after_NQ) / 2


# Fitting ----------------------------------------------------------------------------------------


def tree_times(past: PastVisits, line: RegressionTimes, seed: int = 0) -> TreeTimes:
    """Fitted with the same seed and one thread, so that the trees are always the same."""
    past = past.thinned(MOST_VISITS)
    asked = past.asked
    travel_NF = travel_features(past.origins, asked.region_N, past.places)
    stay_NF = stay_features(past.origins, asked, past.places)
    is_way_N = asked.is_travel_known_N & (asked.travel_s_N >= MIN_DURATION_S)
    travels = (travel_NF, asked.region_N, asked.travel_s_N)
    stays = (stay_NF, asked.region_N, past.stay_s_N)
    return TreeTimes(
        line,
        _fitted(seed, line.travels, *(value[is_way_N] for value in travels)),
        _fitted(seed, line.stays, *(value[~asked.is_censored_N] for value in stays)),
    )


def _fitted(
    seed: int, line: LogNormal, feature_NF: Tensor, region_N: Tensor, seconds_N: Tensor
) -> TreeDensity:
    """Trees of three targets in four, and the width with which every fourth is likeliest."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    is_held_N = torch.arange(len(region_N)) % HELD == HELD - 1
    if not is_held_N.any():
        return TreeDensity(line, ())
    log_mean_N1 = line.told(feature_NF, region_N).log_mean_M
    read_NF = torch.cat([feature_NF, log_mean_N1], dim=-1)[~is_held_N].numpy()
    with one_thread():
        trees = tuple(
            HistGradientBoostingRegressor(
                loss="quantile", quantile=share, early_stopping=False, random_state=seed, **OPTIONS
            ).fit(read_NF, seconds_N[~is_held_N].log().numpy())
            for share in SHARES
        )

    def log_likelihood(density: TreeDensity) -> float:
        told = density.told(feature_NF[is_held_N], region_N[is_held_N])
        return float(told.log_density(seconds_N[is_held_N]).sum())

    tried = (TreeDensity(line, trees, width) for width in WIDTHS)
    return max(tried, key=log_likelihood)
