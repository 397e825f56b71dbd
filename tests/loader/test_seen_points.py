"""Seen points: a sketch tells what share of some points a model was trained on."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.shards import write_shards
from hypothesis import given
from hypothesis import strategies as st

from model.data import seen_points as module
from model.data.seen_points import (
    SEEN_FILE,
    SeenPoints,
    bits_of,
    point_bits,
    seen_points,
    seen_share,
)
from tasks.prepare import conventions

NUMBERS = st.lists(st.integers(0, 2**64 - 1), max_size=80).map(
    lambda numbers: np.array(numbers, np.uint64)
)
MAX_KEPT = 20


def points(number: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    instant_us = generator.integers(0, 10**15, number)
    return point_bits(
        instant_us, generator.uniform(-180, 180, number), generator.uniform(-90, 90, number)
    )


@pytest.fixture
def few_kept(monkeypatch):
    monkeypatch.setattr(module, "MAX_KEPT", MAX_KEPT)


@given(NUMBERS, NUMBERS)
def test_the_sketch_of_both_is_made_of_both_sketches(first, second):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_KEPT", MAX_KEPT)
        joined = SeenPoints.of([first]).with_those_of(SeenPoints.of([second]))
        whole = SeenPoints.of([first, second])
    assert joined.bits_K.tolist() == whole.bits_K.tolist()
    assert joined.limit == whole.limit
    assert len(whole.bits_K) <= MAX_KEPT


@given(NUMBERS)
def test_all_of_what_was_seen_was_seen(numbers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_KEPT", MAX_KEPT)
        seen = SeenPoints.of([numbers])
    told = numbers[numbers <= seen.limit]
    assert seen.share_of(numbers) == (1.0 if len(told) else 0.0)


def test_a_share_is_near_the_true_one_and_nothing_new_is_taken_as_seen():
    seen, new = points(200_000, 1), points(200_000, 2)
    sketch = SeenPoints.of([seen])
    assert len(sketch.bits_K) == module.MAX_KEPT
    assert sketch.share_of(new) == 0
    mixed = np.concatenate([seen[:30_000], new[:90_000]])
    assert sketch.share_of(mixed) == pytest.approx(0.25, abs=0.02)


def test_a_sketch_comes_back_from_its_file(tmp_path, few_kept):
    for numbers in (points(50, 1), np.empty(0, np.uint64)):
        sketch = SeenPoints.of([numbers])
        sketch.write(tmp_path)
        found = SeenPoints.read(tmp_path)
        assert found.bits_K.tolist() == sketch.bits_K.tolist()
        assert found.limit == sketch.limit
    assert SeenPoints.read(tmp_path / "nowhere") is None
    assert conventions.SEEN_FILE == SEEN_FILE


def test_shards_tell_what_of_a_split_lies_in_train_or_validation(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    shards = write_shards(tmp_path / "one", {"train": [9, 4], "validation": [6], "test": [7]})
    seen = seen_points(shards)
    assert seen_share(seen, shards, "train") == seen_share(seen, shards, "validation") == 1
    assert seen_share(seen, shards, "test") == 0
    assert seen_share(seen, shards, "absent") == 0
    assert sum(len(bits) for bits in bits_of(shards, "train")) == 13


def test_a_point_is_its_place_and_instant_however_they_are_stored():
    instant_us, lon_deg, lat_deg = np.array([5]), np.array([12.3456781]), np.array([-0.0])
    told = point_bits(instant_us, lon_deg, lat_deg)
    assert told == point_bits(instant_us, lon_deg + 1e-9, np.array([0.0]))
    for other in (
        (instant_us + 1, lon_deg, lat_deg),
        (instant_us, lon_deg + 2e-6, lat_deg),
        (instant_us, lon_deg, lat_deg + 2e-6),
        (instant_us, lat_deg, lon_deg),
    ):
        assert told != point_bits(*other)
