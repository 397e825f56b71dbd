"""Trainings whose rows are drawn otherwise: of every family that reads points, and train alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers.shards import write_shards

from model.data.draws import drawn
from model.data.members import Members
from model.training.config import FitConfig
from model.training.launch import Training, run

PLAIN = FitConfig(
    max_steps=1, batch_size=8, max_points=24, learning_rate=1e-9, warmup_steps=0, validate_every=1
)
DRAWN = replace(PLAIN, thinned=0.4, finer=0.4, short=0.2)
NORMALISER = {
    "num_steps": 100,
    "step_s": {"p10": 2.0, "p50": 10.0, "p90": 18.0},
    "speed_mps": {"p10": 3.0, "p50": 12.0, "p90": 50.0},
    "step_m": {"p10": 50.0, "p50": 120.0, "p90": 250.0},
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, {"train": [90, 40, 13, 60, 120, 9], "validation": [50, 30]})
    (folder / "normaliser.json").write_text(json.dumps(NORMALISER))
    return str(folder)


def losses(shards, folder, fit, family):
    """Of the first step, and of the validation behind it."""
    folder.mkdir()
    run(Training(shards, family, "tiny", fit), folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        next(line[name] for line in lines if name in line) for name in ("loss", "validation_loss")
    ]


@pytest.mark.parametrize("family", ["foundry", "masked_chemin"])
def test_train_is_drawn_and_validation_is_not(shards, tmp_path, family, monkeypatch):
    plain, drawn = (
        losses(shards, tmp_path / name, fit, family)
        for name, fit in (("plain", PLAIN), ("drawn", DRAWN))
    )
    assert drawn[0] != pytest.approx(plain[0], rel=1e-3)
    assert drawn[1] == pytest.approx(plain[1], rel=1e-5)
    # A plant: whatever is read is drawn.
    monkeypatch.setattr(Members, "judged", everywhere(Members.judged))
    spoilt = losses(shards, tmp_path / "spoilt", DRAWN, family)
    assert spoilt[1] != pytest.approx(plain[1], rel=1e-5)


def everywhere(judged):
    def read(self, *asked):
        for batch in judged(self, *asked):
            yield drawn(batch, DRAWN.draws, DRAWN.max_points, DRAWN.seed)

    return read


def test_visits_are_not_drawn(shards, tmp_path):
    with pytest.raises(ValueError, match="trajgpt reads visits, which are not thinned"):
        run(Training(shards, "trajgpt", "tiny", DRAWN), tmp_path)
