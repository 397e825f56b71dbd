"""Made-up trips in the pipeline: who is judged on them, what is written, and what others notice."""

from __future__ import annotations

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import masked_ships, ships

from model.data.shards import Shards
from model.evaluation.generation.generation_rows import (
    AUC,
    COPYING,
    LEARNER_ERROR,
    LOST,
    SKILL,
    whole_rows,
)
from model.evaluation.generation.generation_scores import GENERATION_TABLE
from model.evaluation.generation.made_up import made_up, read_trips
from tasks.config.pipeline import ModelConfig
from tasks.config.slices import GenerationRules
from tasks.evaluate.evaluate import trained_in
from tasks.evaluate.generation import cells_m
from tasks.prepare.conventions import GENERATION_FILE
from tasks.report.generation_tables import (
    WORDS,
    generation_parts,
    generators_table,
    read_generation,
    words_of,
)
from tasks.report.page_parts import markdown_of

ROLLOUTS = "chemin_rollouts"
GENERATORS = (
    *("gdm", "independent_steps", "markov_walk", ROLLOUTS),
    *("resampled_train", "resampled_train_50m"),
)
SPLITS = ("validation", "test")


@pytest.fixture(scope="module")
def made():
    """All that a run can ask for, as cheaply as can be."""
    asked = ("discriminator_steps", 2), ("learner_steps", 2)
    return masked_ships.evaluated("gdm", ("forecast",), asked)


@pytest.fixture(scope="module")
def rows(made):
    return read_generation(made.evaluation)


def test_the_table_holds_every_generator_on_both_splits(made, rows):
    table = pq.read_table(made.evaluation / GENERATION_FILE)
    assert table.schema.equals(GENERATION_TABLE)
    for split in SPLITS:
        for name in GENERATORS:
            told = whole_rows([row for row in rows if row["split"] == split], name)
            assert 0.3 < told[AUC]["value"] <= 1
            assert math.isfinite(told["copied_share"]["floor_high"])
            by_points = told["discriminator_auc_of_points"]
            assert by_points["low"] <= by_points["value"] <= by_points["high"]
            assert 0 < by_points["floor_low"] <= by_points["floor_high"]
            assert (LOST in told) == (LEARNER_ERROR in told) == (name != ROLLOUTS)
            assert (SKILL in told) == (name == "gdm") == ("membership_auc_by_loss" in told)
    bars = {row["bar"] for row in rows if row["measure"] == SKILL}
    assert len(bars) == 1
    assert bars < set(GENERATORS[1:4])


def test_who_learns_from_train_drawn_again_loses_what_the_ceiling_says(rows):
    """All are asked about the same windows: the floor and the ceiling are those of everyone."""
    for split in SPLITS:
        own = [row for row in rows if row["split"] == split and row["measure"] == LOST]
        assert len({(row["floor"], row["floor_low"], row["ceiling"]) for row in own}) == 1
        [again] = [row for row in own if row["model"] == "resampled_train"]
        assert again["value"] == again["ceiling"] != again["floor"]
        assert all(row["low"] <= row["value"] <= row["high"] for row in own)
        assert len({row["value"] for row in own}) == len(own) == len(GENERATORS) - 1


def test_no_trip_is_lost(made):
    counts = made.evaluated.counts
    shards = Shards.open(made.store.folder(made.shards))
    trips = read_trips(shards, SPLITS, 10_000)
    for split in SPLITS:
        told = {name: counts[f"{split}_generate_{name}"] for name in ("trips", "judged")}
        faults = [counts[f"{split}_generate_{name}"] for name in ("off_sphere", "unordered")]
        assert told["trips"] == len(trips[split]) == 2 * ships.SIZES[split]
        assert told["trips"] == told["judged"] + sum(faults)


def test_trips_are_the_stored_windows(made):
    """An entity has one number in all splits, and a part is spread evenly."""
    shards = Shards.open(made.store.folder(made.shards))
    trips = read_trips(shards, ("train", *SPLITS), 10_000)
    assert {*np.diff(trips["test"].offset_R)} == {masked_ships.NUM_POINTS}
    sizes = [len({*one.entity_R.tolist()}) for one in trips.values()]
    assert sizes[1:] == [ships.SIZES[split] // 2 for split in SPLITS]  # two trips each
    assert len({*np.concatenate([one.entity_R for one in trips.values()]).tolist()}) == sum(sizes)
    few = read_trips(shards, ("train",), 30)["train"]
    assert len(few) == 30
    assert len({*few.entity_R.tolist()}) >= 15  # from all over the split


def test_weights_and_seed_tell_the_trips(made):
    """From the stored weights, in two goes, the trips that were judged come again."""
    shards = Shards.open(made.store.folder(made.shards))
    real = read_trips(shards, ("test",), 10_000)["test"]
    first, again, other = (
        made_up(trained_in(made.store.folder(made.trained)), real, "UTC", seed).points
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.lon_deg_N, again.lon_deg_N)
    np.testing.assert_array_equal(first.instant_us_N, again.instant_us_N)
    assert not np.array_equal(first.lon_deg_N, other.lon_deg_N)


def test_others_are_not_judged_on_it():
    for family in ("chemin", "trajgpt"):
        config = masked_ships.config_of("gdm").model_copy(
            update={"model": ModelConfig(family=family, preset="tiny")}
        )
        assert config.generation_rules is None
    rules = masked_ships.config_of("gdm").generation_rules
    assert isinstance(rules, GenerationRules)
    assert rules.num_generated == 10_000
    assert rules.discriminator_steps == rules.learner_steps == 0, "minutes that nobody asked for"
    made = masked_ships.evaluated("masked_chemin")
    assert read_generation(made.evaluation) == []
    assert not any("generate" in name for name in made.evaluated.counts)


@pytest.mark.parametrize(("resolution", "cells"), [(8, (500.0, 2_000.0)), (3, (6.5e4, 2.6e5))])
def test_cells_are_those_of_the_data(resolution, cells):
    rules = masked_ships.config_of("gdm").generation_rules
    assert cells_m(rules.model_copy(update={"resolution": resolution})) == cells


def test_the_report_tells_it_in_words(made, rows):
    text = markdown_of(generation_parts(made.evaluation, "gdm"))
    assert "Trees tell what gdm makes up from real trips with an area of" in text
    assert "copies of train" in text
    assert "| **gdm** |" in text
    for words in ("real trips", "trips of train drawn again", "independent steps", "markov walk"):
        assert f"| {words} |" in text
    assert text.count("| by a Transformer |") == 2  # on both splits
    assert "Who learns to forecast from such trips alone" in text
    unasked = [row for row in rows if row["measure"] != "discriminator_auc_of_points"]
    assert "by a Transformer" not in generators_table(unasked, "test", "gdm").columns
    assert all(WORDS[name] in text for name in COPYING)
    assert {words_of(row["measure"]) for row in rows if row["measure"] != SKILL} <= {
        line.split(" | ")[0].strip("| ") for line in text.splitlines()
    }
    assert "nan" not in text
    table = generators_table(rows, "test", "gdm")
    areas = [float(row[1]) for row in table.rows[: len(GENERATORS)]]
    assert areas == sorted(areas)
