"""Visit regression: log-normal times around a line in what is known, with an effect of each region.

The logarithm of a travel is linear in the logarithm of the distance, in waves of the hour of the
week at which it begins, and has an effect of the region where it leads. Slopes and effects are
drawn to none by Gaussian priors. Whether it takes any time is told by the same features. That of a
stay is linear in the logarithms of the distance and of the travel, in waves of the hour of the
arrival, and has an effect of the region.

All is fitted at once by maximum likelihood of the very density that is told: whole above the
shortest stay, and by its survival where the end of a stay was not seen.

Shapes: N visits, F features, R ids of the vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..earth.columns import Columns
from ..features.places import Places
from ..interface.next_visit import Arrivals
from ..interface.visit_batch import hour_of_week
from ..layers.durations import MIN_DURATION_S, MIN_LOG_SCALE, DurationMixture
from .visit_history import HOURS_OF_WEEK, Origins, PastVisits

EFFECT_SPREAD, ZERO_SPREAD = 0.5, 3.0  # priors: of effects of regions, of weights of no time at all
NEAR_M, SOON_S = 100.0, 600.0  # added before logarithms
TURNS_A_WEEK = (1, 7, 14)
ROUNDS = 200
MOST_VISITS = 100_000  # of train, evenly spread


@dataclass(frozen=True)
class Line(Columns):
    """A line in features, with an effect of each region."""

    weight_F: Tensor
    effect_R: Tensor

    @classmethod
    def zero(cls, num_features: int, num_ids: int) -> Line:
        weight_F, effect_R = (
            torch.zeros(size, dtype=torch.float64) for size in (num_features, num_ids)
        )
        return cls(weight_F, effect_R)

    def at_features(self, feature_NF: Tensor, region_N: Tensor) -> Tensor:
        return (feature_NF * self.weight_F).sum(-1) + self.effect_R[region_N]


@dataclass(frozen=True)
class LogNormal:
    """The density of travels or of stays."""

    middle: Line
    zero: Line | None  # the logit of no time at all
    log_scale: Tensor
    edge_s: float = 0.0

    def told(self, feature_NF: Tensor, region_N: Tensor) -> DurationMixture:
        log_mean_N = self.middle.at_features(feature_NF, region_N)
        log_zero_N = torch.full_like(log_mean_N, -torch.inf)
        if self.zero is not None:
            log_zero_N = functional.logsigmoid(self.zero.at_features(feature_NF, region_N))
        scale = MIN_LOG_SCALE + self.log_scale.exp()
        return DurationMixture(
            log_zero=log_zero_N,
            log_weight_M=torch.zeros_like(log_mean_N).unsqueeze(-1),
            log_mean_M=log_mean_N.unsqueeze(-1),
            log_scale_M=scale.expand_as(log_mean_N).unsqueeze(-1),
            edge_s=self.edge_s,
        )


@dataclass(frozen=True)
class RegressionTimes:
    """The law of both times."""

    places: Places
    travels: LogNormal
    stays: LogNormal

    def travel(self, origins: Origins, region_N: Tensor) -> DurationMixture:
        return self.travels.told(travel_features(origins, region_N, self.places), region_N)

    def stay(self, origins: Origins, arrivals: Arrivals) -> DurationMixture:
        features_NF = stay_features(origins, arrivals, self.places)
        return self.stays.told(features_NF, arrivals.region_N)


def travel_features(origins: Origins, region_N: Tensor, places: Places) -> Tensor:
    away_N = torch.log1p(origins.distance_m(region_N, places) / NEAR_M)
    return torch.stack([torch.ones_like(away_N), away_N, *_waves(origins.hour_N)], dim=-1)


def stay_features(origins: Origins, arrivals: Arrivals, places: Places) -> Tensor:
    away_N = torch.log1p(origins.distance_m(arrivals.region_N, places) / NEAR_M)
    way_N = torch.log1p(arrivals.travel_s_N.clamp(min=0) / SOON_S)
    waves = _waves(hour_of_week(arrivals.calendar_NK))
    return torch.stack([torch.ones_like(away_N), away_N, way_N, *waves], dim=-1)


def _waves(hour_N: Tensor) -> list[Tensor]:
    turn_N = 2 * math.pi * hour_N.double() / HOURS_OF_WEEK
    return [wave(turns * turn_N) for turns in TURNS_A_WEEK for wave in (torch.sin, torch.cos)]


# Fitting ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen(Columns):
    """What train saw: features, regions, how long it lasted, or at least lasted."""

    feature_NF: Tensor
    region_N: Tensor
    seconds_N: Tensor
    is_censored_N: Tensor

    def surprise(self, law: LogNormal) -> Tensor:
        density = law.told(self.feature_NF, self.region_N)
        log_N = torch.where(
            self.is_censored_N,
            density.log_survival(self.seconds_N),
            density.log_density(self.seconds_N),
        )
        return -log_N.sum()


def regression_times(past: PastVisits) -> RegressionTimes:
    past = past.thinned(MOST_VISITS)
    asked, origins, places = past.asked, past.origins, past.places
    known, never_N = asked.is_travel_known_N, torch.zeros_like(asked.is_censored_N)
    travel_NF = travel_features(origins, asked.region_N, places)
    stay_NF = stay_features(origins, asked, places)
    travels = Seen(travel_NF, asked.region_N, asked.travel_s_N, never_N).at(known)
    stays = Seen(stay_NF, asked.region_N, past.stay_s_N, asked.is_censored_N)
    return RegressionTimes(
        places,
        _fitted(_beginning(travels, places.num_ids, has_zero=True), travels),
        _fitted(_beginning(stays, places.num_ids, places.min_stay_s), stays),
    )


def _beginning(seen: Seen, num_ids: int, edge_s: float = 0.0, has_zero: bool = False) -> LogNormal:
    """The law without any features, where the fit begins."""
    num_features = seen.feature_NF.shape[1]
    log_s_N = seen.seconds_N[seen.seconds_N >= MIN_DURATION_S].log()
    middle, zero = (Line.zero(num_features, num_ids) for _ in range(2))
    if len(log_s_N):
        middle.weight_F[0] = log_s_N.mean()
    log_scale = torch.zeros((), dtype=torch.float64)
    return LogNormal(middle, zero if has_zero else None, log_scale, edge_s)


def _fitted(law: LogNormal, seen: Seen) -> LogNormal:
    """The law with the least surprise and the least remote numbers; its own tensors are moved."""
    lines = [law.middle] if law.zero is None else [law.middle, law.zero]
    numbers = [law.log_scale, *(part for line in lines for part in line.columns().values())]
    for number in numbers:
        number.requires_grad_()
    optimiser = torch.optim.LBFGS(numbers, max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def cost() -> Tensor:
        optimiser.zero_grad()
        total = (seen.surprise(law) + _remoteness(law)) / max(len(seen.region_N), 1)
        total.backward()
        return total

    optimiser.step(cost)
    for number in numbers:
        number.requires_grad_(False)
    return law


def _remoteness(law: LogNormal) -> Tensor:
    """What the priors cost; that of the scale is one visit more, which misses by a factor of e."""
    cost = law.log_scale + (-2 * law.log_scale).exp() / 2
    cost = cost + law.middle.weight_F[1:].square().sum() / 2
    cost = cost + (law.middle.effect_R / EFFECT_SPREAD).square().sum() / 2
    if law.zero is not None:
        cost = cost + (law.zero.effect_R / EFFECT_SPREAD).square().sum() / 2
        cost = cost + (law.zero.weight_F / ZERO_SPREAD).square().sum() / 2
    return cost
