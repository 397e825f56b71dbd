"""What masks promise: their shares, their shape, and that they depend on the window alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from helpers.walks import batch_of, walk
from hypothesis import given
from hypothesis import strategies as st

from model.families.chemin.masked import any_recovery
from model.interface.batch import Cursor
from model.interface.masking import (
    JUDGED,
    LEAST_BETWEEN,
    Mask,
    any_task,
    arrivals,
    as_judged,
    as_judged_often,
    blocks,
    dimensions,
    endings,
    from_start,
    infilling,
    masked,
    places_of_endings,
    places_of_middles,
    places_of_segments,
    random_points,
    segments,
)
from model.layers.attention_masks import span_mask

DRAWS = [
    random_points,
    segments,
    places_of_segments,
    dimensions,
    infilling,
    endings,
    places_of_endings,
    places_of_middles,
    arrivals,
    from_start,
]
BETWEEN = [random_points, segments, places_of_segments, places_of_middles, dimensions, infilling]
FEWEST = {endings: 2, places_of_endings: 2, arrivals: 2, from_start: 2}


def drawn(draw, num_points, seed=0):
    return draw(np.random.default_rng(seed), num_points)


def lengths_of_runs(is_hidden_N):
    """Slowly, point by point."""
    runs, current = [], 0
    for is_hidden in [*is_hidden_N.tolist(), False]:
        if is_hidden:
            current += 1
        elif current:
            runs.append(current)
            current = 0
    return runs


@pytest.mark.parametrize("draw", DRAWS)
@given(num_points=st.integers(0, 60), seed=st.integers(0, 1000))
def test_what_is_hidden_is_asked(draw, num_points, seed):
    mask = drawn(draw, num_points, seed)
    assert all(len(getattr(mask, entry.name)) == num_points for entry in fields(Mask))
    assert not (~mask.shows_place_N & ~mask.is_target_N).any()
    assert not (~mask.shows_time_N & ~mask.is_target_N).any()
    assert (mask.is_target_N.any()) == (num_points >= FEWEST.get(draw, 3))
    other = mask.shown_N != np.arange(num_points)
    assert not (other & ~(mask.is_target_N & mask.shows_place_N)).any()


@pytest.mark.parametrize("draw", BETWEEN)
@given(num_points=st.integers(2, 60), seed=st.integers(0, 1000))
def test_the_ends_are_known(draw, num_points, seed):
    mask = drawn(draw, num_points, seed)
    assert not mask.is_target_N[[0, -1]].any()


def test_random_points_follow_the_rule_of_bert():
    mask = drawn(random_points, 100_000)
    share = mask.is_target_N.mean()
    is_hidden_N = ~mask.shows_place_N
    is_random_N = mask.shown_N != np.arange(100_000)
    assert share == pytest.approx(0.15, abs=1e-4)
    assert is_hidden_N.mean() / share == pytest.approx(0.8, abs=0.02)
    assert is_random_N.mean() / share == pytest.approx(0.1, abs=0.02)
    assert np.array_equal(mask.shows_place_N, mask.shows_time_N)


@given(num_points=st.integers(3, 80), seed=st.integers(0, 1000))
def test_segments_have_their_share_and_keep_apart(num_points, seed):
    mask = drawn(segments, num_points, seed)
    runs = lengths_of_runs(mask.is_target_N)
    num_hidden = max(1, round(0.4 * (num_points - 2)))
    assert sum(runs) == num_hidden
    assert len(runs) == max(1, round(num_hidden / 5))


def test_every_inner_point_may_be_in_a_segment():
    counts = sum(drawn(segments, 20, seed).is_target_N.astype(int) for seed in range(300))
    assert counts[0] == counts[-1] == 0
    assert (counts[1:-1] > 10).all()


def test_recovery_knows_its_times_and_hides_the_same_places():
    mask, judged = drawn(segments, 30), drawn(places_of_segments, 30)
    assert np.array_equal(mask.shows_place_N, judged.shows_place_N)
    assert judged.shows_time_N.all()
    assert not mask.shows_time_N.all()


def kind_of(mask):
    """How many places are hidden, and whether in one run, where the times are given."""
    is_hidden_N = ~mask.shows_place_N
    return int(is_hidden_N.sum()), len(lengths_of_runs(is_hidden_N)) == 1


def check_what_is_judged_is_learnt(draw):
    """Of 40 points every kind of gap that is judged comes up."""
    judged = {kind_of(drawn(one, 40)) for one in JUDGED}
    masks = [drawn(draw, 40, seed) for seed in range(600)]
    counts = Counter(kind_of(mask) for mask in masks if mask.shows_time_N.all())
    assert all(counts[kind] > 8 for kind in judged)


def test_what_is_judged_is_learnt():
    for draw in (any_task, any_recovery, as_judged):
        check_what_is_judged_is_learnt(draw)
    with pytest.raises(AssertionError):
        check_what_is_judged_is_learnt(places_of_segments)


@given(num_points=st.integers(3, 80), size=st.integers(1, 25), seed=st.integers(0, 1000))
def test_blocks_come_again_with_known_points_between(num_points, size, seed):
    mask = drawn(blocks(size), num_points, seed)
    assert mask.shows_place_N[[0, -1]].all()
    assert mask.shows_time_N.all()
    runs = lengths_of_runs(mask.is_target_N)
    assert set(runs) == {min(size, num_points - 2)}
    (start_S,) = np.nonzero(np.diff(mask.is_target_N.astype(int)) == 1)
    assert len(set(np.diff(start_S))) <= 1
    assert all(LEAST_BETWEEN <= gap - runs[0] < 2 * LEAST_BETWEEN for gap in np.diff(start_S))
    room = num_points - len(runs) * runs[0]  # a further block would not fit on either side
    assert room - 2 < 2 * (runs[0] + 2 * LEAST_BETWEEN) + 2 * LEAST_BETWEEN * len(runs)


def test_blocks_of_every_judged_size_are_learnt_often():
    masks = [drawn(as_judged_often, 64, seed) for seed in range(300)]
    counts = Counter(size for mask in masks for size in lengths_of_runs(~mask.shows_place_N))
    one = Counter(
        size
        for seed in range(300)
        for size in lengths_of_runs(~drawn(as_judged, 64, seed).shows_place_N)
    )
    assert all(counts[size] > 1.5 * one[size] > 0 for size in (5, 10, 20))


def test_endings_begin_anywhere_and_go_to_the_end():
    starts = set()
    for seed in range(200):
        mask, timed = drawn(endings, 12, seed), drawn(places_of_endings, 12, seed)
        start = int(mask.is_target_N.argmax())
        starts.add(start)
        assert mask.is_target_N.tolist() == [place >= start for place in range(12)]
        assert not (mask.shows_place_N | mask.shows_time_N)[start:].any()
        assert np.array_equal(mask.shows_place_N, timed.shows_place_N)
        assert timed.shows_time_N.all()
    assert starts == set(range(1, 12))


def test_the_ends_of_tasks_are_what_they_are_told_from():
    middle, arrival = drawn(places_of_middles, 9), drawn(arrivals, 9)
    assert np.flatnonzero(middle.shows_place_N).tolist() == [0, 8]
    assert middle.shows_time_N.all()
    assert np.flatnonzero(arrival.shows_time_N).tolist() == [0]
    assert arrival.shows_place_N.all()


def test_dimensions_hide_the_place_or_the_time_but_never_both():
    mask = drawn(dimensions, 10_000)
    hides_place_N, hides_time_N = ~mask.shows_place_N, ~mask.shows_time_N
    assert np.array_equal(mask.is_target_N, hides_place_N ^ hides_time_N)
    assert not (hides_place_N & hides_time_N).any()
    assert hides_place_N.mean() == pytest.approx(0.1, abs=0.01)
    assert hides_time_N.mean() == pytest.approx(0.1, abs=0.01)


@given(num_points=st.integers(3, 80), seed=st.integers(0, 1000))
def test_spans_to_fill_are_numbered_each_once(num_points, seed):
    mask = drawn(infilling, num_points, seed)
    assert np.array_equal(mask.span_N > 0, mask.is_target_N)
    numbers = mask.span_N[np.flatnonzero(np.diff(mask.span_N, prepend=0) * mask.span_N)]
    assert sorted(numbers.tolist()) == list(range(1, len(lengths_of_runs(mask.is_target_N)) + 1))


def test_spans_are_filled_in_any_order():
    firsts = {next(n for n in drawn(infilling, 60, seed).span_N if n) for seed in range(30)}
    assert len(firsts) > 2


def test_the_mask_of_infilling_never_shows_a_later_blank():
    span_BT = torch.from_numpy(drawn(infilling, 40).span_N).unsqueeze(0)
    mask_TT = span_mask(span_BT, torch.ones_like(span_BT, dtype=torch.bool))[0]
    asked_TT, read_TT = span_BT[0].unsqueeze(1), span_BT[0].unsqueeze(0)
    assert not mask_TT[read_TT.expand(40, 40) > asked_TT.expand(40, 40)].any()
    assert mask_TT[:, span_BT[0] == 0].all()


# ------------------------------------------------------------------ batches


def rows(batch, order):
    order = torch.tensor(order)
    return replace(batch, **{name: value[order] for name, value in batch.columns().items()})


def same(one, other):
    theirs = other.columns()
    return all(torch.equal(value, theirs[name]) for name, value in one.columns().items())


def from_one_generator(batch, draw, seed):
    """Planted fault: rows share a generator, as in most published loaders."""
    generator = np.random.default_rng(seed)
    return masked(batch, lambda _, num_points: draw(generator, num_points), seed)


def check_masks_are_the_windows_own(make):
    batch = batch_of(*walk(5, 30))
    together = make(batch, segments, 7)
    for row in range(5):
        assert same(make(rows(batch, [row]), segments, 7), rows(together, [row]))
    assert same(make(rows(batch, [3, 1]), segments, 7), rows(together, [3, 1]))


def test_a_mask_depends_on_its_window_alone():
    check_masks_are_the_windows_own(masked)
    with pytest.raises(AssertionError):
        check_masks_are_the_windows_own(from_one_generator)


def test_windows_epochs_and_seeds_have_masks_of_their_own():
    batch = batch_of(*walk(2, 40))
    first = masked(batch, segments, 0)
    later = masked(replace(batch, cursor=Cursor(1, 1)), segments, 0)
    for other in (later, masked(batch, segments, 1)):
        assert not torch.equal(first.is_target_BT, other.is_target_BT)
    assert not torch.equal(first.is_target_BT[0], first.is_target_BT[1])
    assert same(first, masked(batch, segments, 0))
    last_of_epoch = replace(batch, cursor=Cursor(1, 0))
    assert same(first, masked(last_of_epoch, segments, 0))
    assert [masked(batch, segments, seed).seed for seed in (0, 1)] == [0, 1]


@pytest.mark.parametrize("draw", DRAWS)
def test_pads_are_neither_shown_nor_asked(draw):
    points = walk(3, 20)
    plain, padded = (masked(batch_of(*points, num_pads=n), draw, 0) for n in (0, 9))
    for name in ("shows_place_BT", "shows_time_BT", "is_target_BT", "is_observed_BT", "span_BT"):
        assert not getattr(padded, name)[:, 20:].any()
        assert torch.equal(getattr(padded, name)[:, :20], getattr(plain, name))


def test_sequences_of_a_packed_row_are_masked_apart():
    batch = batch_of(*walk(2, 30))
    sequence_BT = torch.tensor([[0] * 12 + [1] * 18] * 2)
    window_id_BS = torch.stack([batch.window_id_B, batch.window_id_B + 10], dim=1)
    packed = replace(batch, sequence_BT=sequence_BT, window_id_BS=window_id_BS)
    packed = masked(packed, random_points, 0)
    assert packed.is_target_BT[:, 12:].any(dim=1).all()
    assert not packed.is_target_BT[:, [0, 11, 12, 29]].any()
    is_same_BT = sequence_BT.gather(1, packed.shown_BT) == sequence_BT
    assert is_same_BT.all()
    alone = masked(batch_of(*(value[:, :12] for value in walk(2, 30))), random_points, 0)
    assert torch.equal(packed.is_target_BT[:, :12], alone.is_target_BT)


def test_a_masked_batch_moves_and_counts_like_a_batch():
    batch = masked(batch_of(*walk(2, 30), num_pads=3), infilling, 0)
    assert same(batch.to("cpu"), batch)
    assert type(batch.to("cpu")) is type(batch)
    assert batch.num_points == 60
