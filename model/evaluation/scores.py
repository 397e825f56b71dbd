"""Scores: one long table of errors of all answerers on the stored windows of a split.

    from model.evaluation.scores import scored

    table = scored(shards, [mine, *baselines], "test").table

Every answerer sees the same windows, and gets the question alone. One row holds one metric; `low`
and `high` bound its 95 % interval (whole entities drawn with replacement), where it has one.

Shapes: B windows, K horizons.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from ..data.shards import Shards
from ..interface.answerer import Answerer
from . import metrics
from .forecast_scores import FORECAST_SCORER
from .judged_tasks import ASKED_AS, FORECAST, PATH_INFERENCE, RECOVER, TRACKS, TRAVEL_TIME
from .question import Errors, Judging, Metric, Question
from .recovery_scores import PATH_INFERENCE_SCORER, RECOVERY_SCORER
from .strata import parts_of
from .travel_time_scores import TRAVEL_TIME_SCORER

ALL = "all"  # masks, or strata, together
KEYS = ("split", "task", "track", "mask", "horizon", "stratum", "model")
SCORES = pa.schema(
    {
        **dict.fromkeys(("split", "task", "track", "mask"), pa.string()),
        "horizon": pa.int32(),
        **dict.fromkeys(("stratum", "model"), pa.string()),
        "is_baseline": pa.bool_(),
        "metric": pa.string(),
        **dict.fromkeys(("value", "low", "high"), pa.float64()),
        **dict.fromkeys(("num_windows", "num_entities"), pa.int64()),
    }
)
WINDOW_ERRORS = pa.schema(
    {
        **dict.fromkeys(("split", "task", "track", "mask"), pa.string()),
        "horizon": pa.int32(),
        "window_id": pa.int64(),
        **dict.fromkeys(("entity_id", "model", "metric"), pa.string()),
        "value": pa.float64(),
    }
)
# The metric of each task that is compared, and that its skill and its order rest on.
MAIN_METRICS: Mapping[str, str] = {
    FORECAST: "ade_m",
    RECOVER: "mae_m",
    PATH_INFERENCE: "mae_m",
    TRAVEL_TIME: "mae_s",
}
Row = dict[str, Any]
Tell = Callable[[float, str], None]


class Scorer(Protocol):
    """A task: what is asked of its windows, how an answer misses, and what is told of that."""

    @property
    def task(self) -> str: ...

    @property
    def has_masks(self) -> bool:
        """Whether windows are told apart by what of them is hidden."""
        ...

    def questions(
        self, shards: Shards, split: str, answerers: Sequence[Answerer], judging: Judging
    ) -> Iterator[Question]:
        """The stored windows of a split, some at a time."""
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
    FORECAST_SCORER,
    RECOVERY_SCORER,
    PATH_INFERENCE_SCORER,
    TRAVEL_TIME_SCORER,
)


@dataclass(frozen=True)
class Scored:
    """The long table of scores, and the main error of every window, (answerer, horizon) by row."""

    table: pa.Table
    window_errors: pa.Table


def scored(
    shards: Shards,
    answerers: Sequence[Answerer],
    split: str,
    judging: Judging = Judging(),
    tell: Tell = lambda share, text: None,
) -> Scored:
    """Score everyone on every task that they serve and that windows are stored for.

    Raises `AnswerError` where an answer lacks a number that it was asked for.
    """
    rows: list[Row] = []
    windows = [WINDOW_ERRORS.empty_table()]
    scorers = [one for one in SCORERS if one.task in judging.tasks]
    for number, scorer in enumerate(scorers):
        tell(number / len(scorers), f"{split} {scorer.task}")
        able = [one for one in answerers if ASKED_AS[scorer.task] in one.tasks]
        found = asked_all(scorer, shards, split, able, judging) if able else Asked()
        if found.window_id:
            rows += rows_of(scorer, shards, split, able, found, judging)
            windows += windows_of(scorer, split, able, found, judging)
    return Scored(pa.Table.from_pylist(rows, SCORES), pa.concat_tables(windows))


@dataclass
class Asked:
    """The windows of a task in their order, and the errors of each answerer on each track."""

    window_id: list[int] = field(default_factory=list)
    entity_id: list[str] = field(default_factory=list)
    mask: list[str] = field(default_factory=list)
    errors: dict[tuple[str, str], dict[str, list[Tensor]]] = field(default_factory=dict)

    def of(self, track: str, model: str, chosen: np.ndarray | None = None) -> Errors:
        """The errors of one answerer, of some of the windows."""
        joined = {name: torch.cat(p).double() for name, p in self.errors[track, model].items()}
        if chosen is None:
            return Errors(joined, self.entity_id)
        place = torch.from_numpy(chosen)
        entity_id = np.array(self.entity_id, dtype=object)[chosen].tolist()
        return Errors({name: value[place] for name, value in joined.items()}, entity_id)


def asked_all(
    scorer: Scorer, shards: Shards, split: str, answerers: Sequence[Answerer], judging: Judging
) -> Asked:
    found = Asked()
    for question in scorer.questions(shards, split, answerers, judging):
        found.window_id += question.window_id
        found.entity_id += question.entity_id
        found.mask += question.mask
        for track in TRACKS[scorer.task]:
            for answerer in answerers:
                missed = found.errors.setdefault((track, answerer.name), defaultdict(list))
                errors = scorer.errors(answerer, question, track, judging)
                for name, value in errors.items():
                    missed[name].append(value)
    return found


# Rows -------------------------------------------------------------------------------------------


def rows_of(
    scorer: Scorer,
    shards: Shards,
    split: str,
    answerers: Sequence[Answerer],
    found: Asked,
    judging: Judging,
) -> list[Row]:
    """The rows of a task: of all windows and of each mask, and of each stratum of forecasts."""
    masks = np.array(found.mask)
    kinds = sorted(set(found.mask), key=mask_order) if scorer.has_masks else []
    groups = [(kind, ALL, masks == kind) for kind in kinds] + [(ALL, ALL, None)]
    rows = []
    for track in TRACKS[scorer.task]:
        for mask, stratum, chosen in groups:
            rows += group_rows(scorer, found, answerers, (track, mask, stratum), chosen, judging)
    if scorer.task == FORECAST and judging.strata_horizon is not None:
        rows += strata_rows(scorer, shards, split, answerers, found, judging)
    key = {"split": split, "task": scorer.task}
    return [key | row for row in rows]


def group_rows(
    scorer: Scorer,
    found: Asked,
    answerers: Sequence[Answerer],
    place: tuple[str, str, str],
    chosen: np.ndarray | None,
    judging: Judging,
) -> list[Row]:
    """The rows of some windows on one track, with the skill of everyone over the best baseline."""
    track, mask, stratum = place
    rows: list[Row] = []
    for answerer in answerers:
        errors = found.of(track, answerer.name, chosen)
        about = {
            "track": track,
            "mask": mask,
            "stratum": stratum,
            "model": answerer.name,
            "is_baseline": answerer.is_baseline,
            "num_entities": len(set(errors.entity_id)),
        }
        rows += [about | metric._asdict() for metric in scorer.told(errors, judging)]
    return rows + skill_rows(rows, MAIN_METRICS[scorer.task])


def skill_rows(rows: Sequence[Row], main: str) -> list[Row]:
    """1 - error / error of the best baseline, at each horizon; none without a baseline."""
    skills = []
    for row in (row for row in rows if row["metric"] == main):
        rivals = [
            other["value"]
            for other in rows
            if other["is_baseline"]
            and (other["metric"], other["horizon"]) == (main, row["horizon"])
        ]
        if rivals:
            skill = metrics.skill(row["value"], rivals)
            skills.append(row | {"metric": "skill", "value": skill, "low": None, "high": None})
    return skills


def strata_rows(
    scorer: Scorer,
    shards: Shards,
    split: str,
    answerers: Sequence[Answerer],
    found: Asked,
    judging: Judging,
) -> list[Row]:
    """The main metric by what the windows are like, at one horizon of the first track."""
    narrow = replace(judging, horizons=(judging.strata_horizon or 0,), num_bootstrap=0)
    column = judging.horizons.index(narrow.horizons[0])
    one = Asked(found.window_id, found.entity_id, found.mask)
    track = TRACKS[scorer.task][0]
    for answerer in answerers:
        ade_m = found.errors[track, answerer.name]["ade_m"]
        one.errors[track, answerer.name] = {"ade_m": [value[:, [column]] for value in ade_m]}
    rows = []
    for stratum, chosen in parts_of(shards.folder, split, found.window_id):
        rows += group_rows(scorer, one, answerers, (track, ALL, stratum), chosen, narrow)
    return rows


def windows_of(
    scorer: Scorer, split: str, answerers: Sequence[Answerer], found: Asked, judging: Judging
) -> Iterator[pa.Table]:
    """The errors of each window that the metrics are means of, under `WINDOW_ERRORS`."""
    num_windows = len(found.window_id)
    window_id = pa.array(found.window_id, pa.int64())
    entity_id, mask = (pa.array(values, pa.string()) for values in (found.entity_id, found.mask))
    for (track, model), missed in found.errors.items():
        for name, parts in missed.items():
            if name not in ("ade_m", "fde_m", "mae_m", "mae_s"):
                continue
            value = torch.cat(parts).double().numpy()
            columns = value.T if value.ndim == 2 else [value]
            horizons = judging.horizons if value.ndim == 2 else (None,)
            for horizon, column in zip(horizons, columns, strict=True):
                fixed = {"split": split, "task": scorer.task, "track": track, "mask": mask}
                fixed |= {"horizon": horizon, "window_id": window_id, "entity_id": entity_id}
                fixed |= {"model": model, "metric": name, "value": pa.array(column.copy())}
                yield pa.table(
                    [repeated(fixed[one.name], num_windows, one.type) for one in WINDOW_ERRORS],
                    schema=WINDOW_ERRORS,
                )


def repeated(value: Any, num_rows: int, kind: pa.DataType) -> pa.Array:
    return value if isinstance(value, pa.Array) else pa.repeat(pa.scalar(value, kind), num_rows)


def mask_order(mask: str) -> tuple[bool, str, int]:
    """Masks by kind, then by their number: `block_5` before `block_20`; all together last."""
    kind, _, number = mask.rpartition("_")
    kind, size = (kind, int(number)) if number.isdecimal() else (mask, 0)
    return mask == ALL, kind, size


# Reading ----------------------------------------------------------------------------------------


def chosen_rows(table: pa.Table, **wanted: str | int | None) -> list[Row]:
    """The rows of a table of scores that hold these values."""
    for name, value in wanted.items():
        is_wanted = pc.is_null(table[name]) if value is None else pc.equal(table[name], value)
        table = table.filter(is_wanted)
    rows: list[Row] = table.to_pylist()
    return rows


def wide_rows(table: pa.Table, **wanted: str | int | None) -> list[Row]:
    """One row for each answerer on some windows, its metrics side by side.

    Of the main metric there are `low` and `high`; the best stands first in its mask and horizon.
    """
    found: dict[tuple[Any, ...], Row] = {}
    for row in chosen_rows(table, **wanted):
        main = MAIN_METRICS[row["task"]]
        wide = found.setdefault(tuple(row[key] for key in KEYS), {"main": main})
        wide |= {key: row[key] for key in (*KEYS, "is_baseline")} | {row["metric"]: row["value"]}
        if row["metric"] == main:
            wide |= {key: row[key] for key in ("low", "high", "num_windows", "num_entities")}

    def rank(row: Row) -> tuple[Any, ...]:
        return mask_order(row["mask"]), row["horizon"] or 0, row[row["main"]], row["model"]

    return sorted((row for row in found.values() if row["main"] in row), key=rank)
