"""Scores of next visits: ranks as scikit-learn tells them, CRPS as scoringrules, a law's own."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import scoringrules
import torch
from helpers.visit_worlds import LAW, batch_of_visits, visits_of_law, write_shards_of_law
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, top_k_accuracy_score

from model.data.visits import VisitShards
from model.evaluation.next_visit_scores import (
    NEW,
    SEEN,
    UNKNOWN,
    duration_errors,
    kinds_of,
    rank_scores,
)
from model.evaluation.question import AnswerError, Judging
from model.evaluation.score_table import wide_rows
from model.evaluation.scores import scored
from model.features.places import NUM_SPECIAL, Special
from model.interface.next_visit import parted
from model.layers.durations import DurationMixture

TASKS = ("next_region", "next_travel", "next_stay")
NUM_VISITS = 8


# ------------------------------------------------------------------ ranks


def test_ranks_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    score_NR, region_N = generator.standard_normal((300, 30)), generator.integers(0, 30, 300)
    found = rank_scores(torch.from_numpy(score_NR), torch.from_numpy(region_N) + NUM_SPECIAL)
    for hit in (1, 5, 10, 20):
        expected = top_k_accuracy_score(region_N, score_NR, k=hit, labels=np.arange(30))
        assert float(found[f"acc_{hit}"].mean()) == pytest.approx(expected)
    is_true_NR = np.arange(30) == region_N[:, None]
    assert float(found["ndcg_10"].mean()) == pytest.approx(ndcg_score(is_true_NR, score_NR, k=10))
    rank_N = 1 + (score_NR > score_NR[is_true_NR][:, None]).sum(1)
    np.testing.assert_allclose(found["mrr"], 1 / rank_N)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=5), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_regions_that_tie_share_their_places(scores, truth):
    """As if the order of equals was drawn: the mean over all orders."""
    truth %= len(scores)
    found = rank_scores(
        torch.tensor([scores], dtype=torch.float64), torch.tensor([truth + NUM_SPECIAL])
    )
    ranks = [
        1 + sorted(range(len(scores)), key=lambda r, o=order: (-scores[r], o[r])).index(truth)
        for order in itertools.permutations(range(len(scores)))
    ]
    assert float(found["mrr"]) == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert float(found["acc_1"]) == pytest.approx(np.mean([rank == 1 for rank in ranks]))


def test_an_unknown_region_is_a_miss_whatever_is_answered():
    certain = torch.tensor([[0.0, -9.0, -9.0]]).double()
    for name, value in rank_scores(certain, torch.tensor([int(Special.UNKNOWN)])).items():
        assert float(value) == 0, name


def test_windows_are_told_apart_by_what_comes():
    region_BV = np.array([[0, 1, 0, 1], [0, 1, 0, 2], [0, 1, 0, 1]])
    times = np.full(region_BV.shape, 600.0), np.full(region_BV.shape, 1_800.0)
    batch = batch_of_visits(region_BV, *times)
    batch.region_BV[2, 3] = int(Special.UNKNOWN)
    assert kinds_of(*parted(batch)) == [SEEN, NEW, UNKNOWN]


# ------------------------------------------------------------------ times


def test_crps_and_coverage_agree_with_scoringrules_and_with_what_was_promised():
    generator = np.random.default_rng(1)
    mean_N, scale_N = generator.uniform(6, 8, 4_000), generator.uniform(0.2, 0.8, 4_000)
    seconds_N = np.exp(mean_N + scale_N * generator.standard_normal(4_000))
    numbers = (torch.from_numpy(value).unsqueeze(1) for value in (0 * mean_N, mean_N, scale_N))
    law = DurationMixture(torch.full((4_000,), -torch.inf).double(), *numbers)
    every_N = torch.ones(4_000, dtype=torch.bool)
    found = duration_errors(law, torch.from_numpy(seconds_N), every_N, "a law", "travels")
    expected = scoringrules.crps_lognormal(seconds_N, mean_N, scale_N)
    assert float(found["crps_s"].mean()) == pytest.approx(expected.mean(), rel=0.01)
    for percent in (50, 80, 95):
        share = float(found[f"coverage_{percent}"].mean())
        assert share == pytest.approx(percent / 100, abs=0.02)
    assert bool((found["within_5_min"] <= found["within_10_min"]).all())


def test_an_answer_that_is_no_number_is_refused():
    law = DurationMixture(
        torch.full((2,), -torch.inf).double(),
        torch.zeros(2, 1).double(),
        torch.tensor([[7.0], [math.nan]]).double(),
        torch.ones(2, 1).double(),
    )
    seconds_N = torch.tensor([900.0, 900.0]).double()
    with pytest.raises(AnswerError, match="a law left travels"):
        duration_errors(law, seconds_N, torch.tensor([True, True]), "a law", "travels")
    duration_errors(law, seconds_N, torch.tensor([True, False]), "a law", "travels")


# ------------------------------------------------------------------ the law itself


@dataclass(frozen=True)
class Told:
    """What the law tells of the visit after the last one of each history."""

    region_N: torch.Tensor

    @property
    def log_region_NR(self):
        chance_NR = torch.zeros(len(self.region_N), NUM_SPECIAL + LAW.chain.num_regions)
        chance_NR[:, NUM_SPECIAL:] = torch.from_numpy(LAW.chain.transition_RR)[self.region_N]
        return chance_NR.double().log()

    def travel(self, region_N):
        median_N = LAW.travel_median_s(region_N.numpy() - NUM_SPECIAL)
        return self.law(median_N, LAW.travel_spread, LAW.at_once, 0.0)

    def stay(self, arrivals):
        region_N = arrivals.region_N.numpy() - NUM_SPECIAL
        median_N = LAW.stay_median_s(region_N, arrivals.travel_s_N.numpy())
        return self.law(median_N, LAW.stay_spread, 0.0, LAW.least_stay_s)

    @staticmethod
    def law(median_N, spread, at_zero, edge_s):
        log_median_N1 = torch.from_numpy(median_N).log().unsqueeze(1)
        log_zero = torch.full((len(median_N),), at_zero).double().log()
        width = torch.full_like(log_median_N1, spread)
        return DurationMixture(log_zero, torch.zeros_like(width), log_median_N1, width, edge_s)


class Law:
    """An answerer that knows the law, and notes what it is shown."""

    name, tasks, is_baseline = "law", ("next_visit",), False

    def __init__(self):
        self.shown = []

    def next_visit(self, history):
        self.shown.append(history)
        last_B = (~history.is_pad_BV).sum(1) - 1
        return Told(history.region_BV[range(len(last_B)), last_B] - NUM_SPECIAL)


class Uniform(Law):
    """Every region is as likely."""

    name, is_baseline = "uniform", True

    def next_visit(self, history):
        return Even(super().next_visit(history).region_N)


class Even(Told):
    @property
    def log_region_NR(self):
        log_NR = super().log_region_NR
        return torch.full_like(log_NR, -math.log(log_NR.shape[1]))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visits")
    spans = {"train": (0, 50), "validation": (7_000, 7_050), "test": (8_000, 9_000)}
    write_shards_of_law(folder, spans, NUM_VISITS)
    law = Law()
    judging = Judging(tasks=TASKS, num_bootstrap=50)
    told = scored(VisitShards.open(folder), [law, Uniform()], "test", judging)
    return told, law


def test_the_law_is_told_to_be_as_good_as_it_is(found):
    table, region_BV, *times = found[0].table, *visits_of_law(8_000, 1_000, NUM_VISITS)
    row = {
        task: wide_rows(table, task=task, mask="all", stratum="all", model="law")[0]
        for task in TASKS
    }
    last_nll = [LAW.chain.nll(region_V)[-1] for region_V in region_BV]
    assert row["next_region"]["nll"] == pytest.approx(np.mean(last_nll), abs=1e-6)
    travel_nll = LAW.travel_nll(region_BV, times[0])[:, -1].mean()
    assert row["next_travel"]["nll"] == pytest.approx(travel_nll, abs=1e-5)
    stay_nll = LAW.stay_nll(region_BV, *times)[:, -1].mean()
    assert row["next_stay"]["nll"] == pytest.approx(stay_nll, abs=1e-5)
    assert 0.76 < row["next_stay"]["coverage_80"] < 0.84
    # A tenth of the travels takes no time: the lower end of the area lies there and holds them.
    assert 0.86 < row["next_travel"]["coverage_80"] < 0.93
    assert 0.5 < row["next_region"]["skill"] < 1
    assert row["next_region"]["skill_low"] > 0
    assert row["next_travel"]["skill"] == 0


def test_masks_tell_what_comes_and_their_windows_add_up(found):
    for task in TASKS:
        rows = wide_rows(found[0].table, task=task, stratum="all", model="law")
        sizes = {one["mask"]: one["num_windows"] for one in rows}
        assert sizes["all"] == 1_000 == sizes[SEEN] + sizes[NEW]
        assert sizes[SEEN] > 0 < sizes[NEW]


def test_whoever_is_asked_is_shown_no_more_than_the_history(found):
    """The visit that is asked for is in no column that is shown."""
    _, law = found
    for history in law.shown:
        assert history.region_BV.shape[1] == NUM_VISITS - 1
        assert not bool(history.is_target_BV.any())
        assert not bool(history.is_pad_BV.any())
