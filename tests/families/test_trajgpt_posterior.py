"""Gaps of visits against their exact posterior: what a trained model makes of them is near it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.gap_posterior import GapPosterior
from helpers.process_floors import RegionChainFloor
from helpers.visit_worlds import batch_of_visits, visits_of_law, write_shards_of_law

from model.families import learning_rate_of
from model.inference.serving import load_trained
from model.interface.infilling import HIDDEN_SHARE, hidden_runs, laid_out
from model.synthetic.visit_law import VisitLaw
from model.training.config import FitConfig
from model.training.launch import Training, run

FEWEST, MOST = 6, 14
LAW = VisitLaw(chain=RegionChainFloor(side=3, stay=0.0), at_once=0.0)
POSTERIOR = GapPosterior(LAW, FEWEST, MOST, HIDDEN_SHARE)


def windows(number, seed=10**6):
    """Windows of any length with one run of hidden visits: their law's values, and which hide."""
    found = []
    while len(found) < number:
        generator = np.random.default_rng(seed)
        size = int(generator.integers(FEWEST, MOST + 1))
        is_hidden_V = hidden_runs(generator, size)
        if np.diff(is_hidden_V.astype(int)).clip(0).sum() == 1:
            values = [value_BV[:, :size] for value_BV in visits_of_law(seed, 1, MOST, LAW)]
            found.append((values, is_hidden_V))
        seed += 1
    return found


def trained(num_steps):
    """As the product trains: its loader, its engine."""
    with tempfile.TemporaryDirectory() as name:
        shards, work = Path(name) / "shards", Path(name) / "work"
        spans = {"train": (0, 64 * num_steps), "validation": (900_000, 900_300)}
        write_shards_of_law(shards, spans, MOST, LAW, FEWEST)
        config = FitConfig(
            max_steps=num_steps,
            max_points=MOST,
            learning_rate=learning_rate_of("trajgpt"),
            warmup_steps=20,
            validate_every=num_steps // 2,
        )
        work.mkdir()
        run(Training(str(shards), "trajgpt", "tiny", config), work)
        return load_trained(work).model


def test_the_grid_of_time_is_fine_enough():
    """With bins of half a minute or of two, the posterior is the same; a draw from the law
    is less surprising by it than by the law without the gap's end."""
    finer = replace(POSTERIOR, step_s=120.0, span_s=86_400.0)
    finest = replace(POSTERIOR, step_s=60.0, span_s=86_400.0)
    short = [
        (values, is_hidden_V)
        for values, is_hidden_V in windows(12)
        if np.sum(values[1][0] + values[2][0]) < 86_400
    ]
    assert len(short) >= 3
    for values, is_hidden_V in short:
        row = [value_BV[0] for value_BV in values]
        told, again = (one.surprise(*row, is_hidden_V) for one in (finer, finest))
        assert told == pytest.approx(again, abs=0.05)


@pytest.mark.slow
def test_minutes_of_training_reach_the_posterior_of_gaps():
    """The surprise of what is hidden, ends of answers included, within 3 % of the exact one."""
    model = trained(1_500)
    exact, told = [], []
    for values, is_hidden_V in windows(300):
        exact.append(POSTERIOR.surprise(*(value_BV[0] for value_BV in values), is_hidden_V))
        tokens = laid_out(batch_of_visits(*values, law=LAW), torch.from_numpy(is_hidden_V)[None])
        with torch.no_grad():
            told.append(float(model.loss(tokens).total))
    assert np.mean(told) / np.mean(exact) - 1 < 0.03, (np.mean(told), np.mean(exact))
