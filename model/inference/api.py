"""API of a trained model of whatever family: its questions, with the same arrays in and out.

Each family says in `Family.tasks` what it serves and has a method of that name. Nothing here
changes the model, a row's answer depends on that row alone, and samples on their seed.

Shapes: B rows, T points, H points of the horizon, D model width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..earth.columns import joined
from ..families import FAMILIES
from ..interface.answerer import DurationDensity
from ..interface.answers import Durations, Forecast, Generated, Recovered
from ..interface.contexts import Context, Partial, check_target_times
from ..interface.evaluating import evaluating
from ..interface.family import Model, Network
from ..interface.next_visit import Arrivals, DurationLaw, NextVisit
from ..interface.visit_batch import VisitBatch

if TYPE_CHECKING:  # what reads points needs no regions
    from ..interface.controls import Controls
    from ..interface.infilling import FilledGap

CONTROLS = ("length_m", "duration_s")  # of made-up trajectories
MAX_ROWS = 4096  # forecast at once, each sample counted; bounds the memory


def forecast(
    model: Model,
    context: Context,
    num_horizon: int,
    target_time_s_BH: Tensor | None = None,
    num_samples: int = 0,
    seed: int = 0,
) -> Forecast:
    """The points that follow each context, at given times or at predicted ones."""
    rows_at_once = max(1, MAX_ROWS // max(1, num_samples))
    parts = []
    with ready_for(model, "forecast") as able:
        if num_horizon < 1:
            raise ValueError(f"num_horizon must be at least 1, not {num_horizon}")
        check_target_times(context, num_horizon, target_time_s_BH)
        for start in range(0, len(context.started_us_B), rows_at_once):
            chunk = slice(start, start + rows_at_once)
            times = None if target_time_s_BH is None else target_time_s_BH[chunk]
            known = context.at(chunk)
            parts.append(able.forecast(known, num_horizon, times, num_samples, seed))
    return joined(parts)


def is_familiar(model: Model, context: Context) -> Tensor | None:
    """Whether each context (B) is like what was trained on; None of a family that cannot say."""
    with torch.inference_mode(), evaluating(model):
        return model.is_familiar(context)


def recover(model: Model, partial: Partial) -> Recovered:
    """The points with what is hidden filled in, as far as the family can tell it.

    With the ends alone given, it is path inference.
    """
    with ready_for(model, "recover") as able:
        found: Recovered = able.recover(partial.batch())
    return found


def travel_time(model: Model, partial: Partial) -> Durations:
    """Seconds from the first point to the last, whose place is given and whose time is not.

    The first point shows both. Those between may give the path: with none it is origin and
    destination alone.
    """
    with ready_for(model, "travel_time") as able:
        check_ends(partial)
        found: Durations = able.travel_time(partial)
    return found


def duration_density(model: Model, partial: Partial) -> DurationDensity:
    """The density of the same; its numbers are told without gradients."""
    with ready_for(model, "travel_time") as able:
        check_ends(partial)
        found: DurationDensity = able.duration_density(partial)
    return found


def check_ends(partial: Partial) -> None:
    """Refuse journeys that lack an end, or tell when they end."""
    last_B1 = (~partial.is_pad_BT).sum(1, keepdim=True) - 1
    has_ends_B1 = partial.shows_place_BT[:, :1] & partial.shows_place_BT.gather(1, last_B1)
    if bool((last_B1 < 1).any()) or not bool((has_ends_B1 & partial.shows_time_BT[:, :1]).all()):
        raise ValueError("travel time needs a first point with place and time, and a last place")
    if bool(partial.shows_time_BT.gather(1, last_B1).any()):
        raise ValueError("the time of the last point is given: there is nothing to tell")


def generate_trips(
    model: Model,
    starts: Context,
    num_points: int,
    seed: int = 0,
    first: int = 0,
    length_m: float | Tensor | None = None,
    duration_s: float | Tensor | None = None,
) -> Generated:
    """A trajectory of so many points from each start, the one point of a context.

    A trajectory is a function of the seed, its start, its controls and its number, which are
    counted from `first` on: of a long list, parts are made up alike. Controls say how long its path
    is to be and how long it is to take, one number for all or one for each, NaN where it is free;
    what comes is near that, for the family aims at it.
    """
    asked = zip(CONTROLS, (length_m, duration_s), strict=True)
    controls = {name: value for name, value in asked if value is not None}
    with ready_for(model, "generate") as able:
        check_controls(model, controls)
        if starts.is_pad_BT.shape[1] != 1:
            raise ValueError("generate begins at one point of each trajectory, not at several")
        if not 2 <= num_points <= model.config.max_points:
            most = model.config.max_points
            raise ValueError(f"num_points must be from 2 to {most}, not {num_points}")
        place_deg_NC = torch.cat([starts.lon_deg_BT, starts.lat_deg_BT], dim=1).double()
        wanted = {"controls": controls} if controls else {}
        found: Generated = able.generate(
            len(place_deg_NC), num_points, seed, place_deg_NC, first, **wanted
        )
    return found


def next_visit(model: Network, history: VisitBatch) -> NextVisit:
    """What comes after the last visit of each row: its region, its travel, its stay."""
    with ready_for(model, "next_visit") as able:
        return Quiet(able.next_visit(history))


def infill(
    model: Network,
    shown: VisitBatch,
    is_gap_BV: Tensor,
    started_us_B: Tensor,
    num_samples: int = 1,
    seed: int = 0,
    zone: str = "UTC",
) -> list[list[FilledGap]]:
    """Visits that may have been in the gaps of each row, drawn some times.

    A gap lies behind each visit that `is_gap_BV` names and ends with the next arrival; rows begin
    at `started_us_B` (microseconds since 1970 UTC), and their clocks are those of the zone.
    """
    with ready_for(model, "infill") as able:
        found: list[list[FilledGap]] = able.infill(
            shown, is_gap_BV, started_us_B, num_samples, seed, zone
        )
    return found


def generate(model: Network, controls: Controls, num: int, seed: int = 0) -> VisitBatch:
    """Sequences of visits that keep the controls, from weights and seed alone."""
    with ready_for(model, "generate") as able:
        found: VisitBatch = able.generate(controls, num, seed)
    return found


@dataclass(frozen=True)
class Quiet:
    """What is told of next visits, whose heads are asked without gradients."""

    told: NextVisit

    @property
    def log_region_NR(self) -> Tensor:
        with torch.inference_mode():
            return self.told.log_region_NR

    def travel(self, region_N: Tensor) -> DurationLaw:
        with torch.inference_mode():
            return self.told.travel(region_N)

    def stay(self, arrivals: Arrivals) -> DurationLaw:
        with torch.inference_mode():
            return self.told.stay(arrivals)


def embed(model: Model, context: Context) -> Tensor:
    """A vector (B, D) of each trajectory: its mean hidden state."""
    with ready_for(model, "embed") as able:
        found: Tensor = able.embed(context)
    return found


def score(model: Model, context: Context) -> Tensor:
    """Mean surprise (B) of a step given those before it, in nats of log seconds and metres.

    NaN where there is no step.
    """
    with ready_for(model, "score") as able:
        found: Tensor = able.score(context)
    return found


@contextmanager
def ready_for(model: Network, task: str) -> Iterator[Any]:
    """The model, without gradients and dropout, if its family serves a task."""
    check_task(model, task)
    with torch.inference_mode(), evaluating(model):
        yield model


def check_task(model: Network, task: str) -> None:
    """Refuse what the family of a model does not serve."""
    tasks = FAMILIES[model.family].tasks
    if task not in tasks:
        raise ValueError(f"{model.family} does not serve {task!r}; it serves: {', '.join(tasks)}")


def check_controls(model: Network, names: Collection[str]) -> None:
    """Refuse controls of made-up trajectories that the family of a model does not take."""
    known = getattr(model, "controls", ())
    if unknown := [name for name in CONTROLS if name in names and name not in known]:
        raise ValueError(f"{model.family} cannot be told {unknown[0]!r} of what it makes up")
