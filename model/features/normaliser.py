"""Normaliser: the scales of a dataset, fitted on train and kept with the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import geometric_mean
from typing import Any

import torch
from torch import Tensor

MIN_STEP_S = 1e-3  # added before a logarithm: a step of zero seconds stays finite
MIN_SPEED_MPS = 0.01
MIN_EXTENT_M = 0.1
_P10_TO_P90 = 2.563  # standard deviations between the first and the last decile of a Gaussian


@dataclass(frozen=True)
class Quantiles:
    """First decile, median and last decile."""

    p10: float
    p50: float
    p90: float

    def __post_init__(self) -> None:
        values = (self.p10, self.p50, self.p90)
        if not all(math.isfinite(value) and value >= 0 for value in values):
            raise ValueError(f"quantiles must be finite and not negative, not {values}")
        if list(values) != sorted(values):
            raise ValueError(f"quantiles must ascend, not {values}")


@dataclass(frozen=True)
class Normaliser:
    """Typical sizes of the training steps, and the scales they give.

    Every scale has a floor: constant sampling and objects that never move divide by no zero.
    `known_s` are the typical steps that several data sets tell of; of one its deciles tell them.
    """

    num_steps: int
    step_s: Quantiles
    speed_mps: Quantiles
    step_m: Quantiles
    known_s: tuple[float, float] | None = None

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Normaliser:
        names = ("step_s", "speed_mps", "step_m")
        quantiles = {
            name: Quantiles(**{key: float(stored[name][key]) for key in ("p10", "p50", "p90")})
            for name in names
        }
        shortest_s, longest_s = stored.get("known_s") or (0.0, 0.0)
        known_s = (float(shortest_s), float(longest_s)) if longest_s else None
        return cls(num_steps=int(stored["num_steps"]), known_s=known_s, **quantiles)

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def of_several(cls, members: Sequence[Normaliser]) -> Normaliser:
        """The geometric mean of each decile, so that each data set counts alike, whatever its size.

        It is the middle on a scale on which storms and people are equally far away, and right for
        none: only a family that reads little of it may learn from several.
        """
        floors = {"step_s": MIN_STEP_S, "speed_mps": MIN_SPEED_MPS, "step_m": MIN_EXTENT_M}
        quantiles = {
            name: Quantiles(
                **{
                    key: geometric_mean(
                        max(getattr(getattr(one, name), key), least) for one in members
                    )
                    for key in ("p10", "p50", "p90")
                }
            )
            for name, least in floors.items()
        }
        shortest_s, longest_s = zip(*(one.known_step_s for one in members), strict=True)
        num_steps = sum(one.num_steps for one in members)
        return cls(num_steps=num_steps, known_s=(min(shortest_s), max(longest_s)), **quantiles)

    @property
    def log_step_center(self) -> float:
        return math.log(self.step_s.p50 + MIN_STEP_S)

    @property
    def log_step_scale(self) -> float:
        spread = math.log(self.step_s.p90 + MIN_STEP_S) - math.log(self.step_s.p10 + MIN_STEP_S)
        return max(spread / _P10_TO_P90, 0.5)

    @property
    def speed_scale_mps(self) -> float:
        return max(self.speed_mps.p50, self.speed_mps.p90 / 4, MIN_SPEED_MPS)

    @property
    def extent_scale_m(self) -> float:
        """A typical step."""
        return max(self.step_m.p50, self.step_m.p90 / 4, MIN_EXTENT_M)

    @property
    def typical_step_s(self) -> float:
        return max(self.step_s.p50, self.step_s.p90 / 4, MIN_STEP_S)

    @property
    def shortest_step_s(self) -> float:
        """A displacement over less time than this says little about speed."""
        return max(self.step_s.p10 / 2, self.typical_step_s / 10)

    @property
    def known_step_s(self) -> tuple[float, float]:
        """The shortest and the longest typical step, in seconds, that training tells of.

        Outside of them velocities are measured over another time than in training, and the
        network answers about steps that it has not seen.
        """
        if self.known_s is not None:
            return self.known_s
        return self.shortest_step_s, 2 * max(self.step_s.p90, self.typical_step_s)

    def encode_step_s(self, step_s: Tensor) -> Tensor:
        """Seconds as a normalised logarithm."""
        return (
            torch.log(step_s.clamp(min=0) + MIN_STEP_S) - self.log_step_center
        ) / self.log_step_scale
