"""Calibration: factors by which radii of forecasts and deciles of travel times are stretched.

They are split-conformal: fitted on windows of validation (`model/interface/conformal.py`), which
no training saw, and carried with a model. Samples and densities stay as the network tells them.

Shapes: B rows, H points of the horizon.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .answers import Durations, Forecast

CALIBRATION_FILE = "calibration.json"
TRACKS = ("ends", "path_given")  # of travel times, as `model/evaluation/judged_tasks.py` names them


@dataclass(frozen=True)
class Calibration:
    """Factors of radii, by the percent that they hold and by step, and of deciles, by track.

    Where nothing was fitted, nothing is stretched.
    """

    radius: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    decile: Mapping[str, float] = field(default_factory=dict)

    def stretched(self, told: Forecast) -> Forecast:
        """A forecast with other radii; a larger share never has the smaller one."""
        num_steps = told.time_s_BH.shape[1]
        p50_m_BH = told.radius_p50_m_BH * self.factor_H(50, num_steps)
        p80_m_BH = torch.maximum(p50_m_BH, told.radius_p80_m_BH * self.factor_H(80, num_steps))
        p95_m_BH = torch.maximum(p80_m_BH, told.radius_p95_m_BH * self.factor_H(95, num_steps))
        return replace(
            told, radius_p50_m_BH=p50_m_BH, radius_p80_m_BH=p80_m_BH, radius_p95_m_BH=p95_m_BH
        )

    def factor_H(self, percent: int, num_steps: int) -> Tensor:
        """The factor of each step: between two that were fitted on a line, beyond them constant."""
        by_step = self.radius.get(percent, {})
        if not by_step:
            return torch.ones(num_steps, dtype=torch.float64)
        known = sorted(by_step)
        steps = np.arange(1, num_steps + 1)
        return torch.from_numpy(np.interp(steps, known, [by_step[step] for step in known]))

    def stretched_durations(self, told: Durations, has_path_B: Tensor) -> Durations:
        """Durations with other deciles, stretched around the median in the logarithm."""
        ends, path_given = (self.decile.get(track, 1.0) for track in TRACKS)
        factor_B, median_s_B = torch.where(has_path_B, path_given, ends), told.median_s_B
        p10_s_B, p90_s_B = (
            torch.where(median_s_B > 0, median_s_B * (value_B / median_s_B) ** factor_B, value_B)
            for value_B in (told.p10_s_B, told.p90_s_B)
        )
        return replace(told, p10_s_B=p10_s_B, p90_s_B=p90_s_B)

    def write(self, folder: Path) -> None:
        told = {"radius": self.radius, "decile": self.decile}
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
        (folder / CALIBRATION_FILE).write_text(text + "\n")

    @classmethod
    def read(cls, folder: Path) -> Calibration:
        """What a folder tells; nothing is stretched where it tells none."""
        path = folder / CALIBRATION_FILE
        if not path.exists():
            return cls()
        told = json.loads(path.read_bytes())
        radius = {
            int(percent): {int(step): float(factor) for step, factor in by_step.items()}
            for percent, by_step in told["radius"].items()
        }
        return cls(radius, {track: float(factor) for track, factor in told["decile"].items()})
