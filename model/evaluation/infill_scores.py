"""Infill scores: how well the visits in gaps are told that nobody showed, from samples of them.

The main error is the share of a gap's time in which the truth and an answer are at different
places: an energy score over samples, E d(X, y) - E d(X, X') / 2, whose d is that share. Where one
is at an instant is a region, or the way between two. To differ there is a distance of negative
type, and so is its mean over time, so that the score is proper: it is half the Brier score of where
one is, as a mean over time. Of a single answer it is the share itself. It holds number, order,
places and times at once, and a gap of days counts no more than one of an hour. The edit distance of
what was visited is no such distance, and is told beside it.

What nobody saw is not judged: the time after a stay whose end was not seen, or on a way that was
not. A region that is unknown to train is a miss whatever is answered. Errors of a window are means
over its gaps.

Shapes: B windows, G gaps, S samples of a gap, E stretches of it, N visits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data.reading import WindowBatch, read_windows
from ..earth.arrays import Bools, Floats, Ints
from ..features.places import Special
from ..interface.answerer import Answerer
from ..interface.infilling import FilledGap, FilledVisit, VisitFiller, with_gaps
from ..interface.visit_batch import VisitBatch
from .judged_tasks import INFILL
from .probability import crps_of_samples
from .question import AnswerError, Errors, Judging, Metric, Question, mean_metric

if TYPE_CHECKING:
    from ..data.visits import VisitShards

NOWHERE, NO_REGION = -1, -2  # on the way, and in a region that no answer can name
Stretch = tuple[float, float]


@dataclass(frozen=True)
class HiddenRun:
    """What was in a gap; seconds count from the first arrival of its window."""

    visits: list[FilledVisit]
    began_s: float
    ends_s: float
    unseen: list[Stretch]  # when it is not known where one was
    is_last_left: bool  # whether the end of the last visit was seen


class InfillScorer:
    """The visits that a window hides are asked."""

    task = INFILL
    has_masks = False

    def questions(
        self,
        shards: VisitShards,
        split: str,
        answerers: Sequence[Answerer],
        judging: Judging,
    ) -> Iterator[Question]:
        for stored in read_windows(shards, split, judging.windows_at_once, task=self.task):
            if (found := asked_of(stored, shards.places.min_stay_s)) is not None:
                yield found

    def errors(
        self, answerer: VisitFiller, question: Question, track: str, judging: Judging
    ) -> dict[str, Tensor]:
        shown, is_gap_BV, started_us_B, zone, runs_BG = question.windows
        found_BG = answerer.infill(
            shown, is_gap_BV, started_us_B, judging.num_filled, judging.seed, zone
        )
        pairs = zip(found_BG, runs_BG, strict=True)
        rows = [window_errors(found_G, runs_G, answerer.name) for found_G, runs_G in pairs]
        return {name: torch.tensor([row[name] for row in rows]).double() for name in rows[0]}

    def told(self, errors: Errors, judging: Judging) -> Iterator[Metric]:
        for name, value_B in errors.value.items():
            if not bool(value_B.isnan().all()):
                yield mean_metric(name, value_B, errors, judging)


# Questions --------------------------------------------------------------------------------------


def asked_of(stored: WindowBatch[VisitBatch], min_stay_s: float) -> Question | None:
    """Some windows, without those with a gap too short for what the model counts as a stay."""
    batch = stored.batch
    shown, is_gap_BV = with_gaps(batch)
    length_s_BV = shown.arrived_s_BV.roll(-1, dims=1) - shown.left_s_BV
    fits_B = ~(is_gap_BV & (length_s_BV < min_stay_s)).any(1)
    if not bool(fits_B.any()):
        return None
    batch, entity_id = batch.at(fits_B), np.array(stored.entity_id_B)[fits_B.numpy()].tolist()
    asked = (shown.at(fits_B), is_gap_BV[fits_B], stored.started_us_B[fits_B], stored.zone)
    runs_BG = [runs_of(batch, row) for row in range(len(entity_id))]
    ids, masks = batch.window_id_B.tolist(), [*np.array(stored.mask_B)[fits_B.numpy()].tolist()]
    return Question(ids, entity_id, masks, (*asked, runs_BG))


def runs_of(batch: VisitBatch, row: int) -> list[HiddenRun]:
    """The runs of hidden visits of a row, in the order of its gaps."""
    is_hidden_V = batch.is_target_BV[row].tolist()
    region_V, arrived_s_V, left_s_V, is_seen_V, is_open_V = (
        column_BV[row].tolist()
        for column_BV in (
            batch.region_BV,
            batch.arrived_s_BV,
            batch.left_s_BV,
            batch.is_travel_known_BV,
            batch.is_censored_BV,
        )
    )
    firsts = [v for v, is_hidden in enumerate(is_hidden_V) if is_hidden and not is_hidden_V[v - 1]]
    runs = []
    for first in firsts:
        behind = is_hidden_V.index(False, first)
        runs.append(
            HiddenRun(
                [
                    FilledVisit(region_V[v], arrived_s_V[v], left_s_V[v])
                    for v in range(first, behind)
                ],
                left_s_V[first - 1],
                arrived_s_V[behind],
                [
                    (left_s_V[v - 1], arrived_s_V[v])
                    for v in range(first, behind + 1)
                    if not is_seen_V[v]
                ],
                not is_open_V[behind - 1],
            )
        )
    return runs


# Errors -----------------------------------------------------------------------------------------


def window_errors(
    found_G: Sequence[FilledGap], runs_G: Sequence[HiddenRun], who: str
) -> dict[str, float]:
    """The mean over the gaps of a window of each error; NaN where no gap has it."""
    if len(found_G) != len(runs_G):
        raise AnswerError(f"{who} left a gap between visits without an answer")
    rows = [gap_errors(gap.visits, run, who) for gap, run in zip(found_G, runs_G, strict=True)]
    found = {}
    for name in rows[0]:
        told = [row[name] for row in rows if not math.isnan(row[name])]
        found[name] = sum(told) / len(told) if told else math.nan
    return found


def gap_errors(
    samples: Sequence[Sequence[FilledVisit]], run: HiddenRun, who: str
) -> dict[str, float]:
    times_s = [t for visits in samples for v in visits for t in (v.arrived_s, v.left_s)]
    if len(samples) < 2 or not all(samples) or not np.isfinite(times_s).all():
        raise AnswerError(f"{who} left a gap between visits without an answer")
    true_regions = tuple(visit.region for visit in run.visits)
    regions_S = [tuple(visit.region for visit in visits) for visits in samples]
    [(likeliest, _)] = Counter(regions_S).most_common(1)  # of equals the one drawn first
    [(number, _)] = Counter(map(len, regions_S)).most_common(1)
    arrival_s = crps_s([visits[0].arrived_s for visits in samples], run.visits[0].arrived_s)
    departure_s = crps_s([visits[-1].left_s for visits in samples], run.visits[-1].left_s)
    return {
        "misplaced_share": misplaced_share(samples, run),
        "region_acc": region_accuracy(likeliest, true_regions),
        "edit_share": float(np.mean([edit_share(one, true_regions) for one in regions_S])),
        "num_right": float(np.mean([len(one) == len(true_regions) for one in regions_S])),
        "num_acc": float(number == len(true_regions)),
        "arrival_crps_s": arrival_s,
        "departure_crps_s": departure_s if run.is_last_left else math.nan,
    }


def crps_s(told_s: Sequence[float], true_s: float) -> float:
    sample_1S = torch.tensor([told_s], dtype=torch.float64)
    return float(crps_of_samples(sample_1S, torch.tensor([true_s], dtype=torch.float64)))


def region_accuracy(told: Sequence[int], true: Sequence[int]) -> float:
    """The share of visits that are in the right region at their place in the row of them.

    Of the longer row, so that too many visits cost as much as too few.
    """
    are_right = [a == b != Special.UNKNOWN for a, b in zip(told, true, strict=False)]
    return sum(are_right) / max(len(told), len(true))


def edit_share(told: Sequence[int], true: Sequence[int]) -> float:
    """Levenshtein's distance by the length of the longer row: 0 for the same, 1 for no match."""
    above = list(range(len(true) + 1))
    for number, one in enumerate(told, 1):
        row = [number]
        for place, other in enumerate(true):
            is_same = one == other != Special.UNKNOWN
            row.append(min(above[place] + (not is_same), above[place + 1] + 1, row[place] + 1))
        above = row
    return above[-1] / max(len(told), len(true))


def misplaced_share(samples: Sequence[Sequence[FilledVisit]], run: HiddenRun) -> float:
    """The energy score of where one is, over the time of the gap that is judged."""
    edges_s = [
        t for visits in (*samples, run.visits) for v in visits for t in (v.arrived_s, v.left_s)
    ]
    edges_s += [t for stretch in run.unseen for t in stretch]
    edge_s = np.unique(np.clip([*edges_s, run.began_s, run.ends_s], run.began_s, run.ends_s))
    middle_s_E, width_s_E = (edge_s[1:] + edge_s[:-1]) / 2, np.diff(edge_s)
    width_s_E = width_s_E * is_judged(middle_s_E, run.unseen)
    true_E = whereabouts(run.visits, middle_s_E)
    true_E = np.where(true_E == Special.UNKNOWN, NO_REGION, true_E)
    told_SE = np.stack([whereabouts(visits, middle_s_E) for visits in samples])
    differs_E = np.mean(
        [told_SE != np.roll(told_SE, shift, axis=0) for shift in range(1, len(samples))],
        axis=(0, 1),
    )
    score_E = (told_SE != true_E).mean(0) - differs_E / 2
    return float((score_E * width_s_E).sum() / width_s_E.sum())


def is_judged(at_s_E: Floats, unseen: Sequence[Stretch]) -> Bools:
    is_judged_E = np.ones(len(at_s_E), bool)
    for first_s, last_s in unseen:
        is_judged_E &= (at_s_E < first_s) | (at_s_E > last_s)
    return is_judged_E


def whereabouts(visits: Sequence[FilledVisit], at_s_E: Floats) -> Ints:
    """The region of the visit at some instants, or that one is on the way."""
    arrived_s_N, left_s_N = (
        np.array([getattr(visit, name) for visit in visits]) for name in ("arrived_s", "left_s")
    )
    region_N = np.array([visit.region for visit in visits])
    visit_E = np.searchsorted(arrived_s_N, at_s_E, side="right") - 1
    is_there_E = (visit_E >= 0) & (at_s_E < left_s_N[visit_E])
    return np.where(is_there_E, region_N[visit_E], NOWHERE)
