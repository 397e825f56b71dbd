"""Travel time scores: whole journeys, errors in seconds.

Track `ends` gives origin, destination and departure, `path_given` the path and the departure. A
path is a line on the map: everyone is told `PATH_PLACES` places at even shares of its way, however
many points it was recorded at, an answerer that reads fewer that many, and beside them its whole
length. Where points come at regular times, their number and where they crowd tell the duration.

Shapes: J journeys, K places of a path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.journeys import Journeys, read_journeys
from ..data.shards import Shards
from ..interface.answerer import Answerer, DurationDensity, TravelTimer, max_points_of
from ..interface.conformal import conformal_factor, decile_factor
from ..interface.contexts import Partial
from ..interface.lines import PATH_PLACES
from .judged_tasks import ENDS, TRAVEL_TIME
from .probability import crps_of_quantiles, levels
from .question import Errors, Judging, Metric, Question, check_answered, mean_metric

NUM_QUANTILES = 40
SPREAD = ("coverage_80", "raw_coverage_80", "coverage_50", "coverage_95", "crps_s", "nll")
FACTOR = "factor_80"


class TravelTimeScorer:
    """The places of a journey and its departure are given, its duration is asked."""

    task = TRAVEL_TIME
    has_masks = False

    def questions(
        self, shards: Shards, split: str, answerers: Sequence[Answerer], judging: Judging
    ) -> Iterator[Question]:
        sizes = {path_places_of(answerer) for answerer in answerers}
        journeys = {size: read_journeys(shards, split, size) for size in sizes}
        any_size = next(iter(journeys.values()))
        for first in range(0, len(any_size.window_id_J), judging.windows_at_once):
            chosen = slice(first, first + judging.windows_at_once)
            windows = {size: one.at(chosen) for size, one in journeys.items()}, shards.zone
            ids, entity_id = list(any_size.window_id_J[chosen]), list(any_size.entity_id_J[chosen])
            yield Question(ids, entity_id, ["ends"] * len(ids), windows)

    def errors(
        self, answerer: TravelTimer, question: Question, track: str, judging: Judging
    ) -> dict[str, Tensor]:
        """Absolute error (J), the same as a share, and of those who tell a spread how it fits."""
        by_places, zone = question.windows
        journeys: Journeys = by_places[path_places_of(answerer)]
        asked = travel_question(journeys, track, zone)
        told = answerer.travel_time(asked)
        true_s_J = torch.from_numpy(journeys.duration_s_J)
        seconds_J, low_s_J, high_s_J = (
            value_J.double() for value_J in (told.median_s_B, told.p10_s_B, told.p90_s_B)
        )
        every_J = torch.ones_like(true_s_J, dtype=torch.bool)
        check_answered(seconds_J, every_J, answerer.name, f"travel times of {track}")
        miss_s_J = (seconds_J - true_s_J).abs()
        errors = {
            "mae_s": miss_s_J,
            "relative": torch.where(true_s_J > 0, miss_s_J / true_s_J, torch.nan),
        }
        if not bool(low_s_J.isnan().all() & high_s_J.isnan().all()):
            errors["coverage_80"] = is_between(low_s_J, true_s_J, high_s_J)
        if hasattr(answerer, "duration_density"):
            errors |= density_errors(answerer.duration_density(asked), seconds_J, true_s_J)
        for name in (name for name in SPREAD if name in errors):
            check_answered(errors[name], every_J, answerer.name, f"the spread of {track}")
        return errors

    def told(self, errors: Errors, judging: Judging) -> Iterator[Metric]:
        """A journey that took no time is left out of `mape`."""
        miss_s_J, relative_J = errors.value["mae_s"], errors.value["relative"]
        yield mean_metric("mae_s", miss_s_J, errors, judging)
        yield Metric("rmse_s", float(miss_s_J.square().mean().sqrt()), len(miss_s_J))
        yield Metric("mape", float(relative_J.nanmean()), len(miss_s_J))
        for name in (name for name in SPREAD if name in errors.value):
            yield mean_metric(name, errors.value[name], errors, judging)
        if FACTOR in errors.value:
            factor = conformal_factor(errors.value[FACTOR], 0.8)
            yield from [Metric(FACTOR, factor, len(miss_s_J))] if math.isfinite(factor) else []


def density_errors(
    density: DurationDensity, median_s_J: Tensor, true_s_J: Tensor
) -> dict[str, Tensor]:
    """Whether half, 80 and 95 % of the density held the truth, and how far its deciles would have
    to be stretched to; CRPS in seconds, and surprise in nats of seconds.
    """
    (low_50_J, high_50_J), (low_80_J, high_80_J), (low_95_J, high_95_J) = (
        [density.quantile(share).double() for share in (tail, 1 - tail)]
        for tail in (0.25, 0.1, 0.025)
    )
    shares = levels(NUM_QUANTILES)
    quantile_s_JQ = torch.stack([density.quantile(share).double() for share in shares], dim=1)
    return {
        "coverage_50": is_between(low_50_J, true_s_J, high_50_J),
        "raw_coverage_80": is_between(low_80_J, true_s_J, high_80_J),
        "coverage_95": is_between(low_95_J, true_s_J, high_95_J),
        FACTOR: decile_factor(true_s_J, low_80_J, median_s_J, high_80_J),
        "crps_s": crps_of_quantiles(quantile_s_JQ, shares, true_s_J),
        "nll": -density.log_density(true_s_J).double(),
    }


def is_between(low_J: Tensor, value_J: Tensor, high_J: Tensor) -> Tensor:
    """1 or 0 (J); NaN where an end is none."""
    is_within_J = ((low_J <= value_J) & (value_J <= high_J)).double()
    return is_within_J.where(low_J.isfinite() & high_J.isfinite(), torch.nan)


def path_places_of(answerer: Answerer) -> int:
    """How many places of a path an answerer is given."""
    return min(PATH_PLACES, max_points_of(answerer))


def travel_question(journeys: Journeys, track: str, zone: str) -> Partial:
    """Journeys as they are asked: places, and of all times only that of the departure."""
    path: dict[str, Tensor] = {}
    if track == ENDS:
        origin_lon, origin_lat, lon, lat = journeys.ends_deg
        lon_deg_JK, lat_deg_JK = np.stack([origin_lon, lon], 1), np.stack([origin_lat, lat], 1)
    else:
        lon_deg_JK, lat_deg_JK = journeys.lon_deg_JK, journeys.lat_deg_JK
        path["path_m_B"] = torch.from_numpy(journeys.path_m_J)
    is_pad_JK = torch.zeros(lon_deg_JK.shape, dtype=torch.bool)
    shows_time_JK = (torch.arange(lon_deg_JK.shape[1]) == 0).expand_as(is_pad_JK)
    return Partial(
        torch.from_numpy(lon_deg_JK),
        torch.from_numpy(lat_deg_JK),
        torch.where(shows_time_JK, 0.0, torch.nan).double(),
        ~is_pad_JK,
        shows_time_JK,
        torch.from_numpy(journeys.started_us_J),
        zone,
        is_pad_JK,
        **path,
    )
