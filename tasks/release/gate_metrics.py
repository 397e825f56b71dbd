"""What the gate measures: one error a kind of model, as evaluated and as asked of a clean process.

Shapes: B windows, T points, H horizon steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from model.evaluation.judged_tasks import FORECAST, TIMES_GIVEN
from tasks.config.pipeline import PipelineConfig
from tasks.report.error_tables import read_scores
from tasks.runtime.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from model.data.reading import WindowBatch
    from model.data.shards import Shards

GATE_SPLIT = "validation"
WINDOWS_AT_ONCE = 1_024


class NotReproduced(Exception):
    """A registered version does not load by itself, or answers something else."""


@dataclass(frozen=True)
class Question:
    """What a registered model is asked: a method of its own that reads files and writes one."""

    method: str
    files: tuple[Path, ...]
    choices: Mapping[str, Any] = field(default_factory=dict)


class Measure(Protocol):
    """An error in metres on the validation windows: lower is better."""

    @property
    def name(self) -> str:
        """How a reason calls it."""
        ...

    @property
    def tag(self) -> str:
        """The tag of a version that holds it."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What decides, beside the shards, what it is measured on."""
        ...

    def errors_m(self, evaluated: Path) -> dict[str, float]:
        """The error of each model in a folder of the evaluation."""
        ...

    def batches(self, shards: Shards) -> list[WindowBatch]:
        """The windows that it is measured on."""
        ...

    def question(self, batches: list[WindowBatch], scratch: Path) -> Question:
        """Write what a model may know of the windows."""
        ...

    def answered_m(self, answer: Path, batches: list[WindowBatch]) -> float:
        """The error of what a model has written."""
        ...


def measure_of(config: PipelineConfig) -> Measure:
    """What models of a family are judged by."""
    from model.families import FAMILIES

    task = FAMILIES[config.model.family].tasks[0]
    if task == "forecast":
        return ForecastError(config.window.num_context, config.assess.gate_horizon)
    return RecoveryError()


def gate_errors_m(evaluated: Path, task: str, horizon: int | None) -> dict[str, float]:
    """The main error of everyone on all windows of the gate's split, times given."""
    from model.evaluation.scores import ALL, MAIN_METRICS, chosen_rows

    wanted = {"split": GATE_SPLIT, "task": task, "track": TIMES_GIVEN, "mask": ALL, "stratum": ALL}
    rows = chosen_rows(read_scores(evaluated), **wanted, metric=MAIN_METRICS[task], horizon=horizon)
    return {row["model"]: row["value"] for row in rows}


# Forecast ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ForecastError:
    """Mean over windows of the mean displacement over the first steps, at the true times."""

    num_context: int
    step: int
    tag: ClassVar[str] = "score_ade_m"

    @property
    def name(self) -> str:
        return f"ADE at step {self.step}"

    @property
    def settings(self) -> dict[str, Any]:
        return {"num_context": self.num_context, "gate_horizon": self.step}

    def errors_m(self, evaluated: Path) -> dict[str, float]:
        return gate_errors_m(evaluated, FORECAST, self.step)

    def batches(self, shards: Shards) -> list[WindowBatch]:
        from model.data.reading import read_windows

        return list(read_windows(shards, GATE_SPLIT, WINDOWS_AT_ONCE, self.num_context))

    def question(self, batches: list[WindowBatch], scratch: Path) -> Question:
        points, target_at = scratch / "points.parquet", scratch / "target_at.parquet"
        end = self.num_context + self.step
        write_groups(points, [rows_of(batch, 0, self.num_context) for batch in batches])
        write_groups(target_at, [rows_of(batch, self.num_context, end) for batch in batches])
        return Question("forecast_files", (points, target_at), {"num_samples": 0})

    def answered_m(self, answer: Path, batches: list[WindowBatch]) -> float:
        import torch

        from model.earth.geometry import haversine_m

        found = pq.read_table(answer, columns=["lon_deg", "lat_deg"])
        lon_deg_BH, lat_deg_BH = (
            torch.tensor(found[name].to_numpy()).reshape(-1, self.step)
            for name in ("lon_deg", "lat_deg")
        )
        asked = slice(self.num_context, self.num_context + self.step)
        true_lon_deg_BH, true_lat_deg_BH = (
            torch.cat([getattr(b.batch, name)[:, asked] for b in batches])
            for name in ("lon_deg_BT", "lat_deg_BT")
        )
        if lon_deg_BH.shape != true_lon_deg_BH.shape:
            raise NotReproduced("a clean process gives another number of forecasts")
        away_m_BH = haversine_m(lon_deg_BH, lat_deg_BH, true_lon_deg_BH, true_lat_deg_BH)
        return float(away_m_BH.mean())


# Recover ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecoveryError:
    """Mean over windows of the mean displacement over hidden points, at the true times."""

    name: ClassVar[str] = "MAE of recovered points"
    tag: ClassVar[str] = "score_mae_m"
    task: ClassVar[str] = "recover"

    @property
    def settings(self) -> dict[str, Any]:
        return {"task": self.task, "track": TIMES_GIVEN}

    def errors_m(self, evaluated: Path) -> dict[str, float]:
        errors_m = gate_errors_m(evaluated, self.task, None)
        if not errors_m:
            raise DataError(
                f"no window of {GATE_SPLIT} was recovered, and a model that forecasts nothing is "
                "judged on these; keep recover in window.tasks"
            )
        return errors_m

    def batches(self, shards: Shards) -> list[WindowBatch]:
        from model.data.reading import read_windows

        return list(read_windows(shards, GATE_SPLIT, WINDOWS_AT_ONCE, task=self.task))

    def question(self, batches: list[WindowBatch], scratch: Path) -> Question:
        points = scratch / "points.parquet"
        write_groups(points, [shown_rows(batch) for batch in batches])
        return Question("recover_files", (points,))

    def answered_m(self, answer: Path, batches: list[WindowBatch]) -> float:
        import torch

        from model.evaluation.metrics import ade_m, displacement_m

        found = pq.read_table(answer, columns=["lon_deg", "lat_deg"])
        if found.num_rows != sum(windows.batch.num_points for windows in batches):
            raise NotReproduced("a clean process gives another number of points")
        errors_m, first = [], 0
        for batch in (windows.batch for windows in batches):
            rows = found.slice(first, batch.num_points)
            first += batch.num_points
            lon_deg_BT, lat_deg_BT = (
                padded(rows[name], batch.is_pad_BT) for name in ("lon_deg", "lat_deg")
            )
            away_m_BT = displacement_m(lon_deg_BT, lat_deg_BT, batch.lon_deg_BT, batch.lat_deg_BT)
            # A window that hides nothing has no error; a point that is not answered makes it NaN.
            asks_B = batch.is_target_BT.any(1)
            errors_m.append(ade_m(away_m_BT, batch.is_target_BT)[asks_B])
        return float(torch.cat(errors_m).mean())


def padded(column: pa.ChunkedArray, is_pad_BT: Tensor) -> Tensor:
    """The values of all points under each other again, NaN at pads."""
    import torch

    value_BT = torch.full(is_pad_BT.shape, torch.nan, dtype=torch.float64)
    value_BT[~is_pad_BT] = torch.tensor(column.to_numpy())
    return value_BT


# Rows -------------------------------------------------------------------------------------------


def rows_of(windows: WindowBatch, start: int, stop: int) -> pa.Table:
    """Some points of each window as a long table, one trajectory a window."""
    import torch

    is_chosen_BT = torch.zeros_like(windows.batch.is_pad_BT)
    is_chosen_BT[:, start:stop] = True
    batch = windows.batch
    return long_table(windows, is_chosen_BT, batch.lon_deg_BT, batch.lat_deg_BT)


def shown_rows(windows: WindowBatch) -> pa.Table:
    """All points of each window as a long table, without the places that are hidden."""
    batch, is_hidden_BT = windows.batch, ~windows.batch.is_observed_BT
    places = (
        value_BT.masked_fill(is_hidden_BT, float("nan"))
        for value_BT in (batch.lon_deg_BT, batch.lat_deg_BT)
    )
    return long_table(windows, ~batch.is_pad_BT, *places)


def long_table(
    windows: WindowBatch, is_chosen_BT: Tensor, lon_deg_BT: Tensor, lat_deg_BT: Tensor
) -> pa.Table:
    """One row per chosen point, the window as its trajectory."""
    time_us_BT = (windows.batch.time_s_BT * 1e6).round().long()
    instant_us_BT = windows.started_us_B.unsqueeze(1) + time_us_BT
    window_id_BT = windows.batch.window_id_B.unsqueeze(1).expand_as(instant_us_BT)
    instant = pa.array(instant_us_BT[is_chosen_BT].numpy())
    return pa.table(
        {
            "trajectory_id": window_id_BT[is_chosen_BT].numpy(),
            "tracked_at": instant.cast(pa.timestamp("us", "UTC")),
            "lon_deg": lon_deg_BT[is_chosen_BT].numpy(),
            "lat_deg": lat_deg_BT[is_chosen_BT].numpy(),
        }
    )


def write_groups(path: Path, tables: list[pa.Table]) -> None:
    """Write each table as one row group."""
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=table.num_rows)
