"""Copying of train: nearest trips are those of scipy, copies are found out, losses tell members."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.city import city
from scipy.spatial.distance import directed_hausdorff
from scipy.stats import mannwhitneyu

from model.baselines.generators import ResampledTrain
from model.earth.frame import Frame
from model.evaluation.generation.copying import (
    NUM_PLACES,
    Outlines,
    copied,
    copied_share,
    duplicates,
    membership,
    told_members,
)
from model.evaluation.generation.distances import Ruler
from model.interface.trips import Trips

TRAIN, TEST = city(0, 20), city(1, 12)


@pytest.fixture(scope="module")
def past() -> Outlines:
    return Outlines.of(TRAIN)


def on_a_plane(trips: Trips, frame: Frame) -> list[np.ndarray]:
    metres = np.stack(frame.metres(trips.points.lon_deg_N, trips.points.lat_deg_N), axis=1)
    return np.split(metres, trips.offset_R[1:-1])


def thinned(place_m_TC: np.ndarray) -> np.ndarray:
    last = len(place_m_TC) - 1
    kept = min(len(place_m_TC), NUM_PLACES)
    return place_m_TC[np.floor(np.arange(kept) * last / (kept - 1) + 0.5).astype(int)]


def test_nearest_trips_are_those_of_scipy(past):
    frame = Frame.around(TRAIN.points.lon_deg_N, TRAIN.points.lat_deg_N)
    some = TEST.chosen(np.arange(0, len(TEST), 8))
    known, asked = ([thinned(one) for one in on_a_plane(trips, frame)] for trips in (TRAIN, some))
    expected = [
        min(max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0]) for b in known)
        for a in asked
    ]
    # A plane bends a distance of a city by less than a millionth.
    np.testing.assert_allclose(past.nearest_m(some), expected, rtol=1e-5)


def test_a_trip_of_train_is_nowhere_but_there(past):
    assert np.all(past.nearest_m(TRAIN) == 0)
    noisy = ResampledTrain(TRAIN, noise_m=1.0).generate(50, 0)
    assert 0 < past.nearest_m(noisy).max() < 6


def test_nearest_trips_do_not_depend_on_the_company(past):
    whole = past.nearest_m(TEST)
    alone = np.concatenate([past.nearest_m(TEST.chosen(np.array([trip]))) for trip in range(9)])
    np.testing.assert_array_equal(whole[:9], alone)


@pytest.mark.parametrize("lon_deg", [13.4, 179.99])
def test_far_away_and_over_the_date_line_it_is_the_same(lon_deg):
    one, other = (city(seed, 3, lon_deg=lon_deg, lat_deg=0.0) for seed in (2, 3))
    moved = [city(seed, 3, lon_deg=100.0, lat_deg=0.0) for seed in (2, 3)]
    expected = Outlines.of(moved[0]).nearest_m(moved[1])
    np.testing.assert_allclose(Outlines.of(one).nearest_m(other), expected, atol=1e-3)


def test_copies_are_told_and_real_trips_are_not(past):
    copies = ResampledTrain(TRAIN, noise_m=1.0).generate(len(TEST), 0)
    assert copied(copies, TEST, past)["copied_share"].value() == 1.0
    assert copied(TEST, TEST, past)["copied_share"].value() <= 0.01
    assert copied(city(5, 12), TEST, past)["copied_share"].value() < 0.1


def test_what_is_near_is_nearer_than_all_but_one_in_a_hundred():
    test_m_B = np.random.default_rng(0).permutation(1_000).astype(float)
    sample_m_A = np.array([0.0, 5.0, 8.9, 9.0, 500.0])
    share = copied_share(sample_m_A, test_m_B)
    limit_m = np.quantile(test_m_B, 0.01, method="inverted_cdf")
    assert limit_m == 9
    assert share(np.ones(5), np.ones(1_000)) == (sample_m_A < limit_m).mean() == 0.6


def test_a_sample_of_copies_tells_the_members():
    half = np.arange(len(TRAIN)) % 2 == 0
    members, others = (TRAIN.chosen(np.flatnonzero(is_in)) for is_in in (half, ~half))
    copies = ResampledTrain(members, noise_m=1.0).generate(400, 0)
    assert told_members(copies, members, others)["membership_auc_by_sample"].value() > 0.95
    unrelated = told_members(city(9, 20), members, others)["membership_auc_by_sample"].value()
    assert unrelated == pytest.approx(0.5, abs=0.1)


def test_losses_tell_members_as_the_u_statistic_does():
    generator = np.random.default_rng(3)
    loss_A, loss_B = (
        np.round(generator.normal(mean, 1, n), 1) for mean, n in ((0, 120), (0.5, 72))
    )
    found = membership(loss_A, loss_B, TRAIN, TEST)["membership_auc_by_loss"]
    pairs = len(loss_A) * len(loss_B)
    assert found.value() == pytest.approx(mannwhitneyu(-loss_A, -loss_B).statistic / pairs)
    low, high = found.interval(0)
    assert 0.5 < low < found.value() < high < 1


def test_duplicates_are_counted_once_each():
    ruler = Ruler.fit(TRAIN, "UTC")
    twice = TRAIN.chosen(np.array([0, 1, 0, 2, 0]))
    found = {name: one.value() for name, one in duplicates(twice, ruler).items()}
    assert found == {"duplicates_1m": 0.4, "duplicates_500m": 0.4, "duplicates_2km": 0.4}
    few_metres_off = ResampledTrain(twice, noise_m=10.0).generate(40, 0)
    assert duplicates(few_metres_off, ruler)["duplicates_1m"].value() == 0
