"""Generation scores: several generators in one table, and how far the best of them is ahead.

All are asked from the starts of the same real trips. A baseline that copies train is no bar: it is
told by the measures that a model would be refused for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from ...interface.trips import Trips
from ..score_table import Row
from .comparison import skill_over
from .discriminator import told_by_trees
from .generation_rows import AUC, SKILL, bar_of
from .generation_table import GENERATION_SCORES, Judge, Losses
from .usefulness import AGAIN, Usefulness
from .validity import sound

RESAMPLED = "resampled_train"
GENERATION_TABLE = pa.schema(
    [
        pa.field("split", pa.string()),
        pa.field("model", pa.string()),
        pa.field("is_baseline", pa.bool_()),
        *GENERATION_SCORES,
        pa.field("num_entities", pa.int64()),
        pa.field("bar", pa.string()),
    ]
)


@dataclass(frozen=True)
class Samples:
    """What a model and the baselines made up, by name, the losses of the model, and what who
    learnt from such trips is able to.
    """

    model: str
    trips: Mapping[str, Trips]
    losses: Losses | None = None
    usefulness: Usefulness | None = None


def generation_scores(
    samples: Samples, judge: Judge, split: str, bar: str | None = None
) -> list[Row]:
    """The rows of everyone, and the skill of the model over a bar: the best if none is named."""
    num_entities = len({*judge.real.test.entity_R.tolist()})
    about = {"split": split, "num_entities": num_entities, "bar": None}
    rows = [
        {**about, "model": name, "is_baseline": name != samples.model, **row}
        for name, sample in samples.trips.items()
        for row in (
            *judge.rows(sample, samples.losses if name == samples.model else None),
            *use_rows(samples.usefulness, judge, name),
        )
    ]
    bar = bar_of(rows) if bar is None else bar
    if bar is not None:
        rows += skill_rows(samples, judge, bar, about)
    return rows


def use_rows(usefulness: Usefulness | None, judge: Judge, name: str) -> list[Row]:
    """What the trips of a name are worth; the floor are real ones that another seed learnt from."""
    if usefulness is None:
        return []
    told, floor, ceiling = (usefulness.measured(one) for one in (name, AGAIN, RESAMPLED))
    return judge.rows_of(told, floor, ceiling, usefulness.num_trips)


def skill_rows(samples: Samples, judge: Judge, bar: str, about: Row) -> list[Row]:
    """The skill of the model: 1 - area under the ROC curve / that of the bar."""
    pair = [sound(samples.trips[name]) for name in (samples.model, bar)]
    size = min(max(judge.sizes(one), default=0) for one in pair)
    areas = [
        told_by_trees(one.drawn(size, judge.seed), judge.test(size), judge.ruler, judge.seed)
        for one in pair
    ]
    if not size or any(AUC not in area for area in areas):
        return []
    own, other = (area[AUC] for area in areas)
    skill = skill_over(own, other, judge.seed, judge.num_resamples)
    numbers = (SKILL, *skill, *(math.nan,) * 4, size)
    told = dict(zip(GENERATION_SCORES.names, numbers, strict=True))
    return [{**about, "model": samples.model, "is_baseline": False, **told, "bar": bar}]
