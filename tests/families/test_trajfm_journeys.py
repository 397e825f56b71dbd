"""What trajfm promises of travel times, with random weights; each guard catches its fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.journey_guards import (
    check_meridian_does_not_matter,
    check_points_are_not_counted,
    check_times_are_not_read,
    ends,
    journeys_along,
    question,
)
from helpers.walks import WALKING, batch_of, shaken, walk

from model.families import FAMILIES, build
from model.families.trajfm.journeys import UsualDuration, drawn_views, length_m
from model.families.trajfm.network import TrajFm
from model.features.normaliser import MIN_STEP_S
from model.inference.api import duration_density, travel_time
from model.interface.asked_journeys import asked_journeys
from model.interface.masking import any_task, masked

TINY = FAMILIES["trajfm"].presets["tiny"]


def random_weights(family=TrajFm, config=TINY):
    return shaken(family, config, spread=0.05)


def later(told, more_N):
    """The density with its codes moved up."""
    code = told.code
    return replace(told, code=replace(code, mean_M=code.mean_M + more_N.unsqueeze(-1)))


class CountsPoints(TrajFm):
    """Leaks: the number of points, which tells how long a regular sampling went on."""

    def duration_density(self, partial):
        return later(super().duration_density(partial), 0.1 * (~partial.is_pad_BT).sum(1))


class ReadsTimes(TrajFm):
    """Leaks: the last time, which is what is asked."""

    def duration_density(self, partial):
        return later(super().duration_density(partial), partial.time_s_BT[:, -1].nan_to_num(0.0))


class SeesPaths(TrajFm):
    """Leaks: the path of a journey of which only the ends are known."""

    def _journey_density(self, journeys):
        every = torch.ones_like(journeys.has_path_BG)
        return super()._journey_density(replace(journeys, has_path_BG=every))


class AbsolutePlace(TrajFm):
    """Knows where on Earth it is."""

    def _journey_density(self, journeys):
        told = super()._journey_density(journeys)
        return later(told, journeys.lon_deg_BGK[:, 0, 0].float() / 180)


def check_ends_alone_show_no_path(model):
    ways = asked_journeys(question(*walk(3, 20))).flat()
    bent_deg = ways.lon_deg_BGK.clone()
    bent_deg[..., 1:-1] += 0.01
    bent = replace(ways, lon_deg_BGK=bent_deg, path_m_BG=3 * ways.path_m_BG)
    with torch.no_grad():
        found, other, whole, bent_whole = (
            model._journey_density(one).code.mean_M
            for one in (ways.with_ends_alone(), bent.with_ends_alone(), ways, bent)
        )
    assert not torch.equal(whole, bent_whole)
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


def test_a_journey_is_told_alike_alone_and_beside_others():
    """Of which some have a path and some have none, so that their rows are padded."""
    ways = journeys_along(*walk(4, 20), num_alike=1)
    has_path_BG = torch.tensor([[True], [False], [True], [False]])
    ways, model = replace(ways, has_path_BG=has_path_BG), random_weights()
    with torch.no_grad():
        together = model._journey_density(ways).code.mean_M
        for row in range(4):
            alone = model._journey_density(ways.at(slice(row, row + 1))).code.mean_M
            torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-4)


def test_travel_time_needs_its_ends():
    partial = question(*walk(3, 12))
    every_BT = torch.ones_like(partial.is_pad_BT)
    known = replace(partial, shows_time_BT=every_BT, time_s_BT=walk(3, 12)[2])
    with pytest.raises(ValueError, match="nothing to tell"):
        travel_time(random_weights(), known)
    with pytest.raises(ValueError, match="last place"):
        travel_time(random_weights(), replace(partial, shows_place_BT=partial.shows_time_BT))


def test_a_density_adds_up_to_its_quantiles():
    """The share of seconds below the tenth and ninth decile, by summing the density."""
    density = duration_density(random_weights(), question(*walk(2, 9)))
    low_s, high_s = density.quantile(0.1), density.quantile(0.9)
    second_QN = low_s + torch.linspace(0, 1, 4001).double().unsqueeze(1) * (high_s - low_s)
    told = torch.stack([density.log_density(second_N).exp() for second_N in second_QN])
    mass = torch.trapezoid(told, second_QN, dim=0)
    torch.testing.assert_close(mass, torch.full_like(mass, 0.8), rtol=0, atol=2e-3)


# ------------------------------------------------------------------ training


def test_paths_and_ends_are_learnt_of_whole_journeys_and_of_parts():
    ways = journeys_along(*walk(3, 20))
    is_whole_BG = (torch.arange(8) < 4).expand(3, 8)
    paths, alone = drawn_views(replace(ways, is_whole_BG=is_whole_BG))
    assert bool(paths.has_path_BG.all())
    assert not bool(alone.has_path_BG.any())
    for view in (paths, alone):
        assert 0 < int(view.is_whole_BG.sum()) < len(view.is_whole_BG)


def test_the_surprise_is_that_of_the_density_that_is_asked():
    """Of each journey in training as in a question, less what seconds have over their codes."""
    model, ways = random_weights(), journeys_along(*walk(4, 20))
    with torch.no_grad():
        loss, total = model._journey_loss(ways), 0.0
        for view in drawn_views(ways):
            took_s_N = view.duration_s_BG[:, 0]
            nats_N = model._journey_density(view).log_density(took_s_N)
            total -= float((nats_N + torch.log(took_s_N + MIN_STEP_S)).sum())
    assert int(loss.count) == 4 * (2 + 4)
    assert float(loss.total) == pytest.approx(total, rel=1e-4)


def test_tasks_are_averaged_then_mixed():
    ways = journeys_along(*walk(4, 20))
    batch = masked(batch_of(*walk(4, 12)), any_task, 0)
    for weight in (0.0, 0.7):
        model = random_weights(config=replace(TINY, journey_weight=weight))
        with torch.no_grad():
            alone, both = model.loss(batch), model.loss(replace(batch, journeys=ways))
            journeys = model._journey_loss(ways)
        assert int(both.count) == int(alone.count)
        torch.testing.assert_close(both.mean, alone.mean + weight * journeys.mean)


def slow_and_long(num, seed):
    """Journeys whose duration goes with the square root of their length."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(num, 20, seed)
    far_B1 = torch.linspace(0.2, 20, num).double().unsqueeze(1)
    lon_deg_BT = lon_deg_BT[:, :1] + far_B1 * (lon_deg_BT - lon_deg_BT[:, :1])
    lat_deg_BT = lat_deg_BT[:, :1] + far_B1 * (lat_deg_BT - lat_deg_BT[:, :1])
    ways = journeys_along(lon_deg_BT, lat_deg_BT, time_s_BT, num_alike=1)
    return replace(ways, duration_s_BG=300 * length_m(ways.flat()).sqrt().unsqueeze(1))


def test_the_usual_duration_is_that_of_train():
    usual, ways = UsualDuration(WALKING), slow_and_long(64, 0)
    usual.fit([ways])
    unseen = slow_and_long(50, 1)
    for view in (unseen, unseen.with_ends_alone()):
        off_N = usual(view) - torch.log(unseen.duration_s_BG[:, 0])
        assert float(off_N.abs().mean()) < 0.4
    few = UsualDuration(WALKING)
    few.fit([slow_and_long(5, 0)])
    assert torch.equal(few.usual_KE, UsualDuration(WALKING).usual_KE)


def test_training_begins_with_the_usual_duration():
    """Before the first step a median is within a factor of two of it, however far it is."""
    torch.manual_seed(0)
    model, ways = build("trajfm", "tiny", WALKING), slow_and_long(64, 0)
    model.fit_inputs([replace(batch_of(*walk(64, 12)), journeys=ways)])
    with torch.no_grad():
        median_N = model._journey_density(ways).quantile(0.5)
    assert float(torch.log(median_N / ways.duration_s_BG[:, 0]).abs().max()) < 1.0
