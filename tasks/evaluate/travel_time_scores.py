"""Scoring of travel times: whole journeys, errors in seconds beside baselines fitted on train.

Track `ends` gives origin, destination and departure, `path_given` all places and the departure. A
path of more points than a model reads is thinned evenly for it, with both ends kept; the baselines
know the length and the number of points of the whole.

Shapes: J journeys, K points of a thinned path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tasks.config.slices import EvaluateRules
from tasks.evaluate.forecast_scores import WINDOWS_AT_ONCE
from tasks.prepare.regions import cells_of

if TYPE_CHECKING:
    from model.baselines.travel_time import Departures, DurationBaseline
    from model.data.journeys import Journeys
    from model.data.shards import Shards
    from model.inference.serving import Trained
    from model.interface.contexts import Partial
    from model.interface.flat_points import Floats

ENDS, PATH_GIVEN = "ends", "path_given"
TRACKS = (ENDS, PATH_GIVEN)
DURATIONS = pa.schema(
    {
        **dict.fromkeys(("split", "track", "model"), pa.string()),
        **dict.fromkeys(("num_windows", "num_entities"), pa.int64()),
        **dict.fromkeys(
            ("mae_s", "mae_low_s", "mae_high_s", "rmse_s", "mape", "coverage_80", "skill"),
            pa.float64(),
        ),
    }
)


@dataclass(frozen=True)
class Told:
    """The seconds that one answerer tells, and the tenth and ninetieth of a hundred if it does."""

    seconds_J: Floats
    low_s_J: Floats | None = None
    high_s_J: Floats | None = None


def fitted_baselines(
    shards: Shards, rules: EvaluateRules
) -> dict[str, tuple[DurationBaseline, ...]]:
    """The baselines of each track, fitted on the journeys of train; none where there are none."""
    from model.baselines.travel_time import fitted_on
    from model.data.journeys import read_journeys

    journeys = read_journeys(shards, "train", 2)
    if not len(journeys.duration_s_J):
        return {}
    return {
        track: fitted_on(departures(journeys, track, rules), journeys.duration_s_J, rules.seed)
        for track in TRACKS
    }


def duration_rows(
    shards: Shards,
    split: str,
    trained: Trained,
    fitted: Mapping[str, tuple[DurationBaseline, ...]],
    rules: EvaluateRules,
) -> list[dict[str, Any]]:
    """The rows of one split, under `DURATIONS`; none without journeys here and in train."""
    from model.data.journeys import read_journeys
    from model.evaluation.metrics import skill

    journeys = read_journeys(shards, split, trained.model.config.max_points)
    if not fitted or not len(journeys.duration_s_J):
        return []
    rows = []
    for track in TRACKS:
        known = departures(journeys, track, rules)
        told = {trained.family: told_by(trained, journeys, track, rules.zone)}
        told |= {baseline.name: Told(baseline.seconds(known)) for baseline in fitted[track]}
        found = [
            {"split": split, "track": track, "model": name} | statistic(journeys, answer, rules)
            for name, answer in told.items()
        ]
        rivals = [row["mae_s"] for row in found if row["model"] != trained.family]
        rows += [row | {"skill": skill(row["mae_s"], rivals)} for row in found]
    return rows


def departures(journeys: Journeys, track: str, rules: EvaluateRules) -> Departures:
    """What baselines may know of journeys."""
    import torch

    from model.baselines.travel_time import Departures
    from model.earth.calendar import calendar_of
    from model.earth.geometry import haversine_m

    ends_deg = journeys.ends_deg
    local = calendar_of(journeys.started_us_J, rules.zone)
    across_m_J = haversine_m(*(torch.from_numpy(value) for value in ends_deg)).numpy()
    return Departures(
        across_m_J if track == ENDS else journeys.path_m_J,
        np.full_like(journeys.num_points_J, 2) if track == ENDS else journeys.num_points_J,
        local["hour"],
        local["weekday"],
        cells_of(ends_deg[0], ends_deg[1], rules.resolution),
        cells_of(ends_deg[2], ends_deg[3], rules.resolution),
        ends_deg,
    )


def told_by(trained: Trained, journeys: Journeys, track: str, zone: str) -> Told:
    """What the model tells, some journeys at a time."""
    from model.inference.api import travel_time

    parts = [
        travel_time(trained.model, question(journeys, track, zone, chosen))
        for first in range(0, len(journeys.duration_s_J), WINDOWS_AT_ONCE)
        for chosen in [slice(first, first + WINDOWS_AT_ONCE)]
    ]
    return Told(
        *(
            np.concatenate([getattr(part, name).double().numpy() for part in parts])
            for name in ("median_s_B", "p10_s_B", "p90_s_B")
        )
    )


def question(journeys: Journeys, track: str, zone: str, chosen: slice) -> Partial:
    """Journeys as they are asked: places, and of all times only that of the departure."""
    import torch

    from model.inference.api import Partial

    if track == ENDS:
        origin_lon, origin_lat, lon, lat = (value[chosen] for value in journeys.ends_deg)
        lon_deg_JK, lat_deg_JK = np.stack([origin_lon, lon], 1), np.stack([origin_lat, lat], 1)
        num_kept_J = np.full(len(lon), 2)
    else:
        num_kept_J = journeys.num_kept_J[chosen]
        longest = int(num_kept_J.max())
        lon_deg_JK = journeys.lon_deg_JK[chosen, :longest]
        lat_deg_JK = journeys.lat_deg_JK[chosen, :longest]
    slot_K = np.arange(lon_deg_JK.shape[1])
    is_pad_JK = torch.from_numpy(slot_K >= num_kept_J[:, None])
    shows_time_JK = torch.from_numpy(slot_K == 0).expand_as(is_pad_JK)
    return Partial(
        torch.from_numpy(lon_deg_JK),
        torch.from_numpy(lat_deg_JK),
        torch.where(shows_time_JK, 0.0, torch.nan).double(),
        ~is_pad_JK,
        shows_time_JK,
        torch.from_numpy(journeys.started_us_J[chosen]),
        zone,
        is_pad_JK,
    )


def statistic(journeys: Journeys, told: Told, rules: EvaluateRules) -> dict[str, Any]:
    """The averages of one answerer; a journey that took no time is left out of `mape`."""
    import torch

    from model.evaluation import metrics

    true_s_J = journeys.duration_s_J
    miss_s_J = np.abs(told.seconds_J - true_s_J)
    low_s, high_s = metrics.interval_over_entities(
        torch.from_numpy(miss_s_J), journeys.entity_id_J, rules.seed, rules.num_bootstrap
    )
    took_time_J = true_s_J > 0
    relative_J = miss_s_J[took_time_J] / true_s_J[took_time_J]
    return {
        "num_windows": len(true_s_J),
        "num_entities": len(set(journeys.entity_id_J)),
        "mae_s": float(miss_s_J.mean()),
        "mae_low_s": low_s,
        "mae_high_s": high_s,
        "rmse_s": float(np.sqrt(np.square(miss_s_J).mean())),
        "mape": float(relative_J.mean()) if len(relative_J) else math.nan,
        "coverage_80": coverage(told, true_s_J),
    }


def coverage(told: Told, true_s_J: Floats) -> float:
    """The share of journeys that took between the tenth and the ninetieth percentile told."""
    if told.low_s_J is None or told.high_s_J is None:
        return math.nan
    return float(((told.low_s_J <= true_s_J) & (true_s_J <= told.high_s_J)).mean())
