"""Peers of forecasts as answerers: each question goes as Arrow to a process of their environment.

Shapes: B windows, T context points, H horizon steps.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.feather as feather
import torch
from bench_rounds import PEERS
from torch import Tensor

from model.baselines.forecast import predicted_time_s
from model.earth.geometry import step_between, step_from
from model.interface.answers import Forecast
from model.interface.contexts import Context

SCRIPT = Path(__file__).with_name("bench_forecast_peers.py")


@dataclass(frozen=True)
class Peer:
    """A series model that is asked in another environment, about velocities or positions.

    A window is told in metres east and north of its last known point, along great circles from
    there, so that a steady course on the sphere is a straight line.
    """

    peer: str
    form: str = "velocities"
    weights: str = ""
    python: str = str(PEERS)
    is_baseline: bool = False
    tasks: ClassVar[tuple[str, ...]] = ("forecast",)

    @property
    def name(self) -> str:
        return f"{self.peer}_{self.form}"

    def forecast(
        self, context: Context, num_horizon: int, target_time_s_BH: Tensor | None = None
    ) -> Forecast:
        time_s_BH = target_time_s_BH
        if time_s_BH is None:
            time_s_BH = predicted_time_s(context, num_horizon)
        lon_deg_B1, lat_deg_B1, _ = context.last_B1()
        points = self.asked(windows_of(context, time_s_BH))
        moved_BH = [
            torch.tensor(points[name].to_pylist()).double() for name in ("east_m", "north_m")
        ]
        places = (*step_from(lon_deg_B1, lat_deg_B1, *moved_BH), time_s_BH)
        return Forecast.of([value_BH.unsqueeze(1) for value_BH in places])

    def asked(self, windows: pa.Table) -> pa.Table:
        """The answer of a process of the peers' environment."""
        with tempfile.TemporaryDirectory() as folder:
            given, told = Path(folder, "windows.arrow"), Path(folder, "points.arrow")
            feather.write_feather(windows, given, compression="uncompressed")
            weights = [self.weights] if self.weights else []
            command = [self.python, SCRIPT, self.peer, self.form, given, told, *weights]
            # Weights are in a wheel or in a folder that somebody named: nothing is fetched.
            env = os.environ | {"HF_HUB_OFFLINE": "1"}
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{self.name}: {done.stderr[-2_000:]}"
            return feather.read_table(told, memory_map=False)


def windows_of(context: Context, time_s_BH: Tensor) -> pa.Table:
    """Windows as the peers are told them: a row each, seconds since the last known point."""
    lon_deg_B1, lat_deg_B1, last_s_B1 = context.last_B1()
    east_m_BT, north_m_BT = step_between(
        lon_deg_B1, lat_deg_B1, context.lon_deg_BT, context.lat_deg_BT
    )
    columns = {
        "east_m": east_m_BT,
        "north_m": north_m_BT,
        "time_s": context.time_s_BT - last_s_B1,
        "target_s": time_s_BH - last_s_B1,
    }
    counts = context.num_points_B.tolist()
    rows = {
        name: [
            row[: len(row) if name == "target_s" else count]
            for row, count in zip(value.tolist(), counts, strict=True)
        ]
        for name, value in columns.items()
    }
    return pa.table({name: pa.array(row, pa.list_(pa.float64())) for name, row in rows.items()})
