"""The generator: the same however it is drawn, all distinct, plausible, and true to its truth."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from helpers.places import PROJECT
from helpers.process_floors import Ar1Floor, IntervalFloor
from helpers.strategies import latitudes, longitudes
from hypothesis import given, settings
from hypothesis import strategies as st

from model.earth.geometry import haversine_m, step_between
from model.synthetic import people, vehicles
from model.synthetic.world import CHAIN, KINDS, Trajectory, World, trajectories, trajectory

FASTEST_MPS = {"vehicles": vehicles.MAX_SPEED_MPS, "people": people.MAX_SPEED_MPS}
INDEXES = st.integers(0, 10**7)


def digest(made: Trajectory) -> str:
    """All that a trajectory says but its name."""
    found = hashlib.sha256()
    for item in fields(Trajectory):
        value = getattr(made, item.name)
        if item.name != "entity_id":
            found.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return found.hexdigest()


def distances_m(lon_deg: np.ndarray, lat_deg: np.ndarray) -> np.ndarray:
    lon, lat = torch.tensor(lon_deg), torch.tensor(lat_deg)
    return haversine_m(lon[:-1], lat[:-1], lon[1:], lat[1:]).numpy()


def intervals_s(made: Trajectory) -> np.ndarray:
    return np.diff(made.tracked_us_T) / 1e6


# The same, however it is drawn.


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_and_order_change_nothing(kind):
    world = World(kind=kind, num_points=40)
    whole = [digest(made) for made in trajectories(world, 0, 30)]
    parts = [
        digest(made)
        for start, stop in ((0, 1), (1, 7), (7, 30))
        for made in trajectories(world, start, stop)
    ]
    backwards = [digest(trajectory(world, index)) for index in reversed(range(30))]
    assert whole == parts == backwards[::-1]


def test_another_process_draws_the_same():
    code = (
        "import hashlib\n"
        "from model.synthetic.world import KINDS, World, trajectory\n"
        "made = [trajectory(World(kind=kind, num_points=40), 5) for kind in KINDS]\n"
        "print(*[hashlib.sha256(one.lon_deg_T.tobytes()).hexdigest() for one in made])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    made = [trajectory(World(kind=kind, num_points=40), 5) for kind in KINDS]
    assert done.stdout.split() == [hashlib.sha256(one.lon_deg_T).hexdigest() for one in made]


def test_no_global_state_is_read_or_changed():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = digest(trajectory(World(), 4))
    np.random.seed(2)  # noqa: NPY002
    assert digest(trajectory(World(), 4)) == first
    np.random.seed(1)  # noqa: NPY002
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_seeds_and_kinds_differ():
    worlds = [World(kind=kind, seed=seed, num_points=20) for kind in KINDS for seed in (0, 1)]
    assert len({trajectory(world, 0).lon_deg_T.tobytes() for world in worlds}) == len(worlds)


# Distinct.


def num_distinct(world: World, num: int) -> tuple[int, int]:
    """Different reported tracks, and different true paths apart from time."""
    seen, true = set(), set()
    for made in trajectories(world, 0, num):
        seen.add(hashlib.md5(made.lon_deg_T.tobytes() + made.lat_deg_T.tobytes()).digest())
        path = made.true_lon_deg_T.tobytes() + made.true_lat_deg_T.tobytes()
        true.add(hashlib.md5(path).digest())
    return len(seen), len(true)


@pytest.mark.parametrize("kind", KINDS)
def test_all_are_distinct(kind):
    assert num_distinct(World(kind=kind, num_points=30), 2_000) == (2_000, 2_000)


def test_a_short_cycle_of_seeds_would_be_seen(monkeypatch):
    whole = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: whole([*seed[:2], seed[2] % 110]))
    assert num_distinct(World(num_points=30), 300) == (110, 110)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_are_a_hundred_thousand(kind):
    assert num_distinct(World(kind=kind, num_points=50), 100_000) == (100_000, 100_000)


# Plausible, anywhere.


@pytest.mark.parametrize("kind", FASTEST_MPS)
@given(longitudes(), latitudes(), INDEXES)
@settings(max_examples=25)
def test_nothing_moves_faster_than_it_can_anywhere(kind, lon_deg, lat_deg, index):
    world = World(kind=kind, num_points=120, lon_deg=lon_deg, lat_deg=lat_deg, anomaly_share=0.5)
    made = trajectory(world, index)
    # A map of the city in azimuth and distance stretches it by less than one in 10,000.
    reach_m = FASTEST_MPS[kind] * intervals_s(made) * 1.0001 + 0.01
    assert (distances_m(made.true_lon_deg_T, made.true_lat_deg_T) <= reach_m).all()
    for lon, lat in ((made.lon_deg_T, made.lat_deg_T), (made.true_lon_deg_T, made.true_lat_deg_T)):
        assert ((lon >= -180) & (lon < 180)).all()
        assert (np.abs(lat) <= 90).all()
    assert (np.diff(made.tracked_us_T) >= 999_999).all()


@pytest.mark.parametrize("kind", KINDS)
@given(longitudes(), INDEXES)
@settings(max_examples=10)
def test_another_meridian_is_the_same_world(kind, lon_deg, index):
    here = trajectory(World(kind=kind, num_points=60, lon_deg=0.0, lat_deg=40.0), index)
    there = trajectory(World(kind=kind, num_points=60, lon_deg=lon_deg, lat_deg=40.0), index)
    turn = (there.lon_deg_T - here.lon_deg_T - lon_deg + 180) % 360 - 180
    assert turn == pytest.approx(0, abs=1e-9)
    assert there.lat_deg_T == pytest.approx(here.lat_deg_T, abs=1e-12)
    assert (there.tracked_us_T == here.tracked_us_T).all()


def test_what_a_receiver_reports_would_break_the_bound():
    made = trajectory(World(outlier_share=0.05), 0)
    reach_m = FASTEST_MPS["vehicles"] * intervals_s(made) * 1.0001 + 0.01
    assert (distances_m(made.lon_deg_T, made.lat_deg_T) > reach_m).any()


def test_a_world_on_the_date_line_lies_on_both_sides_of_it():
    made = list(trajectories(World(lon_deg=180.0, lat_deg=-17.0), 0, 20))
    lon = np.concatenate([one.lon_deg_T for one in made])
    assert lon.min() < -179.9
    assert lon.max() > 179.9


@given(INDEXES)
@settings(max_examples=20)
def test_a_vehicle_keeps_to_its_limits(index):
    generator = np.random.default_rng(index)
    elapsed = np.arange(0.0, 900.0, 0.25)
    path = vehicles.drive(generator, elapsed, is_unusual=True)
    place, is_stop = path.place_TC, path.mode_T == 1
    speed = np.hypot(*np.diff(place, axis=0).T) / 0.25
    assert speed.max() <= vehicles.MAX_SPEED_MPS + 1e-9
    on_street = np.isclose(place % vehicles.BLOCK_M, 0, atol=1e-6)
    on_street |= np.isclose(place % vehicles.BLOCK_M, vehicles.BLOCK_M, atol=1e-6)
    assert on_street.any(axis=1).all()
    assert speed[is_stop[:-1] & is_stop[1:]].max(initial=0.0) < 1e-9
    # On a straight piece the change of speed is bounded; a corner hides part of a step's length.
    heading = np.arctan2(*np.diff(place, axis=0).T)
    is_straight = (speed[1:] > 0) & (speed[:-1] > 0) & (np.abs(np.diff(heading)) < 1e-6)
    change = np.abs(np.diff(speed))[is_straight] / 0.25
    assert change.max() <= vehicles.ACCELERATION_MPS2 + 1e-6


def test_people_keep_a_week():
    world = World(kind="people", num_points=4_000, gap_share=0, anomaly_share=0)
    at_work = {True: [], False: []}
    at_night = []
    for made in trajectories(world, 0, 10):
        assert [e.name for e in made.events][:1] == ["home"]
        names = np.array(["" for _ in made.tracked_us_T], dtype=object)
        for event in made.events:
            begin = made.started_us + event.started_s * 1e6
            end = made.started_us + event.finished_s * 1e6
            names[(made.tracked_us_T >= begin) & (made.tracked_us_T < end)] = event.name
        day, hour = made.tracked_us_T // 86_400_000_000, made.tracked_us_T // 3_600_000_000 % 24
        weekday = (day - 19_723) % 7  # 2024-01-01, day 19,723 of Unix time, was a Monday
        noon = (hour >= 11) & (hour < 15)
        for is_weekday, found in at_work.items():
            chosen = noon & ((weekday < 5) == is_weekday)
            found.extend((names[chosen] == "work").tolist())
        at_night.extend((names[hour == 3] == "home").tolist())
    assert np.mean(at_work[True]) > 0.95
    assert np.mean(at_work[False]) == 0.0
    assert np.mean(at_night) > 0.95


# True to its truth.


def test_noise_is_bounded_and_of_the_stated_size():
    made = [trajectory(World(noise_m=3.0), index) for index in range(20)]
    error = np.concatenate([errors_m(one)[~one.is_outlier_T] for one in made])
    assert error.max() <= 9.001
    assert np.sqrt((error**2).mean() / 2) == pytest.approx(3.0, rel=0.05)
    exact = trajectory(World(noise_m=0.0, outlier_share=0.0), 0)
    assert errors_m(exact).max() == 0


def errors_m(made: Trajectory) -> np.ndarray:
    lon, lat = torch.tensor(made.lon_deg_T), torch.tensor(made.lat_deg_T)
    true = torch.tensor(made.true_lon_deg_T), torch.tensor(made.true_lat_deg_T)
    return haversine_m(lon, lat, *true).numpy()


def test_an_outlier_is_far_from_where_it_should_be():
    made = [trajectory(World(outlier_share=0.05), index) for index in range(20)]
    far = np.concatenate([errors_m(one)[one.is_outlier_T] for one in made])
    assert far.min() > 480
    assert far.max() < 20_020
    share = np.mean([one.is_outlier_T.mean() for one in made])
    assert share == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("kind", FASTEST_MPS)
def test_gaps_are_longer_than_any_other_silence(kind):
    world = World(kind=kind, gap_share=0.01)
    num_gaps = 0
    for made in trajectories(world, 0, 40):
        silence = intervals_s(made)
        assert (silence[made.is_after_gap_T[1:]] >= world.gap_s - 1e-6).all()
        assert silence[~made.is_after_gap_T[1:]].max() < world.longest_interval_s
        gaps = [event for event in made.events if event.event == "gap"]
        assert len(gaps) == made.is_after_gap_T.sum()
        num_gaps += len(gaps)
    assert num_gaps == pytest.approx(40 * 500 * 0.01, rel=0.3)


@pytest.mark.parametrize(
    ("kind", "names"), [("vehicles", vehicles.ANOMALIES), ("people", people.ANOMALIES)]
)
def test_anomalies_are_those_of_the_events(kind, names):
    world = World(kind=kind, anomaly_share=1.0, gap_share=0.0)
    unusual = [
        e for made in trajectories(world, 0, 60) for e in made.events if e.event == "anomaly"
    ]
    assert {event.name for event in unusual} == set(names)
    usual = list(trajectories(replace(world, anomaly_share=0.0), 0, 60))
    assert not any(made.is_anomaly_T.any() for made in usual)
    assert np.mean([made.is_anomaly_T.any() for made in trajectories(world, 0, 60)]) > 0.9


def test_speeding_is_faster_than_any_vehicle_else():
    usual = World(anomaly_share=0.0, noise_m=0.0)
    limit = vehicles.MAIN_LIMIT_MPS * vehicles.HASTE[1]
    for made in trajectories(usual, 0, 60):
        speed = distances_m(made.true_lon_deg_T, made.true_lat_deg_T) / intervals_s(made)
        assert speed.max() <= limit * 1.0001


# The laws, as they come out of the generator.


def test_steps_on_the_sphere_obey_the_law():
    world = World(kind="ar1", num_points=200, lon_deg=180.0, lat_deg=60.0)
    seen = np.stack([track_m(trajectory(world, index)) for index in range(60)])
    assert Ar1Floor.of(world.ar1).nll(seen)[:, 50:].mean() == pytest.approx(
        Ar1Floor.of(world.ar1).entropy, abs=0.05
    )
    interval = np.concatenate([intervals_s(trajectory(world, index)) for index in range(60)])
    assert IntervalFloor.of(world.interval).nll(interval).mean() == pytest.approx(
        IntervalFloor.of(world.interval).entropy, abs=0.02
    )


def track_m(made: Trajectory) -> np.ndarray:
    """Reported places as the running sum of steps, each in its own frame."""
    lon, lat = torch.tensor(made.lon_deg_T), torch.tensor(made.lat_deg_T)
    step = torch.stack(step_between(lon[:-1], lat[:-1], lon[1:], lat[1:]), dim=1)
    return np.vstack([np.zeros((1, 2)), np.cumsum(step.numpy(), axis=0)])


def test_regions_are_found_in_the_places():
    world = World(kind="markov", num_points=200, lon_deg=180.0, lat_deg=0.0)
    centre = torch.tensor(world.lon_deg), torch.tensor(world.lat_deg)
    for made in trajectories(world, 0, 5):
        lon, lat = torch.tensor(made.lon_deg_T), torch.tensor(made.lat_deg_T)
        east, north = (side.numpy() for side in step_between(*centre, lon, lat))
        column, row = CHAIN.places(made.region_T)
        assert np.abs(east / world.region_m - column).max() <= 0.25 + 1e-9
        assert np.abs(north / world.region_m - row).max() <= 0.25 + 1e-9


# What cannot be is refused.


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kind": "boats"}, "unknown kind"),
        ({"num_points": 1}, "at least 2 points"),
        ({"seed": -1}, "seed"),
        ({"lat_deg": 91.0}, "on Earth"),
        ({"gap_s": 100.0}, "is no gap"),
    ],
)
def test_a_world_that_cannot_be_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        World(**wrong)
