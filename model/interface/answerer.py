"""Answerer: whoever can be asked about trajectories, a trained model or a baseline alike.

An answerer has a method for each question that it serves, and only for those:

- `forecast(context, num_horizon, target_time_s_BH)`: the points that follow each context, at the
  target times, or at times of its own where these are None;
- `recover(partial)`: the points with what is hidden filled in;
- `travel_time(partial)`: seconds from the first point to the last;
- `generate(starts, num_points, seed)`: a trajectory made up from each start, which is the one point
  of a context; steps and times are the generator's, and its draws follow the seed and the row.

Whoever tells a spread has further methods, and is scored on it:

- `sampled_forecast(context, num_horizon, target_time_s_BH, num_samples, seed)`: the forecast with
  samples and the radii that they fill;
- `duration_density(partial)`: the density of what `travel_time` tells.

Shapes: B rows, H points of the horizon.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from .answers import Durations, Forecast, Generated, Recovered
from .contexts import Context, Partial


class Answerer(Protocol):
    """What tables need to know of one; `tasks` are the questions that it serves."""

    @property
    def name(self) -> str: ...

    @property
    def is_baseline(self) -> bool: ...

    @property
    def tasks(self) -> tuple[str, ...]: ...


class Forecaster(Answerer, Protocol):
    def forecast(
        self, context: Context, num_horizon: int, target_time_s_BH: Tensor | None
    ) -> Forecast: ...


class Recoverer(Answerer, Protocol):
    def recover(self, partial: Partial) -> Recovered: ...


class TravelTimer(Answerer, Protocol):
    def travel_time(self, partial: Partial) -> Durations: ...


class Generator(Answerer, Protocol):
    def generate(self, starts: Context, num_points: int, seed: int) -> Generated: ...


@runtime_checkable
class Sampler(Forecaster, Protocol):
    def sampled_forecast(
        self,
        context: Context,
        num_horizon: int,
        target_time_s_BH: Tensor | None,
        num_samples: int,
        seed: int,
    ) -> Forecast: ...


class DurationDensity(Protocol):
    """A density of the seconds (B) from the first point of each row to its last."""

    def quantile(self, share: float) -> Tensor:
        """The seconds (B) with a share of the mass below them."""
        ...

    def log_density(self, seconds_B: Tensor) -> Tensor:
        """In nats, of seconds."""
        ...


def max_points_of(answerer: Answerer) -> int:
    """The most points of a path that one reads; the ends alone where it does not say."""
    return int(getattr(answerer, "max_points", 2))
