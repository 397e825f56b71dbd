"""Scores: one long table of errors of all answerers on the stored windows of a split.

    from model.evaluation.scores import bars_of, scored

    bars = bars_of(scored(shards, baselines, "validation").table.to_pylist())
    table = scored(shards, [mine, *baselines], "test", bars=bars).table

Every answerer sees the same windows, and gets the question alone. One row holds one metric; `low`
and `high` bound its 95 % interval (whole entities drawn with replacement), where it has one. That
of a skill is paired: an answerer and the bar on the same windows.

Shapes: B windows, K horizons.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..data.shards import ShardFolder
from ..interface.answerer import Answerer
from .forecast_scores import ForecastScorer
from .infill_scores import InfillScorer
from .judged_tasks import (
    ASKED_AS,
    FORECAST,
    NEXT_REGION,
    NEXT_STAY,
    NEXT_TRAVEL,
    PATH_INFERENCE,
    RECOVER,
    TOLD_AFTERWARDS,
    TRACKS,
)
from .metrics import mean_over_windows
from .next_visit_scores import NextVisitScorer
from .question import Errors, Judging, Metric, Question
from .recovery_scores import RecoveryScorer
from .score_table import ALL, MAIN_METRICS, SCORES, WINDOW_ERRORS, Row, mask_order
from .score_table import wide_rows as wide_rows
from .skill import Place, bar_of, skill, skill_intervals
from .skill import bars_of as bars_of
from .strata import BARS, parts_by, parts_of
from .travel_time_scores import TravelTimeScorer

MEANT = ("ade_m", "fde_m", "mae_m", "mae_s")  # errors of windows that metrics are means of
MEANT_OF_TIMES = {NEXT_TRAVEL: ("nll",), NEXT_STAY: ("nll",)}  # with that of the region one sum
Tell = Callable[[float, str], None]
NO_BARS: Mapping[Place, str] = MappingProxyType({})
Asked = tuple[str, str, str, str]  # split, task, track and the name of who answers
Kept = MutableMapping[Asked, dict[str, Tensor]]


class Scorer(Protocol):
    """A task: what is asked of its windows, how an answer misses, and what is told of that.

    `has_masks` says whether windows are told apart by what of them is hidden.
    """

    task: str
    has_masks: bool

    def questions(
        self, shards: Any, split: str, answerers: Sequence[Any], judging: Judging
    ) -> Iterator[Question]:
        """The stored windows of a split, some at a time; shards are of points or of visits."""
        ...

    def errors(
        self, answerer: Any, question: Question, track: str, judging: Judging
    ) -> dict[str, Tensor]:
        """Errors of each window by name, (B) or (B, K)."""
        ...

    def told(self, errors: Errors, judging: Judging) -> Iterator[Metric]:
        """What is told of the errors of some windows together."""
        ...


# A new task is one scorer here.
SCORERS: tuple[Scorer, ...] = (
    ForecastScorer(),
    RecoveryScorer(RECOVER),
    RecoveryScorer(PATH_INFERENCE),
    TravelTimeScorer(),
    *(NextVisitScorer(task) for task in (NEXT_REGION, NEXT_TRAVEL, NEXT_STAY)),
    InfillScorer(),
)


@dataclass(frozen=True)
class Scored:
    """The long table of scores, and the main error of every window, (answerer, horizon) by row."""

    table: pa.Table
    window_errors: pa.Table


def scored(
    shards: ShardFolder[Any],
    answerers: Sequence[Answerer],
    split: str,
    judging: Judging = Judging(),
    tell: Tell = lambda share, text: None,
    bars: Mapping[Place, str] = NO_BARS,
    kept: Kept | None = None,
) -> Scored:
    """Score everyone on every task that they serve and that windows are stored for.

    The bars name the baseline that skill is over, `bars_of` the rows of validation; where none is
    named it is the best on these windows. Errors of baselines that are kept are not asked for
    again, and those that are asked for are kept: of the same shards and rules, for the next model.

    Raises `AnswerError` where an answer lacks a number that it was asked for.
    """
    rows: list[Row] = []
    windows = [WINDOW_ERRORS.empty_table()]
    scorers = [one for one in SCORERS if one.task in judging.tasks]
    for number, scorer in enumerate(scorers):
        tell(number / len(scorers), f"{split} {scorer.task}")
        able = [one for one in answerers if stands_in(one, scorer.task)]
        answered = Answered(scorer, split, able, judging, bars)
        if able:
            answered.ask(shards, {} if kept is None else kept)
        if answered.window_id:
            rows += answered.rows(shards.folder)
            windows += answered.window_errors()
    return Scored(pa.Table.from_pylist(rows, SCORES), pa.concat_tables(windows))


def stands_in(answerer: Answerer, task: str) -> bool:
    """Whether an answerer stands in the table of a task: it serves it, and is judged on it."""
    return ASKED_AS[task] in answerer.tasks and task in getattr(answerer, "judged_on", (task,))


def joined_errors(parts: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([*values]).double() for name, values in parts.items()}


@dataclass
class Answered:
    """The windows of a task in their order, and the errors of each answerer on each track."""

    scorer: Scorer
    split: str
    answerers: Sequence[Answerer]
    judging: Judging
    bars: Mapping[Place, str]
    window_id: list[int] = field(default_factory=list)
    entity_id: list[str] = field(default_factory=list)
    mask: list[str] = field(default_factory=list)
    measures: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[tuple[str, str], dict[str, Tensor]] = field(default_factory=dict)

    def ask(self, shards: ShardFolder[Any], kept: Kept) -> None:
        """Ask everyone about all windows, but those whose errors are kept."""
        every = [
            (track, one, (self.split, self.scorer.task, track, one.name))
            for track in TRACKS[self.scorer.task]
            for one in self.answerers
        ]
        parts: dict[Asked, dict[str, list[Tensor]]] = {}
        for question in self.scorer.questions(shards, self.split, self.answerers, self.judging):
            self.window_id += question.window_id
            self.entity_id += question.entity_id
            self.mask += question.mask
            for name, values in question.measures.items():
                self.measures.setdefault(name, []).extend(values)
            for track, answerer, asked in every:
                if asked in kept:
                    continue
                missed = parts.setdefault(asked, defaultdict(list))
                errors = self.scorer.errors(answerer, question, track, self.judging)
                for name, value in errors.items():
                    missed[name].append(value)
        for track, answerer, asked in every if self.window_id else ():
            own = kept[asked] if asked in kept else joined_errors(parts[asked])
            self.errors[track, answerer.name] = own
            if answerer.is_baseline:
                kept[asked] = own

    def rows(self, folder: Path) -> list[Row]:
        """The rows of a task: of all windows, of each mask, and of each stratum."""
        masks = np.array(self.mask)
        kinds = sorted(set(self.mask), key=mask_order) if self.scorer.has_masks else []
        groups = [(kind, masks == kind) for kind in kinds] + [(ALL, None)]
        rows = []
        for track in TRACKS[self.scorer.task]:
            for mask, chosen in groups:
                rows += self.group_rows(track, mask, ALL, chosen)
        return rows + self.strata_rows(folder)

    def group_rows(
        self, track: str, mask: str, stratum: str, chosen: np.ndarray | None
    ) -> list[Row]:
        """The rows of some windows on one track, with everyone's skill over the bar.

        Of a stratum, skill alone has an interval.
        """
        rows: list[Row] = []
        judging = self.judging if stratum == ALL else replace(self.judging, num_bootstrap=0)
        for answerer in self.answerers:
            errors = Errors(self.errors[track, answerer.name], self.entity_id)
            if chosen is not None:
                errors = errors.of(chosen)
            about = {
                "split": self.split,
                "task": self.scorer.task,
                "track": track,
                "mask": mask,
                "stratum": stratum,
                "model": answerer.name,
                "is_baseline": answerer.is_baseline,
                "num_entities": len(set(errors.entity_id)),
            }
            rows += [about | one._asdict() for one in self.scorer.told(errors, judging)]
        return [*rows, *self.skill_rows(rows, track, chosen)]

    def skill_rows(
        self, rows: Sequence[Row], track: str, chosen: np.ndarray | None
    ) -> Iterator[Row]:
        """1 - error / error of the bar, at each horizon; none without a baseline."""
        main = MAIN_METRICS[self.scorer.task]
        alike: dict[int | None, list[Row]] = defaultdict(list)
        for row in (row for row in rows if row["metric"] == main):
            alike[row["horizon"]].append(row)
        is_chosen_B = np.ones(len(self.mask), bool) if chosen is None else chosen
        for place, own in enumerate(alike.values()):
            value_MB = [self.errors[track, row["model"]][main] for row in own]
            error_MB = [
                (value[:, place] if value.ndim == 2 else value)[torch.from_numpy(is_chosen_B)]
                for value in value_MB
            ]
            if any(row["is_baseline"] for row in own):
                yield from self.skills(own, error_MB, is_chosen_B)

    def skills(
        self, rows: Sequence[Row], error_MB: Sequence[Tensor], is_chosen_B: np.ndarray
    ) -> Iterator[Row]:
        """The skill of each answerer over the bar of some windows, and its interval.

        The bar is the named baseline, of a stratum the best in it, or one of its own. Over masks
        together it is a baseline of each; where these say what came it is one for all.
        """
        mask, entity_id = (
            np.array(names, dtype=object)[is_chosen_B].tolist()
            for names in (self.mask, self.entity_id)
        )
        stratum, track, horizon = (rows[0][key] for key in ("stratum", "track", "horizon"))
        if self.scorer.task in TOLD_AFTERWARDS:
            mask = [ALL] * len(mask)
        told = dict(zip((row["model"] for row in rows), error_MB, strict=True))
        rivals = {row["model"]: told[row["model"]] for row in rows if row["is_baseline"]}
        if (own := BARS.get(stratum)) in rivals:
            rivals = {own: rivals[own]}
        named = self.whole_bar(track, rivals) if stratum == ALL else {}
        for kind in set(mask) if stratum == ALL else ():
            place = self.scorer.task, track, kind if self.scorer.has_masks else ALL, horizon
            if place in self.bars:
                named[kind] = self.bars[place]
        bar_B = bar_of(rivals, mask, named)
        intervals: Sequence[tuple[float | None, float | None]] = [(None, None)] * len(rows)
        if self.judging.num_bootstrap:
            intervals = skill_intervals(
                error_MB, bar_B, entity_id, self.judging.seed, self.judging.num_bootstrap
            )
        bar = mean_over_windows(bar_B)
        for row, (low, high) in zip(rows, intervals, strict=True):
            value = skill(row["value"], bar)
            yield row | {"metric": "skill", "value": value, "low": low, "high": high}

    def whole_bar(self, track: str, rivals: Collection[str]) -> dict[str, str]:
        """The best baseline of all windows, where masks say what came: none chooses by that."""
        if self.scorer.task not in TOLD_AFTERWARDS:
            return {}
        main = MAIN_METRICS[self.scorer.task]
        errors = {name: mean_over_windows(self.errors[track, name][main]) for name in rivals}
        return {ALL: min(errors, key=lambda name: (errors[name], name))}

    def strata_rows(self, folder: Path) -> list[Row]:
        """The main metric by what the windows are like, on the first track.

        Of forecasts it is told at one horizon.
        """
        main, horizon = MAIN_METRICS[self.scorer.task], self.judging.strata_horizon
        parts, horizons = parts_by(self.measures), self.judging.horizons
        column: Any = slice(None)
        if self.scorer.task == FORECAST:
            if horizon is None:
                return []
            parts = parts_of(folder, self.split, self.window_id)
            horizons, column = (horizon,), (slice(None), [horizons.index(horizon)])
        narrow = replace(
            self,
            judging=replace(self.judging, horizons=horizons),
            errors={key: {main: one[main][column]} for key, one in self.errors.items()},
        )
        track, rows = TRACKS[self.scorer.task][0], []
        for stratum, chosen in parts:
            rows += narrow.group_rows(track, ALL, stratum, chosen)
        return rows

    def window_errors(self) -> Iterator[pa.Table]:
        """The errors of each window that the metrics are means of, under `WINDOW_ERRORS`."""
        num_windows = len(self.window_id)
        own = {
            "window_id": pa.array(self.window_id, pa.int64()),
            "entity_id": pa.array(self.entity_id, pa.string()),
            "mask": pa.array(self.mask, pa.string()),
        }
        about: Row = {"split": self.split, "task": self.scorer.task}
        for (track, model), errors in self.errors.items():
            main = MAIN_METRICS[self.scorer.task]
            meant = {*MEANT, main, *MEANT_OF_TIMES.get(self.scorer.task, ())}
            for metric in (name for name in errors if name in meant):
                value = errors[metric].numpy()
                columns = value.T if value.ndim == 2 else [value]
                horizons = self.judging.horizons if value.ndim == 2 else (None,)
                about |= {"track": track, "model": model, "metric": metric}
                for horizon, column in zip(horizons, columns, strict=True):
                    alike = {
                        name: pa.repeat(pa.scalar(one, WINDOW_ERRORS.field(name).type), num_windows)
                        for name, one in (about | {"horizon": horizon}).items()
                    }
                    yield pa.table(own | alike | {"value": column.copy()}, WINDOW_ERRORS)
