"""Next visit scores: how well the region of a next visit is told, and how long way and stay take.

The region is asked of the history alone. Its travel is asked of one who knows the region, the stay
of one who knows the arrival too: so each is judged for itself. Windows are told apart by what
comes: a region that is *seen* in the history, one that is *new* to it, and one that is *unknown* to
train, which counts as a miss whatever is answered. All regions of the vocabulary are ranked, never
a sample of them; where several are as likely, their places are shared.

Shapes: N windows, R ids of the vocabulary, Q quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..data.shards import ShardFolder
from ..features.places import NUM_SPECIAL
from ..interface.answerer import Answerer
from ..interface.next_visit import AskedVisits, DurationLaw, VisitTeller, parted
from ..interface.visit_batch import VisitBatch
from .judged_tasks import NEXT_REGION, NEXT_TRAVEL
from .probability import crps_of_quantiles, levels
from .question import Errors, Judging, Metric, Question, check_answered, mean_metric
from .strata import HISTORY_LENGTH, LAST_STAY

STORED_AS = "next_visit"
SEEN, NEW, UNKNOWN = "seen", "new", "unknown"
HITS, GAIN = (1, 5, 10, 20), 10
MARGINS_MIN = (5, 10, 20)
NUM_QUANTILES = 40
CENTRAL = {"coverage_50": 0.25, "coverage_80": 0.1, "coverage_95": 0.025}  # and the tail below


class NextVisitScorer:
    """The region of the last visit of a window, or its travel, or its stay, is asked."""

    has_masks = True

    def __init__(self, task: str) -> None:
        self.task = task
        self.missed = {NEXT_REGION: region_errors, NEXT_TRAVEL: travel_errors}.get(
            task, stay_errors
        )

    def questions(
        self,
        shards: ShardFolder[VisitBatch],
        split: str,
        answerers: Sequence[Answerer],
        judging: Judging,
    ) -> Iterator[Question]:
        from ..data.reading import read_windows

        for stored in read_windows(shards, split, judging.windows_at_once, task=STORED_AS):
            history, asked = parted(stored.batch)
            ids, kinds = stored.batch.window_id_B.tolist(), kinds_of(history, asked)
            about = measures_of(history)
            yield Question(ids, list(stored.entity_id_B), kinds, (history, asked), about)

    def errors(
        self, answerer: VisitTeller, question: Question, track: str, judging: Judging
    ) -> dict[str, Tensor]:
        return self.missed(answerer, *question.windows)

    def told(self, errors: Errors, judging: Judging) -> Iterator[Metric]:
        for name, value_N in errors.value.items():
            if not bool(value_N.isnan().all()):
                yield mean_metric(name, value_N, errors, judging)


def kinds_of(history: VisitBatch, asked: AskedVisits) -> list[str]:
    """Whether the region that comes is seen in the history, new to it, or unknown to train."""
    is_there_NV = (history.region_BV == asked.region_N.unsqueeze(1)) & ~history.is_pad_BV
    is_known_N = asked.region_N >= NUM_SPECIAL
    pairs = zip(is_there_NV.any(1).tolist(), is_known_N.tolist(), strict=True)
    return [(SEEN if is_seen else NEW) if is_known else UNKNOWN for is_seen, is_known in pairs]


def measures_of(history: VisitBatch) -> dict[str, list[float]]:
    """How many visits are known, and how many hours the last of them lasted."""
    num_visits_N = (~history.is_pad_BV).sum(1)
    last_s_N = history.duration_s_BV.gather(1, num_visits_N.unsqueeze(1) - 1).squeeze(1)
    return {HISTORY_LENGTH: num_visits_N.tolist(), LAST_STAY: (last_s_N / 3_600).tolist()}


# Regions ----------------------------------------------------------------------------------------


def region_errors(
    answerer: VisitTeller, history: VisitBatch, asked: AskedVisits
) -> dict[str, Tensor]:
    """Surprise in nats; hits among the first places, and what else ranks tell."""
    log_region_NR = answerer.next_visit(history).log_region_NR.double()
    nll_N = -log_region_NR.gather(1, asked.region_N.unsqueeze(1)).squeeze(1)
    every_N = torch.ones_like(nll_N, dtype=torch.bool)
    check_answered(nll_N, every_N, answerer.name, "next regions")
    return {"nll": nll_N, **rank_scores(log_region_NR[:, NUM_SPECIAL:], asked.region_N)}


def rank_scores(log_region_NR: Tensor, region_N: Tensor) -> dict[str, Tensor]:
    """Accuracies, mean reciprocal rank and discounted gain (N); regions that tie share places.

    `log_region_NR` is of regions alone, whose ids begin behind the special ones.
    """
    known_N = region_N >= NUM_SPECIAL
    place_N1 = (region_N - NUM_SPECIAL).clamp(min=0).unsqueeze(1)
    own_N1 = log_region_NR.gather(1, place_N1)
    above_N = (log_region_NR > own_N1).sum(1)
    until_N = above_N + (log_region_NR == own_N1).sum(1)
    number = log_region_NR.shape[1]

    def mean_over_places(worth_R: Tensor) -> Tensor:
        """The mean worth of the places that a region shares with those as likely."""
        sum_R = torch.cat([worth_R.new_zeros(1), worth_R.cumsum(0)])
        mean_N = (sum_R[until_N] - sum_R[above_N]) / (until_N - above_N)
        return torch.where(known_N, mean_N, 0.0)

    rank_R = torch.arange(1, number + 1, dtype=torch.float64)
    gain_R = torch.where(rank_R <= GAIN, math.log(2) / torch.log1p(rank_R), 0.0)
    return {
        **{f"acc_{hit}": mean_over_places((rank_R <= hit).double()) for hit in HITS},
        "mrr": mean_over_places(1 / rank_R),
        f"ndcg_{GAIN}": mean_over_places(gain_R),
    }


# Times ------------------------------------------------------------------------------------------


def travel_errors(
    answerer: VisitTeller, history: VisitBatch, asked: AskedVisits
) -> dict[str, Tensor]:
    """Of the way to the region that came; nothing where it was not seen how long it took."""
    law = answerer.next_visit(history).travel(asked.region_N)
    is_known_N, seconds_N = asked.is_travel_known_N, asked.travel_s_N
    errors = duration_errors(law, seconds_N, is_known_N, answerer.name, "travels")
    nll_N = torch.where(is_known_N, -law.log_density(seconds_N).double(), torch.nan)
    return errors | {"nll": nll_N}


def stay_errors(
    answerer: VisitTeller, history: VisitBatch, asked: AskedVisits
) -> dict[str, Tensor]:
    """Of the stay that came; of one whose end was not seen the surprise of lasting that long."""
    law = answerer.next_visit(history).stay(asked)
    is_whole_N, seconds_N = ~asked.is_censored_N, asked.duration_s_N
    errors = duration_errors(law, seconds_N, is_whole_N, answerer.name, "stays")
    log_N = torch.where(is_whole_N, law.log_density(seconds_N), law.log_survival(seconds_N))
    return errors | {"nll": -log_N.double()}


def duration_errors(
    law: DurationLaw, seconds_N: Tensor, is_told_N: Tensor, who: str, what: str
) -> dict[str, Tensor]:
    """CRPS in seconds, the mass near the truth, and whether central areas hold it."""
    shares = levels(NUM_QUANTILES)
    quantile_s_NQ = torch.stack([law.quantile(share).double() for share in shares], dim=1)
    found = {"crps_s": crps_of_quantiles(quantile_s_NQ, shares, seconds_N.double())}
    check_answered(found["crps_s"], is_told_N, who, f"{what} to or at the next region")
    for margin_min in MARGINS_MIN:
        found[f"within_{margin_min}_min"] = law.within(seconds_N, 60.0 * margin_min).double()
    for name, tail in CENTRAL.items():
        is_above_N = seconds_N >= law.quantile(tail)
        found[name] = (is_above_N & (seconds_N <= law.quantile(1 - tail))).double()
    return {name: value_N.where(is_told_N, torch.nan) for name, value_N in found.items()}
