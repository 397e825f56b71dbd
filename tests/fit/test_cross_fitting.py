"""What cross-fitting promises: areas that hold their share for entities that nobody has seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.walks import WALKING

from model.data.journey_draws import JourneyPool
from model.earth.geometry import step_from
from model.families import FAMILIES
from model.families.foundry.network import Foundry
from model.interface.calibration import Calibration
from model.interface.conformal import decile_factor
from model.training.config import FitConfig
from model.training.cross_fitting import (
    LEAST_ENTITIES,
    cross_fitted,
    factors_of,
    folds,
    trained_head,
)

NUM_TRIPS, NUM_PLACES = 4, 6
FIT = FitConfig(max_steps=40, batch_size=16, learning_rate=0.01, warmup_steps=5)


def journeys(num_entities: int, seed: int) -> JourneyPool:
    """Trips of entities that live somewhere, and each have a pace of their own, unlike others'."""
    random = np.random.default_rng(seed)
    num_trips = num_entities * NUM_TRIPS
    entity_R = np.repeat(np.arange(num_entities), NUM_TRIPS)
    home_m_EC = random.normal(scale=20_000, size=(num_entities, 2))
    pace_E = np.exp(random.normal(scale=0.7, size=num_entities))
    length_m_R = np.exp(random.normal(8, 0.5, size=num_trips))
    angle_R = random.uniform(0, 2 * np.pi, num_trips)
    along_K = np.linspace(0, 1, NUM_PLACES)
    way_m_RK = length_m_R[:, None] * along_K
    east_m_RK = home_m_EC[entity_R, :1] + way_m_RK * np.cos(angle_R)[:, None]
    north_m_RK = home_m_EC[entity_R, 1:] + way_m_RK * np.sin(angle_R)[:, None]
    zero = torch.zeros(num_trips, NUM_PLACES, dtype=torch.float64)
    places = step_from(zero, zero, torch.from_numpy(east_m_RK), torch.from_numpy(north_m_RK))
    lasts_s_R = (
        length_m_R / 10 * pace_E[entity_R] * np.exp(random.normal(scale=0.1, size=num_trips))
    )
    lon_deg_N, lat_deg_N = (value.flatten().numpy() for value in places)
    started_m_R = np.append(0, length_m_R.cumsum()[:-1])
    return JourneyPool(
        "UTC",
        entity_R,
        np.arange(num_trips + 1) * NUM_PLACES,
        np.full(num_trips, 1_600_000_000_000_000),
        (lasts_s_R[:, None] * along_K).ravel(),
        lon_deg_N,
        lat_deg_N,
        (started_m_R[:, None] + way_m_RK).ravel(),
    )


@pytest.fixture(scope="module")
def model():
    config = replace(FAMILIES["foundry"].presets["tiny"], has_memory=False)
    made = Foundry(config, WALKING)
    lon_deg_N, lat_deg_N = (
        torch.from_numpy(getattr(journeys(120, 0), name)) for name in ("lon_deg_N", "lat_deg_N")
    )
    made.place.fit(lon_deg_N, lat_deg_N)
    return made.eval()


def held(model, pool: JourneyPool, factor: float, track: str) -> float:
    """The share of journeys of others that areas hold, of a head that has learnt from a pool."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = trained_head(model, model.place, pool, FIT)
    others = journeys(300, 1).whole()
    return float((factors_of(head, model.place, others)[track] <= factor).double().mean())


def test_areas_hold_their_share_of_the_journeys_of_others(model, monkeypatch):
    """Each has a pace of his own, which places betray: where he himself was learnt from, areas are
    too narrow for others, and factors from his own other journeys do not mend that.
    """
    pool = journeys(120, 0)
    found = cross_fitted(model, pool, None, FIT)
    for track, factor in found.decile.items():
        assert 0.73 < held(model, pool, factor, track) < 0.9
        assert held(model, pool, 1.0, track) < 0.72
    every = np.arange(len(pool.entity_R))
    by_journey = cross_fitted(model, replace(pool, entity_R=every), None, FIT)
    assert all(by_journey.decile[track] < found.decile[track] for track in found.decile)


def test_who_is_asked_is_in_no_training_of_his_fold():
    pool = journeys(35, 2)
    asked = []
    for known, ways in folds(pool, 0):
        known_deg = set(zip(known.lon_deg_N, known.lat_deg_N, strict=True))
        ends_deg = zip(
            ways.lon_deg_BGK[:, 0, -1].tolist(), ways.lat_deg_BGK[:, 0, -1].tolist(), strict=True
        )
        homes_deg = zip(
            ways.lon_deg_BGK[:, 0, 0].tolist(), ways.lat_deg_BGK[:, 0, 0].tolist(), strict=True
        )
        assert not known_deg & set(homes_deg)
        asked += ends_deg
    assert len(asked) == len(set(asked)) == len(pool.entity_R)


def test_train_is_asked_where_it_has_entities_enough_and_validation_has_not(model):
    few, enough = journeys(LEAST_ENTITIES - 1, 0), journeys(LEAST_ENTITIES, 1)
    short = replace(FIT, max_steps=1)
    assert cross_fitted(model, few, None, short) == Calibration()
    assert cross_fitted(model, None, few, short) == Calibration()
    assert cross_fitted(model, enough, enough, short) == Calibration()
    assert set(cross_fitted(model, enough, few, short).decile) == {"ends", "path_given"}


@pytest.mark.parametrize("share_without", [1.0, 0.5])
def test_journeys_that_take_no_time_leave_areas_as_they_are(model, share_without, monkeypatch):
    """They would have made a factor that is no number, or an infinite one."""
    monkeypatch.setattr("model.training.cross_fitting.NUM_FITTING", 2)
    pool = journeys(LEAST_ENTITIES, 1)
    t_s_RK = pool.t_s_N.reshape(-1, NUM_PLACES).copy()
    t_s_RK[: int(share_without * len(t_s_RK))] = 0
    still = replace(pool, t_s_N=t_s_RK.ravel())
    assert cross_fitted(model, still, None, replace(FIT, max_steps=1)) == Calibration()


def test_a_state_of_chance_outside_is_not_touched(model):
    pool = journeys(30, 3)
    few = replace(FIT, max_steps=2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = cross_fitted(model, pool, None, few)
    assert torch.equal(torch.rand(3), expected)
    assert first == cross_fitted(model, pool, None, few)


def test_some_trips_are_as_they_were_among_all():
    pool = journeys(12, 4)
    is_kept_R = np.arange(len(pool.entity_R)) % 3 != 0
    found, whole = pool.of_trips(is_kept_R).whole(), pool.whole().at(torch.from_numpy(is_kept_R))
    for name, value in vars(whole).items():
        torch.testing.assert_close(getattr(found, name), value)
    assert decile_factor(*[torch.ones(3, dtype=torch.float64)] * 4).isfinite().all()
