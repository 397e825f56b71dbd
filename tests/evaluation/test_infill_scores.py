"""Scores of filled gaps: CRPS as scoringrules tells it, whereabouts by counting, truth unseen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scoringrules
import torch
from helpers.trajgpt_models import random_weights
from helpers.visit_worlds import (
    HIDDEN,
    MONDAY_US,
    batch_of_visits,
    places_of,
    visits_of_law,
    write_shards_of_law,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from model.baselines.visit_bridge import fitted_fillers
from model.data.reading import WindowBatch, read_windows
from model.data.visits import VisitShards
from model.evaluation.infill_scores import (
    HiddenRun,
    asked_of,
    edit_share,
    gap_errors,
    misplaced_share,
    region_accuracy,
    runs_of,
)
from model.evaluation.probability import crps_of_samples
from model.evaluation.question import AnswerError, Judging
from model.evaluation.score_table import wide_rows
from model.evaluation.scores import scored
from model.families.trajgpt.family import DrawnTrajGpt
from model.features.places import Special
from model.inference.serving import Trained
from model.interface.infilling import FilledGap, FilledVisit, with_gaps

A, B, C = 7, 8, 9
STARTED = torch.full((4,), MONDAY_US)


def hidden_batch(num_rows=4):
    whole = batch_of_visits(*visits_of_law(77, num_rows, 8), num_pads=2)
    is_target_BV = torch.zeros_like(whole.is_pad_BV)
    is_target_BV[:, list(HIDDEN)] = True
    return replace(whole, is_target_BV=is_target_BV)


def with_other_truth(batch):
    """The same windows with other visits in their gaps."""
    hidden = batch.is_target_BV
    return replace(
        batch,
        region_BV=torch.where(hidden, 6, batch.region_BV),
        east_m_BV=torch.where(hidden, 1e6, batch.east_m_BV),
        north_m_BV=torch.where(hidden, 1e6, batch.north_m_BV),
        arrived_s_BV=torch.where(hidden, -5.0, batch.arrived_s_BV),
        left_s_BV=torch.where(hidden, -1.0, batch.left_s_BV),
        calendar_BVK=torch.where(hidden.unsqueeze(-1), 0.5, batch.calendar_BVK),
        is_censored_BV=batch.is_censored_BV | hidden,
        is_way_seen_BV=batch.is_way_seen_BV & ~hidden,
    )


# ------------------------------------------------------------------ what is asked


def test_hidden_visits_are_taken_out_and_gaps_lie_where_they_were():
    batch = hidden_batch()
    batch.is_pad_BV[1, 7:] = True  # a row with fewer visits
    shown, is_gap_BV = with_gaps(batch)
    kept = [place for place in range(8) if place not in HIDDEN]
    torch.testing.assert_close(shown.arrived_s_BV[0], batch.arrived_s_BV[0, kept])
    assert shown.region_BV[0].tolist() == batch.region_BV[0, kept].tolist()
    assert is_gap_BV[0].tolist() == [False, True, True, False, False]
    assert shown.is_pad_BV.tolist() == [[False] * 5, [False] * 4 + [True]] + [[False] * 5] * 2
    assert shown.region_BV[1, 4] == Special.PAD
    assert shown.arrived_s_BV[1, 4] == shown.left_s_BV[1, 4] == batch.left_s_BV[1, 6]
    assert not shown.is_target_BV.any()
    assert shown.is_way_seen_BV[0].tolist() == [True, True, False, False, True]


def test_no_answer_depends_on_what_is_hidden():
    batch = hidden_batch()
    other = with_other_truth(batch)
    train = [batch_of_visits(*visits_of_law(5, 20, 8))]
    for who in (*fitted_fillers(train, places_of()), Trained(random_weights(DrawnTrajGpt))):
        first, again = (who.infill(*with_gaps(one), STARTED, 3, 0, "UTC") for one in (batch, other))
        assert first == again, who.name
        moved = replace(batch, arrived_s_BV=batch.arrived_s_BV + (batch.arrived_s_BV > 0) * 60)
        assert who.infill(*with_gaps(moved), STARTED, 3, 0, "UTC") != first


def test_runs_tell_what_was_in_each_gap():
    batch = hidden_batch()
    batch.is_censored_BV[0, 5] = True
    batch.is_way_seen_BV[0, 3] = False
    one, two = runs_of(batch, 0)
    arrived_s, left_s, region = (
        column[0].tolist() for column in (batch.arrived_s_BV, batch.left_s_BV, batch.region_BV)
    )
    assert [visit.region for visit in one.visits + two.visits] == [region[v] for v in HIDDEN]
    assert (one.began_s, one.ends_s) == (left_s[1], arrived_s[3])
    assert (two.began_s, two.ends_s) == (left_s[3], arrived_s[6])
    assert one.unseen == [(left_s[2], arrived_s[3])]
    assert two.unseen == [(left_s[5], arrived_s[6])]
    assert (one.is_last_left, two.is_last_left) == (True, False)


def test_windows_with_a_gap_that_holds_no_stay_are_asked_of_nobody():
    batch = hidden_batch()
    batch.arrived_s_BV[2, 3] = batch.left_s_BV[2, 1] + 1_000
    names = tuple("abcd")
    stored = WindowBatch(batch, names, STARTED, names, "UTC")
    question = asked_of(stored, 1_200.0)
    assert question.entity_id == question.mask == ["a", "b", "d"]
    assert question.window_id == [0, 1, 3]
    shown, is_gap_BV, started_us_B, _, runs = question.windows
    assert len(shown.region_BV) == len(is_gap_BV) == len(started_us_B) == len(runs) == 3
    assert asked_of(stored, 1e9) is None


# ------------------------------------------------------------------ errors


def test_crps_of_samples_agrees_with_scoringrules():
    generator = np.random.default_rng(0)
    sample_BS, value_B = generator.exponential(3, (50, 20)), generator.exponential(3, 50)
    found_B = crps_of_samples(torch.from_numpy(sample_BS), torch.from_numpy(value_B))
    expected_B = scoringrules.crps_ensemble(value_B, sample_BS, estimator="fair")
    np.testing.assert_allclose(found_B, expected_B)


RUN = HiddenRun([FilledVisit(A, 10, 60), FilledVisit(B, 80, 90)], 0, 100, [], True)


def test_of_a_single_answer_misplaced_is_the_share_of_time_elsewhere():
    late = [FilledVisit(A, 20, 60), FilledVisit(C, 80, 90)]
    assert misplaced_share([late] * 3, RUN) == pytest.approx((10 + 10) / 100)
    assert misplaced_share([RUN.visits] * 2, RUN) == 0
    assert misplaced_share([[FilledVisit(C, 0, 100)]] * 2, RUN) == 1


def test_time_that_nobody_saw_and_unknown_regions_are_no_hits():
    unseen = replace(RUN, unseen=[(60, 80)])
    assert misplaced_share([[FilledVisit(A, 10, 80)]] * 2, unseen) == pytest.approx(10 / 80)
    unknown = replace(RUN, visits=[FilledVisit(Special.UNKNOWN, 10, 60)])
    told = [FilledVisit(Special.UNKNOWN, 10, 60)]
    assert misplaced_share([told] * 2, unknown) == pytest.approx(0.5)


moments = st.lists(st.integers(0, 20), min_size=2, max_size=4, unique=True).map(sorted)
answers = st.builds(
    lambda times, regions: [
        FilledVisit(region, *span)
        for region, span in zip(regions, zip(times[::2], times[1::2], strict=False), strict=False)
    ],
    moments,
    st.lists(st.sampled_from([A, B]), min_size=2, max_size=2),
)


@given(st.lists(answers, min_size=2, max_size=4), answers)
@settings(max_examples=40, deadline=None)
def test_misplaced_is_the_energy_score_counted_instant_by_instant(samples, truth):
    def places(visits):
        return np.array(
            [
                next((v.region for v in visits if v.arrived_s <= t < v.left_s), -1)
                for t in np.arange(20) + 0.5
            ]
        )

    told = [places(visits) for visits in samples]
    away = np.mean([(one != places(truth)).mean() for one in told])
    pairs = [(a != b).mean() for i, a in enumerate(told) for j, b in enumerate(told) if i != j]
    found = misplaced_share(samples, HiddenRun(truth, 0, 20, [], True))
    assert found == pytest.approx(away - np.mean(pairs) / 2)


@pytest.mark.parametrize(
    ("told", "true", "edits", "right"),
    [
        ((A, B), (A, B), 0, 1),
        ((A,), (A, B), 1 / 2, 1 / 2),
        ((B, A, B), (A, B), 1 / 3, 0),
        ((A, C, B), (A, B, C), 2 / 3, 1 / 3),
        ((Special.UNKNOWN,), (Special.UNKNOWN,), 1, 0),
    ],
)
def test_rows_of_regions_are_compared_by_hand(told, true, edits, right):
    assert edit_share(told, true) == edit_share(true, told) == pytest.approx(edits)
    assert region_accuracy(told, true) == pytest.approx(right)


def test_the_most_frequent_filling_is_the_answer_and_numbers_are_counted():
    wrong = [FilledVisit(C, 10, 90)]
    found = gap_errors([wrong, RUN.visits, RUN.visits, wrong, RUN.visits], RUN, "someone")
    assert found["region_acc"] == found["num_acc"] == 1
    assert found["num_right"] == pytest.approx(3 / 5)
    assert found["edit_share"] == pytest.approx(2 / 5)
    assert found["arrival_crps_s"] == found["departure_crps_s"] == 0
    open_run = replace(RUN, is_last_left=False)
    assert np.isnan(gap_errors([wrong, wrong], open_run, "someone")["departure_crps_s"])


@pytest.mark.parametrize("samples", [[[], []], [RUN.visits], [[FilledVisit(A, np.nan, 3)]] * 2])
def test_an_answer_that_lacks_something_is_refused(samples):
    with pytest.raises(AnswerError, match="someone left a gap"):
        gap_errors(samples, RUN, "someone")


# ------------------------------------------------------------------ the table


class Knowing:
    """An answerer that was told the truth."""

    name, tasks, is_baseline = "knowing", ("infill",), False

    def __init__(self, shards):
        [stored] = read_windows(shards, "test", 1_000, task="infill")
        self.runs = [runs_of(stored.batch, row) for row in range(len(stored.entity_id_B))]

    def infill(self, shown, is_gap_BV, started_us_B, num_samples, seed, zone):
        return [[FilledGap(0, [run.visits] * num_samples) for run in runs] for runs in self.runs]


def test_truth_makes_no_error_and_baselines_stand_beside_it(tmp_path):
    spans = {"train": (0, 60), "validation": (7_000, 7_040), "test": (8_000, 8_060)}
    asked = ("train", "validation", "test")
    write_shards_of_law(tmp_path, spans, 8, splits_asked=asked, num_infilled=40)
    shards = VisitShards.open(tmp_path)
    train = (one.batch for one in read_windows(shards, "train", 1_000, task="next_visit"))
    rivals = fitted_fillers(train, shards.places)
    judging = Judging(tasks=("infill",), num_bootstrap=50)
    table = scored(shards, [Knowing(shards), *rivals], "test", judging).table
    rows = {row["model"]: row for row in wide_rows(table, task="infill")}
    assert [*rows] == ["knowing", "markov_bridge", "own_most_frequent"]
    assert {row["num_windows"] for row in rows.values()} == {40}
    knowing = rows["knowing"]
    assert knowing["misplaced_share"] == knowing["edit_share"] == knowing["arrival_crps_s"] == 0
    assert knowing["region_acc"] == knowing["num_right"] == knowing["skill"] == 1
    assert rows["markov_bridge"]["skill"] == 0 < rows["markov_bridge"]["region_acc"]
