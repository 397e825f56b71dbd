"""Several datasets in stated shares: exact at every moment, and resumable like one."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from fractions import Fraction

import pytest
from helpers.batches import assert_all_same, crops, used
from helpers.shards import write_shards
from hypothesis import given
from hypothesis import strategies as st

from model.data.loader import TripLoader
from model.data.mixture import shares_in_turn
from model.data.options import Reading
from model.data.reading import part_seed, read_batches
from model.data.shards import ShardError
from model.interface.batch import Cursor
from model.interface.masking import masked, random_points


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Datasets that their trips' lengths tell apart."""
    lengths = ([9] * 20, [14] * 11, [5] * 7)
    folders = [tmp_path_factory.mktemp("shards") for _ in lengths]
    shards = [
        write_shards(folder, {"train": sizes})
        for folder, sizes in zip(folders, lengths, strict=True)
    ]
    return list(zip(shards, (0.6, 0.3, 0.1), strict=True))


def read(sources, num_batches, start=Cursor(), **changes):
    options = {"split": "train", "seed": 7, "batch_size": 4, "max_points": 16}
    loader = TripLoader(sources, **(options | changes))
    loader.load_state_dict(loader.state_at(start))
    return list(itertools.islice(loader, num_batches))


def stays_in_share(turns, shares):
    """Whether after each turn each count is off by less than one."""
    counts = Counter()
    for number, turn in enumerate(turns, 1):
        counts[turn] += 1
        if any(abs(counts[k] - number * share) >= 1 for k, share in enumerate(shares)):
            return False
    return True


@given(
    weights=st.lists(st.integers(1, 50) | st.floats(0.01, 5), min_size=1, max_size=8),
    seed=st.integers(0, 5),
)
def test_shares_are_kept_at_every_turn(weights, seed):
    turns = list(itertools.islice(shares_in_turn(weights, seed, [0] * len(weights)), 300))
    shares = [Fraction(weight) / sum(map(Fraction, weights)) for weight in weights]
    assert stays_in_share(turns, shares)
    # What a reader of one dataset would do, as long as the others are due within these turns.
    if 300 * (1 - shares[0]) >= 1:
        assert not stays_in_share([0] * 300, shares)


@given(seed=st.integers(0, 20), place=st.integers(0, 40))
def test_turns_go_on_from_their_counts(seed, place):
    weights = [0.5, 0.25, 0.25]
    whole = list(itertools.islice(shares_in_turn(weights, seed, [0, 0, 0]), 60))
    taken = [whole[:place].count(k) for k in range(3)]
    assert list(itertools.islice(shares_in_turn(weights, seed, taken), 60 - place)) == whole[place:]


def test_each_dataset_reads_its_own_epochs_in_its_share(sources):
    mixed = read(sources, 200)
    shares = [9, 14, 5]
    of = [shares.index(crops([batch])[0][2]) for batch in mixed]
    assert stays_in_share(of, [Fraction(6, 10), Fraction(3, 10), Fraction(1, 10)])
    for number, (shards, _) in enumerate(sources):
        own = [batch for batch, source in zip(mixed, of, strict=True) if source == number]
        alone = read_batches(shards, Reading("train", part_seed(7, number), 4, 16))
        assert [crops([a]) for a in own] == [crops([b]) for b in itertools.islice(alone, len(own))]
        assert mixed[-1].cursor.parts[number].epoch >= 1


@pytest.mark.parametrize("batching", ["bucketed", "packed"])
def test_a_mixture_goes_on_from_every_cursor(sources, batching):
    whole = read(sources, 40, batching=batching)
    for place, batch in enumerate(whole):
        start = Cursor.from_json(batch.cursor.to_json())
        assert start == batch.cursor
        rest = read(sources, 39 - place, start=start, batching=batching)
        assert_all_same(rest, whole[place + 1 :])


def test_a_cursor_without_the_place_in_each_dataset_would_be_noticed(sources):
    whole = read(sources, 20)
    lost = Cursor(0, 10)
    with pytest.raises(AssertionError):
        assert_all_same(read(sources, 10, start=lost), whole[10:])


def masks_of(batches):
    """The masks of each window in the order in which they are drawn, by source and window."""
    found = defaultdict(list)
    for batch in batches:
        batch = masked(batch, random_points, 0)
        for row, (first, _, size) in enumerate(crops([batch])):
            found[size, first].append(tuple(batch.is_target_BT[row].tolist()))
    return found


def test_a_window_of_a_mixture_gets_another_mask_in_each_epoch(sources):
    """As it does where its dataset is read alone; whoever goes on in the middle draws the same."""
    mixed = read(sources[:2], 60, max_points=14)
    masks = masks_of(mixed)
    assert min(len(drawn) for drawn in masks.values()) >= 3
    assert sum(len(set(drawn)) for drawn in masks.values()) > 2 * len(masks)
    for number, (shards, _) in enumerate(sources[:2]):
        own = [batch for batch in mixed if crops([batch])[0][2] == (9, 14)[number]]
        alone = read_batches(shards, Reading("train", part_seed(7, number), 4, 14))
        expected = masks_of(itertools.islice(alone, len(own)))
        assert {key: masks[key] for key in expected} == expected


def test_ranks_of_a_mixture_read_one_dataset_at_a_time(sources):
    parts = [read(sources, 30, rank=rank, world=2) for rank in range(2)]
    for ours, theirs in zip(*parts, strict=True):
        assert ours.cursor == theirs.cursor
        assert {size for _, _, size in crops([ours, theirs])} in ({9}, {14}, {5})
    alone = read(sources[:1], 5)
    shared = [read(sources[:1], 3, rank=rank, world=2) for rank in range(2)]
    assert used([*shared[0], *shared[1]]) == used(alone)  # an epoch of 20 crops


def test_what_cannot_be_mixed_is_refused(sources, tmp_path):
    for weights in ([], [1, 0], [1, -1], [1, float("nan")]):
        with pytest.raises(ValueError, match="weights"):
            read([(shards, w) for (shards, _), w in zip(sources, weights, strict=False)], 1)
    with pytest.raises(ValueError, match="a cursor of 3"):
        read(sources[:2], 1, start=read(sources, 1)[0].cursor)
    empty = write_shards(tmp_path, {"train": [1, 1]})
    with pytest.raises(ShardError, match="nothing to read"):
        read([*sources, (empty, 0.5)], 50)
