"""Stored masks: what a judged window hides is what is stored with it, and is never drawn anew.

Everybody must be asked the same, today and next year: a mask that is drawn while models are judged
gives each of them, and each run, another question.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import masked_ships
from helpers.visit_worlds import write_shards_of_law

from model.data import reading
from model.data.shards import Shards
from model.data.visits import VisitShards
from model.evaluation.infill_scores import InfillScorer
from model.evaluation.judged_tasks import TIMES_GIVEN
from model.evaluation.question import Judging
from model.evaluation.recovery_scores import RecoveryScorer, recovery_question
from tasks.runtime.store import Store


@cache
def ships_in(folder):
    store = Store(folder)
    return store.folder(masked_ships.stored_shards(store, masked_ships.RECOVERY))


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    return Shards.open(ships_in(tmp_path_factory.mktemp("ships")), "UTC")


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visits")
    spans = {"train": (0, 5), "validation": (7_000, 7_020), "test": (8_000, 8_030)}
    write_shards_of_law(folder, spans, 8, num_infilled=20)
    return VisitShards.open(folder)


def shown_points(task, question):
    """Which points of each window are shown a place when they are asked for the others."""
    asked = recovery_question(question.windows, TIMES_GIVEN)
    is_shown_BT, is_pad_BT = ~asked.lon_deg_BT.isnan(), question.windows.batch.is_pad_BT
    return [shown_T[~pad_T].tolist() for shown_T, pad_T in zip(is_shown_BT, is_pad_BT, strict=True)]


def shown_visits(task, question):
    """The same of visits, from the gaps that are told and from what is judged in each."""
    shown, is_gap_BV, _, _, runs_BG = question.windows
    found = []
    for row, runs in enumerate(runs_BG):
        num_hidden, is_shown = iter(runs), []
        for is_pad, is_gap in zip(shown.is_pad_BV[row], is_gap_BV[row], strict=True):
            is_shown += [] if is_pad else [True]
            is_shown += [False] * len(next(num_hidden).visits) if is_gap else []
        found.append(is_shown)
    return found


def asked(scorer, shown, shards, split, at_once):
    """What is shown of each window by its number."""
    questions = scorer.questions(shards, split, (), Judging(windows_at_once=at_once))
    return {
        number: is_shown
        for question in questions
        for number, is_shown in zip(question.window_id, shown(scorer.task, question), strict=True)
    }


def check_what_is_hidden_is_stored(scorer, shown, shards):
    """Of validation and test, however many are asked at once, and each time."""
    stored = pq.read_table(shards.folder / "windows.parquet").to_pylist()
    for split in ("validation", "test"):
        expected = {
            window["window_id"]: window["is_observed"]
            for window in stored
            if (window["split"], window["task"]) == (split, scorer.task)
        }
        assert expected
        for at_once in (1_000, 7, 7):
            assert asked(scorer, shown, shards, split, at_once) == expected


def drawn_anew(seed_of, windows, num_points):
    """As many hidden places of each window as are stored, but others: a planted fault."""
    is_observed_BT = STORED(windows, num_points)
    sizes_B = windows["num_points"].to_numpy()
    for row, (number, size) in enumerate(
        zip(windows["window_id"].to_pylist(), sizes_B, strict=True)
    ):
        np.random.default_rng(seed_of(number)).shuffle(is_observed_BT[row, 1 : size - 1])
    return is_observed_BT


STORED = reading.observed_mask


@pytest.mark.parametrize("kind", ["recover", "infill"])
def test_what_is_hidden_is_stored_with_the_window(kind, request, monkeypatch):
    check = partial(
        check_what_is_hidden_is_stored,
        *{
            "recover": (RecoveryScorer("recover"), shown_points),
            "infill": (InfillScorer(), shown_visits),
        }[kind],
        request.getfixturevalue({"recover": "points", "infill": "visits"}[kind]),
    )
    check()
    for seed_of in (lambda number: None, lambda number: number):  # any time anew, or by the window
        monkeypatch.setattr(reading, "observed_mask", partial(drawn_anew, seed_of))
        with pytest.raises(AssertionError):
            check()
