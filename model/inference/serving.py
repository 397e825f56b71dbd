"""Serving: from a folder of weights and JSON to answers about flat points.

The folder is what training publishes. This file and what it imports travel with a registered model,
so everything here is numpy and torch only.

Shapes: N points, R trajectories, P pieces, H points of the horizon, D model width.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from zoneinfo import ZoneInfo

import numpy as np
import torch
from torch import Tensor

from ..earth.arrays import Bools, Floats, Ints
from ..earth.columns import joined
from ..families import FAMILIES, build, read_fitted
from ..features.letters import text_vectors as text_vectors
from ..interface.answerer import DurationDensity
from ..interface.answers import Durations, Forecast, Generated, Recovered
from ..interface.asked_journeys import asked_along
from ..interface.calibration import Calibration
from ..interface.contexts import Context, Partial
from ..interface.family import Model
from ..interface.flat_points import (
    FlatPoints,
    Pieces,
    between_known,
    consecutive,
    context_of,
    latest,
    partial_of,
)
from ..interface.flat_points import checked_places as checked_places
from ..interface.flat_points import sorted_points as sorted_points
from ..interface.flat_points import sorted_sketch as sorted_sketch
from ..interface.kinds import kind_number as kind_number
from ..interface.lines import PATH_PLACES
from ..interface.memory.forgetting import forgotten as forgotten
from ..interface.named_places import LETTERS as LETTERS
from ..interface.named_places import NamedPlaces as NamedPlaces
from ..interface.next_visit import NextVisit
from ..interface.visit_batch import VisitBatch
from ..interface.weights import load_weights
from .api import CONTROLS as CONTROLS
from .api import check_controls as check_controls
from .api import check_task as check_task
from .api import (
    duration_density,
    embed,
    forecast,
    generate_trips,
    infill,
    is_familiar,
    next_visit,
    recover,
    score,
    travel_time,
)

if TYPE_CHECKING:  # what reads points needs no regions
    from ..interface.infilling import FilledGap

TRAJECTORIES_AT_ONCE = 1024  # bounds the memory of samples
PIECES_AT_ONCE = 256  # bounds the memory of attention in both directions
MAX_HORIZON = 1_000
MAX_SAMPLES = 1_000
REMEMBERED = ("forecast", "recover")  # tasks that a memory of past trips is asked for


@dataclass(frozen=True)
class Trained:
    """A trained network: an answerer (`model/interface/answerer.py`) as the baselines are.

    Tables call it by its family, or by a title of its own. Its radii and deciles are stretched by
    what it carries of a calibration. `asked` are the tasks that it answers, if not all. What is
    `untold` are columns of a context that it is not told.
    """

    model: Model
    title: str = ""
    calibration: Calibration = field(default_factory=Calibration)
    asked: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    is_baseline: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return self.title or self.model.family

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked; the first of them if nothing else is said."""
        return self.asked or FAMILIES[self.model.family].tasks

    def remembering(self, memory: Any, title: str = "") -> Trained:
        """The same weights with another memory of past trips, or with none.

        It is asked for what a memory tells: forecasts, and the places of hidden points.
        """
        model = copy.copy(self.model)
        model.memory = memory
        asked = tuple(task for task in REMEMBERED if task in self.tasks)
        return replace(self, model=model, title=title or self.title, asked=asked)

    def amid(self, places: NamedPlaces | None, title: str = "") -> Trained:
        """The same weights, asked for forecasts, with another table of named places or none."""
        model = copy.copy(self.model)
        model.places = places
        return replace(self, model=model, title=title or self.title, asked=("forecast",))

    def deaf(self, title: str) -> Trained:
        """The same weights, asked for forecasts and told of no motion that a source reports."""
        return self._untold(title, "reported_mps_BTC")

    def kindless(self, title: str) -> Trained:
        """The same weights, asked for forecasts and not told what moves."""
        return self._untold(title, "kind_B")

    def _untold(self, title: str, name: str) -> Trained:
        return replace(self, title=title, asked=("forecast",), untold=(*self.untold, name))

    def _heard(self, context: Context) -> Context:
        nothing: dict[str, Any] = dict.fromkeys(self.untold)
        return replace(context, **nothing) if nothing else context

    @property
    def max_points(self) -> int:
        return int(self.model.config.max_points)

    def forecast(
        self, context: Context, num_horizon: int, target_time_s_BH: Tensor | None = None
    ) -> Forecast:
        return forecast(self.model, self._heard(context), num_horizon, target_time_s_BH)

    def sampled_forecast(
        self,
        context: Context,
        num_horizon: int,
        target_time_s_BH: Tensor | None,
        num_samples: int,
        seed: int,
    ) -> Forecast:
        asked = (self._heard(context), num_horizon, target_time_s_BH, num_samples, seed)
        return self.calibration.stretched(forecast(self.model, *asked))

    def recover(self, partial: Partial) -> Recovered:
        return recover(self.model, partial)

    def travel_time(self, partial: Partial) -> Durations:
        """A path of two points is origin and destination alone."""
        told = travel_time(self.model, partial)
        has_path_B = partial.shows_place_BT.sum(1) > 2
        return self.calibration.stretched_durations(told, has_path_B)

    def duration_density(self, partial: Partial) -> DurationDensity:
        return duration_density(self.model, partial)

    def generate(self, starts: Context, num_points: int, seed: int, **controls: Any) -> Generated:
        return generate_trips(self.model, starts, num_points, seed, **controls)

    def next_visit(self, history: VisitBatch) -> NextVisit:
        return next_visit(self.model, history)

    def infill(self, shown: VisitBatch, *asked: Any) -> list[list[FilledGap]]:
        return infill(self.model, shown, *asked)


@dataclass(frozen=True)
class Choices:
    """What a caller may choose, of whatever is asked."""

    task: str = "forecast"
    num_samples: int = 64
    seed: int = 0
    zone: str = "UTC"

    def __post_init__(self) -> None:
        check_count("num_samples", self.num_samples, 0, MAX_SAMPLES)
        check_count("seed", self.seed, 0, 2**31 - 1)
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, TypeError, OSError) as error:
            raise ValueError(f"unknown time zone {self.zone!r}; give one as Europe/Oslo") from error

    def with_choices(self, choices: Mapping[str, Any]) -> Self:
        """These parameters with a caller's choices in place of the defaults."""
        unknown = sorted(set(choices) - set(self.__dataclass_fields__))
        if unknown:
            known = ", ".join(self.__dataclass_fields__)
            raise ValueError(f"unknown parameter {unknown[0]!r}; the known ones are: {known}")
        return replace(self, **choices)


@dataclass(frozen=True)
class Params(Choices):
    """What a caller may choose; checked, so that a slip is an error and not another answer.

    `horizon` and `num_samples` are of forecasts, `num_points` is of made-up trajectories, and
    `seed` of both.
    """

    horizon: int = 20
    num_points: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("num_points", self.num_points, 2, MAX_HORIZON)
        check_count("horizon", self.horizon, 1, MAX_HORIZON)


@dataclass(frozen=True)
class Forecasts:
    """Forecast points (R, H); the radii are NaN where no samples were asked for.

    `is_extrapolated_R` tells whose points come at steps that the model was not trained on, or is
    asked for such: its forecast may be far off, a constant motion included. `is_familiar_R` tells
    whose points move as something in training did; None of a family that cannot say.
    """

    instant_us_RH: Ints
    lon_deg_RH: Floats
    lat_deg_RH: Floats
    radius_p50_m_RH: Floats
    radius_p80_m_RH: Floats
    radius_p95_m_RH: Floats
    is_extrapolated_R: Bools
    is_familiar_R: Bools | None = None


@dataclass(frozen=True)
class Recoveries:
    """All points (N), what was missing filled in; what cannot be told is missing still."""

    points: FlatPoints
    is_recovered_N: Bools


def load_trained(folder: Path, weights_sha256: str | None = None) -> Trained:
    """The model of a folder with `weights.safetensors`, `config.json` and what was fitted on train.

    What a `calibration.json` beside them tells is carried with it, and so are a memory and a table
    of named places.
    """
    config = json.loads((folder / "config.json").read_bytes())
    family = config["family"]
    model = build(family, config["config"], read_fitted(folder, family))
    load_weights(model, folder / "weights.safetensors", weights_sha256)
    model.read_memory(folder)
    model.read_places(folder)
    return Trained(model.eval(), calibration=Calibration.read(folder))


# Forecast ---------------------------------------------------------------------------------------


def forecast_points(
    trained: Trained, points: FlatPoints, params: Params, target_us_RH: Ints | None = None
) -> Forecasts:
    """The next points of each trajectory, at given instants or at predicted ones."""
    pieces, parts = latest(points, trained.model.max_known), []
    familiar: list[Tensor | None] = []
    for number, part in enumerate(pieces.parts(TRAJECTORIES_AT_ONCE)):
        context = context_of(points, part, params.zone)
        started_us_R1 = context.started_us_B.numpy()[:, None]
        target_s_RH = None
        if target_us_RH is not None:
            first = number * TRAJECTORIES_AT_ONCE
            target_us = target_us_RH[first : first + TRAJECTORIES_AT_ONCE]
            target_s_RH = torch.from_numpy((target_us - started_us_R1) / 1e6)
        found = trained.sampled_forecast(
            context, params.horizon, target_s_RH, params.num_samples, params.seed
        )
        elapsed_us_RH = np.rint(found.time_s_BH.numpy() * 1e6).astype(np.int64)
        radii = (
            radius_m_BH.double()
            for radius_m_BH in (found.radius_p50_m_BH, found.radius_p80_m_BH, found.radius_p95_m_BH)
        )
        is_extrapolated_R = ~is_step_known(trained, context.time_s_BT, context.is_pad_BT)
        if target_s_RH is not None:
            last_s_R1 = context.time_s_BT.gather(1, context.num_points_B[:, None] - 1)
            asked_s_RH = torch.cat([last_s_R1, target_s_RH], dim=1)
            is_extrapolated_R |= ~is_step_known(trained, asked_s_RH)
        columns = (found.lon_deg_BH, found.lat_deg_BH, *radii, is_extrapolated_R)
        parts.append((started_us_R1 + elapsed_us_RH, *(column.numpy() for column in columns)))
        familiar.append(is_familiar(trained.model, context))
    told = [one.numpy() for one in familiar if one is not None]
    whole = Forecasts(*map(np.concatenate, zip(*parts, strict=True)))
    return replace(whole, is_familiar_R=np.concatenate(told)) if told else whole


def is_step_known(trained: Trained, time_s_RT: Tensor, is_pad_RT: Tensor | None = None) -> Tensor:
    """Whether the median step of each row (R) is one that training tells of; so is none at all."""
    step_s_RT = time_s_RT.diff(dim=1)
    if is_pad_RT is not None:
        step_s_RT = step_s_RT.masked_fill(is_pad_RT[:, 1:], torch.nan)
    step_s_RT = torch.nn.functional.pad(step_s_RT, (0, 1), value=torch.nan)  # one point: no step
    median_s_R = step_s_RT.nanmedian(dim=1).values
    shortest_s, longest_s = trained.model.normaliser.known_step_s
    return ~(median_s_R < shortest_s) & ~(median_s_R > longest_s)


# Recover ----------------------------------------------------------------------------------------


def recover_points(trained: Trained, points: FlatPoints, params: Params) -> Recoveries:
    """The points with missing places and times filled in; what was given is not touched."""
    _check_known(points)
    instant_us_N, has_time_N = points.instant_us_N.copy(), points.has_time_N.copy()
    lon_deg_N, lat_deg_N = points.lon_deg_N.copy(), points.lat_deg_N.copy()
    is_recovered_N = np.zeros(len(lon_deg_N), bool)
    for part in between_known(points, trained.max_points).parts(PIECES_AT_ONCE):
        partial = partial_of(points, part, params.zone)
        found = recover(trained.model, partial)
        place_M, answer_M = _kept(part, found.is_recovered_BT.numpy())
        is_recovered_N[place_M] = True
        for value_N, value_BT in ((lon_deg_N, found.lon_deg_BT), (lat_deg_N, found.lat_deg_BT)):
            asked_M = ~points.has_place_N[place_M]
            value_N[place_M[asked_M]] = value_BT.numpy()[answer_M][asked_M]
        asked_M = ~points.has_time_N[place_M]
        elapsed_us_BT = np.rint(found.time_s_BT.numpy() * 1e6).astype(np.int64)
        instant_us_BT = partial.started_us_B.numpy()[:, None] + elapsed_us_BT
        instant_us_N[place_M[asked_M]] = instant_us_BT[answer_M][asked_M]
        has_time_N[place_M] = True
    filled = FlatPoints(points.trajectory_N, instant_us_N, lon_deg_N, lat_deg_N, has_time_N)
    return Recoveries(filled, is_recovered_N)


def _check_known(points: FlatPoints) -> None:
    is_known_N = points.has_place_N & points.has_time_N
    is_lost_R = np.bincount(points.trajectory_N, is_known_N) == 0
    if is_lost_R.any():
        raise ValueError(
            "recover needs a row with place and time in each trajectory: "
            f"{int(is_lost_R.sum())} of {len(is_lost_R)} have none"
        )


def _kept(pieces: Pieces, is_told_PT: Bools) -> tuple[Ints, Bools]:
    """Where the answers that a piece keeps belong (M), and which of all answers (P, T) they are."""
    place_PT = pieces.first_P[:, None] + np.arange(is_told_PT.shape[1])
    is_kept_PT = (place_PT >= pieces.kept_P[:, None]) & (place_PT < pieces.kept_end_P[:, None])
    is_kept_PT &= is_told_PT
    return place_PT[is_kept_PT], is_kept_PT


# Travel time ------------------------------------------------------------------------------------


def travel_times(trained: Trained, points: FlatPoints, params: Params) -> Durations:
    """How long each trajectory takes to its last place, along the places between, if any.

    A path is a line, which is asked as in `model/evaluation/travel_time_scores.py`: how many places
    of it are given does not matter, and what has no place says nothing of it.
    """
    _check_ends(points)
    num_places = min(PATH_PLACES, trained.max_points)
    asked = asked_along(points.at(points.has_place_N), num_places, params.zone)
    parts = range(0, len(asked.started_us_B), PIECES_AT_ONCE)
    return joined(
        [trained.travel_time(asked.at(slice(first, first + PIECES_AT_ONCE))) for first in parts]
    )


def _check_ends(points: FlatPoints) -> None:
    first_R, end_R = points.offset_R[:-1], points.offset_R[1:]
    has_start_R = points.has_place_N[first_R] & points.has_time_N[first_R]
    has_goal_R = points.has_place_N[end_R - 1] & ~points.has_time_N[end_R - 1]
    num_bad = int((~has_start_R | ~has_goal_R | (end_R - first_R < 2)).sum())
    if num_bad:
        raise ValueError(
            "travel_time needs a first row with place and time and a last row with a place and no "
            f"time: {num_bad} of {len(first_R)} trajectories are not so"
        )


# Generate ---------------------------------------------------------------------------------------


def generated_points(
    trained: Trained, points: FlatPoints, params: Params, control_R: Mapping[str, Floats]
) -> FlatPoints:
    """A trajectory made up from each start, which begins there and then.

    A trajectory is a function of its number, its start, its controls and the seed. Controls go by
    their names, NaN where one asks nothing.
    """
    if (num_more := int((np.diff(points.offset_R) > 1).sum())) > 0:
        raise ValueError(
            "generate begins at one row of each trajectory: "
            f"{num_more} of {len(points.offset_R) - 1} have more"
        )
    starts = context_of(points, latest(points, 1), params.zone)
    controls = {name: torch.from_numpy(value_R) for name, value_R in control_R.items()}
    found = trained.generate(starts, params.num_points, params.seed, **controls)
    elapsed_us_NT = (found.time_s_NT.double() * 1e6).round().long()
    instant_us_NT = starts.started_us_B.unsqueeze(1) + elapsed_us_NT
    columns = (instant_us_NT, found.lon_deg_NT, found.lat_deg_NT)
    instant_us_N, lon_deg_N, lat_deg_N = (column_NT.flatten().numpy() for column_NT in columns)
    trajectory_N = np.repeat(np.arange(len(instant_us_NT)), params.num_points)
    has_time_N = np.ones(len(trajectory_N), bool)
    return FlatPoints(trajectory_N, instant_us_N, lon_deg_N, lat_deg_N, has_time_N)


# Embed and score --------------------------------------------------------------------------------


def embeddings(trained: Trained, points: FlatPoints, params: Params) -> Floats:
    """A vector (R, D) of each trajectory; a long one is read in pieces, each point counts once."""
    return _mean_of_pieces(trained, points, params.zone, embed)


def scores(trained: Trained, points: FlatPoints, params: Params) -> Floats:
    """Mean surprise (R) of a step in nats, NaN where there is none; a long one is read in pieces.

    A piece begins with the last point of the one before, so that each step counts once.
    """
    return _mean_of_pieces(trained, points, params.zone, score, num_shared=1)[:, 0]


def _mean_of_pieces(
    trained: Trained,
    points: FlatPoints,
    zone: str,
    ask: Callable[[Model, Context], Tensor],
    num_shared: int = 0,
) -> Floats:
    """The mean (R, D) over pieces, each by its points of its own; NaN where there are none."""
    pieces = consecutive(points, trained.max_points, num_shared)
    found = [
        ask(trained.model, context_of(points, part, zone)) for part in pieces.parts(PIECES_AT_ONCE)
    ]
    value_PD = torch.cat(found).double().numpy().reshape(len(pieces.first_P), -1)
    weight_P = pieces.end_P - pieces.first_P - num_shared
    trajectory_P = points.trajectory_N[pieces.first_P]
    first_R = np.flatnonzero(np.diff(trajectory_P, prepend=-1))
    total_RD = np.add.reduceat(value_PD * weight_P[:, None], first_R)
    weight_R = np.add.reduceat(weight_P, first_R).astype(float)
    return total_RD / np.where(weight_R > 0, weight_R, np.nan)[:, None]


# Checks -----------------------------------------------------------------------------------------


def check_count(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value}")
