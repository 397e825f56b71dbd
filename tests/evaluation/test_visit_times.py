"""Laws of travels and stays: whole densities, what is censored, and the regression as a ridge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.visit_worlds import batch_of_visits, places_of

from model.baselines.visit_history import Origins, PastVisits
from model.baselines.visit_regression import (
    EFFECT_SPREAD,
    regression_times,
    travel_features,
)
from model.baselines.visit_times import Kernels, Lasting, region_hour_times
from model.baselines.visit_trees import tree_times
from model.features.places import NUM_SPECIAL, Special
from model.interface.next_visit import Arrivals
from model.layers.durations import MIN_DURATION_S

EDGE_S = places_of().min_stay_s


def walks(seed, num_rows=60, num_visits=12, num_regions=4):
    """Regions, travels of ten minutes and more, some at once, and stays of hours."""
    generator = np.random.default_rng(seed)
    shape = (num_rows, num_visits)
    region_BV = generator.integers(0, num_regions, shape)
    travel_s_BV = 600 * (1 + region_BV) * np.exp(0.4 * generator.standard_normal(shape))
    travel_s_BV[generator.random(shape) < 0.2] = 0
    travel_s_BV[:, 0] = 0
    stay_s_BV = 3_600 * (1 + region_BV) * np.exp(0.6 * generator.standard_normal(shape))
    return region_BV, travel_s_BV, np.maximum(stay_s_BV, EDGE_S)


def past_of(*arrays, **columns) -> PastVisits:
    return PastVisits.of([replace(batch_of_visits(*arrays), **columns)], places_of())


def asked(past, region=0):
    """The origins of train's targets, and arrivals at a region."""
    region_N = torch.full_like(past.asked.region_N, region + NUM_SPECIAL)
    return past.origins, region_N, replace(Arrivals(**arrival_columns(past)), region_N=region_N)


def arrival_columns(past):
    names = ("region_N", "travel_s_N", "arrived_s_N", "calendar_NK", "until_s_N")
    return {name: getattr(past.asked, name) for name in names}


def mass(density, least_s):
    """Of one row of a density, the share at zero and the integral above, in log seconds."""
    log_s_P = torch.linspace(np.log(least_s), 30, 40_001, dtype=torch.float64)
    log_P = density.log_density(log_s_P.exp()) + log_s_P
    return float(density.log_zero[0].exp() + torch.trapezoid(log_P.exp(), log_s_P))


def boosted_times(past):
    return tree_times(past, regression_times(past))


@pytest.mark.parametrize("fitted", [region_hour_times, regression_times, boosted_times])
def test_all_mass_lies_at_zero_and_above_the_edge(fitted):
    past = past_of(*walks(0))
    law = fitted(past)
    origins, region_N, arrivals = (
        value.at(slice(1)) if hasattr(value, "at") else value[:1] for value in asked(past)
    )
    travel, stay = law.travel(origins, region_N), law.stay(origins, arrivals)
    assert mass(travel, 1e-3) == pytest.approx(1, abs=1e-4)
    assert mass(stay, EDGE_S) == pytest.approx(1, abs=1e-4)
    assert float(stay.log_survival(torch.tensor([EDGE_S]))) == pytest.approx(0, abs=1e-9)


def test_no_other_weights_of_kernels_are_likelier():
    """Where the likelihood is greatest, no kernel explains train better than the mixture does."""
    past = past_of(*walks(1))
    for lasting, found in zip(
        (Lasting.travels(past), Lasting.stays(past)),
        (region_hour_times(past).travels, region_hour_times(past).stays),
        strict=True,
    ):
        likelihood_NK = Kernels.over(lasting).likelihood(lasting)
        told_N1 = (likelihood_NK * found.weight_K).sum(-1, keepdim=True)
        assert float((likelihood_NK / told_N1).mean(0).max()) < 1.02
        assert float(found.weight_K.sum()) == pytest.approx(1)


def test_a_region_has_times_of_its_own_and_an_unseen_one_those_of_train():
    past = past_of(*walks(2))
    law = region_hour_times(past)
    middles_s = {}
    for region in (0, 3, 9):
        origins, region_N, arrivals = asked(past, region)
        middles_s[region] = (
            float(law.travel(origins, region_N).quantile(0.6).median()),
            float(law.stay(origins, arrivals).quantile(0.5).median()),
        )
    assert middles_s[0] == pytest.approx((600, 3_600), rel=0.15)
    assert middles_s[3] == pytest.approx((2_400, 14_400), rel=0.15)
    origins, region_N, arrivals = asked(past, 9)
    every = law.marginal
    for told, of_train in (
        (law.travel(origins, region_N), every.travel(origins, region_N)),
        (law.stay(origins, arrivals), every.stay(origins, arrivals)),
    ):
        torch.testing.assert_close(told.log_weight_M, of_train.log_weight_M)
        torch.testing.assert_close(told.log_zero, of_train.log_zero)


def test_the_share_at_zero_is_that_of_train():
    past = past_of(*walks(3))
    is_zero_N = past.asked.travel_s_N < MIN_DURATION_S
    share = float(is_zero_N.double().mean())
    for law in (region_hour_times(past).marginal, regression_times(past)):
        told_N = law.travel(past.origins, past.asked.region_N).log_zero.exp()
        assert float(told_N.mean()) == pytest.approx(share, rel=0.05)


@pytest.mark.parametrize("fitted", [region_hour_times, regression_times])
def test_a_stay_whose_end_was_not_seen_counts_as_at_least_so_long(fitted):
    generator = np.random.default_rng(44)
    region_BV, travel_s_BV, _ = walks(4, num_regions=1)
    stay_s_BV = 36_000 * np.exp(0.6 * generator.standard_normal(region_BV.shape))
    end_s_BV = 72_000 * generator.random(region_BV.shape) + EDGE_S
    seen_s_BV = np.maximum(np.minimum(stay_s_BV, end_s_BV), EDGE_S)
    is_censored_BV = torch.from_numpy(stay_s_BV > end_s_BV)
    arrays = (region_BV, travel_s_BV, seen_s_BV)
    censored, taken = past_of(*arrays, is_censored_BV=is_censored_BV), past_of(*arrays)
    for past, is_right in ((censored, True), (taken, False)):
        origins, _, arrivals = asked(past)
        middle_s = float(fitted(past).stay(origins, arrivals).quantile(0.5).median())
        assert (abs(middle_s / 36_000 - 1) < 0.08) == is_right


def test_a_travel_that_is_not_known_counts_for_nothing():
    region_BV, travel_s_BV, stay_s_BV = walks(5)
    is_censored_BV = torch.zeros(region_BV.shape, dtype=torch.bool)
    is_censored_BV[:, 4] = True
    longer_s_BV = travel_s_BV.copy()
    longer_s_BV[:, 5] += 1e5
    laws = [
        region_hour_times(past_of(region_BV, way, stay_s_BV, is_censored_BV=is_censored_BV)).travels
        for way in (travel_s_BV, longer_s_BV)
    ]
    torch.testing.assert_close(laws[0].weight_K, laws[1].weight_K)


def test_the_regression_is_the_ridge_in_closed_form():
    region_BV, travel_s_BV, stay_s_BV = walks(6, num_rows=20)
    past = past_of(region_BV, np.where(travel_s_BV > 0, travel_s_BV, 300.0), stay_s_BV)
    region_N = past.asked.region_N
    law = regression_times(past).travels
    scale = float(law.log_scale.exp()) + 1e-3
    feature_NF = travel_features(past.origins, region_N, past.places)
    is_region_NR = torch.nn.functional.one_hot(region_N, past.places.num_ids).double()
    design_NP = torch.cat([feature_NF, is_region_NR], dim=1)
    prior_P = torch.ones(design_NP.shape[1], dtype=torch.float64)
    prior_P[0] = 0.0
    prior_P[feature_NF.shape[1] :] = EFFECT_SPREAD**-2
    matrix_PP = design_NP.T @ design_NP / scale**2 + torch.diag(prior_P)
    log_s_N = past.asked.travel_s_N.log()
    expected_P = torch.linalg.solve(matrix_PP, design_NP.T @ log_s_N / scale**2)
    found_P = torch.cat([law.middle.weight_F, law.middle.effect_R])
    torch.testing.assert_close(found_P, expected_P, rtol=1e-3, atol=1e-3)
    error_N = log_s_N - design_NP @ expected_P
    square = (float(error_N.square().sum()) + 1) / (len(error_N) + 1)
    assert scale == pytest.approx(square**0.5, rel=5e-3)


@pytest.mark.parametrize("fitted", [region_hour_times, regression_times, boosted_times])
def test_few_visits_make_no_density_sharp(fitted):
    """Three targets: what they have not seen is a surprise, and not out of the world."""
    law = fitted(past_of(*walks(8, num_rows=1, num_visits=4)))
    past = past_of(*walks(9))
    origins, asked = past.origins, past.asked
    for density, seconds_N in (
        (law.travel(origins, asked.region_N), asked.travel_s_N),
        (law.stay(origins, asked), asked.duration_s_N),
    ):
        assert 0 < -float(density.log_density(seconds_N).mean()) < 15


def test_an_unknown_region_lies_at_a_typical_distance():
    past = past_of(*walks(7, num_rows=2))
    unknown_N = torch.full_like(past.asked.region_N, Special.UNKNOWN)
    away_m_N = past.origins.distance_m(unknown_N, past.places)
    assert set(away_m_N.tolist()) == {past.places.place_scale_m}
    # Region 0 and 1 lie 2 km apart.
    there = Origins(*(value[:1] for value in past.origins.columns().values()))
    there = replace(there, east_m_N=torch.tensor([-3_000.0]), north_m_N=torch.tensor([-3_000.0]))
    assert float(there.distance_m(torch.tensor([NUM_SPECIAL + 1]), past.places)) == 2_000.0
    assert there.distances_m(past.places).shape == (1, past.places.num_ids)
