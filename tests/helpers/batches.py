"""What several tests of the loader ask of batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import torch

from model.data.options import Reading
from model.data.reading import read_batches
from model.data.shards import Shards
from model.interface.batch import ROW_BITS, Batch

ROW_MASK = (1 << ROW_BITS) - 1


def read_crops(shards: Shards, **options: Any) -> Iterator[Batch]:
    """`read_batches`, with the options of the reading among the others."""
    named = {entry.name for entry in fields(Reading)} & options.keys()
    return read_batches(shards, Reading(**{name: options.pop(name) for name in named}), **options)


def crops(batches: Iterable[Batch]) -> list[tuple[int, int, int]]:
    """(row of the trip, index of the start, number of points) of each crop, in order."""
    found = []
    for batch in batches:
        for row in range(len(batch.window_id_B)):
            sequence_T = batch.sequence_BT[row][~batch.is_pad_BT[row]]
            sizes = torch.bincount(sequence_T).tolist()
            ids = [number for number in batch.window_ids(row) if number >= 0]
            found += [
                (number >> ROW_BITS, number & ROW_MASK, size)
                for number, size in zip(ids, sizes, strict=True)
            ]
    return found


def assert_same(ours: Batch, theirs: Batch) -> None:
    for entry in fields(Batch):
        a, b = getattr(ours, entry.name), getattr(theirs, entry.name)
        if not isinstance(a, torch.Tensor):
            assert a == b
        else:
            assert a.dtype == b.dtype
            assert torch.equal(a, b), entry.name


def assert_all_same(ours: Sequence[Batch], theirs: Sequence[Batch]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert_same(a, b)


def used(batches: Iterable[Batch]) -> Counter[tuple[int, int, int]]:
    """How often each crop came."""
    return Counter(crops(batches))
