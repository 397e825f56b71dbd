"""Masking objectives: which points are hidden, which are targets of imputation, and a loss on them.

A mask is drawn for one sequence, by a generator of its own that is seeded by the run, the epoch and
the window: it depends neither on which windows share a batch, nor on their order.

Shapes: B windows, T points of a window, N points of one sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from ..earth.arrays import Bools, Ints
from .batch import Batch, first_of_sequence, index_of

BERT_SHARE, BERT_HIDDEN, BERT_RANDOM = 0.15, 0.8, 0.1  # Devlin et al. 2019, section 3.1
SPAN_SHARE, SPAN_POINTS = 0.4, 5.0  # share of hidden points, and points of a mean span
LEAST_BETWEEN = 4  # known points between two blocks
DIMENSION_SHARE = 0.2  # of points that lose their place or their time


@dataclass(frozen=True)
class Loss:
    """Sums over targets and their count: the mean is taken once, where batches are added up."""

    total: Tensor
    count: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, count: Tensor, parts: Mapping[str, Tensor], **weights: float) -> Loss:
        """The sum of the parts, those that have a weight times that."""
        weighted = (weights.get(name, 1.0) * part for name, part in parts.items())
        detached = {name: part.detach() for name, part in parts.items()}
        return cls(reduce(torch.add, weighted), count, detached)

    @property
    def mean(self) -> Tensor:
        """Loss per target; zero where a batch has none."""
        return self.total / self.count.clamp(min=1)


def shares_of(is_target_BT: Tensor, sequence_BT: Tensor) -> Tensor:
    """What each target (B, T) counts, where all sequences count alike; what is none counts zero."""
    num_BS = torch.zeros_like(sequence_BT).scatter_add(1, sequence_BT, is_target_BT.long())
    return is_target_BT / num_BS.gather(1, sequence_BT).clamp(min=1)


def mixed(losses: Mapping[str, Loss], **weights: float) -> Loss:
    """The means of several losses, summed by weights: 1 where none is named.

    It counts the targets of the first, or one where only others have any. The parts stay sums over
    their own targets.
    """
    counts = [loss.count for loss in losses.values()]
    count = torch.where(counts[0] > 0, counts[0], torch.stack(counts).sum().clamp(max=1))
    means = [weights.get(name, 1.0) * loss.mean for name, loss in losses.items()]
    parts = {name: part for loss in losses.values() for name, part in loss.parts.items()}
    return Loss(count * reduce(torch.add, means), count, parts)


# ---------------------------------------------------------------------------------- masks


@dataclass(frozen=True)
class Mask:
    """What of one sequence is shown and what is asked.

    A point may show its place, its time, both or neither. `shown_N` is the point whose place stands
    there: the own one, or another's where a model must not trust what it sees. `span_N` numbers the
    spans that are filled in one after the other; a point of span 0 is in none.
    """

    shows_place_N: Bools
    shows_time_N: Bools
    is_target_N: Bools
    shown_N: Ints
    span_N: Ints


Draw = Callable[[np.random.Generator, int], Mask]


def random_points(generator: np.random.Generator, num_points: int) -> Mask:
    """15 % of the inner points are asked: of these 80 % hidden, 10 % another's, 10 % as they are.

    The last two look like any other point, so that a model doubts whatever it sees.
    """
    is_target_N = _chosen_points(generator, num_points, BERT_SHARE)
    fate_N = generator.random(num_points)
    other_N = (generator.random(num_points) * num_points).astype(np.int64)
    is_random_N = is_target_N & (fate_N >= BERT_HIDDEN) & (fate_N < BERT_HIDDEN + BERT_RANDOM)
    mask = _hidden(is_target_N & (fate_N < BERT_HIDDEN))
    shown_N = np.where(is_random_N, other_N, mask.shown_N)
    return replace(mask, is_target_N=is_target_N, shown_N=shown_N)


def segments(generator: np.random.Generator, num_points: int) -> Mask:
    """Whole stretches between the first and the last point are hidden and asked."""
    return _hidden(_spans(generator, num_points) > 0)


def places_of_segments(generator: np.random.Generator, num_points: int) -> Mask:
    """Stretches whose times are known and whose places are asked: recovery as it is judged."""
    return replace(segments(generator, num_points), shows_time_N=np.ones(num_points, bool))


def endings(generator: np.random.Generator, num_points: int) -> Mask:
    """All behind some point is hidden and asked: a forecast, with its times predicted."""
    start = int(generator.integers(1, max(2, num_points)))
    return _hidden(np.arange(num_points) >= start)


def places_of_endings(generator: np.random.Generator, num_points: int) -> Mask:
    """A forecast whose times are given."""
    return replace(endings(generator, num_points), shows_time_N=np.ones(num_points, bool))


def places_of_middles(generator: np.random.Generator, num_points: int) -> Mask:
    """All places but the first and the last are hidden and asked: path inference."""
    place_N = np.arange(num_points)
    mask = _hidden((place_N > 0) & (place_N < num_points - 1))
    return replace(mask, shows_time_N=np.ones(num_points, bool))


def from_start(generator: np.random.Generator, num_points: int) -> Mask:
    """All but the first point is hidden and asked: a trajectory is made up from its start."""
    return _hidden(np.arange(num_points) > 0)


def arrivals(generator: np.random.Generator, num_points: int) -> Mask:
    """All times but the first are hidden and asked, and all places given: travel time."""
    mask = from_start(generator, num_points)
    return replace(mask, shows_place_N=np.ones(num_points, bool))


def dimensions(generator: np.random.Generator, num_points: int) -> Mask:
    """Of a part of the inner points the place or the time, either as likely, is hidden."""
    mask = _hidden(_chosen_points(generator, num_points, DIMENSION_SHARE))
    hides_place_N = generator.random(num_points) < 0.5
    return replace(
        mask,
        shows_place_N=mask.shows_place_N | ~hides_place_N,
        shows_time_N=mask.shows_time_N | hides_place_N,
    )


def infilling(generator: np.random.Generator, num_points: int) -> Mask:
    """Blanks to be filled in one after the other, in a random order, each from left to right.

    Who may read whom then is `attention_masks.span_mask` of `span_N`.
    """
    span_N = _spans(generator, num_points)
    turn = np.append(0, 1 + generator.permutation(span_N.max(initial=0)))
    return replace(_hidden(span_N > 0), span_N=turn[span_N])


def sparse(share: int) -> Draw:
    """Of so many points one is kept, both ends among them: places are asked, times are given."""

    def draw(generator: np.random.Generator, num_points: int) -> Mask:
        is_hidden_N = np.zeros(num_points, bool)
        num_hidden = num_points - max(2, round(num_points / share))
        if num_hidden > 0:
            inner_N = np.arange(1, num_points - 1)
            is_hidden_N[generator.choice(inner_N, num_hidden, replace=False)] = True
        return replace(_hidden(is_hidden_N), shows_time_N=np.ones(num_points, bool))

    return draw


def block(size: int) -> Draw:
    """One block between two known points is hidden, as long as there is room: places are asked."""

    def draw(generator: np.random.Generator, num_points: int) -> Mask:
        place_N, length = np.arange(num_points), min(size, num_points - 2)
        start = 1 + int(generator.integers(max(1, num_points - 1 - length)))
        mask = _hidden((place_N >= start) & (place_N < start + length))
        return replace(mask, shows_time_N=np.ones(num_points, bool))

    return draw


def blocks(size: int) -> Draw:
    """As `block`, and so on along the sequence: one window teaches several gaps.

    Four to seven known points lie between two blocks.
    """

    def draw(generator: np.random.Generator, num_points: int) -> Mask:
        place_N, length = np.arange(num_points), min(size, num_points - 2)
        start = 1 + int(generator.integers(max(1, num_points - 1 - length)))
        period = length + int(generator.integers(LEAST_BETWEEN, 2 * LEAST_BETWEEN))
        first_N = place_N - (place_N - start) % period  # of the block that a point may be of
        is_whole_N = (first_N > 0) & (first_N + length < num_points)
        mask = _hidden(is_whole_N & (place_N < first_N + length))
        return replace(mask, shows_time_N=np.ones(num_points, bool))

    return draw


SPARSE = tuple(sparse(share) for share in (2, 4, 8))
JUDGED: tuple[Draw, ...] = (*SPARSE, *map(block, (5, 10, 20)), places_of_middles)
REPEATED: tuple[Draw, ...] = (*SPARSE, *map(blocks, (5, 10, 20)), places_of_middles)
TIMELESS_SHARE = 0.25  # of the masks that hide the times as well


def as_judged(generator: np.random.Generator, num_points: int) -> Mask:
    """A mask of one of the kinds that recovery and path inference are judged by, each as likely."""
    return _one_of(JUDGED, generator, num_points)


def as_judged_often(generator: np.random.Generator, num_points: int) -> Mask:
    """The same, with as many blocks as there is room for."""
    return _one_of(REPEATED, generator, num_points)


def _one_of(draws: tuple[Draw, ...], generator: np.random.Generator, num_points: int) -> Mask:
    mask = draws[generator.integers(len(draws))](generator, num_points)
    if generator.random() < TIMELESS_SHARE:
        return replace(mask, shows_time_N=mask.shows_place_N)
    return mask


TASKS: tuple[Draw, ...] = (
    segments,
    random_points,
    dimensions,
    endings,
    places_of_endings,
    places_of_middles,
    arrivals,
)
JUDGED_SHARE = 0.4  # of the masks that a family of several tasks learns from


def any_task(generator: np.random.Generator, num_points: int) -> Mask:
    """The mask of one of the tasks; many are of gaps as these are judged."""
    return judged_or(TASKS, generator, num_points)


def judged_or(others: tuple[Draw, ...], generator: np.random.Generator, num_points: int) -> Mask:
    """A mask as gaps are judged by, or one of the others, each of these as likely."""
    if generator.random() < JUDGED_SHARE:
        return as_judged(generator, num_points)
    return others[generator.integers(len(others))](generator, num_points)


def _hidden(is_hidden_N: Bools) -> Mask:
    """Place and time of some points are hidden and asked."""
    num_points = len(is_hidden_N)
    is_shown_N = ~is_hidden_N
    own_N, no_span_N = np.arange(num_points), np.zeros(num_points, np.int64)
    return Mask(is_shown_N, is_shown_N, is_hidden_N, own_N, no_span_N)


def _chosen_points(generator: np.random.Generator, num_points: int, share: float) -> Bools:
    """A share of the points with one on each side, at least one: the ends say where it lies."""
    is_chosen_N = np.zeros(num_points, bool)
    if num_points > 2:
        num_chosen = max(1, round(share * (num_points - 2)))
        inner_N = np.arange(1, num_points - 1)
        is_chosen_N[generator.choice(inner_N, num_chosen, replace=False)] = True
    return is_chosen_N


def _spans(generator: np.random.Generator, num_points: int) -> Ints:
    """Numbers 1, 2, ... from left to right of stretches with a known point between them, else 0.

    The number of hidden points is fixed; which gaps between known points they fill, and in which
    parts, is drawn.
    """
    span_N = np.zeros(num_points, np.int64)
    if num_points < 3:
        return span_N
    num_hidden = max(1, round(SPAN_SHARE * (num_points - 2)))
    num_gaps = num_points - num_hidden - 1
    num_spans = min(num_gaps, max(1, round(num_hidden / SPAN_POINTS)))
    gap_S = np.sort(generator.choice(num_gaps, num_spans, replace=False))
    cut = np.sort(generator.choice(num_hidden - 1, num_spans - 1, replace=False)) + 1
    size_S = np.diff(cut, prepend=0, append=num_hidden)
    start_S = gap_S + 1 + np.cumsum(size_S) - size_S
    for number, (start, size) in enumerate(zip(start_S, size_S, strict=True), 1):
        span_N[start : start + size] = number
    return span_N


# ---------------------------------------------------------------------------------- batches


@dataclass(frozen=True, kw_only=True)
class MaskedBatch(Batch):
    """Windows with a mask each, as in `Mask`; observed are the points that show all.

    `seed` is that of the masks, for whatever else a model draws for a window. Of a question
    `started_us_B` tells when its times begin to count.
    """

    shows_place_BT: Tensor
    shows_time_BT: Tensor
    shown_BT: Tensor
    span_BT: Tensor
    started_us_B: Tensor | None = None
    seed: int = 0


def masked(batch: Batch, draw: Draw, seed: int) -> MaskedBatch:
    """The batch with a mask drawn for each of its sequences; pads are neither shown nor asked."""
    is_point_BT = ~batch.is_pad_BT.numpy()
    sequence_BT = batch.sequence_BT.numpy()
    nowhere_T = np.zeros(is_point_BT.shape[1], bool)
    blank = replace(_hidden(~nowhere_T), is_target_N=nowhere_T)
    columns = {name: np.tile(value, (len(is_point_BT), 1)) for name, value in vars(blank).items()}
    for row in range(len(is_point_BT)):
        for sequence, window_id in enumerate(batch.window_ids(row)):
            place_N = np.flatnonzero(is_point_BT[row] & (sequence_BT[row] == sequence))
            key = (seed, batch.cursor.epoch_before, window_id)
            mask = draw(np.random.default_rng(key), len(place_N))
            for name, column_BT in columns.items():
                value_N = getattr(mask, name)
                column_BT[row, place_N] = place_N[value_N] if name == "shown_N" else value_N
    masks = {name.replace("_N", "_BT"): torch.from_numpy(value) for name, value in columns.items()}
    masks["is_observed_BT"] = masks["shows_place_BT"] & masks["shows_time_BT"]
    return MaskedBatch(**{**vars(batch), **masks, "seed": seed})


def unmasked(batch: Batch) -> Batch:
    """A batch of training as it was before masks were drawn: all observed, what has a past asked.

    A batch without masks of its own is left as it is.
    """
    if not isinstance(batch, MaskedBatch):
        return batch
    is_point_BT, index_BT = ~batch.is_pad_BT, index_of(batch.is_pad_BT)
    has_past_BT = index_BT > first_of_sequence(index_BT, batch.sequence_BT)
    return replace(batch, is_observed_BT=is_point_BT, is_target_BT=is_point_BT & has_past_BT)
