"""What foundry promises of travel times, with random weights; each guard catches its fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.journey_guards import (
    check_meridian_does_not_matter,
    check_points_are_not_counted,
    check_times_are_not_read,
    ends,
    question,
)
from helpers.shards import write_shards
from helpers.walks import WALKING, batch_of, shaken, walk

from model.data.journey_draws import PARTS, WHOLE, JourneyPool
from model.data.shards import read_group, row_groups
from model.earth.geometry import haversine_m, step_from
from model.families import FAMILIES, build
from model.families.foundry.network import Foundry
from model.inference.api import duration_density, travel_time
from model.interface.asked_journeys import asked_journeys
from model.interface.batch import Cursor
from model.interface.journey_rows import NUM_PLACES, JourneyRows

PLACELESS = replace(FAMILIES["foundry"].presets["tiny"], has_place=False)


def random_weights(family=Foundry, config=PLACELESS):
    return shaken(family, config, spread=0.05)


# ------------------------------------------------------------------ planted faults


class CountsPoints(Foundry):
    """Leaks: the number of points, which tells how long a regular sampling went on."""

    def duration_density(self, partial):
        told = super().duration_density(partial)
        more_B1 = 0.1 * (~partial.is_pad_BT).sum(1, keepdim=True)
        return replace(told, log=replace(told.log, mean_M=told.log.mean_M + more_B1))


class ReadsTimes(Foundry):
    """Leaks: the last time, which is what is asked."""

    def duration_density(self, partial):
        told = super().duration_density(partial)
        more_B1 = partial.time_s_BT[:, -1:].nan_to_num(0.0).float()
        return replace(told, log=replace(told.log, mean_M=told.log.mean_M + more_B1))


class SeesPaths(Foundry):
    """Leaks: the path of a journey of which only the ends are known."""

    def _journey(self, ways):
        return super()._journey(replace(ways, has_path_BG=torch.ones_like(ways.has_path_BG)))


class AbsolutePlace(Foundry):
    """Knows where on Earth it is, though it was told no place."""

    def _journey(self, ways):
        told = super()._journey(ways)
        return replace(told, mean_M=told.mean_M + ways.lon_deg_BGK[:, 0, :1].float() / 180)


# ------------------------------------------------------------------ guards


def check_ends_alone_show_no_path(model):
    ways = asked_journeys(question(*walk(3, 20))).flat()
    bent_deg = ways.lon_deg_BGK.clone()
    bent_deg[..., 1:-1] += 0.01
    bent = replace(ways, lon_deg_BGK=bent_deg, path_m_BG=3 * ways.path_m_BG)
    with torch.no_grad():
        found, other = (model._journey(one.with_ends_alone()).mean_M for one in (ways, bent))
        assert not torch.equal(model._journey(ways).mean_M, model._journey(bent).mean_M)
    assert torch.equal(found, other)


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (check_points_are_not_counted, CountsPoints),
        (check_times_are_not_read, ReadsTimes),
        (check_ends_alone_show_no_path, SeesPaths),
        (check_meridian_does_not_matter, AbsolutePlace),
    ],
)
def test_a_guard_holds_and_catches_its_fault(check, fault):
    check(random_weights())
    with pytest.raises(AssertionError):
        check(random_weights(fault))


def test_a_path_is_told_otherwise_than_its_ends():
    model, points = random_weights(), walk(3, 20)
    found, other = (travel_time(model, asked) for asked in (question(*points), ends(*points)))
    assert not torch.equal(found.median_s_B, other.median_s_B)
    for told in (found, other):
        assert (told.p10_s_B < told.median_s_B).all()
        assert (told.median_s_B < told.p90_s_B).all()


# ------------------------------------------------------------------ draws


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), {"train": [40, 7, 2, 300, 25, 90]})


def test_whole_journeys_are_seen_in_training_as_they_are_asked(shards):
    """Of each trip that has a way: places, length, clock and duration, across the date line."""
    pool = JourneyPool.of(shards, "train")
    assert len(pool.offset_R) - 1 == 5  # two points are no journey
    draw_BGE = torch.full((5, WHOLE + PARTS, 3), 0.5).double().numpy()
    draw_BGE[..., 0] = (torch.arange(5).double().numpy()[:, None] + 0.5) / 5
    drawn = pool.drawn(draw_BGE)
    [*groups] = row_groups(shards, "train")
    trips = [
        (points, trip)
        for points in map(read_group, groups)
        for trip in range(len(points.offset_R) - 1)
        if points.offset_R[trip + 1] - points.offset_R[trip] > 2
    ]
    for row, (points, trip) in enumerate(trips):
        own = slice(points.offset_R[trip], points.offset_R[trip + 1])
        columns = [
            torch.from_numpy(value[own])[None].clone()
            for value in (points.lon_deg_N, points.lat_deg_N, points.t_s_N)
        ]
        lon_deg_BT, lat_deg_BT, time_s_BT = columns
        asked = replace(question(*columns), started_us_B=torch.tensor([points.started_us_R[trip]]))
        expected, found = asked_journeys(asked), drawn.at(slice(row, row + 1))
        away_m = haversine_m(
            found.lon_deg_BGK[:, 0],
            found.lat_deg_BGK[:, 0],
            expected.lon_deg_BGK[:, 0],
            expected.lat_deg_BGK[:, 0],
        )
        step_m = float(
            haversine_m(
                lon_deg_BT[:, :-1], lat_deg_BT[:, :-1], lon_deg_BT[:, 1:], lat_deg_BT[:, 1:]
            ).max()
        )
        # Exact where all points are kept, and within a few steps where they are thinned.
        assert float(away_m.max()) < (1e-3 if lon_deg_BT.shape[1] <= 128 else 4 * step_m)
        torch.testing.assert_close(found.path_m_BG[:, :1], expected.path_m_BG)
        torch.testing.assert_close(found.calendar_BGU[:, :1], expected.calendar_BGU)
        assert found.is_whole_BG.tolist() == [[True] * WHOLE + [False] * PARTS]
        assert float(found.duration_s_BG[0, 0]) == pytest.approx(float(time_s_BT[0, -1]))
        parts_s = found.duration_s_BG[0, WHOLE:]
        assert bool((parts_s > 0).all() & (parts_s <= found.duration_s_BG[0, 0]).all())


def test_draws_follow_seed_epoch_and_window_alone(shards):
    pool = JourneyPool.of(shards, "train")
    batch = replace(batch_of(*walk(4, 6)), cursor=Cursor(2, 5))
    drawn = pool.beside(batch, 7).journeys
    other_order = pool.beside(batch.at(torch.tensor([2, 0])), 7).journeys
    assert torch.equal(other_order.path_m_BG, drawn.path_m_BG[[2, 0]])
    for changed in (
        pool.beside(batch, 8),
        pool.beside(replace(batch, cursor=Cursor(3, 5)), 7),
        pool.beside(replace(batch, window_id_B=batch.window_id_B + 9), 7),
    ):
        assert not torch.equal(changed.journeys.path_m_BG, drawn.path_m_BG)
    assert torch.equal(
        pool.beside(replace(batch, cursor=Cursor(2, 9)), 7).journeys.path_m_BG, drawn.path_m_BG
    )


# ------------------------------------------------------------------ loss


def test_the_surprise_is_that_of_the_density_that_is_asked(shards):
    """Of whole journeys, in training as in a question, with a path and without."""
    pool, model = JourneyPool.of(shards, "train"), random_weights()
    ways = pool.beside(batch_of(*walk(4, 6)), 0).journeys
    batch = replace(batch_of(*walk(4, 6)), journeys=ways)
    with torch.no_grad():
        loss = model.journey_head.loss(batch.journeys, model.place)
        each = [
            -model._journey(one).log_density(torch.log(one.duration_s_BG[:, 0] + 1).float())
            for one in (ways.flat(), ways.flat().with_ends_alone())
        ]
    assert int(loss.count) == 2 * 4 * (WHOLE + PARTS)
    torch.testing.assert_close(loss.total, torch.cat(each).sum())


def test_a_density_adds_up_to_its_quantiles():
    """The share of seconds below the tenth and ninth decile, by summing the density."""
    model = random_weights()
    asked = question(*walk(2, 9))
    density = duration_density(model, asked)
    low_s, high_s = density.quantile(0.1), density.quantile(0.9)
    share_Q1 = torch.linspace(0, 1, 4001).double().unsqueeze(1)
    second_QN = low_s + share_Q1 * (high_s - low_s)
    mass = torch.trapezoid(
        torch.stack([density.log_density(second_N).exp() for second_N in second_QN]),
        second_QN,
        dim=0,
    )
    torch.testing.assert_close(mass, torch.full_like(mass, 0.8), rtol=0, atol=2e-3)


def test_tasks_are_averaged_then_mixed(shards):
    ways = JourneyPool.of(shards, "train").beside(batch_of(*walk(4, 6)), 0).journeys
    batch = batch_of(*walk(4, 12))
    for weight in (0.0, 0.7):
        model = random_weights(config=replace(PLACELESS, journey_weight=weight))
        with torch.no_grad():
            alone, both = model.loss(batch), model.loss(replace(batch, journeys=ways))
            journeys = model.journey_head.loss(ways, model.place)
        assert int(both.count) == int(alone.count)
        torch.testing.assert_close(both.mean, alone.mean + weight * journeys.mean)


def test_training_learns_that_the_way_north_is_slow():
    """Journeys north take three times as long as those east, whatever their length."""
    torch.manual_seed(0)
    model = build("foundry", "tiny", WALKING)
    generator = torch.Generator().manual_seed(1)

    def made(num):
        length_m_N = 500 * torch.exp(torch.randn(num, generator=generator)).double()
        is_north_N = torch.rand(num, generator=generator) < 0.5
        share_K = torch.linspace(0, 1, NUM_PLACES).double()
        zero_NK = torch.zeros(num, NUM_PLACES).double()
        way_m_NK = length_m_N.unsqueeze(1) * share_K
        lon_deg_NK, lat_deg_NK = step_from(
            8 + zero_NK,
            50 + zero_NK,
            way_m_NK.where(~is_north_N.unsqueeze(1), 0.0),
            way_m_NK.where(is_north_N.unsqueeze(1), 0.0),
        )
        true_s_N = length_m_N / torch.where(is_north_N, 1.0, 3.0)
        every_N1 = torch.ones(num, 1, dtype=torch.bool)
        columns = (lon_deg_NK, lat_deg_NK, length_m_N, torch.zeros(num, 8), true_s_N)
        lon, lat, path, calendar, seconds = (value.unsqueeze(1) for value in columns)
        return JourneyRows(lon, lat, path, calendar, every_N1, every_N1, seconds)

    model.journey_head.fit([made(256)])
    optimiser = torch.optim.AdamW(model.journey_head.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, total_iters=120)
    for _ in range(120):
        optimiser.zero_grad()
        model.journey_head.loss(made(128), model.place).mean.backward()
        optimiser.step()
        falling.step()
    model.eval()
    unseen = made(200)
    for ways in (unseen, unseen.with_ends_alone()):
        with torch.no_grad():
            median_N = model._journey(ways).median().exp()
        off_N = torch.log(median_N / unseen.duration_s_BG[:, 0]).abs()
        assert float(off_N.median()) < 0.2  # the mean speed is off by 0.55
