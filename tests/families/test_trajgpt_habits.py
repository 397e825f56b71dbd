"""Habits of visits by hand: what stays and ways of the history tell of the next ones."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from model.families.trajgpt.habits import (
    LEAST_SPREAD,
    NEAR_M,
    SOON_S,
    StayHabit,
    WayHabit,
)
from model.families.trajgpt.recall import Recalled
from model.interface.next_visit import Arrivals

HOUR_S, SCALE_S = 3_600.0, 600.0
HOME, WORK = 7, 8


def log_of(seconds):
    return math.log1p(seconds / SCALE_S)


@pytest.fixture
def recalled():
    """A night at home, a day at work from nine to five, and home again from six on."""
    flag = torch.ones(1, 3, dtype=torch.bool)
    return Recalled(
        share_NV=torch.tensor([[0.0, 0.5, 0.5]]),
        region_NV=torch.tensor([[HOME, WORK, HOME]]),
        place_m_NC=torch.zeros(1, 2),
        is_visit_N=torch.tensor([True]),
        here_N=torch.tensor([HOME]),
        left_s_N=torch.tensor([32 * HOUR_S]).double(),
        place_m_NVC=torch.tensor([[[0.0, 0.0], [3_000.0, 4_000.0], [0.0, 0.0]]]),
        arrived_s_NV=torch.tensor([[0.0, 9.0, 18.0]]).double() * HOUR_S,
        left_s_NV=torch.tensor([[8.0, 17.0, 32.0]]).double() * HOUR_S,
        is_whole_NV=flag,
        is_way_seen_NV=torch.tensor([[False, True, True]]),
    )


def arrival(region, hour):
    hour_N = torch.tensor([hour]).double() * HOUR_S
    return Arrivals(torch.tensor([region]), hour_N, hour_N, torch.zeros(1, 4), hour_N + math.inf)


def test_a_stay_is_told_by_the_one_before(recalled):
    told = StayHabit(SCALE_S)(arrival(WORK, 34.0), recalled)  # at ten on the second day
    expected = [1.0, log_of(8 * HOUR_S), LEAST_SPREAD, log_of(7 * HOUR_S), LEAST_SPREAD]
    torch.testing.assert_close(told, torch.tensor([expected]), rtol=1e-5, atol=1e-5)


def test_the_visit_that_began_at_the_same_hour_counts_most(recalled):
    night = StayHabit(SCALE_S)(arrival(HOME, 42.0), recalled)[0, 1]
    noon = StayHabit(SCALE_S)(arrival(HOME, 49.0), recalled)[0, 1]
    lasted = log_of(8 * HOUR_S), log_of(14 * HOUR_S)
    assert abs(night - lasted[1]) < abs(night - lasted[0])
    assert abs(noon - lasted[0]) < abs(noon - lasted[1])


def test_what_was_not_seen_to_end_tells_nothing(recalled):
    censored = replace(recalled, is_whole_NV=torch.tensor([[True, False, True]]))
    assert StayHabit(SCALE_S)(arrival(WORK, 34.0), censored).tolist() == [[0.0] * 5]
    assert StayHabit(SCALE_S)(arrival(9, 34.0), recalled).tolist() == [[0.0] * 5]


def test_a_way_is_told_by_those_before(recalled):
    """From home to work it took an hour, and so did the way back, over five kilometres."""
    told = WayHabit(SCALE_S)(torch.tensor([WORK]), recalled)
    slow = math.log(HOUR_S + SOON_S) - math.log(5_000.0 + NEAR_M)
    expected = [1.0, log_of(HOUR_S), LEAST_SPREAD, 1.0, slow, LEAST_SPREAD]
    torch.testing.assert_close(told, torch.tensor([expected]), rtol=1e-5, atol=1e-5)
    elsewhere = WayHabit(SCALE_S)(torch.tensor([9]), recalled)
    assert elsewhere[0, :3].tolist() == [0.0] * 3
    torch.testing.assert_close(elsewhere[0, 3:], told[0, 3:])


def test_a_way_that_nobody_saw_tells_nothing(recalled):
    unseen = replace(recalled, is_way_seen_NV=torch.zeros(1, 3, dtype=torch.bool))
    assert WayHabit(SCALE_S)(torch.tensor([WORK]), unseen).tolist() == [[0.0] * 6]


def test_habits_do_not_depend_on_when_a_window_begins(recalled):
    by_s = 987_654.0
    later = replace(
        recalled,
        arrived_s_NV=recalled.arrived_s_NV + by_s,
        left_s_NV=recalled.left_s_NV + by_s,
        left_s_N=recalled.left_s_N + by_s,
    )
    now, then = arrival(HOME, 42.0), arrival(HOME, 42.0 + by_s / HOUR_S)
    stay, way = StayHabit(SCALE_S), WayHabit(SCALE_S)
    torch.testing.assert_close(stay(now, recalled), stay(then, later))
    region_N = torch.tensor([WORK])
    torch.testing.assert_close(way(region_N, recalled), way(region_N, later))
