"""Discriminator of two samples: boosted trees that shall tell made-up trips from real ones.

Its area under the ROC curve is 0.5 where nobody can tell them apart by these features, and 1 where
everybody can. Trees judge only entities that they were not fitted on. The interval is that of the
judged entities alone: others to fit on would move the area too, by a tenth where there are thirty.

Shapes: A made-up and B real trips, N trips of both, F features.
"""

from __future__ import annotations

import numpy as np

from ...baselines.one_thread import one_thread
from ...earth.arrays import Bools, Floats, Ints
from ...interface.trips import Trips
from .comparison import Comparison, area_under_roc
from .distances import Ruler
from .trip_values import features

NUM_FOLDS = 5
OPTIONS = {"max_iter": 60, "learning_rate": 0.1, "max_leaf_nodes": 15, "max_bins": 63}


def discriminated(sample: Trips, real: Trips, ruler: Ruler, seed: int) -> dict[str, Comparison]:
    """The area of trees that are cross-fitted by entity; none where a set has one entity only."""
    groups = sample.group_R, real.group_R
    num_folds = min(NUM_FOLDS, *(int(group.max()) + 1 for group in groups))
    if num_folds < 2:
        return {}
    fold_A, fold_B = (folds(group, num_folds) for group in groups)
    told = (
        np.stack([*features(trips, ruler.frame, ruler.zone).values()], 1)
        for trips in (sample, real)
    )
    score_N = cross_fitted(
        np.concatenate([*told]),
        np.arange(len(sample) + len(real)) < len(sample),
        np.concatenate([fold_A, fold_B]),
        seed,
    )
    area = area_under_roc(score_N[: len(sample)], score_N[len(sample) :], fold_A, fold_B)
    return {"discriminator_auc": Comparison(area, *groups)}


def folds(group_R: Ints, num_folds: int) -> Ints:
    """The fold of each trip, about as many in each, those of one entity in one."""
    from sklearn.model_selection import GroupKFold

    fold_R = np.empty(len(group_R), np.int64)
    parts = GroupKFold(num_folds).split(group_R, groups=group_R)
    for fold, (_, held_out) in enumerate(parts):
        fold_R[held_out] = fold
    return fold_R


def cross_fitted(feature_NF: Floats, is_made_up_N: Bools, fold_N: Ints, seed: int) -> Floats:
    """The score (N) of each trip by trees that were fitted on the other folds."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    score_N = np.empty(len(fold_N))
    with one_thread():
        for fold in np.unique(fold_N):
            is_out_N = fold_N == fold
            trees = HistGradientBoostingClassifier(
                early_stopping=False, random_state=seed, **OPTIONS
            ).fit(feature_NF[~is_out_N], is_made_up_N[~is_out_N])
            score_N[is_out_N] = trees.decision_function(feature_NF[is_out_N])
    return score_N
