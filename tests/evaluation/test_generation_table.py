"""The table of generation: whom it praises and whom it blames, and that it is always the same."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers.city import city
from scipy.spatial import cKDTree

from model.baselines.generators import IndependentSteps, MarkovWalk, ResampledTrain, moved
from model.evaluation.generation.comparison import skill_over
from model.evaluation.generation.discriminator import (
    TreeScorer,
    discriminated,
    folds,
    folds_of_both,
    told_apart,
)
from model.evaluation.generation.distances import Ruler
from model.evaluation.generation.generation_table import (
    GENERATION_SCORES,
    Judge,
    Losses,
    RealTrips,
    generation_rows,
)
from model.evaluation.generation.made_up import generated_trips, starts_of
from model.evaluation.generation.point_discriminator import PointScorer, point_features
from model.evaluation.generation.trip_values import OF_PLACES, Steps, features
from model.evaluation.generation.validity import (
    is_on_sphere,
    is_ordered,
    nights_at_home,
    sound,
    soundness,
    too_fast,
)
from model.interface.answers import Generated
from model.interface.trips import NOBODY, Trips

TRAIN, TEST = city(0, 60, 1), city(1, 60, 1)
REAL = RealTrips(TRAIN, TEST, "Europe/Berlin", 40.0)
LIKENESS = ("w1_", "jsd_")
RULER = Ruler.fit(TRAIN, "Europe/Berlin")


@pytest.fixture(scope="module")
def copies() -> list[dict]:
    """The rows of a machine that copies train with a metre of noise."""
    losses = Losses(np.linspace(0, 1, len(TRAIN)), np.linspace(0.5, 1.5, len(TEST)))
    sample = moved(TRAIN, 1.0, np.random.default_rng(5))
    return generation_rows(sample, REAL, losses, num_resamples=20)


def from_starts(generator, real: Trips, seed: int = 0, num_points: int = 8) -> Trips:
    starts = starts_of(real, "Europe/Berlin")
    return generated_trips(generator.generate(starts, num_points, seed), starts, real.entity_R)


def whole(rows: list[dict]) -> dict[str, dict]:
    """The rows of as many trips as there are."""
    most = max(row["num_trips"] for row in rows)
    return {row["measure"]: row for row in rows if row["num_trips"] == most}


def test_a_copy_machine_wins_on_distances_and_loses_on_copying(copies):
    rows = whole(copies)
    of_trips = [r for name, r in rows.items() if name.startswith(LIKENESS) and "a_day" not in name]
    assert len(of_trips) == 16
    for row in of_trips:
        assert row["value"] == pytest.approx(row["floor"], rel=0.1, abs=0.01), row
    assert rows["discriminator_auc_of_trees"]["value"] == pytest.approx(0.5, abs=0.15)
    copied, told = rows["copied_share"], rows["membership_auc_by_sample"]
    assert copied["value"] == copied["ceiling"] == 1.0
    assert copied["floor"] < 0.1 < copied["low"]
    assert told["value"] > told["floor"] + 0.1
    assert told["low"] > 0.5


def test_the_table_is_of_all_trips_and_of_a_fourth_of_them(copies):
    table = pa.Table.from_pylist(copies, schema=GENERATION_SCORES)
    assert table.schema == GENERATION_SCORES
    keys = [(row["measure"], row["num_trips"]) for row in copies]
    assert len({*keys}) == len(keys)
    sizes = {size for name, size in keys if name == "jsd_density_500m"}
    assert sizes == {len(TEST), len(TEST) // 4}
    loss = whole(copies)["membership_auc_by_loss"]
    assert loss["value"] == pytest.approx(0.875, abs=0.01)
    assert loss["floor"] == pytest.approx(0.5, abs=0.2)
    for row in copies:
        assert row["low"] <= row["value"] <= row["high"] or math.isnan(row["value"]), row


def test_a_seed_tells_the_table():
    few = RealTrips(city(0, 11, 1), city(1, 11, 1), "UTC", 40.0, cells_m=(50_000.0,))
    sample = from_starts(MarkovWalk.fit(few.train), few.test)
    first, again = ([str(r) for r in generation_rows(sample, few, None, 1, 3)] for _ in range(2))
    assert first == again
    assert any("jsd_density_50km" in row for row in first)
    assert not any("2km" in row for row in first)


# Discriminator ----------------------------------------------------------------------------------


def auc(sample: Trips, real: Trips = TEST) -> float:
    return discriminated(sample, real, RULER, 0)["discriminator_auc_of_trees"].value()


def test_trees_that_read_no_times_are_not_misled_by_them():
    """Real trips a little faster than they were: their times give them away, and nothing else."""
    points = TEST.points
    start_us_N = points.instant_us_N[TEST.offset_R[:-1]][points.trajectory_N]
    instant_us_N = start_us_N + (points.instant_us_N - start_us_N) * 3 // 5
    found = discriminated(
        Trips(replace(points, instant_us_N=instant_us_N), TEST.entity_R), TEST, RULER, 0
    )
    assert found["discriminator_auc_of_trees"].value() > 0.8
    assert found["discriminator_auc_of_places"].value() == pytest.approx(0.5, abs=0.05)
    assert OF_PLACES < set(features(TEST, RULER.frame, "UTC"))


def test_nobody_tells_real_trips_from_real_ones():
    assert 0.35 < auc(TRAIN) < 0.65


@pytest.mark.parametrize("generator", [IndependentSteps.fit(TRAIN), MarkovWalk.fit(TRAIN)])
def test_what_is_made_up_badly_is_told(generator):
    assert auc(from_starts(generator, TEST)) > 0.95
    assert auc(ResampledTrain(TRAIN, noise_m=50.0).generate(len(TEST), 0)) > 0.95


def test_an_entity_is_in_one_fold():
    group_R = np.random.default_rng(0).integers(23, size=200)
    fold_R = folds(group_R, 5)
    assert {*fold_R.tolist()} == set(range(5))
    assert len({*zip(group_R.tolist(), fold_R.tolist(), strict=True)}) == len({*group_R.tolist()})


def test_an_entity_that_trees_have_seen_would_give_itself_away():
    """Each entity has a place of its own; trees that may see it know it again."""
    one, other = city(3, 8, 8), city(4, 8, 8)
    seen = (
        Trips(one.points, np.full(len(one), NOBODY)),
        Trips(other.points, np.full(len(other), NOBODY)),
    )
    assert auc(*seen) > auc(one, other) + 0.15


@pytest.mark.parametrize("scorer", [TreeScorer(RULER, 0), PointScorer(RULER.frame, 0, 2)])
def test_what_is_judged_is_not_learnt(scorer):
    """Other labels of a fold leave its own scores as they are, and change those of the other."""
    both, fold_R = TRAIN.followed_by(TEST), np.arange(len(TRAIN) + len(TEST)) % 2
    is_made_up_R = np.arange(len(both)) < len(TRAIN)
    plain = scorer(both, is_made_up_R, fold_R)
    changed = scorer(both, np.where(fold_R == 0, ~is_made_up_R, is_made_up_R), fold_R)
    np.testing.assert_array_equal(plain[fold_R == 0], changed[fold_R == 0])
    assert np.all(plain[fold_R == 1] != changed[fold_R == 1])


def test_a_transformer_tells_a_walk_by_its_points():
    scorer = PointScorer(RULER.frame, 0, num_steps=30)
    walks = from_starts(MarkovWalk.fit(TRAIN), TEST)
    made_up, real = (
        told_apart(one, TEST, "points", scorer, 2)["discriminator_auc_of_points"].value()
        for one in (walks, TRAIN)
    )
    assert made_up > 0.9
    assert 0.3 < real < 0.7


def test_points_that_are_read_keep_both_ends():
    feature_RTF, is_point_RT = point_features(TRAIN, RULER.frame)
    size_R = np.diff(TRAIN.offset_R)
    np.testing.assert_array_equal(is_point_RT.sum(1), np.minimum(size_R, 32))
    assert feature_RTF.isfinite().all()
    first = feature_RTF[:, 0]
    assert first[:, 2:].abs().max() == 0, "nothing came before a first point"


def test_one_entity_cannot_be_told():
    assert discriminated(city(0, 1), TEST, RULER, 0) == {}


# Validity ---------------------------------------------------------------------------------------


def test_impossible_trips_are_counted_and_left_out():
    points, offset_R = TRAIN.points, TRAIN.offset_R
    lat_deg_N, instant_us_N = points.lat_deg_N.copy(), points.instant_us_N.copy()
    lat_deg_N[offset_R[1] + 2], lat_deg_N[offset_R[2] + 1] = 90.5, np.nan
    instant_us_N[offset_R[5] + 3] = instant_us_N[offset_R[5] + 2]
    spoilt = Trips(replace(points, lat_deg_N=lat_deg_N, instant_us_N=instant_us_N), TRAIN.entity_R)
    found = {name: one.value() for name, one in soundness(spoilt).items()}
    assert found == {"off_sphere": 2 / len(TRAIN), "unordered": 1 / len(TRAIN)}
    assert len(sound(spoilt)) == len(TRAIN) - 3
    assert {one.value() for one in soundness(TRAIN).values()} == {0.0}
    rows = generation_rows(spoilt.chosen(np.array([1, 2, 5])), REAL, num_resamples=3)
    assert {row["measure"] for row in rows} == {"off_sphere", "unordered"}


def test_steps_above_the_limit_are_counted():
    trips = Trips.of(
        np.array([4]), np.arange(4) * 10_000_000, np.array([0, 0.001, 0.1, 0.1]), np.zeros(4)
    )
    assert too_fast(trips, 40.0)["too_fast"].value() == pytest.approx(1 / 3)
    assert too_fast(trips, 40_000.0)["too_fast"].value() == 0


def test_nights_are_spent_at_home():
    """One entity: nights in one cell twice and in another once; by day it is anywhere."""
    hour = np.array([1, 2, 12, 3, 13])
    lon_deg = np.array([0.001, 0.001, 0.5, 0.2, 0.9])
    trips = Trips.of(
        np.array([3, 2]), hour * 3_600_000_000, lon_deg, np.full(5, 0.001), np.array([7, 7])
    )
    ruler = replace(RULER, frame=replace(RULER.frame, lon_deg=0.0, lat_deg=0.0), zone="UTC")
    assert nights_at_home(trips, ruler)["nights_at_home"].value() == pytest.approx(2 / 3)
    of_nobody = replace(trips, entity_R=np.full(2, NOBODY))
    assert math.isnan(nights_at_home(of_nobody, ruler)["nights_at_home"].value())


# Generators -------------------------------------------------------------------------------------


def test_generators_follow_their_seeds():
    for make in (
        ResampledTrain(TRAIN).generate,
        ResampledTrain(TRAIN, 50.0).generate,
        lambda number, seed: from_starts(MarkovWalk.fit(TRAIN), TEST.drawn(number, 0), seed),
        lambda number, seed: from_starts(IndependentSteps.fit(TRAIN), TEST.drawn(number, 0), seed),
    ):
        first, again, other = (make(40, seed).points for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.lon_deg_N, again.lon_deg_N)
        assert first.lon_deg_N.tolist() != other.lon_deg_N.tolist()


def test_resampled_trips_are_those_of_train_and_noise_is_as_strong_as_told():
    plain, noisy = (ResampledTrain(TRAIN, noise_m).generate(50, 2) for noise_m in (0.0, 50.0))
    known = {part.tobytes() for part in np.split(TRAIN.points.lon_deg_N, TRAIN.offset_R[1:-1])}
    assert {p.tobytes() for p in np.split(plain.points.lon_deg_N, plain.offset_R[1:-1])} <= known
    frame = RULER.frame
    places = [frame.metres(one.points.lon_deg_N, one.points.lat_deg_N) for one in (plain, noisy)]
    off_m = np.subtract(*places)
    assert off_m.std(axis=1) == pytest.approx([50, 50], rel=0.1)
    np.testing.assert_array_equal(plain.points.instant_us_N, noisy.points.instant_us_N)


def test_a_markov_walk_goes_as_train_went():
    """Shares of its transitions are those of train, and no other is made."""
    walk = MarkovWalk.fit(TRAIN, cell_m=2_000.0)
    sample = from_starts(walk, TRAIN.chosen(np.arange(600) % len(TRAIN)))
    told, true = (transitions(trips, walk) for trips in (sample, TRAIN))
    assert set(told) <= set(true)
    often = [pair for pair, number in true.items() if number > 60]
    assert len(often) > 5
    for start, end in often:
        share = [
            table[start, end] / sum(number for (here, _), number in table.items() if here == start)
            for table in (told, true)
        ]
        assert share[0] == pytest.approx(share[1], abs=0.06)


def transitions(trips: Trips, walk: MarkovWalk) -> dict[tuple[int, int], int]:
    cells = walk.grid.cells(trips.points.lon_deg_N, trips.points.lat_deg_N).tolist()
    found: dict[tuple[int, int], int] = {}
    for n in np.flatnonzero(np.diff(trips.points.trajectory_N) == 0).tolist():
        pair = cells[n], cells[n + 1]
        found[pair] = found.get(pair, 0) + 1
    return found


def test_a_walk_ends_where_nobody_went_on():
    """Two cells; from the second one no trip of train goes on, and one trip is longer."""
    places = np.array([0.0, 0.1, 0.0, 0.0, 0.1]), np.zeros(5)
    train = Trips.of(np.array([2, 3]), np.arange(5) * 10**6, *places)
    walk = MarkovWalk.fit(train)
    sample = from_starts(walk, train.chosen(np.arange(50) % 2), num_points=3)
    ends = sample.points.lon_deg_N[sample.offset_R[1:] - 1]
    assert np.any(ends > 0.09)
    assert np.all(np.diff(sample.points.instant_us_N)[:2] == 10**6)  # the clock of the longer one
    with pytest.raises(ValueError, match="no trip of train has 4 points"):
        from_starts(walk, train, num_points=4)


def test_steps_are_drawn_whatever_came_before():
    """Each is one of train, from the start that was given on, and takes the time it took."""
    steps = IndependentSteps.fit(TRAIN)
    sample = from_starts(steps, TEST)
    found = Steps.of(sample)
    told = np.stack([found.east_m_S, found.north_m_S, found.time_s_S], axis=1)
    away = cKDTree(steps.step_NF.numpy()).query(told)[0]
    assert away.max() < 0.01
    first = sample.points.at(sample.offset_R[:-1])
    np.testing.assert_array_equal(first.lon_deg_N, TEST.points.lon_deg_N[TEST.offset_R[:-1]])
    assert abs(np.corrcoef(told[:-1, 0], told[1:, 0])[0, 1]) < 0.1


# Starts -----------------------------------------------------------------------------------------


def test_an_entity_of_both_sets_is_in_one_fold():
    """Else whoever has read a real trip would judge what is made up from its start."""
    sample = from_starts(IndependentSteps.fit(TRAIN), TEST).chosen(np.arange(40, len(TEST)))
    fold_A, fold_B = folds_of_both(sample, TEST, 5)
    pairs = {*zip(sample.entity_R.tolist(), fold_A.tolist(), strict=True)}
    assert pairs <= {*zip(TEST.entity_R.tolist(), fold_B.tolist(), strict=True)}
    alone, _ = folds_of_both(Trips(sample.points, np.full(len(sample), NOBODY)), TEST, 5)
    assert np.bincount(alone).min() >= len(sample) // 5


def test_whoever_is_given_the_starts_gains_nothing_by_them():
    """Real trips beside themselves: trees that have read them would call both real, or neither."""
    assert auc(TEST) == pytest.approx(0.5, abs=0.05)


def test_a_skill_is_told_by_the_same_resamples():
    """Of one and the same sample it is zero, and so is its interval."""
    judge = Judge(REAL, num_resamples=20)
    bad, worse = (
        judge.measured(one, len(TEST) // 4)["discriminator_auc_of_trees"]
        for one in (from_starts(IndependentSteps.fit(TRAIN), TEST), moved_far(TEST))
    )
    assert skill_over(bad, bad, 0, 20) == (0.0, 0.0, 0.0)
    skill, low, high = skill_over(bad, worse, 0, 20)
    assert skill == pytest.approx(1 - bad.value() / worse.value())
    assert low <= skill <= high


def moved_far(trips: Trips) -> Trips:
    points = trips.points
    return replace(trips, points=replace(points, lat_deg_N=points.lat_deg_N + 20.0))


def test_what_is_no_number_is_no_trip():
    """A time that is none would be any instant, and a place that is none is off the sphere."""
    starts = starts_of(TEST.drawn(3, 0), "UTC")
    step_T = torch.arange(4.0, dtype=torch.float64).expand(3, 4).clone()
    found = Generated(step_T.clone(), step_T.clone(), step_T.clone())
    found.time_s_NT[0, 2], found.lon_deg_NT[1, 1] = torch.nan, torch.inf
    trips = generated_trips(found, starts, np.arange(3))
    assert is_ordered(trips).tolist() == [False, True, True]
    assert is_on_sphere(trips).tolist() == [True, False, True]
