"""Gate metrics: what models of points are judged by, as evaluated and as asked of a clean process.

Shapes: B windows, T points, A points that are answered, N chosen points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from model.evaluation.judged_tasks import ASKED_AS, FORECAST, RECOVER, TIMES_GIVEN, TOLD_AFTERWARDS
from model.evaluation.score_table import ALL, MAIN_METRICS, Row, chosen_rows
from model.evaluation.verdict import BEHIND, MIN_ENTITIES, MIN_WINDOWS, verdict
from model.families import tasks_of
from tasks.report.error_tables import read_scores
from tasks.report.markup import percent, spoken
from tasks.runtime.errors import DataError
from tasks.runtime.frozen import Frozen

if TYPE_CHECKING:
    from torch import Tensor

    from model.data.reading import WindowBatch

GATE_SPLIT = "validation"
WINDOWS_AT_ONCE = 1_024
LARGE_M = 10_000  # from here on errors are told in kilometres


class NotReproduced(Exception):
    """A registered version does not load by itself, or answers something else."""


class Unjudged(DataError):
    """Nothing was judged that the gate could compare: such a model is a candidate, and no more."""


class Evidence(Frozen):
    """How many windows and entities a gain over the bar is of, and its 95 % interval.

    Beside it what speaks against the model whatever it gains, the questions that it answers worse
    than the bar by more than chance explains, and the tasks that it serves and was not judged on,
    all in words.
    """

    num_windows: int
    num_entities: int
    low: float
    high: float
    faults: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()


@dataclass(frozen=True)
class CleanProcessCall:
    """What a registered model is asked: a method of its own that reads files and writes one."""

    method: str
    files: tuple[Path, ...]
    choices: Mapping[str, Any] = field(default_factory=dict)


class Told(Protocol):
    """How an error is told: a reason calls it by its name, and what it is compared with by
    `bar_words`.
    """

    @property
    def name(self) -> str: ...

    @property
    def bar_words(self) -> str: ...

    def told(self, error: float) -> str:
        """An error to be compared with another in a sentence."""
        ...

    def told_interval(self, evidence: Evidence) -> str:
        """The interval of what a model gains over the bar, in words."""
        ...


class Measure(Told, Protocol):
    """What a kind of models is judged by: an error on the validation windows, lower is better.

    A version has it as a tag. The settings decide, beside the shards, what it is measured on.
    """

    @property
    def tag(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def errors(self, evaluated: Path) -> dict[str, float]:
        """The errors in a folder of the evaluation: of the model, and of what it must beat."""
        ...

    def evidence(self, evaluated: Path, family: str) -> Evidence:
        """What the comparison of a model with the best baselines rests on."""
        ...

    def batches(self, shards: Path, zone: str, model: Path) -> list[Any]:
        """The windows that it is measured on, as a copy of a registered version is told them."""
        ...

    def call(self, batches: list[Any], scratch: Path) -> CleanProcessCall:
        """Write what a model may know of the windows."""
        ...

    def answered(self, answer: Path, batches: list[Any]) -> float:
        """The error of what a model has written; NaN if it left anything without an answer."""
        ...


def forecast_measure(num_context: int, step: int) -> PointMeasure:
    """The mean over windows of the mean displacement over the first steps."""
    settings = {"num_context": num_context, "gate_horizon": step}
    return PointMeasure(FORECAST, f"ADE at step {step}", "score_ade_m", settings, num_context, step)


@dataclass(frozen=True)
class PointMeasure:
    """A mean error in metres, at the true times."""

    task: str
    name: str
    tag: str
    settings: Mapping[str, Any]
    num_context: int | None = None
    horizon: int | None = None
    bar_words: ClassVar[str] = "the best simple baseline"

    def told(self, error: float) -> str:
        return f"{error:,.1f} m" if error < LARGE_M else f"{error / 1_000:,.1f} km"

    def told_interval(self, evidence: Evidence) -> str:
        between = f"{percent(evidence.low)} to {percent(evidence.high)}"
        return f"the 95 % interval of its skill is {between}"

    def errors(self, evaluated: Path) -> dict[str, float]:
        rows = self.rows(evaluated, MAIN_METRICS[self.task])
        if not rows:
            raise Unjudged(
                f"no window of {GATE_SPLIT} was judged on {self.task}, and a model of this family "
                f"is promoted by these; keep {self.task} in window.tasks"
            )
        return {row["model"]: row["value"] for row in rows}

    def evidence(self, evaluated: Path, family: str) -> Evidence:
        for row in self.rows(evaluated, "skill"):
            if row["model"] == family and row["low"] is not None:
                told = {name: row[name] for name in ("num_windows", "num_entities", "low", "high")}
                return Evidence(**told, **beside(evaluated, family))
        raise DataError(f"{family} was judged without an interval of its skill; evaluate again")

    def rows(self, evaluated: Path, metric: str) -> list[Row]:
        """A metric of all models, on what the gate compares."""
        return chosen_rows(
            read_scores(evaluated),
            split=GATE_SPLIT,
            task=self.task,
            track=TIMES_GIVEN,
            mask=ALL,
            stratum=ALL,
            metric=metric,
            horizon=self.horizon,
        )

    def batches(self, shards: Path, zone: str, model: Path) -> list[WindowBatch]:
        from model.data.reading import read_windows
        from model.data.shards import Shards

        opened = Shards.open(shards, zone)
        windows = read_windows(
            opened, GATE_SPLIT, WINDOWS_AT_ONCE, self.num_context, task=self.task
        )
        return list(windows)

    def call(self, batches: list[WindowBatch], scratch: Path) -> CleanProcessCall:
        points, target_at = scratch / "points.parquet", scratch / "target_at.parquet"
        if self.task == RECOVER:
            write_groups(points, [shown_rows(windows) for windows in batches])
            return CleanProcessCall("recover_files", (points,))
        known = slice(None, self.num_context)
        write_groups(points, [shown_rows(windows, known) for windows in batches])
        write_groups(target_at, [shown_rows(windows, self.answered_points) for windows in batches])
        return CleanProcessCall("forecast_files", (points, target_at), {"num_samples": 0})

    @property
    def answered_points(self) -> slice:
        """The points of a window that an answer holds: all of them, or those that are forecast."""
        if self.horizon is None or self.num_context is None:
            return slice(None)
        return slice(self.num_context, self.num_context + self.horizon)

    def answered(self, answer: Path, batches: list[WindowBatch]) -> float:
        import torch

        from model.earth.geometry import haversine_m
        from model.evaluation.metrics import ade_m

        found = pq.read_table(answer, columns=["lon_deg", "lat_deg"], partitioning=None)
        errors_m, first = [], 0
        for batch in (windows.batch for windows in batches):
            columns = (batch.lon_deg_BT, batch.lat_deg_BT, batch.is_pad_BT, batch.is_target_BT)
            lon_deg_BA, lat_deg_BA, is_pad_BA, is_target_BA = (
                column_BT[:, self.answered_points] for column_BT in columns
            )
            num_points = int((~is_pad_BA).sum())
            rows = found.slice(first, num_points)
            first += num_points
            if rows.num_rows < num_points:
                break
            told_lon_deg_BA, told_lat_deg_BA = (
                padded(rows[name], is_pad_BA) for name in ("lon_deg", "lat_deg")
            )
            away_m_BA = haversine_m(told_lon_deg_BA, told_lat_deg_BA, lon_deg_BA, lat_deg_BA)
            # A window that asks nothing has no error.
            errors_m.append(ade_m(away_m_BA, is_target_BA)[is_target_BA.any(1)])
        if first != found.num_rows:
            raise NotReproduced("a clean process answers another number of points")
        return float(torch.cat(errors_m).mean())


def beside(evaluated: Path, family: str) -> dict[str, tuple[str, ...]]:
    """What else a model of a family answers: where it is behind, and what nobody asked it."""
    judged = {ASKED_AS[row["task"]] for row in skills_of(evaluated, family, GATE_SPLIT)}
    can_be_judged = [task for task in tasks_of(family) if task in ASKED_AS.values()]
    return {
        "behind": questions_behind(evaluated, family, GATE_SPLIT),
        "unjudged": tuple(spoken(task) for task in can_be_judged if task not in judged),
    }


def questions_behind(evaluated: Path, model: str, split: str) -> tuple[str, ...]:
    """Where a model is behind the bar by more than chance explains, in words.

    What came afterwards makes no question of its own: nobody could have asked the best of it.
    """
    return tuple(
        question_of(row)
        for row in skills_of(evaluated, model, split)
        if is_behind(row) and (row["mask"] == ALL or row["task"] not in TOLD_AFTERWARDS)
    )


def is_judged(evaluated: Path, model: str, split: str) -> bool:
    """Whether enough windows and entities speak of a model at any question."""
    return any(
        row["num_windows"] >= MIN_WINDOWS and row["num_entities"] >= MIN_ENTITIES
        for row in skills_of(evaluated, model, split)
    )


def skills_of(evaluated: Path, model: str, split: str) -> list[Row]:
    told = {"split": split, "stratum": ALL, "metric": "skill", "model": model}
    return chosen_rows(read_scores(evaluated), **told)


def is_behind(row: Row) -> bool:
    """Whether a skill lies below zero by more than chance explains."""
    interval = row["low"], row["high"]
    return verdict(row["value"], *interval, row["num_windows"], row["num_entities"]) == BEHIND


def question_of(row: Row) -> str:
    """What a row is about, with its skill, as `forecast at step 2, times given (skill -5.0%)`."""
    step = f" at step {row['horizon']}" if row["horizon"] else ""
    mask = "" if row["mask"] == ALL else f", {spoken(row['mask'])}"
    asked = f"{spoken(row['task'])}{step}, {spoken(row['track'])}{mask}"
    return f"{asked} (skill {percent(row['value'])})"


RECOVERY_MEASURE = PointMeasure(
    RECOVER,
    "MAE of recovered points",
    "score_mae_m",
    {"task": RECOVER, "track": TIMES_GIVEN},
)


def padded(column: pa.ChunkedArray, is_pad_BA: Tensor) -> Tensor:
    """The values of all points under each other again, NaN at pads."""
    import torch

    value_BA = torch.full(is_pad_BA.shape, torch.nan, dtype=torch.float64)
    value_BA[~is_pad_BA] = torch.tensor(column.to_numpy())
    return value_BA


# Rows -------------------------------------------------------------------------------------------


def shown_rows(windows: WindowBatch, chosen: slice = slice(None)) -> pa.Table:
    """Some points of each window as a long table, the window as its trajectory.

    The places that are hidden are missing.
    """
    batch = windows.batch
    is_chosen_BT = batch.is_pad_BT.new_zeros(batch.is_pad_BT.shape)
    is_chosen_BT[:, chosen] = ~batch.is_pad_BT[:, chosen]
    is_hidden_N = ~batch.is_observed_BT[is_chosen_BT]
    instant_us_BT = windows.started_us_B.unsqueeze(1) + (batch.time_s_BT * 1e6).round().long()
    window_id_BT = batch.window_id_B.unsqueeze(1).expand_as(instant_us_BT)
    instant = pa.array(instant_us_BT[is_chosen_BT].numpy())
    return pa.table(
        {
            "trajectory_id": window_id_BT[is_chosen_BT].numpy(),
            "tracked_at": instant.cast(pa.timestamp("us", "UTC")),
            "lon_deg": batch.lon_deg_BT[is_chosen_BT].masked_fill(is_hidden_N, math.nan).numpy(),
            "lat_deg": batch.lat_deg_BT[is_chosen_BT].masked_fill(is_hidden_N, math.nan).numpy(),
        }
    )


def write_groups(path: Path, tables: list[pa.Table]) -> None:
    """Write each table as one row group."""
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=table.num_rows)
