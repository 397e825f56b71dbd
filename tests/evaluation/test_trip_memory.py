"""Memory: other searches find the same neighbours, and nothing of one's own kin is recalled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.past import (
    STARTED_US,
    context_of,
    flat,
    paths_of,
    place_after,
    step_m,
    walks,
)
from helpers.shards import write_shards
from sklearn.neighbors import NearestNeighbors

from model.data.memories import memory_of
from model.data.options import Reading
from model.data.paths import read_entities
from model.data.reading import read_batches
from model.earth.columns import joined
from model.features.point_features import motion_since
from model.interface.batch import index_of
from model.interface.memory.crops import LAGS, keys, velocities_mps
from model.interface.memory.fitting import MOTION_STEPS, OwnQuestions, fitted_memory
from model.interface.memory.forgetting import forgotten
from model.interface.memory.joint import JointMemory, joint, read_memory, write_memory
from model.interface.memory.memory import MEMORY_FILE, NUM_NEIGHBOURS, SLACK, Memory, nobody
from model.interface.memory.paths import NOBODY, PastPaths, in_space_m
from model.interface.recalled import KNOTS
from model.interface.sequence_rows import rows_of_batch
from model.interface.weights import CorruptCheckpoint
from model.training.launch import Member, remembered

MOTION_S = 60.0


def own_motion(memory, at_N):
    """Place, velocities and mean interval at points of the memory's own paths."""
    velocity_mps, pace_s = map(torch.from_numpy, velocities_mps(memory.paths, at_N))
    return *memory.paths.place(at_N), velocity_mps, pace_s


def simple_of(at_N):
    """A simple forecast that says nothing."""
    return torch.zeros(len(at_N), len(KNOTS), 2)


def recalled_at(memory, at_N, kin_N=None):
    kin_N = nobody(len(at_N)) if kin_N is None else kin_N
    return memory.recall(*own_motion(memory, at_N), simple_of(at_N), kin_N)


# Oracles ----------------------------------------------------------------------------------------


def test_neighbours_are_those_of_a_search_over_all():
    """But for the slack: none is farther away than half as much again."""
    memory, asked = Memory(paths_of(walks(1, [60] * 9)), MOTION_S), paths_of(walks(2, [30] * 5))
    now_N = np.arange(10, 140, 7)
    velocity_mps, _ = velocities_mps(asked, now_N)
    places_deg = [place.numpy() for place in asked.place(now_N)]
    crop_NK, is_known_NK = memory.nearest(*places_deg, velocity_mps, nobody(len(now_N)))
    assert is_known_NK.all()
    key_PF = keys(
        *(place.numpy() for place in memory.paths.place(memory.now_P)),
        memory.velocity_mps_PLC,
        MOTION_S,
    )
    key_NF = keys(*places_deg, velocity_mps, MOTION_S)
    expected_NK, _ = NearestNeighbors(n_neighbors=NUM_NEIGHBOURS).fit(key_PF).kneighbors(key_NF)
    away_NK = np.linalg.norm(key_PF[crop_NK] - key_NF[:, None], axis=-1)
    assert (np.diff(away_NK, axis=1) >= 0).all()
    assert (away_NK >= expected_NK - 1e-6).all()
    assert (away_NK <= (1 + SLACK) * expected_NK + 1e-6).all()


def test_ways_are_those_of_the_paths():
    trips = walks(3, [50] * 4)
    memory = Memory(paths_of(trips), MOTION_S)
    told = recalled_at(memory, np.array([20, 75]))
    now_NK = memory.now_P[
        memory.nearest(*(v.numpy() for v in own_motion(memory, np.array([20, 75]))[:3]), nobody(2))[
            0
        ]
    ]
    _, _, _, pace_s = own_motion(memory, np.array([20, 75]))
    for row in range(2):
        for place, now in enumerate(now_NK[row][:4]):
            number, point = divmod(int(now), 50)
            trip = trips[number]
            start = trip[2][point], trip[1][point]
            for knot, ahead in enumerate(KNOTS):
                ahead_s = round(float(pace_s[row]) * ahead, 6)
                went_m = step_m(start, place_after(trip, point, ahead_s))
                found_mps = told.way_mps_NKJC[row, place, knot].numpy()
                np.testing.assert_allclose(found_mps * ahead_s, went_m, atol=0.05)
                goes_on = trip[0][-1] - trip[0][point] >= ahead_s
                assert bool(told.lasts_NKJ[row, place, knot]) == goes_on


def test_a_crop_moves_as_a_window_that_ends_there():
    """Velocities of paths are those that a network is told of a window."""
    trips = walks(4, [30] * 3)
    now_N = np.array([12, 41, 88])
    found_mps, _ = velocities_mps(paths_of(trips), now_N)
    time_s, lon_deg, lat_deg = (
        torch.from_numpy(np.stack(column)) for column in zip(*trips, strict=True)
    )
    index_RT = index_of(time_s)
    origin_RTL = (index_RT.unsqueeze(-1) - torch.tensor(LAGS)).clamp(min=0)
    moved_m, lag_s = motion_since(lon_deg, lat_deg, time_s, index_RT, origin_RTL)
    at = now_N // 30, now_N % 30
    np.testing.assert_allclose(found_mps, (moved_m / lag_s.unsqueeze(-1))[at], rtol=1e-9)


# Kin --------------------------------------------------------------------------------------------


def check_no_own_kin(memory, entity):
    """Nothing of the trips of its own entity is recalled for any point of a memory."""
    now_N = memory.now_P
    kin_N = memory.kin_at(
        memory.paths.points.instant_us_N[now_N],
        *(place.numpy() for place in memory.paths.place(now_N)),
    )
    crop_NK, is_known_NK = memory.nearest(
        *(value.numpy() for value in own_motion(memory, now_N)[:3]), kin_N
    )
    trip_N = memory.paths.points.trajectory_N
    entity_R = np.array(entity)
    own_N = entity_R[trip_N[now_N]]
    found_NK = entity_R[trip_N[memory.now_P[crop_NK]]]
    assert is_known_NK.any(axis=1).all()
    assert not (is_known_NK & (found_NK == own_N[:, None])).any()


class KnowsNobody(Memory):
    """Leaks: takes everybody for a stranger."""

    def kin_at(self, instant_us_N, lon_deg_N, lat_deg_N):
        return nobody(len(instant_us_N))


def test_the_own_kin_is_never_recalled():
    entity = [0, 1, 2, 0, 3]
    paths = paths_of(walks(5, [40] * 5), entity)
    check_no_own_kin(Memory(paths, MOTION_S), entity)
    with pytest.raises(AssertionError):
        check_no_own_kin(KnowsNobody(paths, MOTION_S), entity)


def test_a_copy_under_another_name_is_kin():
    trips = walks(6, [40] * 3)
    points = flat([*trips, trips[0]])
    points.instant_us_N[-40:] -= 3 * 3_600_000_000  # the same instants
    memory = Memory(PastPaths.of(points, np.array([0, 1, 2, 3])), MOTION_S)
    check_no_own_kin(memory, [0, 1, 2, 0])


def test_the_last_point_of_a_context_tells_whose_it_is():
    trips = walks(7, [40] * 3)
    memory = Memory(paths_of(trips), MOTION_S)
    assert memory.kin_of_context(context_of(trips[:1], 15, STARTED_US)).tolist() == [
        memory.paths.kin_R[0]
    ]
    assert memory.kin_of_context(context_of(trips[:1], 15)).tolist() == [NOBODY]


def test_questions_do_not_see_each_other():
    """Also where one has to be asked again, since its own kin fills the first answer."""
    entity = [0, 0, 0, 0, 1, 2]
    memory = Memory(paths_of(walks(8, [40] * 6), entity), MOTION_S)
    at_N = np.array([15, 30, 70, 190, 215])
    kin_N = memory.paths.kin_R[memory.paths.points.trajectory_N[at_N]]
    together = recalled_at(memory, at_N, kin_N)
    assert bool(together.is_known_NK.all())
    for row in range(len(at_N)):
        alone = recalled_at(memory, at_N[row : row + 1], kin_N[row : row + 1])
        for name, value in alone.columns().items():
            assert torch.equal(value[0], getattr(together, name)[row]), name


def test_few_neighbours_are_all_there_is():
    memory = Memory(paths_of(walks(9, [4, 5])), MOTION_S)
    told = recalled_at(memory, np.array([2]))
    assert int(told.is_known_NK.sum()) == len(memory.now_P) == 5


# Shards -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1_000, 120])
def test_rows_of_train_are_told_by_whose_they_are(tmp_path, most):
    """Also of trips that are not remembered: `most` points are, of every second trip."""
    shards = write_shards(tmp_path, {"train": [30, 41, 17, 50, 22, 60], "validation": [40]}, 2)
    memory = memory_of(shards, most)
    entity_R = read_entities(shards, "train")
    assert entity_R.tolist() == [0, 0, 1, 1, 2, 2]
    kin_R = memory.kin_of_row
    assert np.equal.outer(kin_R, kin_R).tolist() == np.equal.outer(entity_R, entity_R).tolist()
    reading = Reading("train", seed=0, batch_size=4, max_points=24)
    for batch in read_batches(shards, reading, num_epochs=1):
        rows = rows_of_batch(batch)
        row_R = [number >> 32 for number in rows.window_R.tolist()]
        assert memory.kin_of(batch, rows).tolist() == kin_R[row_R].tolist()
    for batch in read_batches(shards, replace(reading, split="validation"), num_epochs=1):
        assert set(memory.kin_of(batch, rows_of_batch(batch)).tolist()) == {NOBODY}


def test_packed_rows_are_told_apart(tmp_path):
    shards = write_shards(tmp_path, {"train": [9, 11, 8, 12, 10, 9]}, 6)
    memory = memory_of(shards)
    reading = Reading("train", seed=0, batch_size=2, max_points=32, batching="packed")
    for batch in read_batches(shards, reading, num_epochs=1):
        rows = rows_of_batch(batch)
        expected = [batch.window_ids(row) for row in range(len(batch.window_id_B))]
        assert rows.window_R.tolist() == [number for found in expected for number in found]
        assert memory.kin_of(batch, rows).tolist() == [
            memory.kin_of_row[number >> 32] for found in expected for number in found
        ]


def test_trips_of_two_points_are_no_memory(tmp_path):
    assert memory_of(write_shards(tmp_path, {"train": [2, 2]})) is None
    with pytest.raises(ValueError, match="a past trip of three points or more"):
        fitted_memory(paths_of(walks(1, [2, 1])))


# Fitting and files ------------------------------------------------------------------------------


def test_the_fit_takes_what_helps_most():
    paths = paths_of(walks(10, [40] * 12))
    fitted, step_s = fitted_memory(paths), paths.median_step_s
    errors = {
        steps * step_s: float(OwnQuestions.of(Memory(paths, steps * step_s)).fit()[1].nanmean())
        for steps in MOTION_STEPS
    }
    assert fitted.motion_s == min(errors, key=errors.__getitem__)
    questions = OwnQuestions.of(fitted)
    away_m = questions.recalled.offset_m_NKC.norm(dim=-1)[questions.recalled.is_known_NK]
    assert fitted.spread_m == pytest.approx(max(1.0, float(away_m.median())))


def test_the_linear_forecast_of_a_memory_is_the_best_one_there_is():
    """Nobody's six numbers miss less of its own trips, told by those of others: not by a search."""
    memory = fitted_memory(paths_of(walks(10, [60] * 12)))
    questions = OwnQuestions.of(memory)
    recalled = questions.recalled
    assert recalled.is_linear_NJ.any(0).all()
    found_mps_NJC = recalled.linear_mps_NJC.double()
    generator = torch.Generator().manual_seed(0)
    told = questions.velocity_mps_NLC, questions.pace_s_N, questions.simple_mps_NJC
    is_told_NKJ = recalled.is_known_NK.unsqueeze(-1) & recalled.lasts_NKJ
    beside = recalled.way_mps_NKJC, recalled.offset_m_NKC, recalled.faster_mps_NKVC
    for _ in range(20):
        more_JP = 0.05 * torch.randn(memory.weight_JP.shape, generator=generator).double()
        other = replace(memory, weight_JP=memory.weight_JP + more_JP)
        other_mps_NJC, is_linear_NJ = other.linear_mps(*told, *beside, is_told_NKJ)
        is_judged_NJ = questions.lasts_NJ & is_linear_NJ
        for knot in range(len(KNOTS)):
            rows = is_judged_NJ[:, knot]
            true_mps_NC = questions.true_mps_NJC[rows, knot]
            own, its = (
                float((mps_NJC[rows, knot] - true_mps_NC).norm(dim=-1).sum())
                for mps_NJC in (found_mps_NJC, other_mps_NJC)
            )
            assert own < its * 1.001


def test_of_steady_trips_the_linear_forecast_is_their_velocity():
    """By hand: what goes on straight at its own speed is told by its own velocity."""
    time_s, trips = 10.0 * np.arange(40), []
    for number in range(12):
        speed_deg = (3 + number) * 1e-5
        trips.append((time_s, 10 + speed_deg * time_s, np.zeros(40) + 1e-3 * number))
    memory = fitted_memory(paths_of(trips))
    recalled = recalled_at(memory, np.array([20, 60, 100]), np.array([0, 1, 2]))
    velocity_mps_NLC = own_motion(memory, np.array([20, 60, 100]))[2]
    expected = velocity_mps_NLC[:, None, 0].expand(-1, len(KNOTS), -1)
    is_linear_NJ = recalled.is_linear_NJ
    assert int(is_linear_NJ.sum()) > 12
    found = recalled.linear_mps_NJC.double()
    torch.testing.assert_close(found[is_linear_NJ], expected[is_linear_NJ], rtol=0.01, atol=0.05)


def test_trips_side_by_side_send_nobody_astray():
    """The fault: parts that hardly differ in copies of a trip weighed forty times, and backwards.

    Whoever goes half as fast again is told no way that is longer than theirs or the own one.
    """
    east_deg = -np.array([0, 1, 2, 3, 3.5, 3.7, 3.7, 3.7])
    north_deg = np.array([0, 0.4, 0.8, 1.2, 2, 3, 4, 5])
    time_s, lanes = 21_600.0 * np.arange(8), 0.05 * np.arange(20)
    memory = fitted_memory(
        paths_of([(time_s, lane_deg + east_deg, 15 - lane_deg + north_deg) for lane_deg in lanes])
    )
    at_N = np.arange(2, 160, 8)  # the third point of each
    *places, velocity_mps, pace_s = own_motion(memory, at_N)
    told = memory.recall(*places, 1.5 * velocity_mps, pace_s, simple_of(at_N), nobody(len(at_N)))
    assert int(told.is_linear_NJ.sum()) > len(at_N)
    way_mps_NKJ = told.way_mps_NKJC.norm(dim=-1).where(told.lasts_NKJ, 0)
    most_mps_NJ = torch.maximum(way_mps_NKJ.amax(1), 1.5 * velocity_mps[:, :1].norm(dim=-1))
    found_mps_NJ = told.linear_mps_NJC.norm(dim=-1)
    assert bool((found_mps_NJ <= 1.1 * most_mps_NJ).all())


def test_a_memory_of_a_few_trips_makes_no_forecast_of_its_own():
    few, one = fitted_memory(paths_of(walks(12, [8] * 4))), paths_of(walks(12, [200]))
    alone = fitted_memory(one)
    for memory, at in ((few, 4), (alone, 50)):
        recalled = recalled_at(memory, np.array([at]))
        assert not recalled.is_linear_NJ.any()
        assert (recalled.linear_mps_NJC == 0).all()


def test_far_away_a_memory_makes_no_forecast_of_its_own():
    memory = fitted_memory(paths_of(walks(10, [40] * 12)))
    (lon_deg, lat_deg), *moved = (
        memory.paths.place(np.array([20, 60])),
        *own_motion(memory, np.array([20, 60]))[2:],
    )
    for east_deg, expected in ((0.0, True), (30.0, False)):
        told = memory.recall(lon_deg + east_deg, lat_deg, *moved, simple_of((0, 1)), nobody(2))
        assert bool(told.is_linear_NJ.any()) is expected


def test_at_other_intervals_a_memory_makes_no_forecast_of_its_own():
    memory = fitted_memory(paths_of(walks(10, [40] * 12)))
    *places, velocity_mps, pace_s = own_motion(memory, np.array([20, 60]))
    for factor, expected in ((1.0, True), (0.1, False), (10.0, False)):
        told = memory.recall(*places, velocity_mps, factor * pace_s, simple_of((0, 1)), nobody(2))
        assert bool(told.is_linear_NJ.any()) is expected


def test_a_stored_memory_recalls_the_same(tmp_path):
    memory = fitted_memory(paths_of(walks(11, [40] * 5), [0, 1, 1, 2, 3]))
    write_memory(tmp_path, memory)
    found = read_memory(tmp_path)
    at_N = np.array([15, 60, 130])
    kin_N = memory.paths.kin_R[memory.paths.points.trajectory_N[at_N]]
    before, after = (recalled_at(one, at_N, kin_N) for one in (memory, found))
    for name, value in before.columns().items():
        assert torch.equal(value, getattr(after, name)), name
    content = bytearray((tmp_path / MEMORY_FILE).read_bytes())
    (tmp_path / MEMORY_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptCheckpoint, match=MEMORY_FILE):
        read_memory(tmp_path)


# Several members --------------------------------------------------------------------------------


def two_members():
    """Walks of here and of far away, two of one entity in each."""
    members = [
        Memory(paths_of(walks(12, [40] * 4), [0, 0, 1, 2]), MOTION_S, 50.0),
        Memory(paths_of(walks(13, [30] * 4, lon_deg=120.0), [0, 1, 1, 2]), 2 * MOTION_S, 80.0),
    ]
    return members, JointMemory((None, *members))


@pytest.mark.parametrize(
    ("away_deg", "most"), [(0.01, 1e-9), (3.0, 1e-9), (60.0, 0.1), (170.0, 0.1)]
)
def test_a_place_is_as_far_from_a_member_as_a_search_over_all_says(away_deg, most):
    """Near by exactly, from far away to a tenth and never nearer than it is."""
    trips = [trip for lon in range(0, 12, 2) for trip in walks(lon, [30] * 2, lon_deg=float(lon))]
    memory = Memory(paths_of(trips), MOTION_S, 50.0)
    lon_deg_N, lat_deg_N = np.linspace(-3, 13, 40) + away_deg, np.linspace(49, 51, 40)
    asked_NC, kept_PC = in_space_m(lon_deg_N, lat_deg_N), memory.place_tree.data
    expected_N = np.linalg.norm(asked_NC[:, None] - kept_PC, axis=-1).min(1) / memory.spread_m
    found_N = memory.spreads_away(lon_deg_N, lat_deg_N)
    assert (found_N >= expected_N * (1 - 1e-9)).all()
    assert (found_N <= expected_N * (1 + most)).all()


def test_each_is_told_by_the_member_that_is_nearest():
    """In whatever order they are asked, with the scales of that member, and none of its own kin."""
    members, memory = two_members()
    at_N = [np.array([15, 60, 100]), np.array([20, 70, 95])]
    asked = [(*own_motion(*pair), simple_of(pair[1])) for pair in zip(members, at_N, strict=True)]
    kin, number = (
        [
            one.paths.kin_R[one.paths.points.trajectory_N[at]]
            for one, at in zip(those, at_N, strict=True)
        ]
        for those in (members, memory.members[1:])
    )
    alone = [one.recall(*each, own) for one, each, own in zip(members, asked, kin, strict=True)]
    order_N = np.array([3, 0, 4, 1, 2, 5])
    mixed = [torch.cat(pair)[order_N] for pair in zip(*asked, strict=True)]
    number_N = np.concatenate(number)[order_N]
    found, expected = memory.recall(*mixed, number_N), joined(alone).at(order_N)
    for name, value in expected.columns().items():
        assert torch.equal(value, getattr(found, name)), name
    strangers = memory.recall(*mixed, nobody(6))
    assert not torch.equal(strangers.offset_m_NKC, found.offset_m_NKC)
    assert len(memory.recall(*(value[:0] for value in mixed), nobody(0)).motion_s_N) == 0


def test_a_member_of_other_intervals_is_asked_where_no_other_is():
    """A sparse one lies wherever its wide spread reaches: near in its own measure alone."""
    near, sparse = Memory(paths_of(walks(12, [40] * 4)), MOTION_S, 1.0), walks(13, [40] * 4)
    slow = [(360.0 * time_s, *places) for time_s, *places in sparse]
    memory = JointMemory((near, Memory(paths_of(slow), 360 * MOTION_S, 1e9)))
    places = near.paths.place(np.array([20, 60]))
    for pace_s, expected in ((10.0, 0), (3_600.0, 1), (1e6, 0)):
        pace_s_N = torch.full((2,), pace_s)
        assert memory.nearest_member(*places, pace_s_N).tolist() == [expected] * 2


def test_kin_of_several_members_are_told_apart():
    _, memory = two_members()
    trips = walks(13, [30] * 4, lon_deg=120.0)
    known = memory.kin_of_context(context_of(trips[1:3], 15, STARTED_US))
    # Asked an hour too early or late all but the first are strangers.
    assert known.tolist() == [NOBODY, NOBODY]
    first = memory.kin_of_context(context_of(trips[:1], 15, STARTED_US))
    own, far = (set(one.paths.kin_R.tolist()) for one in memory.members[1:])
    assert first.tolist() == [memory.members[2].paths.kin_R[0]]
    assert len(own) == len(far) == 3
    assert not own & far


def held(points):
    """Instants and places."""
    columns = points.instant_us_N, points.lon_deg_N, points.lat_deg_N
    return set(zip(*(value.tolist() for value in columns), strict=True))


def as_given(points, entity_R):
    """A memory of trips that nothing is fitted on."""
    return Memory(PastPaths.of(points, entity_R), MOTION_S)


def sharing_members():
    """Walks of two data sets, whose first trip is one and the same.

    So is its entity, of which either has one more trip: the third.
    """
    here, there = walks(12, [40] * 4), walks(13, [40] * 4)
    there[0] = here[0]
    members = [
        Memory(paths_of(here, [0, 1, 0, 2]), MOTION_S, 50.0),
        Memory(paths_of(there, [1, 0, 1, 2]), MOTION_S, 50.0),
    ]
    return members, JointMemory(tuple(members))


def test_one_that_stands_in_two_members_is_kin_in_both():
    _, memory = sharing_members()
    here, there = (one.paths.kin_R for one in memory.members)
    assert here[0] == here[2] == there[0] == there[2]
    assert len({*here.tolist(), *there.tolist()}) == 5
    again = JointMemory(memory.members)
    for one, other in zip(memory.members, again.members, strict=True):
        assert len(set(zip(one.paths.kin_R, other.paths.kin_R, strict=True))) == 3


def test_no_member_tells_one_of_himself():
    """Who asks as one of the first member is told by the second none of his trips there."""
    members, memory = sharing_members()
    at_N = np.array([10, 20, 30])
    asked = *own_motion(members[0], at_N), simple_of(at_N)
    kin_N = memory.members[0].paths.kin_R[np.zeros(3, int)]
    for one in memory.members:
        told = one.recall(*asked, kin_N)
        assert float(told.offset_m_NKC[told.is_known_NK].norm(dim=-1).min()) > 0
    # The plant: to the second member alone he is nobody, and it tells him of his own trip.
    copy = members[1].recall(*asked, nobody(3))
    assert float(copy.offset_m_NKC[copy.is_known_NK].norm(dim=-1).min()) == 0


def test_one_that_stands_in_two_members_is_forgotten_in_both():
    members, memory = sharing_members()
    points = members[0].paths.points
    asked = points.at(points.trajectory_N == 2)  # which stands in the first one alone
    left = forgotten(memory, asked, as_given)
    assert [len(one.paths.kin_R) for one in left.members] == [2, 2]


def test_a_stored_joint_memory_recalls_the_same(tmp_path):
    members, memory = two_members()
    write_memory(tmp_path, memory)
    found = read_memory(tmp_path)
    asked = *own_motion(members[1], np.array([20, 70])), simple_of((20, 70))
    before, after = (one.recall(*asked, nobody(2)) for one in (memory, found))
    for name, value in before.columns().items():
        assert torch.equal(value, getattr(after, name)), name
    assert found.is_personal
    kept = JointMemory(tuple(replace(one, is_personal=False) for one in members))
    write_memory(tmp_path, kept)
    assert not read_memory(tmp_path).is_personal


def test_of_several_members_each_forgets_whoever_was_there_alone():
    members, memory = two_members()
    points = members[1].paths.points

    def forget(memory, point):
        return forgotten(memory, points.at(np.array([point])), as_given)

    left = forget(memory, 40)
    assert left.members[0] is None
    assert held(left.members[1].paths.points) == held(members[0].paths.points)
    own_N = np.isin(points.trajectory_N, [1, 2])  # both are of the entity that was there
    assert held(left.members[2].paths.points) == held(points) - held(points.at(own_N))
    assert len(np.unique(left.members[2].paths.kin_R)) == 2
    last = forget(forget(left, 5), 110)
    assert [one and held(one.paths.points) for one in last.members] == [
        None,
        held(members[0].paths.points),
        None,
    ]
    with pytest.raises(ValueError, match="nobody in the memory was at these places"):
        forget(last, 40)


def test_a_corpus_remembers_nobody(tmp_path):
    """Of several members those of people are left out; of one it stays with the store."""
    folders = [write_shards(tmp_path / name, {"train": [30, 40]}) for name in ("ships", "people")]
    members = [Member("ships", is_personal=False), Member("people")]
    ships, people = remembered(members, folders)
    assert people is None
    assert not ships.is_personal
    (alone,) = remembered(members[1:], folders[1:])
    assert alone.is_personal
    assert joint([None, None]) is None
