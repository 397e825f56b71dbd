"""Discriminator of two samples: a classifier that shall tell made-up trips from real ones.

Its area under the ROC curve is 0.5 where it cannot tell them apart, and 1 where it always can. It
judges only entities that it was not fitted on. The interval is that of the judged entities alone:
others to fit on would move the area too, by a tenth where there are thirty.

Shapes: A made-up and B real trips, R trips of both, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...baselines.one_thread import one_thread
from ...earth.arrays import Bools, Floats, Ints
from ...interface.trips import NOBODY, Trips
from .comparison import Comparison, area_under_roc
from .distances import Ruler
from .point_discriminator import PointScorer
from .trip_values import OF_PLACES, features

NUM_FOLDS, FEW_FOLDS = 5, 2  # the second where a fit takes seconds
OPTIONS = {"max_iter": 40, "learning_rate": 0.15, "max_leaf_nodes": 15, "max_bins": 63}
Scorer = Callable[[Trips, Bools, Ints], Floats]  # of trips, which are made up, and their folds


def discriminated(
    sample: Trips, real: Trips, ruler: Ruler, seed: int, num_steps: int = 0
) -> dict[str, Comparison]:
    """The area of boosted trees, of trees that read no times, and of a Transformer that is fitted
    in so many steps if there are any.
    """
    found = told_by_trees(sample, real, ruler, seed)
    found |= told_apart(sample, real, "places", TreeScorer(ruler, seed, False), NUM_FOLDS)
    if num_steps:
        scorer = PointScorer(ruler.frame, seed, num_steps)
        found |= told_apart(sample, real, "points", scorer, FEW_FOLDS)
    return found


def told_by_trees(sample: Trips, real: Trips, ruler: Ruler, seed: int) -> dict[str, Comparison]:
    """The area of boosted trees that read all there is."""
    return told_apart(sample, real, "trees", TreeScorer(ruler, seed), NUM_FOLDS)


def told_apart(
    sample: Trips, real: Trips, name: str, scorer: Scorer, num_folds: int
) -> dict[str, Comparison]:
    """The area of what is cross-fitted by entity; none where a set has one entity only."""
    groups = sample.group_R, real.group_R
    num_folds = min(num_folds, *(int(group.max()) + 1 for group in groups))
    if num_folds < 2:
        return {}
    fold_A, fold_B = folds_of_both(sample, real, num_folds)
    both = sample.followed_by(real)
    is_made_up_R = np.arange(len(both)) < len(sample)
    score_R = scorer(both, is_made_up_R, np.concatenate([fold_A, fold_B]))
    area = area_under_roc(score_R[is_made_up_R], score_R[~is_made_up_R], fold_A, fold_B)
    return {f"discriminator_auc_of_{name}": Comparison(area, *groups)}


def folds_of_both(sample: Trips, real: Trips, num_folds: int) -> tuple[Ints, Ints]:
    """The fold of each trip of either set; an entity of both is in the same one.

    Whoever is made up from the start of a real trip would else be judged by what has read that.
    """
    fold_A, fold_B = (folds(one.group_R, num_folds) for one in (sample, real))
    entity_E, first_E = np.unique(real.entity_R, return_index=True)
    place_A = np.searchsorted(entity_E, sample.entity_R).clip(max=len(entity_E) - 1)
    is_shared_A = (entity_E[place_A] == sample.entity_R) & (sample.entity_R != NOBODY)
    return np.where(is_shared_A, fold_B[first_E[place_A]], fold_A), fold_B


def folds(group_R: Ints, num_folds: int) -> Ints:
    """The fold of each trip, about as many in each, those of one entity in one."""
    from sklearn.model_selection import GroupKFold

    fold_R = np.empty(len(group_R), np.int64)
    parts = GroupKFold(num_folds).split(group_R, groups=group_R)
    for fold, (_, held_out) in enumerate(parts):
        fold_R[held_out] = fold
    return fold_R


@dataclass(frozen=True)
class TreeScorer:
    """What boosted trees that were fitted on other folds find of each trip.

    Where data tick evenly its times alone give a made-up trip away; without them trees read where
    it goes.
    """

    ruler: Ruler
    seed: int
    reads_times: bool = True

    def __call__(self, trips: Trips, is_made_up_R: Bools, fold_R: Ints) -> Floats:
        from sklearn.ensemble import HistGradientBoostingClassifier

        told = features(trips, self.ruler.frame, self.ruler.zone)
        read = [value_R for name, value_R in told.items() if self.reads_times or name in OF_PLACES]
        feature_RF, score_R = np.stack(read, axis=1), np.empty(len(trips))
        with one_thread():
            for fold in np.unique(fold_R):
                is_out_R = fold_R == fold
                trees = HistGradientBoostingClassifier(
                    early_stopping=False, random_state=self.seed, **OPTIONS
                ).fit(feature_RF[~is_out_R], is_made_up_R[~is_out_R])
                score_R[is_out_R] = trees.decision_function(feature_RF[is_out_R])
        return score_R
